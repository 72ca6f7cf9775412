"""The GRID audiovisual sentence corpus (Cooke et al. 2006): spoken words, cut out of its sentences.

Each sentence has six words, "bin blue with m four now", which its name gives by one letter each,
``bbwm4n``. Its alignment says when each word is spoken, in 25,000ths of a second, which are
thousandths of a frame:

    14250 19750 bin
    19750 26000 blue

Nothing in a picture tells the words apart but the motion of the mouth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from vididi.data.sources.lists import Listing, existing_folder
from vididi.data.sources.walk import note, walk
from vididi.data.video import Moment, Picture, Video
from vididi.errors import DataError

FRAMES_PER_SECOND = 25
TIMES_PER_FRAME = 1000  # of the alignments' unit
SENTENCE_FRAMES = 75  # of every recording
PAUSES = ("sil", "sp")
LETTERS = {letter: letter for letter in "abcdefghijklmnopqrstuvxyz"}  # w has three syllables
DIGITS = dict(
    zip(
        "z123456789",
        ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
        strict=True,
    )
)
TEST_SHARE = 0.2  # of the sentences, where whole sentences are drawn


@dataclass(frozen=True)
class Slot:
    """One of the six words of a sentence.

    words: by the letter that stands for them in a sentence's name. neighbour: the slot of the word
    that is next to it, and by which its test videos are told; test: these neighbours.
    """

    name: str
    words: dict[str, str]
    neighbour: int
    test: tuple[str, ...]


# Tests hold about a fifth of the sentences, or a quarter where there are four neighbours. GRID's
# design crosses commands, colours, prepositions, letters and digits, so all classes are in both.
SLOTS = (
    Slot("command", {"b": "bin", "l": "lay", "p": "place", "s": "set"}, 1, ("white",)),
    Slot("colour", {"b": "blue", "g": "green", "r": "red", "w": "white"}, 2, ("with",)),
    Slot("preposition", {"a": "at", "b": "by", "i": "in", "w": "with"}, 1, ("white",)),
    Slot("letter", LETTERS, 4, ("two", "seven")),
    Slot("digit", DIGITS, 3, tuple("ejoty")),
    Slot("adverb", {"a": "again", "n": "now", "p": "please", "s": "soon"}, 4, ("two", "seven")),
)
KINDS = {"commands": (0,), "colours": (1,), "letters": (3,), "digits": (4,), "all": range(6)}


@dataclass(frozen=True)
class Sentence:
    """A recording: its file, its words by its name, and when each is spoken.

    spans: first and last frame of each word, not whole numbers. problem: why there are none.
    """

    speaker: str
    name: str
    path: Path
    spans: tuple[tuple[float, float], ...]
    problem: str = ""

    @property
    def words(self) -> tuple[str, ...]:
        """As its name gives them."""
        return words_of(self.name)


def grid(
    cache: Path,
    *,
    videos: Path,
    alignments: Path | None = None,
    words: Literal["digits", "letters", "colours", "commands", "all"] = "digits",
    split: Literal["neighbour", "speaker"] = "neighbour",
    test: list[str] | None = None,
    frames: int = 28,
    picture: list[int] | None = None,
) -> list[Video]:
    """GRID: each row is a word, with the frames round it; its class is the word.

        s1/bbwm4n.mpg, alignments/s1/bbwm4n.align       as the corpus is unpacked; any video suffix

    A word is rejected where its sentence has no alignment, or one that is not of these words.

    Args:
        videos: the folder of the speakers' folders, ``s1`` and so on, or one speaker's.
        alignments: by default the folder ``alignments`` in ``videos``, or beside it.
        words: which of a sentence are rows. ``all``: all six, in 51 classes.
        split: ``neighbour``: in the test are words next to one of ``test`` (SLOTS); with ``words:
            all`` a fifth of the sentences. ``speaker``: those of the speakers in ``test``.
        test: by default e, j, o, t, y for digits, two and seven for letters, with for colours,
            white for commands; no default for speakers.
        frames: round the middle of the word, within the sentence. The default leaves ten starts
            for clips of 8 frames at stride 2 with 2 more for derivatives.
        picture: ``[x, y, width, height]`` that is kept, in pixels of the file; by default all. The
            mouth of speaker 1 is in [83, 160, 144, 108].
    """
    if not 1 <= frames <= SENTENCE_FRAMES:
        raise ValueError(
            f"frames: {frames} is not valid; a sentence has 1 to {SENTENCE_FRAMES} frames"
        )
    root = existing_folder("videos", videos)
    tree = walk(root)
    tree.others.pop(".align", None)  # which may lie beside the videos
    aligned = _alignments(root, alignments)
    sentences, notes = _sentences(root, tree.videos, aligned)
    slots = KINDS[words]
    is_test = _split(sentences, words, split, test)
    window = Picture.of(picture) if picture is not None else None
    rows = [
        _row(sentence, slot, "test" if is_test(sentence) else "train", frames, window)
        for sentence in sentences
        for slot in slots
    ]
    return Listing(rows, [*tree.notes, *notes])


def words_of(name: str) -> tuple[str, ...]:
    """The six words that a sentence's name stands for; empty if it is not such a name."""
    if len(name) != len(SLOTS) or any(
        letter not in slot.words for letter, slot in zip(name, SLOTS, strict=True)
    ):
        return ()
    return tuple(slot.words[letter] for letter, slot in zip(name, SLOTS, strict=True))


