"""Tables of what benchmarks/scale.py has measured, for docs/scaling.md."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from scaling_terms import number, scale, where_from

BATCHES = {"weak": "the same for each worker", "strong": "the same for all together"}


def table(head: str, rows: Iterator[tuple[Any, ...]]) -> str:
    """Markdown."""
    lines = [f"| {head} |", "|" + "---|" * len(head.split(" | "))]
    return "\n".join(lines + ["| " + " | ".join(map(str, row)) + " |" for row in rows])


def with_source(part: str, text: str) -> str:
    """A table, and below it where its numbers are from."""
    return f"{text}\n\n{where_from(part)}"


def preparing_table() -> str:
    """By processes."""
    section = scale()["preparing"]
    rows = (
        (row["processes"], number(row["videos_per_s"]), number(row["videos_per_s_per_core"]))
        for row in section["rows"]
    )
    about = f"{section['videos']} files of {section['frames']} frames, {section['pixels']}; "
    return f"{table('processes | videos/s | videos/s of a core', rows)}\n\n{about}" + where_from(
        "preparing"
    )


def planning_table() -> str:
    """By videos."""
    rows = (
        (
            f"{row['rows']:,}",
            f"{row['shards']:,}",
            number(row["open_s"]),
            number(row["plan_s"] + row["epoch_s"]),
            f"{row['peak_mib']:,.0f}",
            f"{row['peak_bytes_a_further_row']:,}" if "peak_bytes_a_further_row" in row else "",
            f"{row['writer_peak_mib']:,.0f}",
        )
        for row in scale()["planning"]["rows"]
    )
    head = (
        "videos | shards | opening [s] | planning an epoch [s] | peak memory [MiB]"
        " | of each further video [B] | peak memory of preparing's end [MiB]"
    )
    return with_source("planning", table(head, rows))


def cells_table() -> str:
    """By cells."""
    rows = (
        (
            f"{row['cells']:,}",
            f"{row['driver_peak_mib']:,}",
            number(row["seconds_per_report"]),
            number(row["driver_cpu_ms_per_report"]),
            number(row["status_s"]),
            f"{number(row['table']['seconds'])} ({number(row['table']['more_mib'])} MiB)",
            f"{number(row['tensorboard']['seconds'])} ({number(row['tensorboard']['mib'])} MiB)",
        )
        for row in scale()["cells"]["rows"]
    )
    head = (
        "cells | driver [MiB] | seconds a cell | driver's CPU a cell [ms] | status [s]"
        " | table [s] (memory) | TensorBoard [s] (files)"
    )
    return with_source("cells", table(head, rows))


def retrieval_table() -> str:
    """By queries."""
    rows = (
        (
            f"{row['queries']:,} x {row['gallery']:,} x {row['width']}",
            number(row["cpu_s"]),
            f"{row['features_mib']:,.0f}",
            f"{row['beyond_features_mib']:,.0f}",
        )
        for row in scale()["retrieval"]["rows"]
    )
    head = "queries x gallery x features | CPU [s] | features [MiB] | beyond them [MiB]"
    return with_source("retrieval", table(head, rows))


def workers_table() -> str:
    """By workers: steps, then collectives."""
    section = scale()["workers"]
    steps = table(
        "batch | workers | videos | seconds a step | clips/s over one worker",
        (
            (
                f"{BATCHES[row['mode']]} ({row['mode']})",
                row["workers"],
                row["batch"],
                number(row["seconds_per_step"]),
                number(row["clips_per_s_over_one_worker"]),
            )
            for row in section["training"]
        ),
    )
    calls = table(
        "collective, gloo | processes | MB | ms",
        (
            (row["what"], row["workers"], number(row["bytes"] / 1e6), number(1000 * row["seconds"]))
            for row in section["collectives"]
        ),
    )
    return f"{steps}\n\n{with_source('workers', calls)}"
