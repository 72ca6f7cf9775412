"""What came later (vididi/introduced.py): what was finished before a key existed keeps its name,
and is read as it was made.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from finished_sweep import CHECKSUM, resolved_cells, write_finished
from made_up_options import with_option
from made_up_settings import Mirrored, evaluation_name
from pydantic import BaseModel, model_validator

from vididi.components import COMPONENTS, read_run_config, resolve
from vididi.config import Config, PrepareConfig, ScheduleConfig, build_config
from vididi.data.layout import Manifest
from vididi.data.video import Video
from vididi.errors import TrainingError
from vididi.experiment import _check_same_run
from vididi.introduced import INTRODUCED, Introduced, with_introduced
from vididi.prepared import _preparation_digest, is_made_of
from vididi.protocols import FeatureSettings, protocol_settings
from vididi.protocols.task import complete_settings
from vididi.runs import readers
from vididi.search import Dimension, Search
from vididi.study_names import study_name
from vididi.sweep import Sweep

REPO = Path(__file__).resolve().parents[1]
ABLATION = REPO / "sweeps" / "ablation.yaml"

# --- A made-up field that came later --------------------------------------------------------------


class Twisted(ScheduleConfig):
    made_up: Annotated[int, Introduced(0)] = 0


class TwistedLater(ScheduleConfig):
    """The same, when another default is thought better."""

    made_up: Annotated[int, Introduced(0)] = 1

    @model_validator(mode="after")
    def _no_twist_of_nothing(self) -> TwistedLater:
        if self.made_up and not self.order:
            raise ValueError("made_up: needs an order")
        return self


def grown(schedule: type[ScheduleConfig], **values: Any) -> Config:
    """A configuration of a program whose schedule has more fields."""
    model: Any = type(
        "Grown", (Config,), {"__annotations__": {"schedule": schedule}, "schedule": schedule()}
    )
    return model.model_validate({"schedule": values})


def test_a_field_with_its_introduction_value_is_no_part_of_a_name() -> None:
    old = Config().identity(CHECKSUM)
    assert grown(Twisted).identity(CHECKSUM) == old
    assert grown(Twisted, made_up=0).identity(CHECKSUM) == old
    assert grown(Twisted, made_up=1).identity(CHECKSUM) != old


def test_the_introduction_value_is_not_the_default_of_the_day() -> None:
    old = Config().identity(CHECKSUM)
    assert grown(TwistedLater, made_up=0).identity(CHECKSUM) == old
    assert (
        grown(TwistedLater).identity(CHECKSUM)
        == grown(Twisted, made_up=1).identity(CHECKSUM)
        != old
    )


def test_a_field_that_is_not_declared_renames_everything() -> None:
    class Undeclared(ScheduleConfig):
        made_up: int = 0

    assert grown(Undeclared).identity(CHECKSUM) != Config().identity(CHECKSUM)


def test_a_section_all_of_whose_keys_came_later_is_left_out() -> None:
    class Mask(BaseModel):
        ratio: Annotated[float, Introduced(0.0)] = 0.0

    class Masked(Config):
        mask: Mask = Mask()

    assert (
        Masked().identity(CHECKSUM)
        == Config().identity(CHECKSUM)
        != Masked(mask=Mask(ratio=0.5)).identity(CHECKSUM)
    )
    assert with_introduced(Masked, {})["mask"] == {"ratio": 0.0}


@pytest.mark.parametrize(
    ("value", "same"),
    [(1, True), (1.0, True), (True, False), ("1", False), (None, True), ([1], False), (2, False)],
)
def test_which_values_are_the_introduction_value(value: Any, same: bool) -> None:
    assert Introduced(1, same=(None,)).means(value) is same


def test_a_list_is_compared_as_a_list() -> None:
    assert Introduced((60, 80)).means([60, 80])
    assert not Introduced(()).means([60])


# --- An option of a component ---------------------------------------------------------------------


@pytest.fixture
def nesterov(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Gives the optimiser sgd an option that came later, with a default; before it there was none,
    which is false.
    """
    sgd = COMPONENTS["optimiser"]["sgd"]

    def add(default: bool) -> None:
        monkeypatch.setitem(
            COMPONENTS["optimiser"], "sgd", with_option(sgd, "nesterov", bool, default)
        )  # type: ignore[arg-type]
        monkeypatch.setitem(INTRODUCED, "optimiser[sgd].nesterov", Introduced(False))

    return add


