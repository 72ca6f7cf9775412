"""What the reader makes of videos whose frame k holds k in its pixels, sound and damaged.

Containers x codecs x properties, and damaged copies of each.

    python benchmarks/made_up_videos.py [--copies 12] [--out benchmarks/results/made_up_videos.json]

Made and read with PyAV alone. For every kind of file the table says how many damaged copies came
out *whole* (every pixel as in the sound file), *rejected*, *fewer* (in silence, frames are missing,
and the others are as they should be) or *wrong* (in silence, a frame differs in at least one
pixel). Sound files must be whole, each frame with its number.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from hashlib import sha256
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from vididi.data.video_reader import open_video
from vididi.errors import DataError

# Two rows of four blocks, each a bit of the frame's number, the highest first.
HEIGHT, WIDTH, BITS = (96, 128, 8)
RATE = 20
OUTCOMES = ("whole", "rejected", "fewer", "wrong")


@dataclass(frozen=True)
class Kind:
    """A container, an encoder, and what is special about the file.

    ``options`` are the encoder's.
    """

    container: str
    codec: str
    what: str = ""
    options: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Container, encoder and what is special, as one text."""
        return " ".join(filter(None, [self.container, self.codec, self.what]))


GOP = {"g": "12"}
B_FRAMES = {"g": "12", "bf": "2"}
VPX = {"g": "12", "deadline": "realtime", "cpu-used": "8"}
ALTREF = {
    "g": "40",
    "deadline": "good",
    "cpu-used": "5",
    "auto-alt-ref": "1",
    "lag-in-frames": "16",
}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:bframes=3:b-adapt=0:scenecut=0"}
KINDS = (
    Kind("mp4", "libx264", options=B_FRAMES),
    Kind("mp4", "libx264", "open GOPs", OPEN_GOP),
    Kind("mp4", "libx265", options={"x265-params": "keyint=12:log-level=none"}),
    Kind("mp4", "mpeg4", options=B_FRAMES),
    Kind("mp4", "libvpx-vp9", options=VPX),
    Kind("mov", "mjpeg"),
    Kind("mov", "libx264", options=B_FRAMES),
    Kind("3gp", "h263", options=GOP),
    Kind("mkv", "libx264", options=B_FRAMES),
    Kind("mkv", "libx265", options={"x265-params": "keyint=12:log-level=none"}),
    Kind("mkv", "libvpx-vp9", options=VPX),
    Kind("mkv", "ffv1"),
    Kind("webm", "libvpx-vp9", options=VPX),
    Kind("webm", "libvpx-vp9", "hidden frames", ALTREF),
    Kind("webm", "libvpx", options=VPX),
    Kind("avi", "mpeg4", options=B_FRAMES),
    Kind("avi", "libx264", options={"g": "12", "bf": "0"}),
    Kind("avi", "mjpeg"),
    Kind("avi", "msmpeg4", options=GOP),
    Kind("ts", "libx264", options=B_FRAMES),
    Kind("ts", "mpeg2video", options=B_FRAMES),
    Kind("mpg", "mpeg2video", options=B_FRAMES),
    Kind("flv", "flv", options=GOP),
    Kind("flv", "libx264", options=B_FRAMES),
    Kind("wmv", "wmv2", options=GOP),
)
# Raises the priority of its process where that may be raised.
AV1 = Kind("webm", "libsvtav1", options={"preset": "8", "crf": "10", "g": "12"})
PIXELS = {"mjpeg": "yuvj420p"}
FORMATS = {"mpg": "vob", "wmv": "asf", "ts": "mpegts", "mkv": "matroska"}


# --- Making ---------------------------------------------------------------------------------------


