"""How far ahead a challenger must be to count as better, so that one champion tried again and again does not fall to luck."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from whet.registry import CHAMPION
from whet.report.scores import Measured, Resampling
from whet.report.verdict import Comparison
from whet.stats import renumbered

FALSE_PROMOTIONS = 0.01
"""Chance that any of a champion's challengers, however many, counts as better without being so."""

THROWS = 1 / (4 * (1 - NormalDist().cdf(math.sqrt(2))))
"""3.18: a weighted sum of throws lies beyond any bound at most so many times as often as a normal variable of its spread."""


def spent(number: int) -> float:
    """Return the share of that chance for the challenger of this number, from 1 on. All shares, without end, add up to the whole."""
    return FALSE_PROMOTIONS * 6 / (math.pi * number) ** 2


def is_better(one: Measured, found: Comparison, needed: float | None) -> bool:
    """Whether a challenger is surely better than its champion: by the interval of the difference, and by the lead that is needed, if any."""
    ahead = found.difference.value * (1 if one.metric.higher_is_better else -1)
    return found.decision == "better" and (needed is None or ahead >= needed)


def lead_needed(one: Measured, number: int, resampling: Resampling) -> float:
    """Return the least lead over the champion at which the challenger of this number counts as better, in the metric's unit.

    Where neither is better, which of a row's two answers is whose is a coin's throw. A metric that is a mean over rows is then so many
    spreads ahead with at most THROWS times the chance of a normal variable, for any number of rows and at any size (Bentkus and
    Dzindzalieta 2015, theorem 1.1); for other metrics that is an approximation. The sum over all challengers is the union bound, so
    they may be alike and share rows. Infinite where the metric is undefined for most throws.
    """
    return NormalDist().inv_cdf(1 - spent(number) / THROWS) * thrown_spread(one, resampling)


def thrown_spread(one: Measured, resampling: Resampling) -> float:
    """Return the root mean square of the difference where a coin decides for each row which answer is the challenger's."""
    ours, theirs = np.split(renumbered(np.concatenate([one.tuned, one.baselines[CHAMPION]])), 2)
    draw, found = np.random.default_rng(resampling.seed), []
    for _ in range(resampling.resamples):
        heads = draw.integers(0, 2, (len(ours), 1)).astype(bool)
        found.append(one.metric.reduce(np.where(heads, ours, theirs)) - one.metric.reduce(np.where(heads, theirs, ours)))
    known = [change for change in found if math.isfinite(change)]
    return math.sqrt(sum(change**2 for change in known) / len(known)) if 2 * len(known) > len(found) else math.inf
