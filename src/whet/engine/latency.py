"""How long the same piece of work takes in several ways, measured in turn so that a busy moment hits all of them alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

FEWEST = 5
MOST = 25
ENOUGH_S = 12.0
"""Time after which no further round begins, once there were enough."""


def measure_in_turn(works: Sequence[Callable[[], object]], per: int = 1) -> list[list[float]]:
    """Return, for each piece of work, its times in milliseconds, one of each round, divided by `per`. One round before is not counted.

    Every second round goes backwards, so that none always comes after the same other one.
    """
    for work in works:
        work()
    times: list[list[float]] = [[] for _ in works]
    begun = time.perf_counter()
    for number in range(MOST):
        if number >= FEWEST and time.perf_counter() - begun > ENOUGH_S:
            break
        order = range(len(works)) if number % 2 == 0 else reversed(range(len(works)))
        for place in order:
            start = time.perf_counter()
            works[place]()
            times[place].append((time.perf_counter() - start) * 1e3 / per)
    return times
