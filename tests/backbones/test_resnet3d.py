"""The 3D ResNets against the papers' tables: sizes, kernels, output sizes, names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vididi.backbones import BACKBONES

NAMES = ["r3d_50", "r3d_101", "c2d_50", "i3d_50"]


def build(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return BACKBONES[name](**options)[0]


def millions(network: nn.Module) -> float:
    """Parameters and running statistics of batch normalisation."""
    statistics = [
        tensor
        for name, tensor in network.named_buffers()
        if name.endswith(("running_mean", "running_var"))
    ]
    return round(sum(tensor.numel() for tensor in (*network.parameters(), *statistics)) / 1e6, 1)


def sizes(network: nn.Module, frames: int, pixels: int) -> dict[str, list[int]]:
    """Frames and pixels after each part of the network."""
    found: dict[str, list[int]] = {}

    def remember(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Tensor) -> None:
            found[name] = list(output.shape[2:4])

        return hook

    for name, module in network.named_children():
        module.register_forward_hook(remember(name))
    network(torch.empty(1, 3, frames, pixels, pixels, device="meta"))
    return found


def convolutions(network: nn.Module, kernel: str) -> list[list[int]]:
    """For each stage, the length in time of one convolution of each block."""
    return [
        [block.get_submodule(kernel).kernel_size[0] for block in network.get_submodule(f"layer{i}")]
        for i in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(
    ("name", "width", "size"),
    [("r3d_50", 1, 31.7), ("r3d_101", 1, 59.7), ("r3d_50", 2, 126.6), ("r3d_50", 4, 505.8)],
)
def test_sizes_of_cvrl_table_2(name: str, width: int, size: float) -> None:
    assert millions(build(name, width=width)) == size


def test_output_sizes_of_cvrl_table_1() -> None:
    expected = {
        "conv1": [8, 112],
        "maxpool": [8, 56],
        "layer1": [8, 56],
        "layer2": [8, 28],
        "layer3": [8, 14],
        "layer4": [8, 7],
    }
    found = sizes(build("r3d_50"), 16, 224)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize("name", ["c2d_50", "i3d_50"])
def test_corp_s_down_sampling_is_cvrl_s(name: str) -> None:
    assert sizes(build(name), 16, 224) == sizes(build("r3d_50"), 16, 224)


@pytest.mark.parametrize("name", ["c2d_50", "i3d_50"])
def test_output_sizes_of_non_local_networks_table_1(name: str) -> None:
    expected = {
        "conv1": [16, 112],
        "maxpool": [8, 56],
        "layer1": [8, 56],
        "maxpool2": [4, 56],
        "layer2": [4, 28],
        "layer3": [4, 14],
        "layer4": [4, 7],
    }
    found = sizes(build(name, temporal_pool=True), 32, 224)
    assert {name: found[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("name", "stem", "stages"),
    [
        ("r3d_50", 5, [[1] * 3, [1] * 4, [3] * 6, [3] * 3]),
        ("r3d_101", 5, [[1] * 3, [1] * 4, [3] * 23, [3] * 3]),
        ("c2d_50", 1, [[1] * 3, [1] * 4, [1] * 6, [1] * 3]),
        ("i3d_50", 5, [[3, 3, 3], [3, 1, 3, 1], [3, 1, 3, 1, 3, 1], [1, 3, 1]]),
    ],
)
def test_which_kernels_reach_over_time(name: str, stem: int, stages: list[list[int]]) -> None:
    network = build(name)
    assert network.get_submodule("conv1").kernel_size == (stem, 7, 7)
    assert convolutions(network, "conv1") == stages
    assert {
        length
        for kernel in ("conv2", "conv3")
        for stage in convolutions(network, kernel)
        for length in stage
    } == {1}


@pytest.mark.parametrize("name", NAMES)
def test_parameters_have_the_names_of_torchvision_s_2d_networks(name: str) -> None:
    from torchvision.models import resnet50, resnet101

    with torch.device("meta"):
        flat = (resnet101 if name == "r3d_101" else resnet50)()
    assert list(build(name).state_dict()) == [
        key for key in flat.state_dict() if not key.startswith("fc.")
    ]


@pytest.mark.parametrize("width", [2, 4])
def test_width_multiplies_all_filters(width: int) -> None:
    narrow, wide = build("r3d_50").state_dict(), build("r3d_50", width=width).state_dict()
    for name, tensor in narrow.items():
        if tensor.dim():
            factors = [new / old for new, old in zip(wide[name].shape, tensor.shape, strict=True)]
            inputs = [] if tensor.dim() == 1 else [1 if name == "conv1.weight" else width]
            assert factors == [width, *inputs, *[1] * (tensor.dim() - 1 - len(inputs))], name


@pytest.mark.parametrize("width", [1, 2])
def test_features_grow_with_the_width(width: int) -> None:
    with torch.device("meta"):
        network, features = BACKBONES["r3d_50"](width=width)
        clips = torch.empty(1, 3, 15, 33, 33)
        assert network.feature_map(clips).shape == (1, features, 8, 2, 2)
        assert network(clips).shape == (1, features)
    assert features == 2048 * width


def test_initial_weights() -> None:
    torch.manual_seed(0)
    network, _ = BACKBONES["r3d_50"]()
    kernel = network.get_parameter("layer3.1.conv1.weight")
    assert kernel.std().item() == pytest.approx(
        (2 / (256 * 3)) ** 0.5, rel=0.01
    )  # fan out: filters times kernel
    assert network.get_parameter("layer3.1.bn3.weight").eq(1).all()
