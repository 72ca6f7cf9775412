"""Run a sweep: ``python run_sweep.py sweeps/ablation.yaml``. The same as ``vididi sweep``, from a
clone.

run_sweep.py SWEEP.yaml             run what is not finished
run_sweep.py status SWEEP.yaml      what became of each cell so far; runs nothing
run_sweep.py extend SWEEP.yaml      more seeds of the same cells
run_sweep.py rerun SWEEP.yaml       only the cells that failed
run_sweep.py compare A B            the difference between two arms or folders of runs, with its
                                    interval
"""

from __future__ import annotations

import sys

if __name__ == "__main__":  # before what is slow to import
    from vididi.collector import one_program_runs
    from vididi.interrupts import catch_from_the_start

    catch_from_the_start()
    one_program_runs()

from vididi.commands.program import main as main

if __name__ == "__main__":
    sys.exit(main())
