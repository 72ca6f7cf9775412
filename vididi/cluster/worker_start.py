"""Imported by each process of a Ray of our own as it starts: its collector rests until there is
work (vididi.collector), as most of a process's start is importing torch and Ray Tune.

Ray's own actors, and a trial that drives workers, live as long as a sweep and do none of that work;
so it rests for REST_S at most.
"""

import gc
from threading import Timer

from vididi.collector import wake_collector

REST_S = 30.0  # of a start of 2 s where nothing else runs

gc.disable()
_rest = Timer(REST_S, wake_collector)
_rest.daemon = True
_rest.start()
