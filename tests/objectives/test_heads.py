"""Heads: the perceptrons of ViDiDi E.2, and CORP's two kinds of attention (eqs. 1 and 8) with the
perceptron on top.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vididi.objectives import DecouplingAttention, MixedAttention
from vididi.objectives.heads import Relation, mlp


def vectors(*shape: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    x, y = torch.randn(
        2, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed)
    )
    return x, y


@pytest.mark.parametrize(
    ("hidden_layers", "shapes"),
    [
        (0, [(3, 4)]),
        (1, [(5, 4), (3, 5)]),
        (2, [(5, 4), (5, 5), (3, 5)]),
        (3, [(5, 4), (5, 5), (5, 5), (3, 5)]),
    ],
)
def test_mlp_has_its_hidden_layers_and_an_output(
    hidden_layers: int, shapes: list[tuple[int, int]]
) -> None:
    """E.2: batch normalisation and ReLU for all hidden layers."""
    head = mlp(4, 5, 3, hidden_layers)
    assert [tuple(p.shape) for p in head.parameters() if p.ndim == 2] == shapes
    assert [type(module) for module in head] == [
        nn.Linear,
        nn.BatchNorm1d,
        nn.ReLU,
    ] * hidden_layers + [nn.Linear]
    assert [module.bias is None for module in head if isinstance(module, nn.Linear)] == [
        True
    ] * hidden_layers + [False]
    assert head(torch.randn(2, 4)).shape == (2, 3)


def test_mlp_by_hand() -> None:
    """x W1, normalised over the batch, ReLU, W2 + b."""
    torch.manual_seed(0)
    head, (x, _) = mlp(4, 5, 3, 1).double(), vectors(6, 4)
    first, _, _, last = head
    hidden = x @ first.weight.T  # type: ignore[operator,union-attr]
    hidden = (hidden - hidden.mean(dim=0)) / torch.sqrt(hidden.var(dim=0, unbiased=False) + 1e-5)
    torch.testing.assert_close(head(x), hidden.clamp(min=0) @ last.weight.T + last.bias)  # type: ignore[operator,union-attr]


@pytest.mark.parametrize("hidden_layers", [0, 2])
def test_mlp_without_a_last_bias(hidden_layers: int) -> None:
    assert mlp(4, 5, 3, hidden_layers, last_bias=False)[-1].bias is None


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 5, 3, 1), r"^width_in: 0 .* at least 1"),
        ((4, 0, 3, 1), r"^hidden: 0 .* at least 1"),
        ((4, 5, -3, 1), r"^out: -3 .* at least 1"),
        ((4, 5, 3, -1), r"^hidden_layers: -1 .* 0 to 1000"),
    ],
)
def test_mlp_refuses_sizes_that_cannot_be(sizes: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mlp(*sizes)


def make_decoupling(
    width: int = 6, symmetric: int = 4, antisymmetric: int = 3
) -> DecouplingAttention:
    torch.manual_seed(0)
    return DecouplingAttention(width, symmetric=symmetric, antisymmetric=antisymmetric).double()


def test_decoupling_attention_sums_to_the_bilinear_form_of_eq_8() -> None:
    """x^T M y with M = sum g g^T + sum p q^T - q p^T (eq. 7)."""
    attention, (x, y) = make_decoupling(), vectors(6)
    g, p, q = (layer.weight.detach() for layer in (attention.g, attention.p, attention.q))
    m = sum(torch.outer(row, row) for row in g) + sum(
        torch.outer(a, b) - torch.outer(b, a) for a, b in zip(p, q, strict=True)
    )
    torch.testing.assert_close(attention(x, y).sum(), x @ m @ y)


def test_decoupling_attention_row_by_row() -> None:
    attention, (x, y) = make_decoupling(), vectors(6)
    g, p, q = (layer.weight.detach() for layer in (attention.g, attention.p, attention.q))
    expected = [(row @ x) * (row @ y) for row in g] + [
        (a @ x) * (b @ y) - (b @ x) * (a @ y) for a, b in zip(p, q, strict=True)
    ]
    torch.testing.assert_close(attention(x, y), torch.stack(expected))


def test_the_first_outputs_are_symmetric_and_the_last_antisymmetric() -> None:
    attention, (x, y) = make_decoupling(), vectors(10, 6)
    forth, back = attention(x, y), attention(y, x)
    torch.testing.assert_close(forth[:, :4], back[:, :4])
    torch.testing.assert_close(forth[:, 4:], -back[:, 4:])
    assert attention(x, x)[:, 4:].abs().max() == 0


def test_signals_of_one_kind_reach_the_weights_of_that_kind_only() -> None:
    """Section 3.4: similarity has a gradient on G alone, order on P and Q alone."""
    attention, (x, y) = make_decoupling(), vectors(10, 6)
    weights = {"g": attention.g.weight, "p": attention.p.weight, "q": attention.q.weight}
    reached = {}
    for kind, outputs in (
        ("similarity", attention(x, y)[:, :4]),
        ("order", attention(x, y)[:, 4:]),
    ):
        gradients = torch.autograd.grad(outputs.sum(), list(weights.values()))
        reached[kind] = {
            name
            for name, gradient in zip(weights, gradients, strict=True)
            if gradient.abs().max() > 0
        }
    assert reached == {"similarity": {"g"}, "order": {"p", "q"}}


def test_decoupling_attention_begins_at_the_scale_of_one_for_unit_vectors() -> None:
    torch.manual_seed(0)
    x, y = (nn.functional.normalize(v.float(), dim=1) for v in vectors(500, 128))
    forth = DecouplingAttention(128)(x, y)
    assert forth[:, :64].std().item() == pytest.approx(1, abs=0.1)
    assert forth[:, 64:].std().item() == pytest.approx(2**0.5, abs=0.1)


def test_mixed_attention_is_the_inner_product_of_explicit_heads() -> None:
    """Eq. 1: <U_i x, V_i y> with U_i, V_i of [d / h, d]; here h = 3, d = 6."""
    torch.manual_seed(0)
    attention, (x, y) = MixedAttention(6, heads=3).double(), vectors(6)
    u, v = attention.u.weight.detach(), attention.v.weight.detach()
    expected = [(u[2 * i : 2 * i + 2] @ x) @ (v[2 * i : 2 * i + 2] @ y) for i in range(3)]
    torch.testing.assert_close(attention(x, y), torch.stack(expected))


@pytest.mark.parametrize("attention", [make_decoupling(), MixedAttention(6, heads=2).double()])
def test_attention_broadcasts_over_all_pairs(attention: nn.Module) -> None:
    x, _ = vectors(2, 5, 6)
    pairs = attention(x[:, :, None], x[:, None, :])
    assert pairs.shape[:3] == (2, 5, 5)
    for group in range(2):
        for i in range(5):
            for j in range(5):
                torch.testing.assert_close(pairs[group, i, j], attention(x[group, i], x[group, j]))


@pytest.mark.parametrize(
    "attention", [make_decoupling(3, 2, 2), MixedAttention(4, heads=2).double()]
)
def test_gradcheck(attention: nn.Module) -> None:
    x, y = vectors(2, 3 if isinstance(attention, DecouplingAttention) else 4)
    assert torch.autograd.gradcheck(attention, (x.requires_grad_(), y.requires_grad_()))


def test_the_sizes_of_the_paper() -> None:
    """d = 128, n = l = 64 (Decisions), h = 128 heads of 1 (section 3.2)."""
    decoupling, mixed = DecouplingAttention(128), MixedAttention(128)
    assert [tuple(p.shape) for p in decoupling.parameters()] == [(64, 128)] * 3
    assert [tuple(p.shape) for p in mixed.parameters()] == [(128, 128)] * 2
    assert decoupling.width_out == mixed.width_out == 128


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"width": 0}, r"^width: 0 .* at least 1"),
        ({"width": 8, "symmetric": 0}, r"^symmetric: 0 .* at least 1"),
        ({"width": 8, "antisymmetric": -1}, r"^antisymmetric: -1 .* at least 1"),
    ],
)
def test_decoupling_attention_refuses_sizes_that_cannot_be(
    sizes: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        DecouplingAttention(**sizes)


@pytest.mark.parametrize("heads", [0, -2, 3, 16])
def test_mixed_attention_refuses_heads_that_do_not_divide_the_width(heads: int) -> None:
    with pytest.raises(
        ValueError, match=rf"^heads: {heads} .* must divide the width of the embedding, 8"
    ):
        MixedAttention(8, heads=heads)


def make_relation(attention: str = "decoupling", layers: int = 2, classes: int = 3) -> Relation:
    torch.manual_seed(0)
    return Relation(6, classes, attention, 4, 2, 3, layers).double()  # type: ignore[arg-type]


@pytest.mark.parametrize("attention", ["decoupling", "mixed"])
@pytest.mark.parametrize("classes", [2, 3])
def test_a_relation_is_a_perceptron_of_one_or_two_layers_on_attention(
    attention: str, classes: int
) -> None:
    """Eqs. 2 and 4, and the ablations of Table 6c and d."""
    x, y = vectors(5, 6)
    one, two = (make_relation(attention, layers, classes) for layers in (1, 2))
    torch.testing.assert_close(
        one(x, y), one.attention(x, y) @ one.perceptron[0].weight.T + one.perceptron[0].bias
    )  # type: ignore[operator]
    first, _, last = two.perceptron
    hidden = (two.attention(x, y) @ first.weight.T + first.bias).clamp(min=0)  # type: ignore[operator]
    torch.testing.assert_close(two(x, y), hidden @ last.weight.T + last.bias)  # type: ignore[operator]
    assert one(x, y).shape == two(x, y).shape == (5, classes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention": "both"}, r"^attention: 'both' is not valid; it is 'decoupling' or 'mixed'"),
        ({"layers": 0}, r"^perceptron_layers: 0 is not valid; it is 1 or 2"),
        ({"layers": 3}, r"^perceptron_layers: 3 is not valid; it is 1 or 2"),
    ],
)
def test_a_relation_refuses_what_it_does_not_know(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_relation(**options)
