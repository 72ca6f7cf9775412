"""2D ResNet weights in 3D ResNets: the 'ImageNet inflated' and 'SimCLR inflated' baselines (CVRL 4.2).

Each 2D kernel is repeated along time and divided by the kernel's length there (Carreira and Zisserman, Quo vadis, 3.1),
so that on a video of one repeated frame the 3D network computes what the 2D network does on that frame, but for the
frames next to either end, where zeros stand in for the frames beyond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

WRAPPERS = ("state_dict", "model")  # under these keys training programs keep the weights in their checkpoints
FIRST, INSIDE = "conv1.weight", "layer1.0.conv1.weight"  # by the two together a ResNet is known, whatever stands before


def load_inflated(network: nn.Module, weights: str | None, weights_sha256: str | None) -> None:
    """Inflate the 2D weights in a file into ``network``; without a file nothing happens.

    On the meta device the file is read and checked all the same, and no weights are written.

    Args:
        weights: path of a ``.safetensors`` file, or of a torch file, of which nothing but tensors and plain containers is
            read.
        weights_sha256: the file's SHA-256 in hexadecimal; without it the file's content is not checked.

    Raises:
        ValueError: the file cannot be read, has another digest, or does not fit the network.
    """
    if weights is None:
        if weights_sha256 is not None:
            raise ValueError(f"weights_sha256: {weights_sha256} is not valid; it must come with weights, the file it is the digest of")
        return
    path = Path(weights).expanduser()
    content = _read(path)
    if weights_sha256 is not None and weights_sha256.lower() != (found := file_sha256(path)):
        raise ValueError(f"weights_sha256: {weights_sha256} is not valid; the file given as weights, {path}, has {found}")
    try:
        inflate(network, content)
    except ValueError as error:
        raise ValueError(f"weights: {path} is not valid; {error}") from None


def inflate(network: nn.Module, state_dict: Mapping[str, Any]) -> None:
    """Write 2D weights into a 3D network whose parameters have the same names.

    The weights may lie in a checkpoint under ``state_dict`` or ``model``, and the names may have anything before them, such
    as ``module.encoder.``. What is no part of the network, such as the classifier, is left out.

    Raises:
        ValueError: there is no ResNet, or more than one, or its weights do not fit the network's.
    """
    source = _network_in(state_dict)
    # num_batches_tracked counts the updates of a training that is over; old files lack it.
    target = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    _check_names(network, source)
    for name, tensor in target.items():
        expected = tensor.shape[:2] + tensor.shape[3:]  # without time; batch normalisation has one dimension
        if source[name].shape != expected:
            raise ValueError(
                f"its {name} is {list(source[name].shape)} and must be {list(expected)}, to be inflated to {list(tensor.shape)}"
            )
    with torch.no_grad():
        for name, tensor in target.items():
            kernel = source[name].to(tensor.dtype)  # files of half precision too are divided in the network's
            tensor.copy_(kernel.unsqueeze(2) / tensor.shape[2] if tensor.dim() == 5 else kernel)


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with torch.device("cpu"):  # the network may be in the making on the meta device
            content = load_file(path) if path.suffix == ".safetensors" else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of many kinds, as the file may hold anything
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        raise ValueError(f"weights: {path} is not valid; it must be a readable file of 2D ResNet weights ({reason})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"weights: {path} is not valid; it must hold weights by name, and holds a {type(content).__name__}")
    return content


def _network_in(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of the one ResNet in a checkpoint, by their names in torchvision's ResNets."""
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _network_in(content[key])
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    prefixes = [name.removesuffix(INSIDE) for name in tensors if name.endswith(INSIDE)]
    prefixes = [prefix for prefix in prefixes if prefix + FIRST in tensors]
    if len(prefixes) != 1:
        found = f"{len(prefixes)}, under {', '.join(map(repr, prefixes))}" if prefixes else "none"
        raise ValueError(f"it must hold exactly one ResNet, known by {FIRST} and {INSIDE} under the same prefix, and holds {found}")
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items() if name.startswith(prefixes[0])}


def _check_names(network: nn.Module, source: Mapping[str, Tensor]) -> None:
    """Nothing of the network is missing, and nothing is left over inside its parts, as it would be of a deeper network."""
    names = network.state_dict().keys()
    missing = [name for name in names if name not in source and not name.endswith("num_batches_tracked")]
    if missing:
        raise ValueError(f"it lacks {missing[0]} ({len(missing)} missing in all)")
    parts = {name for name, _ in network.named_children()}
    extra = [name for name in source if name.partition(".")[0] in parts and name not in names]
    if extra:
        raise ValueError(f"its {extra[0]} has no place in this network ({len(extra)} left over in all)")
