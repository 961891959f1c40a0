"""How many entities are found exactly: the same words and the same kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from whet.plugins import plugin
from whet.stats import NAN, place_of, true_and_given_token_labels
from whet.words import f1, spans

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics


@plugin
class SpanF1:
    """F1 of entities in B-, I- and O labels, over all rows; one counts where its tokens and its kind are right.

    Tjong Kim Sang and De Meulder 2003 (CoNLL); as seqeval's f1_score: an I- of another kind than before it, or after O, begins an
    entity too. Undefined where no entity is true and none was given.
    """

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 1.0
    needs: ClassVar[tuple[str, ...]] = ("token_labels",)
    title: ClassVar[str] = "Entity F1"
    claim: ClassVar[str] = "an entity F1 of {value} on {rows}"
    share: ClassVar[bool] = True

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        """Entities right, true and given. [3]"""
        truth, given = (set(spans(labels, place_of(example))) for labels in true_and_given_token_labels(example, output))
        return float(len(truth & given)), float(len(truth)), float(len(given))

    def reduce(self, statistics: Statistics) -> float:
        right, true, given = (int(total) for total in statistics.sum(axis=0)) if len(statistics) else (0, 0, 0)
        return f1(right, true, given) if true + given else NAN
