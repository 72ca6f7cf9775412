"""CORP_m's loss against loops over video pairs and their clip pairs (section 3.2), and the module
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

from vididi.objectives import CORPm, corp_m_loss
from vididi.objectives.corp import pair_labels

TASKS = ["both", "contrast", "order"]
CLASSES = {"both": 3, "contrast": 2, "order": 2}


def make_starts(groups: int, videos: int, clips: int, seed: int = 0) -> Tensor:
    """``[G, g, K]``, no two equal in a video."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [torch.randperm(30, generator=generator)[:clips] for _ in range(groups * videos)]
    ).view(groups, videos, clips)


def make_case(task: str, clips: int = 3, groups: int = 2, videos: int = 3) -> tuple[Tensor, Tensor]:
    n = videos * clips
    logits = torch.randn(
        groups, n, n, CLASSES[task], dtype=torch.float64, generator=torch.Generator().manual_seed(1)
    )
    return logits, make_starts(groups, videos, clips)


def category(starts: NDArray, x: tuple[int, int], y: tuple[int, int], task: str) -> int | None:
    """The class of the ordered pair of clips x and y, each (video, clip); None where the task
    leaves the pair out.
    """
    same, first = x[0] == y[0], starts[x] < starts[y]
    if task == "contrast":
        return int(same)
    if task == "order":
        return (0 if first else 1) if same else None
    return (1 if first else 2) if same else 0


def loss_by_loop(logits: NDArray, starts: NDArray, task: str, reduction: str) -> float:
    """Each pair of videos i < j of a group: the cross entropies of its 4K^2 - 2K ordered pairs of
    clips, summed or averaged.
    """
    groups, videos, clips = starts.shape
    per_video_pair = []
    for group in range(groups):
        for i in range(videos):
            for j in range(i + 1, videos):
                members = [(video, clip) for video in (i, j) for clip in range(clips)]
                ordered = [(x, y) for x in members for y in members if x != y]
                assert len(ordered) == 4 * clips**2 - 2 * clips
                losses = []
                for x, y in ordered:
                    row = logits[group, x[0] * clips + x[1], y[0] * clips + y[1]]
                    which = category(starts[group], x, y, task)
                    if which is not None:
                        losses.append(-np.log(np.exp(row[which]) / np.exp(row).sum()))
                per_video_pair.append(np.sum(losses) if reduction == "sum" else np.mean(losses))
    return float(np.mean(per_video_pair))


