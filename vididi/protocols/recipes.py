"""The papers' recipes of the protocols, as settings that differ from the defaults. Imports no
torch.

Each is what its paper says; docs/evaluation.md names what the papers leave open. A protocol's first
recipe is its default.
"""

from __future__ import annotations

from typing import Any

Recipes = dict[str, dict[str, Any]]

# CORP 4.1: "the same as in pre-training except that color jittering and Gaussian blur are removed".
NO_JITTER_NO_BLUR = {"name": "corp", "jitter": 0.0, "blur": 0.0}

LINEAR: Recipes = {
    # CVRL 4.1. Its SGD has no weight decay here, as in appendix B.1.
    "cvrl": {
        "frozen": True,
        "features": "l2",
        "batch_size": 1024,
        "warmup_epochs": 5,
        "optimiser": {"name": "sgd", "lr": 32.0, "weight_decay": 0.0},
    },
    # CORP 4.1: "SGD with the momentum of 0.9 and no weight decay".
    "corp": {
        "frozen": True,
        "features": "zscore",
        "batch_size": 1024,
        "optimiser": {"name": "sgd", "lr": 0.16, "weight_decay": 0.0},
        "augment": NO_JITTER_NO_BLUR,
    },
}

SEMI: Recipes = {
    # CVRL 4.1: "without warm-up", 100 epochs on 1% (and 50 on 10%: --set epochs=50).
    "cvrl": {
        "frozen": False,
        "labels": 0.01,
        "batch_size": 1024,
        "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0},
    },
    "corp": {
        "frozen": False,
        "labels": 0.01,
        "balance": "proportions",
        "features": "zscore",
        "batch_size": 1024,
        "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0},
        "augment": NO_JITTER_NO_BLUR,
    },
}

FINETUNE: Recipes = {
    # ViDiDi E.5.
    "vididi": {
        "frozen": False,
        "dropout": 0.5,
        "steps": (60, 80),
        "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 1e-4},
        "crops": "random",
    },
    # CVRL 4.1, downstream tasks.
    "cvrl": {
        "frozen": False,
        "epochs": 50,
        "warmup_epochs": 5,
        "optimiser": {"name": "sgd", "lr": 0.16, "weight_decay": 0.0},
    },
    # CVRL 4.1, supervised learning, of a run with random weights: "the same as linear evaluation
    # except that we train the entire encoder network from scratch for 200 epochs without feature
    # normalization", rate 0.8, dropout 0.5.
    "cvrl_supervised": {
        "frozen": False,
        "dropout": 0.5,
        "epochs": 200,
        "batch_size": 1024,
        "warmup_epochs": 5,
        "optimiser": {"name": "sgd", "lr": 0.8, "weight_decay": 0.0},
    },
}

DETECTION: Recipes = {
    # ViDiDi E.6. It has no weight decay; this is the default of torch's AdamW.
    "vididi": {
        "frames": 8,
        "stride": 4,
        "steps": (5,),
        "factor": 0.5,
        "optimiser": {"name": "adamw", "lr": 0.01, "weight_decay": 0.01},
    },
    # CVRL 4.1, downstream tasks. It names no dropout, weight decay or clips, and follows SlowFast,
    # whose dropout is 0.5.
    "cvrl": {
        "epochs": 12,
        "steps": (8, 11),
        "test": "last",
        "optimiser": {"name": "sgd", "lr": 0.2, "weight_decay": 0.0},
    },
}
