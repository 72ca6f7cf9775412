"""Encoders from elsewhere: weights from a file, as three options that every backbone has.

2D kernels in a 3D network are inflated, as in the 'ImageNet inflated' and 'SimCLR inflated' baselines (CVRL 4.2): each is
repeated along time and divided by the kernel's length there (Carreira and Zisserman, Quo vadis, 3.1), so that on a video of
one repeated frame the 3D network computes what the 2D network does on that frame, but for the frames next to either end,
where zeros stand in for the frames beyond. 3D kernels are taken as they are.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vididi.backbones.backbone import Backbone

WEIGHTS_OPTIONS = ("weights", "weights_sha256", "weights_from")
WRAPPERS = ("state_dict", "model")  # under these keys training programs keep the weights in their checkpoints

Entry = Callable[..., tuple[Backbone, int]]


def with_weights(entry: Entry) -> Entry:
    """A backbone's entry with three more options in its signature.

    weights: path of a ``.safetensors`` file, or of a torch file, of which nothing but tensors and plain containers is read.
        It holds one network with the backbone's names, torchvision's where it has the network: 3D weights, such as another
        run's ``encoder.safetensors``, or 2D weights to inflate.
    weights_sha256: what the file's SHA-256 must be, in hexadecimal; without it the content is not checked.
    weights_from: what the weights were trained on and how, such as ``imagenet``; free text, for tables and readers.

    The entry raises ValueError if one of the last two comes without weights, or the file cannot be read, has another digest or
    does not fit.
    """

    @wraps(entry)
    def make(
        *, weights: str | None = None, weights_sha256: str | None = None, weights_from: str | None = None, **options: Any
    ) -> tuple[Backbone, int]:
        network, width = entry(**options)
        for name, value in (("weights_sha256", weights_sha256), ("weights_from", weights_from)):
            if value is not None and weights is None:
                raise ValueError(f"{name}: {value} is not valid; it must come with weights, the file that it is about")
        if weights is not None:
            load_weights(network, weights, weights_sha256)
        return network, width

    own = inspect.signature(entry)
    added = [inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=str | None) for name in WEIGHTS_OPTIONS]
    make.__signature__ = own.replace(parameters=[*own.parameters.values(), *added])  # type: ignore[attr-defined]
    make.__annotations__ = get_type_hints(entry) | dict.fromkeys(WEIGHTS_OPTIONS, str | None)
    return make


def load_weights(network: nn.Module, weights: str, weights_sha256: str | None = None) -> None:
    """Write the weights in a file into ``network``. On the meta device the file is read and checked all the same, and nothing written.

    Raises:
        ValueError: the file cannot be read, has another digest, or does not fit the network.
    """
    path = Path(weights).expanduser()
    content = _read(path)
    if weights_sha256 is not None and weights_sha256.lower() != (found := file_sha256(path)):
        raise ValueError(f"weights_sha256: {weights_sha256} is not valid; the file given as weights, {path}, has {found}")
    try:
        write_weights(network, content)
    except ValueError as error:
        raise ValueError(f"weights: {path} is not valid; {error}") from None


def write_weights(network: nn.Module, content: Mapping[str, Any]) -> None:
    """Write the weights of a checkpoint into a 3D network whose parameters have the same names; 2D weights are inflated.

    The weights may lie under ``state_dict`` or ``model``, and the names may have anything before them, such as
    ``module.encoder.``. What is no part of the network, such as the classifier, is left out.

    Raises:
        ValueError: there is no such network, or more than one, or its weights do not fit; the network is then as it was.
    """
    # num_batches_tracked counts the updates of a training that is over; old files lack it.
    target = {name: tensor for name, tensor in network.state_dict().items() if not name.endswith("num_batches_tracked")}
    kernels = [name for name, tensor in target.items() if tensor.dim() == 5]
    source = _network_in(content, *kernels[:2])
    _check_names(network, target, source)
    flat = _are_flat({name: source[name] for name in kernels})
    for name, tensor in target.items():
        # Without time where it is to be inflated; batch normalisation has one dimension.
        expected = tensor.shape[:2] + tensor.shape[3:] if flat else tensor.shape
        if source[name].shape != expected:
            inflated = f", to be inflated to {list(tensor.shape)}" if flat else ""
            raise ValueError(f"its {name} is {list(source[name].shape)} and must be {list(expected)}{inflated}")
    with torch.no_grad():
        for name, tensor in target.items():
            weight = source[name].to(tensor.dtype)  # files of half precision too are divided in the network's
            tensor.copy_(weight.unsqueeze(2) / tensor.shape[2] if flat and tensor.dim() == 5 else weight)


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
        raise ValueError(f"weights: {path} is not valid; it must be a readable file of weights ({reason})") from error
    if not isinstance(content, Mapping):
        raise ValueError(f"weights: {path} is not valid; it must hold weights by name, and holds a {type(content).__name__}")
    return content


def _network_in(content: Mapping[str, Any], first: str, second: str) -> dict[str, Tensor]:
    """The tensors of the one network in a checkpoint, by their names in it. ``first``, ``second``: names of its first two kernels.

    By the two together a network is known, whatever stands before.
    """
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping):
            return _network_in(content[key], first, second)
    tensors = {name: value for name, value in content.items() if isinstance(value, Tensor)}
    prefixes = [name.removesuffix(second) for name in tensors if name.endswith(second)]
    prefixes = [prefix for prefix in prefixes if prefix + first in tensors]
    if len(prefixes) != 1:
        found = f"{len(prefixes)}, under {', '.join(map(repr, prefixes))}" if prefixes else "none"
        raise ValueError(f"it must hold exactly one such network, known by {first} and {second} under the same prefix, and holds {found}")
    return {name.removeprefix(prefixes[0]): tensor for name, tensor in tensors.items() if name.startswith(prefixes[0])}


def _check_names(network: nn.Module, target: Mapping[str, Tensor], source: Mapping[str, Tensor]) -> None:
    """Nothing of the network is missing, and nothing is left over inside its parts, as it would be of a deeper network."""
    missing = [name for name in target if name not in source]
    if missing:
        raise ValueError(f"it lacks {missing[0]} ({len(missing)} missing in all)")
    names, parts = network.state_dict().keys(), {name for name, _ in network.named_children()}
    extra = [name for name in source if name.partition(".")[0] in parts and name not in names]
    if extra:
        raise ValueError(f"its {extra[0]} has no place in this network ({len(extra)} left over in all)")


def _are_flat(kernels: Mapping[str, Tensor]) -> bool:
    """Whether kernels are 2D, which all of them are or none."""
    flat = {name: kernel.dim() == 4 for name, kernel in kernels.items()}
    (first, expected), *others = flat.items()
    for name, found in others:
        if found != expected:
            dimensions = {True: "2D", False: "3D"}
            raise ValueError(
                f"its {first} is {dimensions[expected]} and its {name} {dimensions[found]}; all kernels must be one or the other"
            )
    return expected
