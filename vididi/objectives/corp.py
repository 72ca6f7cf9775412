"""CORP (Hu et al. 2021): do two clips come from the same video, and which of them comes first?

Shapes: B videos, K clips per video, D embedding, G groups of g videos, n = g K clips of a group.
"""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize

from vididi.checks import check_positive
from vididi.objectives.cvrl import nt_xent
from vididi.objectives.heads import Relation, mlp
from vididi.objectives.objective import (
    Objective,
    at_least_float32,
    check_finite_outside_graph,
    full_precision,
)

Task = Literal["both", "contrast", "order"]
TASKS = ("both", "contrast", "order")


def corp_f_loss(
    z_a: Tensor,
    z_b: Tensor,
    logits_ab: Tensor,
    logits_ba: Tensor,
    a_first: Tensor,
    temperature: float,
) -> Tensor:
    """Eq. 6: the cross entropy of finding a clip's partner and telling which is earlier.

    The choice is one of 4B - 2.

    The probability of eq. 5 (partner) times that of eq. 4 (order, given the partner) makes it a sum
    of two losses; both are summed over the two clips of a video and averaged over videos.

    Args:
        z_a, z_b: ``[B, D]`` embeddings of the two clips of each video.
        logits_ab: ``[B, 2]`` relation of (a, b): index 0 says that the first of them precedes.
            logits_ba: that of (b, a).
        a_first: ``[B]`` bool, whether clip a precedes clip b.
        temperature: tau of eq. 5.

    Raises:
        ValueError: as nt_xent, or logits that are not finite ``[B, 2]``, or ``a_first`` that is not
            bool.
    """
    return 2 * nt_xent(z_a, z_b, temperature) + order_loss(logits_ab, logits_ba, a_first)


def order_loss(logits_ab: Tensor, logits_ba: Tensor, a_first: Tensor) -> Tensor:
    """The order part of eq. 6: the cross entropies of (a, b) and of (b, a), added.

    Averaged over videos. Arguments and errors as of corp_f_loss.
    """
    batch = len(a_first)
    for name, logits in (("logits_ab", logits_ab), ("logits_ba", logits_ba)):
        if logits.shape != (batch, 2):
            raise ValueError(
                f"{name}: shape {tuple(logits.shape)}; it must be [B, 2] with B = {batch} as"
                " a_first"
            )
    if a_first.dtype != torch.bool:
        raise ValueError(f"a_first: {a_first.dtype} is not valid; it must be bool")
    check_finite_outside_graph(logits_ab=logits_ab, logits_ba=logits_ba)
    with full_precision(logits_ab.device.type):
        later = (~a_first).long()  # the class of (a, b): 0 where a precedes
        return cross_entropy(at_least_float32(logits_ab), later) + cross_entropy(
            at_least_float32(logits_ba), 1 - later
        )


def pair_labels(starts: Tensor) -> Tensor:
    """The class of every ordered pair of clips in each group.

    Args:
        starts: ``[G, g, K]`` where each clip begins.

    Returns:
        ``[G, n, n]``: 0 different videos (P1), 1 same video and the first precedes (P2), 2 the
        second precedes (P3), -1 a clip with itself.
    """
    groups, videos, clips = starts.shape
    start = starts.reshape(groups, -1)
    video = torch.arange(videos, device=starts.device).repeat_interleave(clips)
    same = video[:, None] == video[None, :]
    order = torch.where(start[:, :, None] < start[:, None, :], 1, 2)
    labels = torch.where(same, order, 0)
    return labels.masked_fill(torch.eye(len(video), dtype=torch.bool, device=starts.device), -1)


