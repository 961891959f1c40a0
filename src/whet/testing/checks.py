"""The laws of a check, for the built-in ones and for your own: `check_check(MyCheck())`.

A law is a function of (check, kind of values) that raises AssertionError. Draws are seeded.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import binom

from whet.protocols import Check

if TYPE_CHECKING:
    from numpy.random import Generator

    from whet.types import Values

LEVEL, DRAWS = 0.1, 120


def check_check(check: Check) -> None:
    """Raise AssertionError at the first law that does not hold."""
    assert check.takes, "it says of nothing that it takes it"
    for kind in check.takes:
        assert kind in _KINDS, f"it takes '{kind}'; there are {', '.join(_KINDS)}"
        for law in CHECK_LAWS:
            law(check, kind)


def false_alarms_stay_within_the_level(check: Check, kind: str) -> None:
    """Of draws where nothing has drifted, at most the level's share is below it, but for what chance allows once in 10,000."""
    below = 0
    for seed in range(DRAWS):
        generator = np.random.default_rng(seed)
        size = (60, 240)[seed % 2]
        below += check.p_value(_draw(kind, generator, size, 0.0), _draw(kind, generator, 150, 0.0)) <= LEVEL
    most = int(binom.ppf(1 - 1e-4, DRAWS, LEVEL))
    assert below <= most, f"{kind}: {below} of {DRAWS} draws without drift are below the level of {LEVEL}; at most {most} may be"


def a_planted_drift_is_found(check: Check, kind: str) -> None:
    """A drift that anybody would see raises the alarm, also at what a level of 5 % leaves to each of a hundred tests."""
    for seed in range(5):
        generator = np.random.default_rng(1000 + seed)
        window, baseline = _draw(kind, generator, 300, 2.0), _draw(kind, generator, 300, 0.0)
        score, p_value = check.measure(window, baseline), check.p_value(window, baseline)
        assert check.alarm(score, p_value, 0.0005), f"{kind}: a large drift raises no alarm: {score}, p = {p_value}"


def a_measure_is_whole(check: Check, kind: str) -> None:
    """Its numbers are finite, the interval holds the value, more drift is more, and asked again it is the same."""
    values = []
    for shift in (0.0, 0.7, 2.0):
        window, baseline = (_draw(kind, np.random.default_rng(seed), 200, move) for seed, move in ((7, shift), (8, 0.0)))
        score = check.measure(window, baseline)
        assert all(math.isfinite(number) for number in (score.value, score.low, score.high)), f"{kind}: {score} is not finite"
        assert score.low <= score.value <= score.high and score.n == 200, f"{kind}: {score} is no interval around its value"
        assert score == check.measure(window, baseline), f"{kind}: measured again it is another number"
        p_value = check.p_value(window, baseline)
        assert 0 <= p_value <= 1 and p_value == check.p_value(window, baseline), f"{kind}: p = {p_value}, and not always"
        values.append(score.value)
    assert values[0] < values[1] < values[2], f"{kind}: no, a small and a large drift measure {values}"


def sameness_is_no_alarm(check: Check, kind: str) -> None:
    """The same values on both sides, or one value only, are no drift and no failure."""
    same = _draw(kind, np.random.default_rng(3), 80, 0.0)
    one: Values = ["a"] * 80 if kind == "categories" else np.ones(80) if kind == "numbers" else np.ones((80, 4))
    for values in (same, one):
        score, p_value = check.measure(values, values), check.p_value(values, values)
        assert not check.alarm(score, p_value, 0.05), (
            f"{kind}: the same values on both sides raise an alarm: {score}, p = {p_value}"
        )


CHECK_LAWS: tuple[Callable[[Check, str], None], ...] = (
    false_alarms_stay_within_the_level,
    a_planted_drift_is_found,
    a_measure_is_whole,
    sameness_is_no_alarm,
)


def _numbers(generator: Generator, size: int, shift: float) -> Values:
    """Lengths of texts, in whole numbers, that become longer."""
    return np.floor(np.exp(generator.normal(4 + 0.5 * shift, 0.6, size)))


def _categories(generator: Generator, size: int, shift: float) -> Values:
    """Labels of which two become more frequent."""
    weights = np.array([0.4, 0.25, 0.15, 0.1, 0.06, 0.04]) * np.array([1, 1, 1, 1 + shift, 1 + 4 * shift, 1])
    return [str(name) for name in generator.choice(list("abcdef"), size, p=weights / weights.sum())]


def _vectors(generator: Generator, size: int, shift: float) -> Values:
    """A cloud that moves in one of eight directions."""
    drawn = generator.normal(size=(size, 8))
    drawn[:, 0] += shift
    return drawn


_KINDS: dict[str, Callable[[Generator, int, float], Values]] = {
    "numbers": _numbers,
    "categories": _categories,
    "vectors": _vectors,
}


def _draw(kind: str, generator: Generator, size: int, shift: float) -> Values:
    return _KINDS[kind](generator, size, shift)
