"""GRID's words are cut out of sentences by their alignments: on a made-up layout of two speakers,
whose frame k shows k, and on real sentences where they are there.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.prepare import prepare
from vididi.data.sources import SOURCES, Listing
from vididi.data.sources.grid import SENTENCE_FRAMES, read_alignment, words_of
from vididi.data.video_reader import open_moment
from vididi.errors import DataError

REAL = Path(__file__).parents[3] / "shared" / "realdata" / "grid_s1_raw"
SPEAKERS = {
    "s1": ("bbaf2n", "bbae7n", "lgwo4p", "swit1s"),
    "s20": ("bbaf2n", "prba9a", "bbwy3n"),
}
# Frames at which the six words begin, and the end of the last.
BOUNDS = (10, 18, 26, 30, 36, 44, 52)


def alignment(name: str, words: tuple[str, ...] | None = None) -> str:
    lines = [f"0 {BOUNDS[0] * 1000} sil"]
    for i, word in enumerate(words or words_of(name)):
        lines.append(f"{BOUNDS[i] * 1000} {BOUNDS[i + 1] * 1000} {word}")
    return "\n".join([*lines, f"{BOUNDS[-1] * 1000} 74500 sil"]) + "\n"


@pytest.fixture(scope="module")
def sentence(tmp_path_factory: pytest.TempPathFactory, write_video: Callable[..., Path]) -> bytes:
    """A file of 75 frames at 25 a second, 64 x 48, frame k of which has 3 k + 10 everywhere, and
    its right half half of that.
    """
    frames = np.full((SENTENCE_FRAMES, 48, 64, 3), 10, dtype=np.uint8)
    frames += (3 * np.arange(SENTENCE_FRAMES, dtype=np.uint8))[:, None, None, None]
    frames[:, :, 32:] //= 2
    return write_video(tmp_path_factory.mktemp("grid") / "a.mp4", frames, rate=25).read_bytes()


@pytest.fixture
def corpus(tmp_path: Path, sentence: bytes) -> Path:
    for speaker, names in SPEAKERS.items():
        for folder in (tmp_path / "grid" / speaker, tmp_path / "grid/alignments" / speaker):
            folder.mkdir(parents=True)
        for name in names:
            unlike = b"\0\0\0\x13free" + f"{speaker:>5}{name}".encode()  # an empty box of MP4
            (tmp_path / "grid" / speaker / f"{name}.mp4").write_bytes(sentence + unlike)
            path = tmp_path / "grid/alignments" / speaker / f"{name}.align"
            path.write_text(alignment(name))
    return tmp_path / "grid"


def source(root: Path, **options: object) -> Listing:
    return SOURCES["grid"](root.parent / "cache", videos=root, **options)  # type: ignore[return-value]


def numbers(encoded: Encoded | Reject) -> list[int]:
    """Which frames of the file these are."""
    import simplejpeg

    assert isinstance(encoded, Encoded), encoded
    shades = [simplejpeg.decode_jpeg(frame)[:, :8].mean() for frame in encoded.frames]
    return [round((shade - 10) / 3) for shade in shades]


def test_a_name_stands_for_six_words() -> None:
    assert words_of("bbaf2n") == ("bin", "blue", "at", "f", "two", "now")
    assert words_of("swizzs") == ("set", "white", "in", "z", "zero", "soon")
    assert words_of("bbaw2n") == ()  # no letter w
    assert words_of("aa00") == () == words_of("bbaf2nn") == words_of("")


def test_digits_are_told_by_name_and_split_by_the_letter_before(corpus: Path) -> None:
    videos = source(corpus)
    assert {(v.video_id, v.class_name, v.split, v.scene) for v in videos} == {
        ("s1/bbaf2n/digit", "two", "train", "f"),
        ("s1/bbae7n/digit", "seven", "test", "e"),
        ("s1/lgwo4p/digit", "four", "test", "o"),
        ("s1/swit1s/digit", "one", "test", "t"),
        ("s20/bbaf2n/digit", "two", "train", "f"),
        ("s20/prba9a/digit", "nine", "train", "a"),
        ("s20/bbwy3n/digit", "three", "test", "y"),
    }
    assert videos.notes == []


@pytest.mark.parametrize(
    ("words", "classes", "test"),
    [
        ("letters", "f e o t f a y", {"s1/bbae7n/letter", "s1/bbaf2n/letter", "s20/bbaf2n/letter"}),
        (
            "colours",
            "blue blue green white blue red blue",
            {"s1/lgwo4p/colour", "s20/bbwy3n/colour"},
        ),
        ("commands", "bin bin lay set bin place bin", {"s1/swit1s/command"}),
    ],
)
def test_other_words(corpus: Path, words: str, classes: str, test: set[str]) -> None:
    videos = source(corpus, words=words)
    assert sorted(v.class_name for v in videos) == sorted(classes.split())
    assert {v.video_id for v in videos if v.split == "test"} == test


def test_all_words_of_a_sentence_are_in_one_split_whoever_says_it(corpus: Path) -> None:
    videos = source(corpus, words="all")
    assert len(videos) == 6 * 7
    splits: dict[str, set[str]] = {}
    for video in videos:
        splits.setdefault(video.video_id.split("/")[1], set()).add(video.split)
    assert all(len(split) == 1 for split in splits.values())
    assert {v.class_name for v in videos if "/swit1s/" in v.video_id} == {*words_of("swit1s")}


def test_speakers_may_be_the_test(corpus: Path) -> None:
    videos = source(corpus, split="speaker", test=["s20"])
    assert {v.video_id.split("/")[0] for v in videos if v.split == "test"} == {"s20"}
    assert {v.video_id.split("/")[0] for v in videos if v.split == "train"} == {"s1"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "speaker"}, r"test: \[\] is not valid; give a speaker or several of s1, s20"),
        (
            {"split": "speaker", "test": ["s2"]},
            "test: 's2' is not valid; a speaker is one of s1, s20",
        ),
        ({"test": ["w"]}, "test: 'w' is not valid; a letter is one of a, b, c"),
        ({"words": "all", "test": ["a"]}, "not valid with words: all"),
        ({"frames": 76}, "frames: 76 is not valid; a sentence has 1 to 75 frames"),
        ({"picture": [0, 0, 10]}, r"picture: \[0, 0, 10\] is not valid"),
        ({"picture": [0, -1, 10, 10]}, "picture: .* is not valid"),
    ],
)
def test_options_that_cannot_be_are_named(
    corpus: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        source(corpus, **options)


def test_frames_lie_round_the_middle_of_the_word(corpus: Path) -> None:
    (video,) = [v for v in source(corpus, frames=12) if v.video_id == "s1/bbaf2n/digit"]
    # The digit is from frame 36 to 44.
    assert numbers(encode_video(video, Settings(short_side=48))) == [*range(34, 46)]


def test_frames_of_a_word_near_an_end_lie_within_the_sentence(corpus: Path) -> None:
    videos = {v.video_id: v for v in source(corpus, words="all", frames=60)}
    first = numbers(encode_video(videos["s1/bbaf2n/command"], Settings(short_side=48)))
    last = numbers(encode_video(videos["s1/bbaf2n/adverb"], Settings(short_side=48)))
    assert (first, last) == ([*range(60)], [*range(15, 75)])


def test_the_picture_is_cut_before_it_is_resized(corpus: Path) -> None:
    import simplejpeg

    video = source(corpus, frames=4, picture=[32, 8, 20, 16])[0]
    encoded = encode_video(video, Settings(short_side=32))
    assert isinstance(encoded, Encoded)
    assert (encoded.height, encoded.width) == (32, 40)
    frame = simplejpeg.decode_jpeg(encoded.frames[0])
    assert frame.std() < 3  # all of it is of the right half, which is darker
    outside = source(corpus, frames=4, picture=[60, 8, 20, 16])[0]
    rejected = encode_video(outside, Settings())
    assert isinstance(rejected, Reject)
    assert (
        "20 x 16 pixels from (60, 8) do not lie in its frames, which are 64 x 48" in rejected.reason
    )


def damaged(corpus: Path, name: str) -> None:
    path = corpus / "alignments/s1/bbaf2n.align"
    text = path.read_text()
    if name == "missing":
        path.unlink()
    elif name == "of another sentence":
        path.write_text(alignment("bbaf2n", words_of("bbae7n")))
    elif name == "misspelt":
        path.write_text(text.replace("two", "twoe"))
    elif name == "cut":
        path.write_text(text[:60])
    elif name == "backwards":
        path.write_text(text.replace("36000 44000", "44000 36000"))
    elif name == "beyond the end":
        path.write_text(text.replace("44000 52000", "44000 75001"))
    elif name == "no numbers":
        path.write_text(text.replace("36000", "36s"))
    elif name == "not text":
        path.write_bytes(b"\xff\xfe\x00")


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("missing", "no alignment: s1/bbaf2n.align is not there"),
        ("of another sentence", "bbaf2n.align is of 'bin blue at e seven now', the name of 'bin"),
        ("misspelt", "bbaf2n.align is of 'bin blue at f twoe now'"),
        ("cut", "bbaf2n.align"),
        ("backwards", "line 6: 44000 to 36000 does not follow 36000 within the 75000"),
        ("beyond the end", "line 7: 44000 to 75001 does not follow 44000"),
        ("no numbers", "line 5: '30000 36s f' is not START END WORD"),
        ("not text", "bbaf2n.align cannot be read"),
    ],
)
def test_a_sentence_without_its_alignment_is_rejected_by_name(
    corpus: Path, case: str, reason: str
) -> None:
    damaged(corpus, case)
    rejects = [r for v in source(corpus) if isinstance(r := encode_video(v, Settings()), Reject)]
    assert [reject.video_id for reject in rejects] == ["s1/bbaf2n/digit"]
    assert reason in rejects[0].reason


def test_a_sentence_without_its_video_is_rejected_and_other_files_are_named(corpus: Path) -> None:
    (corpus / "s1/bbae7n.mp4").rename(corpus / "s1/aa00.mp4")
    (corpus / "s1/video/mpg_6000").mkdir(parents=True)
    (corpus / "s1/video/mpg_6000/bbaf2n.mp4").write_bytes(b"the larger recording")
    videos = source(corpus)
    rejects = [r for v in videos if isinstance(r := encode_video(v, Settings()), Reject)]
    assert [(reject.video_id, reject.reason) for reject in rejects] == [
        ("s1/bbae7n/digit", "missing: no such file")
    ]
    assert videos.notes == [
        "1 video left out: their names are not those of sentences: s1/aa00.mp4",
        "1 video left out: of a sentence that is there: s1/video/mpg_6000/bbaf2n.mp4",
    ]


def test_no_corpus_there(tmp_path: Path, corpus: Path) -> None:
    with pytest.raises(DataError, match=r"no \.align files under"):
        source(tmp_path / "grid" / "s1", alignments=tmp_path / "grid" / "s1")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no recording of GRID under"):
        source(tmp_path / "empty", alignments=corpus / "alignments")


def test_one_speaker_s_folder_and_alignments_beside_it(corpus: Path) -> None:
    assert {v.video_id for v in source(corpus / "s20")} == {
        f"s20/{name}/digit" for name in SPEAKERS["s20"]
    }


def test_a_set_is_prepared_with_its_rejects(corpus: Path, tmp_path: Path) -> None:
    damaged(corpus, "missing")
    shards = prepare(
        source(corpus, frames=20),
        tmp_path / "set",
        Settings(short_side=48),
        {"name": "grid"},
        workers=1,
    )
    assert shards.manifest.rejects == 1
    assert set(shards.column("frame_count")) == {20}
    assert set(shards.column("scene")) == {*"eotfay"}
    assert "s1/bbaf2n/digit" in (tmp_path / "set/rejects.csv").read_text()


@pytest.mark.skipif(not REAL.is_dir(), reason=f"{REAL} is not there")
def test_real_sentences_are_cut_where_their_alignments_say() -> None:
    videos = source(REAL, frames=28, picture=[83, 160, 144, 108])
    assert len(videos) == 40
    assert not [video for video in videos if video.problem]
    video = videos[0]
    assert (video.video_id, video.class_name) == ("s1/bbwm4n/digit", "four")
    encoded = encode_video(video, Settings(short_side=108))
    assert isinstance(encoded, Encoded)
    assert (len(encoded.frames), encoded.fps, encoded.height, encoded.width) == (28, 25, 108, 144)
    # 32,500 to 39,250 is the digit: its middle is frame 35.9, so that frames 22 to 49 are kept.
    assert video.moment is not None
    with open_moment(video.path, video.moment) as (frames, _, key):
        assert (len([*frames]), key) == (28, 14)
    assert video.moment.second * 25 == pytest.approx(36)
    spans = read_alignment(REAL / "alignments/s1/bbwm4n.align", "bbwm4n")
    assert spans[4] == (32.5, 39.25)
