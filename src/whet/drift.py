"""What checks for drift share: counts over bins and categories, tests by redrawing, and correction for many tests.

Shapes: N values of the window, M of the baseline, B bins or categories, R redraws.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from whet.stats import TAIL
from whet.types import Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whet.types import Values

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Distance = Callable[[Ints, Ints], Floats]
    """Counts of window and baseline, [R, B] each, to how far apart they lie. [R]"""

OTHER = "(other)"
FEWEST_EXPECTED = 5.0
"""Expected count below which categories go together: Cochran's rule for the chi-square distribution."""
FEW = 10
"""Draws at least so far apart below which a p-value asks for more draws."""
BLOCKS = 20
CLOSE = 1e-12
"""Distances that differ by less are the same."""


def quantile_counts(window: Floats, baseline: Floats, bins: int) -> tuple[Ints, Ints]:
    """Count both in bins that hold equally many of the baseline; values that repeat make fewer bins. [N], [M] -> [B], [B]"""
    edges = np.unique(np.quantile(baseline, np.linspace(0, 1, bins + 1)[1:-1]))
    width = len(edges) + 1
    found = [np.bincount(np.searchsorted(edges, values, side="left"), minlength=width) for values in (window, baseline)]
    return found[0].astype(np.int64), found[1].astype(np.int64)


def category_counts(window: Sequence[str], baseline: Sequence[str]) -> tuple[Ints, Ints]:
    """Count both by category, those together whose expected count is below FEWEST_EXPECTED on the smaller side. -> [B], [B]"""
    ours, theirs = Counter(window), Counter(baseline)
    both = ours + theirs
    share = min(len(window), len(baseline)) / max(1, both.total())
    kept = [name for name, count in both.most_common() if count * share >= FEWEST_EXPECTED]
    counts = [[counter[name] for name in kept] for counter in (ours, theirs)]
    rest = [counter.total() - sum(some) for counter, some in zip((ours, theirs), counts, strict=True)]
    if sum(rest) * share >= FEWEST_EXPECTED:
        counts = [[*some, more] for some, more in zip(counts, rest, strict=True)]
    elif sum(rest) and counts[0]:  # too few for a place of their own
        counts = [[*some[:-1], some[-1] + more] for some, more in zip(counts, rest, strict=True)]
    elif sum(rest):
        counts = [[more] for more in rest]
    return np.array(counts[0], dtype=np.int64), np.array(counts[1], dtype=np.int64)


def counts_of(window: Values, baseline: Values, bins: int) -> tuple[Ints, Ints]:
    """Count numbers in bins by the baseline's quantiles, names by category. -> [B], [B]"""
    if isinstance(window, np.ndarray):
        assert isinstance(baseline, np.ndarray), "numbers are compared with numbers"
        return quantile_counts(window, baseline, bins)
    return category_counts(window, [str(name) for name in baseline])


def counted_interval(distance: Distance, window: Ints, baseline: Ints, redraws: int, seed: int) -> Score:
    """The distance of the counts with its 95 % interval, both sides drawn again from their own shares."""
    generator = np.random.default_rng(seed)
    n, m = int(window.sum()), int(baseline.sum())
    value = float(distance(window[None], baseline[None])[0])
    drawn = distance(generator.multinomial(n, window / n, redraws), generator.multinomial(m, baseline / m, redraws))
    return ends(value, drawn, n)


def exchanged_p(distance: Distance, window: Ints, baseline: Ints, redraws: int, seed: int) -> float:
    """Share of exchanges of values between window and baseline that lie at least so far apart, by `redrawn_p`."""
    generator = np.random.default_rng(seed)
    pooled = window + baseline

    def draw() -> Floats:
        drawn = generator.multivariate_hypergeometric(pooled, int(window.sum()), redraws, method="marginals")
        return distance(drawn, pooled[None] - drawn)

    return redrawn_p(float(distance(window[None], baseline[None])[0]), draw)


def ends(value: float, drawn: Floats, n: int) -> Score:
    """A value with the 95 % interval of what was drawn again, widened to hold it."""
    low, high = np.quantile(drawn, [TAIL, 1 - TAIL])
    return Score(value, min(float(low), value), max(float(high), value), n)


def redrawn_p(value: float, draw: Callable[[], Floats]) -> float:
    """Share of what is drawn that is at least the value, the value itself counted in: never 0 (Phipson and Smyth 2010, eq. 2).

    Where fewer than FEW of the first draws are, BLOCKS times as many are drawn, or a p-value could not be small enough to stand
    a correction for many tests. The level is kept: below (1 + FEW) / (1 + first draws) only the larger number decides, and above it
    only the first.
    """
    found = draw()
    hits, number = int(np.sum(found >= value - CLOSE)), len(found)
    if hits < FEW:
        for _ in range(BLOCKS - 1):
            found = draw()
            hits, number = hits + int(np.sum(found >= value - CLOSE)), number + len(found)
    return (1 + hits) / (1 + number)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm 1979, whatever depends on what; compare them with the level as they are."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    corrected, highest = [1.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = highest
    return corrected
