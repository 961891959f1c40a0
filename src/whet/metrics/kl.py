"""How far a model has moved from the one it started as."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Kl:
    """Mean divergence from the untuned model along an answer, summed over its tokens, in nats."""

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("kl",)
    title: ClassVar[str] = "Divergence from the untuned model"
    claim: ClassVar[str] = "{value} nats from the untuned model on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.kl is not None, f"row {example.id}: the output has no kl"
        return (output.kl,)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
