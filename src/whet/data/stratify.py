"""Iterative stratification: rows of several labels divided so that each label keeps its share in every part.

Sechidis, Tsoumakas and Vlahavas 2011, On the Stratification of Multi-Label Data, algorithm 1. Here whole units are placed, and ties are
broken by the order of units and parts instead of a draw.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction


def by_labels(labels: Sequence[Mapping[str, int]], sizes: Sequence[int], shares: Mapping[str, Fraction]) -> list[str]:
    """Return the part of each unit. `labels` are its labels, with how many of its rows have each; `sizes` are its rows.

    The label that fewest rows are left of goes first; each of its units goes to the part that lacks most rows of this label, of equal
    ones to that which lacks most rows.
    """
    unit = math.lcm(*(share.denominator for share in shares.values()))
    names = list(shares)
    whole = [int(shares[name] * unit) for name in names]  # shares in whole numbers, so that the sums below are exact
    total: Counter[str] = Counter()
    holders: dict[str, list[int]] = {}
    for place, counts in enumerate(labels):
        for label, number in counts.items():
            total[label] += number
            holders.setdefault(label, []).append(place)
    lacking = {label: [share * number for share in whole] for label, number in total.items()}
    lacking_rows = [share * sum(sizes) for share in whole]
    part_of: list[int | None] = [None] * len(labels)
    left = Counter(total)

    def give(place: int, part: int) -> None:
        part_of[place] = part
        lacking_rows[part] -= sizes[place] * unit
        for label, number in labels[place].items():
            lacking[label][part] -= number * unit
            left[label] -= number
            heapq.heappush(queue, (left[label], label))

    queue = [(number, label) for label, number in total.items()]
    heapq.heapify(queue)
    while queue:
        number, label = heapq.heappop(queue)
        if number != left[label] or number == 0:
            continue
        for place in holders[label]:
            if part_of[place] is None:
                give(place, max(range(len(names)), key=lambda part: (lacking[label][part], lacking_rows[part], -part)))
    for place, part in enumerate(part_of):
        if part is None:
            give(place, max(range(len(names)), key=lambda one: (lacking_rows[one], -one)))
    return [names[part] for part in part_of if part is not None]
