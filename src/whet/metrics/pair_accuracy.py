"""Whether the better of two answers is preferred."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class PairAccuracy:
    """Share of pairs whose better answer is preferred to the worse one; half of a pair where both are liked the same."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("margin",)
    title: ClassVar[str] = "Pairs ranked right"
    claim: ClassVar[str] = "the better answer preferred in {value} of {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.margin is not None, f"row {example.id}: the output has no margin"
        return (0.5 if output.margin == 0 else float(output.margin > 0),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