def corp_m_loss(
    logits: Tensor, starts: Tensor, task: Task = "both", reduction: Literal["sum", "mean"] = "sum"
) -> Tensor:
    """The loss of CORP_m (section 3.2): cross entropy over the clip pairs of each pair of videos.

    All ordered pairs of clips count.

    Video pairs are formed within a group. Over the 4K^2 - 2K clip pairs of a video pair the losses
    are summed, as printed, or averaged; over video pairs and groups they are averaged. A pair of
    clips of one video belongs to each of the g - 1 video pairs that its video is in.

    Args:
        logits: ``[G, n, n, classes]`` of every ordered pair of clips, clips video by video. Classes
            are P1, P2, P3 for task ``both``; different, same for ``contrast``; first precedes,
            second precedes for ``order`` (Table 6a).
        starts: ``[G, g, K]`` where each clip begins.
        task: what is predicted: same video, order in time, or both.
        reduction: over the clip pairs of a pair of videos.

    Raises:
        ValueError: a shape that does not fit, fewer than 2 videos in a group or 2 clips of a video,
            a value that is not finite.
    """
    _check_pair_logits(logits, starts, task, reduction)
    groups, videos, clips = starts.shape
    labels = pair_labels(starts)
    with full_precision(logits.device.type):
        losses = cross_entropy(
            at_least_float32(logits).flatten(0, 2),
            _targets(labels, task).flatten(),
            ignore_index=-1,
            reduction="none",
        )
    # Ignored pairs have no loss to weigh.
    weights = torch.where(labels == 0, 1, videos - 1).flatten()
    video_pairs = groups * videos * (videos - 1) / 2
    per_video_pair = (losses * weights).sum() / video_pairs
    if reduction == "mean":
        return per_video_pair / _clip_pairs_of_video_pair(clips, task)
    return per_video_pair


def _check_pair_logits(logits: Tensor, starts: Tensor, task: Task, reduction: str) -> None:
    """Raise ValueError as corp_m_loss says."""
    if task not in TASKS:
        raise ValueError(f"task: {task!r} is not valid; it is one of {', '.join(TASKS)}")
    if reduction not in ("sum", "mean"):
        raise ValueError(f"reduction: {reduction!r} is not valid; it is 'sum' or 'mean'")
    groups, videos, clips = starts.shape
    if videos < 2 or clips < 2:
        raise ValueError(
            f"starts: groups of {videos} videos with {clips} clips; pairs need at least 2 videos"
            " and 2 clips of each"
        )
    n, classes = videos * clips, 3 if task == "both" else 2
    if logits.shape != (groups, n, n, classes):
        raise ValueError(
            f"logits: shape {tuple(logits.shape)}; for task {task!r} and these starts it must be"
            f" {(groups, n, n, classes)}"
        )
    check_finite_outside_graph(logits=logits)


def _clip_pairs_of_video_pair(clips: int, task: Task) -> int:
    return 2 * clips * (clips - 1) if task == "order" else 4 * clips**2 - 2 * clips


def _targets(labels: Tensor, task: Task) -> Tensor:
    """Labels of pair_labels as the classes of a task; -1 for pairs that it leaves out."""
    if task == "contrast":
        return labels.clamp(max=1)
    if task == "order":
        return torch.where(labels > 0, labels - 1, -1)
    return labels