def frame_of(number: int, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    """``[H, W, 3]``: the number's bits as bright and dark blocks, over a texture that moves."""
    bits = np.array([number >> bit & 1 for bit in reversed(range(BITS))]).reshape(2, BITS // 2)
    blocks = np.kron(bits, np.ones((height // 2, width // (BITS // 2))))
    texture = np.random.default_rng(0).integers(-30, 31, (height // 4, width // 4))
    moved = np.kron(np.roll(texture, (number, 2 * number), (0, 1)), np.ones((4, 4)))
    return np.clip(70 + 115 * blocks + moved, 0, 255)[..., None].repeat(3, axis=2).astype(np.uint8)


def number_in(frame: NDArray[np.uint8]) -> int:
    """The number that a frame holds."""
    height, width = frame.shape[0] // 2, frame.shape[1] // (BITS // 2)
    means = (
        frame[: 2 * height, : width * (BITS // 2)]
        .reshape(2, height, BITS // 2, width, 3)
        .mean(axis=(1, 3, 4))
    )
    return int("".join("1" if mean > 128 else "0" for mean in means.ravel()), 2)


def make(
    kind: Kind, path: Path, count: int = 40, times: Sequence[int] | None = None, rate: int = RATE
) -> Path:
    """Write frames 0 to ``count`` - 1.

    ``times``: when each is shown, in thousandths of a second.
    """
    size = (144, 176) if kind.codec == "h263" else (HEIGHT, WIDTH)
    with av.open(str(path), "w", format=FORMATS.get(kind.container, kind.container)) as file:
        stream: Any = file.add_stream(kind.codec, rate=rate, options=kind.options)
        stream.height, stream.width = size
        stream.pix_fmt = PIXELS.get(kind.codec, "yuv420p")
        stream.codec_context.thread_count = 1
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 1000)
        for number in range(count):
            picture = av.VideoFrame.from_ndarray(frame_of(number, *size), format="rgb24")
            if times is not None:
                picture.pts = times[number]
            file.mux(stream.encode(picture))
        file.mux(stream.encode())
    return path


# --- Damaging -------------------------------------------------------------------------------------


def flipped(content: bytes, rng: np.random.Generator, bits: int) -> bytes:
    """``bits`` random bits inverted, none in the first fiftieth."""
    damaged = bytearray(content)
    for position in rng.integers(len(content) // 50, len(content), bits):
        damaged[position] ^= 1 << int(rng.integers(8))
    return bytes(damaged)


def overwritten(content: bytes, rng: np.random.Generator, size: int, zeros: bool) -> bytes:
    """``size`` bytes in a row replaced by zeros or noise."""
    start = int(rng.integers(len(content) // 50, len(content) - size))
    return content[:start] + (bytes(size) if zeros else rng.bytes(size)) + content[start + size :]


def removed(content: bytes, rng: np.random.Generator, size: int) -> bytes:
    """``size`` bytes in a row left out."""
    start = int(rng.integers(len(content) // 50, len(content) - size))
    return content[:start] + content[start + size :]


DAMAGE = {
    "1 bit": lambda content, rng: flipped(content, rng, 1),
    "20 bits": lambda content, rng: flipped(content, rng, 20),
    "300 bytes of noise": lambda content, rng: overwritten(content, rng, 300, False),
    "300 zeros": lambda content, rng: overwritten(content, rng, 300, True),
    "2000 zeros": lambda content, rng: overwritten(content, rng, 2000, True),
    "300 bytes removed": lambda content, rng: removed(content, rng, 300),
    "end cut": lambda content, rng: content[: int(len(content) * rng.uniform(0.2, 0.98))],
}


def without_packets(path: Path, out: Path, rng: np.random.Generator, container: str) -> Path:
    """A copy, made anew by a muxer, in which one to three packets in a row are not there."""
    with (
        av.open(str(path)) as source,
        av.open(str(out), "w", format=FORMATS.get(container, container)) as target,
    ):
        stream = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        first = int(rng.integers(1, len(packets) - 4))
        gone = range(first, first + int(rng.integers(1, 4)))
        for number, packet in enumerate(packets):
            if number not in gone:
                packet.stream = stream
                target.mux(packet)
    return out


def damaged_copies(
    path: Path, folder: Path, copies: int, container: str
) -> Iterator[tuple[str, Path]]:
    """Damage and file, ``copies`` of each damage; what is damaged follows from the file's name."""
    content = path.read_bytes()
    seed = int.from_bytes(sha256(path.name.encode()).digest()[:4], "big")
    for what, damage in DAMAGE.items():
        for number in range(copies):
            rng = np.random.default_rng([seed, number, len(what)])
            target = folder / f"damaged{path.suffix}"
            target.write_bytes(damage(content, rng))
            yield what, target
    for number in range(copies):
        rng = np.random.default_rng([seed, number])
        try:
            yield (
                "packets missing",
                without_packets(path, folder / f"damaged{path.suffix}", rng, container),
            )
        except (av.FFmpegError, ValueError):
            return  # this muxer does not take the packets back


# --- Reading --------------------------------------------------------------------------------------


def read(path: Path) -> list[NDArray[np.uint8]] | str:
    """The frames, or the reason of the refusal."""
    try:
        with open_video(path) as (frames, _):
            return list(frames)
    except DataError as error:
        return str(error)


def outcome(path: Path, sound: Sequence[NDArray[np.uint8]]) -> tuple[str, str]:
    """One of OUTCOMES, and the reason or what is wrong."""
    frames = read(path)
    if isinstance(frames, str):
        return "rejected", frames
    if len(frames) != len(sound):
        remaining = iter(sound)
        in_order = all(any(np.array_equal(ours, theirs) for theirs in remaining) for ours in frames)
        return "fewer" if in_order else "wrong", f"{len(frames)} frames instead of {len(sound)}"

    differ = [
        number
        for number, (ours, theirs) in enumerate(zip(frames, sound, strict=True))
        if not np.array_equal(ours, theirs)
    ]
    if not differ:
        return "whole", ""
    if frames[0].shape != sound[0].shape:
        return "wrong", f"frames of shape {frames[0].shape}"

    largest = max(
        int(np.abs(frames[number].astype(int) - sound[number]).max()) for number in differ
    )
    return "wrong", f"{len(differ)} of {len(sound)} frames differ, by up to {largest} of 255"


def wrong_numbers(frames: Sequence[NDArray[np.uint8]] | str, numbers: Sequence[int]) -> str:
    """What is wrong with a sound file; empty if nothing is."""
    if isinstance(frames, str):
        return f"refused: {frames}"
    decoded = [number_in(frame) for frame in frames]
    return "" if decoded == list(numbers) else f"frames {decoded}"


@dataclass
class Line:
    """A line of the table. ``sound``: empty if the sound file is whole."""

    name: str
    codec: str
    sound: str
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)  # what came out fewer or wrong


def line_of(kind: Kind, folder: Path, copies: int) -> Line:
    """Make a file of one kind, damage copies of it, and count what became of them."""
    path = make(kind, folder / f"{kind.name.replace(' ', '-')}.{kind.container}")
    sound = read(path)
    line = Line(kind.name, kind.codec, wrong_numbers(sound, range(40)))
    if line.sound or isinstance(sound, str):
        return line
    for what, damaged in damaged_copies(path, folder, copies, kind.container):
        result, why = outcome(damaged, sound)
        line.outcomes.setdefault(what, dict.fromkeys(OUTCOMES, 0))[result] += 1
        if result in ("fewer", "wrong"):
            line.silent.append(f"{what}: {why}")
    return line


def print_table(lines: Sequence[Line]) -> None:
    """A line for each kind, with sums over all damages."""
    print(
        f"{'kind':36}{'sound':>8}"
        + "".join(f"{name:>10}" for name in OUTCOMES)
        + "   of these, packets missing: fewer, wrong"
    )
    for line in lines:
        sums = Counter[str]()
        for counts in line.outcomes.values():
            sums.update(counts)
        missing = Counter(line.outcomes.get("packets missing", {}))
        cells = (
            "".join(f"{sums[name]:>10}" for name in OUTCOMES)
            + f"{missing['fewer']:>12}{missing['wrong']:>6}"
        )
        print(f"{line.name:36}{'WRONG' if line.sound else 'whole':>8}{cells}  {line.sound}")


def main() -> int:
    """Exit status: 0 if every sound file was read whole, else 1."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--copies", type=int, default=12, help="damaged copies of each file and damage"
    )
    parser.add_argument("--only", default="", help="kinds whose name has this in it")
    parser.add_argument(
        "--av1",
        action="store_true",
        help="make AV1 too, whose encoder raises the priority of this process where it may",
    )
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    kinds = [
        kind for kind in (*KINDS, *([AV1] if arguments.av1 else ())) if arguments.only in kind.name
    ]

    with tempfile.TemporaryDirectory() as folder:
        lines = [line_of(kind, Path(folder), arguments.copies) for kind in kinds]

    print_table(lines)
    if arguments.out:
        about = {
            "copies_of_each_damage": arguments.copies,
            "av": av.__version__,
            "ffmpeg": av.library_versions,
        }
        arguments.out.write_text(
            json.dumps({**about, "kinds": [asdict(line) for line in lines]}, indent=1) + "\n"
        )

    return any(line.sound for line in lines)


if __name__ == "__main__":
    sys.exit(main())
