"""Real videos, not made by this project and not part of it: read from ../shared/realdata, skipped
where that is absent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vididi.data.plan import PretrainPlan, frame_counts, span
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream

REALDATA = Path(__file__).resolve().parents[2].parent / "shared" / "realdata"

pytestmark = pytest.mark.skipif(
    not REALDATA.is_dir(), reason=f"no real videos: {REALDATA} is not there"
)


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of classes: UCF101's four clips as they are, and six sign-language gestures in a
    folder each.
    """
    root = tmp_path_factory.mktemp("real")
    gestures = sorted((REALDATA / "intel_samples" / "asl_gestures").glob("*.mkv"))[:6]
    for clip in [*(REALDATA / "action_clips" / "UCF101").glob("*/*.avi"), *gestures]:
        name = clip.parent.name if clip.suffix == ".avi" else clip.stem
        (root / name).mkdir()
        (root / name / clip.name).symlink_to(clip)
    return root


@pytest.fixture(scope="module")
def config(real: Path, make_config: Callable[..., Any]) -> Any:
    from vididi.components import resolve
    from vididi.config import Component

    changes = {
        "prepare.short_side": 32,
        "training.epochs": 1,
        "training.batch_size": 5,
        "evaluation.protocols": [],
    }
    return resolve(
        make_config(changes).model_copy(update={"data": Component(name="folder", videos=str(real))})
    )


@pytest.fixture(scope="module")
def shards(config: Any) -> ShardSet:
    from vididi.prepared import ensure_prepared

    return ensure_prepared(config)


def test_real_clips_are_prepared_whole(shards: ShardSet, real: Path) -> None:
    assert shards.manifest.rejects == 0
    assert shards.manifest.videos == {"train": 10, "test": 0}
    assert {"ApplyEyeMakeup", "BaseballPitch", "Biking", "Punch"} < set(shards.manifest.classes)
    counts = dict(zip(shards.column("video_id"), shards.column("frame_count"), strict=True))
    # ApplyEyeMakeup's timestamps are not monotonic.
    assert counts["ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi"] == 164
    assert counts["Biking/v_Biking_g05_c02.avi"] == 201
    assert shards.sizes.tolist() == [[32, 43]] * 10


def test_real_clips_are_planned_and_streamed(shards: ShardSet) -> None:
    plan = PretrainPlan(
        shards.rows("train"),
        frame_counts(shards),
        length=10,
        stride=3,
        batch_size=5,
        epochs=2,
        seed=0,
    )
    batches = list(local_stream(shards, threads=2)(plan, 0))
    assert (len(batches), plan.wrapped) == (4, 0)
    assert min(frame_counts(shards)) >= span(10, 3)
    for batch in batches:
        assert batch.clips.shape == (5, 2, 10, 32, 43, 3)
        moved = np.abs(np.diff(batch.clips.astype(int), axis=2)).max(axis=(2, 3, 4, 5))
        assert (moved > 0).all(), "real clips move"
    assert sorted(np.concatenate([batch.rows for batch in batches[:2]])) == list(range(10))


def test_a_run_trains_on_real_clips(config: Any, shards: ShardSet, tmp_path: Path) -> None:
    from vididi.encoders import load_encoder
    from vididi.experiment import run_cell
    from vididi.training.context import LocalContext

    result = run_cell(
        config, {"label": "real"}, tmp_path / "run", shards, local_stream(shards), LocalContext()
    )
    assert result["steps"] == 2
    assert result["data_checksum"] == shards.manifest.checksum
    assert all(
        np.isfinite(tensor.numpy()).all()
        for tensor in load_encoder(tmp_path / "run").state_dict().values()
    )
