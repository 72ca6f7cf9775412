"""Weights from files: 2D ones give the same activations on repeated frames, 3D ones on every clip;
what does not fit is refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn
from torchvision.models import resnet50

from vididi.backbones import BACKBONES
from vididi.backbones.resnet3d import ResNet3D
from vididi.backbones.weights import file_sha256, write_weights

Weights = dict[str, Tensor]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def flat() -> nn.Module:
    """A 2D ResNet-50 with random weights, batch normalisation's too, that keep activations near
    1.
    """
    generator = torch.Generator().manual_seed(0)
    network = resnet50().eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.4, 0.6, generator=generator)
            module.bias.data.uniform_(-0.1, 0.1, generator=generator)
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return network


@pytest.fixture(scope="module")
def weights(flat: nn.Module) -> Weights:
    return flat.state_dict()


@pytest.fixture(scope="module")
def file(weights: Weights, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "resnet50.safetensors"
    save_file(weights, path)
    return path


def map_2d(flat: nn.Module, frames: Tensor) -> Tensor:
    """The 2D network's last feature map: ``[N, 3, H, W]`` -> ``[N, 2048, H / 32, W / 32]``."""
    return nn.Sequential(*list(flat.children())[:-2])(frames)


def on_meta(name: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return BACKBONES[name](**options)[0]


def tiny(stem: int = 5) -> ResNet3D:
    """The smallest network with a shortcut that is not one."""
    torch.manual_seed(1)
    return ResNet3D(stem, [[3], [1], [3], [1]])


@pytest.fixture(scope="module")
def tiny_weights() -> Weights:
    """Weights of a 2D network that fits ``tiny``, all different from those that it begins with."""
    shapes = {
        name: tensor.shape[:2] + tensor.shape[3:] for name, tensor in tiny().state_dict().items()
    }
    generator = torch.Generator().manual_seed(4)
    return {name: torch.rand(shape, generator=generator) for name, shape in shapes.items()}


# --- The same activations -------------------------------------------------------------------------


@torch.no_grad()
def test_c2d_is_the_2d_network_on_every_second_frame(flat: nn.Module, file: Path) -> None:
    network, _ = BACKBONES["c2d_50"](weights=str(file))
    video = torch.randn(2, 3, 7, 40, 40, generator=torch.Generator().manual_seed(2))
    seen = video[:, :, ::2]
    expected = map_2d(flat, seen.transpose(1, 2).flatten(0, 1)).unflatten(0, (2, 4)).transpose(1, 2)
    assert expected.std() > 0.01
    torch.testing.assert_close(network.eval().feature_map(video), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network(video), expected.mean(dim=(2, 3, 4)), rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("name", ["r3d_50", "i3d_50"])
def test_the_inside_of_a_still_video_is_the_2d_network_s(
    name: str, flat: nn.Module, file: Path
) -> None:
    """The zeros beyond the ends reach 1 step in conv1 and 1 more in each 3x1x1: 10 in all, in both
    networks.
    """
    network, _ = BACKBONES[name](weights=str(file))
    frame = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    found = network.eval().feature_map(frame.unsqueeze(2).expand(-1, -1, 44, -1, -1))
    expected = map_2d(flat, frame).unsqueeze(2)
    assert expected.std() > 0.01
    torch.testing.assert_close(
        found[:, :, 10:-10], expected.expand(-1, -1, 2, -1, -1), rtol=1e-4, atol=1e-5
    )
    assert not torch.allclose(found[:, :, :1], expected, rtol=1e-2, atol=1e-3)


def test_each_kernel_s_sum_over_time_is_the_2d_kernel(weights: Weights, file: Path) -> None:
    network, _ = BACKBONES["r3d_50"](weights=str(file))
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 5:
            torch.testing.assert_close(tensor.sum(2), weights[name])
            assert torch.equal(tensor, tensor[:, :, :1].expand_as(tensor))
        elif tensor.dim() == 1:
            assert torch.equal(tensor, weights[name]), name


def test_initial_weights_of_what_comes_after_do_not_depend_on_the_file(file: Path) -> None:
    after = []
    for options in ({}, {"weights": str(file)}):
        torch.manual_seed(0)
        BACKBONES["c2d_50"](**options)
        after.append(torch.rand(3))
    assert torch.equal(*after)


# --- Checkpoints as others save them --------------------------------------------------------------


@pytest.mark.parametrize(
    "wrap",
    [
        lambda w: w,
        lambda w: {"state_dict": w, "epoch": 3},
        lambda w: {"model": {"state_dict": w}},
        lambda w: {"state_dict": {f"module.encoder.{name}": tensor for name, tensor in w.items()}},
        lambda w: {
            **{f"backbone.{name}": tensor for name, tensor in w.items()},
            "head.conv1.weight": torch.ones(1),
        },
        lambda w: {**w, "fc.weight": torch.ones(1000, 2048), "fc.bias": torch.ones(1000)},
        lambda w: {
            name: tensor for name, tensor in w.items() if not name.endswith("num_batches_tracked")
        },
        lambda w: {name: tensor.double() for name, tensor in w.items()},
    ],
)
def test_checkpoints_as_others_save_them(
    wrap: Callable[[Weights], dict[str, Any]], tiny_weights: Weights
) -> None:
    network = tiny()
    write_weights(network, wrap(tiny_weights))
    for name, tensor in network.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            torch.testing.assert_close(
                tensor.sum(2) if tensor.dim() == 5 else tensor, tiny_weights[name], msg=name
            )


def test_half_precision_is_divided_in_the_network_s(tiny_weights: Weights) -> None:
    network = tiny(stem=3)
    write_weights(
        network, {**tiny_weights, "conv1.weight": torch.ones(64, 3, 7, 7, dtype=torch.float16)}
    )
    assert torch.equal(network.conv1.weight, torch.full((64, 3, 3, 7, 7), 1 / 3))


def test_a_torch_file(weights: Weights, tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    torch.save({"state_dict": weights}, path)
    network, _ = BACKBONES["c2d_50"](weights=str(path), weights_sha256=file_sha256(path).upper())
    assert torch.equal(network.get_parameter("conv1.weight")[:, :, 0], weights["conv1.weight"])


def test_a_wider_2d_network_fits_the_width_it_has(tmp_path: Path) -> None:
    """Names stay the same in SimCLR's 2x ResNet-50; files of one repeated number are small, as
    torch saves no copies of it.
    """
    wide = {
        name: torch.tensor(0.5).expand(t.shape[:2] + t.shape[3:])
        for name, t in on_meta("r3d_50", width=2).state_dict().items()
    }
    path = tmp_path / "resnet50_2x.pth"
    torch.save(wide, path)
    assert path.stat().st_size < 1e6
    on_meta("r3d_50", width=2, weights=str(path))
    with pytest.raises(
        ValueError, match=r"its conv1\.weight is \[128, 3, 7, 7\] and must be \[64, 3, 7, 7\]"
    ):
        on_meta("r3d_50", width=1, weights=str(path))


# --- 3D weights -----------------------------------------------------------------------------------


def unlike_a_new_one(network: nn.Module) -> nn.Module:
    """All weights and statistics drawn at random, so that none is what a new network begins
    with.
    """
    generator = torch.Generator().manual_seed(5)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 1 and tensor.is_floating_point():
            low, high = (0.5, 1.5) if name.endswith(("var", "weight")) else (-0.1, 0.1)
            tensor.uniform_(low, high, generator=generator)
    return network.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18", "mc3_18", "s3d"])
@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_torchvision_s_own_files_give_torchvision_s_features(
    name: str, suffix: str, tmp_path: Path
) -> None:
    theirs = unlike_a_new_one(getattr(torchvision.models.video, name)())
    path = tmp_path / f"{name}.{suffix}"
    (
        save_file(theirs.state_dict(), path)
        if suffix == "safetensors"
        else torch.save({"state_dict": theirs.state_dict(), "epoch": 3}, path)
    )
    ours, _ = BACKBONES[name](
        weights=str(path), weights_sha256=file_sha256(path), weights_from="nothing"
    )
    clips = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(6))
    if name == "s3d":  # whose average pool takes more pixels
        expected = theirs.features(clips).mean(dim=(2, 3, 4))
    else:
        theirs.fc = nn.Identity()
        expected = theirs(clips)
    assert expected.std() > 0.001
    torch.testing.assert_close(ours.eval()(clips), expected)


@torch.no_grad()
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("r3d_tiny", {"width": 2}),
        ("c2d_50", {}),
        ("i3d_50", {"temporal_pool": True}),
        ("r3d_18", {}),
    ],
)
def test_another_run_s_encoder(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    trained = unlike_a_new_one(BACKBONES[name](**options)[0])
    save_file(trained.state_dict(), tmp_path / "encoder.safetensors")
    ours, _ = BACKBONES[name](**options, weights=str(tmp_path / "encoder.safetensors"))
    clips = torch.randn(1, 3, 4, 16, 16)
    assert torch.equal(ours.eval()(clips), trained(clips))


def test_3d_weights_of_another_precision_under_a_prefix() -> None:
    network = tiny()
    weights = {
        f"module.{name}": tensor.double() * 2 for name, tensor in network.state_dict().items()
    }
    write_weights(network, {"model": weights})
    assert torch.equal(network.conv1.weight, weights["module.conv1.weight"].float())
    assert network.conv1.weight.dtype == torch.float32


def test_2d_and_3d_kernels_in_one_file(tiny_weights: Weights) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"^its conv1\.weight is 2D and its layer2\.0\.conv1\.weight 3D; all kernels must be one"
            r" or the other$"
        ),
    ):
        write_weights(
            tiny(), {**tiny_weights, "layer2.0.conv1.weight": torch.zeros(128, 256, 1, 1, 1)}
        )


