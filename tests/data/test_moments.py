"""Part of a film round a second: the frames of a decode from the start, wherever in the file,
however it is coded.
"""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from numpy.typing import NDArray

from vididi.data import moments
from vididi.data.video import Moment
from vididi.data.video_reader import open_moment, read_video
from vididi.errors import DataError

COUNT, RATE = 300, 25


@pytest.fixture(scope="module")
def scene() -> NDArray[np.uint8]:
    """Frames no two of which are alike, with noise that makes the coder refer from one to
    another.
    """
    rng = np.random.default_rng(0)
    frames = np.empty((COUNT, 48, 64, 3), np.uint8)
    for number, frame in enumerate(frames):
        frame[:] = 20 + number * 3 % 200
        frame[:, number % 50 : number % 50 + 14] = rng.integers(0, 255, (48, 14, 3))
    return frames


def encode(
    path: Path,
    frames: NDArray[np.uint8],
    codec: str = "libx264",
    times: Any = None,
    rate: int = RATE,
    **options: str,
) -> Path:
    """``times``: in hundredths of a second. Options are the codec's."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=rate, options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts = int(times[number])
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def times_of(path: Path) -> list[Fraction]:
    """When each frame is shown, counted from the file's beginning, by a decode from the start."""
    with av.open(str(path)) as file:
        begin = Fraction(file.start_time, 10**6)
        return [picture.pts * picture.time_base - begin for picture in file.decode(video=0)]


def taken(path: Path, moment: Moment) -> tuple[NDArray[np.uint8], float, int]:
    with open_moment(path, moment) as (frames, rate, place):
        return np.stack(list(frames)), rate, place


def expected(moment: Moment, times: list[Fraction]) -> tuple[list[int], int]:
    """Numbers of the frames that a moment is, and the key frame's place, by the rule as it is
    written.
    """
    key = min(
        range(len(times)),
        key=lambda number: (abs(times[number] - Fraction(str(moment.second))), number),
    )
    numbers = [
        key + step for step in range(-moment.before, moment.after + 1) if step % moment.step == 0
    ]
    inside = [number for number in numbers if 0 <= number < len(times)]
    return inside, inside.index(key)


def check(path: Path, moments: list[Moment]) -> None:
    whole, _ = read_video(path)
    times = times_of(path)
    assert len(times) == len(whole)
    for moment in moments:
        frames, _, place = taken(path, moment)
        numbers, expected_place = expected(moment, times)
        assert place == expected_place, moment
        assert np.array_equal(frames, whole[numbers]), moment


