"""CORP_f's loss against the (4B - 2)-way softmax of CORP's eqs. 4-6 written out, and the module
that trains with it.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.objectives import CORPf, corp_f_loss, nt_xent
from vididi.objectives.corp import order_loss
from vididi.objectives.heads import Relation

Case = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def make_relation(width: int) -> Relation:
    torch.manual_seed(0)
    return Relation(width, 2, "decoupling", 4, 3, 1, 2).double()


def make_case(batch: int = 5, width: int = 6, seed: int = 0) -> Case:
    """What corp_f_loss takes but for the temperature; clip a is the first in some of the videos."""
    generator = torch.Generator().manual_seed(seed)
    z_a, z_b = torch.randn(2, batch, width, dtype=torch.float64, generator=generator)
    z_a, z_b = nn.functional.normalize(z_a, dim=1), nn.functional.normalize(z_b, dim=1)
    relation = make_relation(width)
    a_first = torch.arange(batch) % 3 == 0
    with torch.no_grad():
        return z_a, z_b, relation(z_a, z_b), relation(z_b, z_a), a_first


def joint_by_loop(z: NDArray, phi: NDArray, tau: float) -> NDArray:
    """``[2B, 2B, 2]``: for a clip i, the probability that j is its partner (eq. 5) and i is
    earlier, or later (eq. 4).
    """
    count = len(z)
    joint = np.zeros((count, count, 2))
    for i in range(count):
        others = [k for k in range(count) if k != i]
        for j in others:
            partner = np.exp(z[i] @ z[j] / tau) / sum(np.exp(z[i] @ z[k] / tau) for k in others)
            for order in range(2):
                joint[i, j, order] = partner * np.exp(phi[i, j, order]) / np.exp(phi[i, j]).sum()
    return joint


def eq_6_by_loop(joint: NDArray, a_first: NDArray) -> float:
    """Eq. 6, L = 1/B sum L_i: both clips of a video pick their partner and their order, from clips
    ordered a_1..a_B, b_1..b_B.
    """
    batch = len(a_first)
    total = 0.0
    for i in range(batch):
        early, late = (i, batch + i) if a_first[i] else (batch + i, i)
        total -= np.log(joint[early, late, 0]) + np.log(joint[late, early, 1])
    return total / batch


@pytest.mark.parametrize(("batch", "width"), [(5, 6), (2, 3), (8, 2)])
@pytest.mark.parametrize("temperature", [0.1, 0.7])
def test_loss_is_the_4b_minus_2_way_cross_entropy(
    batch: int, width: int, temperature: float
) -> None:
    case = make_case(batch, width)
    z = torch.cat(case[:2])
    with torch.no_grad():
        phi = make_relation(width)(z[:, None], z[None, :])
    joint = joint_by_loop(z.numpy(), phi.numpy(), temperature)
    assert np.count_nonzero(joint[0]) == 4 * batch - 2
    np.testing.assert_allclose(joint.sum(axis=(1, 2)), 1, rtol=1e-12)
    assert corp_f_loss(*case, temperature).item() == pytest.approx(
        eq_6_by_loop(joint, case[-1].numpy()), rel=1e-12
    )


@pytest.mark.parametrize("batch", [2, 7])
def test_collapsed_embeddings_and_even_logits_choose_by_chance(batch: int) -> None:
    """Twice the logarithm of 4B - 2."""
    z, even = torch.ones(batch, 3, dtype=torch.float64), torch.zeros(batch, 2, dtype=torch.float64)
    loss = corp_f_loss(z, z, even, even, torch.ones(batch, dtype=torch.bool), 0.1)
    assert loss.item() == pytest.approx(2 * math.log(4 * batch - 2), rel=1e-12)


@pytest.mark.parametrize("a_first", [True, False])
def test_the_order_part_by_hand(a_first: bool) -> None:
    """Index 0 of the logits of (a, b) says that a precedes b; of (b, a), that b precedes a."""
    first, second = (
        torch.tensor([[1.0, 0.0]] * 3, dtype=torch.float64),
        torch.tensor([[0.0, 1.0]] * 3, dtype=torch.float64),
    )
    which = torch.full((3,), a_first)
    right, wrong = 2 * math.log(1 + math.exp(-1)), 2 * math.log(1 + math.e)
    assert order_loss(first, second, which).item() == pytest.approx(
        right if a_first else wrong, rel=1e-12
    )
    assert order_loss(second, first, which).item() == pytest.approx(
        wrong if a_first else right, rel=1e-12
    )


def test_the_loss_is_twice_the_contrast_plus_the_order() -> None:
    """Eq. 6's last line; the contrast is that of CVRL over both clips of a video."""
    z_a, z_b, ab, ba, a_first = make_case()
    torch.testing.assert_close(
        corp_f_loss(z_a, z_b, ab, ba, a_first, 0.1),
        2 * nt_xent(z_a, z_b, 0.1) + order_loss(ab, ba, a_first),
    )


