"""What TensorBoard's projector reads of an evaluation's folder: features of test videos as points,
with their classes. A board shows them where the folder has an events file too.
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from vididi.runs.file_names import POINT_LABELS, POINTS, PROJECTOR
from vididi.runs.mirror import push
from vididi.runs.run_folder import write_atomically
from vididi.terminal import one_line

MOST_POINTS = 5000  # of which a browser still turns the cloud smoothly


def write_projector(folder: Path, features: pa.Table) -> None:
    """Write the first MOST_POINTS test videos of a table of features (features.parquet's)."""
    test = features.filter(pc.equal(features.column("split"), "test")).slice(0, MOST_POINTS)
    lines = ["\t".join(f"{x:.6g}" for x in row) for row in test.column("features").to_pylist()]
    names = zip(test.column("class").to_pylist(), test.column("video_id").to_pylist(), strict=True)
    labels = ["class\tvideo", *(f"{one_line(str(c))}\t{one_line(v)}" for c, v in names)]
    config = (
        'embeddings {\n  tensor_name: "features of test videos"\n'
        f'  tensor_path: "{POINTS}"\n  metadata_path: "{POINT_LABELS}"\n}}\n'
    )
    texts = {POINTS: lines, POINT_LABELS: labels, PROJECTOR: [config.rstrip()]}
    for name, text in texts.items():
        write_atomically(folder / name, "\n".join(text) + "\n")
        push(folder / name)
