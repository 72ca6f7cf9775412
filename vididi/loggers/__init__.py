"""Where a run's curves are shown beside its folder: TensorBoard, and services such as Weights &
Biases and MLflow (docs/sweeps.md, Loggers). They are no part of what is measured: no name of a cell
depends on them, and none of them ever stops a run.
"""
