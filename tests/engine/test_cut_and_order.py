"""Cutting never loses or parts rows; the order comes from counters and can be gone on with anywhere."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.engine.attention import runs
from whet.engine.cut import cut, pack, total_weights
from whet.engine.measure import segment_sum
from whet.engine.order import permutation, seed_of, shuffled
from whet.types import Cursor, Row


def row(number: int, length: int) -> Row:
    ids = torch.arange(length) + 100 * number
    return Row(
        number,
        ids,
        {"supervised": torch.ones(length)},
        {"reward": float(number)},
        {"target": torch.tensor([number, 0.5])},
        {"lm": float(length)},
    )


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    sizes=st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=3), min_size=1, max_size=12), max_tokens=st.integers(1, 80)
)
def test_cutting_keeps_units_together_and_loses_no_row(sizes, max_tokens):
    counter = itertools.count()
    units = [tuple(row(next(counter), length) for length in unit) for unit in sizes]
    batches = list(cut(units, max_tokens))
    found = [number for batch in batches for number in batch.row_ids]
    assert sorted(found) == list(range(next(counter)))
    for unit in units:
        numbers = tuple(each.id for each in unit)
        home = next(batch.row_ids for batch in batches if numbers[0] in batch.row_ids)
        start = home.index(numbers[0])
        assert home[start : start + len(numbers)] == numbers, "a unit was parted, or its rows changed places"
    for batch in batches:
        whole = [unit for unit in units if unit[0].id in batch.row_ids]
        assert len(batch.ids) <= max_tokens or len(whole) == 1
        assert sum(batch.lengths) == len(batch.ids) == len(batch.positions)
    assert total_weights(batches) == {"lm": float(sum(map(sum, sizes)))}


def test_packed_fields_stand_where_their_rows_stand():
    batch = pack([row(3, 2), row(1, 3)])
    assert batch.ids.tolist() == [300, 301, 100, 101, 102]
    assert batch.positions.tolist() == [0, 1, 0, 1, 2]
    assert (batch.lengths, batch.row_ids) == ((2, 3), (3, 1))
    assert batch.scalars["reward"].tolist() == [3.0, 1.0]
    assert batch.vectors["target"].tolist() == [[3.0, 0.5], [1.0, 0.5]]
    assert batch.weights == {"lm": 5.0}
    assert segment_sum(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), batch).tolist() == [3.0, 28.0]


def test_neighbours_of_one_length_are_one_run():
    assert runs((2, 2, 3, 2)) == ((0, 2, 2), (4, 1, 3), (7, 1, 2))


def test_the_permutation_depends_on_seed_and_epoch_alone():
    first = permutation(7, 3, 100)
    np.random.default_rng(0).random(10)
    assert (permutation(7, 3, 100) == first).all()
    assert sorted(first) == list(range(100))
    assert (permutation(7, 4, 100) != first).any() and (permutation(8, 3, 100) != first).any()


@dataclass(frozen=True)
class Sizes:
    batch_size: int = 4
    num_steps: int = 100
    max_length: int = 64
    seed: int = 5


def drawn(units, plan, cursor, number):
    return [([unit[0].id for unit in step.units], step.after) for step in itertools.islice(shuffled(units, plan, cursor), number)]


@pytest.mark.parametrize("num_units", [1, 3, 4, 10])
def test_each_epoch_has_every_row_once_and_a_cursor_goes_on_from_anywhere(num_units):
    units, plan = [(row(number, 2),) for number in range(num_units)], Sizes()
    steps = drawn(units, plan, Cursor(), 12)
    per_epoch = -(-num_units // plan.batch_size)
    for epoch in range(12 // per_epoch):
        ids = [number for numbers, _ in steps[epoch * per_epoch : (epoch + 1) * per_epoch] for number in numbers]
        assert sorted(ids) == list(range(num_units))
    for done, (_, after) in enumerate(steps[:-1], start=1):
        assert drawn(units, plan, after, 12 - done) == steps[done:]


def test_no_row_at_all_is_an_error_and_not_an_endless_loop():
    with pytest.raises(AssertionError, match="no row"):
        next(shuffled([], Sizes(), Cursor()))


def test_seeds_of_names_differ_and_stay():
    # SeedSequence is specified to give the same words everywhere: numpy's compatibility policy
    assert seed_of(0, "head") == seed_of(0, "head")
    seeds = {seed_of(seed, name) for seed in range(20) for name in ("", "a", "b", "ab", "ba", "model.layers.0")}
    assert len(seeds) == 120 and all(0 <= seed < 2**63 for seed in seeds)
