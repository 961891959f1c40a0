"""How far confidence is from accuracy."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np

from whet.plugins import plugin
from whet.stats import NAN, calibration_bins, confidence_and_right

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class CalibrationError:
    """Expected calibration error: mean distance between confidence and accuracy over 15 bins of equal width.

    Guo et al. 2017 (arXiv:1706.04599), eq. 3: each bin weighs its share of the rows. Confidence is the probability of the
    predicted label. Biased upward on few rows, where a bin of chance looks like a wrong confidence.
    """

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("label", "probabilities")
    title: ClassVar[str] = "Calibration error"
    claim: ClassVar[str] = "confidence {value} off on average on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return confidence_and_right(example, output)

    def reduce(self, statistics: Statistics) -> float:
        if not len(statistics):
            return NAN
        bins = calibration_bins(statistics)
        return float(np.abs(bins.confidence - bins.right).sum()) / len(statistics)
