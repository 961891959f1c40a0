"""Accuracy of one label per row."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_label

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Accuracy:
    """Share of rows whose predicted label is the true one."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("label",)
    title: ClassVar[str] = "Accuracy"
    claim: ClassVar[str] = "right in {value} of {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        return (float(output.label == true_label(example)),)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
