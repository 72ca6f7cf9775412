"""The rooms of the house (docs/architecture.md): who may import what. Read from the sources, and
tried in fresh processes.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

REPO = Path(__file__).resolve().parents[1]
FILES = sorted((REPO / "vididi").rglob("*.py"))
SOURCES = {
    ".".join(path.relative_to(REPO).with_suffix("").parts).removesuffix(".__init__"): path
    for path in FILES
}
CORE = [name for name in SOURCES if not name.startswith("vididi.cluster")]
TORCHLESS = (
    "vididi.checks",
    "vididi.disks",
    "vididi.config",
    "vididi.sweep",
    "vididi.sweep_keys",
    "vididi.sweep_faults",
    "vididi.study_names",
    "vididi.search",
    "vididi.pairing",
    "vididi.readings",
    "vididi.draws",
    "vididi.errors",
    "vididi.names",
    "vididi.files",
    "vididi.values",
    "vididi.kinds",
    "vididi.runs.file_names",
    "vididi.runs.outcome",
    "vididi.runs.readers",
    "vididi.runs.old_results",
    "vididi.data",
)
TABLE = (
    "vididi.protocols",
    "vididi.protocols.settings",
    "vididi.protocols.recipes",
)  # the rest of that room measures
MATHS = ("vididi.views", "vididi.objectives", "vididi.backbones", "vididi.optim")


def modules_of(*rooms: str) -> list[str]:
    return [
        name
        for name in SOURCES
        if name in rooms or name.startswith(tuple(f"{room}." for room in rooms))
    ]


def imports_of(module: str) -> Iterator[str]:
    """Every module that a source names in an import, wherever in the file it stands; relative ones
    are made absolute.
    """
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parent = package.rsplit(".", node.level - 1)[0] if node.level else ""
            base = ".".join(part for part in (parent, node.module) if part)
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def uses(module: str, room: str) -> bool:
    return any(name == room or name.startswith(f"{room}.") for name in imports_of(module))


def loaded_by(modules: list[str], blocked: tuple[str, ...] = ()) -> set[str]:
    """The top-level modules and parts of torch, ray and vididi in memory after importing
    ``modules`` in a fresh process.
    """
    code = (
        f"import importlib, sys\nfor name in {blocked!r}: sys.modules[name] = None\nfor name in"
        f" {modules!r}: importlib.import_module(name)\nprint(*(name for name, module in"
        " sys.modules.items() if module is not None and name.count('.') < 2))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


# --- Read from the sources ------------------------------------------------------------------------


def narrows(test: ast.expr) -> bool:
    """``x``, ``x is not None`` or ``isinstance(x, X)``, of a name or an attribute: all that mypy
    needs.
    """
    if isinstance(test, ast.Call):
        return getattr(test.func, "id", "") == "isinstance"
    if isinstance(test, ast.Compare):
        is_not = isinstance(test.ops[0], ast.IsNot)
        return is_not and narrows(test.left) and ast.unparse(test.comparators[0]) == "None"
    return isinstance(test, ast.Name | ast.Attribute)


@pytest.mark.parametrize("module", SOURCES)
def test_an_assert_narrows_a_type_and_checks_nothing(module: str) -> None:
    """``python -O`` leaves asserts out."""
    found = [
        node
        for node in ast.walk(ast.parse(SOURCES[module].read_text()))
        if isinstance(node, ast.Assert)
    ]
    assert [ast.unparse(node) for node in found if node.msg or not narrows(node.test)] == []


@pytest.mark.parametrize("module", CORE)
def test_ray_is_imported_in_cluster_only(module: str) -> None:
    assert not uses(module, "ray")


@pytest.mark.parametrize("module", CORE)
def test_optuna_is_imported_in_cluster_only(module: str) -> None:
    assert not uses(module, "optuna")


@pytest.mark.parametrize(
    "module",
    [module for module in CORE if module not in ("vididi.cli", *modules_of("vididi.commands"))],
)
def test_nothing_else_imports_cluster(module: str) -> None:
    assert not uses(module, "vididi.cluster")


def test_the_command_line_reaches_cluster_only_where_it_is_asked_to() -> None:
    assert "vididi.cluster" not in loaded_by(["vididi.cli", *modules_of("vididi.commands")])


def test_tables_are_read_where_a_command_asks_for_them() -> None:
    assert "vididi.analysis" not in loaded_by(["vididi.cli", *modules_of("vididi.commands")])
    others = set(SOURCES) - set(modules_of("vididi.analysis"))
    assert {module for module in others if uses(module, "vididi.analysis")} == {
        "vididi.commands.results"
    }


@pytest.mark.parametrize("module", modules_of(*MATHS))
@pytest.mark.parametrize(
    "room",
    [
        "vididi.config",
        "vididi.sweep",
        "vididi.data",
        "vididi.training",
        "vididi.cluster",
        "vididi.components",
        "vididi.experiment",
    ],
)
def test_the_maths_knows_nothing_of_the_other_rooms(module: str, room: str) -> None:
    assert not uses(module, room)


@pytest.mark.parametrize("module", modules_of("vididi.training"))
@pytest.mark.parametrize(
    "room",
    ["vididi.config", "vididi.sweep", "vididi.cluster", "vididi.experiment", "vididi.evaluation"],
)
def test_training_does_not_know_where_things_come_from(module: str, room: str) -> None:
    assert not uses(module, room)


@pytest.mark.parametrize("module", modules_of("vididi.training"))
def test_training_knows_a_batch_and_nothing_else_of_data(module: str) -> None:
    allowed = {"vididi.data.stream", "vididi.data.stream.Batch"}
    assert {name for name in imports_of(module) if name.startswith("vididi.data")} <= allowed


@pytest.mark.parametrize("module", [*modules_of(*TORCHLESS), *TABLE])
def test_no_torch_in_configuration_and_data_not_even_inside_a_function(module: str) -> None:
    assert not uses(module, "torch")
    assert not uses(module, "torchvision")


def test_names_become_objects_in_components_only() -> None:
    tables = ("SOURCES", "AUGMENTATIONS", "OBJECTIVES", "BACKBONES", "OPTIMISERS")
    makers = {"vididi.components", "vididi.prepared", "vididi.data.sources", *modules_of(*MATHS)}
    for module in CORE:
        used = {name.rpartition(".")[2] for name in imports_of(module)} & set(tables)
        assert module in makers or not used, f"{module} uses {used}"


def modules_named_by(module: str) -> set[str]:
    """The modules of vididi that a source imports: ``from room import file`` means the file,
    anything else of a room its ``__init__``.
    """
    names = set(imports_of(module))
    rooms = {name for name in names & SOURCES.keys() if SOURCES[name].name == "__init__.py"}
    of_rooms = {room: {name for name in names if name.rpartition(".")[0] == room} for room in rooms}
    only_files = {room for room, named in of_rooms.items() if named and named <= SOURCES.keys()}
    return (names & SOURCES.keys()) - only_files - {module}


def circle_in(graph: dict[str, set[str]]) -> list[str]:
    """Nodes each of which leads to the next, and the last to the first; empty if there are none."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for other in sorted(graph[node]):
            if circle := walk(other, [*path, node]):
                return circle
        done.add(node)
        return []

    return next((circle for node in sorted(graph) if (circle := walk(node, []))), [])


