"""How well probabilities put rows of a class before all others."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from whet.plugins import plugin
from whet.stats import NAN, label_code, label_sets

if TYPE_CHECKING:
    from whet.stats import Ints
    from whet.types import Example, Output, Statistics


@plugin
class Auroc:
    """Area under the ROC curve: how often a row of a class has a higher probability for it than one of another class; ties count half.

    Hanley and McNeil 1982; the mean over classes, each against all others, of those that have rows on both sides. As scikit-learn's
    roc_auc_score (multi_class='ovr', average='macro'); of two classes the area is the same for both.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("labels", "probabilities")
    title: ClassVar[str] = "Area under ROC"
    claim: ClassVar[str] = "an area under the ROC curve of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        """Code of each class of the model, less than 0 where it is not true, and its probability, in turn. [2 K]"""
        assert output.probabilities is not None, f"row {example.id}: the output has no probabilities"
        truth, _ = label_sets(example, output)
        row: list[float] = []
        for label, chance in output.probabilities.items():
            row += [label_code(label) if label in truth else -label_code(label), chance]
        return tuple(row)

    def reduce(self, statistics: Statistics) -> float:
        return self.redrawn(statistics)(np.arange(len(statistics)))

    def redrawn(self, statistics: Statistics) -> Callable[[Ints], float]:
        """Exact score of any draw of these rows, without sorting again.

        A probability only counts by where it stands among those of its class's own rows: at one of them, or between two. So every
        row gets a slot for each class, and a draw is one count of slots. With P rows of class k there are 2 P + 1 slots of k.
        """
        codes, chances = statistics[:, 0::2], statistics[:, 1::2]
        classes = np.unique(np.abs(codes[codes != 0]))
        if not len(classes):
            return lambda rows: NAN
        place, size = np.empty((len(statistics), len(classes)), dtype=np.int64), 0
        first = []
        for k, code in enumerate(classes):
            chance, is_true = np.where(np.abs(codes) == code, chances, 0).sum(axis=1), (codes == code).any(axis=1)
            own = np.unique(chance[is_true])
            place[:, k] = np.searchsorted(own, chance, "left") + np.searchsorted(own, chance, "right") + size
            place[is_true, k] *= -1  # told apart from the others once all slots are counted
            first.append(size)
            size += 2 * len(own) + 1
        place = np.where(place < 0, size - place, place)

        def score(rows: Ints) -> float:
            counts = np.bincount(place.take(rows, axis=0).ravel(), minlength=2 * size)
            others, own = counts[:size], counts[size : 2 * size]
            num_own, num_others = np.add.reduceat(own, first), np.add.reduceat(others, first)
            before = np.cumsum(others) - others / 2  # of all classes so far, ties as half
            won = np.add.reduceat(own * before, first) - num_own * (np.cumsum(num_others) - num_others)
            both = (num_own > 0) & (num_others > 0)
            return float((won[both] / (num_own[both] * num_others[both])).mean()) if both.any() else NAN

        return score
