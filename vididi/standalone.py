"""An encoder as one Python file that needs torch, and torchvision where the network is of it.

The network's code is that of its own module in vididi/backbones, which may import nothing else of
this program than the base class.
"""

from __future__ import annotations

import ast
import inspect
from pprint import pformat

from vididi.backbones.weights import WEIGHTS_OPTIONS
from vididi.components import backbone_entry
from vididi.draws import Use
from vididi.encoders import Encoder
from vididi.errors import ConfigError

NETWORK_FILE, STATE_FILE = "encoder.py", "weights.pt"
BASE = "vididi.backbones.backbone"

HEAD = '''"""A video encoder, {backbone}, trained by vididi {version} on {data}.

    import encoder
    network = encoder.load()
    clips = encoder.transform(frames)      # uint8 [T, H, W, 3] (RGB) -> [K, 3, N, S, S]
    with torch.inference_mode():
        feature = network(clips).mean(0)   # [{width}]

``frames`` are those of a prepared video: all of it, the short side resized to {short_side} pixels
(and each frame stored as JPEG of quality {quality}, which changes features a little).
"""
'''

PARTS = '''

class Backbone(nn.Module):
    """A network with a feature map, whose mean over time and space is the feature of a clip."""

    def forward(self, clips: Tensor) -> Tensor:
        """``[B, 3, T, H, W]``, normalised -> ``[B, D]``."""
        return self.feature_map(clips).mean(dim=(2, 3, 4))

'''

TAIL = '''

def load(weights: str | Path = Path(__file__).with_name("{state}")) -> nn.Module:
    """The trained network in evaluation mode."""
    network, _ = {name}(**OPTIONS)
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def transform(frames: Tensor, number: int = 0) -> Tensor:
    """The clips of a video: evenly spaced, a random square crop of each, normalised.

    Args:
        frames: uint8 ``[T, H, W, 3]`` (RGB). number: what the crops are drawn by; in vididi the
            video's row in its set.
    """
    count, (height, width) = len(frames), frames.shape[1:3]
    last = max(0, count - ((SPEC["length"] - 1) * SPEC["stride"] + 1))
    side = max(1, round(min(height, width) * SPEC["crop"]))
    clips = []
    for k in range(SPEC["clips"]):
        share = k * (1 / (SPEC["clips"] - 1)) if SPEC["clips"] > 1 else 0.5
        start = round(last * min(share, 1))
        picks = [(start + SPEC["stride"] * t) % count for t in range(SPEC["frames"])]
        key = _key({use}, SPEC["seed"], number, k)
        top, left = (
            int((size - side + 1) * _uniform(key, n))
            for n, size in ((1, height), (2, width))
        )
        crop = frames[picks, top : top + side, left : left + side].permute(3, 0, 1, 2)
        size = (SPEC["size"], SPEC["size"])
        clips.append(interpolate(crop.float() / 255, size, mode="bilinear", antialias=True))
    x = torch.stack(clips).clamp(0, 1)
    mean, deviation = (torch.tensor(SPEC[n]).view(1, 3, 1, 1, 1) for n in ("mean", "deviation"))
    return (x - mean) / deviation


# Random numbers that are functions of integers alone: SplitMix64's finaliser, once for each.
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


def _finalise(z: int) -> int:
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & _MASK
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & _MASK
    return z ^ (z >> 31)


def _key(*counters: int) -> int:
    state = 0
    for counter in counters:
        state = _finalise(((state ^ counter) + _GOLDEN) & _MASK)
    return state


def _uniform(key: int, n: int) -> float:
    return (_finalise((key + n * _GOLDEN) & _MASK) >> 11) * 2.0**-53
'''


def network_source(encoder: Encoder) -> str:
    """The text of the file.

    Raises:
        ConfigError: the network's module imports more of this program than the base class.
    """
    said, s = encoder.description, encoder.spec
    name = said["backbone"]["name"]
    entry = inspect.unwrap(backbone_entry(name))
    module = inspect.getmodule(entry)
    assert module is not None
    imports, body = _parts(inspect.getsource(module), f"backbone {name!r}")
    left_out = {"name", "norm", *WEIGHTS_OPTIONS}
    options = {key: value for key, value in said["backbone"].items() if key not in left_out}
    spec = {
        field: getattr(s, field)
        for field in ("frames", "length", "stride", "clips", "size", "crop", "seed")
    } | {"mean": s.mean, "deviation": s.deviation}
    head = HEAD.format(
        backbone=name,
        version=said["versions"].get("vididi", ""),
        data=said["data"]["name"],
        width=encoder.width,
        short_side=s.short_side,
        quality=s.quality,
    )
    wanted = {
        *imports,
        "from pathlib import Path",
        "import torch",
        "from torch import Tensor, nn",
        "from torch.nn.functional import interpolate",
    }
    lines = ["from __future__ import annotations", "", *sorted(wanted, key=_import_order), ""]
    constants = f"SPEC = {pformat(spec, sort_dicts=False)}\nOPTIONS = {pformat(options)}\n"
    tail = TAIL.replace("{state}", STATE_FILE).replace("{name}", entry.__name__)
    tail = tail.replace("{use}", str(int(Use.EVALUATION_CROP)))
    return f"{head}\n" + "\n".join(lines) + f"\n{constants}{PARTS}\n{body.strip()}\n{tail}"


def _import_order(line: str) -> tuple[bool, str]:
    return "torch" in line, line


def _parts(source: str, what: str) -> tuple[list[str], str]:
    """The imports of a module and its code, without what is of this program."""
    lines = source.splitlines()
    imports: list[str] = []
    for number, node in enumerate(ast.parse(source).body):
        is_docstring = number == 0 and isinstance(node, ast.Expr)
        if not (is_docstring or isinstance(node, ast.Import | ast.ImportFrom)):
            continue
        for line in range(node.lineno - 1, node.end_lineno or node.lineno):
            lines[line] = ""
        module = node.module if isinstance(node, ast.ImportFrom) else ""
        if module and module.startswith("vididi") and module != BASE:
            raise ConfigError(
                f"--format: standalone is not for {what}, whose code needs {module}; it is for"
                f" networks that need {BASE} alone"
            )
        if not is_docstring and module not in ("__future__", BASE):
            imports.append(ast.unparse(node))
    return imports, "\n".join(lines)
