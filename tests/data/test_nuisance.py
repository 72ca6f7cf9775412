"""The motion set's nuisance: each does what it says, and none touches the class or the sets that
were made without it.
"""

from __future__ import annotations

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vididi.data.motion import LAWS, SCENES, _jobs, motion, render_video
from vididi.data.nuisance import Nuisance, shifted

SIZE, FRAMES = 48, 20


def video(law: str = "orbit", seed: int = 3, scene: str = "clouds", **nuisance: Any) -> NDArray:
    return render_video(law, scene, SIZE, FRAMES, seed, Nuisance(**nuisance)).astype(np.float64)


def test_a_set_without_any_has_the_name_that_it_always_had(tmp_path: Path) -> None:
    options = {"train": 10, "test": 0, "size": 16, "frames": 8, "seed": 0}
    text = json.dumps({"format": 2, **options}, sort_keys=True)
    (tmp_path / f"motion-{sha256(text.encode()).hexdigest()[:12]}").mkdir()  # is not made again
    rows = motion(tmp_path, **options, test_scenes="swapped")  # of a share of 0
    assert rows[0].path.parents[2].name in {path.name for path in tmp_path.iterdir()}
    assert len(list(tmp_path.iterdir())) == 1
    with_noise = motion(tmp_path, **{**options, "train": 1}, noise=0.1)
    assert with_noise[0].path.is_file()


def test_a_window_of_a_canvas_is_shifted_by_parts_of_pixels() -> None:
    canvas = np.random.default_rng(0).random((12, 12, 3))
    np.testing.assert_allclose(shifted(canvas, 3, 6, 0, 0), canvas[3:9, 3:9])
    np.testing.assert_allclose(shifted(canvas, 3, 6, 2, -1), canvas[2:8, 5:11])
    halfway = (canvas[3:9, 3:9] + canvas[3:9, 4:10]) / 2
    np.testing.assert_allclose(shifted(canvas, 3, 6, 0.5, 0), halfway)


def test_the_camera_pans_no_faster_than_it_may_and_shakes_as_much_as_it_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        path = Nuisance(camera=2).camera_path(40, 64, rng) * 64
        steps = np.hypot(*np.diff(path, axis=0).T)
        assert steps.max() <= 2 + 1e-9
        assert steps.min() >= 1 - 1e-9
        np.testing.assert_allclose(path.mean(axis=0), 0, atol=1e-9)
    shakes = [Nuisance(shake=1.5).camera_path(40, 64, rng) * 64 for _ in range(100)]
    assert np.std(shakes) == pytest.approx(1.5, rel=0.05)


def test_a_moving_camera_moves_the_background_and_the_object_alike() -> None:
    """What is seen through a camera at (dx, dy) is what a still one sees, moved by as much."""
    still, moved = video(), video(camera=1.0)
    other = np.random.default_rng([3, 1])
    path = Nuisance(camera=1.0).camera_path(FRAMES, SIZE, other) * SIZE
    i = int(np.abs(path).sum(axis=1).argmax())
    dx, dy = path[i]
    assert np.hypot(dx, dy) > 5
    back = shifted(np.pad(moved[i], ((16, 16), (16, 16), (0, 0))), 16, SIZE, -dx, -dy)
    inner = (slice(16, -16), slice(16, -16))
    # The clouds' contrast is that of a larger canvas, so they are alike, not equal.
    one, two = (frame[inner].ravel() - frame[inner].mean() for frame in (still[i], back))
    assert one @ two / np.linalg.norm(one) / np.linalg.norm(two) > 0.97
    ahead = moved[i][inner].ravel() - moved[i][inner].mean()
    assert one @ ahead / np.linalg.norm(one) / np.linalg.norm(ahead) < 0.9


def test_noise_is_of_each_pixel_and_frame_and_as_large_as_it_says() -> None:
    difference = video(noise=0.05) - video()
    middle = difference[(video() > 60) & (video() < 190)]
    assert middle.std() == pytest.approx(0.05 * 255, rel=0.03)
    assert abs(middle.mean()) < 0.5


def test_distractors_move_in_front_of_the_background_and_behind_the_object() -> None:
    plain, busy = video(), video(distractors=6)
    changed = np.abs(plain - busy).sum(axis=(1, 2, 3))
    assert (changed > 0).all()
    assert len({frame.tobytes() for frame in busy - plain}) == FRAMES
    one = video(distractors=1)
    assert np.abs(plain - one).sum() < np.abs(plain - busy).sum()


def test_placement_moves_the_object_and_not_the_background() -> None:
    draws = [Nuisance(placement=0.2).offset(np.random.default_rng(i)) for i in range(200)]
    assert np.abs(draws).max() <= 0.2
    assert np.std(draws) == pytest.approx(0.2 / np.sqrt(3), rel=0.1)
    plain, moved = video("oscillation_x"), video("oscillation_x", placement=0.2)
    still = (plain == plain[0]).all(axis=(0, 3)) & (moved == moved[0]).all(axis=(0, 3))
    np.testing.assert_array_equal(plain[0][still], moved[0][still])
    assert still.mean() > 0.4
    assert (plain != moved).any()


def scenes(share: float, scenes_are: str, split: str = "train") -> dict[str, Counter[str]]:
    jobs = _jobs(Path("x"), split, 2000, share, scenes_are, 16, 8, 0, Nuisance())
    counts: dict[str, Counter[str]] = {law: Counter() for law in LAWS}
    for job in jobs:
        counts[job.law][job.scene] += 1
    return counts


def test_a_share_of_the_videos_have_their_class_s_scene() -> None:
    names = list(SCENES)
    for number, counted in enumerate(scenes(0.7, "same").values()):
        scene, count = counted.most_common(1)[0]
        assert scene == names[number % 5]
        assert count / 200 == pytest.approx(0.7 + 0.3 / 5, abs=0.1)
    assert all(len(counted) == 1 for counted in scenes(1.0, "same").values())


def test_test_scenes_are_the_same_another_class_s_or_anything() -> None:
    names = list(SCENES)
    for number, counted in enumerate(scenes(1.0, "swapped", "test").values()):
        assert list(counted) == [names[(number + 1) % 5]]
    for counted in scenes(1.0, "none", "test").values():
        assert set(counted) == set(names)
        assert max(counted.values()) < 80
    without = [counted.total() for counted in scenes(0.0, "swapped", "test").values()]
    assert without == [200] * 10


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("camera", -1.0),
        ("camera", 9.0),
        ("shake", float("nan")),
        ("placement", 0.6),
        ("distractors", 33),
        ("noise", 0.7),
        ("scene_class", 1.5),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_made(
    name: str, value: float, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"^{name}: {value} is not valid"):
        motion(tmp_path, **{name: value})
    assert list(tmp_path.iterdir()) == []
