"""Chi-square test of two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import chi2

from whet.drift import category_counts, counted_interval
from whet.plugins import plugin
from whet.protocols import Check
from whet.types import Score

if TYPE_CHECKING:
    from whet.drift import Floats, Ints
    from whet.types import Values


@plugin
class ChiSquare(Check):
    """Cramér's V of categories, tested by chi-square. Pearson 1900; Cramér 1946, section 21.9."""

    smallest: float = Field(0.1, ge=0, le=1)
    """Least V that matters, from 0 to 1."""
    seed: int = Field(0, ge=0)

    takes: ClassVar[tuple[str, ...]] = ("categories",)

    def measure(self, window: Values, baseline: Values) -> Score:
        return counted_interval(_cramers_v, *_counts(window, baseline), redraws=500, seed=self.seed)

    def p_value(self, window: Values, baseline: Values) -> float:
        ours, theirs = _counts(window, baseline)
        return float(chi2.sf(_chi_square(ours[None], theirs[None])[0], len(ours) - 1)) if len(ours) > 1 else 1.0


def _counts(window: Values, baseline: Values) -> tuple[Ints, Ints]:
    return category_counts([str(name) for name in window], [str(name) for name in baseline])


def _chi_square(window: Ints, baseline: Ints) -> Floats:
    """Pearson's statistic of the table of two rows. [R, B], [R, B] -> [R]"""
    both = window + baseline
    total = both.sum(1, keepdims=True)
    found = np.zeros(len(window))
    for counts in (window, baseline):
        expected = both * counts.sum(1, keepdims=True) / total
        found += ((counts - expected) ** 2 / np.maximum(expected, 1e-12)).sum(1)
    return found


def _cramers_v(window: Ints, baseline: Ints) -> Floats:
    """Square root of the statistic over the number of values: of two rows the least dimension less one is 1. -> [R]"""
    found: Floats = np.sqrt(_chi_square(window, baseline) / (window + baseline).sum(1))
    return found
