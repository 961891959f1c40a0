"""Iterative stratification: rows of several labels divided so that each label keeps its share in every part.

Sechidis, Tsoumakas and Vlahavas 2011, On the Stratification of Multi-Label Data, algorithm 1. Here whole units are placed, and ties are
broken by the order of units and parts instead of a draw.

Shapes: U units, L labels, C pairs of a unit and one of its labels.
"""

from __future__ import annotations

import heapq
import math
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
STALE = 4
"""Entries of the queue for each label, above which those that say what is no longer so are taken out."""

MANY = 1 << 16
"""Units that are walked at a time."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """The labels of units, by number. Labels are numbered in the order of the alphabet."""

    num_labels: int
    begins: Ints
    """Where each unit's labels begin, and the end of the last one's. [U + 1]"""
    label: NDArray[np.int32]
    """[C]"""
    number: NDArray[np.int32]
    """How many of the unit's rows have the label. [C]"""

    @classmethod
    def of_sorted(cls, both: Ints, num_units: int, num_labels: int) -> Labelled:
        """Return what these numbers say, ascending: for each label of a row, that of the row's unit times `num_labels`, and the label's."""
        first = np.flatnonzero(np.diff(both, prepend=-1))
        number = np.diff(np.append(first, len(both))).astype(np.int32)
        unit, label = np.divmod(both[first], max(1, num_labels))
        return cls(num_labels, np.searchsorted(unit, np.arange(num_units + 1)), label.astype(np.int32), number)


def by_labels(labels: Sequence[Mapping[str, int]], sizes: Sequence[int], shares: Mapping[str, Fraction]) -> list[str]:
    """Return the part of each unit. `labels` are its labels, with how many of its rows have each; `sizes` are its rows."""
    names = sorted({label for some in labels for label in some})
    code = {name: number for number, name in enumerate(names)}
    begins = np.cumsum([0, *map(len, labels)], dtype=np.int64)
    numbers = ([code[label] for some in labels for label in some], [number for some in labels for number in some.values()])
    label, number = (np.array(some, np.int32) for some in numbers)
    parts = list(shares)
    placed = placed_by_labels(Labelled(len(names), begins, label, number), np.array(sizes, np.int64), list(shares.values()))
    return [parts[part] for part in placed.tolist()]


def placed_by_labels(labels: Labelled, sizes: Ints, shares: Sequence[Fraction]) -> NDArray[np.int16]:
    """Return the part of each unit, by its number among `shares`. `sizes` are its rows. [U]

    The label that fewest rows are left of goes first; each of its units goes to the part that lacks most rows of this label, of equal
    ones to that which lacks most rows.
    """
    unit = math.lcm(*(share.denominator for share in shares))
    whole = [int(share * unit) for share in shares]  # shares in whole numbers, so that the sums below are exact
    left = np.bincount(labels.label, weights=labels.number, minlength=labels.num_labels).astype(np.int64).tolist()
    lacking = [[share * number for share in whole] for number in left]
    lacking_rows = [share * int(sizes.sum()) for share in whole]
    part_of = array("h", [-1]) * len(sizes)
    holders = np.repeat(np.arange(len(sizes), dtype=np.int32), np.diff(labels.begins))[np.argsort(labels.label, kind="stable")]
    ends = np.cumsum(np.bincount(labels.label, minlength=labels.num_labels))

    def give(place: int, part: int) -> None:
        part_of[place] = part
        lacking_rows[part] -= int(sizes[place]) * unit
        some = slice(int(labels.begins[place]), int(labels.begins[place + 1]))
        for label, number in zip(labels.label[some].tolist(), labels.number[some].tolist(), strict=True):
            lacking[label][part] -= number * unit
            left[label] -= number
            heapq.heappush(queue, (left[label], label))
        if len(queue) > STALE * (len(left) + len(shares)):
            queue[:] = _queue(left)

    queue = _queue(left)
    while queue:
        number, label = heapq.heappop(queue)
        if number != left[label] or number == 0:
            continue
        wanted = lacking[label]
        for place in _each(holders[int(ends[label - 1]) if label else 0 : int(ends[label])]):
            if part_of[place] < 0:
                give(place, max(range(len(whole)), key=lambda part: (wanted[part], lacking_rows[part], -part)))
    for place, part in enumerate(part_of):
        if part < 0:
            give(place, max(range(len(whole)), key=lambda one: (lacking_rows[one], -one)))
    return np.array(part_of, np.int16)


def _each(numbers: NDArray[np.int32]) -> Iterator[int]:
    for begin in range(0, len(numbers), MANY):
        yield from numbers[begin : begin + MANY].tolist()


def _queue(left: Sequence[int]) -> list[tuple[int, int]]:
    """Return the labels that rows are left of, with how many, as a heap."""
    queue = [(number, label) for label, number in enumerate(left) if number]
    heapq.heapify(queue)
    return queue
