"""VICReg's terms against ViDiDi eqs. 3-6, and the module that trains with them."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vididi.backbones.r3d_tiny import r3d_tiny
from vididi.objectives import VICReg, vicreg_terms
from vididi.optim import OPTIMISERS

pytestmark = pytest.mark.usefixtures("one_thread")


def embeddings(batch: int = 7, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z_a, z_b = torch.randn(2, batch, width, dtype=torch.float64, generator=generator)
    return 0.7 * z_a + 3, 1.2 * z_b - 1


def invariance_by_loop(z_a: NDArray, z_b: NDArray) -> float:
    """Eq. 3, but the mean over all elements as in VICReg's code."""
    batch, width = z_a.shape
    return sum((z_a[i, d] - z_b[i, d]) ** 2 for i in range(batch) for d in range(width)) / (
        batch * width
    )


def variance_by_loop(z: NDArray, gamma: float, eps: float) -> float:
    """Eq. 4."""
    batch, width = z.shape
    total = 0.0
    for d in range(width):
        mean = sum(z[:, d]) / batch
        variance = sum((value - mean) ** 2 for value in z[:, d]) / (batch - 1)
        total += max(0.0, gamma - np.sqrt(variance + eps))
    return total / width


def covariance_by_loop(z: NDArray) -> float:
    """Eq. 5."""
    batch, width = z.shape
    mean = z.sum(axis=0) / batch
    matrix = sum(np.outer(row - mean, row - mean) for row in z) / (batch - 1)
    return sum(matrix[i, j] ** 2 for i in range(width) for j in range(width) if i != j) / width


@pytest.mark.parametrize(("batch", "width"), [(7, 5), (2, 3), (5, 12), (9, 1)])
@pytest.mark.parametrize(("gamma", "eps"), [(1.0, 1e-4), (2.0, 0.1)])
def test_terms_agree_with_a_loop(batch: int, width: int, gamma: float, eps: float) -> None:
    z_a, z_b = embeddings(batch, width)
    a, b = z_a.numpy(), z_b.numpy()
    invariance, variance, covariance = (term.item() for term in vicreg_terms(z_a, z_b, gamma, eps))
    assert invariance == pytest.approx(invariance_by_loop(a, b), rel=1e-12)
    assert variance == pytest.approx(
        variance_by_loop(a, gamma, eps) + variance_by_loop(b, gamma, eps), rel=1e-12
    )
    assert covariance == pytest.approx(
        covariance_by_loop(a) + covariance_by_loop(b), rel=1e-10, abs=1e-12
    )


def test_gamma_is_1_and_eps_1e_4_unless_told_otherwise() -> None:
    z_a, z_b = embeddings()
    assert vicreg_terms(z_a, z_b) == vicreg_terms(z_a, z_b, 1.0, 1e-4)


def test_identical_views_have_no_invariance_term() -> None:
    z, _ = embeddings()
    assert vicreg_terms(z, z.clone())[0] == 0


def test_views_that_differ_by_one_everywhere_have_invariance_one() -> None:
    z, _ = embeddings()
    assert vicreg_terms(z, z + 1)[0].item() == pytest.approx(1.0, rel=1e-12)


def test_collapsed_embeddings_have_the_full_variance_term_and_no_covariance() -> None:
    z = torch.full((6, 4), 0.3, dtype=torch.float64)
    _, variance, covariance = vicreg_terms(z, z)
    assert variance.item() == pytest.approx(2 * (1 - np.sqrt(1e-4)), rel=1e-12)
    assert covariance == 0


def test_spread_embeddings_have_no_variance_term() -> None:
    z, _ = embeddings()
    assert vicreg_terms(10 * z, 10 * z)[1] == 0


def test_whitened_columns_have_no_covariance_and_unit_variance() -> None:
    z, _ = embeddings(batch=12)
    centred = z - z.mean(dim=0)
    white = torch.linalg.qr(centred).Q * np.sqrt(11)
    _, variance, covariance = vicreg_terms(white, white, eps=1e-12)
    assert covariance.item() == pytest.approx(0.0, abs=1e-24)
    assert variance.item() == pytest.approx(0.0, abs=1e-11)


