"""A test split for a set that has none: whole groups of videos are held out, class by class.

The share is kept as nearly as whole groups allow, before stability: in a small class a draw for
each group by itself would often hold out nothing, or half. So a video that is new may move the
group at the border of its class to the other side; who must have fixed sides writes the list once,
with ``vididi split``, and adds lines to it (docs/data.md).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from vididi.data.sources.walk import MAX_NAMED
from vididi.data.video import printable
from vididi.draws import Use, key
from vididi.errors import DataError
from vididi.values import LARGEST, shown
from vididi.words import counted

Sides = dict[str, str]  # "train" or "test" of each group


@dataclass(frozen=True)
class HeldOut:
    """What is to be held out.

    Attributes:
        share: of the videos of each class, above 0 and below 1.
        group: a pattern of video ids with one pair of parentheses, which match the group; a column
            of a list; None: every video is a group of its own.
        seed: of the draw.
    """

    share: float
    group: str | None
    seed: int

    @property
    def pattern(self) -> re.Pattern[str] | None:
        """Of video ids; ValueError if ``group`` is none with one pair of parentheses."""
        if self.group is None:
            return None
        try:
            pattern = re.compile(self.group)
        except re.error as error:
            raise ValueError(f"group: {self.group!r} is no pattern: {error}") from None
        if pattern.groups != 1:
            raise ValueError(
                f"group: {self.group!r} has {counted(pattern.groups, 'pair')} of parentheses; a"
                " pattern of video ids has one, whose match is the group"
            )
        return pattern

    @property
    def names_column(self) -> bool:
        """Whether ``group`` is no pattern but a name, as a column has it."""
        return self.group is not None and "(" not in self.group


def held_out(test_share: float | None, group: str | None, seed: int) -> HeldOut | None:
    """What the options of a source ask for; None without ``test_share``.

    Raises:
        ValueError: a value is not valid, or is given without ``test_share``.
    """
    if test_share is None:
        for name, value, default in (("group", group, None), ("seed", seed, 0)):
            if value != default:
                raise ValueError(f"{name}: {shown(value)} is for test_share, which is not given")
        return None
    if not 0 < test_share < 1:
        raise ValueError(f"test_share: {test_share} is not valid; it must be above 0 and below 1")
    if not 0 <= seed <= LARGEST:
        raise ValueError(f"seed: {seed} is not valid; it must be 0 to {LARGEST}")
    return HeldOut(test_share, group, seed)


def groups_of(names: Sequence[str], pattern: re.Pattern[str] | None) -> list[str]:
    """The group of each video id: itself, or what the parentheses match.

    Raises:
        DataError: the pattern does not match an id, or its group is empty.
    """
    if pattern is None:
        return [*names]
    found = [match[1] if (match := pattern.search(name)) else None for name in names]
    without = [name for name, group in zip(names, found, strict=True) if not group]
    if without:
        raise DataError(
            f"data.group: {pattern.pattern!r} is not in {len(without)} of"
            f" {counted(len(names), 'video')}, such as {printable(min(without))}; every video has a"
            " group"
        )
    return [group or "" for group in found]


def draw_sides(classes: Sequence[str], groups: Sequence[str], share: float, seed: int) -> Sides:
    """The side of each group, a function of the rows as a set, ``share`` and ``seed``.

    The groups of a class come in the order of a hash of their names and the seed; each is held out
    that brings the class's test videos nearer to the share, and at least one is on either side. A
    group of several classes is on one side in all: classes of few groups choose first.

    Args:
        classes, groups: of each video. share: of a class's videos, above 0 and below 1.

    Raises:
        DataError: a class has one group, or all of its groups came to one side by other classes.
    """
    sizes: dict[str, Counter[str]] = defaultdict(Counter)  # of a class's groups, in videos
    for name, group in zip(classes, groups, strict=True):
        sizes[name][group] += 1
    single = sorted(name for name in sizes if len(sizes[name]) == 1)
    if single:
        more = f"; so have {len(single) - 1} more classes" if len(single) > 1 else ""
        raise DataError(
            f"data.test_share: class {single[0]!r} has one group,"
            f" {printable(next(iter(sizes[single[0]])))!r}, which cannot be on both sides{more}"
        )
    place = {group: (_hash(group, seed), group) for group in {*groups}}
    sides: Sides = {}
    for name in sorted(sizes, key=lambda name: (len(sizes[name]), name)):
        _draw_class(sizes[name], place, share, sides)
    for name in sorted(sizes):
        if len(present := {sides[group] for group in sizes[name]}) == 1:
            raise DataError(
                f"data.test_share: class {name!r}: all of its {len(sizes[name])} groups came to"
                f" {present.pop()}, since they are in other classes too; another data.seed may do"
            )
    return sides


def _draw_class(
    sizes: Counter[str], place: Mapping[str, tuple[int, str]], share: float, sides: Sides
) -> None:
    """Put the groups of a class that have no side yet on one."""
    target = share * sizes.total()
    held = sum(size for group, size in sizes.items() if sides.get(group) == "test")
    present = {sides[group] for group in sizes if group in sides}
    undecided = sorted((group for group in sizes if group not in sides), key=place.__getitem__)
    test = []
    for group in undecided:
        if abs(held + sizes[group] - target) < abs(held - target):
            test.append(group)
            held += sizes[group]
    train = [group for group in undecided if group not in {*test}]
    # Where one side has nothing, the smallest group goes there: it costs the share least.
    if train and not test and "test" not in present:
        test = [min(train, key=lambda group: (sizes[group], place[group]))]
    elif test and not train and "train" not in present:
        test.remove(min(test, key=lambda group: (sizes[group], place[group])))
    sides.update({group: "test" if group in {*test} else "train" for group in undecided})


def _hash(group: str, seed: int) -> int:
    """By which groups are in order; the same for both normal forms of accents."""
    text = unicodedata.normalize("NFC", printable(group)).encode()
    return int(key(Use.HELD_OUT, seed, int.from_bytes(sha256(text).digest()[:8])))


@dataclass(frozen=True)
class SideCounts:
    """Videos and groups of a class, or of all, on either side."""

    train: int
    train_groups: int
    test: int
    test_groups: int

    @property
    def share(self) -> float:
        """Of videos that are held out."""
        return self.test / (self.train + self.test)


def count_sides(
    classes: Sequence[str], groups: Sequence[str], sides: Mapping[str, str]
) -> tuple[SideCounts, dict[str, SideCounts]]:
    """Of all videos, and of each class in order of names."""
    of_class: dict[str, list[str]] = defaultdict(list)
    for name, group in zip(classes, groups, strict=True):
        of_class[name].append(group)
    return _counts(groups, sides), {
        name: _counts(of_class[name], sides) for name in sorted(of_class)
    }


def _counts(groups: Sequence[str], sides: Mapping[str, str]) -> SideCounts:
    train, test = (
        [group for group in groups if sides[group] == side] for side in ("train", "test")
    )
    return SideCounts(len(train), len({*train}), len(test), len({*test}))


def hold_out(
    asked: HeldOut, classes: Sequence[str], groups: Sequence[str]
) -> tuple[list[str], list[str]]:
    """The split of each video, and sentences with counts for a listing's notes.

    Args:
        classes, groups: of each video.

    Raises:
        DataError: as draw_sides.
    """
    sides = draw_sides(classes, groups, asked.share, asked.seed)
    return [sides[group] for group in groups], describe_sides(
        asked, *count_sides(classes, groups, sides)
    )


def describe_sides(
    asked: HeldOut, total: SideCounts, by_class: Mapping[str, SideCounts]
) -> list[str]:
    """Sentences for a listing's notes: counts of all, and of the first classes."""
    first = [
        f"{name} {one.train} ({one.train_groups}) and {one.test} ({one.test_groups})"
        for name, one in [*by_class.items()][:MAX_NAMED]
    ]
    more = f", and {len(by_class) - MAX_NAMED} more classes" if len(by_class) > MAX_NAMED else ""
    return [
        f"test_share {asked.share:g}: drawn with seed {asked.seed},"
        f" {counted(total.train, 'training video')} of {counted(total.train_groups, 'group')} and"
        f" {counted(total.test, 'test video')} of {counted(total.test_groups, 'group')}, a share of"
        f" {total.share:.3g}",
        f"training and test videos (groups) of each class: {', '.join(first)}{more}",
    ]