def sgd(**options: Any) -> Config:
    return resolve(build_config({"optimiser": {"name": "sgd", **options}}))


def test_an_option_with_its_introduction_value_is_no_part_of_a_name(
    nesterov: Callable[[bool], None],
) -> None:
    old, lars = sgd().identity(CHECKSUM), resolve(Config()).identity(CHECKSUM)
    nesterov(False)
    assert "nesterov" in sgd().optimiser.options
    assert sgd().identity(CHECKSUM) == sgd(nesterov=False).identity(CHECKSUM) == old
    assert sgd(nesterov=True).identity(CHECKSUM) != old
    nesterov(True)
    assert sgd(nesterov=False).identity(CHECKSUM) == old
    assert sgd().identity(CHECKSUM) == sgd(nesterov=True).identity(CHECKSUM) != old
    assert resolve(Config()).identity(CHECKSUM) == lars


def test_a_name_is_the_same_before_and_after_the_configuration_was_written(
    nesterov: Callable[[bool], None],
) -> None:
    nesterov(True)
    for config in (sgd(), sgd(nesterov=False)):
        assert build_config(yaml.safe_load(config.to_yaml())).identity(CHECKSUM) == config.identity(
            CHECKSUM
        )


def test_an_option_of_an_optimiser_renames_no_evaluation_either(
    nesterov: Callable[[bool], None],
) -> None:
    def name(**options: Any) -> str:
        settings = protocol_settings(
            "linear", "cvrl", {f"optimiser.{key}": value for key, value in options.items()}
        )
        return evaluation_name(complete_settings(settings, Config()))

    old = name()
    nesterov(True)
    assert name(nesterov=False) == old
    assert name() == name(nesterov=True) != old


