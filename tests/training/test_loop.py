"""The loop by itself: what it does in which order, what stops it, how it goes on, and which clips
become which view.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count, islice
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vididi.backbones.r3d_tiny import r3d_tiny
from vididi.data.stream import Batch
from vididi.draws import Use, key
from vididi.errors import TrainingError
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import LARS, OPTIMISERS, cosine_with_warmup, decay_penalty
from vididi.pairing import SCHEDULES, Schedule
from vididi.training.context import LocalContext
from vididi.training.loop import EpochLog, PretrainFit, State, train, view_of
from vididi.views import AUGMENTATIONS

CPU = torch.device("cpu")
VIDEOS, FRAMES, SIZE = 4, 3, 8


pytestmark = pytest.mark.usefixtures("one_thread")


def as_they_are(clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], view: int) -> Tensor:
    return clips.float()


def make_fit(**changes: Any) -> PretrainFit:
    job = PretrainFit(
        schedule=SCHEDULES["vididi"],
        augment=as_they_are,
        frames=FRAMES,
        seed=5,
        epochs=2,
        steps_per_epoch=4,
        warmup_epochs=1,
        cosine="remaining",
        precision="fp32",
        view_length="constant",
    )
    return replace(job, **changes)


def make_batch(step: int, clips: int = 2) -> Batch:
    rng = np.random.default_rng(step)
    starts = np.stack([rng.permutation(clips) for _ in range(VIDEOS)])
    pixels = rng.integers(0, 256, (VIDEOS, clips, FRAMES + 2, SIZE, SIZE, 3), dtype=np.uint8)
    return Batch(rng.permutation(100)[:VIDEOS], np.full((VIDEOS, 2), SIZE), starts, pixels)


class Line(Objective):
    """A loss with known gradients: -1 for ``small``, 7 for ``big``; ``disturb`` changes the loss of
    its n-th call.
    """

    def __init__(self, disturb: Callable[[int, Tensor], Tensor] = lambda call, loss: loss) -> None:
        super().__init__(nn.Identity())
        self.small, self.big = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
        self.disturb = disturb
        self.calls = 0
        self.after: list[tuple[int, int, float]] = []

    def forward(
        self, view_a: Tensor, view_b: Tensor, starts: Tensor | None = None
    ) -> dict[str, Tensor]:
        call, self.calls = self.calls, self.calls + 1
        return {
            "loss": self.disturb(call, (7 * self.big - self.small).sum()),
            "call": torch.tensor(call),
        }

    def after_step(self, step: int, steps: int) -> None:
        self.after.append((step, steps, self.big.item()))


def sgd(objective: Objective, lr: float = 0.1) -> torch.optim.Optimizer:
    return torch.optim.SGD(objective.parameters(), lr=lr)


def run(
    state: State, job: PretrainFit, batches: Iterator[Batch] | None = None
) -> list[dict[str, Any]]:
    """Train to the end, and the metrics of every epoch."""
    history: list[dict[str, Any]] = []
    train(
        state,
        batches or map(make_batch, count()),
        job,
        LocalContext(),
        lambda metrics, epoch: history.append(metrics),
    )
    return history


# --- Order of a step ------------------------------------------------------------------------------


def test_after_step_follows_the_optimiser_and_is_told_the_step_and_how_many_there_are() -> None:
    objective = Line()
    run(State(objective, sgd(objective)), make_fit(warmup_epochs=0))
    assert [(step, steps) for step, steps, _ in objective.after] == [(step, 8) for step in range(8)]
    moved = np.cumsum([-0.1 * 7 * cosine_with_warmup(step, 8) for step in range(8)])
    np.testing.assert_allclose([big for _, _, big in objective.after], moved, rtol=1e-5)


@pytest.mark.parametrize("cosine", ["remaining", "whole"])
def test_the_learning_rate_of_every_group_follows_the_cosine_with_warmup(cosine: Any) -> None:
    objective, rates = Line(), []
    optimiser = torch.optim.SGD(
        [{"params": [objective.small], "lr": 0.5}, {"params": [objective.big], "lr": 2.0}]
    )
    optimiser.register_step_pre_hook(
        lambda *_: rates.append([group["lr"] for group in optimiser.param_groups])
    )
    history = run(State(objective, optimiser), make_fit(cosine=cosine))
    expected = np.array([cosine_with_warmup(step, 8, 4, cosine) for step in range(8)])
    np.testing.assert_allclose(rates, expected[:, None] * [0.5, 2.0], rtol=1e-12)
    np.testing.assert_allclose(
        [metrics["train/lr"] for metrics in history], 0.5 * expected[[3, 7]], rtol=1e-12
    )


def test_each_step_has_the_pair_of_its_epoch_and_global_step() -> None:
    objective = Line()
    asked: list[tuple[int, int, int]] = []

    class Asked(Schedule):
        def pair(self, epoch: int, step: int, seed: int) -> tuple[int, int]:
            asked.append((epoch, step, seed))
            return super().pair(epoch, step, seed)

    run(State(objective, sgd(objective)), make_fit(schedule=Asked(2, "both_ways", "scheduled")))
    assert asked == [(step // 4, step, 5) for step in range(8)]


def test_an_epoch_s_metrics_are_means_over_its_steps_and_the_pairs_that_came_up() -> None:
    objective, job = Line(), make_fit()
    first, second = run(State(objective, sgd(objective, lr=0.0)), job)
    assert (first["epoch"], first["step"], first["train/call"]) == (1, 4, 1.5)
    assert (second["epoch"], second["step"], second["train/call"]) == (2, 8, 5.5)
    pairs = {job.schedule.pair(1, step, job.seed) for step in range(4, 8)}
    assert second["train/pairs"] == " ".join(f"{a}{b}" for a, b in sorted(pairs))


@pytest.mark.parametrize("clips", [2, 3, 4])
def test_clips_per_second_counts_every_clip_of_a_video(clips: int) -> None:
    objective = Line()
    (metrics,) = run(
        State(objective, sgd(objective)),
        make_fit(epochs=1, warmup_epochs=0),
        (make_batch(i, clips) for i in count()),
    )
    assert metrics["time/clips_per_second"] * metrics["time/seconds_per_step"] == pytest.approx(
        VIDEOS * clips
    )
    log = EpochLog(clips=10, steps=2, seconds=1.0)
    metrics = log.metrics(epoch=1, step=2, lr=0.1, world_size=3)
    assert metrics["time/clips_per_second"] * metrics["time/seconds_per_step"] == pytest.approx(
        3 * 10 / 2
    )


# --- A loss that is not finite --------------------------------------------------------------------


@pytest.mark.parametrize("value", [torch.inf, -torch.inf, torch.nan])
def test_a_loss_that_is_not_finite_stops_before_the_optimiser_and_names_step_pair_and_largest_gradient(
    value: float,
) -> None:
    objective, job = Line(lambda call, loss: loss + value if call == 3 else loss), make_fit()
    state = State(objective, sgd(objective))
    a, b = job.schedule.pair(0, 3, job.seed)
    with pytest.raises(
        TrainingError,
        match=(
            rf"not finite at step 3 with orders \({a}, {b}\): loss {value:g}.* gradient is 7, of"
            r" big;"
        ),
    ):
        run(state, job)
    assert state.step == 3
    assert [step for step, _, _ in objective.after] == [0, 1, 2]
    assert objective.big.item() == objective.after[-1][2]


def test_a_gradient_that_is_not_a_number_is_the_largest() -> None:
    objective = Line()
    objective.disturb = lambda call, loss: loss + objective.small.sum() * torch.nan
    with pytest.raises(TrainingError, match="gradient is inf, of small"):
        run(State(objective, sgd(objective)), make_fit())


class _Broken(torch.autograd.Function):
    """The identity, whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # type: ignore[override]
        return grad * torch.inf


