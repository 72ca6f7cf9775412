"""Pretraining in ten lines, without Ray: a configuration, a prepared data set, a run folder."""

import sys
from pathlib import Path

from vididi.components import resolve
from vididi.config import build_config
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext

# What is left out has the papers' values.
# "motion" is the built-in set: shapes that move by ten laws, made on first use.
CONFIG = {
    "data": {"name": "motion", "train": 40, "test": 20, "size": 32, "frames": 24},
    "prepare": {"short_side": 32},  # pixels
    "clip": {"frames": 4, "stride": 2, "size": 16},
    "schedule": {"order": 1, "selection": "random"},
    "objective": {"name": "vicreg", "hidden": 64, "out": 64},
    "backbone": {"name": "r3d_tiny"},
    "training": {"epochs": 4, "batch_size": 8},
    "evaluation": {"clips": 2, "frames": 4, "stride": 2},
}

if __name__ == "__main__":
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/example")
    config = resolve(build_config(CONFIG))  # every option checked, every default filled in
    shards = ensure_prepared(config)  # decoded once, into VIDIDI_CACHE or ~/.cache/vididi
    print(shards.summary)

    # Call it again: a finished run is returned as it is, a killed one goes on where it was.
    result = run_cell(config, {}, folder, shards, local_stream(shards), LocalContext())
    print(f"R@1 {100 * result['retrieval/R@1']:.1f} after {result['steps']} steps, in {folder}")
