"""Two gloo workers with half a batch each are one worker with the whole batch, for every
objective.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from small_objectives import small_cases
from torch import Tensor, nn

from vididi.backbones import BACKBONES, known_orders
from vididi.backbones.view_passes import ViewPasses
from vididi.objectives import OBJECTIVES, Objective
from vididi.optim import LARS
from vididi.training.context import LocalContext
from vididi.training.distributed import SyncBatchNorm, gather, synchronise_batch_norm
from vididi.training.loop import distribute

WORKERS = 2
BATCH = 8
STEPS = 3
TOLERANCE = 1e-9  # float64; the promise is 1e-6
PAIRS = [(0, 1), (2, 0), (1, 1)]  # of the steps; of no consequence but where norm is per_order
INPUTS = {"2d": (BATCH, 5), "5d": (BATCH, 5, 2, 3, 3)}

# Each worker holds one group of CORP_m whole.
CASES = small_cases(out=12, symmetric=5, antisymmetric=4, group=BATCH // WORKERS)
# Nothing depends on it: BYOL's loss is of the predictor's output, whose batch normalisation takes
# away what is added to its input.
WITHOUT_EFFECT = {"byol": {"projector.3.bias", "target.1.3.bias"}}

Result = dict[str, Any]


def make_views(step: int, clips: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two unlike views and starts: clips 0, 2, ... of each video, video by video, and clips 1, 3,
    ...
    """
    generator = torch.Generator().manual_seed(step)
    base = torch.randn(BATCH, 1, 3, 4, 16, 16, dtype=torch.float64, generator=generator)
    noise = torch.randn(BATCH, clips, 3, 4, 16, 16, dtype=torch.float64, generator=generator)
    starts = torch.rand(BATCH, clips, generator=generator).argsort(dim=1)
    view_a, view_b = base + 0.5 * noise[:, 0::2], 2 * base + 0.5 * noise[:, 1::2]
    return view_a.flatten(0, 1), view_b.flatten(0, 1), starts


def make_objective(case: str, norm: str = "shared") -> Objective:
    torch.manual_seed(0)
    name, _, options = CASES[case]
    backbone = BACKBONES["r3d_tiny"](width=2, norm=norm)
    return OBJECTIVES[name](*backbone, **options).double()  # type: ignore[call-arg]


def share(x: Tensor, context: LocalContext) -> Tensor:
    return x.chunk(context.world_size)[context.rank]


def pretrain(
    case: str,
    context: LocalContext,
    wrong_gather: Callable[[Tensor], Tensor] | None = None,
    norm: str = "shared",
    passes: ViewPasses = "two",
) -> Result:
    """Three steps as the loop takes them: the optimiser is made before the objective is
    distributed.
    """
    alone = make_objective(case, norm)
    alone.view_passes = passes
    optimiser = LARS(
        [p for p in alone.parameters() if p.requires_grad], lr=0.5, trust=0.02, weight_decay=1e-3
    )
    model, objective = distribute(alone, context), alone
    objective.train()
    if wrong_gather is not None:
        objective.gather = wrong_gather
    losses, gradients = [], []
    for step in range(STEPS):
        view_a, view_b, starts = (share(p, context) for p in make_views(step, CASES[case][1]))
        with known_orders((view_a, PAIRS[step][0]), (view_b, PAIRS[step][1])):
            terms = model(view_a, view_b, starts)
        optimiser.zero_grad(set_to_none=True)
        terms["loss"].backward()
        losses.append({name: term.detach() for name, term in terms.items()})
        gradients.append(
            {name: p.grad.clone() for name, p in objective.named_parameters() if p.grad is not None}
        )
        optimiser.step()
        objective.after_step(step, STEPS)
    return {"losses": losses, "gradients": gradients, "weights": objective.state_dict()}


def averaging_gather(x: Tensor) -> Tensor:
    """The classic bug: the same values, but the gradient divided by the number of workers once
    more.
    """
    gathered = gather(x)
    return gathered / WORKERS + gathered.detach() * (1 - 1 / WORKERS)


def own_gather(x: Tensor) -> Tensor:
    """Another: the gradient of one's own loss only, without those of the other workers' losses for
    one's rows.
    """
    parts = list(gather(x).detach().chunk(WORKERS))
    parts[dist.get_rank()] = x
    return torch.cat(parts)


WRONG_GATHERS = {"averaging": averaging_gather, "own": own_gather}


