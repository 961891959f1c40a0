"""How many tokens the model wavers between."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import ratio

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics

LARGEST = math.log(sys.float_info.max)


@plugin
class Perplexity:
    """Exponential of the mean negative log-likelihood of a supervised token.

    Comparable only between models with the same tokeniser; infinite where it is past what a float can hold.
    """

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("nll", "num_tokens")
    title: ClassVar[str] = "Perplexity"
    claim: ClassVar[str] = "a perplexity of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.nll is not None and output.num_tokens is not None, f"row {example.id}: the output has no nll or num_tokens"
        return output.nll, float(output.num_tokens)

    def reduce(self, statistics: Statistics) -> float:
        loss = ratio(statistics)
        return math.exp(loss) if not loss > LARGEST else math.inf