def _row(sentence: Sentence, number: int, split: str, frames: int, window: Picture | None) -> Video:
    slot = SLOTS[number]
    moment = None
    if not sentence.problem:
        begin, end = sentence.spans[number]
        first = round((begin + end) / 2 - frames / 2)
        first = min(max(first, 0), SENTENCE_FRAMES - frames)
        before = frames // 2
        second = (first + before) / FRAMES_PER_SECOND
        moment = Moment(second, before, frames - 1 - before)
    return Video(
        sentence.path,
        f"{sentence.speaker}/{sentence.name}/{slot.name}",
        sentence.words[number],
        split,
        scene=sentence.words[slot.neighbour],
        moment=moment,
        picture=window,
        problem=sentence.problem,
    )


# --- Splits ---------------------------------------------------------------------------------------


def _split(
    sentences: list[Sentence], words: str, split: str, test: list[str] | None
) -> Callable[[Sentence], bool]:
    """Whether a sentence is in the test split."""
    if split == "speaker":
        speakers = sorted({sentence.speaker for sentence in sentences})
        _check_test(test or [], speakers, "speaker")
        return lambda sentence: sentence.speaker in (test or [])
    if words == "all":
        if test:
            raise ValueError(
                f"test: {test} is not valid with words: all, whose test sentences are drawn"
            )
        return lambda sentence: _share(sentence) < TEST_SHARE
    (number,) = KINDS[words]
    slot = SLOTS[number]
    neighbours = [*slot.test] if test is None else test
    _check_test(neighbours, SLOTS[slot.neighbour].words.values(), SLOTS[slot.neighbour].name)
    return lambda sentence: sentence.words[slot.neighbour] in neighbours


def _check_test(test: list[str], known: Iterable[str], kind: str) -> None:
    allowed = ", ".join(known)
    if not test:
        raise ValueError(f"test: {test} is not valid; give a {kind} or several of {allowed}")
    for value in test:
        if value not in allowed.split(", "):
            raise ValueError(f"test: {value!r} is not valid; a {kind} is one of {allowed}")


def _share(sentence: Sentence) -> float:
    """In [0, 1), from the sentence's words alone: all speakers' recordings of it are in one
    split.
    """
    return int.from_bytes(sha256(sentence.name.encode()).digest()[:4], "big") / 2**32