def test_a_finite_loss_whose_gradient_is_not_finite_stops_before_the_optimiser_too() -> None:
    objective = Line()
    objective.disturb = lambda call, loss: (
        loss + _Broken.apply(objective.small).sum() if call == 2 else loss
    )
    with pytest.raises(
        TrainingError,
        match=r"^the gradient is not finite at step 2 with orders .* gradient is inf, of small",
    ):
        run(State(objective, sgd(objective)), make_fit())
    assert objective.big.item() == objective.after[-1][2]
    assert [step for step, _, _ in objective.after] == [0, 1]


def test_the_gradients_norm_is_among_the_metrics() -> None:
    objective = Line()
    (metrics,) = run(State(objective, sgd(objective)), make_fit(epochs=1, warmup_epochs=0))
    assert metrics["train/gradient_norm"] == pytest.approx(50**0.5)  # of (-1, 7)


@pytest.mark.parametrize("name", list(OPTIMISERS))
def test_the_regularisation_is_what_weight_decay_is_the_gradient_of(name: str) -> None:
    matrix, vector = torch.full((2, 3), 2.0), torch.full((5,), 7.0)
    parameters = [nn.Parameter(matrix.clone()), nn.Parameter(vector.clone())]
    optimiser = OPTIMISERS[name](parameters, weight_decay=0.1)
    assert decay_penalty(optimiser) == pytest.approx(0.1 / 2 * 6 * 2.0**2)
    assert decay_penalty(OPTIMISERS[name](parameters, weight_decay=0.0)) == 0