def test_loss_does_not_change_when_videos_or_views_change_places() -> None:
    """Which view a clip is in says nothing: with the clips, their labels change places."""
    z_a, z_b, ab, ba, a_first = make_case()
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    expected = corp_f_loss(z_a, z_b, ab, ba, a_first, 0.1)
    torch.testing.assert_close(corp_f_loss(z_b, z_a, ba, ab, ~a_first, 0.1), expected)
    torch.testing.assert_close(
        corp_f_loss(*(x[order] for x in (z_a, z_b, ab, ba, a_first)), 0.1), expected
    )
    torch.testing.assert_close(corp_f_loss(3 * z_a, 0.2 * z_b, ab, ba, a_first, 0.1), expected)


def test_reversed_time_exchanges_the_classes() -> None:
    z_a, z_b, ab, ba, a_first = make_case()
    torch.testing.assert_close(
        corp_f_loss(z_a, z_b, ab.flip(1), ba.flip(1), ~a_first, 0.1),
        corp_f_loss(z_a, z_b, ab, ba, a_first, 0.1),
    )


def test_gradcheck() -> None:
    *tensors, a_first = make_case(3, 3)
    inputs = tuple(x.clone().requires_grad_() for x in tensors)
    assert torch.autograd.gradcheck(lambda *x: corp_f_loss(*x, a_first, 0.3), inputs)


def test_loss_is_float32_under_autocast() -> None:
    *tensors, a_first = (x.float() if x.is_floating_point() else x for x in make_case())
    expected = corp_f_loss(*tensors, a_first, 0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(corp_f_loss(*tensors, a_first, 0.1), expected)


@pytest.mark.parametrize(
    ("which", "shape", "message"),
    [
        (0, (4, 6), r"^z_a, z_b: shapes \(4, 6\) and \(5, 6\)"),
        (2, (5, 3), r"^logits_ab: shape \(5, 3\); it must be \[B, 2\] with B = 5"),
        (3, (4, 2), r"^logits_ba: shape \(4, 2\); it must be \[B, 2\] with B = 5"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    which: int, shape: tuple[int, ...], message: str
) -> None:
    case = list(make_case())
    case[which] = torch.zeros(shape)
    with pytest.raises(ValueError, match=message):
        corp_f_loss(*case, 0.1)  # type: ignore[call-arg]


def test_values_that_cannot_be_are_refused() -> None:
    case = make_case()
    with pytest.raises(ValueError, match=r"^temperature: 0 .* above 0"):
        corp_f_loss(*case, 0)
    with pytest.raises(ValueError, match=r"^z_a, z_b: a batch of 1; .* at least 2"):
        corp_f_loss(*(x[:1] for x in case), 0.1)
    with pytest.raises(ValueError, match=r"^a_first: torch.int64 is not valid; it must be bool"):
        corp_f_loss(*case[:4], case[4].long(), 0.1)
    case[3][0, 1] = math.inf
    with pytest.raises(ValueError, match=r"^logits_ba: 1 of 10 values are not finite"):
        corp_f_loss(*case, 0.1)
    case[0][1, 1] = math.nan
    with pytest.raises(ValueError, match=r"^z_a: 1 of 30 values are not finite"):
        corp_f_loss(*case, 0.1)


def make_corp_f(**options: Any) -> CORPf:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.ReLU())
    return CORPf(
        backbone,
        10,
        **{"hidden": 8, "out": 6, "symmetric": 4, "antisymmetric": 3, "heads": 3, **options},
    ).double()


def make_views(batch: int = 6) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    view_a, view_b = torch.randn(2, batch, 3, 2, 2, 2, dtype=torch.float64, generator=generator)
    starts = torch.stack([torch.randperm(50, generator=generator)[:2] for _ in range(batch)])
    return view_a, view_b, starts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.4},
        {"attention": "mixed"},
        {"perceptron_layers": 1},
        {"hidden_layers": 0},
    ],
)
def test_the_module_is_eq_6_of_normalised_projections(options: dict[str, Any]) -> None:
    """Temperature 0.1 unless told otherwise (section 3.3)."""
    model, (view_a, view_b, starts) = make_corp_f(**options), make_views()
    with torch.no_grad():
        z_a, z_b = (
            nn.functional.normalize(model.projector(model.backbone(view)), dim=1)
            for view in (view_a, view_b)
        )
        z = torch.cat([z_a, z_b])
        joint = joint_by_loop(
            z.numpy(),
            model.relation(z[:, None], z[None, :]).numpy(),
            options.get("temperature", 0.1),
        )
    expected = eq_6_by_loop(joint, (starts[:, 0] < starts[:, 1]).numpy())
    terms = model(view_a, view_b, starts)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-10)
    torch.testing.assert_close(terms["loss"], terms["contrast"] + terms["order"])