def test_3d_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    """MC3-18 has R3D-18's names and other kernels, R(2+1)D-18 other names, and R3D-18 no place in
    an S3D.
    """
    for name in ("mc3_18", "r2plus1d_18"):
        torch.save(getattr(torchvision.models.video, name)().state_dict(), tmp_path / f"{name}.pth")
    kernels = re.escape(
        "its layer2.0.conv1.0.weight is [128, 64, 1, 3, 3] and must be [128, 64, 3, 3, 3]; with"
        " weights_inflate: true "
    )
    with pytest.raises(ValueError, match=rf"^weights: .*mc3_18\.pth is not valid; {kernels}"):
        on_meta("r3d_18", weights=str(tmp_path / "mc3_18.pth"))
    with pytest.raises(
        ValueError,
        match=(
            r"known by stem\.0\.weight and layer1\.0\.conv1\.0\.weight under the same prefix, and"
            r" holds none$"
        ),
    ):
        on_meta("r3d_18", weights=str(tmp_path / "r2plus1d_18.pth"))
    with pytest.raises(
        ValueError,
        match=r"known by features\.0\.0\.0\.weight and features\.0\.1\.0\.weight .* holds none$",
    ):
        on_meta("s3d", weights=str(tmp_path / "mc3_18.pth"))


