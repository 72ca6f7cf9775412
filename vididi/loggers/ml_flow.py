"""MLflow as a service (the extra ``mlflow``). ``MLFLOW_TRACKING_URI`` says where its store is;
without it that is a folder beside the run folders, which any number of cells may write to at once.
"""

from __future__ import annotations

import fcntl
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from vididi.loggers.logger import Ending, RunName

URI = "MLFLOW_TRACKING_URI"
# Seconds and attempts by which a server that is away is told; MLflow's own take many minutes.
PATIENCE = {"MLFLOW_HTTP_REQUEST_TIMEOUT": "10", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"}
STATUS = {"finished": "FINISHED", "stopped": "KILLED", "interrupted": "KILLED", "failed": "FAILED"}
MOST_VALUE = 500  # characters of a parameter that every store takes


def mlflow_key(name: str) -> str:
    """A metric's or parameter's name as MLflow takes it: ``retrieval/R_at_1``."""
    return re.sub(r"[^\w./ -]", "_", name.replace("@", "_at_"))


class MLflow:
    """One of its runs. See Service."""

    def __init__(self, about: RunName, run: str | None) -> None:
        for name, value in PATIENCE.items():
            os.environ.setdefault(name, value)
        from mlflow.tracking import MlflowClient

        store = (about.folder.parent / ".mlflow").resolve()
        uri = os.environ.get(URI)
        if not uri:
            # MLflow would rather have a database, in which parallel cells wait for each other.
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        with nullcontext() if uri else _alone(store):
            self.client = MlflowClient(tracking_uri=uri or store.as_uri())
            self.run = run or self._begin(about)
        if run:
            self.client.update_run(run, status="RUNNING")

    def _begin(self, about: RunName) -> str:
        found = self.client.get_experiment_by_name(about.project)
        experiment = found.experiment_id if found else self.client.create_experiment(about.project)
        tags = {"arm": about.arm, "label": about.label, "folder": about.folder.name}
        return self.client.create_run(experiment, run_name=about.name, tags=tags).info.run_id

    def scalars(self, values: Mapping[str, float], step: int, row: int) -> None:
        """See Service."""
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        metrics = [Metric(mlflow_key(name), value, now, step) for name, value in values.items()]
        self.client.log_batch(self.run, metrics=metrics)

    def text(self, tag: str, text: str) -> None:
        """An artifact of the run."""
        self.client.log_text(self.run, text, f"{tag}.md")

    def image(self, tag: str, png: bytes, row: int) -> None:
        """An artifact of the run."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{tag}.png"
            path.write_bytes(png)
            self.client.log_artifact(self.run, str(path))

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """A parameter keeps the value that it was given first."""
        from mlflow.entities import Param

        known = self.client.get_run(self.run).data.params
        texts = {mlflow_key(name): str(value)[:MOST_VALUE] for name, value in parameters.items()}
        new = [Param(name, text) for name, text in texts.items() if name not in known]
        self.client.log_batch(self.run, params=new)

    def close(self, ending: Ending, reason: str) -> None:
        """See Service."""
        self.client.set_tag(self.run, "ended", ending)
        if reason:
            self.client.set_tag(self.run, "reason", reason)
        self.client.set_terminated(self.run, STATUS[ending])


@contextmanager
def _alone(store: Path) -> Iterator[None]:
    """One process at a time: of two that find no experiment, both would make one."""
    with store.with_name(f"{store.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