# --- Sentences and their alignments ---------------------------------------------------------------


def _alignments(root: Path, folder: Path | None) -> dict[tuple[str, str], Path]:
    """(speaker, sentence) -> file."""
    if folder is not None:
        roots = [existing_folder("alignments", folder)]
    else:
        roots = [root / "alignments", root.parent / "alignments", root]
    found = next((f for r in roots if r.is_dir() if (f := sorted(r.rglob("*.align")))), [])
    if not found:
        raise DataError(
            f"data.alignments: no .align files under {' or '.join(map(str, roots))}; the corpus has"
            " them as alignments/s1/bbwm4n.align"
        )
    return {(path.parent.name, path.stem): path for path in found}


def _sentences(
    root: Path, videos: list[str], aligned: dict[tuple[str, str], Path]
) -> tuple[list[Sentence], list[str]]:
    """All sentences that there is a recording or an alignment of, in order; and what was left
    out.
    """
    paths: dict[tuple[str, str], Path] = {}
    foreign, repeated = [], []
    for name in videos:
        path = root / name
        if not words_of(path.stem):
            foreign.append(name)
        elif paths.setdefault((_speaker(path, aligned), path.stem), path) != path:
            repeated.append(name)
    speakers = {speaker for speaker, _ in paths}
    sentences = []
    for key in sorted({*paths, *(k for k in aligned if k[0] in speakers and words_of(k[1]))}):
        speaker, name = key
        path = paths.get(key) or root / speaker / f"{name}.mpg"
        try:
            if key not in aligned:
                raise DataError(f"no alignment: {speaker}/{name}.align is not there")
            sentences.append(Sentence(speaker, name, path, read_alignment(aligned[key], name)))
        except DataError as error:
            sentences.append(Sentence(speaker, name, path, (), str(error)))
    if not sentences:
        raise DataError(
            f"data.videos: no recording of GRID under {root}; their names are six letters and"
            " digits, as s1/bbwm4n.mpg"
        )
    notes = note(foreign, "videos", "left out: their names are not those of sentences")
    return sentences, notes + note(repeated, "videos", "left out: of a sentence that is there")


def _speaker(path: Path, aligned: dict[tuple[str, str], Path]) -> str:
    """The nearest folder above a recording that alignments are named after, else its own folder:
    the larger recordings lie in s1/video/mpg_6000.
    """
    folders = {speaker for speaker, _ in aligned}
    return next((part for part in reversed(path.parts[:-1]) if part in folders), path.parent.name)


def read_alignment(path: Path, name: str) -> tuple[tuple[float, float], ...]:
    """When the six words of a sentence are spoken: first and last frame of each, not whole numbers.

    Raises:
        DataError: the file is not an alignment, or not of these words.
    """
    spans, spoken, last = [], [], 0
    try:
        lines = path.read_text().splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"alignment {path.name} cannot be read: {error}") from None
    for number, line in enumerate(lines, 1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 3 or not (cells[0].isdecimal() and cells[1].isdecimal()):
            raise DataError(
                f"alignment {path.name}, line {number}: {line[:60]!r} is not START END WORD"
            )
        begin, end = int(cells[0]), int(cells[1])
        if not last <= begin < end <= SENTENCE_FRAMES * TIMES_PER_FRAME:
            raise DataError(
                f"alignment {path.name}, line {number}: {begin} to {end} does not follow {last}"
                f" within the {SENTENCE_FRAMES * TIMES_PER_FRAME} of a sentence"
            )
        last = end
        if cells[2].lower() not in PAUSES:
            spans.append((begin / TIMES_PER_FRAME, end / TIMES_PER_FRAME))
            spoken.append(cells[2].lower())
    if tuple(spoken) != words_of(name):
        raise DataError(
            f"alignment {path.name} is of {' '.join(spoken)!r}, the name of"
            f" {' '.join(words_of(name))!r}"
        )
    return tuple(spans)
