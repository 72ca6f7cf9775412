"""What training on 8, 64 and 512 GPUs would take: the tables of docs/scaling.md.

    python benchmarks/scaling_model.py            print them
    python benchmarks/scaling_model.py --write    put them into the page

Bytes are counted from the networks and objectives themselves, as sweeps/paper has them; what was
measured is read from benchmarks/results; all else is assumed, with a range. The low end of a result
is that of a slow GPU beside fast networks and disks, the high end the other way round.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from paper_costs import TEN_SECONDS, VIDEOS, forward_flops
from scaling_growth import (
    cells_table,
    planning_table,
    preparing_table,
    retrieval_table,
    table,
    workers_table,
)
from scaling_terms import (
    ASSUMED,
    BETWEEN,
    MEMORY,
    NODE_READS,
    SMALL_BETWEEN,
    SMALL_WITHIN,
    SPEED,
    STORE,
    WITHIN,
    Range,
    measured,
    number,
    span,
)
from torch import Tensor, nn

from vididi.backbones import BACKBONES
from vididi.cluster.resources import AHEAD_BYTES
from vididi.components import build_state
from vididi.config import Config
from vididi.data.layout import footer
from vididi.data.shard_writer import ROW_GROUP_BYTES, SHARD_BYTES
from vididi.objectives import OBJECTIVES, Objective
from vididi.sweep import expand, load_sweep

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "scaling.md"
SIZES = (8, 64, 512)  # GPUs
NODE = 8  # GPUs of a node
GB, GIB, MIB, MS = 1e9, 2**30, 2**20, 1e-3
TOO_MUCH = 0.2  # of a step that collectives may take
HEAD_GIB = 16  # of memory that a driver may take
THREADS = 2  # that decode for a worker of one core (resources.cpus_per_worker)
FULL_SHARD = 128  # videos, of 1 MiB each
FOOTERS_KEPT = footer.cache_parameters()["maxsize"]

# Name in the page, file of sweeps/paper, arm.
CELLS = (
    ("ViDiDi-BYOL, UCF101", "vididi_table_1_ucf101", "vididi_byol"),
    ("ViDiDi-VIC, UCF101", "vididi_table_1_ucf101", "vididi"),
    ("ViDiDi-VIC, Kinetics-400", "vididi_table_1_k400", "vididi"),
    ("CVRL, Kinetics-400", "cvrl_table_2_k400", "cvrl"),
    ("CORP_f, Kinetics-400", "corp_table_1", "corp_f"),
    ("CORP_m, Kinetics-400", "corp_table_1", "corp_m"),
)


# --- What is counted ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counted:
    """Of a cell of sweeps/paper.

    Attributes:
        gradient: bytes that are averaged over the workers.
        gathered: bytes of the whole batch that every worker gets; with_gradient: of these, those
            whose gradient is summed over the workers.
        norms: small collectives of synchronised batch normalisation, of a step.
        most_workers: by the batch, or by CORP_m's groups.
    """

    name: str
    config: Config
    gradient: int
    gathered: int
    with_gradient: int
    norms: int
    most_workers: int

    @property
    def clips(self) -> int:
        """Of a whole batch."""
        return self.config.training.batch_size * (self.config.clip.per_video or 2)

    @property
    def clip_flops(self) -> float:
        """Forward and backward; BYOL's target goes forward, too."""
        clip, backbone = self.config.clip, self.config.backbone
        options = tuple(sorted(backbone.options.items()))
        passes = 4 if self.config.objective.name == "byol" else 3
        return passes * forward_flops(backbone.name, options, clip.frames, clip.size)


@cache
def counted() -> list[Counted]:
    """All cells of the page."""
    return [count(*cell) for cell in CELLS]


def count(name: str, file: str, arm: str) -> Counted:
    """Bytes and collectives of a step of an arm's first cell."""
    cells = expand(load_sweep(ROOT / "sweeps" / "paper" / f"{file}.yaml"))
    config = next(cell for cell in cells if cell.arm == arm).resolved().config
    with torch.device("meta"):
        objective = build_state(config).objective
    trained = [p for p in objective.parameters() if p.requires_grad]
    norms = sum(
        # Forward and backward of each view; what is not trained goes forward alone.
        4 if module.weight.requires_grad else 2
        for module in objective.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm)
    )
    gathered, with_gradient = gathered_bytes(config)
    batch, group = config.training.batch_size, getattr(objective, "group", 1)
    gradient = sum(p.numel() * p.element_size() for p in trained)
    return Counted(
        name, config, gradient, gathered * batch, with_gradient * batch, norms, batch // group
    )


