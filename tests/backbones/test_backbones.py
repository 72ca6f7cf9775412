"""Every backbone by name: the sizes it takes, the features it gives, the options it refuses."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from vididi.backbones import BACKBONES, MINIMUM, Backbone

FEATURES = {  # the papers' networks'; of one that is added, its function says it
    "r3d_tiny": 64,
    "r3d_18": 512,
    "r2plus1d_18": 512,
    "mc3_18": 512,
    "s3d": 1024,
    "r3d_50": 2048,
    "r3d_101": 2048,
    "c2d_50": 2048,
    "i3d_50": 2048,
}


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=BACKBONES)
def on_meta(request: pytest.FixtureRequest) -> tuple[str, nn.Module, int]:
    with torch.device("meta"):
        return request.param, *BACKBONES[request.param]()


def test_every_backbone_has_a_minimum() -> None:
    assert set(FEATURES) <= set(BACKBONES) == set(MINIMUM)


@pytest.mark.parametrize("name", BACKBONES)
def test_all_options_are_keywords_with_types_and_defaults(name: str) -> None:
    for parameter in inspect.signature(BACKBONES[name]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is not parameter.empty
        assert parameter.annotation is not parameter.empty


@pytest.mark.parametrize(("frames", "pixels"), [(8, 112), (32, 112), (16, 224)])
def test_the_papers_clips(on_meta: tuple[str, nn.Module, int], frames: int, pixels: int) -> None:
    name, module, width = on_meta
    features = module(torch.empty(2, 3, frames, pixels, pixels, device="meta"))
    assert width == FEATURES.get(name, width)
    assert features.shape == (2, width)


@pytest.mark.parametrize("name", BACKBONES)
def test_a_step_at_the_minimum(name: str) -> None:
    frames, pixels = MINIMUM[name]
    module, width = BACKBONES[name]()
    features = module.train()(torch.randn(2, 3, frames, pixels, pixels))
    assert features.shape == (2, width)
    assert features.isfinite().all()
    features.square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_the_minimum_is_ours_and_not_torch_s(on_meta: tuple[str, nn.Module, int]) -> None:
    """All layers but one in S3D are padded, so that at least one element is left of any clip; who
    says no minimum must be so.
    """
    name, module, width = on_meta
    if MINIMUM[name] == (1, 8):
        assert module(torch.empty(2, 3, 1, 1, 1, device="meta")).shape == (2, width)


@pytest.mark.parametrize(("frames", "pixels"), [(4, 17), (5, 16)])
def test_what_s3d_refuses(frames: int, pixels: int) -> None:
    """On 5 frames it can be evaluated; why training takes more stands beside MINIMUM."""
    with torch.device("meta"):
        module, width = BACKBONES["s3d"]()
        assert module(torch.empty(2, 3, 5, 17, 17)).shape == (2, width)
        with pytest.raises(RuntimeError, match="Output size is too small"):
            module(torch.empty(2, 3, frames, pixels, pixels))
    assert MINIMUM["s3d"] == (8, 17)


def test_s3d_is_torchvision_s_where_its_windows_fit() -> None:
    from torchvision.models.video import s3d

    clip = torch.randn(1, 3, 16, 224, 224)
    torch.manual_seed(0)
    ours, _ = BACKBONES["s3d"]()
    theirs = s3d()
    theirs.classifier = nn.Identity()
    theirs.load_state_dict(ours.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(ours.eval()(clip), theirs.eval()(clip))


def test_s3d_forgets_its_first_statistics_as_fast_as_told() -> None:
    with torch.device("meta"):
        module, _ = BACKBONES["s3d"](norm_momentum=0.1)
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm3d)]
    assert {(norm.momentum, norm.eps) for norm in norms} == {(0.1, 0.001)}


@pytest.mark.parametrize("value", [0.0, -0.1, 1.1, float("nan")])
def test_a_momentum_that_is_none(value: float) -> None:
    with pytest.raises(
        ValueError,
        match=rf"^norm_momentum: {value} is not valid; it must be above 0 and at most 1$",
    ):
        BACKBONES["s3d"](norm_momentum=value)


@pytest.mark.parametrize("name", ["r3d_tiny", "r3d_50", "r3d_101"])
@pytest.mark.parametrize("width", [0, -2])
def test_a_width_that_is_none(name: str, width: int) -> None:
    with (
        torch.device("meta"),
        pytest.raises(ValueError, match=rf"^width: {width} is not valid; it must be at least 1$"),
    ):
        BACKBONES[name](width=width)


@pytest.mark.parametrize("name", BACKBONES)
def test_features_are_the_mean_of_the_feature_map(name: str) -> None:
    module, width = BACKBONES[name]()
    assert isinstance(module, Backbone)
    clips = torch.randn(2, 3, 8, 32, 64)
    with torch.no_grad():
        maps = module.eval().feature_map(clips)
        torch.testing.assert_close(module(clips), maps.mean(dim=(2, 3, 4)), rtol=0, atol=0)
    assert maps.shape[:2] == (2, width)
    assert (
        64 // maps.shape[4] == 32 // maps.shape[3] <= 32
    )  # evenly over frames whose sides are multiples of 32


@pytest.mark.parametrize("name", ["r3d_18", "r2plus1d_18", "mc3_18", "s3d"])
def test_weights_have_torchvision_s_names(name: str) -> None:
    import torchvision

    with torch.device("meta"):
        theirs = getattr(torchvision.models.video, name)().state_dict()
        ours = BACKBONES[name]()[0].state_dict()
    assert list(ours) == [key for key in theirs if not key.startswith(("fc.", "classifier."))]