def normalise_once(shape: tuple[int, ...], context: LocalContext) -> Result:
    """One training pass of batch normalisation: output, gradients and running statistics."""
    torch.manual_seed(1)
    whole, cotangent = torch.randn(2, *shape, dtype=torch.float64)
    norm: nn.Module = (nn.BatchNorm1d if len(shape) == 2 else nn.BatchNorm3d)(
        shape[1], dtype=torch.float64
    )
    nn.init.normal_(norm.weight)  # type: ignore[arg-type]
    nn.init.normal_(norm.bias)  # type: ignore[arg-type]
    if context.world_size > 1:
        norm = synchronise_batch_norm(norm)
    x = share(3 * whole + 2, context).clone().requires_grad_()
    y = norm(x)
    (y * share(cotangent, context)).sum().backward()
    # Each worker's loss is its share of the whole, so the parameters' gradients are a sum over
    # workers.
    return {
        "y": y.detach(),
        "x": x.grad,
        "weight": norm.weight.grad,
        "bias": norm.bias.grad,
        "state": norm.state_dict(),
    }


def gather_once(context: LocalContext) -> Result:
    """The gradient of a sum that weighs each gathered row differently on each worker."""
    x = (torch.arange(6, dtype=torch.float64).view(3, 2) + 10 * context.rank).requires_grad_()
    gathered = gather(x)
    weights = torch.arange(12, dtype=torch.float64).view(6, 2) * (1 + context.rank)
    (gathered * weights).sum().backward()
    return {"gathered": gathered.detach(), "gradient": x.grad}


def work(rank: int, folder: Path, cases: list[str]) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORKERS
    )
    context = LocalContext(rank, WORKERS)
    results = {
        **{case: pretrain(case, context) for case in cases},
        **{f"{case} by order": pretrain(case, context, norm="per_order") for case in cases},
        **{
            f"{case} in one pass": pretrain(case, context, norm="per_order", passes="one")
            for case in cases
        },
        **{
            f"{wrong} {case}": pretrain(case, context, gather)
            for wrong, gather in WRONG_GATHERS.items()
            for case in cases
        },
        "gather": gather_once(context),
        **{name: normalise_once(shape, context) for name, shape in INPUTS.items()},
    }
    torch.save(results, folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def workers(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[Result]:
    """What each worker found, of the cases that this session tests."""
    folder = tmp_path_factory.mktemp("workers")
    asked = {
        item.callspec.params.get("case")
        for item in request.session.items
        if hasattr(item, "callspec")
    }
    mp.spawn(work, (folder, [case for case in CASES if case in asked]), nprocs=WORKERS)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(WORKERS)]


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def alone(case: str) -> Result:
    return pretrain(case, LocalContext())


def assert_same(result: Any, expected: Any) -> None:
    torch.testing.assert_close(result, expected, rtol=0, atol=TOLERANCE)


def test_every_worker_has_the_terms_of_the_whole_batch(
    case: str, workers: list[Result], alone: Result
) -> None:
    for worker in workers:
        assert_same(worker[case]["losses"], alone["losses"])


def test_the_first_gradients_are_those_of_the_whole_batch(
    case: str, workers: list[Result], alone: Result
) -> None:
    trained = [name for name, p in make_objective(case).named_parameters() if p.requires_grad]
    assert list(alone["gradients"][0]) == trained
    for worker in workers:
        assert_same(worker[case]["gradients"][0], alone["gradients"][0])


def test_the_gradients_stay_those_of_the_whole_batch(
    case: str, workers: list[Result], alone: Result
) -> None:
    for worker in workers:
        assert_same(worker[case]["gradients"], alone["gradients"])


def test_weights_and_running_statistics_after_three_steps_are_the_same(
    case: str, workers: list[Result], alone: Result
) -> None:
    """BYOL's target network and its statistics are among them."""
    assert list(alone["weights"]) == list(make_objective(case).state_dict())
    for worker in workers:
        assert_same(worker[case]["weights"], alone["weights"])


def test_statistics_of_each_order_after_three_steps_are_the_same(
    case: str, workers: list[Result], alone: Result
) -> None:
    """BYOL's target network and its statistics are among them."""
    by_order = pretrain(case, LocalContext(), norm="per_order")
    for worker in workers:
        assert_same(worker[f"{case} by order"]["weights"], by_order["weights"])
    counts = {
        name: value[:3].tolist()
        for name, value in by_order["weights"].items()
        if name.endswith("num_batches_tracked_by_order")
    }
    assert counts
    assert all(count == [3, 1, 0] for count in counts.values())
    # Training is that of one set of statistics for all orders.
    assert_same(by_order["losses"], alone["losses"])


def test_one_pass_for_both_views_is_a_pass_for_each(case: str, workers: list[Result]) -> None:
    """Statistics of each order and BYOL's target network included, alone and on two workers."""
    expected = pretrain(case, LocalContext(), norm="per_order")
    alone = pretrain(case, LocalContext(), norm="per_order", passes="one")
    for result in (alone, *(worker[f"{case} in one pass"] for worker in workers)):
        assert_same(result, expected)


def test_the_workers_agree_to_the_bit(case: str, workers: list[Result]) -> None:
    torch.testing.assert_close(workers[0][case], workers[1][case], rtol=0, atol=0)


def test_everything_changes_in_three_steps(case: str, workers: list[Result], alone: Result) -> None:
    """Weights, the target network's too, and running statistics: what stayed as it was could not be
    told apart.
    """
    begin = make_objective(case).state_dict()
    for weights in (alone["weights"], workers[0][case]["weights"]):
        still = {
            name
            for name, value in begin.items()
            if torch.allclose(value, weights[name], rtol=0, atol=1e3 * TOLERANCE)
        }
        assert still == WITHOUT_EFFECT.get(case, set()), (
            "if nothing depends on these, say so in WITHOUT_EFFECT, and why"
        )


@pytest.mark.parametrize("wrong", WRONG_GATHERS)
def test_a_wrong_gather_does_not_pass(
    case: str, wrong: str, workers: list[Result], alone: Result
) -> None:
    """Its losses are right in the first step, which is why gradients and weights are compared."""
    for worker in workers:
        result = worker[f"{wrong} {case}"]
        assert_same(result["losses"][0], alone["losses"][0])
        for part in ("gradients", "weights"):
            with pytest.raises(AssertionError, match="not close"):
                assert_same(result[part], alone[part])


def test_gather_is_in_rank_order_on_every_worker(workers: list[Result]) -> None:
    rows = torch.arange(6, dtype=torch.float64).view(3, 2)
    for worker in workers:
        assert torch.equal(worker["gather"]["gathered"], torch.cat([rows, rows + 10]))


def test_gather_gives_back_the_sum_of_all_workers_gradients(workers: list[Result]) -> None:
    total = torch.arange(12, dtype=torch.float64).view(6, 2) * 3
    for rank, worker in enumerate(workers):
        assert torch.equal(worker["gather"]["gradient"], total.chunk(WORKERS)[rank])


@pytest.mark.parametrize("name", INPUTS)
def test_synchronised_batch_norm_is_batch_norm_of_the_whole_batch(
    workers: list[Result], name: str
) -> None:
    expected = normalise_once(INPUTS[name], LocalContext())
    for part in ("y", "x"):
        assert_same(torch.cat([worker[name][part] for worker in workers]), expected[part])
    for part in ("weight", "bias"):
        assert_same(sum(worker[name][part] for worker in workers), expected[part])
    for worker in workers:
        assert_same(worker[name]["state"], expected["state"])


def make_norms() -> nn.Sequential:
    """Batch normalisations with statistics and weights of their own."""
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv3d(3, 4, 1),
        nn.BatchNorm3d(4),
        nn.Sequential(nn.BatchNorm3d(4, eps=1e-3, momentum=0.3), nn.ReLU()),
    )
    network(torch.randn(6, 3, 2, 4, 4))
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    return network