def test_a_circle_is_found_wherever_it_lies() -> None:
    assert circle_in({"a": {"b"}, "b": {"c", "d"}, "c": set(), "d": {"e"}, "e": {"b"}}) == [
        "b",
        "d",
        "e",
        "b",
    ]
    assert circle_in({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_import_circle() -> None:
    """Imports inside functions count, and those for types alone: whoever reads one file of a circle
    has to read all of it.

    The top hands ``load_encoder`` on when it is asked for, and has constants that others use; what
    it hands on does not count.
    """
    assert (
        circle_in(
            {
                module: modules_named_by(module) if module != "vididi" else set()
                for module in SOURCES
            }
        )
        == []
    )


# What is over a limit today and why; a line goes when its code is divided.
LONG_FUNCTIONS: dict[tuple[str, str], str] = {}
LONG_FILES: dict[str, str] = {}
PROGRAM = [REPO / "run_sweep.py", *FILES]


def test_no_function_is_over_50_lines() -> None:
    long = {
        (str(path.relative_to(REPO)), node.name)
        for path in PROGRAM
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= 50
    }
    assert long == set(LONG_FUNCTIONS)


def test_no_file_is_over_600_lines() -> None:
    assert {
        str(path.relative_to(REPO)) for path in PROGRAM if len(path.read_text().splitlines()) > 600
    } == set(LONG_FILES)


def test_no_public_name_stands_for_two_things() -> None:
    named: dict[str, list[str]] = {}
    for path in FILES:
        name = path.parent.name if path.name == "__init__.py" else path.stem
        named.setdefault(f"module {name}", []).append(str(path))
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                named.setdefault(f"class {node.name}", []).append(str(path))
            # Every program has a function called main.
            if isinstance(node, ast.FunctionDef) and node.name.lstrip("_") == node.name != "main":
                named.setdefault(f"function {node.name}", []).append(str(path))
    assert {name: paths for name, paths in named.items() if len(paths) > 1} == {}


# --- Tried ----------------------------------------------------------------------------------------


def test_configuration_and_sweep_load_neither_torch_nor_ray() -> None:
    assert not loaded_by(["vididi", "vididi.config", "vididi.sweep"]) & {
        "torch",
        "ray",
        "torchvision",
        "pyarrow",
        "optuna",
    }


def test_the_table_of_protocols_is_read_without_torch_and_ray() -> None:
    assert "vididi.protocols" in loaded_by([*TABLE], blocked=("torch", "ray", "pyarrow"))


def test_data_load_neither_torch_nor_ray() -> None:
    assert not loaded_by(modules_of("vididi.data")) & {"torch", "ray", "torchvision"}


def test_scoring_ava_loads_neither_torch_nor_ray() -> None:
    assert not loaded_by(
        ["vididi.cli", "vididi.evaluation.ava_files", "vididi.evaluation.ava_map"]
    ) & {"torch", "ray"}


def test_the_core_and_the_tables_work_without_ray() -> None:
    core = [name for name in CORE if not name.endswith("__main__")]
    loaded = loaded_by(
        [*core, *(f"vididi.analysis.{name}_table" for name in ("paper", "ablation", "silhouette"))],
        blocked=("ray",),
    )
    assert "vididi.experiment" in loaded
    assert "ray" not in loaded


@pytest.mark.parametrize("picture", ["tsne", "bars", "curves", "intervals"])
def test_pictures_of_run_folders_need_neither_torch_nor_ray(picture: str) -> None:
    assert not loaded_by([f"vididi.analysis.{picture}"], blocked=("torch", "ray")) & {
        "matplotlib",
        "sklearn",
    }


@pytest.mark.parametrize("picture", ["tsne", "bars", "curves", "intervals", "saliency", "clip"])
def test_a_picture_without_the_extra_names_it(picture: str, tmp_path: Path) -> None:
    video = [str(tmp_path), "--video", "v"]
    more = {"intervals": [], "saliency": video, "clip": [*video, "--record", "r.json"]}.get(
        picture, [str(tmp_path)]
    )
    arguments = ["--out", str(tmp_path / "x.png"), *more]
    code = (
        f"import sys; sys.modules['matplotlib'] = None; from vididi.analysis.{picture} import main;"
        f" sys.exit(main({arguments}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2, done.stderr
    assert (
        done.stderr == "error: matplotlib is not installed; pictures need the extra plots:"
        " pip install 'vididi[plots]'\n"
    )


def test_the_sweep_s_door_opens_without_torch_and_ray() -> None:
    assert {"run_sweep", "vididi.commands"} <= loaded_by(["run_sweep"], blocked=("ray", "torch"))


def test_an_optimiser_s_first_step_does_not_import_torch_s_compiler_nor_torchvision() -> None:
    """Each took every process of a sweep more than a second of CPU."""
    code = (
        "import sys, torch, vididi.experiment\n"
        "from vididi.optim import LARS\n"
        "weights = torch.nn.Parameter(torch.ones(2, 2))\n"
        "optimiser = LARS([weights], lr=0.1)\n"
        "weights.sum().backward(), optimiser.step(), optimiser.zero_grad()\n"
        "optimiser.load_state_dict(optimiser.state_dict())\n"
        "print(*sys.modules.keys() & {'torch._dynamo', 'torchvision'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []


# --- Public names ---------------------------------------------------------------------------------


def test_differentiate() -> None:
    from vididi.views import differentiate

    clip = torch.arange(5.0).square().view(1, 1, 5, 1, 1)
    assert differentiate(clip, 2).flatten().tolist() == [2, 2, 2]


def test_schedules() -> None:
    from vididi.views import SCHEDULES

    table_6 = (
        "base random_1 random_12 reverse schedule_1 schedule_1_mix schedule_12 schedule_12_mix"
        " vididi"
    )
    assert set(SCHEDULES) >= set(table_6.split())
    assert SCHEDULES["vididi"].pair(epoch=3, step=0, seed=0) in ((0, 0), (1, 1))


def test_vicreg_terms() -> None:
    from vididi.objectives import vicreg_terms

    invariance, variance, covariance = vicreg_terms(torch.eye(4), torch.eye(4), gamma=1.0, eps=1e-4)
    assert invariance == 0
    assert variance > 0
    assert covariance > 0


def test_lars_is_an_optimiser() -> None:
    from vididi.optim import LARS

    weight = torch.nn.Parameter(torch.ones(2, 2))
    weight.grad = torch.ones(2, 2)
    LARS([weight], lr=1.0).step()
    assert (weight < 1).all()


def test_r3d_18_has_512_features() -> None:
    from vididi.backbones import BACKBONES

    with torch.device("meta"):
        module, width = BACKBONES["r3d_18"]()
        features = module(torch.empty(2, 3, 8, 32, 32))
    assert width == 512
    assert features.shape == (2, 512)


def test_retrieval_recall() -> None:
    from vididi.evaluation import retrieval_recall

    recall = retrieval_recall(np.eye(2), [0, 1], np.eye(2), [0, 0], ks=(1, 2))
    assert recall == {1: 0.5, 2: 0.5}


def test_load_encoder_is_reached_from_the_top() -> None:
    import vididi
    from vididi.encoders import load_encoder

    assert vididi.load_encoder is load_encoder
    with pytest.raises(AttributeError, match="no attribute 'load_decoder'"):
        _ = vididi.load_decoder