def gathered_bytes(config: Config) -> tuple[int, int]:
    """Bytes of a video that an objective gathers, and of these those with a gradient: by a step of
    it over a small network, as heads and batch alone say what is gathered.
    """
    videos, clips = 8, config.clip.per_video or 2
    backbone, width = BACKBONES["r3d_tiny"]()
    objective: Objective = OBJECTIVES[config.objective.name](
        backbone, width, **config.objective.options
    )
    rows: list[Tensor] = []

    def gather(x: Tensor) -> Tensor:
        rows.append(x)
        return x

    objective.gather = gather
    view = torch.zeros(videos * clips // 2, 3, 4, 16, 16)
    objective(view, view, torch.arange(clips).repeat(videos, 1))
    sizes = [(x.numel() * x.element_size() // videos, x.requires_grad) for x in rows]
    return sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)


# --- The model ------------------------------------------------------------------------------------


def ring(workers: int, size: float) -> float:
    """Bytes that each worker sends of an all-reduce."""
    return 2 * (workers - 1) / workers * size


def gather_sent(cell: Counted, workers: int) -> float:
    """Bytes that each worker sends of the gathers and of the sums of their gradients."""
    return (workers - 1) / workers * cell.gathered + ring(workers, cell.with_gradient)


def arithmetic(cell: Counted, workers: int) -> Range:
    """Seconds of a step, by the GPU."""
    flops = cell.clips / workers * cell.clip_flops / 1e12
    return Range(flops / SPEED.high, flops / SPEED.low)


def collectives(cell: Counted, workers: int) -> Range:
    """Seconds of a step; none of them is taken to be hidden behind arithmetic."""
    small, wide = (SMALL_WITHIN, WITHIN) if workers <= NODE else (SMALL_BETWEEN, BETWEEN)
    sent = (ring(workers, cell.gradient) + gather_sent(cell, workers)) / GB
    low, high = sent / wide.high, sent / wide.low
    return Range(low + cell.norms * small.low * 1e-6, high + cell.norms * small.high * 1e-6)


def share(cell: Counted, workers: int) -> Range:
    """Of a step that collectives take: a slow GPU on a fast network, and the other way round."""
    work, talk = arithmetic(cell, workers), collectives(cell, workers)
    return Range(talk.low / (talk.low + work.high), talk.high / (talk.high + work.low))


@dataclass(frozen=True)
class Feed:
    """What a GPU takes of data with a network, by its arithmetic alone.

    Attributes:
        video: bytes that are read of a video, all of it; frames: of a clip; pixels: of a frame.
        frame: bytes of one.
    """

    name: str
    flops: float
    video: float
    frames: int
    pixels: int
    frame: float

    @property
    def clips(self) -> Range:
        """A second, of a GPU."""
        return Range(SPEED.low * 1e12 / self.flops, SPEED.high * 1e12 / self.flops)

    @property
    def clips_of_core(self) -> float:
        """Decoded in a second by a core: as measured, by pixels."""
        size = self.frames * self.pixels / (10 * 150 * 200)
        return measured()["decoded"].value / size

    @property
    def footer_s(self) -> float:
        """Of a shard, read: as measured, by row groups."""
        groups = SHARD_BYTES / max(self.video, ROW_GROUP_BYTES)
        return measured()["footer"].value / 1000 * groups / FULL_SHARD

    def shards(self, clips: float) -> float:
        """Bytes a second that are read for so many clips: a video for two of them."""
        return clips / 2 * self.video


def feeds() -> list[Feed]:
    """ViDiDi's and CVRL's, of Kinetics-400."""
    vididi, cvrl = (
        next(cell for cell in counted() if cell.name.startswith(name))
        for name in ("ViDiDi-VIC, K", "CVRL")
    )
    frame = measured()["frame"].value * 1024
    large = TEN_SECONDS[256] * MIB / 250
    return [
        Feed(
            "r3d_18, 8 + 2 frames, short side 150",
            vididi.clip_flops,
            TEN_SECONDS[150] * MIB,
            10,
            150 * 200,
            frame,
        ),
        Feed(
            "r3d_50, 16 frames, short side 256",
            cvrl.clip_flops,
            TEN_SECONDS[256] * MIB,
            16,
            256 * 341,
            large,
        ),
    ]


# --- Tables ---------------------------------------------------------------------------------------


def measured_table() -> str:
    rows = ((one.what, f"{number(one.value)} {one.unit}", one.where) for one in measured().values())
    return table("measured | value | where", rows)


def assumed_table() -> str:
    return table("assumed | range", ((name, value) for name, value in ASSUMED.items()))


def bytes_table() -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        for cell in counted():
            each = (sent_text(cell, gpus) if gpus <= cell.most_workers else "-" for gpus in SIZES)
            config = cell.config
            what = f"{cell.name}: {config.backbone.name}, {config.training.batch_size:,} videos"
            gradient, gathered = number(cell.gradient / 1e6), number(cell.gathered / 1e6)
            yield what, gradient, gathered, cell.norms, *each

    sizes = " | ".join(f"{gpus} GPUs [MB]" for gpus in SIZES)
    return table(f"cell | gradient [MB] | gathered [MB] | small collectives | {sizes}", rows())


def sent_text(cell: Counted, gpus: int) -> str:
    """MB of a step that each worker sends: of the gradient, and of what is gathered."""
    sent = (ring(gpus, cell.gradient), gather_sent(cell, gpus))
    return " + ".join(number(size / 1e6) for size in sent)


def steps_table() -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        for cell in counted():
            for gpus in SIZES:
                if gpus <= cell.most_workers:
                    work, talk, part = (of(cell, gpus) for of in (arithmetic, collectives, share))
                    yield (
                        cell.name,
                        gpus,
                        cell.clips // gpus,
                        span(work.low / MS, work.high / MS),
                        span(talk.low / MS, talk.high / MS),
                        f"{span(100 * part.low, 100 * part.high)}%",
                    )

    return table(
        "cell | GPUs | clips of each | arithmetic [ms] | collectives [ms] | share of collectives",
        rows(),
    )


def node_table() -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        for feed in feeds():
            low, high = feed.clips.low, feed.clips.high
            reads = [NODE * feed.shards(clips) / GB for clips in (low, high)]
            frames = [NODE * clips * feed.frames * feed.frame / GB for clips in (low, high)]
            footers = [clips / 2 * feed.footer_s for clips in (low, high)]
            yield (
                feed.name,
                span(low, high),
                span(*reads),
                span(*frames),
                span(low / feed.clips_of_core, high / feed.clips_of_core),
                span(*footers),
            )

    return table(
        "network and data | clips/s of a GPU | shards, a node [GB/s] | object store, a node [GB/s]"
        " | cores that decode, a GPU | cores that read footers, a GPU",
        rows(),
    )


def memory_table() -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        terms = measured()
        for videos in (10_000, 240_000, 1_000_000):
            kept = NODE * videos * terms["kept"].value
            shards = videos / FULL_SHARD
            footers = NODE * min(shards, FOOTERS_KEPT) * terms["footer_kept"].value * 1024
            stored = NODE * (videos * (terms["reader"].value + terms["plan"].value) + AHEAD_BYTES)
            writer = videos * terms["index"].value
            yield (
                f"{videos:,}",
                number(kept / GIB),
                number(footers / GIB),
                number(stored / GIB),
                number(writer / GIB),
            )

    return table(
        f"videos | indexes of {NODE} workers [GiB] | footers of their readers [GiB]"
        " | object store of their streams [GiB] | index while preparing [GiB]",
        rows(),
    )


def reports_of(videos: int, feed: Feed, gpus: int) -> Range:
    """Reports a second of a cell: one for each epoch."""
    rates = (clips * gpus / (2 * videos) for clips in (feed.clips.low, feed.clips.high))
    return Range(*rates)


def driver_table() -> str:
    def rows() -> Iterator[tuple[Any, ...]]:
        cpu = measured()["report"].value / 1000
        for name, data, feed, each in (
            ("UCF101, r3d_18, a GPU a cell", "ucf101", feeds()[0], 1),
            ("Kinetics-400, r3d_18, 8 GPUs a cell", "kinetics400", feeds()[0], 8),
        ):
            one = reports_of(VIDEOS[data][0], feed, each)
            for gpus in SIZES:
                cells = gpus // each
                low, high = cells * one.low, cells * one.high
                yield (
                    name,
                    gpus,
                    cells,
                    span(low, high),
                    f"{span(100 * low * cpu, 100 * high * cpu)}%",
                )

    return table("cells | GPUs | cells at a time | reports/s | of a core of the driver", rows())


def breaks_table() -> str:
    rows = sorted([*data_breaks(), *step_breaks(), *driver_breaks()], key=lambda one: one.gpus)
    return table("what breaks | from | lever", ((one.what, one.size, one.lever) for one in rows))


class Break(NamedTuple):
    """What breaks, from which size on, and what helps.

    gpus: how many that size means at least, by which breaks are sorted.
    """

    gpus: float
    what: str
    size: str
    lever: str


def data_breaks() -> Iterator[Break]:
    """Of reading and decoding."""
    for feed in feeds():
        name = feed.name.partition(",")[0]
        least, most = (feed.shards(clips) / GB for clips in (feed.clips.low, feed.clips.high))
        gpus = Range(NODE_READS.low / most, NODE_READS.high / least)
        yield Break(
            gpus.low,
            f"reading shards, {name}: a node's network or disk",
            f"{span(*gpus[:2])} GPUs a node",
            "shards on a local disk; `resources.hold_data` for data that fit; `prepare.quality: 85`"
            f" ({number(measured()['smaller'].value)} of the bytes)",
        )
        gpus = Range(STORE.low / most, STORE.high / least)
        yield Break(
            gpus.low,
            f"reading shards, {name}: the store that all nodes read from",
            f"{span(*gpus[:2])} GPUs",
            "a copy of the set on each node, or a store for some nodes each",
        )
        speed = THREADS * feed.clips_of_core * feed.flops / 1e12
        if speed < SPEED.high:
            yield Break(
                1,
                f"decoding, {name}: {THREADS} threads for a worker of one core",
                f"a GPU of {number(speed)} TFLOP/s",
                "`resources.cpus_per_worker`, as many threads decode; a smaller short side",
            )
    videos = MEMORY.low * GIB / 2 / (NODE * measured()["kept"].value)
    yield Break(
        float("inf"),
        f"the indexes of {NODE} workers take half of a node's memory",
        f"{span(videos, videos * MEMORY.high / MEMORY.low)} videos of a set",
        "not there: an index that the workers of a node share",
    )


def step_breaks() -> Iterator[Break]:
    """Of one cell over many GPUs."""
    least = min(counted(), key=lambda cell: cell.most_workers)
    limits = sorted({cell.most_workers + 1 for cell in counted()})
    yield Break(
        least.most_workers + 1,
        f"a cell has more GPUs than videos in its batch (groups of them: {least.name}); refused",
        f"{', '.join(f'{limit:,}' for limit in limits)} GPUs a cell",
        "more cells at a time, each of fewer GPUs (`resources.workers`)",
    )
    sizes = [2**power for power in range(1, 15)]
    for cell in counted():
        shares = [(size, share(cell, size)) for size in sizes]
        gpus = Range(
            min(size for size, part in shares if part.high > TOO_MUCH),
            min(size for size, part in shares if part.low > TOO_MUCH),
        )
        if gpus.low <= cell.most_workers:
            yield Break(
                gpus.low,
                f"{cell.name}: collectives take {TOO_MUCH:.0%} of a step",
                f"{gpus} GPUs a cell",
                "fewer GPUs a cell; a larger batch; not there: gradients averaged in bf16,"
                " `reduce_scatter` in the gather's backward pass",
            )


def driver_breaks() -> Iterator[Break]:
    """Of the process that drives a sweep."""
    terms = measured()
    one = reports_of(VIDEOS["ucf101"][0], feeds()[0], 1)
    capacity = 1000 / terms["report"].value
    gpus = Range(capacity / one.high, capacity / one.low)
    yield Break(
        gpus.low,
        "reports take a core of the driver, UCF101, r3d_18, a GPU a cell",
        f"{span(*gpus[:2])} GPUs",
        "more GPUs a cell; sweeps side by side, each with a driver of its own",
    )
    room = (HEAD_GIB * GIB - terms["driver"].value * MIB) / (terms["per_cell"].value * 1024)
    yield Break(
        float("inf"),
        f"the driver's memory, {HEAD_GIB} GiB",
        f"{number(room)} cells of a sweep",
        "sweep files of fewer cells into one folder of runs",
    )


TABLES = {
    "preparing": preparing_table,
    "planning": planning_table,
    "cells": cells_table,
    "retrieval": retrieval_table,
    "workers": workers_table,
    "measured": measured_table,
    "assumed": assumed_table,
    "bytes": bytes_table,
    "steps": steps_table,
    "node": node_table,
    "memory": memory_table,
    "driver": driver_table,
    "breaks": breaks_table,
}
_BLOCK = re.compile(r"<!-- scaling_model: (?P<name>\w+) -->\n.*?<!-- end -->", re.DOTALL)


def written(page: str) -> str:
    """The page with all tables as they are now."""

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- scaling_model: {name} -->\n\n{TABLES[name]()}\n\n<!-- end -->"

    return _BLOCK.sub(block, page)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", action="store_true", help="write docs/scaling.md")
    if parser.parse_args().write:
        PAGE.write_text(written(PAGE.read_text()))
        return
    for name, make in TABLES.items():
        print(f"{name}\n\n{make()}\n")


if __name__ == "__main__":
    main()