@pytest.mark.parametrize("clips", [2, 3, 4])
@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("reduction", ["sum", "mean"])
def test_loss_agrees_with_a_loop(clips: int, task: str, reduction: str) -> None:
    logits, starts = make_case(task, clips)
    expected = loss_by_loop(logits.numpy(), starts.numpy(), task, reduction)
    assert corp_m_loss(logits, starts, task, reduction).item() == pytest.approx(expected, rel=1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize(("groups", "videos"), [(1, 2), (3, 2), (1, 5)])
def test_loss_agrees_with_a_loop_for_other_groups(groups: int, videos: int) -> None:
    logits, starts = make_case("both", 2, groups, videos)
    expected = loss_by_loop(logits.numpy(), starts.numpy(), "both", "sum")
    assert corp_m_loss(logits, starts).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("clips", [2, 4])
@pytest.mark.parametrize(
    ("task", "counted"), [("both", "all"), ("contrast", "all"), ("order", "own")]
)
def test_even_logits_choose_by_chance(clips: int, task: str, counted: str) -> None:
    """log 3 or log 2 for each of the 4K^2 - 2K pairs, of which 2K (K - 1) are of the same video."""
    logits, starts = make_case(task, clips)
    chance = math.log(CLASSES[task])
    pairs = 4 * clips**2 - 2 * clips if counted == "all" else 2 * clips * (clips - 1)
    assert corp_m_loss(0 * logits, starts, task, "sum").item() == pytest.approx(
        pairs * chance, rel=1e-12
    )  # type: ignore[arg-type]
    assert corp_m_loss(0 * logits, starts, task, "mean").item() == pytest.approx(chance, rel=1e-12)  # type: ignore[arg-type]


def test_right_answers_cost_nothing_and_a_clip_with_itself_is_not_asked() -> None:
    _, starts = make_case("both")
    labels = pair_labels(starts)
    logits = 50 * nn.functional.one_hot(labels.clamp(min=0), 3).double()
    logits[labels == -1] = torch.tensor([0.0, 1e6, 0.0], dtype=torch.float64)
    assert corp_m_loss(logits, starts).item() == pytest.approx(0, abs=1e-12)


def test_labels_by_hand() -> None:
    """Two videos of two clips: the first video's begin at 7 and 3, the second's at 0 and 5."""
    labels = pair_labels(torch.tensor([[[7, 3], [0, 5]]]))
    assert labels.tolist() == [[[-1, 2, 0, 0], [1, -1, 0, 0], [0, 0, -1, 1], [0, 0, 2, -1]]]


def test_the_order_label_follows_the_clip_and_not_its_place() -> None:
    """Clips that change places, that is views, take their labels with them; of (x, y) and (y, x)
    one is P2, the other P3.
    """
    starts = make_starts(2, 3, 4)
    labels, places = pair_labels(starts), torch.tensor([2, 0, 3, 1])
    n = (torch.arange(3)[:, None] * 4 + places).flatten()
    assert torch.equal(pair_labels(starts[:, :, places]), labels[:, n][:, :, n])
    own = labels > 0
    assert (labels + labels.transpose(1, 2))[own].unique().tolist() == [3]


def test_reversed_time_exchanges_p2_and_p3() -> None:
    logits, starts = make_case("both")
    exchanged = torch.tensor([0, 2, 1])
    labels = pair_labels(starts)
    assert torch.equal(pair_labels(-starts), torch.where(labels < 0, -1, exchanged[labels]))
    torch.testing.assert_close(
        corp_m_loss(logits[..., exchanged], -starts), corp_m_loss(logits, starts)
    )


@pytest.mark.parametrize("task", TASKS)
def test_loss_does_not_change_when_groups_videos_or_clips_change_places(task: str) -> None:
    logits, starts = make_case(task, clips=3, groups=2, videos=4)
    videos, clips = torch.tensor([2, 0, 3, 1]), torch.tensor([1, 2, 0])
    n = (videos[:, None] * 3 + clips).flatten()
    expected = corp_m_loss(logits, starts, task)  # type: ignore[arg-type]
    torch.testing.assert_close(corp_m_loss(logits.flip(0), starts.flip(0), task), expected)  # type: ignore[arg-type]
    torch.testing.assert_close(
        corp_m_loss(logits[:, n][:, :, n], starts[:, videos][:, :, clips], task), expected
    )  # type: ignore[arg-type]


def test_the_loss_of_several_groups_is_the_mean_of_theirs() -> None:
    """So workers that hold different groups see the loss of one that holds them all."""
    logits, starts = make_case("both", groups=3)
    alone = [corp_m_loss(logits[g : g + 1], starts[g : g + 1]) for g in range(3)]
    torch.testing.assert_close(corp_m_loss(logits, starts), torch.stack(alone).mean())


@pytest.mark.parametrize("task", TASKS)
def test_gradcheck(task: str) -> None:
    logits, starts = make_case(task, 2, 1, 2)
    assert torch.autograd.gradcheck(lambda x: corp_m_loss(x, starts, task), logits.requires_grad_())  # type: ignore[arg-type]


def test_loss_is_float32_under_autocast_and_for_half_precision() -> None:
    logits, starts = make_case("both")
    logits = logits.float()
    expected = corp_m_loss(logits, starts)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(corp_m_loss(logits, starts), expected)
    torch.testing.assert_close(
        corp_m_loss(logits.bfloat16(), starts), corp_m_loss(logits.bfloat16().float(), starts)
    )


@pytest.mark.parametrize(
    ("logits", "starts", "options", "message"),
    [
        (
            (1, 6, 6, 2),
            (1, 3, 2),
            {},
            r"^logits: shape \(1, 6, 6, 2\); for task 'both' .* \(1, 6, 6, 3\)",
        ),
        (
            (1, 6, 6, 3),
            (1, 3, 2),
            {"task": "order"},
            r"^logits: .* for task 'order' .* \(1, 6, 6, 2\)",
        ),
        ((2, 6, 6, 3), (1, 3, 2), {}, r"^logits: .* \(1, 6, 6, 3\)"),
        (
            (1, 2, 2, 3),
            (1, 1, 2),
            {},
            r"^starts: groups of 1 videos with 2 clips; .* at least 2 videos and 2 clips",
        ),
        (
            (1, 2, 2, 3),
            (1, 2, 1),
            {},
            r"^starts: groups of 2 videos with 1 clips; .* at least 2 videos and 2 clips",
        ),
        (
            (1, 6, 6, 3),
            (1, 3, 2),
            {"task": "all"},
            r"^task: 'all' is not valid; it is one of both, contrast, order",
        ),
        (
            (1, 6, 6, 3),
            (1, 3, 2),
            {"reduction": "none"},
            r"^reduction: 'none' is not valid; it is 'sum' or 'mean'",
        ),
    ],
)
def test_values_that_cannot_be_are_refused(
    logits: tuple[int, ...], starts: tuple[int, int, int], options: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        corp_m_loss(torch.zeros(logits), make_starts(*starts), **options)


def test_logits_that_are_not_finite_are_refused() -> None:
    logits, starts = make_case("both", 2, 1, 2)
    logits[0, 0, 1, 2] = math.nan
    with pytest.raises(ValueError, match=r"^logits: 1 of 48 values are not finite"):
        corp_m_loss(logits, starts)


def make_corp_m(**options: Any) -> CORPm:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(24, 10), nn.ReLU())
    sizes = {"hidden": 8, "out": 6, "symmetric": 4, "antisymmetric": 3, "heads": 3, "group": 2}
    return CORPm(backbone, 10, **{**sizes, **options}).double()


def make_views(videos: int = 4, clips: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    """The first view holds clips 0, 2, ... of each video, the second clips 1, 3, ...; video by
    video.
    """
    generator = torch.Generator().manual_seed(0)
    everything = torch.randn(videos, clips, 3, 2, 2, 2, dtype=torch.float64, generator=generator)
    return (
        everything[:, 0::2].flatten(0, 1),
        everything[:, 1::2].flatten(0, 1),
        make_starts(1, videos, clips)[0],
    )


@pytest.mark.parametrize("clips", [2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"task": "contrast"},
        {"task": "order"},
        {"attention": "mixed"},
        {"perceptron_layers": 1},
        {"reduction": "sum"},
        {"group": 4},
    ],
)
def test_the_module_is_the_loss_of_all_pairs_of_normalised_projections(
    clips: int, options: dict[str, Any]
) -> None:
    model, (view_a, view_b, starts) = make_corp_m(**options), make_views(4, clips)
    group = model.group
    with torch.no_grad():
        z_a, z_b = (
            nn.functional.normalize(model.projector(model.backbone(view)), dim=1)
            for view in (view_a, view_b)
        )
        in_view = [(clips + 1) // 2, clips // 2]
        z = torch.stack(
            [
                (z_a, z_b)[clip % 2][video * in_view[clip % 2] + clip // 2]
                for video in range(4)
                for clip in range(clips)
            ]
        )
        by_group = z.view(4 // group, group * clips, -1)
        logits = torch.stack(
            [
                torch.stack([torch.stack([model.relation(x, y) for y in part]) for x in part])
                for part in by_group
            ]
        )
    by_group_starts = starts.view(-1, group, clips).numpy()
    expected = loss_by_loop(
        logits.numpy(),
        by_group_starts,
        options.get("task", "both"),
        options.get("reduction", "mean"),
    )
    assert model(view_a, view_b, starts)["loss"].item() == pytest.approx(expected, rel=1e-10)


def test_swapping_the_views_with_their_starts_does_not_change_the_loss() -> None:
    model, (view_a, view_b, starts) = make_corp_m(), make_views()
    torch.testing.assert_close(
        model(view_a, view_b, starts)["loss"],
        model(view_b, view_a, starts[:, [1, 0, 3, 2]])["loss"],
    )


def test_workers_with_groups_of_their_own_give_the_mean_loss() -> None:
    """A gather that stands for a second worker with the same videos changes nothing."""
    model, views = make_corp_m(), make_views()
    alone = model(*views)
    model.gather = lambda x: torch.cat([x, x])
    torch.testing.assert_close(model(*views), alone)


def answers(model: CORPm, starts: Tensor, wrong: list[tuple[int, int, int]]) -> None:
    """Make the relation of ``model`` right for all pairs of clips but those at ``wrong``, (group,
    clip, clip).
    """
    right = pair_labels(starts.view(-1, model.group, starts.shape[1])).clamp(min=0)
    for where in wrong:
        right[where] = (right[where] + 1) % 3
    model.relation.forward = lambda x, y: nn.functional.one_hot(right, 3).double()  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("wrong", "pairs", "totals"),
    [
        ([], 1, 1),
        (
            [(0, 0, 2)],
            1 - 1 / 60,
            5 / 6,
        ),  # clips of videos 0 and 1 of the first group: that pair of videos alone
        ([(0, 0, 1)], 1 - 1 / 60, 4 / 6),  # clips of video 0: both pairs of videos that it is in
        ([(1, 0, 0)], 1, 1),  # a clip with itself is no pair
        ([(0, 0, 2), (0, 2, 0), (1, 5, 4)], 1 - 3 / 60, 3 / 6),
    ],
)
def test_accuracies(wrong: list[tuple[int, int, int]], pairs: float, totals: float) -> None:
    """Figure 3: the share of clip pairs told right, and of pairs of videos that are right
    throughout. Two groups of three.
    """
    model, views = make_corp_m(group=3), make_views(6, 2)
    answers(model, views[2], wrong)
    terms = model(*views)
    assert terms["pair_accuracy"].item() == pytest.approx(pairs)
    assert terms["total_accuracy"].item() == pytest.approx(totals)


@pytest.mark.parametrize("task", TASKS)
def test_accuracies_leave_out_what_a_task_does(task: str) -> None:
    model, (view_a, view_b, starts) = make_corp_m(task=task), make_views()
    labels = pair_labels(starts.view(-1, 2, 4))
    targets = {"both": labels, "contrast": (labels > 0).long(), "order": labels - 1}[task]
    model.relation.forward = lambda x, y: nn.functional.one_hot(
        targets.clamp(min=0), CLASSES[task]
    ).double()  # type: ignore[method-assign]
    terms = model(view_a, view_b, starts)
    assert terms["pair_accuracy"] == terms["total_accuracy"] == 1


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("attention", ["decoupling", "mixed"])
def test_every_parameter_gets_a_gradient(task: str, attention: str) -> None:
    model = make_corp_m(task=task, attention=attention)
    model(*make_views())["loss"].backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())
    assert all(p.grad.abs().max() > 0 for p in model.backbone.parameters())  # type: ignore[union-attr]


def test_the_sizes_of_the_paper() -> None:
    """Section 3.1: three hidden layers of 2048; d = 128, n = l = 64 (Decisions); two layers in the
    perceptron, K = 4 (Table 6).
    """
    with torch.device("meta"):
        model = CORPm(nn.Identity(), 2048)
    assert [tuple(p.shape) for p in model.projector.parameters() if p.ndim == 2] == [
        (2048, 2048)
    ] * 3 + [(128, 2048)]
    assert [tuple(p.shape) for p in model.relation.attention.parameters()] == [(64, 128)] * 3
    assert [tuple(p.shape) for p in model.relation.perceptron.parameters() if p.ndim == 2] == [
        (128, 128),
        (3, 128),
    ]
    assert model.default_clips == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group": 1}, r"^group: 1 .* at least 2"),
        ({"task": "all"}, r"^task: 'all' is not valid; it is one of both, contrast, order"),
        ({"reduction": "none"}, r"^reduction: 'none' is not valid; it is 'sum' or 'mean'"),
        ({"attention": "mixed", "heads": 4}, r"^heads: 4 .* must divide .* 6"),
        ({"perceptron_layers": 0}, r"^perceptron_layers: 0 .* 1 or 2"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_corp_m(**options)


def test_a_batch_that_the_group_does_not_divide_is_refused() -> None:
    model, message = make_corp_m(group=3), r"^group: 3 is not valid; it must divide the 4 videos"
    with pytest.raises(ValueError, match=message):
        model(*make_views(4))
    with pytest.raises(ValueError, match=message):
        model.check_share(4)
    model.check_share(6)


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (None, r"^starts: None is not valid; .* \[B, K\]"),
        (torch.zeros(4), r"^starts: \(4,\) is not valid; .* \[B, K\] with B = 4"),
        (
            torch.tensor([[0, 1, 2, 3]] * 3 + [[0, 1, 2, 1]]),
            r"^starts: two clips of one video begin at the same frame",
        ),
        (
            torch.tensor([[0, 1, 2]] * 4),
            r"^view_a, view_b: 8 and 8 clips are not those of 4 videos with 3 clips each",
        ),
        (
            torch.tensor([[0, 1, 2, 3]] * 2),
            r"^view_a, view_b: 8 and 8 clips are not those of 2 videos with 4 clips each",
        ),
    ],
)
def test_starts_that_do_not_fit_are_refused(starts: Tensor | None, message: str) -> None:
    model, (view_a, view_b, _) = make_corp_m(), make_views()
    with pytest.raises(ValueError, match=message):
        model(view_a, view_b, starts)


def test_a_single_video_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^group: 2 is not valid; it must divide the 1 videos"):
        make_corp_m()(*make_views(1))
