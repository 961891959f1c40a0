"""Kolmogorov-Smirnov test of two samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field
from scipy.stats import ks_2samp

from whet.drift import ends
from whet.plugins import plugin
from whet.protocols import Check
from whet.types import Score

if TYPE_CHECKING:
    from whet.drift import Floats
    from whet.types import Values


@plugin
class KolmogorovSmirnov(Check):
    """Largest difference of the two distribution functions of numbers. Kolmogorov 1933; Smirnov 1939; p-value of Hodges 1958."""

    smallest: float = Field(0.1, ge=0, le=1)
    """Least difference that matters, from 0 to 1."""
    seed: int = Field(0, ge=0)

    takes: ClassVar[tuple[str, ...]] = ("numbers",)

    def measure(self, window: Values, baseline: Values) -> Score:
        ours, theirs = np.asarray(window, dtype=np.float64), np.asarray(baseline, dtype=np.float64)
        generator = np.random.default_rng(self.seed)
        drawn = np.array(
            [_difference(generator.choice(ours, len(ours)), generator.choice(theirs, len(theirs))) for _ in range(200)]
        )
        return ends(_difference(ours, theirs), drawn, len(ours))

    def p_value(self, window: Values, baseline: Values) -> float:
        return float(ks_2samp(window, baseline, method="asymp").pvalue)


def _difference(ours: Floats, theirs: Floats) -> float:
    """Largest difference of the shares at most so large. [N], [M] -> number"""
    ours, theirs = np.sort(ours), np.sort(theirs)
    both = np.concatenate([ours, theirs])
    shares = [np.searchsorted(values, both, side="right") / len(values) for values in (ours, theirs)]
    return float(np.abs(shares[0] - shares[1]).max())
