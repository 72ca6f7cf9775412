"""How long retrieval takes: our first hits, with ties and duplicates as the rules say, over
scikit-learn's ten nearest neighbours, by turns in one process.

    python benchmarks/retrieval.py --out benchmarks/results/retrieval.json
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
from pathlib import Path

import numpy as np
from by_turns import cpu_seconds, median_ratio
from sklearn.neighbors import NearestNeighbors
from threadpoolctl import threadpool_limits

from vididi.evaluation.retrieval import first_hits
from vididi.provenance import measured_by

SIZES = {"256 x 10,000 x 512": (256, 10_000, 512), "1,000 x 9,500 x 512": (1_000, 9_500, 512)}
LARGE = {"20,000 x 100,000 x 512": (20_000, 100_000, 512)}
CLASSES = 101
TURNS = 7


def main() -> int:
    """Exit status: 0."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="a JSON file")
    parser.add_argument("--quick", action="store_true", help="small sizes, two turns")
    parser.add_argument("--large", action="store_true", help="ours alone on 100,000 videos, too")
    arguments = parser.parse_args()
    sizes = {"64 x 500 x 32": (64, 500, 32)} if arguments.quick else SIZES
    found = {}
    with threadpool_limits(1):
        for name, size in sizes.items():
            found[name] = compared(*size, turns=2 if arguments.quick else TURNS)
            print(
                f"{name:24}" + "".join(f"  {key} {value:g}" for key, value in found[name].items())
            )
        for name, size in LARGE.items() if arguments.large else ():
            found[name] = alone(*size)
            print(
                f"{name:24}" + "".join(f"  {key} {value:g}" for key, value in found[name].items())
            )
    if arguments.out:
        result = {"threads": 1, "sizes": found, **measured_by()}
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    return 0


def made(queries: int, gallery: int, width: int) -> tuple[np.ndarray, ...]:
    """Features of both, and their labels."""
    rng = np.random.default_rng(0)
    features = [rng.standard_normal((count, width)) for count in (queries, gallery)]
    return *features, *(rng.integers(0, CLASSES, count) for count in (queries, gallery))


def compared(queries: int, gallery: int, width: int, turns: int) -> dict[str, float]:
    """CPU seconds of both, and the median of the turns' ratios."""
    q, g, q_labels, g_labels = made(queries, gallery, width)
    ways = {
        "ours": lambda turn: first_hits(q, q_labels, g, g_labels),
        "theirs": lambda turn: neighbours(q, g),
    }
    seconds = cpu_seconds(ways, turns, not_counted=0)
    return {
        "ours_s": round(statistics.median(seconds["ours"]), 4),
        "scikit_learn_s": round(statistics.median(seconds["theirs"]), 4),
        "ratio": round(median_ratio(seconds["ours"], seconds["theirs"]), 2),
    }


def neighbours(q: np.ndarray, g: np.ndarray) -> np.ndarray:
    """The ten nearest of each query, scikit-learn's way."""
    index = NearestNeighbors(n_neighbors=10, algorithm="brute", metric="cosine").fit(g)
    return index.kneighbors(q, return_distance=False)


def alone(queries: int, gallery: int, width: int) -> dict[str, float]:
    """CPU seconds of ours, and what memory grew by."""
    q, g, q_labels, g_labels = made(queries, gallery, width)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    way = {"ours": lambda turn: first_hits(q, q_labels, g, g_labels)}
    (seconds,) = cpu_seconds(way, turns=1, not_counted=0)["ours"]
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"ours_s": round(seconds, 1), "more_memory_gib": round(grown / 2**20, 2)}


if __name__ == "__main__":
    sys.exit(main())