def test_two_equal_columns_have_the_covariance_of_their_variance() -> None:
    column = torch.tensor([[-1.0], [0.0], [1.0]], dtype=torch.float64)
    z = torch.cat([column, column], dim=1)
    assert vicreg_terms(z, z)[2].item() == pytest.approx(2 * (1.0 + 1.0) / 2)


def test_terms_do_not_change_when_the_views_or_the_videos_change_places() -> None:
    z_a, z_b = embeddings()
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    expected = vicreg_terms(z_a, z_b)
    torch.testing.assert_close(vicreg_terms(z_b, z_a), expected)
    torch.testing.assert_close(vicreg_terms(z_a[order], z_b[order]), expected)


@pytest.mark.parametrize("term", [0, 1, 2])
def test_gradcheck(term: int) -> None:
    z_a, z_b = (z.requires_grad_() for z in embeddings(5, 3))
    assert torch.autograd.gradcheck(lambda a, b: vicreg_terms(a, b, gamma=2.0)[term], (z_a, z_b))


def test_the_gradient_of_a_collapsed_batch_is_finite() -> None:
    z = torch.zeros(4, 3, requires_grad=True)
    sum(vicreg_terms(z, z)).backward()  # type: ignore[union-attr]
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_embeddings_give_float32_terms(dtype: torch.dtype) -> None:
    z_a, z_b = (z.to(dtype) for z in embeddings())
    terms = vicreg_terms(z_a, z_b)
    assert [term.dtype for term in terms] == [torch.float32] * 3
    assert terms == vicreg_terms(z_a.float(), z_b.float())


