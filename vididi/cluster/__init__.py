"""The only rooms that import Ray: streams (Ray Data), distributed training (Ray Train), sweeps (Ray Tune)."""