@pytest.mark.parametrize("before", [False, True], ids=["eval after", "eval before"])
def test_in_evaluation_mode_it_equals_batch_norm(before: bool) -> None:
    plain = make_norms().eval()
    twin = (
        synchronise_batch_norm(make_norms().eval())
        if before
        else synchronise_batch_norm(make_norms()).eval()
    )
    x = torch.randn(5, 3, 2, 4, 4)
    assert torch.equal(twin(x), plain(x))


def test_every_batch_norm_is_replaced_and_the_state_keeps_its_names_and_values() -> None:
    plain = make_norms()
    twin = synchronise_batch_norm(copy.deepcopy(plain))
    assert not [m for m in twin.modules() if isinstance(m, (nn.BatchNorm1d, nn.BatchNorm3d))]
    settings = [
        (m.eps, m.momentum, m.num_features) for m in twin.modules() if isinstance(m, SyncBatchNorm)
    ]
    assert settings == [(1e-5, 0.1, 4), (1e-3, 0.3, 4)]
    assert list(twin.state_dict()) == list(plain.state_dict())
    torch.testing.assert_close(twin.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_the_parameters_stay_the_ones_that_an_optimiser_already_holds() -> None:
    network = make_norms()
    held = list(network.parameters())
    twin = synchronise_batch_norm(network)
    assert [id(p) for p in twin.parameters()] == [id(p) for p in held]


def test_alone_the_objective_stays_as_it_is() -> None:
    objective = make_objective("vicreg")
    assert distribute(objective, LocalContext()) is objective
    assert not [m for m in objective.modules() if isinstance(m, SyncBatchNorm)]


def test_an_input_without_channels_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[B, C, ...\]"):
        SyncBatchNorm(3)(torch.zeros(3))
