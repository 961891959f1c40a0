"""How many tokens an encoder wavers between where one is hidden."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import nll_and_tokens, perplexity

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class PseudoPerplexity:
    """Exponential of the mean negative log-likelihood of a hidden token, given what stands on both sides.

    As Salazar et al. 2020, eq. 2, but over a draw of the tokens, hidden together, not each one by itself. Comparable only on the same
    rows, with the same tokenizer and the same draw; infinite where it is past what a float can hold.
    """

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("nll", "num_tokens")
    title: ClassVar[str] = "Pseudo-perplexity"
    claim: ClassVar[str] = "a pseudo-perplexity of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return nll_and_tokens(example, output)

    def reduce(self, statistics: Statistics) -> float:
        return perplexity(statistics)
