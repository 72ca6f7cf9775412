"""Which of a search's candidates wins, and over which seeds they are compared."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vididi.cell_resources import Resources
from vididi.commands.tournament import best_of, compete, same_but_seed, with_seed
from vididi.config import build_config
from vididi.sweep import Cell

CELL = Cell(arm="a", label="a", axes={}, seed=0, config=build_config({}), resources=Resources())


@pytest.mark.parametrize("largest", [True, False])
def test_half_of_the_candidates_go_after_each_seed_and_the_best_of_the_last_wins(
    largest: bool,
) -> None:
    """Values by candidate and seed; the first is the best with the first seed alone, the second has
    the best mean of three.
    """
    sign = 1 if largest else -1
    reached = [[0.9, 0.1, 1.0], [0.7, 0.8, 0.6], [0.1, 1.0, 1.0], [0.6, 0.7, 0.5], [0.2, 1.0, 1.0]]
    candidates = [replace(CELL, arm=str(i)) for i in range(5)]
    asked: list[tuple[str, int]] = []

    def measure(cells: list[Cell]) -> list[float]:
        asked.extend((cell.arm, cell.config.training.seed) for cell in cells)
        return [sign * reached[int(cell.arm)][cell.config.training.seed] for cell in cells]

    values = compete(candidates, [0, 1, 2], measure, largest)
    assert asked == [
        *((arm, 0) for arm in "01234"),
        *((arm, 1) for arm in "013"),
        *((arm, 2) for arm in "13"),
    ]
    assert values == [
        [sign * value for value in own[:seeds]]
        for own, seeds in zip(reached, (2, 3, 1, 3, 1), strict=True)
    ]
    assert best_of(values, largest) == 1


def test_cells_that_differ_by_seed_alone_are_the_same_point() -> None:
    other = replace(CELL, config=build_config({"objective": {"name": "byol"}}))
    assert same_but_seed(CELL, with_seed(CELL, 7))
    assert not same_but_seed(CELL, with_seed(other, 0))
