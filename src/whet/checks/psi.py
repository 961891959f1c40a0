"""Population stability index."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from whet.drift import counted_interval, counts_of, exchanged_p
from whet.plugins import plugin
from whet.protocols import Check
from whet.types import Score

if TYPE_CHECKING:
    from whet.drift import Floats, Ints
    from whet.types import Values


@plugin
class Psi(Check):
    """Population stability index over deciles or categories. Siddiqi 2006, ch. 6; tested by exchange, Yurdakul 2018."""

    bins: int = Field(10, ge=2, le=100)
    """Bins of equal share of the baseline, for numbers."""
    smallest: float = Field(0.1, ge=0)
    """Least index that matters; by custom 0.1 is a small shift and 0.25 a large one."""
    redraws: int = Field(2000, ge=100, le=100_000)
    """Exchanges behind the p-value; twenty times as many where fewer than ten of them lie as far apart."""
    seed: int = Field(0, ge=0)

    takes: ClassVar[tuple[str, ...]] = ("numbers", "categories")

    def measure(self, window: Values, baseline: Values) -> Score:
        return counted_interval(_index, *counts_of(window, baseline, self.bins), redraws=500, seed=self.seed)

    def p_value(self, window: Values, baseline: Values) -> float:
        return exchanged_p(_index, *counts_of(window, baseline, self.bins), redraws=self.redraws, seed=self.seed)


def _index(window: Ints, baseline: Ints) -> Floats:
    """Sum of (p - q) ln(p / q), half a value added to every bin. [R, B], [R, B] -> [R]"""
    shares = [(counts + 0.5) / (counts.sum(1, keepdims=True) + 0.5 * counts.shape[1]) for counts in (window, baseline)]
    found: Floats = ((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum(1)
    return found