@pytest.mark.parametrize("name", ["r3d_tiny", "r3d_18", "s3d"])
def test_missing_and_left_over_3d_weights(name: str) -> None:
    network = on_meta(name)
    weights = {key: torch.zeros(tensor.shape) for key, tensor in network.state_dict().items()}
    last = next(key for key in reversed(weights) if not key.endswith("num_batches_tracked"))
    with pytest.raises(ValueError, match=rf"^it lacks {re.escape(last)} \(1 missing in all\)$"):
        write_weights(network, {key: tensor for key, tensor in weights.items() if key != last})
    more = f"{last.partition('.')[0]}.99.weight"
    with pytest.raises(
        ValueError,
        match=rf"^its {re.escape(more)} has no place in this network \(1 left over in all\)$",
    ):
        write_weights(network, {**weights, more: torch.zeros(1), "fc.weight": torch.zeros(1)})


# --- Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["r3d_50", "c2d_50", "i3d_50"])
def test_on_the_meta_device_the_file_is_checked_and_nothing_written(name: str, file: Path) -> None:
    assert (
        on_meta(name, weights=str(file), weights_sha256=file_sha256(file))
        .get_parameter("conv1.weight")
        .is_meta
    )
    with pytest.raises(ValueError, match=r"^weights_sha256: "):
        on_meta(name, weights=str(file), weights_sha256="0" * 64)


