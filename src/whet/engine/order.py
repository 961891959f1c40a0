"""The order of rows, from counters: (seed, epoch) decide a permutation, so that a cursor of two integers can always go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from whet.protocols import Plan
from whet.types import Cursor, StepRows, Unit

FIXED = 2**63
"""The epoch of what is drawn once and stays so, such as the masks of validation; training never comes so far."""


def permutation(seed: int, epoch: int, size: int) -> NDArray[np.int64]:
    """Return the order of `size` units in an epoch; the same wherever and whenever it is asked for."""
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, 0, epoch]))
    return generator.permutation(size)


def shuffled(units: Sequence[Unit], plan: Plan, cursor: Cursor) -> Iterator[StepRows]:
    """Yield steps of `plan.batch_size` units without end, each epoch in an order of its own; the last of an epoch may be smaller."""
    assert units, "there is no row to learn from"
    epoch, position = cursor.epoch, cursor.position
    while True:
        order = permutation(plan.seed, epoch, len(units))
        while position < len(units):
            chosen = order[position : position + plan.batch_size]
            position += len(chosen)
            after = Cursor(epoch, position) if position < len(units) else Cursor(epoch + 1, 0)
            yield StepRows(tuple(units[index] for index in chosen), after)
        epoch, position = epoch + 1, 0


def seed_of(seed: int, name: str) -> int:
    """Return a seed for one named draw, such as the first values of a parameter."""
    digest = np.frombuffer(name.encode(), dtype=np.uint8)
    return int(np.random.SeedSequence([seed, *digest.tolist()]).generate_state(1, np.uint64)[0] >> np.uint64(1))
