"""Both views in one pass of a network: each is normalised by its own batch, as in a pass for each."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vididi.backbones import BACKBONES, known_orders
from vididi.backbones.view_passes import ONE_UP_TO, normalised_apart, one_pass_is_faster
from vididi.components import build_state, resolve
from vididi.config import Config, build_config
from vididi.data.stream import local_stream
from vididi.errors import ConfigError
from vididi.experiment import run_cell
from vididi.objectives import OBJECTIVES
from vididi.objectives.simclr import SimCLR
from vididi.runs.readers import read_config, read_metrics
from vididi.training.context import LocalContext

Values = dict[str, Any]


def views(frames: int = 8, size: int = 17) -> tuple[Tensor, Tensor]:
    """Unlike each other, and of unlike numbers of clips."""
    generator = torch.Generator().manual_seed(0)
    kind: Values = {"generator": generator, "dtype": torch.float64}
    shape = (3, frames, size, size)
    return torch.randn(3, *shape, **kind), 3 * torch.randn(2, *shape, **kind) + 1


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("norm", ["shared", "per_order"])
def test_features_gradients_and_statistics_are_those_of_a_pass_for_each(
    name: str, norm: str
) -> None:
    view_a, view_b = views()
    found = []
    for at_once in (False, True):
        torch.manual_seed(0)
        network, _ = BACKBONES[name](norm=norm)
        network.double().train()
        with known_orders((view_a, 2), (view_b, 0)):
            if at_once:
                with normalised_apart([network], view_a, view_b) as both:
                    features = network(both)
            else:
                features = torch.cat([network(view_a), network(view_b)])
        (features * torch.linspace(-1, 1, features.numel()).view_as(features)).sum().backward()
        gradients = {key: p.grad for key, p in network.named_parameters()}
        found.append((features.detach(), gradients, dict(network.named_buffers())))
    torch.testing.assert_close(found[1], found[0], rtol=1e-9, atol=1e-9)


def test_it_keeps_the_memory_format() -> None:
    clips = [view.contiguous(memory_format=torch.channels_last_3d) for view in views()]
    norm = nn.BatchNorm3d(3).double()
    with normalised_apart([norm], *clips) as both:
        assert both.is_contiguous(memory_format=torch.channels_last_3d)
        assert norm(both).is_contiguous(memory_format=torch.channels_last_3d)


def test_normalisations_are_what_they_were_afterwards() -> None:
    network = nn.Sequential(nn.BatchNorm3d(3), nn.Flatten(), nn.BatchNorm1d(3 * 8 * 17 * 17))
    network.double()
    names = [set(vars(module)) for module in network.modules()]
    with pytest.raises(ZeroDivisionError), normalised_apart([network], *views()):
        raise ZeroDivisionError
    assert [set(vars(module)) for module in network.modules()] == names
    # In evaluation there is nothing to keep apart.
    network.eval()
    with normalised_apart([network], *views()) as both:
        assert [set(vars(module)) for module in network.modules()] == names
        features = network(both)
    assert torch.equal(features, torch.cat([network(view) for view in views()]))


class TimeInTheBatch(nn.Module):
    """Pictures of a clip as rows of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, clips: Tensor) -> Tensor:
        return self.norm(clips.transpose(1, 2).flatten(0, 1))


def test_rows_that_are_no_clips_are_refused() -> None:
    network = TimeInTheBatch().double()
    with (
        normalised_apart([network], *views()) as both,
        pytest.raises(ValueError, match=r"^view_passes: 'one' is not valid with .* 40 rows of 5"),
    ):
        network(both)


def test_views_of_unlike_lengths_are_refused() -> None:
    view_a, view_b = views()
    with (
        pytest.raises(ValueError, match=r"^view_passes: 'one' is not valid for views of shapes"),
        normalised_apart([], view_a, view_b[:, :, 1:]),
    ):
        pass


def of(backbone: str, size: int, **training: Any) -> Config:
    values = {
        "backbone": {"name": backbone},
        "clip": {"size": size, "frames": 8},
        "training": training,
    }
    return build_config(values)


@pytest.mark.parametrize(
    ("backbone", "size", "batch", "workers", "gpu", "given"),
    [
        ("r3d_tiny", 32, 40, 1, False, "one"),
        ("r3d_tiny", 32, 40, 1, True, "two"),
        ("r3d_18", 32, 8, 1, False, "one"),
        ("r3d_18", 32, 16, 1, False, "two"),
        ("r3d_18", 32, 16, 2, False, "one"),
        ("r3d_18", 112, 8, 1, False, "two"),
    ],
)
def test_what_is_faster_follows_from_backbone_batch_and_kind_of_device(
    backbone: str, size: int, batch: int, workers: int, gpu: bool, given: str
) -> None:
    config = resolve(of(backbone, size, batch_size=batch), workers, gpu)
    assert config.training.view_passes == given
    assert build_state(config).objective.view_passes == given
    assert "mine" not in ONE_UP_TO
    assert not one_pass_is_faster("mine", 1, gpu)


@pytest.mark.parametrize("asked", ["one", "two"])
def test_what_is_asked_for_is_done(asked: str) -> None:
    config = resolve(of("r3d_tiny", 32, view_passes=asked), gpu=True)
    assert build_state(config).objective.view_passes == asked


class OnePassEach(SimCLR):
    """An objective that takes views one by one."""

    takes_one_pass = False


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"clip": {"view_length": "shrinking"}}, "clip.view_length 'shrinking'"),
        ({"objective": {"name": "mine"}}, "objective 'mine'"),
    ],
)
def test_where_it_cannot_be_it_is_refused_and_never_chosen(
    values: Values, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(OBJECTIVES, "mine", OnePassEach)  # type: ignore[arg-type]
    values = {"backbone": {"name": "r3d_tiny"}, **values}
    asked = build_config({**values, "training": {"view_passes": "one"}})
    with pytest.raises(ConfigError, match=rf"^training.view_passes: 'one' is not valid .*{told}"):
        resolve(asked)
    values["clip"] = {"size": 16, **values.get("clip", {})}
    assert resolve(build_config(values)).training.view_passes == "two"
    assert resolve(build_config({**values, "training": {"view_passes": "two"}}))


def test_losses_and_name_of_a_cell_do_not_depend_on_it(
    tmp_path: Any, make_config: Callable[..., Any], tiny_shards: Any, monkeypatch: Any
) -> None:
    fed: list[int] = []
    forward = nn.Conv3d.forward

    def look(self: nn.Conv3d, clips: Tensor) -> Tensor:
        if self.in_channels == 3 and torch.is_grad_enabled():
            fed.append(len(clips))
        return forward(self, clips)

    monkeypatch.setattr(nn.Conv3d, "forward", look)
    losses, names, passes = [], set(), {}
    for asked in ("one", "two"):
        config = make_config({"training.epochs": 2, "training.view_passes": asked})
        run, stream = tmp_path / asked, local_stream(tiny_shards)
        fed.clear()
        run_cell(config, {}, run, tiny_shards, stream, LocalContext())
        assert read_config(run)["training"]["view_passes"] == asked
        passes[asked] = len(fed), set(fed)
        losses.append([record["train/loss"] for record in read_metrics(run)])
        names.add(config.identity("data"))
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(names) == 1
    batch = config.training.batch_size
    assert passes["two"] == (2 * passes["one"][0], {batch})
    assert passes["one"][1] == {2 * batch}
