"""Features by batch inference over Ray Data against the local path.

The motion set's videos, 10 clips each, an untrained r3d_tiny.

    python benchmarks/batch_inference.py --out benchmarks/results/batch_inference.json

The first ratio of a pool is of whole calls, so the start of its actors (each imports torch) is in
it; the second is of the time from the first batch that came to the last one, which is what a long
evaluation sees. All is measured in one run on a cluster of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vididi.cluster.connection import connected
from vididi.cluster.inference import Pool
from vididi.components import make_encoder, resolve
from vididi.config import build_config
from vididi.data.plan import EvaluationPlan, frame_counts
from vididi.data.stream import local_stream
from vididi.evaluation.features import Extract, FeatureView, local_extract
from vididi.prepared import ensure_prepared

ACTORS = (1, 2)


def measure(
    extract: Extract, encoder: torch.nn.Module, plan: EvaluationPlan, view: FeatureView
) -> tuple[dict[str, float], Any]:
    """One pass of ``extract`` over ``plan``: seconds, warm batches per second, and features."""
    times: list[tuple[float, int]] = []
    began = time.perf_counter()
    _, features = extract(
        encoder, plan, view, lambda done, count: times.append((time.perf_counter(), done))
    )
    seconds = time.perf_counter() - began
    (first, already), (last, done) = times[0], times[-1]
    return {"seconds": seconds, "batches_per_s": (done - already) / (last - first)}, features[
        "intact"
    ]


def main() -> None:
    """Compare inference on a Ray cluster of 1, 2, ... actors with the local path."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--videos", type=int, default=0, help="only this many (default: all)")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    config = resolve(build_config({"data": {"name": "motion"}, "backbone": {"name": "r3d_tiny"}}))
    shards = ensure_prepared(config)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder, _ = make_encoder(config.backbone)
    e, counts = config.evaluation, frame_counts(shards)
    rows = np.concatenate([shards.rows("train"), shards.rows("test")])[: arguments.videos or None]
    plan = EvaluationPlan(
        rows, counts, e.frames or config.clip.frames, e.stride or config.clip.stride, 10, 8
    )
    view = FeatureView(config.clip.size, e.crop, e.seed)
    base, expected = measure(local_extract(local_stream(shards)), encoder, plan, view)
    print(f"local: {base['seconds']:.1f} s, {base['batches_per_s']:.2f} batches/s", flush=True)
    results: list[dict[str, float]] = []
    from ray.cluster_utils import Cluster

    options = {
        "num_cpus": max(ACTORS),
        "include_dashboard": False,
        "object_store_memory": 200 << 20,
    }
    cluster = Cluster(initialize_head=True, head_node_args=options)
    try:
        with connected(cluster.address):
            for actors in ACTORS:
                row, features = measure(Pool(actors).extract(shards), encoder, plan, view)
                total, steady = (
                    base["seconds"] / row["seconds"],
                    row["batches_per_s"] / base["batches_per_s"],
                )
                difference = float(np.abs(features - expected).max())
                results.append(
                    {
                        "actors": actors,
                        **row,
                        "whole_ratio": total,
                        "steady_ratio": steady,
                        "difference": difference,
                    }
                )
                print(
                    f"{actors} actors: {row['seconds']:.1f} s, whole x{total:.2f}, steady"
                    f" x{steady:.2f}, off {difference:.1e}",
                    flush=True,
                )
    finally:
        cluster.shutdown()
    if arguments.out:
        content = {
            "date": time.strftime("%Y-%m-%d"),
            "cores": len(os.sched_getaffinity(0)),
            "load_1_min": os.getloadavg()[0],
        }
        content |= {"videos": len(rows), "clips": 10, "local": base, "rows": results}
        arguments.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
