"""Statistics of normalisation for each order: against networks that saw one order alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from plain_files import plain
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vididi.backbones import BACKBONES, known_orders
from vididi.backbones.norm_by_order import MOST_ORDER, STATISTICS, SUFFIX
from vididi.backbones.weights import load_weights
from vididi.config import Config
from vididi.data.shards import ShardSet
from vididi.data.stream import local_stream
from vididi.encoders import load_encoder
from vididi.evaluation.batch_statistics import recomputed
from vididi.evaluation.features import FeatureView
from vididi.experiment import run_cell
from vididi.objectives import OBJECTIVES
from vididi.plans import statistics_plan
from vididi.prepared import ensure_prepared
from vididi.training.context import LocalContext
from vididi.training.distributed import synchronise_batch_norm, torch_s_sync_batch_norm

pytestmark = pytest.mark.usefixtures("one_thread")
SETS: dict[str, Any] = {"training.epochs": 2, "clip.extra_frames": 2, "evaluation.clips": 2}


def network(norm: str = "per_order", name: str = "r3d_tiny", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    options = {"width": 2, **options} if name == "r3d_tiny" else options
    return BACKBONES[name](norm=norm, **options)[0]


def view(seed: int, scale: float = 1.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(4, 3, 4, 16, 16, generator=generator)


def feed(module: nn.Module, clips: Tensor, order: int) -> Tensor:
    with known_orders((clips, order)):
        return module(clips)


def statistics(module: nn.Module, order: int) -> list[Tensor]:
    """Of every normalisation, as an ordinary one of that order would have them."""
    state = module.state_dict()
    return [
        state[f"{name}{SUFFIX}"][order - 1] if order else value
        for name, value in state.items()
        if name.endswith(STATISTICS)
    ]


def assert_equal(a: list[Tensor], b: list[Tensor]) -> None:
    torch.testing.assert_close(a, b, rtol=0, atol=0)


FED = [(0, 1.0), (1, 0.3), (0, 1.1), (2, 4.0), (1, 0.2)]  # order, scale of the view


@pytest.mark.parametrize("order", [0, 1, 2, 3])
@pytest.mark.parametrize("momentum", [0.1, None])
def test_an_order_s_statistics_are_those_of_a_network_that_saw_it_alone(
    order: int, momentum: float | None
) -> None:
    each, alone = network(), network("shared")
    for module in (*each.modules(), *alone.modules()):
        if isinstance(module, nn.BatchNorm3d):
            module.momentum = momentum
    for seed, (of, scale) in enumerate(FED):
        feed(each, view(seed, scale), of)
        if of == order:
            alone(view(seed, scale))
    assert_equal(statistics(each, order), statistics(alone, 0))


def test_training_gives_the_same_features_and_gradients_as_shared() -> None:
    each, shared = network(), network("shared")
    results = []
    for module in (each, shared):
        a, b = view(0), view(1, 0.2)
        with known_orders((a, 0), (b, 1)):
            loss = (module(a) * module(b)).sum()
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in module.parameters())])
    assert_equal(*results)


def test_in_evaluation_a_view_has_its_order_s_statistics_and_frames_are_the_default() -> None:
    each = network()
    alone = {order: network("shared") for order in (0, 1)}
    for seed in range(5):
        for order, scale in ((0, 1.0), (1, 0.2)):
            feed(each, view(seed, scale), order)
            alone[order](view(seed, scale))
    for module in (each, *alone.values()):
        module.eval()
    x = view(9)
    for order in (0, 1):
        assert torch.equal(feed(each, x, order), alone[order](x))
    assert torch.equal(each(x), alone[0](x))
    assert not torch.equal(each(x), alone[1](x))


@pytest.mark.parametrize(
    ("shown", "asked", "used"), [((0,), 1, 0), ((1,), 0, 1), ((0, 2), 1, 0), ((1, 2), 5, 2)]
)
def test_an_order_that_training_never_showed_has_the_nearest_one_s(
    shown: tuple[int, ...], asked: int, used: int
) -> None:
    each = network()
    for order in shown:
        feed(each, view(order, 1 + order), order)
    each.eval()
    assert torch.equal(feed(each, view(7), asked), feed(each, view(7), used))
    assert not torch.equal(feed(each, view(7), asked), feed(network().eval(), view(7), asked))


def test_what_is_no_view_as_it_was_given_is_refused_where_orders_differ() -> None:
    a, b = view(0), view(1)
    with known_orders((a, 0), (b, 1)), pytest.raises(ValueError, match=r"orders \[0, 1\]"):
        network()(torch.cat([a, b]))
    with known_orders((a, 1), (b, 1)):
        module = network()
        module(torch.cat([a, b]))
    fed = network()
    feed(fed, torch.cat([a, b]), 1)
    assert_equal(statistics(module, 1), statistics(fed, 1))
    with known_orders((a, 0), (b, 1)):
        network("shared")(torch.cat([a, b]))


def test_a_pass_that_fails_leaves_frames_where_they_were() -> None:
    module = network()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(RuntimeError):
        feed(module, torch.zeros(2, 4, 4, 16, 16), 1)
    torch.testing.assert_close(module.state_dict(), before, rtol=0, atol=0)
    with pytest.raises(ValueError, match="order: 10 is not valid; it is 0 to 9"):
        feed(module, view(0), MOST_ORDER + 1)


@pytest.mark.parametrize("order", [MOST_ORDER, MOST_ORDER + 1])
def test_there_are_as_many_orders_as_a_configuration_allows(order: int) -> None:
    values = {"schedule": {"order": order}, "clip": {"extra_frames": order}}
    if order > MOST_ORDER:
        with pytest.raises(ValueError, match="schedule"):
            Config.model_validate(values)
    else:
        Config.model_validate(values)


@pytest.mark.parametrize("name", BACKBONES)
def test_every_backbone_separates_all_its_normalisations_and_shared_has_no_more_names(
    name: str,
) -> None:
    with torch.device("meta"):
        each, shared = network("per_order", name), network("shared", name)
    norms = [m for m in each.modules() if isinstance(m, nn.BatchNorm3d)]
    added = set(each.state_dict()) - set(shared.state_dict())
    assert len(added) == 3 * len(norms) > 0
    assert all(n.endswith(SUFFIX) for n in added)
    assert list(shared.state_dict()) == [n for n in each.state_dict() if n not in added]


def test_the_momentum_of_s3d_is_that_of_every_order() -> None:
    module = network("per_order", "s3d", norm_momentum=0.5)
    clips = torch.randn(2, 3, 8, 32, 32)
    norm = next(m for m in module.modules() if isinstance(m, nn.BatchNorm3d))
    outputs: list[Tensor] = []
    norm.register_forward_pre_hook(lambda _, inputs: outputs.append(inputs[0].detach()))
    with torch.no_grad():
        feed(module, clips, 2)
    mean = outputs[0].mean(dim=(0, 2, 3, 4))
    torch.testing.assert_close(norm.running_mean_by_order[1], 0.5 * mean)  # type: ignore[index]
    assert not norm.running_mean.any()  # type: ignore[operator]


def test_memory_layout_copies_and_pickles_keep_it() -> None:
    module = network().to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    feed(module, view(0).contiguous(memory_format=torch.channels_last_3d), 1)
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        feed(other, view(1), 1)
        changed = statistics(other, 1)[2::3]
        assert all(int(count) == 2 for count in changed)
        assert all(int(count) == 1 for count in statistics(module, 1)[2::3])
        other.eval()


@pytest.mark.parametrize("convert", [synchronise_batch_norm, torch_s_sync_batch_norm])
def test_synchronised_normalisation_keeps_the_orders(convert: Callable[..., nn.Module]) -> None:
    plain = network()
    feed(plain, view(0, 0.2), 1)
    feed(plain, view(1), 0)
    twin = convert(copy.deepcopy(plain))
    torch.testing.assert_close(twin.state_dict(), plain.state_dict(), rtol=0, atol=0)
    assert list(twin.state_dict()) == list(plain.state_dict())
    for module in (twin, plain):
        module.eval()
    for order in (0, 1):
        assert torch.equal(feed(twin, view(5), order), feed(plain, view(5), order))


def test_byol_s_target_has_statistics_of_its_own_for_each_order() -> None:
    backbone = network()
    byol = OBJECTIVES["byol"](backbone, 16, hidden=8, out=4)  # type: ignore[call-arg]
    a, b = view(0), view(1, 0.2)
    with torch.no_grad():
        for parameter in byol.target[0].parameters():  # type: ignore[index]
            parameter.mul_(1.5)
    with known_orders((a, 2), (b, 1)):
        byol(a, b)
    for module, factor in ((backbone, 1.0), (byol.target[0], 1.5)):  # type: ignore[index]
        expected = network("shared")
        with torch.no_grad():
            for parameter in expected.parameters():
                parameter.mul_(factor)
        expected(b)
        assert_equal(statistics(module, 1), statistics(expected, 0))
        assert all(int(count) == 0 for count in statistics(module, 0)[2::3])


# --- Weights from a file --------------------------------------------------------------------------


@pytest.mark.parametrize("into", ["shared", "per_order"])
@pytest.mark.parametrize("of", ["shared", "per_order"])
def test_weights_of_a_run_go_into_either_kind(of: str, into: str, tmp_path: Path) -> None:
    trained = network(of)
    feed(trained, view(0), 0)
    feed(trained, view(1, 3.0), 1)
    save_file(trained.state_dict(), tmp_path / "w.safetensors")
    loaded = network(into)
    load_weights(loaded, str(tmp_path / "w.safetensors"))
    for module in (trained, loaded):
        module.eval()
    assert torch.equal(loaded(view(5)), trained(view(5)))
    # A network of one set has it for all orders, also where it was written into one of several.
    of_velocity = trained if into == "per_order" else loaded
    assert torch.equal(feed(loaded, view(5), 1), feed(of_velocity, view(5), 1))
    assert torch.equal(feed(loaded, view(5), 1), loaded(view(5))) == ("shared" in (of, into))


# --- Whole runs -----------------------------------------------------------------------------------


def run(config: Config, folder: Path) -> ShardSet:
    shards = ensure_prepared(config)
    run_cell(config, {"arm": "a"}, folder, shards, local_stream(shards), LocalContext())
    return shards


def measured(folder: Path) -> dict[str, Any]:

    result = plain(folder / "result.json")
    return {k: v for k, v in result.items() if k.startswith(("retrieval", "silhouette", "feat"))}


def test_a_run_on_frames_alone_is_that_of_shared_bit_for_bit(
    tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    changes = {
        **SETS,
        "schedule.order": 0,
        "evaluation.orders": [0, 1],
        "evaluation.online.every": 1,
    }
    folders = {norm: tmp_path / norm for norm in ("shared", "per_order")}
    for norm, folder in folders.items():
        run(make_config({**changes, "backbone.norm": norm}), folder)
    one, other = (load_file(folder / "encoder.safetensors") for folder in folders.values())
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert measured(folders["shared"]) == measured(folders["per_order"])
    assert not any(name.endswith(SUFFIX) for name in one)


@pytest.fixture(scope="module")
def by_order(
    tmp_path_factory: pytest.TempPathFactory, make_config: Callable[..., Config]
) -> tuple[Path, ShardSet]:
    """A run whose every step shows frames and velocity."""
    folder = tmp_path_factory.mktemp("runs") / "a-s0"
    changes = {**SETS, "schedule.order": 1, "schedule.weights": {"0-1": 1.0}}
    changes |= {"schedule.selection": "weighted", "schedule.mix": None}
    return folder, run(make_config({**changes, "backbone.norm": "per_order"}), folder)


def test_a_run_s_encoder_comes_back_for_frames_and_for_other_orders(
    by_order: tuple[Path, ShardSet],
) -> None:
    folder, _ = by_order
    state, encoder = load_file(folder / "encoder.safetensors"), load_encoder(folder)
    torch.testing.assert_close(dict(encoder.state_dict()), state, rtol=0, atol=0)
    steps = {int(count) for count in statistics(encoder, 0)[2::3]}
    assert steps == {int(count) for count in statistics(encoder, 1)[2::3]} != {0}
    assert {int(count) for count in statistics(encoder, 2)[2::3]} == {0}

    of_frames = network("shared")
    of_velocity = network("shared")
    names = [name for name in state if not name.endswith(SUFFIX)]
    of_frames.load_state_dict({name: state[name] for name in names})
    of_velocity.load_state_dict(
        {name: state.get(f"{name}{SUFFIX}", state[name][None])[0] for name in names}
        | {name: state[name] for name in names if f"{name}{SUFFIX}" not in state}
    )
    x = view(3)
    assert torch.equal(encoder(x), of_frames.eval()(x))
    assert torch.equal(feed(encoder, x, 1), of_velocity.eval()(x))
    assert not torch.equal(encoder(x), feed(encoder, x, 1))


def test_evaluation_of_an_order_feeds_it_with_its_statistics(
    by_order: tuple[Path, ShardSet],
) -> None:
    """Features of velocity change with its statistics alone, those of frames with theirs."""
    folder, shards = by_order
    encoder = load_encoder(folder)
    look = FeatureView(16, 0.75, 0, (0, 1), 4)
    plan = statistics_plan(shards, 5, 1, 0)
    batch = next(iter(local_stream(shards)(plan, 0)))
    before = look(encoder, batch)
    for module in encoder.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean_by_order[0] += 1  # type: ignore[index]
    after = look(encoder, batch)
    assert (after["intact"] == before["intact"]).all()
    assert (after["order_1"] != before["order_1"]).any()


def test_recomputed_statistics_are_the_same_as_of_a_shared_network_with_its_weights(
    by_order: tuple[Path, ShardSet],
) -> None:
    folder, shards = by_order
    each, shared = load_encoder(folder), network("shared")
    shared.load_state_dict({n: t for n, t in each.state_dict().items() if not n.endswith(SUFFIX)})
    look = FeatureView(16, 0.75, 0, (0, 1), 4)
    plan = statistics_plan(shards, 5, 1, 0)
    results = []
    for encoder in (each, shared):
        copies = recomputed(encoder, local_stream(shards)(plan, 0), len(plan), look)
        results.append(look(copies, next(iter(local_stream(shards)(plan, 0)))))
    for name in ("intact", "order_1"):
        assert (results[0][name] == results[1][name]).all()
    assert statistics(each, 1)  # it keeps its own


def test_a_stopped_run_goes_on_with_the_statistics_of_every_order(
    by_order: tuple[Path, ShardSet], tmp_path: Path, make_config: Callable[..., Config]
) -> None:
    from vididi.components import build_state, read_run_config
    from vididi.experiment import _restore
    from vididi.runs.run_folder import RunFolder

    folder, _ = by_order
    config = read_run_config(folder)
    state = build_state(config)
    _restore(state, RunFolder(folder), LocalContext())
    torch.testing.assert_close(
        dict(state.objective.backbone.state_dict()),
        load_file(folder / "encoder.safetensors"),
        rtol=0,
        atol=0,
    )


def test_names_have_it_only_where_it_differs_from_before(
    make_config: Callable[..., Config],
) -> None:
    before, same, other = (
        make_config(changes)
        for changes in ({}, {"backbone.norm": "shared"}, {"backbone.norm": "per_order"})
    )
    assert before.identity("0" * 64) == same.identity("0" * 64) != other.identity("0" * 64)
