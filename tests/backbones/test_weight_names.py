"""Checkpoints of other programs: where the network lies in them, and what they call its parts.

No published file was tried. Lists of names come from the programs' own modules: other_programs.txt
says which; those of PySlowFast, which is no package, follow slowfast/models/stem_helper.py,
resnet_helper.py and video_model_builder.py (facebookresearch/SlowFast). Weights are random, and
what they should give is computed from the other program's names, with our strides.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from vididi.backbones import BACKBONES
from vididi.backbones.resnet3d import ResNet3D
from vididi.backbones.weights import write_weights

Weights = dict[str, Tensor]

pytestmark = pytest.mark.usefixtures("one_thread")

# --- Lists of names -------------------------------------------------------------------------------


@cache
def listed() -> dict[str, dict[str, list[int]]]:
    """Shapes of weights by module, by network."""
    networks: dict[str, dict[str, list[int]]] = {}
    for line in (Path(__file__).parent / "other_programs.txt").read_text().splitlines():
        if line.startswith("["):
            modules = networks.setdefault(line.strip("[]"), {})
        elif not line.startswith("#"):
            name, shape = line.split()
            modules[name] = [int(size) for size in shape.split("x")]
    return networks


def pyslowfast(stem: int, kernels: list[list[int]]) -> dict[str, list[int]]:
    """A ResNet of one pathway, with the length in time of each block's first convolution."""
    modules = {"s1.pathway0_stem.conv": [64, 3, stem, 7, 7], "s1.pathway0_stem.bn": [64]}
    channels_in = 64
    for stage, lengths in enumerate(kernels):
        inner, out = 64 * 2**stage, 256 * 2**stage
        for block, length in enumerate(lengths):
            name = f"s{stage + 2}.pathway0_res{block}"
            if block == 0:
                modules |= {
                    f"{name}.branch1": [out, channels_in, 1, 1, 1],
                    f"{name}.branch1_bn": [out],
                }
            modules |= {
                f"{name}.branch2.a": [inner, channels_in, length, 1, 1],
                f"{name}.branch2.a_bn": [inner],
            }
            modules |= {
                f"{name}.branch2.b": [inner, inner, 1, 3, 3],
                f"{name}.branch2.b_bn": [inner],
            }
            modules |= {f"{name}.branch2.c": [out, inner, 1, 1, 1], f"{name}.branch2.c_bn": [out]}
            channels_in = out
    return modules | {"head.projection": [400, 2048]}


SLOW, I3D = [[1] * 3, [1] * 4, [3] * 6, [3] * 3], [[3] * 3, [3, 1] * 2, [3, 1] * 3, [1, 3, 1]]


def shapes_of(program: str) -> dict[str, list[int]]:
    made = {
        "pyslowfast slow": pyslowfast(1, SLOW),
        "pyslowfast i3d": pyslowfast(5, I3D),
        "pyslowfast c2d": pyslowfast(1, [[1] * 3, [1] * 4, [1] * 6, [1] * 3]),
    }
    return made[program] if program in made else listed()[program]


def random_weights(program: str) -> Weights:
    """Random tensors under a program's names, that keep activations near 1."""
    generator = torch.Generator().manual_seed(0)
    weights: Weights = {}
    for name, shape in shapes_of(program).items():
        if len(shape) > 2:
            weights[f"{name}.weight"] = (
                torch.randn(shape, generator=generator) * (2 / (len(shape) * shape[0])) ** 0.5
            )
        elif len(shape) == 2:
            weights |= {f"{name}.weight": torch.zeros(shape), f"{name}.bias": torch.zeros(shape[0])}
        else:
            for leaf, low, high in (
                ("weight", 0.4, 0.6),
                ("bias", -0.1, 0.1),
                ("running_mean", -0.1, 0.1),
                ("running_var", 0.5, 1.5),
            ):
                weights[f"{name}.{leaf}"] = torch.empty(shape).uniform_(
                    low, high, generator=generator
                )
            weights[f"{name}.num_batches_tracked"] = torch.tensor(9)
    return weights


# --- What a network of these weights computes -----------------------------------------------------


