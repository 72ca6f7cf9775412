"""CVRL's loss against its eq. 1 over all 2N anchors, and the module that trains with it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.objectives import CVRL, nt_xent
from vididi.objectives.cvrl import anchors


def embeddings(batch: int = 6, width: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    z_a, z_b = torch.randn(
        2, batch, width, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return 0.7 * z_a + 0.2, 1.5 * z_b - 0.1


def eq_1_by_loop(z: NDArray, z_prime: NDArray, tau: float) -> float:
    """Eq. 1 as printed: the mean over N anchors z_i; everything but z_i itself is in the
    denominator.
    """

    def sim(u: NDArray, v: NDArray) -> float:
        return u @ v / (np.linalg.norm(u) * np.linalg.norm(v))

    count, everything = len(z), np.concatenate([z, z_prime])
    total = 0.0
    for i in range(count):
        denominator = sum(
            np.exp(sim(z[i], everything[k]) / tau) for k in range(2 * count) if k != i
        )
        total -= np.log(np.exp(sim(z[i], z_prime[i]) / tau) / denominator)
    return total / count


def nt_xent_by_loop(z_a: NDArray, z_b: NDArray, tau: float) -> float:
    """All 2N anchors: the mean of eq. 1 from either view."""
    return (eq_1_by_loop(z_a, z_b, tau) + eq_1_by_loop(z_b, z_a, tau)) / 2


@pytest.mark.parametrize(("batch", "width"), [(6, 5), (2, 3), (4, 9), (3, 1)])
@pytest.mark.parametrize("temperature", [0.1, 0.5, 2.0])
def test_loss_agrees_with_a_loop(batch: int, width: int, temperature: float) -> None:
    z_a, z_b = embeddings(batch, width)
    assert nt_xent(z_a, z_b, temperature).item() == pytest.approx(
        nt_xent_by_loop(z_a.numpy(), z_b.numpy(), temperature), rel=1e-12
    )


@pytest.mark.parametrize("batch", [2, 5])
def test_identical_orthonormal_views(batch: int) -> None:
    """The partner at similarity 1 against 2N - 2 negatives at 0."""
    z = torch.eye(batch, dtype=torch.float64)
    assert nt_xent(z, z, 0.1).item() == pytest.approx(
        math.log(1 + (2 * batch - 2) * math.exp(-10)), rel=1e-12
    )


def test_orthogonal_and_collapsed_embeddings_are_told_apart_by_chance() -> None:
    z = torch.eye(8, dtype=torch.float64)
    assert nt_xent(z[:4], z[4:], 0.1).item() == pytest.approx(math.log(7), rel=1e-12)
    assert nt_xent(
        torch.ones(4, 3).double(), torch.ones(4, 3).double(), 0.1
    ).item() == pytest.approx(math.log(7), rel=1e-12)


def test_clips_of_the_same_view_are_negatives() -> None:
    """First views that become alike make the task harder, even where similarities between the views
    stay as they are.
    """
    z_b = torch.tensor([[1.0, 0, 0], [1.0, 0, 0]], dtype=torch.float64)
    apart, alike = (
        torch.tensor([[1.0, 1, 0], [1.0, -1, 0]]).double(),
        torch.tensor([[1.0, 1, 0], [1.0, 1, 0]]).double(),
    )
    assert nt_xent(alike, z_b, 0.1) > nt_xent(apart, z_b, 0.1) + 0.1


def test_loss_does_not_change_with_places_or_lengths() -> None:
    z_a, z_b = embeddings()
    order = torch.randperm(6, generator=torch.Generator().manual_seed(0))
    lengths = torch.linspace(0.1, 9, 6, dtype=torch.float64)[:, None]
    expected = nt_xent(z_a, z_b, 0.1)
    torch.testing.assert_close(nt_xent(z_b, z_a, 0.1), expected)
    torch.testing.assert_close(nt_xent(z_a[order], z_b[order], 0.1), expected)
    torch.testing.assert_close(nt_xent(lengths * z_a, 3 * z_b, 0.1), expected)
    # A video's two clips may change views without the other videos doing so.
    swap = torch.tensor([True, False, True, False, False, True])[:, None]
    torch.testing.assert_close(
        nt_xent(torch.where(swap, z_b, z_a), torch.where(swap, z_a, z_b), 0.1), expected
    )


def test_gradcheck() -> None:
    z_a, z_b = (z.requires_grad_() for z in embeddings(4, 3))
    assert torch.autograd.gradcheck(lambda a, b: nt_xent(a, b, 0.3), (z_a, z_b))


def test_a_low_temperature_does_not_overflow() -> None:
    z_a, z_b = (z.float().requires_grad_() for z in embeddings())
    loss = nt_xent(z_a, z_b, 1e-4)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(z_a.grad).all()  # type: ignore[arg-type]


def test_loss_is_float32_under_autocast_and_for_half_precision() -> None:
    z_a, z_b = (z.float() for z in embeddings())
    expected = nt_xent(z_a, z_b, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(nt_xent(z_a, z_b, 0.1), expected)
    half_a, half_b = z_a.bfloat16(), z_b.bfloat16()
    torch.testing.assert_close(
        nt_xent(half_a, half_b, 0.1), nt_xent(half_a.float(), half_b.float(), 0.1)
    )


@pytest.mark.parametrize("temperature", [0.0, -0.1, math.nan, math.inf])
def test_a_temperature_that_is_not_positive_is_refused(temperature: float) -> None:
    message = r"^temperature: .* finite number above 0"
    with pytest.raises(ValueError, match=message):
        nt_xent(*embeddings(), temperature)
    with pytest.raises(ValueError, match=message):
        CVRL(nn.Identity(), 4, temperature=temperature)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "message"),
    [
        ((1, 4), (1, 4), r"^z_a, z_b: a batch of 1; .* at least 2"),
        ((4, 3), (5, 3), r"^z_a, z_b: shapes \(4, 3\) and \(5, 3\); .* same \[B, D\]"),
        ((4,), (4,), r"^z_a, z_b: .* \[B, D\]"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    shape_a: tuple[int, ...], shape_b: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        nt_xent(torch.zeros(shape_a), torch.zeros(shape_b), 0.1)


def test_embeddings_that_are_not_finite_are_refused() -> None:
    z_a, z_b = embeddings()
    z_a[0] = math.nan
    with pytest.raises(ValueError, match=r"^z_a: 5 of 30 values are not finite"):
        nt_xent(z_a, z_b, 0.1)


def make_cvrl(**options: Any) -> CVRL:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.ReLU())
    return CVRL(backbone, 10, hidden=8, out=7, **options).double()


def make_views(batch: int = 6) -> tuple[Tensor, Tensor]:
    view_a, view_b = torch.randn(
        2, batch, 3, 2, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    return view_a, view_b


@pytest.mark.parametrize(("options", "temperature"), [({}, 0.1), ({"temperature": 0.4}, 0.4)])
def test_the_module_is_eq_1_of_projected_features(
    options: dict[str, float], temperature: float
) -> None:
    model, views = make_cvrl(**options), make_views()
    z_a, z_b = (model.projector(model.backbone(view)).detach().numpy() for view in views)
    assert model(*views)["loss"].item() == pytest.approx(
        nt_xent_by_loop(z_a, z_b, temperature), rel=1e-12
    )


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_sum_over_workers_multiplies_the_loss_by_their_number(workers: int) -> None:
    """Workers that all hold the same videos, but a little apart."""

    def gather(z: Tensor) -> Tensor:
        return torch.cat([z + 0.01 * worker for worker in range(workers)])

    losses = {}
    for summed in (False, True):
        model = make_cvrl(sum_over_workers=summed)
        model.gather = gather
        losses[summed] = model(*make_views())["loss"]
    torch.testing.assert_close(losses[True], workers * losses[False])


def test_sum_over_views_is_the_sum_of_the_two_views_means() -> None:
    model, views = make_cvrl(sum_over_views=True), make_views()
    logits, partner = anchors(*(model.projector(model.backbone(view)) for view in views), 0.1)
    count = len(views[0])
    means = [
        torch.nn.functional.cross_entropy(logits[part], partner[part])
        for part in (slice(0, count), slice(count, None))
    ]
    torch.testing.assert_close(model(*views)["loss"], sum(means))
    torch.testing.assert_close(sum(means), 2 * make_cvrl()(*views)["loss"])


def test_accuracy_is_the_share_of_clips_whose_nearest_clip_is_their_partner() -> None:
    """a1 and b1 are nearest to each other; b2 is nearest to a1, a2 to b2."""
    model = CVRL(nn.Identity(), 2, hidden_layers=0, out=2)
    model.projector = nn.Sequential(nn.Identity())

    def at(*degrees: float) -> Tensor:
        angles = torch.tensor(degrees).deg2rad()
        return torch.stack([angles.cos(), angles.sin()], dim=1)

    assert model(at(0, 80), at(-10, 30))["accuracy"].item() == pytest.approx(3 / 4)


def test_entropy_is_that_of_the_probabilities_of_eq_1() -> None:
    model = CVRL(nn.Identity(), 5, hidden_layers=0, out=5, temperature=0.5)
    model.projector = nn.Sequential(nn.Identity())
    z_a, z_b = embeddings()
    z = torch.nn.functional.normalize(torch.cat([z_a, z_b]), dim=1).numpy()
    expected = []
    for i in range(len(z)):
        weights = [math.exp(z[i] @ z[k] / 0.5) for k in range(len(z)) if k != i]
        expected.append(-sum(w / sum(weights) * math.log(w / sum(weights)) for w in weights))
    assert model(z_a, z_b)["entropy"].item() == pytest.approx(np.mean(expected), rel=1e-12)
    same = torch.ones(4, 5, dtype=torch.float64)
    assert model(same, same)["entropy"].item() == pytest.approx(math.log(7))


def test_the_projector_has_three_hidden_layers_of_2048_and_128_out() -> None:
    """CVRL's Table 6 and section 4.1."""
    with torch.device("meta"):
        model = CVRL(nn.Identity(), 512)
    shapes = [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2]
    assert shapes == [(2048, 512), (2048, 2048), (2048, 2048), (128, 2048)]


