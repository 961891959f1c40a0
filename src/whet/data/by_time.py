"""Rows divided by time: the oldest are learnt from, the newest are judged on.

Shapes: U units of rows that are never parted.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from whet.errors import DataError


def by_time(newest: NDArray[np.float64], sizes: NDArray[np.int64], shares: Sequence[Fraction]) -> NDArray[Any]:
    """Return the part of each unit, by its number among `shares`, the oldest in the first. [U]

    A unit is as new as its newest row (`newest`, seconds); what is equally new stays together. Each part gets as near to its share of the
    rows as whole moments allow, and one moment at least. Raises DataError where there are fewer moments than parts.
    """
    moments, moment = np.unique(newest, return_inverse=True)
    if len(moments) < len(shares):
        raise DataError(
            f"data.time: the rows have {len(moments)} different time{'s' * (len(moments) != 1)} (rows that belong together count once, by "
            f"the newest), too few for {len(shares)} parts. Name a column with finer times, or take out data.time."
        )
    done = np.cumsum(np.bincount(moment, weights=sizes)).astype(np.int64)
    bounds: list[int] = []
    begin = 0
    for place in range(len(shares) - 1):
        wanted = sum(shares[: place + 1], Fraction(0)) * int(done[-1])
        last = len(moments) - (len(shares) - place - 1)  # each later part gets a moment at least
        after = begin + int(np.searchsorted(done[begin:last], math.ceil(wanted)))
        nearest = min({max(begin, after - 1), min(after, last - 1)}, key=lambda end: (abs(int(done[end]) - wanted), end))
        begin = nearest + 1
        bounds.append(begin)
    return np.searchsorted(bounds, moment, side="right")
