"""Weights & Biases as a service (the extra ``wandb``). ``WANDB_MODE=offline`` and its other
variables hold.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image

from vididi.loggers.logger import Ending, RunName

INIT_S = 30  # that a run may take to begin before the service counts as away
MOST_NAME = 128  # characters of a name that the service takes
STEP = "step"  # the axis of all curves: wandb's own step may not stand still, ours may


class WeightsAndBiases:
    """One of its runs. See Service."""

    def __init__(self, about: RunName, run: str | None) -> None:
        import wandb

        self.run = run or uuid4().hex[:12]
        (about.folder.parent / ".wandb").mkdir(
            parents=True, exist_ok=True
        )  # it is used where it is
        settings = wandb.Settings(init_timeout=INIT_S, console="off", silent=True)
        self.active = wandb.init(
            project=re.sub(r"[/\\#?%:]", "-", about.project)[:MOST_NAME],
            name=about.name[:MOST_NAME],
            group=about.arm[:MOST_NAME],
            id=self.run,
            resume="allow",
            reinit="create_new",
            dir=str(about.folder.parent),
            settings=settings,
        )
        self.active.define_metric(STEP)
        self.active.define_metric("*", step_metric=STEP)

    def scalars(self, values: Mapping[str, float], step: int, row: int) -> None:
        """See Service."""
        self.active.log({**values, STEP: step}, step=row)

    def text(self, tag: str, text: str) -> None:
        """A file of the run."""
        path = Path(self.active.dir) / f"{tag}.md"
        path.write_text(text)
        self.active.save(str(path), base_path=self.active.dir, policy="now")

    def image(self, tag: str, png: bytes, row: int) -> None:
        """See Service."""
        import wandb

        with Image.open(BytesIO(png)) as image:
            self.active.log({tag: wandb.Image(image.copy())}, step=row)

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """See Service."""
        self.active.config.update(dict(parameters), allow_val_change=True)

    def close(self, ending: Ending, reason: str) -> None:
        """See Service."""
        self.active.summary.update({"ended": ending, **({"reason": reason} if reason else {})})
        self.active.finish(exit_code=0 if ending in ("finished", "stopped") else 1)
