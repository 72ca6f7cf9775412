"""Encoders from elsewhere: weights from a file, as options that every backbone has.

2D kernels in a 3D network are inflated, as in the 'ImageNet inflated' and 'SimCLR inflated'
baselines (CVRL 4.2): each is repeated along time and divided by the kernel's length there (Carreira
and Zisserman, Quo vadis, 3.1), so that on a video of one repeated frame the 3D network computes
what the 2D network does on that frame, but for the frames next to either end, where zeros stand in
for the frames beyond. 3D kernels are taken as they are, or, where one of length 1 is to be longer
and it was asked for, inflated in the same way.
"""

from __future__ import annotations

import hashlib
import inspect
import re
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, get_type_hints

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from vididi.backbones.backbone import Backbone
from vididi.backbones.norm_by_order import SUFFIX
from vididi.backbones.torch_file import read_torch_file
from vididi.backbones.weight_names import FoundNetwork, find_network, known_names
from vididi.checksums import fault_of
from vididi.files import check_regular

WEIGHTS_OPTIONS: dict[str, Any] = {
    "weights": str | None,
    "weights_sha256": str | None,
    "weights_from": str | None,
    "weights_key": str | None,
    "weights_prefix": str | None,
    "weights_inflate": bool | None,
}

Entry = Callable[..., tuple[Backbone, int]]


def with_weights(entry: Entry) -> Entry:
    """A backbone's entry with six more options in its signature.

    weights: path of a ``.safetensors`` file, or of a torch file, of which nothing but tensors and
        plain containers is read. It holds one network with the backbone's names, torchvision's
        where it has the network, or with those of a program that ``weight_names.py`` knows: 3D
        weights, such as another run's ``encoder.safetensors``, or 2D weights to inflate.
    weights_sha256: what the file's SHA-256 must be, in hexadecimal; without it the content is not
        checked.
    weights_from: what the weights were trained on and how, such as ``imagenet``; free text, for
        tables and readers.
    weights_key: where the file has several networks, the entry that this one is in, such as
        ``teacher``; keys joined by dots.
    weights_prefix: of several in one entry, what stands before this one's names, such as
        ``module.encoder_q.``.
    weights_inflate: whether 3D kernels of length 1 in time may become longer ones, inflated as 2D
        kernels are.

    The entry raises ValueError if one of the others comes without weights, or the file cannot be
    read, has another digest or does not fit.
    """

    @wraps(entry)
    def make(**options: Any) -> tuple[Backbone, int]:
        weight_options = {name: options.pop(name, None) for name in WEIGHTS_OPTIONS}
        network, width = entry(**options)
        weights = weight_options.pop("weights")
        for name, value in weight_options.items():
            if value not in (None, False) and weights is None:
                raise ValueError(
                    f"{name}: {value} is not valid; it must come with weights, the file that it is"
                    " about"
                )
        if weights is not None:
            del weight_options["weights_from"]
            load_weights(network, weights, **weight_options)
        return network, width

    signature = inspect.signature(entry)
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)
        for name, kind in WEIGHTS_OPTIONS.items()
    ]
    make.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *added])  # type: ignore[attr-defined]
    make.__annotations__ = get_type_hints(entry) | WEIGHTS_OPTIONS
    return make


def load_weights(
    network: nn.Module,
    weights: str,
    weights_sha256: str | None = None,
    weights_key: str | None = None,
    weights_prefix: str | None = None,
    weights_inflate: bool | None = None,
) -> None:
    """Write the weights in a file into ``network``.

    On the meta device the file is read and checked all the same, and nothing is written.

    Raises:
        ValueError: the file cannot be read, has another digest, or does not fit the network.
    """
    path = Path(weights).expanduser()
    content = _read(path)
    if weights_sha256 is not None and weights_sha256.lower() != (digest := file_sha256(path)):
        raise ValueError(
            f"weights_sha256: {weights_sha256} is not valid; the file given as weights, {path}, has"
            f" {digest}"
        )
    try:
        write_weights(
            network, content, key=weights_key, prefix=weights_prefix, inflate=bool(weights_inflate)
        )
    except ValueError as error:
        raise ValueError(f"weights: {path} is not valid; {error}") from None


