"""The laws of a schedule of the learning rate, for the built-in ones and for your own: `check_schedule(MySchedule())`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

from whet.protocols import Schedule

LENGTHS = ((1, 0), (1, 1), (2, 1), (7, 0), (7, 7), (50, 3), (1000, 60))
"""(steps, warm-up steps) to try."""


def check_schedule(schedule: Schedule) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in SCHEDULE_LAWS:
        law(schedule)


def factors_are_shares(schedule: Schedule) -> None:
    """Every factor is a number from 0 to 1, and the first step learns something."""
    for num_steps, num_warmup, factors in _curves(schedule):
        for step, factor in enumerate(factors, start=1):
            fine = math.isfinite(factor) and 0 <= factor <= 1
            assert fine, f"step {step} of {num_steps} ({num_warmup} of warm-up): the factor is {factor}, allowed: 0 to 1"
        assert factors[0] > 0, f"the first of {num_steps} steps ({num_warmup} of warm-up) has factor 0, so it is wasted"


def peak_is_reached(schedule: Schedule) -> None:
    """The learning rate of the recipe is the largest one used: at the end of the warm-up, or at the first step without one."""
    for num_steps, num_warmup, factors in _curves(schedule):
        peak = factors[max(0, num_warmup - 1)]
        assert math.isclose(peak, 1.0), f"of {num_steps} steps, {num_warmup} of warm-up, the peak has factor {peak}, not 1"


def warmup_rises(schedule: Schedule) -> None:
    """During the warm-up each factor is larger than the one before."""
    for num_steps, num_warmup, factors in _curves(schedule):
        warm = factors[:num_warmup]
        rising = all(early < late for early, late in itertools.pairwise(warm))
        assert rising, f"the warm-up of {num_warmup} in {num_steps} steps does not rise: {warm[:8]}"


def last_step_learns(schedule: Schedule) -> None:
    """The last step has a rate above 0: a step without one computes for nothing."""
    for num_steps, num_warmup, factors in _curves(schedule):
        assert factors[-1] > 0, f"the last of {num_steps} steps ({num_warmup} of warm-up) has factor 0, so it is wasted"


def factor_is_pure(schedule: Schedule) -> None:
    """A factor depends on its arguments only, so that a resumed run goes on with the same rates."""
    for num_steps, num_warmup, factors in _curves(schedule):
        again = [schedule.factor(step, num_steps, num_warmup) for step in range(num_steps, 0, -1)][::-1]
        assert again == factors, f"asked backwards, the factors of {num_steps} steps are others"


SCHEDULE_LAWS = (factors_are_shares, peak_is_reached, warmup_rises, last_step_learns, factor_is_pure)


def _curves(schedule: Schedule) -> Iterator[tuple[int, int, list[float]]]:
    for num_steps, num_warmup in LENGTHS:
        yield num_steps, num_warmup, [schedule.factor(step, num_steps, num_warmup) for step in range(1, num_steps + 1)]