def test_terms_are_float32_under_autocast_too() -> None:
    z_a, z_b = (z.float() for z in embeddings())
    expected = vicreg_terms(z_a, z_b)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = vicreg_terms(z_a, z_b)
    assert [term.dtype for term in terms] == [torch.float32] * 3
    torch.testing.assert_close(terms, expected)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((1, 4), (1, 4), "batch of 1"),
        ((0, 4), (0, 4), "batch of 0"),
        ((4, 3), (4, 5), r"\(4, 3\) and \(4, 5\)"),
        ((4, 3), (5, 3), r"\(4, 3\) and \(5, 3\)"),
        ((4, 3, 1), (4, 3, 1), r"\[B, D\]"),
        ((4,), (4,), r"\[B, D\]"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        vicreg_terms(torch.zeros(shape_a), torch.zeros(shape_b))


@pytest.mark.parametrize(("which", "name"), [(0, "z_a"), (1, "z_b")])
def test_embeddings_that_are_not_finite_are_refused(which: int, name: str) -> None:
    z = embeddings()
    z[which][3, 2:4] = torch.tensor([torch.nan, torch.inf])
    with pytest.raises(ValueError, match=rf"^{name}: 2 of 35 values are not finite"):
        vicreg_terms(*z)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eps": 0.0}, r"^eps: 0.0 .* above 0"),
        ({"eps": -1e-4}, r"^eps: -0.0001 .* above 0"),
        ({"eps": float("inf")}, r"^eps: inf .* finite"),
        ({"gamma": -1.0}, r"^gamma: -1.0 .* at least 0"),
        ({"gamma": float("nan")}, r"^gamma: nan .* finite"),
    ],
)
def test_a_gamma_or_an_eps_that_cannot_be_is_refused(
    options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        vicreg_terms(*embeddings(), **options)
    with pytest.raises(ValueError, match=message):
        VICReg(torch.nn.Identity(), 4, **options)  # type: ignore[arg-type]


def make_vicreg(**options: Any) -> VICReg:
    torch.manual_seed(0)
    backbone, width = r3d_tiny(width=2)
    return VICReg(backbone, width, hidden=32, out=32, **options)


def make_views() -> tuple[Tensor, Tensor]:
    base, noise_a, noise_b = torch.randn(
        3, 8, 3, 4, 16, 16, generator=torch.Generator().manual_seed(0)
    )
    return base + 0.3 * noise_a, base + 0.3 * noise_b


def test_the_loss_is_the_weighted_sum_of_the_terms() -> None:
    backbone, width = r3d_tiny(width=2)
    model = VICReg(backbone, width, hidden=16, out=16, invariance=2.0, variance=3.0, covariance=0.5)
    terms = model(*make_views())
    assert set(terms) == {"loss", "invariance", "variance", "covariance"}
    torch.testing.assert_close(
        terms["loss"], 2 * terms["invariance"] + 3 * terms["variance"] + 0.5 * terms["covariance"]
    )


def test_the_coefficients_are_those_of_appendix_e3() -> None:
    terms = make_vicreg()(*make_views())
    torch.testing.assert_close(
        terms["loss"], terms["invariance"] + terms["variance"] + 0.05 * terms["covariance"]
    )


def test_the_projector_is_three_layers_of_2048() -> None:
    with torch.device("meta"):
        model = VICReg(torch.nn.Identity(), 512)
    shapes = [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2]
    assert shapes == [(2048, 512), (2048, 2048), (2048, 2048)]


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("halve", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_the_module_is_eq_6_of_its_projections(
    reduction: Literal["mean", "sum"], halve: bool, gamma: float
) -> None:
    """``sum`` is eq. 3 as printed, 1/B sum |z - z'|^2; ``halve_variance`` the mean of both
    branches' eq. 4.
    """
    model, views = (
        make_vicreg(invariance_reduction=reduction, halve_variance=halve, gamma=gamma).double(),
        make_views(),
    )
    a, b = (model.projector(model.backbone(view.double())).detach().numpy() for view in views)
    invariance = (
        np.mean([np.sum((x - y) ** 2) for x, y in zip(a, b, strict=True)])
        if reduction == "sum"
        else invariance_by_loop(a, b)
    )
    variance = (variance_by_loop(a, gamma, 1e-4) + variance_by_loop(b, gamma, 1e-4)) / (
        2 if halve else 1
    )
    covariance = covariance_by_loop(a) + covariance_by_loop(b)
    terms = {name: term.item() for name, term in model(*(view.double() for view in views)).items()}
    expected = {
        "loss": invariance + variance + 0.05 * covariance,
        "invariance": invariance,
        "variance": variance,
        "covariance": covariance,
    }
    assert terms == pytest.approx(expected, rel=1e-10)


def test_swapping_the_views_does_not_change_the_terms() -> None:
    model, (view_a, view_b) = make_vicreg(), make_views()
    torch.testing.assert_close(model(view_a, view_b), model(view_b, view_a))


@pytest.mark.parametrize("name", ["invariance", "variance", "covariance"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf")])
def test_a_coefficient_that_cannot_be_is_refused(name: str, value: float) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^{name}: {value} is not valid; it must be a finite number of at least 0",
    ):
        VICReg(torch.nn.Identity(), 4, **{name: value})  # type: ignore[arg-type]


def test_an_unknown_reduction_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"^invariance_reduction: 'none' is not valid; it is 'mean' or 'sum'"
    ):
        VICReg(torch.nn.Identity(), 4, invariance_reduction="none")  # type: ignore[arg-type]


def test_views_that_do_not_fit_are_refused() -> None:
    model, (view_a, view_b) = make_vicreg(), make_views()
    with pytest.raises(ValueError, match=r"^view_a, view_b: shapes .* both must be the same"):
        model(view_a, view_b[:4])
    with pytest.raises(ValueError, match=r"^view_a: a batch of 1; .* at least 2"):
        model(view_a[:1], view_b[:1])


@pytest.mark.parametrize(
    ("optimiser", "options"), [("lars", {"lr": 1.2, "trust": 0.01}), ("adamw", {"lr": 0.003})]
)
def test_training_on_one_batch_makes_the_loss_fall(
    optimiser: str, options: dict[str, float]
) -> None:
    model, views = make_vicreg(), make_views()
    steps = OPTIMISERS[optimiser](model.parameters(), **options)
    losses = []
    for _ in range(60):
        terms = model(*views)
        steps.zero_grad()
        terms["loss"].backward()
        steps.step()
        losses.append(terms["loss"].item())
    assert losses[-1] < 0.3 * losses[0]


def test_every_parameter_gets_a_gradient() -> None:
    model = make_vicreg()
    model(*make_views())["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())