def test_a_file_that_is_not_the_one_meant(file: Path) -> None:
    expected = (
        f"weights_sha256: {'0' * 64} is not valid; the file given as weights, {file}, has"
        f" {file_sha256(file)}"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        on_meta("r3d_50", weights=str(file), weights_sha256="0" * 64)


@pytest.mark.parametrize(
    "option", ["weights_sha256", "weights_from", "weights_key", "weights_prefix", "weights_inflate"]
)
@pytest.mark.parametrize("name", BACKBONES)
def test_what_is_said_of_no_file(name: str, option: str) -> None:
    with pytest.raises(ValueError, match=rf"^{option}: 00 is not valid; it must come with weights"):
        on_meta(name, **{option: "00"})


def test_the_digest_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert (
        file_sha256(tmp_path / "abc")
        == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@pytest.mark.parametrize(
    "name",
    ["missing.pth", "missing.safetensors", "", "broken.pth", "broken.safetensors", "empty.pth"],
)
def test_a_file_that_cannot_be_read(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name.startswith(("broken", "empty")):
        path.write_bytes(b"nothing of the sort" if name.startswith("broken") else b"")
    with pytest.raises(
        ValueError,
        match=rf"^weights: {re.escape(str(path))} is not valid; it must be a readable file",
    ):
        on_meta("r3d_50", weights=str(path))


def test_a_file_of_something_else(tmp_path: Path) -> None:
    torch.save([torch.ones(1)], tmp_path / "list.pth")
    with pytest.raises(
        ValueError,
        match=(
            r"^weights: .*list\.pth is not valid; it must hold weights by name, and holds a list$"
        ),
    ):
        on_meta("r3d_50", weights=str(tmp_path / "list.pth"))


def test_the_message_names_the_file_the_key_and_both_shapes(
    weights: Weights, tmp_path: Path
) -> None:
    path = tmp_path / "narrow.safetensors"
    save_file({**weights, "layer3.0.conv1.weight": torch.zeros(128, 512, 1, 1)}, path)
    expected = (
        f"weights: {path} is not valid; its layer3.0.conv1.weight is [128, 512, 1, 1] and must be"
        " [256, 512, 1, 1], to be inflated to [256, 512, 3, 1, 1]"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        on_meta("r3d_50", weights=str(path))


def test_a_shallower_network(file: Path) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"^weights: .*resnet50\.safetensors is not valid; it lacks layer3\.6\.conv1\.weight"
            r" \(255 missing"
        ),
    ):
        on_meta("r3d_101", weights=str(file))


def test_a_deeper_network_is_not_cut_to_fit(weights: Weights) -> None:
    with pytest.raises(
        ValueError,
        match=r"^its layer3\.6\.conv1\.weight has no place in this network \(1 left over in all\)$",
    ):
        write_weights(
            on_meta("r3d_50"), {**weights, "layer3.6.conv1.weight": torch.zeros(256, 1024, 1, 1)}
        )


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ({"features.0.weight": torch.ones(1)}, "holds none"),
        ({"conv1.weight": torch.ones(1)}, "holds none"),
        ({}, "holds none"),
        (
            {
                f"{p}.{n}": torch.ones(1)
                for p in ("online", "target")
                for n in ("conv1.weight", "layer1.0.conv1.weight")
            },
            "holds 2; give weights_prefix: 'online.' or weights_prefix: 'target.'",
        ),
    ],
)
def test_not_exactly_one_network(content: dict[str, Any], found: str) -> None:
    with pytest.raises(
        ValueError, match=rf"^it must hold exactly one such network, .* and {re.escape(found)}$"
    ):
        write_weights(tiny(), content)


def test_weights_that_do_not_fit_leave_the_network_as_it_was(tiny_weights: Weights) -> None:
    network = tiny()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(
        ValueError,
        match=(
            r"^its layer4\.0\.bn3\.bias is \[7\] and must be \[2048\], to be inflated to \[2048\]$"
        ),
    ):
        write_weights(network, {**tiny_weights, "layer4.0.bn3.bias": torch.zeros(7)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
