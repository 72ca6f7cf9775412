"""Finding a network in checkpoints of other programs: its entry, and its parameters' names."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from vididi.backbones.resnet3d import ResNet3D

# Where a program keeps several, such as an average of the weights besides, these are the weights.
WRAPPERS = ("state_dict", "model")
MAX_DEPTH = 32  # level of a file at which entries are still looked into
MAX_NAMED = 8  # so many networks of a file an error names


@dataclass(frozen=True)
class Naming:
    """How a program calls the parts of a ResNet of bottleneck blocks.

    stem: its first convolution and normalisation.
    stages: the blocks of each of the four stages, with {} for a block's number.
    block: what conv1, bn1, conv2, ... downsample.1 are called in a block.
    """

    stem: tuple[str, str]
    stages: tuple[str, str, str, str]
    block: Mapping[str, str]

    def name(self, ours: str) -> str:
        """What ``layer1.0.conv1.weight`` is called."""
        module, _, leaf = ours.rpartition(".")
        part, *inside = module.split(".", 2)
        if not inside:
            return f"{self.stem[part == 'bn1']}.{leaf}"
        number, inner = inside
        return f"{self.stages[int(part[-1]) - 1].format(number)}.{self.block[inner]}.{leaf}"


def _block(
    convolution: str, normalisation: str, downsample: tuple[str, str], letters: str = "123"
) -> dict[str, str]:
    names = {f"conv{n}": convolution.format(letter) for n, letter in enumerate(letters, 1)}
    names |= {f"bn{n}": normalisation.format(letter) for n, letter in enumerate(letters, 1)}
    return names | {"downsample.0": downsample[0], "downsample.1": downsample[1]}


def _stages(pattern: str, *numbers: int) -> Any:
    return tuple(pattern.format(number) for number in numbers)


_TORCHVISION = _block("conv{}", "bn{}", ("downsample.0", "downsample.1"))
_PYTORCHVIDEO = _block(
    "branch2.conv_{}", "branch2.norm_{}", ("branch1_conv", "branch1_norm"), "abc"
)
_PYSLOWFAST = _block("branch2.{}", "branch2.{}_bn", ("branch1", "branch1_bn"), "abc")
_MMACTION2 = _block("conv{}.conv", "conv{}.bn", ("downsample.conv", "downsample.bn"))

# From the constructors of mmaction/models/backbones/resnet3d.py and resnet.py
# (open-mmlab/mmaction2), pytorchvideo/models/resnet.py (facebookresearch/pytorchvideo) and
# slowfast/models/video_model_builder.py (facebookresearch/SlowFast). In pytorchvideo's C2D and I3D
# a max pool after the first stage takes a number. Lightly makes a Sequential of the children of
# torchvision's network.
RESNETS = {
    "MMAction2": Naming(
        ("conv1.conv", "conv1.bn"), _stages("layer{}.{{}}", 1, 2, 3, 4), _MMACTION2
    ),
    "pytorchvideo": Naming(
        ("blocks.0.conv", "blocks.0.norm"),
        _stages("blocks.{}.res_blocks.{{}}", 1, 2, 3, 4),
        _PYTORCHVIDEO,
    ),
    "pytorchvideo, with a pool": Naming(
        ("blocks.0.conv", "blocks.0.norm"),
        _stages("blocks.{}.res_blocks.{{}}", 1, 3, 4, 5),
        _PYTORCHVIDEO,
    ),
    "PySlowFast": Naming(
        ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn"),
        _stages("s{}.pathway0_res{{}}", 2, 3, 4, 5),
        _PYSLOWFAST,
    ),
    "children in order": Naming(("0", "1"), _stages("{}.{{}}", 4, 5, 6, 7), _TORCHVISION),
}


@dataclass(frozen=True)
class Names:
    """What the tensors of a network are called in files of one program.

    ``of`` goes from our names to theirs; ``parts`` are what all names of the network begin with.
    """

    of: Mapping[str, str]
    parts: tuple[str, ...]


def known_names(network: nn.Module) -> list[Names]:
    """The namings of a network: its own, and for a ResNet of bottlenecks other programs'."""
    ours = list(network.state_dict())
    backbone_names = Names(
        {name: name for name in ours}, tuple(f"{name}." for name, _ in network.named_children())
    )
    return [
        backbone_names,
        *(_renamed(ours, naming) for naming in RESNETS.values() if isinstance(network, ResNet3D)),
    ]


def _renamed(ours: list[str], naming: Naming) -> Names:
    names = {name: naming.name(name) for name in ours}
    # Up to the first number: s2. and blocks.1. are parts whole, with whatever blocks of another
    # kind lie in them.
    parts = {match.group() for name in names.values() if (match := re.match(r".*?\d+\.", name))}
    return Names(names, tuple(sorted(parts)))


@dataclass(frozen=True)
class FoundNetwork:
    """A network in a checkpoint.

    ``key``: of the entry that it lies in; ``prefix``: what stands before its names there;
    ``tensors``: by their names without it.
    """

    key: str
    prefix: str
    names: Names
    tensors: Mapping[str, Tensor]

    @property
    def tensor_count(self) -> int:
        """How many of the network's tensors there are."""
        return len(self.tensors.keys() & set(self.names.of.values()))

    @property
    def identity(self) -> tuple[int, ...]:
        """Of its tensors, by which it is the same under another key."""
        return tuple(id(self.tensors.get(name)) for name in self.names.of.values())


