"""The names of the files of a run folder, and of those of its evaluations: nobody else spells one
(tests/runs/test_file_names.py).

What each holds is said in vididi.runs.run_folder and, of evaluations, in docs/evaluation.md. Run
folders that are there have these names, so they never change.
"""

CONFIG, CELL, RESULT, STOPPED = "config.yaml", "cell.json", "result.json", "stopped.json"
METRICS, QUERIES, ERROR = "metrics.jsonl", "queries.parquet", "error.txt"
EARLIER_ERROR = "error.earlier.txt"  # of the attempt before
CHECKPOINT, PREVIOUS = "checkpoint.pt", "checkpoint.previous.pt"
SENT = "loggers.json"
# Why a watchdog ended a worker, with its stacks; and, with the worker's rank behind it, the reason
# alone until it has been said.
WATCHDOG, WATCHDOG_NOTE = "watchdog.txt", ".watchdog-"
ENCODER, BEST = "encoder.safetensors", "best.safetensors"

# Of evaluations alone.
FEATURES = "features.parquet"
TUNED = "tuned.safetensors"
PREDICTIONS = "predictions.csv"
PROJECTOR = "projector_config.pbtxt"  # a name that TensorBoard looks for
POINTS, POINT_LABELS = "projector_features.tsv", "projector_labels.tsv"

# Beside the run folders of a sweep whose seeds were looked at as they came.
LOOKS = "looks.json"

# Beside the run folders of a search.
JOURNAL = "study.journal"