def test_the_regularisation_of_the_last_step_s_weights_is_among_the_metrics() -> None:
    state = make_state("cvrl")
    lines = run(state, make_fit(), real_batches("cvrl"))
    decayed = [p for group in state.optimiser.param_groups for p in group["params"] if p.ndim > 1]
    expected = 1e-3 / 2 * sum(float(p.detach().double().square().sum()) for p in decayed)
    assert lines[-1]["train/regularisation"] == pytest.approx(expected, rel=1e-5)
    assert {"train/loss", "train/accuracy", "train/entropy"} < lines[-1].keys()


def make_state(name: str, seed: int = 0) -> State:
    torch.manual_seed(seed)
    options = {"group": 2} if name == "corp_m" else {}
    objective = OBJECTIVES[name](*r3d_tiny(width=2), hidden=8, out=8, **options)  # type: ignore[call-arg]
    trained = [p for p in objective.parameters() if p.requires_grad]
    return State(objective, LARS(trained, lr=0.1, trust=0.01, weight_decay=1e-3))


def real_batches(name: str, start: int = 0) -> Iterator[Batch]:
    return (make_batch(step, OBJECTIVES[name].default_clips) for step in count(start))


def parameters_and_momenta(state: State) -> list[Tensor]:
    momenta = [slot["momentum"] for slot in state.optimiser.state.values()]
    return [tensor.detach().clone() for tensor in [*state.objective.parameters(), *momenta]]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_no_objective_moves_by_a_step_without_a_finite_loss(name: str) -> None:
    """Views with a value that is not a number, as a broken augmentation would give: BYOL's target
    does not move either.
    """
    state, before = make_state(name), []

    def broken(clips: Tensor, sizes: NDArray, keys: NDArray[np.uint64], view: int) -> Tensor:
        x = clips / 255
        if state.step == 2:
            before[:] = parameters_and_momenta(state)
            x[0, 0, 0, 0, 0] = torch.nan
        return x

    with pytest.raises(
        TrainingError,
        match=r"not finite at step 2 with orders .*: loss nan.* largest gradient is .*, of ",
    ):
        run(state, make_fit(augment=broken), real_batches(name))
    after = parameters_and_momenta(state)
    assert len(after) == len(before) > 0
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


# --- Going on -------------------------------------------------------------------------------------


class Stopped(Exception):
    pass


def stopping(batches: Iterator[Batch], after: int) -> Iterator[Batch]:
    yield from islice(batches, after)
    raise Stopped


@pytest.mark.parametrize("stop", [2, 6])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run_that_goes_on_from_its_state_ends_the_same_to_the_bit(name: str, stop: int) -> None:
    """In the middle of an epoch, into weights of another seed; with BYOL, the target network and
    its momentum's place.
    """
    job = make_fit(augment=AUGMENTATIONS["vididi"](SIZE))
    through = make_state(name)
    run(through, job, real_batches(name))

    first = make_state(name)
    with pytest.raises(Stopped):
        run(first, job, stopping(real_batches(name), stop))
    file = io.BytesIO()
    torch.save(
        {
            "objective": first.objective.state_dict(),
            "optimiser": first.optimiser.state_dict(),
            "step": first.step,
        },
        file,
    )
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    second = make_state(name, seed=1)
    second.objective.load_state_dict(saved["objective"])
    second.optimiser.load_state_dict(saved["optimiser"])
    second.step = saved["step"]
    run(second, job, real_batches(name, start=stop))

    assert (first.step, second.step) == (stop, 8)
    for name_, value in through.objective.state_dict().items():
        assert torch.equal(value, second.objective.state_dict()[name_]), name_


# --- Views ----------------------------------------------------------------------------------------


def parabolas(clips: int) -> Batch:
    """Frame t of clip c of video v is 20 v + 4 c + t^2 everywhere; the videos are rows 7, 3 and 9
    of the index.
    """
    v, c, t = np.ogrid[:3, :clips, : FRAMES + 2]
    pixels = np.broadcast_to(
        (20 * v + 4 * c + t**2)[..., None, None, None], (3, clips, FRAMES + 2, 2, 2, 3)
    ).astype(np.uint8)
    return Batch(
        np.array([7, 3, 9]),
        np.array([[2, 2], [2, 1], [1, 2]]),
        np.tile(np.arange(clips), (3, 1)),
        pixels,
    )


