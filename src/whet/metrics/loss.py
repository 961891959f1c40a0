"""How surprising the right answer is."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import nll_and_tokens, ratio

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Loss:
    """Mean negative log-likelihood of a supervised token, in nats."""

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("nll", "num_tokens")
    title: ClassVar[str] = "Loss per token"
    claim: ClassVar[str] = "a loss of {value} per token on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return nll_and_tokens(example, output)

    def reduce(self, statistics: Statistics) -> float:
        return ratio(statistics)
