"""How many tokens the model wavers between."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import nll_and_tokens, perplexity

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


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
        return nll_and_tokens(example, output)

    def reduce(self, statistics: Statistics) -> float:
        return perplexity(statistics)