MOMENTS = [Moment(second, 20, 12) for second in (0, 0.5, 3, 4.79, 4.82, 7, 9.6, 11.5, 11.96)]
CODINGS: dict[str, tuple[str, str, dict[str, str]]] = {
    "B-frames": (".mp4", "libx264", {"bf": "3", "g": "30", "x264-params": "b-adapt=0"}),
    "open GOPs": (
        ".mp4",
        "libx264",
        {"x264-params": "open-gop=1:keyint=40:bframes=3:b-adapt=0:scenecut=0"},
    ),
    "open GOPs, Matroska": (
        ".mkv",
        "libx264",
        {"x264-params": "open-gop=1:keyint=40:bframes=3:b-adapt=0:scenecut=0"},
    ),
    "open GOPs, HEVC": (
        ".mp4",
        "libx265",
        {"x265-params": "open-gop=1:keyint=40:scenecut=0:log-level=none"},
    ),
    "one GOP": (".mp4", "libx264", {"g": "1000", "bf": "3"}),
    "no key frames but the first": (
        ".mp4",
        "libx264",
        {"x264-params": "intra-refresh=1:keyint=40"},
    ),
    "transport stream, begins later": (".ts", "libx264", {"g": "40", "bf": "3"}),
    "AVI": (".avi", "mpeg4", {"g": "40", "bf": "2"}),
    "VP9": (".webm", "libvpx-vp9", {"g": "40", "deadline": "realtime", "cpu-used": "8"}),
}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_moment_is_what_a_decode_from_the_start_shows(
    coding: str, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    suffix, codec, options = CODINGS[coding]
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode with {codec}")
    check(encode(tmp_path / f"film{suffix}", scene, codec, **options), MOMENTS)


@pytest.mark.parametrize("begin", [0, 137, 90_000])
def test_seconds_count_from_where_the_file_begins(
    begin: int, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = encode(tmp_path / "film.ts", scene[:150], times=begin + 4 * np.arange(150), g="20")
    with av.open(str(path)) as file:
        assert file.start_time > 0
    check(path, [Moment(second, 10, 10) for second in (0, 2, 4.5)])
    frames, _, _ = taken(path, Moment(4, 0, 0))
    assert np.array_equal(frames[0], read_video(path)[0][100])


def test_a_window_is_counted_in_frames_however_far_apart_they_are(
    scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    """Where frames lie further apart than the average rate says, the decoder begins earlier."""
    rng = np.random.default_rng(1)
    gaps = np.concatenate(
        [rng.integers(1, 3, 150), rng.integers(40, 80, 40), rng.integers(1, 3, 110)]
    )
    times = np.cumsum(gaps) - gaps[0]
    path = encode(tmp_path / "film.mkv", scene, times=times, g="10")
    check(
        path,
        [
            Moment(second, 36, 8, step)
            for second in (times[189] / 100, times[170] / 100 + 0.1, times[-1] / 100)
            for step in (1, 3)
        ],
    )


@pytest.mark.parametrize(
    ("before", "after", "step"),
    [(0, 0, 1), (7, 0, 2), (0, 7, 2), (36, 36, 2), (35, 36, 3), (4, 4, 9)],
)
def test_steps_are_counted_from_the_key_frame(
    before: int, after: int, step: int, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = encode(tmp_path / "film.mp4", scene[:120], g="30")
    check(path, [Moment(second, before, after, step) for second in (0.2, 2.4, 4.7)])
    assert taken(path, Moment(2.4, before, after, step))[1] == RATE / step


def test_of_two_frames_equally_near_the_earlier_is_the_key_frame(
    scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = encode(tmp_path / "film.mkv", scene[:100], times=4 * np.arange(100), g="10")
    whole, _ = read_video(path)
    for second, number in ((2.02, 50), (2.03, 51), (2.01, 50)):
        assert np.array_equal(taken(path, Moment(second, 0, 0))[0][0], whole[number])


def test_a_window_cut_by_the_file_s_ends_is_shorter_and_keeps_the_key_frame_s_place(
    scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    path = encode(tmp_path / "film.mp4", scene[:100], g="30")
    assert [
        (len(frames), place)
        for frames, _, place in (taken(path, Moment(second, 36, 36)) for second in (0, 1, 2, 3.96))
    ] == [
        (37, 0),
        (62, 25),
        (73, 36),
        (37, 36),
    ]


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (4.0, "second 4: the nearest one is shown at second 3.96"),
        (60, "second 60: the nearest"),
        (-1, "second -1: the file begins"),
    ],
)
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".ts", ".avi"])
def test_a_second_outside_the_file_has_no_frame(
    suffix: str, second: float, said: str, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = encode(tmp_path / f"film{suffix}", scene[:100], codec, g="30", bf="0")
    with pytest.raises(DataError, match=f"^no frame at {said}"):
        taken(path, Moment(second, 8, 8))


def test_a_film_is_not_decoded_from_its_start(
    scene: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "film.mp4", scene, g="25", bf="2")
    shown = []
    real = moments.decoded_pictures
    monkeypatch.setattr(
        moments,
        "decoded_pictures",
        lambda *a: (shown.append(picture.pts) or picture for picture in real(*a)),
    )
    taken(path, Moment(8, 25, 25))
    assert len(shown) < 51 + 2 * 25 + 5


# --- What is wrong within the window, and what is wrong elsewhere ---------------------------------


def test_damage_counts_where_it_has_to_be_decoded(scene: NDArray[np.uint8], tmp_path: Path) -> None:
    path = encode(tmp_path / "film.mp4", scene, g="25", bf="0")
    clean = {second: taken(path, Moment(second, 10, 10))[0] for second in (2, 6, 10)}
    with av.open(str(path)) as file:
        packet = next(
            packet for packet in file.demux(video=0) if packet.pts * packet.time_base >= 6
        )
        place, size = packet.pos, packet.size
    content = bytearray(path.read_bytes())
    content[place + 8 : place + size] = np.random.default_rng(1).bytes(size - 8)
    path.write_bytes(content)
    for second in (2, 10):
        assert np.array_equal(taken(path, Moment(second, 10, 10))[0], clean[second])
    with pytest.raises(DataError, match=r"^corrupt: .* from second 4\.\d on"):
        taken(path, Moment(6, 10, 10))


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_film_cut_short_says_so_where_it_ends(
    suffix: str, scene: NDArray[np.uint8], tmp_path: Path
) -> None:
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    path = encode(tmp_path / "whole.mp4", scene, codec, g="25")
    with (
        av.open(str(path)) as source,
        av.open(str(tmp_path / f"film{suffix}"), "w", options={"movflags": "faststart"}) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    film = tmp_path / f"film{suffix}"
    with av.open(str(film)) as file:
        ends = [packet.pos + packet.size for packet in file.demux(video=0) if packet.size]
    film.write_bytes(film.read_bytes()[: ends[150]])
    assert len(taken(film, Moment(2, 10, 10))[0]) == 21
    for second in (5.9, 10):
        with pytest.raises(DataError, match=r"^corrupt: "):
            taken(film, Moment(second, 10, 10))


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        ([10, 11, 5], r"^timestamps go back from 0\.40 to 0\.16 s"),
        ([10, None], "^no timestamps, so nothing says"),
    ],
)
def test_timestamps_that_say_nothing_are_refused(stamps: list[int | None], said: str) -> None:
    pictures = [SimpleNamespace(pts=stamp, dts=stamp) for stamp in stamps]
    with pytest.raises(DataError, match=said):
        list(
            moments._with_times(
                iter(pictures), SimpleNamespace(time_base=Fraction(1, 25)), Fraction(1, 25)
            )
        )


def test_a_moment_is_turned_as_the_file_says(scene: NDArray[np.uint8], tmp_path: Path) -> None:
    plain = encode(tmp_path / "plain.mp4", scene[:100], g="20")
    content = bytearray(plain.read_bytes())
    matrix = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    turned = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    place = content.index(matrix, content.index(b"tkhd"))
    content[place : place + len(matrix)] = turned
    (tmp_path / "turned.mp4").write_bytes(content)
    check(tmp_path / "turned.mp4", [Moment(3, 5, 5)])
    assert taken(tmp_path / "turned.mp4", Moment(3, 5, 5))[0].shape == (11, 64, 48, 3)


def test_what_is_no_video_is_refused_as_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    for name, said in (("text.mp4", "text, no video"), ("none.mp4", "missing: no such file")):
        with pytest.raises(DataError, match=f"^{said}"):
            taken(tmp_path / name, Moment(1, 1, 1))