def find_network(
    content: Mapping[str, Any],
    namings: list[Names],
    kernels: tuple[str, str],
    key: str | None = None,
    prefix: str | None = None,
) -> FoundNetwork:
    """The one network in a checkpoint.

    It is recognised by its first two kernels together, whatever stands before their names.

    Args:
        content: tensors by name, or entries with them, of any depth.
        namings: what the network's tensors may be called.
        kernels: our names of its first two kernels.
        key: the entry that it lies in or under, the keys on the way joined by dots.
        prefix: what stands before its names, whole or up to a dot.

    Raises:
        ValueError: there is none, or more than one; the message says which of the two options tells
            them apart.
    """
    candidates = [
        network
        for entry_key, entry in _entries(content)
        for network in _networks(entry_key, entry, namings, kernels)
    ]
    chosen = _narrow(candidates, "key", key) if key is not None else _usual(content, candidates)
    chosen = _narrow(chosen, "prefix", prefix) if prefix is not None else chosen
    if len({network.identity for network in chosen}) == 1:  # one, or one under several keys
        return chosen[0]

    description = f"known by {kernels[0]} and {kernels[1]} under the same prefix"
    restrictions = [
        f"{name} {value!r}"
        for name, value in (("weights_key", key), ("weights_prefix", prefix))
        if value is not None
    ]
    holds = " under ".join(
        [str(len(chosen) or "none"), *filter(None, [" and ".join(restrictions)])]
    )
    choice = f"; {_choice(chosen or candidates)}" if chosen or (restrictions and candidates) else ""
    raise ValueError(
        f"it must hold exactly one such network, {description}, and holds {holds}{choice}"
    )


def _entries(content: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """A checkpoint and every mapping in it, with the keys on the way joined by dots.

    A mapping that occurs twice is entered once.
    """
    queue: deque[tuple[tuple[str, ...], Mapping[str, Any]]] = deque([((), content)])
    entered = set()
    while queue:
        path, entry = queue.popleft()
        yield ".".join(path), entry
        if id(entry) not in entered and len(path) < MAX_DEPTH:
            entered.add(id(entry))
            inside = (
                (key, value)
                for key, value in _items(entry)
                if isinstance(key, str) and isinstance(value, Mapping)
            )
            queue += [((*path, key), value) for key, value in inside]


def _items(entry: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The items of a mapping, not by ``entry.items``.

    A file may give an OrderedDict attributes, which then hide its methods.
    """
    return ((key, entry[key]) for key in entry)


def _networks(
    key: str, entry: Mapping[str, Any], namings: list[Names], kernels: tuple[str, str]
) -> Iterable[FoundNetwork]:
    """The networks in one entry.

    Where two namings begin alike, as pytorchvideo's do, the one that fits best counts.
    """
    tensors = {
        name: value
        for name, value in _items(entry)
        if isinstance(name, str) and isinstance(value, Tensor)
    }
    by_prefix: dict[str, FoundNetwork] = {}
    for names in namings:
        first, second = (names.of[kernel] for kernel in kernels)
        for prefix in [name.removesuffix(second) for name in tensors if name.endswith(second)]:
            inside = {
                name.removeprefix(prefix): tensor
                for name, tensor in tensors.items()
                if name.startswith(prefix)
            }
            network = FoundNetwork(key, prefix, names, inside)
            if first in inside and (
                prefix not in by_prefix or network.tensor_count > by_prefix[prefix].tensor_count
            ):
                by_prefix[prefix] = network

    return by_prefix.values()


def _usual(content: Mapping[str, Any], networks: list[FoundNetwork]) -> list[FoundNetwork]:
    """Those in the entry where training programs keep the weights, if there are any, else all."""
    path: list[str] = []
    while len(path) < 2 * len(WRAPPERS) and (
        key := next(
            (key for key in WRAPPERS if key in content and isinstance(content[key], Mapping)), None
        )
    ):
        content = content[key]
        path.append(key)
    return [network for network in networks if network.key == ".".join(path)] or networks


def _narrow(networks: list[FoundNetwork], field: str, value: str) -> list[FoundNetwork]:
    """Those whose key or prefix is ``value``, else those where it begins with it, up to a dot."""
    value = value.removesuffix(".")
    exact = [network for network in networks if getattr(network, field).removesuffix(".") == value]
    return exact or [
        network for network in networks if getattr(network, field).startswith(f"{value}.")
    ]


def _choice(networks: list[FoundNetwork]) -> str:
    """The options, with their values, that tell networks from each other, or of one network all."""
    fields = [
        field
        for field in ("key", "prefix")
        if len(networks) == 1 or len({getattr(network, field) for network in networks}) > 1
    ]
    if not fields:
        return "no option tells them apart"
    choices = [
        " with ".join(f"weights_{field}: {getattr(network, field)!r}" for field in fields)
        for network in networks
    ]
    listed = choices[:MAX_NAMED] + [f"one of {len(choices) - MAX_NAMED} more"] * (
        len(choices) > MAX_NAMED
    )
    return f"give {' or '.join(listed)}"
