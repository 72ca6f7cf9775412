"""The same numbers on a GPU as on a CPU. Skipped where there is no GPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vididi.backbones import BACKBONES, MINIMUM
from vididi.data.stream import Batch
from vididi.draws import Use, key, uniform
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import LARS
from vididi.pairing import SCHEDULES
from vididi.training.context import LocalContext
from vididi.training.loop import PretrainFit, State, train
from vididi.views import AUGMENTATIONS, make_view

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

CUDA, CPU = torch.device("cuda"), torch.device("cpu")
SIZES: dict[str, dict[str, Any]] = {
    **{name: {"hidden": 32, "out": 16} for name in OBJECTIVES},
    "corp_f": {"hidden": 32, "out": 16, "symmetric": 8, "antisymmetric": 8},
    "corp_m": {"hidden": 32, "out": 16, "symmetric": 8, "antisymmetric": 8, "group": 4},
}
VIDEOS = 8


@pytest.fixture(autouse=True)
def whole_floats() -> Iterator[None]:
    """TensorFloat-32 keeps ten bits of a float32's product; off for the comparison."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def make_objective(name: str, backbone: str = "r3d_tiny") -> Objective:
    torch.manual_seed(0)
    network, width = BACKBONES[backbone]()
    make: Any = OBJECTIVES[name]
    return make(network, width, **SIZES[name]).train()


def make_inputs(name: str) -> tuple[Tensor, Tensor, Tensor]:
    clips = OBJECTIVES[name].default_clips
    generator = torch.Generator().manual_seed(1)
    views = torch.randn(2, VIDEOS * clips // 2, 3, 4, 16, 16, generator=generator)
    starts = torch.rand(VIDEOS, clips, generator=generator).argsort(dim=1) * 10
    return views[0], views[1], starts


def losses_and_gradients(
    objective: Objective, name: str, device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, dict[str, Tensor]]:
    a, b, starts = make_inputs(name)
    objective = copy.deepcopy(objective).to(device, dtype)
    loss = objective(a.to(device, dtype), b.to(device, dtype), starts)["loss"]
    loss.backward()
    return loss.detach().cpu(), {
        n: p.grad.cpu() for n, p in objective.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize(
    ("dtype", "tolerance"),
    [(torch.float64, 1e-9), (torch.float32, 1e-3)],
    ids=["float64", "float32"],
)
@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_and_gradients_equal_the_cpus(
    name: str, dtype: torch.dtype, tolerance: float
) -> None:
    """float64 to 1e-9 and float32 to 1e-3 of the largest gradient of each parameter."""
    objective = make_objective(name)
    found = losses_and_gradients(objective, name, CUDA, dtype)
    assert_close(found, losses_and_gradients(objective, name, CPU, dtype), tolerance)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_both_views_in_one_pass_equal_the_cpus_two(name: str) -> None:
    objective = make_objective(name)
    expected = losses_and_gradients(objective, name, CPU, torch.float64)
    objective.view_passes = "one"
    assert_close(losses_and_gradients(objective, name, CUDA, torch.float64), expected, 1e-9)


Found = tuple[Tensor, dict[str, Tensor]]


def assert_close(found: Found, wanted: Found, tolerance: float) -> None:
    """Of the loss relative, of gradients by the largest of all."""
    (loss, gradients), (expected_loss, expected) = found, wanted
    torch.testing.assert_close(loss, expected_loss, rtol=tolerance, atol=0)
    # Parameters in front of a normalisation have gradients of zero, give or take rounding.
    scale = max(float(g.abs().max()) for g in expected.values())
    for parameter, gradient in expected.items():
        torch.testing.assert_close(
            gradients[parameter],
            gradient,
            rtol=0,
            atol=tolerance * scale,
            msg=lambda m, p=parameter: f"{p}: {m}",
        )


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbones_equal_the_cpus(backbone: str) -> None:
    frames, pixels = (
        max(least, size) for least, size in zip(MINIMUM[backbone], (8, 32), strict=True)
    )
    torch.manual_seed(0)
    network, width = BACKBONES[backbone]()
    network.eval()
    clips = torch.randn(2, 3, frames, pixels, pixels)
    with torch.no_grad():
        expected = network(clips)
        found = network.to(CUDA, memory_format=torch.channels_last_3d)(clips.to(CUDA)).cpu()
    assert found.shape == (2, width)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_views_equal_the_cpus(name: str, order: int) -> None:
    """Within 1e-3 of a normalised intensity (a quarter of a grey level), but for pixels that a
    threshold or a table rounds over.
    """
    clips = torch.randint(
        256, (6, 3, 6, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    sizes, keys, augment = (
        np.tile([[40, 50]], (6, 1)),
        key(Use.AUGMENT, 0, 0, np.arange(6), 0),
        AUGMENTATIONS[name](32),
    )
    expected = make_view(clips, sizes, keys, order, 4, augment, 1)
    found = make_view(clips.to(CUDA), sizes, keys, order, 4, augment, 1).cpu()
    off = ((found - expected).abs() > 1e-3).float().mean()
    assert off < (0.02 if name == "randaugment" else 1e-4)


def make_batches(name: str, count: int) -> Iterator[Batch]:
    clips = OBJECTIVES[name].default_clips
    for number in range(count):
        rows = np.arange(VIDEOS)
        pixels = (uniform(key(Use.MOTION, number, rows), clips * 6 * 16 * 16 * 3) * 256).astype(
            np.uint8
        )
        starts = np.argsort(uniform(key(Use.CLIP, number, rows), clips), axis=1) * 10
        yield Batch(
            rows,
            np.tile([[16, 16]], (VIDEOS, 1)),
            starts,
            pixels.reshape(VIDEOS, clips, 6, 16, 16, 3),
        )


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_loop_trains_on_a_gpu(name: str, precision: str) -> None:
    """Eight steps through all pairs of ViDiDi's cycle; every loss finite, every trained parameter
    moved, bf16 near fp32.
    """
    objective = make_objective(name).to(CUDA)
    before = {n: p.detach().clone() for n, p in objective.named_parameters()}
    state = State(objective, LARS([p for p in objective.parameters() if p.requires_grad], lr=0.5))
    job = PretrainFit(
        schedule=SCHEDULES["vididi"],
        augment=AUGMENTATIONS["vididi"](16),
        frames=4,
        seed=0,
        epochs=4,
        steps_per_epoch=2,
        warmup_epochs=0,
        cosine="remaining",
        precision=precision,
        view_length="constant",
    )
    logs: list[dict] = []
    train(
        state,
        make_batches(name, job.steps),
        job,
        LocalContext(device=CUDA),
        lambda metrics, epoch: logs.append(metrics),
    )
    assert [np.isfinite(log["train/loss"]) for log in logs] == [True] * 4
    assert not [n for n, p in objective.named_parameters() if torch.equal(p, before[n])]
