"""TensorBoard's side of a run folder: its events files.

Each attempt at a run begins a file that holds all that counts: what earlier attempts wrote and a
restart does not write again, then its own. Its first marks tell a board to forget what it has read
of older files, which stay where they are because a running board loses its place in a file that is
removed. A board reads files in the order of their names and never goes back, so a name is later
than all others, whatever the clock of this machine says.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.plugins.hparams.summary_v2 import hparams_pb
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams as torch_hparams
from torch.utils.tensorboard.summary import text as torch_text

from vididi.runs import mirror

EVENTS = "events.out.tfevents.*"
_TIME = re.compile(r"events\.out\.tfevents\.(\d+)")


class Events:
    """The events file of one attempt at a run.

    When a method returns, what it wrote is in the file and in the store.
    """

    def __init__(self, folder: Path, recorded: Mapping[int, Mapping[str, float]]) -> None:
        """Begin the file with what earlier attempts recorded.

        Args:
            recorded: what earlier attempts recorded and this one will not, by step.
        """
        earlier_events = _earlier_events(folder, recorded)

        self.path = folder / _name(folder)
        # A board takes every file for one of its own that has "tfevents" in its name, so the name
        # comes last.
        staging = folder / f".events.{os.getpid()}"
        self.file = staging.open("wb")
        self.records = RecordWriter(self.file)

        # A board takes the first mark of a run for its beginning, and only those after it for
        # restarts.
        start = SessionLog(status=SessionLog.START)
        header = [
            Event(file_version="brain.Event:2"),
            Event(session_log=start),
            Event(session_log=start),
        ]
        self._write([*header, *earlier_events])
        staging.rename(self.path)
        mirror.push(self.path)

    def scalars(self, values: Mapping[str, float], step: int) -> None:
        """Append metrics of one step."""
        self._write(_scalar(step, name, value) for name, value in values.items())
        mirror.push(self.path)

    def text(self, tag: str, text: str) -> None:
        """Markdown, on the page of texts."""
        self._write([Event(summary=torch_text(tag, text))])
        mirror.push(self.path)

    def image(self, tag: str, png: bytes, width: int, height: int) -> None:
        """An image, encoded as PNG."""
        image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=png)
        self._write([Event(summary=Summary(value=[Summary.Value(tag=tag, image=image)]))])
        mirror.push(self.path)

    def hparams(self, parameters: Mapping[str, Any]) -> None:
        """The run as a row of the HParams page.

        The board makes the page's columns of all runs' rows and scalars.

        An experiment's record would say what the columns are, for all runs: a board takes that of
        one run.
        """
        *_, ended = torch_hparams({}, {})  # its beginning would hold numbers for truth values
        self._write(
            Event(summary=summary)
            for summary in (hparams_pb(hparam_values(parameters), trial_id=""), ended)
        )
        mirror.push(self.path)

    def close(self) -> None:
        """No more is written."""
        self.records.close()

    def _write(self, events: Iterable[Event]) -> None:
        for event in events:
            event.wall_time = event.wall_time or time.time()
            self.records.write(event.SerializeToString())
        self.records.flush()


def hparam_values(parameters: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """Hyperparameters as a column may hold them.

    A column has one type over all runs, so what is not set is left out, and a list is a text.
    """
    set_parameters = {name: value for name, value in parameters.items() if value is not None}
    return {
        name: value if isinstance(value, bool | int | float | str) else json.dumps(value)
        for name, value in set_parameters.items()
    }


def _scalar(step: int, name: str, value: float, wall_time: float = 0) -> Event:
    return Event(
        step=step,
        wall_time=wall_time,
        summary=Summary(value=[Summary.Value(tag=name, simple_value=value)]),
    )


def _earlier_events(folder: Path, recorded: Mapping[int, Mapping[str, float]]) -> list[Event]:
    """What is ``recorded``, with the times at which earlier attempts wrote it.

    What a crash took from their files has no time.
    """
    times: dict[tuple[int, str], float] = {}
    for path in sorted(folder.glob(EVENTS)) if recorded else []:
        for event in LegacyEventFileLoader(str(path)).Load():
            times |= {(event.step, value.tag): event.wall_time for value in event.summary.value}
    return [
        _scalar(s, name, value, times.get((s, name), 0))
        for s, values in recorded.items()
        for name, value in values.items()
    ]


def _name(folder: Path) -> str:
    """Of a file that a board reads after those that are there."""
    times = [int(match[1]) for path in folder.glob(EVENTS) if (match := _TIME.match(path.name))]
    now = max([int(time.time()), *(latest + 1 for latest in times)])
    return f"events.out.tfevents.{now:010d}.{socket.gethostname()}.{os.getpid()}.0"
