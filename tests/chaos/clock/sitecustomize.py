"""Imported by every Python that has this folder on its path: its clock can be made to jump.

CHAOS_CLOCK names a file with the seconds (a double) that time.time is off by. The monotonic clock
stays, as it does when a real clock is set; so does that of C, which is Ray's.
"""

import mmap
import os
import struct
import time
from pathlib import Path

_true_time, _true_time_ns, _true_strftime = time.time, time.time_ns, time.strftime
_true_local, _true_utc = time.localtime, time.gmtime
_off = None


# By their names in this module, as Ray pickles them.
def now():
    return _true_time() + struct.unpack_from("d", _off)[0]


def now_ns():
    return _true_time_ns() + int(struct.unpack_from("d", _off)[0] * 1e9)


def local(seconds=None):
    return _true_local(now() if seconds is None else seconds)


def utc(seconds=None):
    return _true_utc(now() if seconds is None else seconds)


def text(form, at=None):
    return _true_strftime(form, local() if at is None else at)


if path := os.environ.get("CHAOS_CLOCK"):
    with Path(path).open("rb") as file:
        _off = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    time.time, time.time_ns, time.strftime = now, now_ns, text
    time.localtime, time.gmtime = local, utc
