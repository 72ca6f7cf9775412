"""The only rooms that import Ray: streams and batch inference (Ray Data), distributed training (Ray
Train), sweeps (Ray Tune).
"""

import os

# Read when Ray is imported: nothing leaves the cluster unasked.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
# The run folders have loggers and output of our own.
os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
# 2 s by default, and a short cell waits for it.
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")
# Ctrl-C is ours to handle, as other signals are (vididi.cluster.ending).
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
