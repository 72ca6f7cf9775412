"""SimCLR's loss against ViDiDi eq. 1 with its minus sign, and the module that trains with it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.objectives import SimCLR, info_nce


def embeddings(batch: int = 6, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    z_a, z_b = torch.randn(
        2, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return 0.7 * z_a + 0.2, 1.5 * z_b - 0.1


def info_nce_by_loop(z_a: NDArray, z_b: NDArray, alpha: float) -> float:
    """Eq. 1 as printed, but for the minus sign that the print lost: negatives are those of the
    other view only.
    """
    batch = len(z_a)
    s = [
        [z_a[i] @ z_b[j] / (np.linalg.norm(z_a[i]) * np.linalg.norm(z_b[j])) for j in range(batch)]
        for i in range(batch)
    ]
    total = 0.0
    for i in range(batch):
        total += np.log(
            np.exp(s[i][i] / alpha) / sum(np.exp(s[i][j] / alpha) for j in range(batch))
        )
        total += np.log(
            np.exp(s[i][i] / alpha) / sum(np.exp(s[j][i] / alpha) for j in range(batch))
        )
    return -total / (2 * batch)


@pytest.mark.parametrize(("batch", "width"), [(6, 5), (2, 3), (4, 9), (3, 1)])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_loss_agrees_with_a_loop(batch: int, width: int, temperature: float) -> None:
    z_a, z_b = embeddings(batch, width)
    assert info_nce(z_a, z_b, temperature).item() == pytest.approx(
        info_nce_by_loop(z_a.numpy(), z_b.numpy(), temperature), rel=1e-12
    )


@pytest.mark.parametrize("batch", [2, 5])
def test_identical_orthonormal_views(batch: int) -> None:
    z = torch.eye(batch, dtype=torch.float64)
    assert info_nce(z, z, 0.1).item() == pytest.approx(
        math.log(1 + (batch - 1) * math.exp(-10)), rel=1e-12
    )


def test_views_orthogonal_to_each_other_are_told_apart_by_chance() -> None:
    z = torch.eye(8, dtype=torch.float64)
    assert info_nce(z[:4], z[4:], 0.1).item() == pytest.approx(math.log(4), rel=1e-12)


def test_collapsed_embeddings_are_told_apart_by_chance() -> None:
    z = torch.full((6, 4), 0.3, dtype=torch.float64)
    assert info_nce(z, z, 0.1).item() == pytest.approx(math.log(6), rel=1e-12)


def test_every_embedding_paired_with_its_opposite() -> None:
    """s_ii = -1 and s_ij = 0: the loss is larger than by chance."""
    z = torch.eye(3, dtype=torch.float64)
    assert info_nce(z, -z, 0.5).item() == pytest.approx(math.log(1 + 2 * math.exp(2)), rel=1e-12)


def test_clips_of_the_same_view_are_no_negatives() -> None:
    """Only s_ij between views counts: it stays what it is where the two first views become
    alike.
    """
    z_b = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    apart, alike = (
        torch.tensor([[1.0, 1, 0], [1.0, -1, 0]]).double(),
        torch.tensor([[1.0, 1, 0], [1.0, 1, 0]]).double(),
    )
    torch.testing.assert_close(info_nce(apart, z_b, 0.1), info_nce(alike, z_b, 0.1))


def test_a_low_temperature_does_not_overflow() -> None:
    z_a, z_b = (z.float().requires_grad_() for z in embeddings())
    loss = info_nce(z_a, z_b, 1e-4)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z_a.grad).all()  # type: ignore[arg-type]


def test_loss_does_not_change_with_places_or_lengths() -> None:
    z_a, z_b = embeddings()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    lengths = torch.linspace(0.1, 9, 6, dtype=torch.float64)[:, None]
    expected = info_nce(z_a, z_b, 0.1)
    torch.testing.assert_close(info_nce(z_b, z_a, 0.1), expected)
    torch.testing.assert_close(info_nce(z_a[order], z_b[order], 0.1), expected)
    torch.testing.assert_close(info_nce(lengths * z_a, 3 * z_b, 0.1), expected)


def test_gradcheck() -> None:
    z_a, z_b = (z.requires_grad_() for z in embeddings(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: info_nce(a, b, 0.3), (z_a, z_b))


def test_loss_is_float32_under_autocast_and_for_half_precision() -> None:
    z_a, z_b = (z.float() for z in embeddings())
    expected = info_nce(z_a, z_b, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(info_nce(z_a, z_b, 0.1), expected)
    half_a, half_b = z_a.bfloat16(), z_b.bfloat16()
    torch.testing.assert_close(
        info_nce(half_a, half_b, 0.1), info_nce(half_a.float(), half_b.float(), 0.1)
    )


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    message = r"^temperature: .* finite number above 0"
    with pytest.raises(ValueError, match=message):
        info_nce(*embeddings(), temperature)
    with pytest.raises(ValueError, match=message):
        SimCLR(nn.Identity(), 4, temperature=temperature)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((1, 4), (1, 4), r"^z_a, z_b: a batch of 1; .* at least 2"),
        ((4, 3), (4, 5), r"^z_a, z_b: shapes \(4, 3\) and \(4, 5\); .* same \[B, D\]"),
        ((4, 3, 1), (4, 3, 1), r"^z_a, z_b: .* \[B, D\]"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        info_nce(torch.zeros(shape_a), torch.zeros(shape_b), 0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused(value: float) -> None:
    z_a, z_b = embeddings()
    z_b[2, 1] = value
    with pytest.raises(ValueError, match=r"^z_b: 1 of 30 values are not finite"):
        info_nce(z_a, z_b, 0.1)


def test_inside_a_training_graph_a_value_that_is_not_finite_shows_in_the_loss() -> None:
    """There the training loop reads it; see check_embeddings."""
    z_a, z_b = embeddings()
    z_b[2, 1] = math.nan
    assert info_nce(z_a.requires_grad_(), z_b, 0.1).isnan()


def make_simclr(**options: float) -> SimCLR:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.ReLU())
    return SimCLR(backbone, 10, hidden=8, out=7, **options).double()  # type: ignore[arg-type]


def make_views(batch: int = 6) -> tuple[Tensor, Tensor]:
    view_a, view_b = torch.randn(
        2, batch, 3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    return view_a, view_b


@pytest.mark.parametrize(("options", "temperature"), [({}, 0.1), ({"temperature": 0.4}, 0.4)])
def test_the_module_is_eq_1_of_projected_features(
    options: dict[str, float], temperature: float
) -> None:
    """The temperature is 0.1 unless told otherwise (E.3)."""
    model, views = make_simclr(**options), make_views()
    z_a, z_b = (model.projector(model.backbone(view)).detach().numpy() for view in views)
    assert model(*views)["loss"].item() == pytest.approx(
        info_nce_by_loop(z_a, z_b, temperature), rel=1e-12
    )


def test_accuracy_is_the_share_of_first_views_whose_nearest_second_view_is_their_own() -> None:
    model = SimCLR(nn.Identity(), 2, hidden_layers=0, out=2)
    model.projector = nn.Sequential(nn.Identity())
    view_a, view_b = (
        torch.tensor([[1.0, 0], [0, 1], [-1, 0]]),
        torch.tensor([[2.0, 0.1], [1, -1], [-1, 0.1]]),
    )
    assert model(view_a, view_b)["accuracy"].item() == pytest.approx(2 / 3)


def test_accuracy_is_not_coarser_under_autocast() -> None:
    """Embeddings closer to each other than bfloat16 can tell are still told apart."""
    model = SimCLR(nn.Identity(), 2, hidden_layers=0, out=2)
    model.projector = nn.Sequential(nn.Identity())
    angles = torch.linspace(0, 0.5, 20)
    views = torch.stack([angles.cos(), angles.sin()], dim=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model(views, views)["accuracy"] == 1


def test_the_projector_is_three_layers_2048_wide_and_128_out() -> None:
    """E.2."""
    with torch.device("meta"):
        model = SimCLR(nn.Identity(), 512)
    assert [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2] == [
        (2048, 512),
        (2048, 2048),
        (128, 2048),
    ]


def test_every_parameter_gets_a_gradient() -> None:
    model = make_simclr()
    model(*make_views())["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_views_that_do_not_fit_are_refused() -> None:
    model, (view_a, view_b) = make_simclr(), make_views()
    with pytest.raises(ValueError, match=r"^view_a, view_b: shapes .* both must be the same"):
        model(view_a, view_b[:4])
    with pytest.raises(ValueError, match=r"^view_a: a batch of 1; .* at least 2"):
        model(view_a[:1], view_b[:1])
