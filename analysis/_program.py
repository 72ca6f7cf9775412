"""What the programs of this folder share: each runs one of vididi/analysis/ from a clone."""

import sys
from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(name: str) -> None:
    """Run vididi.analysis.NAME with this process's arguments.

    Where a library is missing that it needs, say what to do.
    """
    try:
        program = import_module(f"vididi.analysis.{name}")
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed; pip install -e {ROOT}")
    from vididi.commands.starting import start

    sys.exit(start(program.main, sys.argv[1:]))