def test_swapping_the_views_with_their_starts_does_not_change_the_loss() -> None:
    model, (view_a, view_b, starts) = make_corp_f(), make_views()
    torch.testing.assert_close(
        model(view_a, view_b, starts)["loss"], model(view_b, view_a, starts.flip(1))["loss"]
    )


@pytest.mark.parametrize(
    ("task", "names"), [("contrast", {"contrast"}), ("order", {"order", "order_accuracy"})]
)
def test_a_single_task_is_its_part_of_the_loss(task: str, names: set[str]) -> None:
    """The "SimCLR-based" row of Table 6e is the contrast alone."""
    views = make_views()
    both, single = make_corp_f()(*views), make_corp_f(task=task)(*views)
    assert set(single) == {"loss"} | names
    torch.testing.assert_close(single["loss"], both[task])


@pytest.mark.parametrize("task", ["both", "contrast", "order"])
@pytest.mark.parametrize("attention", ["decoupling", "mixed"])
def test_every_parameter_gets_a_gradient(task: str, attention: str) -> None:
    """A parameter without one would make a run over several workers stop."""
    model = make_corp_f(task=task, attention=attention)
    model(*make_views())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.backbone.parameters())  # type: ignore[union-attr]


def test_order_accuracy_is_the_share_of_videos_whose_order_is_told_right() -> None:
    model, (view_a, view_b, _) = make_corp_f(), make_views(4)
    model.relation.forward = lambda x, y: torch.tensor([[1.0, 0.0]] * 4)  # type: ignore[method-assign] # always: the first precedes
    starts = torch.tensor([[0, 5], [2, 3], [9, 1], [4, 6]])
    assert model(view_a, view_b, starts)["order_accuracy"] == 0.75


def test_the_sizes_of_the_paper() -> None:
    """Section 3.1: three hidden layers of 2048; d = 128, n = l = 64 (Decisions); two layers in the
    perceptron (Table 6d).
    """
    with torch.device("meta"):
        model = CORPf(nn.Identity(), 2048)
    assert [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2] == [
        (2048, 2048)
    ] * 3 + [(128, 2048)]
    assert [tuple(p.shape) for p in model.relation.attention.parameters()] == [(64, 128)] * 3
    assert [tuple(p.shape) for p in model.relation.perceptron.parameters() if p.ndim == 2] == [
        (128, 128),
        (2, 128),
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.0}, r"^temperature: 0.0 .* above 0"),
        ({"task": "all"}, r"^task: 'all' is not valid; it is one of both, contrast, order"),
        ({"attention": "none"}, r"^attention: 'none' is not valid; it is 'decoupling' or 'mixed'"),
        ({"attention": "mixed", "heads": 4}, r"^heads: 4 .* must divide .* 6"),
        ({"perceptron_layers": 3}, r"^perceptron_layers: 3 .* 1 or 2"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_corp_f(**options)


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (None, r"^starts: None is not valid; .* \[B, K\] with B = 4"),
        (torch.zeros(4), r"^starts: \(4,\) is not valid; .* \[B, K\] with B = 4"),
        (torch.zeros(3, 2), r"^starts: \(3, 2\) is not valid; .* with B = 4"),
        (
            torch.tensor([[0, 1], [2, 2], [3, 4], [5, 6]]),
            r"^starts: two clips of one video begin at the same frame",
        ),
        (torch.tensor([[0, 1, 2]] * 4), r"^starts: 3 clips of each video; CORP_f compares two"),
        (torch.tensor([[0]] * 4), r"^starts: 1 clips of each video; CORP_f compares two"),
    ],
)
def test_starts_that_give_no_order_are_refused(starts: Tensor | None, message: str) -> None:
    model, (view_a, view_b, _) = make_corp_f(), make_views(4)
    with pytest.raises(ValueError, match=message):
        model(view_a, view_b, starts)


def test_views_that_do_not_fit_are_refused() -> None:
    model, (view_a, view_b, starts) = make_corp_f(), make_views()
    with pytest.raises(ValueError, match=r"^view_a, view_b: shapes .* both must be the same"):
        model(view_a, view_b[:4], starts)
    with pytest.raises(ValueError, match=r"^view_a: a batch of 1; .* at least 2"):
        model(view_a[:1], view_b[:1], starts[:1])
