"""How far the probabilities are from what was true."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import mean, true_label

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class Brier:
    """Squared distance of the probabilities of all classes from the truth, 0..2; mean over rows.

    Brier 1950, eq. 2; as scikit-learn's brier_score_loss with scale_by_half=False. It rewards both accuracy and honest confidence:
    the best expected score is that of the true probabilities.
    """

    higher_is_better: ClassVar[bool] = False
    best: ClassVar[float] = 0.0
    needs: ClassVar[tuple[str, ...]] = ("label", "probabilities")
    title: ClassVar[str] = "Brier score"
    claim: ClassVar[str] = "a Brier score of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        assert output.probabilities is not None, f"row {example.id}: the output has no probabilities"
        truth = true_label(example)
        others = sum(chance**2 for label, chance in output.probabilities.items() if label != truth)
        return (others + (1 - output.probabilities.get(truth, 0.0)) ** 2,)

    def reduce(self, statistics: Statistics) -> float:
        return mean(statistics)
