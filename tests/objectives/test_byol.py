"""BYOL's loss against ViDiDi eq. 2 with s_ii, its target network, and the module that trains with
them.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.objectives import BYOL, byol_regression
from vididi.objectives.byol import target_momentum


def embeddings(batch: int = 6, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    prediction, target = torch.randn(
        2, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return 0.7 * prediction + 0.2, 1.5 * target - 0.1


def regression_by_loop(prediction: NDArray, target: NDArray) -> float:
    """Eq. 2, with s_ii where the print has s_ij."""
    total = 0.0
    for z, t in zip(prediction, target, strict=True):
        total += 2 - 2 * sum(z * t) / (np.sqrt(sum(z**2)) * np.sqrt(sum(t**2)))
    return total / (2 * len(prediction))


@pytest.mark.parametrize(("batch", "width"), [(6, 5), (1, 3), (4, 9), (3, 1)])
def test_loss_agrees_with_a_loop(batch: int, width: int) -> None:
    prediction, target = embeddings(batch, width)
    expected = regression_by_loop(prediction.numpy(), target.numpy())
    assert byol_regression(prediction, target).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("cosine", "loss"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 2.0), (0.6, 0.4)])
def test_loss_of_views_at_a_known_angle(cosine: float, loss: float) -> None:
    """Identical (or collapsed), orthogonal, opposite views, and an angle in between."""
    z = torch.tensor([[1.0, 0.0]] * 4, dtype=torch.float64)
    target = 3 * torch.tensor([[cosine, math.sqrt(1 - cosine**2)]] * 4, dtype=torch.float64)
    assert byol_regression(z, target).item() == pytest.approx(loss, abs=1e-12)


def test_loss_does_not_change_with_places_or_lengths() -> None:
    prediction, target = embeddings()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    expected = byol_regression(prediction, target)
    torch.testing.assert_close(byol_regression(target, prediction), expected)
    torch.testing.assert_close(byol_regression(prediction[order], target[order]), expected)
    torch.testing.assert_close(byol_regression(7 * prediction, 0.1 * target), expected)


def test_gradcheck() -> None:
    prediction, target = embeddings(4, 3)
    assert torch.autograd.gradcheck(byol_regression, (prediction.requires_grad_(), target))


def test_loss_is_float32_under_autocast_and_for_half_precision() -> None:
    prediction, target = (z.float() for z in embeddings())
    expected = byol_regression(prediction, target)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(byol_regression(prediction, target), expected)
    half = prediction.bfloat16(), target.bfloat16()
    torch.testing.assert_close(
        byol_regression(*half), byol_regression(half[0].float(), half[1].float())
    )


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((0, 4), (0, 4), r"^prediction, target: a batch of 0; .* at least 1"),
        ((4, 3), (4, 5), r"^prediction, target: shapes \(4, 3\) and \(4, 5\); .* same \[B, D\]"),
        ((4,), (4,), r"^prediction, target: .* \[B, D\]"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        byol_regression(torch.zeros(shape_a), torch.zeros(shape_b))


def test_embeddings_that_are_not_finite_are_refused() -> None:
    prediction, target = embeddings()
    target[0, 0] = math.inf
    with pytest.raises(ValueError, match=r"^target: 1 of 30 values are not finite"):
        byol_regression(prediction, target)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 0.99), (50, 0.995), (25, 1 - 0.01 * (math.sqrt(0.5) + 1) / 2), (100, 1.0)],
)
def test_target_momentum_goes_from_its_base_to_one(step: int, expected: float) -> None:
    """E.3: tau = 1 - (1 - tau_base) (cos(pi k / K) + 1) / 2, with K = 100."""
    assert target_momentum(step, 100, 0.99) == pytest.approx(expected, abs=1e-15)


def make_byol(**options: Any) -> BYOL:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.BatchNorm1d(10), nn.ReLU())
    return BYOL(backbone, 10, hidden=8, out=7, **options).double()


def make_views(batch: int = 6) -> tuple[Tensor, Tensor]:
    view_a, view_b = torch.randn(
        2, batch, 3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    return view_a, 2 * view_b + 1


def step_online(model: BYOL) -> None:
    """Move the online network away from its target."""
    with torch.no_grad():
        for p in [
            *model.backbone.parameters(),
            *model.projector.parameters(),
            *model.predictor.parameters(),
        ]:
            p.add_(0.3)


def online(model: BYOL) -> list[Tensor]:
    return [
        p.detach().clone()
        for module in (model.backbone, model.projector)
        for p in module.parameters()
    ]


def copies(tensors: Any) -> list[Tensor]:
    return [tensor.detach().clone() for tensor in tensors]


@pytest.mark.parametrize(("scale", "factor"), [("half", 1), ("full", 2)])
def test_the_module_is_eq_2_in_both_directions_summed(scale: str, factor: int) -> None:
    model, (view_a, view_b) = make_byol(scale=scale), make_views()
    step_online(model)
    prediction_a, prediction_b = (
        model.predictor(model.projector(model.backbone(view))).detach().numpy()
        for view in (view_a, view_b)
    )
    target_a, target_b = (model.target(view).numpy() for view in (view_a, view_b))
    expected = regression_by_loop(prediction_a, target_b) + regression_by_loop(
        prediction_b, target_a
    )
    assert model(view_a, view_b)["loss"].item() == pytest.approx(factor * expected, rel=1e-12)


def test_swapping_the_views_does_not_change_the_loss() -> None:
    model, (view_a, view_b) = make_byol(), make_views()
    torch.testing.assert_close(model(view_a, view_b)["loss"], model(view_b, view_a)["loss"])


def test_the_online_network_and_only_it_gets_a_gradient() -> None:
    model = make_byol()
    model(*make_views())["loss"].backward()
    # Weights only: a bias that a batch normalisation follows, even behind another layer, has no
    # effect.
    weights = [
        p
        for module in (model.backbone, model.projector, model.predictor)
        for p in module.parameters()
        if p.ndim == 2
    ]
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in weights)
    assert all(p.grad is None and not p.requires_grad for p in model.target.parameters())


def test_the_target_begins_as_a_copy_of_the_online_network() -> None:
    model = make_byol()
    assert all(
        torch.equal(t, o) for t, o in zip(model.target.parameters(), online(model), strict=True)
    )
    assert not {id(p) for p in model.target.parameters()} & {
        id(p) for p in model.backbone.parameters()
    }


def test_the_target_is_in_training_mode_with_batch_statistics_of_its_own() -> None:
    model = make_byol().train()
    assert all(module.training for module in model.target.modules())
    step_online(model)
    before = copies(model.target.buffers())
    model(*make_views())
    assert all(not torch.equal(b, a) for b, a in zip(before, model.target.buffers(), strict=True))
    mine, its = model.projector[1].running_mean, model.target[1][1].running_mean  # type: ignore[index]
    assert not torch.allclose(mine, its)  # type: ignore[arg-type]


@pytest.mark.parametrize("step", [0, 3, 9])
def test_after_a_step_the_target_is_the_moving_average_of_parameters_only(step: int) -> None:
    """D.3: xi <- tau xi + (1 - tau) theta, with tau of E.3; buffers and the online network stay as
    they are.
    """
    model = make_byol(momentum=0.9)
    step_online(model)
    target, theta = copies(model.target.parameters()), online(model)
    buffers, everything = copies(model.buffers()), copies(model.predictor.parameters())
    model.after_step(step, 10)
    tau = 1 - (1 - 0.9) * (math.cos(math.pi * step / 10) + 1) / 2
    torch.testing.assert_close(
        list(model.target.parameters()),
        [tau * t + (1 - tau) * o for t, o in zip(target, theta, strict=True)],
    )
    torch.testing.assert_close(list(model.buffers()), buffers, rtol=0, atol=0)
    torch.testing.assert_close(
        online(model) + copies(model.predictor.parameters()), theta + everything, rtol=0, atol=0
    )


@pytest.mark.parametrize(
    ("momentum", "step", "kept"), [(1.0, 0, True), (0.9, 10, True), (0.0, 0, False)]
)
def test_the_ends_of_the_moving_average(momentum: float, step: int, kept: bool) -> None:
    """With tau = 1 the target stays, with tau = 0 it is the online network."""
    model = make_byol(momentum=momentum)
    before = copies(model.target.parameters())
    step_online(model)
    model.after_step(step, 10)
    torch.testing.assert_close(copies(model.target.parameters()), before if kept else online(model))


def test_the_momentum_begins_at_0_99() -> None:
    """E.3."""
    model = make_byol()
    before = copies(model.target.parameters())
    step_online(model)
    model.after_step(0, 10)
    torch.testing.assert_close(copies(model.target.parameters()), [p + 0.01 * 0.3 for p in before])


def test_projector_and_predictor_are_two_layers_4096_wide_and_256_out() -> None:
    """E.2."""
    with torch.device("meta"):
        model = BYOL(nn.Identity(), 512)
    assert [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2] == [
        (4096, 512),
        (256, 4096),
    ]
    assert [tuple(p.shape) for p in model.predictor.parameters() if p.ndim == 2] == [
        (4096, 256),
        (256, 4096),
    ]


def test_target_std_tells_spread_embeddings_from_collapsed_ones() -> None:
    model = BYOL(nn.Identity(), 64, hidden=4, out=64, hidden_layers=0)
    model.target = nn.Sequential(nn.Identity())
    spread = torch.randn(256, 64, generator=torch.Generator().manual_seed(0))
    assert model(spread, spread)["target_std"].item() == pytest.approx(1, abs=0.02)
    assert model(torch.ones(8, 64), torch.ones(8, 64))["target_std"].item() == pytest.approx(
        0, abs=1e-6
    )


@pytest.mark.parametrize("momentum", [-0.1, 1.1, math.nan])
def test_a_momentum_outside_0_to_1_is_refused(momentum: float) -> None:
    with pytest.raises(ValueError, match=r"^momentum: .* \[0, 1\]"):
        make_byol(momentum=momentum)


def test_an_unknown_scale_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^scale: 'double' is not valid; it is 'half' .* or 'full'"
    ):
        make_byol(scale="double")


def test_views_that_do_not_fit_are_refused() -> None:
    model, (view_a, view_b) = make_byol(), make_views()
    with pytest.raises(ValueError, match=r"^view_a, view_b: shapes .* both must be the same"):
        model(view_a, view_b[:4])
    with pytest.raises(ValueError, match=r"^view_a: a batch of 1; .* at least 2"):
        model(view_a[:1], view_b[:1])
