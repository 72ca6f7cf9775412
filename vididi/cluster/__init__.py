"""The only rooms that import Ray: streams and batch inference (Ray Data), distributed training (Ray
Train), sweeps (Ray Tune).
"""

import os

# Read when Ray is imported: nothing leaves the cluster unasked.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
