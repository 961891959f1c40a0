"""The order of several tasks' rows, from counters: how often each task's turn comes, and which of its units is next.

Nothing is drawn that a cursor of two integers does not say, so that a mixture resumes to the bit as a single task does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal

import numpy as np

from whet.engine.order import permutation, seed_of
from whet.protocols import Plan
from whet.types import Cursor, Unit

By = Literal["size", "temperature", "weight"]


def turns(sizes: Mapping[str, int], by: By, temperature: float, weights: Mapping[str, float]) -> dict[str, int]:
    """Return how many units of each task an epoch has; together as many as there are units, and one of each at least.

    By size: each unit once. By temperature T: in proportion to size ** (1 / T), which is size at 1 and the same for all as T grows
    (Raffel et al. 2020, arXiv:1910.10683, section 3.5.2). By weight: in proportion to the tasks' weights.
    """
    total = sum(sizes.values())
    if by == "size":
        return dict(sizes)
    # as parts of the largest, none overflows, nor do all vanish
    most = max(weights[name] for name in sizes) if by == "weight" else max(sizes.values())
    parts = {name: weights[name] / most if by == "weight" else (size / most) ** (1 / temperature) for name, size in sizes.items()}
    whole = sum(parts.values())
    exact = {name: total * part / whole for name, part in parts.items()}
    found = {name: max(1, int(share)) for name, share in exact.items()}
    while (
        left := total - sum(found.values())
    ) != 0:  # the largest remainders are rounded up; what was below 1 is taken off the largest
        owed = {name: exact[name] - found[name] for name in found}
        name = max(owed, key=lambda one: owed[one]) if left > 0 else max(found, key=lambda one: (found[one], -owed[one]))
        found[name] += 1 if left > 0 else -1
    return found


def mixed(
    units: Mapping[str, Sequence[Unit]], num_turns: Mapping[str, int], plan: Plan, cursor: Cursor
) -> Iterator[tuple[list[Unit], Cursor]]:
    """Yield the units of one step after another, without end, and where to go on behind each.

    An epoch has `num_turns` units of each task, in an order of its own; a task goes through all its units before any comes again.
    The last step of an epoch may be smaller.
    """
    names = [name for name in units if units[name]]
    assert names, "there is no row to learn from"
    owners = np.repeat(np.arange(len(names)), [num_turns[name] for name in names])
    epoch, position = cursor.epoch, cursor.position
    while True:
        order = owners[permutation(plan.seed, epoch, len(owners))]
        done = [
            epoch * num_turns[name] + int((order[:position] == place).sum()) for place, name in enumerate(names)
        ]  # units that each task has had since the beginning
        own = [_own_order(units[name], seed_of(plan.seed, name), number) for name, number in zip(names, done, strict=True)]
        while position < len(order):
            chosen = [next(own[place]) for place in order[position : position + plan.batch_size].tolist()]
            position += len(chosen)
            yield chosen, Cursor(epoch, position) if position < len(order) else Cursor(epoch + 1, 0)
        epoch, position = epoch + 1, 0


def _own_order(units: Sequence[Unit], seed: int, done: int) -> Iterator[Unit]:
    """Yield a task's units without end, each time through in an order of its own, from so many on that are done."""
    epoch, place = divmod(done, len(units))
    while True:
        order = permutation(seed, epoch, len(units))
        for index in order[place:].tolist():
            yield units[index]
        epoch, place = epoch + 1, 0
