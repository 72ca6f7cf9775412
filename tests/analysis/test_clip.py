"""One clip's frames, velocity and acceleration above the R@1 of arms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_results import SECTION, place, write_run

from vididi.analysis.clip import bars_of_record, bars_of_runs, main, views_of_clip
from vididi.analysis.reading import read_run
from vididi.analysis.records import read_record
from vididi.analysis.results_files import main as write_results_files
from vididi.analysis.results_files import record_of_picture
from vididi.data.shards import ShardSet
from vididi.errors import ConfigError

__all__ = ["place"]  # a fixture


def test_velocity_and_acceleration_are_differences_of_the_clip(tiny_shards: ShardSet) -> None:
    video = tiny_shards.column("video_id")[int(tiny_shards.rows("test")[0])]
    about, views = views_of_clip(tiny_shards, video, frames=4, stride=2, size=None)
    frames, velocity, acceleration = views
    assert [view.shape for view in views] == [(4, 16, 16, 3)] * 3
    np.testing.assert_allclose(velocity[:-1], np.diff(frames, axis=0), atol=1e-5)
    np.testing.assert_allclose(acceleration[:-1], np.diff(velocity, axis=0), atol=1e-5)
    assert np.abs(velocity).max() > 0
    assert about.startswith(f"{video} (")


def test_bars_of_runs_are_means_over_their_seeds(tmp_path: Path) -> None:
    rates = {"base": (0.2, 0.3), "vididi": (0.5, 0.6)}
    runs = [
        read_run(write_run(tmp_path, arm, seed, rate))
        for arm, both in rates.items()
        for seed, rate in enumerate(both)
    ]
    bars = bars_of_runs(runs, "retrieval/R@1")
    assert {arm: bar.value.mean for arm, bar in bars.items()} == pytest.approx(
        {"base": 0.25, "vididi": 0.55}
    )
    assert {arm: bar.base for arm, bar in bars.items()} == {"base": True, "vididi": False}
    assert bars["vididi"].value.seeds == [0, 1]
    with pytest.raises(ConfigError, match="linear/top1 is in none of 4 runs"):
        bars_of_runs(runs, "linear/top1")


def test_a_picture_of_a_record_remembers_it_and_is_shown_in_the_pages(
    place: Path, tiny_shards: ShardSet, capsys: pytest.CaptureFixture[str]
) -> None:
    from test_results import define

    picture = {"file": "first.png", "command": "vididi plot clip", "text": "A clip."}
    define(place, {**SECTION, "picture": picture})
    write_results_files(["--runs", "runs"])
    assert "first.png" not in (place / "README.md").read_text()

    record, out = "docs/results/first.json", "docs/results/first.png"
    video = tiny_shards.column("video_id")[0]
    arguments = [str(tiny_shards.root), "--video", video, "--record", record, "--out", out]
    assert main([*arguments, "--frames", "4"]) == 0
    with Image.open(out) as image:
        assert min(image.size) > 500
    found = read_record(Path(record))
    assert found is not None
    assert record_of_picture(Path(out)) == found.digest
    assert [bar.label for bar in bars_of_record(found, "running", "retrieval/R@1")[0].values()] == [
        "The base",
        "The random_1",
        "The schedule_1",
        "The vididi",
    ]
    write_results_files(["--from-records"])
    assert "![A clip.](docs/results/first.png)" in (place / "README.md").read_text()
    assert "![A clip.](results/first.png)" in (place / "docs/results.md").read_text()
    assert write_results_files(["--from-records", "--check"]) == 0

    write_run(place / "runs", "base", 3, 0.9, 0.9)
    define(place, {**SECTION, "seeds": [0, 1, 2, 3], "picture": picture})
    assert write_results_files(["--runs", "runs"]) == 0
    assert "first.png: was made of other numbers; again:  vididi plot" in capsys.readouterr().err
    assert write_results_files(["--from-records", "--check"]) == 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--video", "none", "--record", "docs/results/first.json"], "--video: 'none' is not one"),
        (["--record", "none.json"], "--record: none.json: there is no such file"),
        (["--record", "docs/results/first.json", "--setting", "x"], "--setting: 'x' is not valid"),
        (["--record", "docs/results/first.json", "--arms", "x"], "--arms: 'x' is not valid"),
        (["--record", "docs/results/first.json", "--metric", "x"], "--metric: x is not in"),
        (["--record", "docs/results/first.json", "--frames", "0"], "--frames: 0 is not valid"),
        (["--runs", "runs", "--setting", "running"], "--setting: is of a record"),
    ],
)
def test_what_cannot_be_drawn_is_said(
    place: Path,
    tiny_shards: ShardSet,
    more: list[Any],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    write_results_files(["--runs", "runs"])
    first = str(tiny_shards.column("video_id")[0])
    video = [] if "--video" in more else ["--video", first]
    assert main([str(tiny_shards.root), *video, *more, "--out", "x.png"]) == 2
    assert message in capsys.readouterr().err