class _CORP(Objective):
    """What both have: a projector, and embeddings of unit length.

    The projector has three hidden layers of 2048 and d = 128 (section 3.1).
    """

    default_augment = "corp"
    default_sampling = "min_offset"
    takes_one_pass = True
    # Clips that begin at the same frame have no order.
    samplings: ClassVar[tuple[str, ...]] = ("min_offset",)

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        hidden: int,
        out: int,
        hidden_layers: int,
        task: Task,
    ) -> None:
        super().__init__(backbone)
        if task not in TASKS:
            raise ValueError(f"task: {task!r} is not valid; it is one of {', '.join(TASKS)}")
        self.task: Task = task
        self.projector = mlp(feature_width, hidden, out, hidden_layers)

    def embed(self, view_a: Tensor, view_b: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, C, T, H, W]`` -> ``[B, D]`` of unit length, of each view."""
        z_a, z_b = self.embed_both(view_a, view_b, self.backbone, self.projector)
        return normalize(at_least_float32(z_a), dim=1), normalize(at_least_float32(z_b), dim=1)

    @staticmethod
    def check_starts(starts: Tensor | None, videos: int) -> Tensor:
        """``starts`` itself, ``[B, K]``.

        Raises:
            ValueError: it lacks a row for each video, or two numbers of a row are equal.
        """
        if starts is None or starts.ndim != 2 or len(starts) != videos:
            shape = None if starts is None else tuple(starts.shape)
            raise ValueError(
                f"starts: {shape} is not valid; CORP needs where each clip begins, [B, K] with B ="
                f" {videos}"
            )
        ordered = starts.sort(dim=1).values
        if (ordered[:, 1:] == ordered[:, :-1]).any():
            raise ValueError(
                "starts: two clips of one video begin at the same frame, so neither is the first;"
                " use sampling 'min_offset'"
            )
        return starts


class CORPf(_CORP):
    """CORP_f (section 3.3): two clips of many videos, eq. 6, temperature 0.1.

    The least offset of eq. 3 is printed for CORP_m; sampling ``distinct`` is without it.

    ``task: contrast`` leaves out the order ("SimCLR-based"), ``order`` the contrast. ``attention``
    and ``perceptron_layers`` are the ablations of the paper's Table 6c and d.

    Args:
        hidden: width of the projector's hidden layers (CORP 3.1) [features].
        out: width of the embedding: d (CORP 3.1) [features].
        hidden_layers: of the projector; 0 is a linear one (CORP 3.1).
        temperature: what similarities are divided by (CORP eq. 5).
        attention: decoupling: eq. 8; mixed: without the decoupling (CORP Table 6c).
        symmetric, antisymmetric: n and l, widths of the two parts of eq. 8 (CORP eq. 8).
        heads: width of the mixed attention.
        perceptron_layers: of what follows the attention (CORP Table 6d).
        task: what is predicted: same video, order in time, or both (CORP Table 6a).
    """

    samplings = ("min_offset", "distinct")

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        hidden_layers: int = 3,
        temperature: float = 0.1,
        attention: Literal["decoupling", "mixed"] = "decoupling",
        symmetric: int = 64,
        antisymmetric: int = 64,
        heads: int = 128,
        perceptron_layers: int = 2,
        task: Task = "both",
    ) -> None:
        super().__init__(backbone, feature_width, hidden, out, hidden_layers, task)
        check_positive(temperature=temperature)
        self.temperature = temperature
        if task != "contrast":
            self.relation = Relation(
                out, 2, attention, symmetric, antisymmetric, heads, perceptron_layers
            )

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (eq. 6), its parts ``contrast`` and ``order``, and ``order_accuracy``."""
        self.check_batch(view_a, view_b)
        starts = self.check_starts(starts, len(view_a)).to(view_a.device)
        if starts.shape[1] != 2:
            raise ValueError(f"starts: {starts.shape[1]} clips of each video; CORP_f compares two")

        z_a, z_b = self.embed(view_a, view_b)
        terms: dict[str, Tensor] = {}
        # Which clip of the batch is the partner (eq. 5)?
        if self.task != "order":
            terms["contrast"] = 2 * nt_xent(self.gather(z_a), self.gather(z_b), self.temperature)
        # Which of the two clips of a video is earlier (eq. 4)?
        if self.task != "contrast":
            logits_ab = self.gather(self.relation(z_a, z_b))
            logits_ba = self.gather(self.relation(z_b, z_a))
            starts = self.gather(starts)
            a_first = starts[:, 0] < starts[:, 1]
            terms["order"] = order_loss(logits_ab, logits_ba, a_first)
            terms["order_accuracy"] = ((logits_ab.argmax(dim=1) == 0) == a_first).float().mean()

        loss = sum(terms[name] for name in ("contrast", "order") if name in terms)
        return {"loss": loss, **terms}  # type: ignore[dict-item]