def write_weights(
    network: nn.Module,
    content: Mapping[str, Any],
    *,
    key: str | None = None,
    prefix: str | None = None,
    inflate: bool = False,
) -> None:
    """Write the weights of a checkpoint into a 3D network; 2D ones are inflated.

    Parameters may have the network's names or another program's.

    The weights may lie at the top or in an entry, and the names may have anything before them, such
    as ``module.encoder.``. What is no part of the network, such as the classifier, is left out.

    Args:
        key, prefix: which of several networks, by its entry and by what stands before its names.
        inflate: whether 3D kernels of length 1 in time are inflated too.

    Raises:
        ValueError: there is no such network, or more than one, or its weights do not fit; the
            network is then as it was.
    """
    # num_batches_tracked counts the updates of a training that is over; old files lack it.
    target = {
        name: tensor
        for name, tensor in network.state_dict().items()
        if not name.endswith(("num_batches_tracked", SUFFIX))
    }
    kernels = [name for name, tensor in target.items() if tensor.dim() == 5]
    match = find_network(content, known_names(network), (kernels[0], kernels[1]), key, prefix)
    _check_names(match, target)
    source = {name: match.tensors[match.names.of[name]] for name in target}
    flat = _are_flat({match.names.of[name]: source[name] for name in kernels})

    for name, tensor in target.items():
        _check_tensor(match.names.of[name], source[name], tensor, flat, inflate)

    with torch.no_grad():
        for name, tensor in target.items():
            # Files of half precision too are divided in the network's.
            weight = source[name].to(tensor.dtype)
            if tensor.dim() == 5:
                weight = weight.unsqueeze(2) if flat else weight
                weight = weight / (tensor.shape[2] // weight.shape[2])
            tensor.copy_(weight)
        _write_statistics_of_orders(network, match)


def _write_statistics_of_orders(network: nn.Module, match: FoundNetwork) -> None:
    """Into a network that has them: the file's, or for every order those that the file has."""
    for name, rows in network.state_dict().items():
        frames = name.removesuffix(SUFFIX)
        if frames == name or frames.endswith("num_batches_tracked"):
            continue
        weight = match.tensors.get(f"{match.names.of[frames]}{SUFFIX}")
        if weight is None:
            weight = match.tensors[match.names.of[frames]].expand(rows.shape)
        _check_tensor(name, weight, rows, flat=False, inflate=False)
        rows.copy_(weight.to(rows.dtype))


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with check_regular(Path(path)).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: Path) -> Mapping[str, Any]:
    try:
        check_regular(path)
        if path.suffix == ".safetensors" and (fault := fault_of(path)):
            raise ValueError(fault)  # a trained encoder's file has a checksum
        with torch.device("cpu"):  # the network may be in the making on the meta device
            content = load_file(path) if path.suffix == ".safetensors" else read_torch_file(path)
    except Exception as error:  # of many kinds, as the file may hold anything
        # What stands around it is advice of torch to run the file.
        message = re.split(r"WeightsUnpickler error:|from a trusted source\.", str(error))[-1]
        reason = f"{type(error).__name__}: {message.strip().partition(chr(10))[0]}"
        raise ValueError(
            f"weights: {path} is not valid; it must be a readable file of weights ({reason})"
        ) from error
    if not isinstance(content, Mapping):
        raise ValueError(
            f"weights: {path} is not valid; it must hold weights by name, and holds a"
            f" {type(content).__name__}"
        )
    return content


def _check_names(match: FoundNetwork, target: Mapping[str, Tensor]) -> None:
    """Raise ValueError where a tensor is missing, or is left over inside the network's parts.

    Those of a deeper network would be.
    """
    names = match.names.of
    missing = [names[name] for name in target if names[name] not in match.tensors]
    if missing:
        raise ValueError(f"it lacks {missing[0]} ({len(missing)} missing in all)")
    extra = sorted(set(match.tensors) - set(names.values()), key=list(match.tensors).index)
    # A network of frames has no place for the statistics of other orders, and needs none.
    extra = [
        name for name in extra if name.startswith(match.names.parts) and not name.endswith(SUFFIX)
    ]
    if extra:
        raise ValueError(
            f"its {repr(extra[0])[1:-1]} has no place in this network ({len(extra)} left over in"
            " all)"
        )


def _check_tensor(name: str, weight: Tensor, tensor: Tensor, flat: bool, inflate: bool) -> None:
    """Raise ValueError unless a tensor of the file can be written into one of the network.

    It must be dense and of its shape, without time if it is inflated.
    """
    if weight.layout != torch.strided or weight.is_meta or not weight.is_floating_point():
        raise ValueError(f"its {name} is no ordinary tensor of floating-point numbers")
    # Batch normalisation has one dimension.
    shape = tensor.shape[:2] + tensor.shape[3:] if flat else tensor.shape
    one_frame = (*tensor.shape[:2], 1, *tensor.shape[3:]) if tensor.dim() == 5 else tensor.shape
    if weight.shape == shape or (inflate and weight.shape == one_frame):
        if not torch.isfinite(weight).all():
            raise ValueError(f"its {name} holds numbers that are not finite")
        return
    hint = f", to be inflated to {list(tensor.shape)}" if flat else ""
    hint = (
        "; with weights_inflate: true it is repeated along time"
        if weight.shape == one_frame
        else hint
    )
    raise ValueError(f"its {name} is {list(weight.shape)} and must be {list(shape)}{hint}")


def _are_flat(kernels: Mapping[str, Tensor]) -> bool:
    """Whether kernels are 2D, which all of them are or none."""
    flat = {name: kernel.dim() == 4 for name, kernel in kernels.items()}
    (first, expected), *others = flat.items()
    for name, is_flat in others:
        if is_flat != expected:
            dimensions = {True: "2D", False: "3D"}
            raise ValueError(
                f"its {first} is {dimensions[expected]} and its {name} {dimensions[is_flat]}; all"
                " kernels must be one or the other"
            )
    return expected