def test_every_parameter_gets_a_gradient() -> None:
    model = make_cvrl()
    model(*make_views())["loss"].backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in model.parameters())


def test_views_that_do_not_fit_are_refused() -> None:
    model, (view_a, view_b) = make_cvrl(), make_views()
    with pytest.raises(ValueError, match=r"^view_a, view_b: shapes .* both must be the same"):
        model(view_a, view_b[:4])
    with pytest.raises(ValueError, match=r"^view_a: a batch of 1; .* at least 2"):
        model(view_a[:1], view_b[:1])


def test_views_that_go_together_share_the_statistics_of_one_batch() -> None:
    """As in the authors' code, which joins the two views before the network."""
    view_a, view_b = make_views()
    view_b = view_b + 3
    model = make_cvrl(views_together=True)
    z_a, z_b = model.projector(model.backbone(torch.cat([view_a, view_b]))).chunk(2)
    expected = nt_xent(z_a.detach(), z_b.detach(), 0.1)
    together, apart = (
        make_cvrl(views_together=flag)(view_a, view_b)["loss"].detach() for flag in (True, False)
    )
    torch.testing.assert_close(together, expected)
    assert (together - apart).abs() > 1e-3


def test_views_of_other_lengths_cannot_go_together() -> None:
    view_a, view_b = make_views()
    with pytest.raises(
        ValueError, match=r"^views_together: True is not valid for views of 2 and 1"
    ):
        make_cvrl(views_together=True)(view_a, view_b[:, :, :1])


def test_the_projector_s_running_statistics_take_the_share_that_is_asked_for() -> None:
    """TensorFlow's momentum of 0.997 (configs/video_ssl.py) is a share of 0.003."""
    x = torch.randn(6, 10, dtype=torch.float64)
    for share in (0.1, 0.003):
        model = make_cvrl(norm_momentum=share)
        first = model.projector[0](x)
        model.projector(x)
        torch.testing.assert_close(model.projector[1].running_mean, share * first.mean(dim=0))
    with pytest.raises(ValueError, match=r"^norm_momentum: 0 is not valid; .* above 0 and at most"):
        make_cvrl(norm_momentum=0)
