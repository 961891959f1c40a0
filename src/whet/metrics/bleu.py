"""How many short runs of words the answers share with the data, over all rows together."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, Literal

import sacrebleu
from sacrebleu.metrics.bleu import BLEU

from whet.plugins import plugin
from whet.stats import NAN, true_and_given_text

if TYPE_CHECKING:
    from whet.types import Example, Output, Statistics

Tokenize = Literal["13a", "intl", "zh", "char", "none"]
ORDERS = 4


@lru_cache(maxsize=8)
def _scorer(tokenize: Tokenize, lowercase: bool) -> sacrebleu.BLEU:
    return BLEU(tokenize=tokenize, lowercase=lowercase, effective_order=True)


@plugin
class Bleu:
    """Corpus BLEU, 0..100: precision of runs of one to four words, times a penalty for answers that are too short.

    Papineni et al. 2002, eq. 1; sacrebleu's own number (Post 2018; one reference, exponential smoothing). 0 where no answer has
    four words, and on few rows rough: it is a score of a whole set.
    """

    tokenize: Tokenize = "13a"
    """How words are cut: 13a for most languages, zh for Chinese, char sign by sign, intl, or none at spaces only."""
    lowercase: bool = False
    """Upper and lower case alike."""

    higher_is_better: ClassVar[bool] = True
    best: ClassVar[float] = 100.0
    needs: ClassVar[tuple[str, ...]] = ("text",)
    title: ClassVar[str] = "BLEU"
    claim: ClassVar[str] = "a BLEU of {value} on {rows}"
    share: ClassVar[bool] = False

    def statistics(self, example: Example, output: Output) -> tuple[float, ...]:
        """Words given and true, then matches and runs of each length. [10]"""
        truth, given = true_and_given_text(example, output)
        counted = _scorer(self.tokenize, self.lowercase).sentence_score(given, [truth])
        return (counted.sys_len, counted.ref_len, *counted.counts, *counted.totals)

    def reduce(self, statistics: Statistics) -> float:
        if not len(statistics):
            return NAN
        given, true, *runs = (int(total) for total in statistics.sum(axis=0))
        runs += [0] * (2 * ORDERS - len(runs))
        return float(BLEU.compute_bleu(runs[:ORDERS], runs[ORDERS:], given, true, smooth_method="exp").score)
