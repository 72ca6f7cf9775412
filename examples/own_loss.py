"""A loss of your own: an objective in one file, pretrained without editing the package.

docs/adding.md says what makes it one of vididi's own.
"""

import tempfile
from pathlib import Path

from torch.nn.functional import cosine_similarity

from vididi.components import resolve
from vididi.config import build_config
from vididi.data.stream import local_stream
from vididi.experiment import run_cell
from vididi.objectives import OBJECTIVES, Objective
from vididi.objectives.heads import mlp
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext


class SimSiam(Objective):
    """Chen and He 2021: a view's prediction points where the other view's embedding does.

    The embedding gets no gradient, which keeps all videos from becoming one point.
    """

    # What follows the star are options of the configuration: objective.hidden, objective.out.
    def __init__(self, backbone, feature_width, *, hidden: int = 64, out: int = 32):
        super().__init__(backbone)
        self.projector = mlp(feature_width, hidden, out, 1)
        self.predictor = mlp(out, hidden, out, 1)

    def forward(self, view_a, view_b, starts=None):  # each [B, 3, T, H, W], differentiated
        """The loss and metrics of two views of the same videos."""
        z_a, z_b = (self.projector(self.backbone(view)) for view in (view_a, view_b))  # [B, D]
        a = cosine_similarity(self.predictor(z_a), z_b.detach())
        b = cosine_similarity(self.predictor(z_b), z_a.detach())
        # Every scalar becomes a metric: train/loss, train/spread.
        return {"loss": -(a + b).mean() / 2, "spread": z_a.detach().std(0).mean()}


CONFIG = {
    "data": {"name": "motion", "train": 40, "test": 20, "size": 32, "frames": 24},
    "prepare": {"short_side": 32},
    "clip": {"frames": 4, "stride": 2, "size": 16},
    # Any schedule goes with any loss.
    "schedule": {"order": 2, "selection": "scheduled", "mix": "both_ways"},
    "objective": {"name": "simsiam"},
    "backbone": {"name": "r3d_tiny"},
    "training": {"epochs": 4, "batch_size": 8},
    "evaluation": {"protocols": ["retrieval"], "clips": 2, "frames": 4, "stride": 2},
}

if __name__ == "__main__":
    OBJECTIVES["simsiam"] = SimSiam
    config = resolve(build_config(CONFIG))  # a slip in a name or a value ends here
    shards = ensure_prepared(config)
    with tempfile.TemporaryDirectory() as folder:
        result = run_cell(config, {}, Path(folder), shards, local_stream(shards), LocalContext())
    print(f"simsiam: {result['steps']} steps, R@5 {100 * result['retrieval/R@5']:.0f}")
