"""Whether the answer is word for word the one in the data."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_and_given_text

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class ExactMatch:
    """Share of answers equal to the one in the data, but for space around them."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "Exact match"
    claim: ClassVar[str] = "word for word right in {value} of {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        truth, given = true_and_given_text(example, output)
        return (float(truth.strip() == given.strip()),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