@pytest.mark.parametrize("clips", [2, 3, 4])
@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_view_holds_every_other_clip_video_by_video_differentiated_to_its_order(
    clips: int, which: int, order: int
) -> None:
    view = view_of(parabolas(clips), which, order, 1, make_fit(), CPU)
    chosen = [(v, c) for v in range(3) for c in range(which, clips, 2)]
    frames = {
        0: lambda v, c: [20 * v + 4 * c + t**2 for t in range(3)],
        1: lambda v, c: [1, 3, 5],
        2: lambda v, c: [2, 2, 2],
    }[order]
    assert view.shape == (len(chosen), 3, FRAMES, 2, 2)
    assert view[:, 0, :, 0, 0].tolist() == [frames(v, c) for v, c in chosen]
    assert (view == view[:, :1, :, :1, :1]).all()


@pytest.mark.parametrize("order", [0, 1, 2])
def test_a_shrinking_view_loses_a_frame_with_every_order(order: int) -> None:
    view = view_of(parabolas(2), 0, order, 1, make_fit(view_length="shrinking"), CPU)
    assert view[0, 0, :, 0, 0].tolist() == [[0, 1, 4], [1, 3], [2]][order]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_takes_shrinking_views_of_unequal_length(name: str) -> None:
    state, job = (
        make_state(name),
        make_fit(view_length="shrinking", augment=AUGMENTATIONS["vididi"](SIZE)),
    )
    history = run(state, job, real_batches(name))
    assert {pair[0] != pair[1] for pair in history[1]["train/pairs"].split()} == {True}
    assert np.isfinite([metrics["train/loss"] for metrics in history]).all()


@pytest.mark.parametrize("clips", [2, 3, 4])
def test_a_clip_s_key_follows_from_seed_epoch_video_and_its_number_in_the_video(clips: int) -> None:
    seen: list[tuple[list[int], list[list[int]], int]] = []

    def recording(pixels: Tensor, sizes: NDArray, keys: NDArray[np.uint64], view: int) -> Tensor:
        seen.append((keys.tolist(), sizes.tolist(), view))
        return pixels.float()

    job, batch = make_fit(augment=recording), parabolas(clips)
    for which in (0, 1):
        view_of(batch, which, 0, 6, job, CPU)
        rows = [
            (row, size, c)
            for row, size in zip([7, 3, 9], batch.sizes.tolist(), strict=True)
            for c in range(which, clips, 2)
        ]
        assert seen[-1] == (
            [int(key(Use.AUGMENT, 5, 6, row, c)) for row, _, c in rows],
            [size for _, size, _ in rows],
            which,
        )
    assert len({k for keys, _, _ in seen for k in keys}) == 3 * clips


@pytest.mark.parametrize("clips", [2, 3, 4])
@pytest.mark.parametrize("order", [0, 2])
def test_a_clip_is_augmented_the_same_in_whatever_batch_it_is(clips: int, order: int) -> None:
    job, whole = make_fit(augment=AUGMENTATIONS["vididi"](SIZE)), make_batch(0, clips)
    picked = [3, 1]
    part = Batch(whole.rows[picked], whole.sizes[picked], whole.starts[picked], whole.clips[picked])
    for which in (0, 1):
        views = view_of(whole, which, order, 1, job, CPU).unflatten(0, (VIDEOS, -1))
        torch.testing.assert_close(
            view_of(part, which, order, 1, job, CPU).unflatten(0, (2, -1)),
            views[picked],
            rtol=0,
            atol=1e-5,
        )
        other = view_of(whole, which, order, 2, job, CPU).unflatten(0, (VIDEOS, -1))
        assert (other - views).abs().amax(dim=(2, 3, 4, 5)).min() > 0.01


def test_a_report_is_one_line_and_on_a_terminal_lines_that_fit_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    metrics = {"epoch": 3, "step": 120, "train/loss": 1.2345678, "train/gradient_norm": 0.5} | {
        f"time/{name}": 0.125 for name in ("seconds_per_step", "data_share", "clips_per_second")
    }
    LocalContext().report(metrics)
    line = capsys.readouterr().out
    assert line.startswith("epoch 3  step 120  train/loss 1.235")
    assert line.count("\n") == 1

    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "60")
    LocalContext().report(metrics)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 1
    assert max(map(len, lines)) <= 60
    # No value is parted from its name.
    parts = [part.rsplit(" ", 1)[0] for text in lines for part in text.strip().split("  ")]
    assert parts == list(metrics)

    LocalContext(rank=1, world_size=2).report(metrics)
    assert not capsys.readouterr().out
