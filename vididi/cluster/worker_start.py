"""Imported by each process of a Ray of our own as it starts: its collector rests until there is
work (vididi.collector), as most of a process's start is importing torch and Ray Tune.
"""

import gc

gc.disable()
