"""The card of an exported encoder, in Markdown with a YAML head, as the Hugging Face Hub reads it
(https://huggingface.co/docs/hub/model-cards).
"""

from __future__ import annotations

from typing import Any

import yaml

from vididi.encoders import Encoder

MARK = "<!-- written by vididi export -->"
USE = {
    "safetensors": (
        "import vididi\n\nencoder = vididi.Encoder.load({file!r})\n"
        'feature = encoder.embed("video.mp4")  # [{width}]'
    ),
    "torch_export": (
        "import torch\n\nnetwork = torch.export.load({file!r}).module()\n"
        "feature = network(clips).mean(0)  # clips [K, 3, {frames}, {size}, {size}] -> [{width}]"
    ),
    "onnx": (
        "import onnxruntime\n\nsession = onnxruntime.InferenceSession({file!r})\n"
        '(features,) = session.run(None, {{"clips": clips}})'
        "  # float32 [K, 3, {frames}, {size}, {size}]"
    ),
    "standalone": (
        "import encoder  # the file beside this one; it needs torch (and torchvision)\n"
        "\nnetwork = encoder.load()\n"
        "feature = network(encoder.transform(frames)).mean(0)  # uint8 [T, H, W, 3] -> [{width}]"
    ),
}


def card_text(encoder: Encoder, form: str, file: str, licence: str | None = None) -> str:
    """The card of an encoder that was written as ``form`` to ``file``.

    Args:
        licence: of the weights, as the Hub writes it; without one, ``other``: the data set's terms.
    """
    said, s = encoder.description, encoder.spec
    title = f"{said['backbone']['name']}, {said['objective']['name']}, {said['data']['name']}"
    head = yaml.safe_dump(_head(said, title, licence), sort_keys=False, allow_unicode=True)
    use = USE[form].format(file=file, width=encoder.width, frames=s.frames, size=s.size)
    clip = (
        f"{s.clips} clips of {s.frames} frames, one of every {s.stride}, evenly spaced over the"
        f" video; of each a random square crop of {s.crop:g} of the short side, resized to"
        f" {s.size} x {s.size}. Values from {s.range[0]:g} to {s.range[1]:g}, less the mean"
        f" {list(s.mean)}, over the deviation {list(s.deviation)}, RGB. Before that the short side"
        f" is resized to {s.short_side} pixels and each frame stored as JPEG of quality"
        f" {s.quality}. A video's feature is the mean over its clips."
    )
    if s.batch_norm == "recomputed":
        clip += (
            " What was measured below is of batch statistics that were recomputed on the training"
            " videos; these weights have those that training left."
        )
    order, versions = said["schedule"]["order"], said["versions"]
    trained = (
        f"Self-supervised: objective {said['objective']['name']}, temporal derivatives up to order"
        f" {order}, {said['training']['epochs']} epochs of batches of"
        f" {said['training']['batch_size']}, seed {said['training']['seed']}, on"
        f" {said['data']['name']} (checksum {said['data']['checksum']}). vididi"
        f" {versions.get('vididi', 'unknown')}, torch {versions.get('torch', 'unknown')}, commit"
        f" {said.get('commit') or 'unknown'}."
    )
    parts = [
        f"---\n{head}---\n{MARK}\n",
        f"# {title}\n",
        f"A video encoder: a clip becomes {encoder.width} numbers.\n",
        f"```python\n{use}\n```\n",
        f"## What it is fed\n\n{clip}\n",
        f"## How it was trained\n\n{trained}\n",
        f"## What was measured\n\n{_metrics(said['metrics'])}\n",
        f"## Licence\n\n{said['licence']}\n",
    ]
    return "\n".join(parts)


def _metrics(metrics: dict[str, float]) -> str:
    if not metrics:
        return "Nothing, in the run that it is of."
    rows = "\n".join(f"| {name} | {value:.4f} |" for name, value in sorted(metrics.items()))
    return f"| measure | value |\n|---|---|\n{rows}"


def _head(said: dict[str, Any], title: str, licence: str | None) -> dict[str, Any]:
    terms = (
        {"license": licence}
        if licence
        else {
            "license": "other",
            "license_name": "terms-of-the-data-set",
        }
    )
    data = said["data"]["name"]
    tags = ["video", "self-supervised-learning", "temporal-derivatives", "vididi"]
    head = {
        **terms,
        "library_name": "vididi",
        "pipeline_tag": "feature-extraction",
        "tags": [*tags, said["backbone"]["name"], said["objective"]["name"]],
    }
    measured = [
        {"type": name, "name": name, "value": value}
        for name, value in sorted(said["metrics"].items())
    ]
    if measured:
        result = {
            "task": {"type": "feature-extraction", "name": "Video features"},
            "dataset": {"type": data, "name": data},
            "metrics": measured,
        }
        head["metrics"] = sorted({row["type"] for row in measured})
        head["model-index"] = [{"name": title, "results": [result]}]
    return head