def test_an_old_run_is_read_with_the_introduction_value_of_an_option(
    nesterov: Callable[[bool], None], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(sgd().to_yaml())
    nesterov(True)
    assert (readers.read_config(tmp_path) or {})["optimiser"]["nesterov"] is False
    assert read_run_config(tmp_path).optimiser.options["nesterov"] is False
    own = resolve(
        build_config(yaml.safe_load((tmp_path / "config.yaml").read_text()))
    )  # a user's own file
    assert own.optimiser.options["nesterov"] is True


def test_a_run_of_another_introduced_value_is_another_run(
    nesterov: Callable[[bool], None], tmp_path: Path
) -> None:
    run = tmp_path / "by-hand"
    run.mkdir()
    (run / "config.yaml").write_text(sgd().to_yaml())
    (run / "checkpoint.pt").touch()
    nesterov(True)
    _check_same_run(run, sgd(nesterov=False), CHECKSUM)
    with pytest.raises(TrainingError, match=r"optimiser\.nesterov: false there, true asked for"):
        _check_same_run(run, sgd(), CHECKSUM)


# --- Weights, which came first --------------------------------------------------------------------


def test_the_options_of_weights_files_are_introduced() -> None:
    values = {"weights": "/none.pth", "weights_sha256": "ab" * 32, "weights_from": None}
    before = build_config({"backbone": {"name": "r3d_18", **values}}).identity(CHECKSUM)
    for more, same in (
        ({}, True),
        ({"weights_inflate": False}, True),
        ({"weights_inflate": True}, False),
        ({"weights_key": "a"}, False),
    ):
        options = {"weights_key": None, "weights_prefix": None, "weights_inflate": None, **more}
        assert (
            build_config({"backbone": {"name": "r3d_18", **values, **options}}).identity(CHECKSUM)
            == before
        ) is same


def test_an_old_run_is_checked_with_the_introduction_value_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A default of the day may be impossible with what an old run says elsewhere."""
    (tmp_path / "config.yaml").write_text(build_config({"schedule": {"order": 0}}).to_yaml())
    monkeypatch.setattr(readers, "Config", type(grown(TwistedLater)))
    assert (readers.read_config(tmp_path) or {})["schedule"]["made_up"] == 0


# --- Evaluations ----------------------------------------------------------------------------------


def test_a_setting_of_an_evaluation() -> None:
    old = evaluation_name(FeatureSettings(clips=2))
    assert evaluation_name(Mirrored(clips=2, mirrored=False)) == old
    assert (
        evaluation_name(Mirrored(clips=2))
        == evaluation_name(Mirrored(clips=2, mirrored=True))
        != old
    )


# --- Prepared sets --------------------------------------------------------------------------------


class Sharper(PrepareConfig):
    sharpen: Annotated[float, Introduced(0.0)] = 1.0


def prepared(**values: Any) -> Config:
    model: Any = type(
        "Grown", (Config,), {"__annotations__": {"prepare": Sharper}, "prepare": Sharper()}
    )
    return model.model_validate({"prepare": values})


VIDEOS = [Video(Path("/none/a.mp4"), "a/b", "a", "train")]


def test_a_setting_of_preparation() -> None:
    old = _preparation_digest(Config(), VIDEOS)
    assert _preparation_digest(prepared(sharpen=0), VIDEOS) == old
    assert (
        _preparation_digest(prepared(), VIDEOS)
        == _preparation_digest(prepared(sharpen=1), VIDEOS)
        != old
    )


def test_an_option_of_a_source(monkeypatch: pytest.MonkeyPatch) -> None:
    old = _preparation_digest(resolve(Config()), VIDEOS)
    source = with_option(COMPONENTS["data"]["motion"], "haze", float, 0.5)
    monkeypatch.setitem(COMPONENTS["data"], "motion", source)  # type: ignore[arg-type]
    monkeypatch.setitem(INTRODUCED, "data[motion].haze", Introduced(0.0))
    given = {noise: resolve(build_config({"data": {"haze": noise}})) for noise in (0.0, 0.5)}
    assert _preparation_digest(given[0.0], VIDEOS) == old
    assert (
        _preparation_digest(given[0.5], VIDEOS)
        == _preparation_digest(resolve(Config()), VIDEOS)
        != old
    )


def test_an_old_manifest_is_of_a_configuration_with_the_introduction_value() -> None:
    content = Config().to_dict()
    manifest = Manifest(1, {}, 1, 0, 1, [], CHECKSUM, content["data"], content["prepare"])
    assert is_made_of(manifest, prepared(sharpen=0))
    assert not is_made_of(manifest, prepared())
    assert not is_made_of(manifest, prepared(sharpen=0, quality=90))


# --- Studies --------------------------------------------------------------------------------------


class Stepped(Dimension):
    step: Annotated[float | None, Introduced(None)] = None


SEARCH = {"name": "random", "space": {"optimiser.lr": {"log": [0.1, 1.0]}}}


def test_a_key_of_a_search_s_space() -> None:
    class NewSearch(Search):
        space: dict[str, Stepped] = {}  # type: ignore[assignment]

    class NewSweep(Sweep):
        search: NewSearch = NewSearch()

    def name(model: type[Sweep], **more: Any) -> str:
        space = {"optimiser.lr": {"log": [0.1, 1.0], **more}}
        return study_name(
            model.model_validate({"name": "s", "search": {"name": "random", "space": space}}),
            {},
            CHECKSUM,
        )

    assert name(NewSweep) == name(NewSweep, step=None) == name(Sweep)
    assert name(NewSweep, step=0.1) != name(Sweep)


@pytest.mark.parametrize("nested", [True, False])
def test_a_value_that_a_search_s_cells_share(nested: bool) -> None:
    def name(config: Config | None, changes: dict[str, Any] | None = None, **made_up: int) -> str:
        base: dict[str, Any] = (
            {"schedule": made_up}
            if nested
            else {f"schedule.{key}": value for key, value in made_up.items()}
        )
        sweep = Sweep.model_validate(
            {
                "name": "s",
                "search": SEARCH,
                "base": {"training.epochs": 3, **(base if made_up else {})},
            }
        )
        return study_name(sweep, changes or {}, CHECKSUM, config)

    old = name(Config())
    assert old == name(None)
    assert name(grown(Twisted)) == name(grown(Twisted, made_up=0), made_up=0) == old
    assert name(grown(TwistedLater, made_up=0), made_up=0) == old
    assert name(grown(TwistedLater, made_up=0), {"schedule.made_up": 0}) == old
    assert name(grown(TwistedLater, made_up=0), {"schedule.made_up": 0}, made_up=2) == old
    others = [
        name(grown(TwistedLater)),
        name(grown(Twisted, made_up=2), made_up=2),
        name(grown(Twisted, made_up=3), made_up=3),
    ]
    assert len({old, *others}) == 4


def test_a_value_that_a_search_draws_stays_in_its_space() -> None:
    space = {"schedule.made_up": {"choice": [0, 1]}, "optimiser.lr": {"log": [0.1, 1.0]}}
    sweep = Sweep.model_validate({"name": "s", "search": {"name": "random", "space": space}})
    assert study_name(sweep, {}, CHECKSUM, grown(Twisted)) == study_name(
        sweep, {}, CHECKSUM, grown(Twisted, made_up=1)
    )


# --- A schedule axis with a default, really added -------------------------------------------------

FUTURE = "from __future__ import annotations\n"
IMPORTS = "from typing import Annotated\nfrom vididi.introduced import Introduced\n"
AXIS = "    reverse: bool = False\n"


def with_axis(folder: Path, line: str) -> Path:
    """A copy of the program whose schedule has one more field: one file is changed."""
    for name in ("vididi", "analysis", "sweeps"):
        shutil.copytree(REPO / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "tests").mkdir()
    shutil.copy(REPO / "tests" / "finished_sweep.py", folder / "tests")
    path = folder / "vididi" / "config.py"
    text = path.read_text()
    for anchor, more in ((FUTURE, IMPORTS), (AXIS, f"    {line}\n")):
        assert text.count(anchor) == 1
        text = text.replace(anchor, anchor + more)
    path.write_text(text)
    return folder


def look(tree: Path, runs: Path, changes: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a copy of the program says of a finished ablation."""
    command = [
        sys.executable,
        "tests/finished_sweep.py",
        "sweeps/ablation.yaml",
        str(runs),
        json.dumps(changes or {}),
    ]
    done = subprocess.run(
        command,
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def finished(tmp_path: Path) -> tuple[list[str], Path]:
    """The names of the ablation's cells, all finished, and their folder."""
    cells = resolved_cells(ABLATION)
    write_finished(cells, "ablation", tmp_path / "runs")
    return [cell.folder_name(CHECKSUM) for cell in cells], tmp_path / "runs"


def test_a_schedule_axis_with_a_default_costs_one_file_and_nothing_is_trained_again(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    names, runs = finished
    said = look(
        with_axis(tmp_path / "tree", "made_up: Annotated[int, Introduced(0)] = Field(0, ge=0)"),
        runs,
    )
    assert said["names"] == names
    assert set(said["states"]) == {"finished"}
    assert "protocols)" not in said["table"]
    assert "instead of" not in said["table"].split("Not as in the paper")[0]
    assert said["table"].count("0 1") == len(names)  # both seeds in the row of each arm


def test_another_default_later_renames_who_leaves_the_axis_out(
    finished: tuple[list[str], Path], tmp_path: Path
) -> None:
    names, runs = finished
    tree = with_axis(tmp_path / "tree", "made_up: Annotated[int, Introduced(0)] = 1")
    copy = shutil.copytree(runs, tmp_path / "copy")
    said = look(tree, runs)
    assert not set(said["names"]) & set(names)
    assert set(said["states"]) == {"waiting"}
    assert "(1 of 2 protocols)" in said["table"]
    assert "schedule.made_up 1 instead of 0" in said["table"]
    said = look(tree, copy, {"schedule.made_up": 0})
    assert (said["names"], set(said["states"])) == (names, {"finished"})
    assert "protocols)" not in said["table"]