class Theirs:
    """The feature map that weights of another program give, with our strides: by 2 in time in the
    first convolution alone.
    """

    def __init__(
        self, weights: Weights, stem: tuple[str, str], blocks: Callable[[int, int], list[str]]
    ) -> None:
        self.weights, self.stem, self.blocks = weights, stem, blocks

    def convolved(
        self,
        x: Tensor,
        convolution: str,
        norm: str,
        stride: tuple[int, int, int] = (1, 1, 1),
        length: int = 0,
    ) -> Tensor:
        kernel = self.weights[f"{convolution}.weight"]
        kernel = kernel.unsqueeze(2) if kernel.dim() == 4 else kernel
        kernel = kernel.expand(-1, -1, length, -1, -1) / length if length else kernel
        y = F.conv3d(x, kernel, stride=stride, padding=[size // 2 for size in kernel.shape[2:]])
        moments = (
            self.weights[f"{norm}.{leaf}"]
            for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(y, *moments, eps=1e-5)

    def __call__(self, x: Tensor, stem_length: int) -> Tensor:
        x = F.relu(self.convolved(x, *self.stem, (2, 2, 2), stem_length))
        x = F.max_pool3d(x, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        for stage, count in enumerate((3, 4, 6, 3)):
            for block in range(count):
                a, a_norm, b, b_norm, c, c_norm, short, short_norm = self.blocks(stage, block)
                stride = (1, 2, 2) if stage and not block else (1, 1, 1)
                y = F.relu(self.convolved(x, a, a_norm))
                y = F.relu(self.convolved(y, b, b_norm, stride))
                kept = x if block else self.convolved(x, short, short_norm, stride)
                x = F.relu(self.convolved(y, c, c_norm) + kept)
        return x


def pytorchvideo_blocks(numbers: list[int]) -> Callable[[int, int], list[str]]:
    def names(stage: int, block: int) -> list[str]:
        at = f"blocks.{numbers[stage]}.res_blocks.{block}."
        return [at + name for x in "abc" for name in (f"branch2.conv_{x}", f"branch2.norm_{x}")] + [
            at + "branch1_conv",
            at + "branch1_norm",
        ]

    return names


def mmaction2_blocks(stage: int, block: int) -> list[str]:
    at = f"layer{stage + 1}.{block}."
    return [
        f"{at}{module}.{part}"
        for module in ("conv1", "conv2", "conv3", "downsample")
        for part in ("conv", "bn")
    ]


def pyslowfast_blocks(stage: int, block: int) -> list[str]:
    at = f"s{stage + 2}.pathway0_res{block}."
    return [at + name for x in "abc" for name in (f"branch2.{x}", f"branch2.{x}_bn")] + [
        at + "branch1",
        at + "branch1_bn",
    ]


PYTORCHVIDEO, MMACTION2, PYSLOWFAST = (
    ("blocks.0.conv", "blocks.0.norm"),
    ("conv1.conv", "conv1.bn"),
    ("s1.pathway0_stem.conv", "s1.pathway0_stem.bn"),
)


@torch.no_grad()
@pytest.mark.parametrize(
    ("program", "backbone", "stem", "blocks", "wrap"),
    [
        (
            "pytorchvideo slow_r50",
            "r3d_50",
            PYTORCHVIDEO,
            pytorchvideo_blocks([1, 2, 3, 4]),
            lambda w: {"model_state": w},
        ),
        (
            "pytorchvideo i3d_r50",
            "i3d_50",
            PYTORCHVIDEO,
            pytorchvideo_blocks([1, 3, 4, 5]),
            lambda w: {"model_state": w},
        ),
        (
            "mmaction2 slowonly_r50",
            "r3d_50",
            MMACTION2,
            mmaction2_blocks,
            lambda w: {"state_dict": under("backbone.", w), "meta": {}},
        ),
        (
            "mmaction2 i3d_r50",
            "i3d_50",
            MMACTION2,
            mmaction2_blocks,
            lambda w: {"state_dict": under("backbone.", w)},
        ),
        (
            "mmaction2 c2d_r50",
            "c2d_50",
            MMACTION2,
            mmaction2_blocks,
            lambda w: {"state_dict": under("backbone.", w)},
        ),
        (
            "pyslowfast slow",
            "r3d_50",
            PYSLOWFAST,
            pyslowfast_blocks,
            lambda w: {"epoch": 3, "model_state": w, "cfg": ""},
        ),
        ("pyslowfast i3d", "i3d_50", PYSLOWFAST, pyslowfast_blocks, lambda w: {"model_state": w}),
        ("pyslowfast c2d", "c2d_50", PYSLOWFAST, pyslowfast_blocks, lambda w: {"model_state": w}),
    ],
)
def test_names_of_other_programs(
    program: str, backbone: str, stem: tuple[str, str], blocks: Any, wrap: Callable[[Weights], Any]
) -> None:
    """Only the slow networks' first kernel, of one frame, is not ours: it is inflated where that is
    asked for.
    """
    weights, slow = random_weights(program), "slow" in program.replace("pyslowfast", "")
    network, content = empty(backbone), wrap(weights)
    if slow:
        with pytest.raises(
            ValueError,
            match=(
                rf"^its {stem[0]}\.weight is \[64, 3, 1, 7, 7\] and must be \[64, 3, 5, 7, 7\];"
                r" with weights_inflate"
            ),
        ):
            write_weights(network, content)
    write_weights(network, content, inflate=slow)
    clips = torch.randn(1, 3, 4, 32, 32, generator=torch.Generator().manual_seed(1))
    expected = Theirs(weights, stem, blocks)(clips, 5 if slow else 0)
    assert 0.01 < expected.std() < 100
    torch.testing.assert_close(network.eval().feature_map(clips), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("program", "backbone", "said"),
    [
        # (2+1)D convolutions in bottleneck blocks, or behind a max pool: not torchvision's R(2+1)D.
        ("pytorchvideo r2plus1d_r50", "r2plus1d_18", "holds none$"),
        ("mmaction2 r2plus1d_r18", "r2plus1d_18", "holds none$"),
        (
            "pytorchvideo r2plus1d_r50",
            "r3d_50",
            r"^it lacks blocks\.1\.res_blocks\.0\.branch2\.conv_b\.weight",
        ),
        (
            "pytorchvideo i3d_r50",
            "r3d_50",
            r"^its blocks\.1\.res_blocks\.0\.branch2\.conv_a\.weight is \[64, 64, 3, 1, 1\]",
        ),
        (
            "mmaction2 slowonly_r50",
            "r3d_101",
            r"^it lacks layer3\.6\.conv1\.conv\.weight \(255 missing in all\)$",
        ),
    ],
)
def test_other_networks_of_other_programs(program: str, backbone: str, said: str) -> None:
    weights = light_weights(shapes_of(program))
    with torch.device("meta"), pytest.raises(ValueError, match=said):
        write_weights(BACKBONES[backbone]()[0], weights)


@pytest.mark.parametrize(
    "more",
    [
        "s2.pathway0_nonlocal1.conv_g.weight",  # Non-local Neural Networks
        "s3.pathway1_res0.branch2.a.weight",  # SlowFast's second pathway
    ],
)
def test_blocks_that_we_do_not_have_are_not_left_out(more: str) -> None:
    weights = light_weights(shapes_of("pyslowfast i3d")) | {more: torch.zeros(1)}
    with (
        torch.device("meta"),
        pytest.raises(
            ValueError,
            match=rf"^its {re.escape(more)} has no place in this network \(1 left over in all\)$",
        ),
    ):
        write_weights(BACKBONES["i3d_50"]()[0], weights)


def light_weights(shapes: dict[str, list[int]]) -> Weights:
    """Weights that take no memory, one number repeated."""
    weights: Weights = {}
    for name, shape in shapes.items():
        leaves = ("weight", "bias", "running_mean", "running_var")[
            : {1: 4, 2: 2}.get(len(shape), 1)
        ]
        weights |= {
            f"{name}.{leaf}": torch.ones(()).expand(shape if leaf == "weight" else shape[:1])
            for leaf in leaves
        }
    return weights


def test_lightly_s_children_in_order() -> None:
    """torch.nn.Sequential(*list(resnet.children())[:-1]), as in lightly's tutorials, has numbers
    for names.
    """
    with torch.device("meta"):
        flat = torchvision.models.resnet50()
    flat.load_state_dict(
        {
            name: torch.full((), float(n)).expand(t.shape)
            for n, (name, t) in enumerate(flat.state_dict().items())
        },
        assign=True,
    )
    ours, theirs = empty("c2d_50"), empty("c2d_50")
    write_weights(theirs, flat.state_dict())
    write_weights(
        ours,
        {"state_dict": under("backbone.", nn.Sequential(*list(flat.children())[:-1]).state_dict())},
    )
    for name, tensor in ours.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(
            tensor, theirs.state_dict()[name]
        )


def empty(backbone: str) -> nn.Module:
    """A backbone with no weights yet, which are quickly made."""
    with torch.device("meta"):
        return BACKBONES[backbone]()[0].to_empty(device="cpu")


# --- Where the network lies -----------------------------------------------------------------------


def tiny(stem: int = 1) -> ResNet3D:
    return ResNet3D(stem, [[3], [1], [3], [1]])


def under(prefix: str, weights: Weights) -> Weights:
    return {prefix + name: tensor for name, tensor in weights.items()}


@pytest.fixture(scope="module")
def a() -> Weights:
    return {name: torch.full_like(tensor, 2) for name, tensor in tiny().state_dict().items()}


@pytest.fixture(scope="module")
def b(a: Weights) -> Weights:
    return {name: torch.full_like(tensor, 3) for name, tensor in a.items()}


def taken(content: dict[str, Any], **options: Any) -> str:
    """Which of a and b a network gets."""
    network = tiny()
    write_weights(network, content, **options)
    values = {
        float(tensor.flatten()[0])
        for name, tensor in network.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert len(values) == 1
    return {2.0: "a", 3.0: "b"}[values.pop()]


@pytest.mark.parametrize(
    "entry",
    [
        "state_dict",
        "model",
        "model_state",
        "teacher",
        "target_encoder",
        "encoder",
        "ema",
        "network",
        "classy_state_dict.base_model.model.trunk",
    ],
)
def test_entries_of_any_name_and_depth(entry: str, a: Weights) -> None:
    content: dict[str, Any] = under("module.encoder.", a)
    for key in reversed(entry.split(".")):
        content = {
            "epoch": 3,
            key: content,
            "optimizer": {"state": {0: {"exp_avg": torch.ones(1)}}},
        }
    assert (
        taken(content)
        == taken(content, key=entry)
        == taken(content, key=entry.partition(".")[0])
        == "a"
    )


def test_moco_s_two_encoders(a: Weights, b: Weights) -> None:
    content = {
        "arch": "resnet50",
        "state_dict": {
            **under("module.encoder_q.", a),
            **under("module.encoder_k.", b),
            "module.queue": torch.ones(1),
        },
    }
    said = (
        "and holds 2; give weights_prefix: 'module.encoder_q.' or weights_prefix:"
        " 'module.encoder_k.'"
    )
    with pytest.raises(
        ValueError, match=f"^it must hold exactly one such network, known by .* {re.escape(said)}$"
    ):
        taken(content)
    assert [
        taken(content, prefix=prefix)
        for prefix in ("module.encoder_q.", "module.encoder_k.", "module.encoder_k")
    ] == ["a", "b", "b"]
    said = (
        "and holds none under weights_prefix 'encoder_q'; give weights_prefix: 'module.encoder_q.'"
        " or weights_prefix: 'module.encoder_k.'"
    )
    with pytest.raises(ValueError, match=re.escape(said)):
        taken(content, prefix="encoder_q")


def test_a_prefix_reaches_to_a_dot(a: Weights, b: Weights) -> None:
    content = {**under("encoder.backbone.", a), **under("encoder_k.backbone.", b)}
    assert taken(content, prefix="encoder") == "a"
    assert taken({**a, **under("momentum.", b)}, prefix="") == "a"
    with pytest.raises(ValueError, match="holds none under weights_prefix ''"):
        taken(content, prefix="")


def test_teacher_and_student(a: Weights, b: Weights) -> None:
    content = {
        "student": under("module.backbone.", a),
        "teacher": under("backbone.", b),
        "epoch": 100,
    }
    said = (
        "give weights_key: 'student' with weights_prefix: 'module.backbone.' or weights_key:"
        " 'teacher' with weights_prefix: 'backbone.'"
    )
    with pytest.raises(ValueError, match=f"and holds 2; {re.escape(said)}$"):
        taken(content)
    assert [taken(content, key=key) for key in ("student", "teacher")] == ["a", "b"]
    assert taken(content, prefix="backbone.") == "b"
    with pytest.raises(
        ValueError,
        match=(
            r"holds none under weights_key 'momentum' and weights_prefix 'backbone\.'; give"
            r" weights_key: 'student' with"
        ),
    ):
        taken(content, key="momentum", prefix="backbone.")


def test_the_weights_of_a_training_program_count_before_its_average_of_them(
    a: Weights, b: Weights
) -> None:
    """As before other entries were searched."""
    content = {"state_dict": a, "state_dict_ema": b}
    assert taken(content) == "a"
    assert taken(content, key="state_dict_ema") == "b"
    assert taken({"model": {"state_dict": a, "model_ema": b}}) == "a"


def test_a_file_of_many_networks(a: Weights) -> None:
    content = {
        f"net{number}": {
            name: tensor.clone()
            for name, tensor in a.items()
            if "1.0.conv1" in name or name == "conv1.weight"
        }
        for number in range(20)
    }
    with pytest.raises(
        ValueError,
        match=(
            r"and holds 20; give weights_key: 'net0' or .* weights_key: 'net7' or one of 12 more$"
        ),
    ):
        taken(content)


def test_where_the_only_network_lies_is_said(a: Weights) -> None:
    with pytest.raises(
        ValueError,
        match=(
            r"holds none under weights_key 'teacher'; give weights_key: 'model' with"
            r" weights_prefix: ''$"
        ),
    ):
        taken({"model": a}, key="teacher")


def test_an_entry_that_holds_itself(a: Weights) -> None:
    loop: dict[str, Any] = {"weights": a}
    loop |= {"model": loop, "state_dict": loop}
    assert taken(loop) == "a"


def test_one_network_under_two_keys(a: Weights, b: Weights) -> None:
    content = {"model_state": a, "ema": a}
    assert taken(content) == taken(content, key="model_state") == taken(content, key="ema") == "a"
    shares_its_stem = {**b, "conv1.weight": a["conv1.weight"]}
    with pytest.raises(
        ValueError, match=r"and holds 2; give weights_key: 'student' or weights_key: 'teacher'$"
    ):
        taken({"student": a, "teacher": shares_its_stem})


def test_networks_in_the_same_place(a: Weights, b: Weights) -> None:
    """Keys on the way are joined by dots, which a key may have too."""
    with pytest.raises(ValueError, match=r"and holds 2; no option tells them apart$"):
        taken({"ema.net": a, "ema": {"net": b}})


def test_an_entry_deeper_than_any_program_s(a: Weights) -> None:
    """Every level has its keys in its name, so a file of a million levels would take for ever."""
    content: dict[str, Any] = {"net": a}
    for _ in range(300_000):
        content = {"n": content}
    with pytest.raises(ValueError, match=r"and holds none$"):
        taken(content)


@pytest.mark.parametrize("method", ["items", "get", "keys"])
def test_a_dictionary_with_a_state(method: str, a: Weights) -> None:
    """A file may give an OrderedDict attributes, which then hide its methods."""
    content = OrderedDict(a)
    setattr(content, method, 3)
    assert taken({"state_dict": content}) == "a"
    wrapper = OrderedDict(model=content)
    setattr(wrapper, method, 3)
    assert taken(wrapper) == "a"


def test_names_in_a_message_are_on_one_line(a: Weights) -> None:
    with pytest.raises(
        ValueError,
        match=r"^its layer1\.99\\n\\x1b\[2J has no place in this network \(1 left over in all\)$",
    ):
        taken({**a, "layer1.99\n\x1b[2J": torch.ones(1)})


def test_pyslowfast_s_contrastive_models(a: Weights) -> None:
    """backbone and backbone_hist of slowfast/models/contrastive.py."""
    one, other = (
        light_weights(shapes_of("pyslowfast i3d")),
        light_weights(shapes_of("pyslowfast i3d")),
    )
    content = {"model_state": {**under("backbone.", one), **under("backbone_hist.", other)}}
    with torch.device("meta"):
        network = BACKBONES["i3d_50"]()[0]
        with pytest.raises(
            ValueError,
            match=r"give weights_prefix: 'backbone\.' or weights_prefix: 'backbone_hist\.'$",
        ):
            write_weights(network, content)
        write_weights(network, content, prefix="backbone.")


# --- Options --------------------------------------------------------------------------------------


def test_options_of_a_backbone(tmp_path: Path) -> None:
    one, other = (
        {
            name: torch.full_like(t, value)
            for name, t in BACKBONES["r3d_tiny"](width=2)[0].state_dict().items()
        }
        for value in (2, 3)
    )
    torch.save(
        {"student": under("q.", one), "teacher": {**under("q.", other), **under("k.", one)}},
        tmp_path / "file.pth",
    )
    network, _ = BACKBONES["r3d_tiny"](
        width=2, weights=str(tmp_path / "file.pth"), weights_key="teacher", weights_prefix="q."
    )
    assert network.state_dict()["stem.0.weight"].flatten()[0] == 3
    with pytest.raises(
        ValueError,
        match=(
            r"^weights: .*file\.pth is not valid; it must hold exactly one .* and holds 3; give"
            r" weights_key: 'student' with"
        ),
    ):
        BACKBONES["r3d_tiny"](width=2, weights=str(tmp_path / "file.pth"))


def frames_c2d() -> Iterator[tuple[str, Tensor]]:
    for name, tensor in tiny().state_dict().items():
        yield name, (tensor[:, :, :1] + 1 if tensor.dim() == 5 else tensor)


def test_kernels_of_one_frame_are_inflated_if_asked(tmp_path: Path) -> None:
    """CVRL's 'SimCLR inflated' with a C2D trained on frames."""
    weights, network = {name: tensor.contiguous() for name, tensor in frames_c2d()}, tiny(stem=5)
    with pytest.raises(
        ValueError,
        match=(
            r"^its conv1\.weight is \[64, 3, 1, 7, 7\] and must be \[64, 3, 5, 7, 7\]; with"
            r" weights_inflate: true it is repeated"
        ),
    ):
        write_weights(network, weights)
    write_weights(network, weights, inflate=True)
    for name, tensor in network.state_dict().items():
        if tensor.dim() == 5:
            torch.testing.assert_close(tensor.sum(2), weights[name][:, :, 0])
            assert torch.equal(tensor, tensor[:, :, :1].expand_as(tensor))
    with pytest.raises(
        ValueError,
        match=(
            r"^its layer3\.0\.conv1\.weight is \[256, 512, 2, 1, 1\] and must be \[256, 512, 3, 1,"
            r" 1\]$"
        ),
    ):
        write_weights(
            network,
            {**weights, "layer3.0.conv1.weight": torch.zeros(256, 512, 2, 1, 1)},
            inflate=True,
        )
    with pytest.raises(
        ValueError,
        match=r"^its conv1\.weight is \[64, 3, 5, 7, 7\] and must be \[64, 3, 1, 7, 7\]$",
    ):
        write_weights(tiny(stem=1), dict(network.state_dict()), inflate=True)


@torch.no_grad()
def test_an_inflated_c2d_on_a_still_video(tmp_path: Path) -> None:
    """Through a file and the options: far from its ends a still video looks as before."""
    c2d = empty("c2d_50")
    write_weights(
        c2d,
        {
            "backbone." + name: tensor
            for name, tensor in random_weights("mmaction2 c2d_r50").items()
        },
    )
    save_file(c2d.state_dict(), tmp_path / "c2d.safetensors")
    r3d, _ = BACKBONES["r3d_50"](weights=str(tmp_path / "c2d.safetensors"), weights_inflate=True)
    still = torch.randn(1, 3, 1, 32, 32, generator=torch.Generator().manual_seed(3)).expand(
        -1, -1, 44, -1, -1
    )
    expected, found = c2d.eval().feature_map(still), r3d.eval().feature_map(still)
    assert expected.std() > 0.01
    torch.testing.assert_close(found[:, :, 10:-10], expected[:, :, 10:-10], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "bad",
    [
        torch.ones(64).to_sparse(),
        torch.ones(64, device="meta"),
        torch.ones(64, dtype=torch.complex64),
        torch.ones(64, dtype=torch.int8),
    ],
)
def test_tensors_that_are_none_of_numbers(bad: Tensor, a: Weights) -> None:
    network = tiny()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(
        ValueError, match=r"^its bn1\.weight is no ordinary tensor of floating-point numbers$"
    ):
        write_weights(network, {**a, "bn1.weight": bad})
    with pytest.raises(ValueError, match=r"^its bn1\.bias holds numbers that are not finite$"):
        write_weights(network, {**a, "bn1.bias": torch.tensor([1.0, float("nan")] * 32)})
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
