"""Imported by every Python that has this folder on its path: its clock can be made to jump.

CHAOS_CLOCK names a file with the seconds (a double) that time.time is off by. The monotonic clock
stays, as it does when a real clock is set.
"""

import mmap
import os
import struct
import time
from pathlib import Path

if path := os.environ.get("CHAOS_CLOCK"):
    with Path(path).open("rb") as file:
        off = mmap.mmap(file.fileno(), 8, access=mmap.ACCESS_READ)
    true_time, true_time_ns, true_strftime = time.time, time.time_ns, time.strftime
    true_local, true_utc = time.localtime, time.gmtime
    time.time = lambda: true_time() + struct.unpack_from("d", off)[0]
    time.time_ns = lambda: true_time_ns() + int(struct.unpack_from("d", off)[0] * 1e9)
    time.localtime = lambda seconds=None: true_local(time.time() if seconds is None else seconds)
    time.gmtime = lambda seconds=None: true_utc(time.time() if seconds is None else seconds)
    time.strftime = lambda form, at=None: true_strftime(
        form, time.localtime() if at is None else at
    )
