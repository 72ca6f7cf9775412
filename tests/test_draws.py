"""Counter-based draws: pure functions of integers, pinned so that a change of the generator is
noticed.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from vididi.draws import Use, key, permutation, uniform


def test_uniform_is_the_published_splitmix64_stream() -> None:
    published = [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert uniform(1234567, 5).tolist() == [(bits >> 11) / 2**53 for bits in published]


@pytest.mark.parametrize(
    ("use", "counters", "expected"),
    [
        (Use.PAIR, (0, 0), 0xB18A02F46D8D86C3),
        (Use.AUGMENT, (3, 7, 11, 1), 0x16A6828F67A1D2D1),
        (Use.SHUFFLE, (12345,), 0x2B5B5F81501F74EF),
    ],
)
def test_keys_are_pinned(use: Use, counters: tuple[int, ...], expected: int) -> None:
    assert int(key(use, *counters)) == expected


def test_uniform_is_pinned() -> None:
    assert uniform(key(Use.PAIR, 0, 0), 3).tolist() == [
        0.8847898165349132,
        0.4031673789960992,
        0.8382649215811694,
    ]


def test_a_permutation_is_pinned() -> None:
    assert permutation(8, Use.SHUFFLE, 0, 1).tolist() == [6, 0, 7, 1, 4, 3, 5, 2]


def test_the_numbers_of_uses_are_pinned() -> None:
    named = (
        Use.PAIR,
        Use.SHUFFLE,
        Use.CLIP,
        Use.AUGMENT,
        Use.EVALUATION_CROP,
        Use.MOTION,
        Use.INITIAL_WEIGHTS,
    )
    assert [use.value for use in named] == [1, 2, 3, 4, 5, 6, 7]


def test_an_element_does_not_depend_on_what_it_is_drawn_with() -> None:
    together = uniform(key(Use.CLIP, 5, np.arange(100)), 4)
    alone = np.stack([uniform(key(Use.CLIP, 5, i), 4) for i in range(100)])
    np.testing.assert_array_equal(together, alone)
    np.testing.assert_array_equal(together[:, :2], uniform(key(Use.CLIP, 5, np.arange(100)), 2))


def test_counters_broadcast() -> None:
    keys = key(Use.AUGMENT, 0, np.arange(3)[:, None], np.arange(4))
    assert keys.shape == (3, 4)
    assert keys.dtype == np.uint64
    assert keys[2, 1] == key(Use.AUGMENT, 0, 2, 1)
    assert key(Use.AUGMENT, 0).shape == ()


def test_uniform_adds_one_axis() -> None:
    assert uniform(key(Use.AUGMENT, 0), 5).shape == (5,)
    assert uniform(key(Use.AUGMENT, np.zeros((2, 3), dtype=np.int64)), 5).shape == (2, 3, 5)
    assert uniform(key(Use.AUGMENT, np.arange(2)), 0).shape == (2, 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_the_integer_type_of_a_counter_does_not_matter(dtype: type) -> None:
    np.testing.assert_array_equal(
        key(Use.CLIP, np.arange(9, dtype=dtype)), key(Use.CLIP, np.arange(9))
    )


def test_the_place_of_a_counter_matters() -> None:
    assert (
        len({int(key(Use.CLIP, *counters)) for counters in itertools.permutations((0, 1, 2))}) == 6
    )
    assert key(Use.CLIP, 0) != key(Use.CLIP, 0, 0)


def test_many_keys_do_not_collide() -> None:
    keys = [key(use, np.arange(30)[:, None], np.arange(300)) for use in Use]
    assert len(np.unique(keys)) == len(Use) * 30 * 300


@pytest.mark.parametrize("use", Use)
def test_uniform_has_the_moments_of_the_unit_interval(use: Use) -> None:
    draws = uniform(key(use, 0, np.arange(20000)), 3)
    assert draws.min() >= 0
    assert draws.max() < 1
    np.testing.assert_allclose(draws.mean(axis=0), 0.5, atol=0.01)
    np.testing.assert_allclose(draws.var(axis=0), 1 / 12, atol=0.003)
    counts = np.histogram(draws[:, 0], bins=20, range=(0, 1))[0]
    assert ((counts - 1000) ** 2 / 1000).sum() < 43.8  # the 0.999 quantile of 19 degrees of freedom


def test_columns_neighbours_and_uses_are_uncorrelated() -> None:
    columns = [uniform(key(use, 0, np.arange(20000)), 2) for use in Use]
    neighbours = uniform(key(Use.PAIR, 0, np.arange(1, 20001)), 1)
    correlations = np.corrcoef(np.concatenate([*columns, neighbours], axis=1), rowvar=False)
    assert np.abs(correlations - np.eye(len(correlations))).max() < 0.03


@pytest.mark.parametrize("size", [0, 1, 2, 7, 100, 1000])
def test_permutation_is_a_permutation(size: int) -> None:
    assert sorted(permutation(size, Use.SHUFFLE, 3, 4).tolist()) == list(range(size))


def test_permutation_follows_from_its_counters() -> None:
    np.testing.assert_array_equal(
        permutation(50, Use.SHUFFLE, 0, 1), permutation(50, Use.SHUFFLE, 0, 1)
    )
    others = [
        permutation(50, Use.SHUFFLE, 0, 2),
        permutation(50, Use.SHUFFLE, 1, 1),
        permutation(50, Use.CLIP, 0, 1),
    ]
    assert all((permutation(50, Use.SHUFFLE, 0, 1) != other).any() for other in others)


def test_every_permutation_of_four_is_equally_likely() -> None:
    counts = np.zeros((4, 4))
    for epoch in range(4000):
        counts[np.arange(4), permutation(4, Use.SHUFFLE, 0, epoch)] += 1
    np.testing.assert_allclose(counts / 4000, 0.25, atol=0.03)
