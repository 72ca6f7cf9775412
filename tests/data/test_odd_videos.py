"""What becomes of unusual and of damaged video files: each is decoded whole, or refused with the
reason.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from decord_here import needs_decord

from vididi.data.decord_process import open_in_child
from vididi.data.video_reader import open_video, read_video
from vididi.errors import DataError

REALDATA = Path(__file__).resolve().parents[2].parent / "shared" / "realdata"
ODD = REALDATA / "odd_videos"
VIDEO_SUFFIXES = {".avi", ".mp4", ".mkv", ".mov", ".3gp"}

# A shape [T, H, W], or the beginning of the reason.
EXPECTED: dict[str, tuple[int, int, int] | str] = {
    "decord/corrupted.mp4": "corrupt: no frame can be decoded after the first",
    "decord/unordered.mov": (4, 50, 50),  # samples stored in another order than shown
    "decord/video_0.mov": (3, 320, 568),
    "decord/video_90.mov": (3, 568, 320),
    "decord/video_180.mov": (3, 320, 568),
    "decord/video_270.mov": (3, 568, 320),
    "mp4parse/bbb_sunflower_QCIF_30fps_h263_noaudio_1f.3gp": (
        1,
        144,
        176,
    ),  # H.263, one black frame
    "mp4parse/bipbop_480wp_1001kbps-cenc-video-key1-init.mp4": (
        "no frames in its video stream"
    ),  # the head of an encrypted stream
    "mp4parse/hevc_white_frame.mp4": (1, 480, 640),
    "mp4parse/minimal.mp4": (1, 240, 320),
    "mp4parse/no_timescale.mp4": (
        "corrupt: damaged after frame 0: "
    ),  # a fragment that refers to frames it does not hold
    "mp4parse/short-cenc.mp4": "encrypted",
    "mp4parse/sine-3s-xhe-aac-44khz-mono.mp4": "no video stream, only audio",
    "mp4parse/test_case_1185230.mp4": "corrupt: no frame can be decoded after the first 0",
    "mp4parse/video_rotation_90.mp4": (1, 100, 60),
    "mp4parse/white.mp4": (300, 240, 320),  # 300 equal frames
    "torchcodec/av1_video.mkv": (125, 360, 640),
    "torchcodec/bt709_full_range.mp4": (30, 720, 1280),
    "torchcodec/h264_10bits.mp4": (30, 200, 200),
    "torchcodec/h265_10bits.mp4": (30, 200, 200),
    "torchcodec/h265_video.mp4": (10, 128, 128),
    "torchcodec/nasa_13013.mp4": (390, 270, 480),  # two video streams: the larger one
    "torchcodec/testsrc2.mp4": (60, 720, 1280),
    "torchcodec/var_fps_video.mp4": (300, 128, 128),
}


def outcome(path: Path) -> tuple[int, int, int] | str:
    try:
        with open_video(path) as (frames, rate):
            shapes = [frame.shape for frame in frames]
    except DataError as error:
        return str(error)
    assert rate > 0
    assert len(set(shapes)) == 1
    return (len(shapes), *shapes[0][:2])


@pytest.mark.skipif(not ODD.is_dir(), reason=f"no real videos: {ODD} is not there")
@pytest.mark.parametrize(("name", "expected"), EXPECTED.items(), ids=EXPECTED)
def test_an_odd_file_comes_out_as_it_should(
    name: str, expected: tuple[int, int, int] | str
) -> None:
    found = outcome(ODD / name)
    assert found == expected if isinstance(expected, tuple) else str(found).startswith(expected), (
        found
    )


@pytest.mark.skipif(not ODD.is_dir(), reason=f"no real videos: {ODD} is not there")
def test_every_odd_file_is_in_the_table() -> None:
    assert {
        path.relative_to(ODD).as_posix() for path in ODD.rglob("*") if path.suffix in VIDEO_SUFFIXES
    } == set(EXPECTED)


SOUND = [
    "action_clips/UCF101/ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01.avi",  # its timestamps go back
    "action_clips/mmaction2/part_0.mp4",
    "intel_samples/asl_gestures/eat.mkv",
    "odd_videos/decord/unordered.mov",
    "odd_videos/decord/video_90.mov",
    "odd_videos/torchcodec/h265_video.mp4",
    "odd_videos/torchcodec/var_fps_video.mp4",
]


@pytest.mark.skipif(not REALDATA.is_dir(), reason=f"no real videos: {REALDATA} is not there")
@needs_decord
@pytest.mark.parametrize("name", SOUND)
def test_another_decoder_gives_the_same_frames_in_the_same_order(name: str) -> None:
    with open_in_child(REALDATA / name) as (frames, their_rate):
        theirs = np.stack(list(frames))
    ours, rate = read_video(REALDATA / name)
    assert ours.shape == theirs.shape
    assert rate == pytest.approx(their_rate)
    assert np.abs(ours.astype(int) - theirs).max() <= 2, "MPEG-4 may differ by rounding"


# --- Made here: whole files -----------------------------------------------------------------------


@pytest.fixture(autouse=True)
def no_higher_priority() -> Iterator[None]:
    """Run as root, SVT-AV1 gives the thread that calls it a real-time priority, which all processes
    started from here would inherit.
    """
    policy, parameters = os.sched_getscheduler(0), os.sched_getparam(0)
    yield
    os.sched_setscheduler(0, policy, parameters)


def encode(
    path: Path,
    frames: np.ndarray,
    codec: str = "libx264",
    pixels: str = "yuv420p",
    container: str | None = None,
    **options: Any,
) -> Path:
    times = options.pop("times", None)
    with av.open(
        str(path), "w", format=container, options=options.pop("format_options", {})
    ) as file:
        stream = file.add_stream(codec, rate=20, options=options.pop("codec_options", {}))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(frame, format="rgb24")
            if times is not None:
                picture.pts = times[number]
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


def shades(count: int, height: int = 48, width: int = 64) -> np.ndarray:
    """Frames of one shade each, brighter from one to the next."""
    levels = np.linspace(20, 230, count).astype(np.uint8)
    return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()


def brightness(path: Path) -> np.ndarray:
    return read_video(path)[0].mean(axis=(1, 2, 3))


@pytest.mark.parametrize(
    ("codec", "pixels", "suffix"),
    [
        ("libx264", "yuv420p", ".mp4"),
        ("libx264", "yuv420p10le", ".mp4"),
        ("libx264", "yuv444p", ".mkv"),
        ("libx265", "yuv420p", ".mp4"),
        ("libx265", "yuv420p10le", ".mp4"),
        ("libsvtav1", "yuv420p", ".mp4"),
        ("libvpx-vp9", "yuv420p", ".webm"),
        ("mpeg4", "yuv420p", ".avi"),
        ("mjpeg", "yuvj420p", ".avi"),
    ],
)
def test_codecs_come_whole_in_order_and_with_their_colours(
    codec: str, pixels: str, suffix: str, tmp_path: Path
) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV cannot encode with {codec}")
    frames = shades(25, 64, 96)
    found = brightness(encode(tmp_path / f"video{suffix}", frames, codec, pixels))
    assert len(found) == 25
    assert np.abs(found - frames.mean(axis=(1, 2, 3))).max() < 6


@pytest.mark.parametrize(
    ("space", "red", "blue"),
    [(5, 0.299, 0.114), (1, 0.2126, 0.0722), (2, 0.299, 0.114)],
    ids=["BT.601", "BT.709", "unsaid"],
)
@pytest.mark.parametrize("full", [False, True])
def test_the_colour_matrix_and_range_that_a_file_says_are_applied(
    space: int, red: float, blue: float, full: bool, tmp_path: Path
) -> None:
    """Against the definition: ``red`` and ``blue`` are the matrix's shares of them in the luma
    (ITU-R BT.601, BT.709).
    """
    luma, u, v = 81.0, 90.0, 200.0
    picture = av.VideoFrame.from_ndarray(
        np.full((3, 32, 32), [[[luma]], [[u]], [[v]]], np.uint8), format="yuv444p"
    )
    with av.open(str(tmp_path / "video.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=20)
        stream.height, stream.width, stream.pix_fmt = 32, 32, "yuv444p"
        for part in (picture, stream.codec_context):
            part.colorspace, part.color_range = space, 2 if full else 1
        file.mux(stream.encode(picture))
        file.mux(stream.encode())
    y = luma if full else (luma - 16) * 255 / 219
    b, r = (
        (chroma - 128) * (2 if full else 2 * 255 / 224) * (1 - share) + y
        for chroma, share in ((u, blue), (v, red))
    )
    g = (y - red * r - blue * b) / (1 - red - blue)
    assert np.abs(read_video(tmp_path / "video.mkv")[0] - np.clip([r, g, b], 0, 255)).max() < 1.5


@pytest.mark.parametrize("size", [(45, 63), (1, 1), (2, 300), (301, 16)])
def test_odd_sizes(size: tuple[int, int], tmp_path: Path) -> None:
    path = encode(tmp_path / "video.mkv", shades(5, *size), "ffv1", "yuv444p")
    assert outcome(path) == (5, *size)


def test_one_frame(tmp_path: Path) -> None:
    assert outcome(encode(tmp_path / "one.mp4", shades(1))) == (1, 48, 64)


def test_a_variable_frame_rate_neither_drops_nor_repeats_frames(tmp_path: Path) -> None:
    times = np.cumsum([0, *np.random.default_rng(0).integers(1, 90, 29)]).tolist()
    found = brightness(encode(tmp_path / "video.mkv", shades(30), times=times))
    assert len(found) == 30
    assert (np.diff(found) > 0).all()


def test_coded_order_is_not_shown_order(tmp_path: Path) -> None:
    """B-frames are stored after the frames they refer to."""
    found = brightness(
        encode(tmp_path / "video.mp4", shades(40), codec_options={"bf": "3", "b-adapt": "0"})
    )
    assert len(found) == 40
    assert (np.diff(found) > 0).all()


# --- Made here: damage, which a decoder may hide --------------------------------------------------


@pytest.fixture(scope="module")
def busy(moving_bar: Callable[..., Any]) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 40, (100, 64, 96, 3))
    return np.clip(moving_bar(100, 64, 96).astype(int) + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_a_damaged_file_is_refused_not_patched(
    suffix: str, damage: str, busy: np.ndarray, tmp_path: Path
) -> None:
    options = {"format_options": {"movflags": "faststart"}} if suffix == ".mp4" else {}
    codec = "mpeg4" if suffix == ".avi" else "libx264"
    if codec == "libx264":  # the same bytes each time: of 400 of them, 2% leave no sign in H.264
        options["codec_options"] = {"x264-params": "cpu-independent=1"}
    path = encode(tmp_path / f"video{suffix}", busy, codec, **options)
    assert outcome(path) == (100, 64, 96)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[: len(content) // 2]
    else:
        middle = len(content) // 2
        content[middle : middle + 400] = np.random.default_rng(1).bytes(400)
    path.write_bytes(content)
    assert str(outcome(path)).startswith("corrupt: ")


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_file_cut_between_two_frames_is_refused(
    suffix: str, busy: np.ndarray, tmp_path: Path
) -> None:
    """What is there decodes without a fault, so only the header tells."""
    options = {"format_options": {"movflags": "faststart"}} if suffix == ".mp4" else {}
    path = encode(tmp_path / f"video{suffix}", busy, "mpeg4", **options)
    with av.open(str(path)) as file:
        ends = [packet.pos + packet.size for packet in file.demux(video=0) if packet.size]
    path.write_bytes(path.read_bytes()[: ends[49]])
    assert str(outcome(path)).startswith("corrupt: the file ")


def test_an_edit_list_that_leaves_frames_out_is_no_damage(busy: np.ndarray, tmp_path: Path) -> None:
    whole = encode(tmp_path / "whole.mp4", busy, codec_options={"g": "10", "bf": "0"})
    with av.open(str(whole)) as source, av.open(str(tmp_path / "edited.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if (
                packet.dts is not None
            ):  # an editor's cut: what lies before 0 is kept in the file and not shown
                packet.pts, packet.dts = (
                    packet.pts - 40 * packet.duration,
                    packet.dts - 40 * packet.duration,
                )
                packet.stream = stream
                target.mux(packet)
    shape = outcome(tmp_path / "edited.mp4")
    assert isinstance(shape, tuple), shape


def test_a_frame_size_that_changes_is_refused(tmp_path: Path) -> None:
    """Two elementary streams one after the other."""
    parts = [
        encode(tmp_path / f"{i}.h264", shades(5, *size), container="h264")
        for i, size in enumerate([(48, 64), (32, 32)])
    ]
    (tmp_path / "both.h264").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert str(outcome(tmp_path / "both.h264")).startswith(
        "frame 5 is 32 x 32 pixels, the frames before it 64 x 48"
    )


def test_what_is_no_readable_file_is_refused_by_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "link.mp4").symlink_to(tmp_path / "gone.mp4")
    (tmp_path / "text.mp4").write_text("this is no video\n" * 50)
    reasons = {
        name: outcome(tmp_path / f"{name}.mp4")
        for name in ("empty", "folder", "link", "missing", "text")
    }
    assert (
        str(reasons.pop("text"))
        == r"text, no video; it begins with 'this is no video\nthis is no vi'"
    )
    assert reasons == {
        "empty": "empty: 0 bytes",
        "folder": "a folder, not a file",
        "link": "missing: a link to a file that is not there",
        "missing": "missing: no such file",
    }


def test_a_file_one_may_not_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = encode(tmp_path / "secret.mp4", shades(2))
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read every file

        def refuse(self: Path, mode: str) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", refuse)
    assert outcome(path) == "unreadable: no permission to read it"


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "sound.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=8000)
        for _ in range(20):
            frame = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            frame.sample_rate = 8000
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    assert outcome(tmp_path / "sound.mp4") == "no video stream, only audio"


def test_reading_needs_neither_decord_nor_torch_nor_ray(tmp_path: Path, repo_root: Path) -> None:
    path = encode(tmp_path / "video.mp4", shades(5))
    program = (
        "import sys; sys.modules.update(dict.fromkeys(['decord', 'torch', 'ray']))\nfrom pathlib"
        " import Path; from vididi.data.encode import Settings, encode_video; from"
        f" vididi.data.video import Video\nprint(len(encode_video(Video(Path({str(path)!r}), 'a',"
        " 'c', 'train'), Settings()).frames))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repo_root, capture_output=True, text=True, check=True
    )
    assert done.stdout == "5\n"