class CORPm(_CORP):
    """CORP_m (section 3.2): K clips (4) of few videos, three-way classification of clip pairs.

    Video pairs are formed within fixed groups of ``group`` neighbours in the batch, which one
    worker holds whole, so that the loss does not depend on the number of workers (the paper forms
    them within each GPU). ``task``, ``attention`` and ``perceptron_layers`` are the ablations of
    the paper's Table 6. ``reduction`` is that of corp_m_loss; the paper sums over the 4K^2 - 2K
    clip pairs, which to a LARS that scales every parameter is the same as their mean, but not to
    one that exempts biases and normalisations.

    Args:
        hidden: width of the projector's hidden layers (CORP 3.1) [features].
        out: width of the embedding: d (CORP 3.1) [features].
        hidden_layers: of the projector; 0 is a linear one (CORP 3.1).
        attention: decoupling: eq. 8; mixed: without the decoupling (CORP Table 6c).
        symmetric, antisymmetric: n and l, widths of the two parts of eq. 8 (CORP eq. 8).
        heads: width of the mixed attention.
        perceptron_layers: of what follows the attention (CORP Table 6d).
        task: what is predicted: same video, order in time, or both (CORP Table 6a).
        group: neighbours in the batch within which pairs of videos are formed [videos].
        reduction: over the clip pairs of a pair of videos; sum is as printed (CORP 3.2).
    """

    default_clips = 4
    max_clips = 16

    def __init__(
        self,
        backbone: nn.Module,
        feature_width: int,
        *,
        hidden: int = 2048,
        out: int = 128,
        hidden_layers: int = 3,
        attention: Literal["decoupling", "mixed"] = "decoupling",
        symmetric: int = 64,
        antisymmetric: int = 64,
        heads: int = 128,
        perceptron_layers: int = 2,
        task: Task = "both",
        group: int = 8,
        reduction: Literal["sum", "mean"] = "mean",
    ) -> None:
        super().__init__(backbone, feature_width, hidden, out, hidden_layers, task)
        if group < 2:
            raise ValueError(f"group: {group} is not valid; pairs of videos need at least 2")
        if reduction not in ("sum", "mean"):
            raise ValueError(f"reduction: {reduction!r} is not valid; it is 'sum' or 'mean'")
        self.relation = Relation(
            out,
            3 if task == "both" else 2,
            attention,
            symmetric,
            antisymmetric,
            heads,
            perceptron_layers,
        )
        self.group, self.reduction = group, reduction

    def check_share(self, videos: int) -> None:
        """Raise ValueError unless a worker's ``videos`` are whole groups."""
        if videos % self.group:
            raise ValueError(
                f"group: {self.group} is not valid; it must divide the {videos} videos of a batch"
                " that a worker holds"
            )

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        """``loss`` (section 3.2), ``pair_accuracy`` and ``total_accuracy``."""
        videos = 0 if starts is None else len(starts)
        starts = self.check_starts(starts, videos)
        self.check_share(videos)
        clips = starts.shape[1]
        if len(view_a) != videos * ((clips + 1) // 2) or len(view_b) != videos * (clips // 2):
            raise ValueError(
                f"view_a, view_b: {len(view_a)} and {len(view_b)} clips are not those of {videos}"
                f" videos with {clips} clips each"
            )
        z = self._by_clip(*self.embed(view_a, view_b), videos, clips)
        z = z.view(videos // self.group, self.group * clips, -1)
        logits = self.gather(self.relation(z[:, :, None], z[:, None, :]))
        starts = self.gather(starts.to(z.device).view(-1, self.group, clips))
        loss = corp_m_loss(logits, starts, self.task, self.reduction)
        return {"loss": loss, **self._accuracies(logits.detach(), starts)}

    @staticmethod
    def _by_clip(z_a: Tensor, z_b: Tensor, videos: int, clips: int) -> Tensor:
        """The two views' embeddings as ``[B * K, D]``, video by video and clip by clip."""
        z = z_a.new_empty(videos, clips, z_a.shape[1])
        z[:, 0::2] = z_a.view(videos, -1, z_a.shape[1])
        z[:, 1::2] = z_b.view(videos, -1, z_b.shape[1])
        return z.flatten(0, 1)

    def _accuracies(self, logits: Tensor, starts: Tensor) -> dict[str, Tensor]:
        """The shares of clip pairs and of video pairs that were classified right.

        A video pair is where all its clip pairs are (Figure 3's total accuracy).
        """
        groups, videos, clips = starts.shape
        targets = _targets(pair_labels(starts), self.task)
        correct, counted = logits.argmax(dim=-1) == targets, targets >= 0
        all_correct = (
            (correct | ~counted).view(groups, videos, clips, videos, clips).all(dim=4).all(dim=2)
        )
        same_video = all_correct.diagonal(dim1=1, dim2=2)
        pair_correct = (
            all_correct
            & all_correct.transpose(1, 2)
            & same_video[:, :, None]
            & same_video[:, None, :]
        )
        off_diagonal = ~torch.eye(videos, dtype=torch.bool, device=logits.device)

        return {
            "pair_accuracy": (correct & counted).sum() / counted.sum(),
            "total_accuracy": pair_correct[:, off_diagonal].float().mean(),
        }
