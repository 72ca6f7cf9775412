"""The names of the loggers, and the packages that they need. Imports neither torch nor a service's
package.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Literal

from vididi.errors import ConfigError

LoggerName = Literal["tensorboard", "wandb", "mlflow"]
TENSORBOARD: tuple[LoggerName, ...] = ("tensorboard",)  # what a run has that asks for none
PACKAGES = {"wandb": "wandb", "mlflow": "mlflow"}  # of the services, each an extra of that name
LOGGERS = "loggers"  # beside what a cell's record says, for one start: the names of its loggers


def services(names: Iterable[str]) -> list[str]:
    """Those of some loggers that are a service's."""
    return [name for name in names if name in PACKAGES]


def check_installed(names: Sequence[str]) -> None:
    """Raise ConfigError where a logger needs a package that is not installed."""
    for name in services(names):
        if find_spec(PACKAGES[name]) is None:
            raise ConfigError(
                f"loggers: {name} needs the package {PACKAGES[name]}, which is not installed:"
                f" pip install 'vididi[{name}]'"
            )
