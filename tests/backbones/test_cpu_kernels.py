"""Convolutions with filters one pixel wide: oneDNN's kernel is taken, and gives the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from vididi.backbones import BACKBONES, Backbone
from vididi.backbones.cpu_kernels import ask_for_onednn

ONEDNN, OWN = "aten::mkldnn_convolution", "aten::slow_conv3d_forward"

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch without oneDNN"),
]


class Some(Backbone):
    """Convolutions of all kinds that networks here have, and a dilated one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(3, 4, 1, bias=False),
            nn.Conv3d(4, 4, (3, 1, 1), padding=(1, 0, 0)),
            nn.Conv3d(4, 4, (3, 1, 1), padding=(2, 0, 0), dilation=(2, 1, 1)),
            nn.Conv3d(4, 4, 3, padding=1),
            nn.Conv3d(4, 4, 1, stride=2),
        )

    def feature_map(self, clips: Tensor) -> Tensor:
        return self.layers(clips)


def clips(number: int = 3, size: int = 32) -> Tensor:
    return torch.randn(number, 3, 8, size, size, generator=torch.Generator().manual_seed(0))


def kernels_of(network: nn.Module, x: Tensor) -> set[str]:
    with profile(activities=[ProfilerActivity.CPU]) as found:
        network(x).sum().backward()
    return {event.key for event in found.key_averages()} & {ONEDNN, OWN}


def test_torch_itself_takes_its_own_kernel_for_few_clips() -> None:
    """Should it not do so any more, cpu_kernels.py has had its day."""
    network = nn.Conv3d(3, 4, 1)
    assert kernels_of(network, clips(15)) == {OWN}
    assert kernels_of(network, clips(16)) == {ONEDNN}


@pytest.mark.parametrize("name", BACKBONES)
def test_no_backbone_takes_torchs_own_kernel_where_it_trains(name: str) -> None:
    network, _ = BACKBONES[name]()
    assert kernels_of(network.to(memory_format=torch.contiguous_format), clips()) == {ONEDNN}


@pytest.mark.parametrize("number", [2, 16])
def test_features_and_gradients_are_the_same(number: int) -> None:
    torch.manual_seed(0)
    network = Some()
    found = []
    for moved in (False, True):
        network.zero_grad()
        if moved:
            network.to("cpu")
        x = clips(number).requires_grad_()
        features = network(x)
        features.square().sum().backward()
        found.append((features.detach(), x.grad, [p.grad for p in network.parameters()]))
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


def test_elsewhere_and_where_it_is_not_wanted_convolutions_are_as_they_were() -> None:
    network = Some()

    def dilations() -> list[tuple[int, ...]]:
        return [module.dilation for module in network.layers if isinstance(module, nn.Conv3d)]

    before = dilations()
    network.to("cpu")
    assert dilations() == [(2, 2, 2), (1, 2, 2), (2, 2, 2), (1, 1, 1), (1, 1, 1)]
    ask_for_onednn(network, wanted=False)
    assert dilations() == before
    network.to("cpu").to("meta")
    assert dilations() == before


def test_weights_know_nothing_of_it(tmp_path: Path) -> None:
    network = Some()
    torch.save(network.to("cpu").state_dict(), tmp_path / "weights.pt")
    Some().load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
