"""Made-up videos whose frame k holds k: sound ones come whole whatever is unusual about them,
damaged ones are refused or counted.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from decord_here import needs_decord

from vididi.data import decoding, missing_frames
from vididi.data.containers import _check_index
from vididi.data.encode import Encoded, Reject, Settings, encode_video
from vididi.data.missing_frames import check_gaps
from vididi.data.prepare import prepare
from vididi.data.video import Moment, Video
from vididi.data.video_reader import open_moment, open_video, read_video
from vididi.data.workers import run_apart
from vididi.errors import DataError

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

from made_up_videos import (
    HEIGHT,
    KINDS,
    OPEN_GOP,
    WIDTH,
    Kind,
    damaged_copies,
    frame_of,
    make,
    number_in,
    outcome,
    read,
    wrong_numbers,
)

H264, HEVC, VP9, MPEG4 = "libx264", "libx265", "libvpx-vp9", "mpeg4"
NOT_AT_ONCE = [
    int(time) for time in np.cumsum(np.tile([50, 50, 150, 50, 50, 250, 50, 400], 5))
]  # of 40 frames

VARIABLE = {
    "always": NOT_AT_ONCE,
    "a screen that stands still": [50 * number + 4000 * (number > 25) for number in range(40)],
    "and a key frame comes after it": [50 * number + 4000 * (number > 23) for number in range(40)],
    "a title": [50 * number + 900 * (number > 0) for number in range(40)],
    "frames that were not taken": [
        50 * (number + sum(number > gone for gone in (9, 20, 33))) for number in range(40)
    ],
}


def kind(name: str) -> Kind:
    return next(kind for kind in KINDS if kind.name == name)


def remade(
    source: Path,
    target: Path,
    change: Callable[[Any, int], Any],
    container: str | None = None,
    matrix: Any = None,
) -> Path:
    """The packets of a file in another one; ``change`` returns a packet, by its number, or None to
    leave it out.
    """
    with av.open(str(source)) as old, av.open(str(target), "w", format=container) as new:
        stream = new.add_stream_from_template(old.streams.video[0])
        if matrix is not None:
            stream.set_display_matrix(matrix)
        for number, packet in enumerate(packet for packet in old.demux(video=0) if packet.size):
            if (kept := change(packet, number)) is not None:
                kept.stream = stream
                new.mux(kept)
    return target


# --- Sound files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_a_sound_file_is_whole_and_of_its_damaged_copies_few_are_wrong_in_silence(
    name: str, tmp_path: Path
) -> None:
    """How many of each kind are is in docs/data.md; here what must not get worse."""
    of = kind(name)
    path = make(of, tmp_path / f"video.{of.container}")
    sound = read(path)
    assert not wrong_numbers(sound, range(40))
    came = Counter(
        (what, outcome(copy, sound)[0])
        for what, copy in damaged_copies(path, tmp_path, 2, of.container)
    )
    silent = Counter(
        what
        for (what, how), number in came.items()
        if how in ("fewer", "wrong")
        for _ in range(number)
    )
    assert silent.total() <= 8
    if of.container in ("mkv", "ts"):  # they have checksums, and counters
        assert set(silent) <= {"packets missing", "1 bit"}
    if of.codec == VP9:
        assert silent.total() <= 1
    assert not silent["end cut"]
    assert not silent["300 bytes removed"]


@pytest.mark.parametrize("container", ["vob", "mpeg", "svcd"])
@pytest.mark.parametrize("codec", ["mpeg1video", "mpeg2video"])
@pytest.mark.parametrize("b_frames", ["0", "2"])
def test_times_in_a_program_stream_are_guesses(
    container: str, codec: str, b_frames: str, tmp_path: Path
) -> None:
    path = make(
        Kind(container, codec, options={"g": "12", "bf": b_frames}),
        tmp_path / "video.mpg",
        80,
        rate=25,
    )
    assert not wrong_numbers(read(path), range(80))


@pytest.mark.parametrize("codec", [MPEG4, "mjpeg", H264])
def test_empty_chunks_of_an_avi_file_say_the_same_again(codec: str, tmp_path: Path) -> None:
    path = make(
        Kind("avi", codec, options={"g": "12", "bf": "0"}),
        tmp_path / "video.avi",
        times=NOT_AT_ONCE,
    )
    assert path.read_bytes().count(b"00dc\0\0\0\0") > 100
    assert not wrong_numbers(read(path), range(40))


def test_an_avi_file_that_was_written_into_a_pipe_says_no_count(tmp_path: Path) -> None:
    class Pipe:
        content = b""

        def write(self, more: bytes) -> int:
            self.content += bytes(more)
            return len(more)

    with (
        av.open(str(make(kind("avi mpeg4"), tmp_path / "plain.avi"))) as old,
        av.open(pipe := Pipe(), "w", format="avi") as new,
    ):
        stream = new.add_stream_from_template(old.streams.video[0])
        for packet in (packet for packet in old.demux(video=0) if packet.size):
            packet.stream = stream
            new.mux(packet)
    (tmp_path / "video.avi").write_bytes(pipe.content)
    with av.open(str(tmp_path / "video.avi")) as file:
        assert file.streams.video[0].frames == missing_frames.UNKNOWN_COUNT
    assert not wrong_numbers(read(tmp_path / "video.avi"), range(40))


def test_an_avi_index_may_round_sizes_and_tell_whole_pictures(tmp_path: Path) -> None:
    content = bytearray(make(kind("avi mpeg4"), tmp_path / "video.avi").read_bytes())
    start = content.index(b"idx1") + 8
    for at in range(start + 16, start + int.from_bytes(content[start - 4 : start], "little"), 16):
        size = int.from_bytes(content[at + 12 : at + 16], "little")
        content[at : at + 4], content[at + 12 : at + 16] = (
            b"00db",
            (size + size % 2).to_bytes(4, "little"),
        )
    (tmp_path / "video.avi").write_bytes(content)
    assert not wrong_numbers(read(tmp_path / "video.avi"), range(40))


def test_what_comes_after_the_end_of_an_flv_file_is_none_of_it(tmp_path: Path) -> None:
    path = make(kind("flv libx264"), tmp_path / "video.flv")
    path.write_bytes(path.read_bytes() + bytes(500))
    assert not wrong_numbers(read(path), range(40))


def test_a_checksum_of_what_no_picture_is_in_does_not_matter(tmp_path: Path) -> None:
    path = make(kind("mkv libx264"), tmp_path / "video.mkv")
    path.write_bytes(path.read_bytes().replace(b"DURATION", b"DuRATION"))
    assert not wrong_numbers(read(path), range(40))


def test_an_avi_file_without_an_index_is_counted(tmp_path: Path) -> None:
    content = make(
        kind("avi mpeg4"), tmp_path / "video.avi", 60, times=[40 * number for number in range(60)]
    ).read_bytes()
    index = content.index(b"idx1")
    (tmp_path / "none.avi").write_bytes(content[:index] + b"JUNK" + content[index + 4 :])
    assert not wrong_numbers(read(tmp_path / "none.avi"), range(60))


@pytest.mark.parametrize("before", [0, 9000])  # bytes of something else before the first frame
@pytest.mark.parametrize("from_start", [False, True])
@pytest.mark.parametrize("lost", [False, True])
def test_places_in_an_avi_index_count_from_either_place(
    before: int, from_start: bool, lost: bool
) -> None:
    def chunk(name: bytes, content: bytes) -> bytes:
        return name + len(content).to_bytes(4, "little") + content + b"\0" * (len(content) % 2)

    frames = [chunk(b"00dc", bytes(size)) for size in (100, 33, 0, 70)]
    start = 4 + 8 + before  # from the list's name on
    places = [start + sum(map(len, frames[:number])) for number in range(4)]
    index = b"".join(
        frame[:4]
        + bytes(4)
        + (place + (20 if from_start else 0)).to_bytes(4, "little")
        + frame[4:8]
        for frame, place in zip(frames, places, strict=True)
    )
    if lost:
        frames[1] = bytes(len(frames[1]))
    content = (
        b"AVI "
        + chunk(b"LIST", b"movi" + chunk(b"JUNK", bytes(before)) + b"".join(frames))
        + chunk(b"idx1", index)
    )
    if lost:
        with pytest.raises(
            DataError,
            match=(
                r"^corrupt: the file's index says that a frame lies at byte \d+, and none is there"
            ),
        ):
            _check_index(chunk(b"RIFF", content))
    else:
        _check_index(chunk(b"RIFF", content))


@pytest.mark.parametrize(
    "name", ["mkv libx264", "mkv libvpx-vp9", "webm libvpx-vp9", "flv libx264"]
)
def test_the_first_frame_may_come_late(name: str, tmp_path: Path) -> None:
    path = make(
        kind(name),
        tmp_path / f"video.{kind(name).container}",
        times=[30_000 + 50 * number for number in range(40)],
    )
    assert not wrong_numbers(read(path), range(40))


def last_for_long(name: str, path: Path, seconds: int = 4) -> Path:
    """The last frame is shown for some seconds, which the container's length says, and nothing
    else.
    """
    plain = make(kind(name), path.with_stem("plain"))

    def longer(packet: Any, number: int) -> Any:
        if packet.pts * packet.time_base >= Fraction(195, 100):
            packet.duration = int(seconds / packet.time_base)
        return packet

    return remade(plain, path, longer)


@pytest.mark.parametrize("name", ["mkv libx264", "webm libvpx-vp9", "mp4 libx264", "flv libx264"])
def test_the_last_frame_may_be_shown_for_long(name: str, tmp_path: Path) -> None:
    path = last_for_long(name, tmp_path / f"video.{kind(name).container}")
    with av.open(str(path)) as file:
        assert file.duration > 5_500_000
    assert not wrong_numbers(read(path), range(40))


@pytest.mark.parametrize("name", ["mkv libx264", "webm libvpx-vp9"])
def test_how_long_a_matroska_file_says_it_is_does_not_matter_where_its_size_is_right(
    name: str, tmp_path: Path
) -> None:
    """Not every writer says how long the last frame is shown; the length of the file is that of all
    it was made from.
    """
    path = make(kind(name), tmp_path / f"video.{kind(name).container}")
    content = path.read_bytes()
    place = content.index(b"\x44\x89\x88") + 3  # Duration, a number of 8 bytes
    longer = np.array([5950.0], ">f8").tobytes()
    content = content[:place] + longer + content[place + 8 :]
    path.write_bytes(without_checksums(content))
    with av.open(str(path)) as file:
        assert file.duration == 5_950_000
    assert not wrong_numbers(read(path), range(40))


def without_checksums(content: bytes) -> bytes:
    """Matroska's CRC-32 elements become Void elements of the same size, as a program leaves them
    that changed what they are of.
    """
    return content.replace(b"\xbf\x84", b"\xec\x84")


def test_a_subtitle_may_outlive_the_picture(tmp_path: Path) -> None:
    plain = make(kind("mkv libx264"), tmp_path / "plain.mkv")
    (tmp_path / "text.srt").write_text("1\n00:00:01,000 --> 00:00:09,000\nstill here\n")
    path = tmp_path / "video.mkv"
    with (
        av.open(str(plain)) as pictures,
        av.open(str(tmp_path / "text.srt")) as texts,
        av.open(str(path), "w") as file,
    ):
        streams = [file.add_stream_from_template(source.streams[0]) for source in (pictures, texts)]
        for source, stream in zip((pictures, texts), streams, strict=True):
            for packet in source.demux():
                if packet.size:
                    packet.stream = stream
                    file.mux(packet)
    with av.open(str(path)) as file:
        assert file.duration > 8_000_000
    assert not wrong_numbers(read(path), range(40))


@pytest.mark.parametrize("name", ["ts libx264", "ts mpeg2video"])
def test_transport_streams_may_be_joined_where_their_tables_begin_anew(
    name: str, tmp_path: Path
) -> None:
    part = make(kind(name), tmp_path / "part.ts").read_bytes()
    (tmp_path / "joined.ts").write_bytes(3 * part)
    assert not wrong_numbers(read(tmp_path / "joined.ts"), [*range(40)] * 3)
    packets = [part[at : at + 188] for at in range(0, len(part), 188)]
    without_tables = [
        packet for packet in packets if int.from_bytes(packet[1:3], "big") & 0x1FFF == 0x100
    ]
    (tmp_path / "lost.ts").write_bytes(part + b"".join(without_tables))
    assert str(read(tmp_path / "lost.ts")).startswith(
        "corrupt: packets are missing before transport packet"
    )


def with_counters(packet: bytes, more: int) -> bytes:
    return packet[:3] + bytes([packet[3] & 0xF0 | (packet[3] + more) & 0xF]) + packet[4:]


def test_only_packets_of_the_pictures_count(tmp_path: Path) -> None:
    """A program guide, sound or another film in the same stream may lack packets; and counters may
    jump where the stream says so.
    """
    part = make(kind("ts libx264"), tmp_path / "part.ts").read_bytes()
    packets = [part[at : at + 188] for at in range(0, len(part), 188)]
    others = [
        b"\x47\x03\x00" + bytes([0x10 | 5 * number % 16]) + bytes(184)
        for number in range(len(packets))
    ]
    (tmp_path / "others.ts").write_bytes(
        b"".join(packet + other for packet, other in zip(packets, others, strict=True))
    )
    assert not wrong_numbers(read(tmp_path / "others.ts"), range(40))
    at = [
        number for number, packet in enumerate(packets) if packet[1] & 0x1F == 1 and not packet[2]
    ][30]
    jump = b"\x47\x01\x00" + bytes([0x20 | packets[at][3] + 4 & 0xF, 183, 0x80]) + b"\xff" * 182
    late = [
        with_counters(packet, 5) if packet[1] & 0x1F == 1 else packet for packet in packets[at:]
    ]
    (tmp_path / "jump.ts").write_bytes(b"".join([*packets[:at], jump, *late]))
    assert not wrong_numbers(read(tmp_path / "jump.ts"), range(40))


def test_counters_at_a_join_may_be_equal(tmp_path: Path) -> None:
    part = make(kind("ts libx264"), tmp_path / "part.ts").read_bytes()
    packets = [part[at : at + 188] for at in range(0, len(part), 188)]
    film = [packet for packet in packets if packet[1] & 0x1F == 1 and not packet[2]]
    for step in (0, 1, 2):
        more = (film[-1][3] - film[0][3] + step) % 16
        joined = part + b"".join(
            with_counters(packet, more) if packet[1] & 0x1F == 1 else packet for packet in packets
        )
        (tmp_path / "joined.ts").write_bytes(joined)
        assert not wrong_numbers(read(tmp_path / "joined.ts"), [*range(40)] * 2)


@pytest.mark.parametrize("number", [10, 60])
def test_a_lost_transport_packet_is_found(number: int, tmp_path: Path) -> None:
    part = make(kind("ts libx264"), tmp_path / "part.ts").read_bytes()
    at = [
        at
        for at in range(0, len(part), 188)
        if int.from_bytes(part[at + 1 : at + 3], "big") & 0x1FFF == 0x100
    ][number]
    (tmp_path / "lost.ts").write_bytes(part[:at] + part[at + 188 :] + part)
    assert str(read(tmp_path / "lost.ts")).startswith("corrupt: ")


@pytest.mark.parametrize(
    ("container", "codec", "options"),
    [
        ("mkv", H264, OPEN_GOP),
        ("ts", H264, OPEN_GOP),
        (
            "mkv",
            HEVC,
            {"x265-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0:log-level=none"},
        ),
        ("ts", "mpeg2video", {"g": "12", "bf": "2"}),
    ],
)
def test_frames_before_the_first_key_frame_are_no_damage(
    container: str, codec: str, options: dict[str, str], tmp_path: Path
) -> None:
    """A file cut out at an open group of pictures: some are shown before its key frame and refer to
    frames that are not there.
    """
    plain = make(Kind(container, codec, options=options), tmp_path / f"plain.{container}", 60)
    with av.open(str(plain)) as file:
        keys = [
            number
            for number, packet in enumerate(packet for packet in file.demux(video=0) if packet.size)
            if packet.is_keyframe
        ]
    path = remade(
        plain,
        tmp_path / f"cut.{container}",
        lambda packet, number: packet if number >= keys[2] else None,
        {"ts": "mpegts"}.get(container),
    )
    frames = read(path)
    assert not isinstance(frames, str), frames
    numbers = [number_in(frame) for frame in frames]
    assert numbers == list(range(numbers[0], 60)), "each once, right and in order"
    assert numbers[0] <= keys[2] + 3


@pytest.mark.parametrize("container", ["mkv", "mp4"])
def test_a_file_that_does_not_begin_with_a_key_frame_begins_with_the_first_one(
    container: str, tmp_path: Path
) -> None:
    options = {"x265-params": "keyint=12:min-keyint=12:scenecut=0:bframes=0:log-level=none"}
    plain = make(Kind(container, HEVC, options=options), tmp_path / f"plain.{container}")
    path = remade(
        plain, tmp_path / f"cut.{container}", lambda packet, number: packet if number > 5 else None
    )
    assert not wrong_numbers(read(path), range(12, 40))


def test_frames_that_are_shown_before_the_first_key_frame_are_damaged_if_the_decoder_says_so(
    tmp_path: Path,
) -> None:
    plain = make(kind("wmv wmv2"), tmp_path / "plain.wmv")
    path = remade(
        plain, tmp_path / "cut.wmv", lambda packet, number: packet if number > 5 else None, "asf"
    )
    assert str(read(path)).startswith(
        "corrupt: damaged after frame 0: warning: first frame is no keyframe"
    )


def test_a_frame_that_a_camera_did_not_take_is_no_damage_where_the_codec_would_tell(
    tmp_path: Path,
) -> None:
    times = [50 * number + 50 * (number > 0) for number in range(40)]
    assert not wrong_numbers(
        read(make(kind("mkv libx264"), tmp_path / "video.mkv", times=times)), range(40)
    )


@pytest.mark.parametrize(
    "name",
    [
        "mkv libx264",
        "webm libvpx-vp9",
        "webm libvpx",
        "mkv ffv1",
        "wmv wmv2",
        "ts libx264",
        "flv flv",
    ],
)
@pytest.mark.parametrize("times", VARIABLE)
def test_a_variable_rate_is_no_gap(name: str, times: str, tmp_path: Path) -> None:
    path = make(kind(name), tmp_path / f"video.{kind(name).container}", times=VARIABLE[times])
    assert not wrong_numbers(read(path), range(40))


# --- Damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stamps", "joins", "refused"),
    [
        ([*range(40)], 0, False),
        ([*range(20), *range(23, 40)], 0, True),
        ([*range(20), *range(23, 30), *range(31, 40)], 0, True),
        ([*range(10), *range(11, 20), *range(23, 30), *range(31, 40)], 0, False),  # again and again
        ([*range(20), *range(35, 60)], 0, False),  # 1.6 s
        ([*range(38), 41], 0, False),  # before the last frame
        ([*range(20), *range(23, 40)], 1, False),
        ([*range(20), *range(20), *range(20)], 2, False),
        ([1, 2, 4, 7, 8, 11, 12, 14, 17, 18] * 4, 0, False),
        ([None, *range(20), *range(23, 40)], 0, False),
        ([*range(5), *range(8, 12)], 0, False),  # too few to say what is regular
    ],
)
def test_gaps_in_regular_times(stamps: Sequence[int | None], joins: int, refused: bool) -> None:
    ticks = [None if stamp is None else 100 * stamp for stamp in stamps]
    if refused:
        with pytest.raises(
            DataError,
            match=(
                r"^corrupt: .* s pass after frame 19, and 0\.1 s after others: frames are missing"
            ),
        ):
            check_gaps(ticks, Fraction(1, 1000), joins)
    else:
        check_gaps(ticks, Fraction(1, 1000), joins)


def test_the_same_fault_is_heard_in_every_file(tmp_path: Path) -> None:
    """FFmpeg's log leaves out what it said just before, which may have been about another file."""
    path = make(kind("mkv ffv1"), tmp_path / "video.mkv")
    content = bytearray(without_checksums(path.read_bytes()))
    content[len(content) // 2] ^= 1
    for name in ("one.mkv", "two.mkv"):
        (tmp_path / name).write_bytes(content)
    one, two = (read(tmp_path / name) for name in ("one.mkv", "two.mkv"))
    assert str(one).startswith("corrupt: damaged after frame ")
    assert one == two


def test_what_ffmpeg_logs_is_not_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = make(kind("mkv ffv1"), tmp_path / "video.mkv")
    capfd.readouterr()
    content = bytearray(without_checksums(path.read_bytes()))
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert str(read(path)).startswith("corrupt")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("container", ["mp4", "mkv", "ts", "avi"])
def test_a_missing_frame_that_others_refer_to_is_found(container: str, tmp_path: Path) -> None:
    """H.264 numbers such frames; FFmpeg goes on with another frame in its place, and says so as an
    aside.
    """
    plain = make(
        Kind(container, H264, options={"g": "40", "bf": "0"}), tmp_path / f"plain.{container}"
    )
    path = remade(
        plain,
        tmp_path / f"video.{container}",
        lambda packet, number: packet if number != 20 else None,
        {"ts": "mpegts"}.get(container),
    )
    assert str(read(path)).startswith("corrupt: damaged after frame 2")
    assert "Frame num gap" in str(read(path))


def test_a_stream_that_says_that_it_leaves_frames_out_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = make(Kind("mp4", H264, options={"g": "40", "bf": "0"}), tmp_path / "plain.mp4")
    path = remade(
        plain, tmp_path / "video.mp4", lambda packet, number: packet if number != 20 else None
    )
    assert not decoding._may_leave_out(str(path), 0)
    monkeypatch.setattr(
        decoding, "_may_leave_out", lambda path, index: True
    )  # no encoder here writes the flag
    assert len(read(path)) == 39


def test_a_comment_that_is_cut_concerns_no_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Supplemental information that says that it has 200 bytes, and has 4, before each frame."""
    comment = b"\x06\x05\xc8abcd"

    def commented(packet: Any, number: int) -> Any:
        longer = av.Packet(len(comment).to_bytes(4, "big") + comment + bytes(packet))
        longer.pts, longer.dts, longer.duration, longer.time_base = (
            packet.pts,
            packet.dts,
            packet.duration,
            packet.time_base,
        )
        longer.is_keyframe = packet.is_keyframe
        return longer

    plain = make(kind("mp4 libx264"), tmp_path / "plain.mp4")
    path = remade(plain, tmp_path / "video.mp4", commented)
    assert not wrong_numbers(read(path), range(40))
    monkeypatch.setattr(decoding, "HARMLESS", ())
    assert str(read(path)).startswith(
        "corrupt: damaged after frame 0: SEI type 5 size 200 truncated"
    )


# --- Which way up ---------------------------------------------------------------------------------

WAYS: dict[
    str, tuple[tuple[int, int, int, int], Callable[[Any], Any]]
] = {  # (a, b, c, d): (x, y) goes to (a x + c y, b x + d y)
    "as it is": ((1, 0, 0, 1), lambda frame: frame),
    "clockwise": ((0, 1, -1, 0), lambda frame: np.rot90(frame, -1)),
    "half a turn": ((-1, 0, 0, -1), lambda frame: np.rot90(frame, 2)),
    "counterclockwise": ((0, -1, 1, 0), np.rot90),
    "hflip": ((-1, 0, 0, 1), np.fliplr),
    "vflip": ((1, 0, 0, -1), np.flipud),
    "transpose": ((0, 1, 1, 0), lambda frame: frame.transpose(1, 0, 2)),
    "transverse": ((0, -1, -1, 0), lambda frame: np.rot90(frame, 2).transpose(1, 0, 2)),
}


def turned(source: Path, target: Path, way: Sequence[float]) -> Path:
    a, b, c, d = (round(number * 65536) for number in way)
    return remade(
        source, target, lambda packet, number: packet, matrix=(a, b, 0, c, d, 0, 0, 0, 1 << 30)
    )


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(kind("mp4 libx264"), tmp_path_factory.mktemp("film") / "film.mp4")


@pytest.mark.parametrize("way", WAYS)
def test_pictures_are_turned_and_mirrored_as_the_file_says(
    way: str, film: Path, tmp_path: Path
) -> None:
    numbers, expected = WAYS[way]
    path = turned(film, tmp_path / "turned.mp4", numbers)
    plain, found = read_video(film)[0], read_video(path)[0]
    assert np.array_equal(found, [expected(frame) for frame in plain])
    with open_moment(path, Moment(1.0, 2, 2)) as (frames, _, place):
        assert np.array_equal(list(frames)[place], expected(plain[20]))


def test_a_scale_in_the_matrix_does_not_matter(film: Path, tmp_path: Path) -> None:
    path = turned(film, tmp_path / "turned.mp4", (-1.5, 0, 0, 1.5))
    assert np.array_equal(read_video(path)[0][7], np.fliplr(read_video(film)[0][7]))


@pytest.mark.parametrize("degrees", [0.05, 0.9, 90.9, -90.9, 180.3])
def test_less_than_a_degree_is_no_turn(degrees: float, film: Path, tmp_path: Path) -> None:
    turn = np.exp(1j * np.radians(degrees))
    path = turned(film, tmp_path / "turned.mp4", (turn.real, turn.imag, -turn.imag, turn.real))
    assert np.array_equal(
        read_video(path)[0][7], np.rot90(read_video(film)[0][7], -round(degrees / 90))
    )


def test_a_matrix_of_zeros_says_nothing(film: Path, tmp_path: Path) -> None:
    assert not wrong_numbers(read(turned(film, tmp_path / "turned.mp4", (0, 0, 0, 0))), range(40))


@pytest.mark.parametrize(
    "way", [(0.7071, 0.7071, -0.7071, 0.7071), (1, 0.2, 0, 1), (1, 0, 0, 0), (1, 1, 1, 1)]
)
def test_any_other_matrix_is_refused(way: Sequence[float], film: Path, tmp_path: Path) -> None:
    assert str(read(turned(film, tmp_path / "turned.mp4", way))).startswith(
        "rotation: its metadata turns pictures by the matrix "
    )


def test_a_vp9_file_is_mirrored_too(tmp_path: Path) -> None:
    plain = make(kind("mp4 libvpx-vp9"), tmp_path / "plain.mp4")
    path = turned(plain, tmp_path / "turned.mp4", (-1, 0, 0, 1))
    assert np.array_equal(read_video(path)[0][7], np.fliplr(read_video(plain)[0][7]))


@needs_decord
def test_decord_is_not_left_with_what_it_reads_otherwise(film: Path, tmp_path: Path) -> None:
    paths = [turned(film, tmp_path / f"{way}.mp4", numbers) for way, (numbers, _) in WAYS.items()]
    listed = [
        Video(path, path.stem, "", "train") for path in [*paths, two_streams(tmp_path / "two.mp4")]
    ]
    found = {
        decoder: list(
            run_apart(
                partial(encode_video, settings=Settings(short_side=48, decoder=decoder)),
                listed,
                1,
                60,
            )
        )  # type: ignore[arg-type]
        for decoder in ("pyav", "decord")
    }
    assert all(isinstance(encoded, Encoded) for encoded in found["pyav"])
    assert found["decord"] == found["pyav"]


# --- Which stream ---------------------------------------------------------------------------------


def two_streams(
    path: Path, sizes: Sequence[tuple[int, int]] = ((48, 64), (96, 128)), cover: bool = False
) -> Path:
    """Of 20 frames; of the second one, frame k holds 100 + k."""
    with av.open(str(path), "w") as file:
        streams = [file.add_stream(H264, rate=20, options={"bf": "0"}) for _ in sizes]
        for stream, size in zip(streams, sizes, strict=True):
            (stream.height, stream.width), stream.pix_fmt = size, "yuv420p"
        for number in range(20):
            for place, (stream, size) in enumerate(zip(streams, sizes, strict=True)):
                file.mux(
                    stream.encode(
                        av.VideoFrame.from_ndarray(
                            frame_of(100 * place + number, *size), format="rgb24"
                        )
                    )
                )
        for stream in streams:
            file.mux(stream.encode())
    return path


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize("larger", [0, 1])
def test_of_two_video_streams_the_larger_one_is_taken_and_said(
    larger: int, suffix: str, tmp_path: Path
) -> None:
    sizes = [(48, 64), (96, 128)] if larger else [(96, 128), (48, 64)]
    path = two_streams(tmp_path / f"two{suffix}", sizes)
    notes: list[str] = []
    with open_video(path, notes) as (frames, _):
        assert [number_in(frame) for frame in frames] == [
            100 * larger + number for number in range(20)
        ]
    assert notes == [
        f"of 2 video streams number {larger} was taken, 128 x 96 pixels; left out: 64 x 48"
    ]
    with open_moment(path, Moment(0.5, 2, 2), notes) as (frames, _, place):
        assert number_in(list(frames)[place]) == 100 * larger + 10
    assert notes[1:] == notes[:1]


def test_a_set_says_which_streams_were_taken(film: Path, tmp_path: Path) -> None:
    two = two_streams(tmp_path / "two.mp4")
    listed = [Video(film, "one", "", "train"), Video(two, "two", "", "train")]
    shards = prepare(listed, tmp_path / "set", Settings(short_side=16), {"name": "test"}, workers=1)
    assert (shards.root / "notes.csv").read_text().splitlines() == [
        "video_id,path,note",
        f'two,{two},"of 2 video streams number 1 was taken, 128 x 96 pixels; left out: 64 x 48"',
    ]


def with_cover(path: Path, video: Path | None, size: tuple[int, int] = (480, 640)) -> Path:
    """A file with a cover picture, which is larger than the video, or instead of one."""
    picture = path.with_suffix(".jpg")
    with av.open(str(picture), "w", format="image2") as file:
        stream = file.add_stream("mjpeg", rate=1)
        (stream.height, stream.width), stream.pix_fmt = size, "yuvj420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(frame_of(7, *size), format="rgb24")))
        file.mux(stream.encode())
    with av.open(str(path), "w") as file, av.open(str(picture)) as cover:
        sources = [*([av.open(str(video))] if video else []), cover]
        sound = None if video else file.add_stream("aac", rate=8000)
        streams = [file.add_stream_from_template(source.streams.video[0]) for source in sources]
        streams[-1].disposition = av.stream.Disposition.attached_pic
        for source, stream in zip(sources, streams, strict=True):
            for packet in source.demux(video=0):
                if packet.size:
                    packet.stream = stream
                    file.mux(packet)
        if sound is not None:
            for _ in range(20):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate = 8000
                file.mux(sound.encode(frame))
            file.mux(sound.encode())
    return path


def test_a_cover_picture_is_no_video(film: Path, tmp_path: Path) -> None:
    path = with_cover(tmp_path / "covered.mp4", film)
    with av.open(str(path)) as file:
        assert [
            bool(stream.disposition & av.stream.Disposition.attached_pic)
            for stream in file.streams.video
        ] == [False, True]
    notes: list[str] = []
    with open_video(path, notes) as (frames, _):
        assert [number_in(frame) for frame in frames] == list(range(40))
    assert notes == []
    alone = encode_video(
        Video(with_cover(tmp_path / "alone.mp4", None), "alone", "", "train"), Settings()
    )
    assert isinstance(alone, Reject)
    assert alone.reason == "no video stream, only audio, a cover picture"


def test_the_sizes_are_those_of_the_blocks() -> None:
    assert [number_in(frame_of(number)) for number in range(256)] == list(range(256))
    assert frame_of(0).shape == (HEIGHT, WIDTH, 3)
