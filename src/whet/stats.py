"""Intervals, paired differences, and the counting that metrics share: all of it from per-example statistics.

Shapes: N examples, S statistics of a metric, K classes.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from whet.errors import DataError
from whet.protocols import Metric, Redraws
from whet.types import Example, Output, Score

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from whet.types import Statistics

    Floats = NDArray[np.float64]
    Ints = NDArray[np.int64]
    Reduce = Callable[[Statistics], float]
    Redrawn = Callable[[Ints], float]
    """Score of a draw of examples, by their numbers."""

NAN = float("nan")
TAIL = 0.025
"""Share of the resamples beyond either end of a 95 % interval."""
CALIBRATION_BINS = 15
FIRST_CODE = 2.0**52
LARGEST_EXPONENT = math.log(sys.float_info.max)
MOST_NUMBERED = 4096
"""Classes above which counting sorts the codes instead of using them as places."""


@lru_cache(maxsize=65536)
def label_code(label: str) -> float:
    """Return a whole number from 2**52 to 2**53 that stands for this label everywhere, whatever the other classes are.

    No count, loss or probability is so large: codes can be told from numbers. A metric may compare codes, and nothing else.
    """
    return FIRST_CODE + int.from_bytes(hashlib.blake2b(label.encode(), digest_size=6).digest(), "big")


def stack(rows: Sequence[Sequence[float]], width: int = 1) -> Statistics:
    """Statistics of all examples as one array, at least so wide; a shorter row ends in zeros. [N, S]"""
    widest = max([width, *map(len, rows)])
    if all(len(row) == widest for row in rows):
        return np.array(rows, dtype=np.float64).reshape(len(rows), widest)
    return np.array([[*row, *[0.0] * (widest - len(row))] for row in rows], dtype=np.float64)


def renumbered(statistics: Statistics) -> Statistics:
    """The same examples with label codes that follow each other, so that a thousand resamples count without sorting.

    Equal codes stay equal and different ones different; statistics that are no codes stay as they are.
    """
    sizes = np.abs(statistics)
    if not ((sizes == 0) | ((sizes >= FIRST_CODE) & (sizes < 2 * FIRST_CODE))).all():
        return statistics
    distinct, places = np.unique(sizes, return_inverse=True)
    numbers = np.where(distinct == 0, 0.0, FIRST_CODE + np.arange(len(distinct)))
    return np.sign(statistics) * numbers[places].reshape(statistics.shape)


# Intervals


def redrawn_by(reduce: Reduce) -> Callable[[Statistics], Redrawn]:
    """The plain way to score draws: reduce the drawn examples."""

    def redrawn(statistics: Statistics) -> Redrawn:
        numbered = renumbered(statistics)
        return lambda rows: reduce(numbered.take(rows, axis=0))

    return redrawn


def redrawn_of(metric: Metric) -> Callable[[Statistics], Redrawn]:
    """How many draws of the same examples are scored: the metric's own way where it has one, else by its `reduce`."""
    return metric.redrawn if isinstance(metric, Redraws) else redrawn_by(metric.reduce)


def bootstrap(
    reduce: Reduce,
    statistics: Statistics,
    resamples: int = 1000,
    seed: int = 0,
    redrawn: Callable[[Statistics], Redrawn] | None = None,
) -> Score:
    """Score of these examples with its 95 % interval: percentiles of the scores of resampled examples. [N, S] -> Score

    Efron and Tibshirani 1993, ch. 13. The interval is nan where it cannot be known: fewer than two examples, or a score that
    more than half of the resamples leave undefined. It is widened to hold the score itself, which the resamples of a
    statistic with bias (calibration error) can miss.
    """
    n = len(statistics)
    value = float(reduce(statistics)) if n else NAN
    if n < 2:
        return Score(value, NAN, NAN, n)
    score = (redrawn or redrawn_by(reduce))(statistics)
    drawn = np.array([score(rows) for rows in _draws(n, resamples, seed)])
    low, high = _interval(drawn, value)
    return Score(value, low, high, n)


def paired(
    reduce: Reduce,
    ours: Statistics,
    theirs: Statistics,
    resamples: int = 1000,
    seed: int = 0,
    redrawn: Callable[[Statistics], Redrawn] | None = None,
) -> Score:
    """Score of `ours` less that of `theirs`, with its 95 % interval; every resample draws the same examples of both."""
    n = len(ours)
    assert n == len(theirs), f"a paired comparison needs the same examples: {n} and {len(theirs)}"
    value = float(reduce(ours)) - float(reduce(theirs)) if n else NAN
    if n < 2:
        return Score(value, NAN, NAN, n)
    score, other = ((redrawn or redrawn_by(reduce))(statistics) for statistics in (ours, theirs))
    drawn = np.array([score(rows) - other(rows) for rows in _draws(n, resamples, seed)])
    low, high = _interval(drawn, value)
    return Score(value, low, high, n)


def paired_mean(
    reduce: Reduce,
    pairs: Sequence[tuple[Statistics, Statistics]],
    resamples: int = 1000,
    seed: int = 0,
    redrawn: Callable[[Statistics], Redrawn] | None = None,
) -> Score:
    """Mean over several sets of examples of what `paired` gives, with its 95 % interval; each set is drawn by itself."""
    values, draws = [], []
    for place, (ours, theirs) in enumerate(pairs):
        assert len(ours) == len(theirs), f"a paired comparison needs the same examples: {len(ours)} and {len(theirs)}"
        values.append(float(reduce(ours)) - float(reduce(theirs)))
        score, other = ((redrawn or redrawn_by(reduce))(statistics) for statistics in (ours, theirs))
        draws.append([score(rows) - other(rows) for rows in _draws(len(ours), resamples, seed + place)])
    value, n = sum(values) / len(values), sum(len(ours) for ours, _ in pairs)
    if min(len(ours) for ours, _ in pairs) < 2:
        return Score(value, NAN, NAN, n)
    low, high = _interval(np.array(draws).mean(axis=0), value)
    return Score(value, low, high, n)


def share_score(score: Score) -> Score:
    """The score of a share, with an honest interval where every example was right, or every one wrong.

    There the bootstrap cannot move and would claim certainty; Clopper and Pearson 1934 give TAIL**(1/n) as the bound.
    """
    moved = math.isfinite(score.low) and score.low < score.high
    if score.n == 0 or moved or score.value not in {0.0, 1.0}:
        return score
    bound = TAIL ** (1 / score.n)
    return replace(score, low=bound, high=1.0) if score.value else replace(score, low=0.0, high=1 - bound)


def _draws(n: int, resamples: int, seed: int) -> Iterator[Ints]:
    generator = np.random.default_rng(seed)
    for _ in range(resamples):
        yield generator.integers(0, n, size=n)


def _interval(drawn: Floats, value: float) -> tuple[float, float]:
    known = drawn[np.isfinite(drawn)]
    if 2 * len(known) < len(drawn) or not math.isfinite(value):
        return NAN, NAN
    low, high = np.quantile(known, [TAIL, 1 - TAIL])
    return min(float(low), value), max(float(high), value)


# What is true of an example


def true_label(example: Example) -> str:
    """The one true label."""
    if example.label is None:
        raise _missing(example, "label")
    return example.label


def label_sets(example: Example, output: Output) -> tuple[frozenset[str], frozenset[str]]:
    """True labels and predicted labels; one label is a set of one."""
    if output.label is not None:
        return frozenset((true_label(example),)), frozenset((output.label,))
    assert output.labels is not None, f"row {example.id}: the output has neither label nor labels"
    if example.labels is None:
        raise _missing(example, "labels")
    return frozenset(example.labels), frozenset(output.labels)


def true_and_predicted_value(example: Example, output: Output) -> tuple[float, float]:
    """The target of a regression and what the model gave."""
    if example.value is None:
        raise _missing(example, "value")
    assert output.value is not None, f"row {example.id}: the output has no value"
    return example.value, output.value


def true_and_given_text(example: Example, output: Output) -> tuple[str, str]:
    """The answer in the data (the last assistant message) and the model's."""
    answers = [message.content for message in example.messages or () if message.role == "assistant"]
    if not answers:
        raise _missing(example, "answer (a message of the assistant)")
    assert output.text is not None, f"row {example.id}: the output has no text"
    return answers[-1], output.text


def nll_and_tokens(example: Example, output: Output) -> tuple[float, float]:
    """Negative log-likelihood of the tokens that were predicted, in nats, and how many they are."""
    assert output.nll is not None and output.num_tokens is not None, f"row {example.id}: the output has no nll or num_tokens"
    return output.nll, float(output.num_tokens)


def true_and_given_token_labels(example: Example, output: Output) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """A label of each token, in the data and from the model; equally many."""
    if example.token_labels is None:
        raise _missing(example, "label of each token (token_labels)")
    truth, given = example.token_labels, output.token_labels
    assert given is not None, f"row {example.id}: the output has no token_labels"
    assert len(truth) == len(given), f"row {example.id}: {len(truth)} tokens have labels, and {len(given)} were given"
    return truth, given


def place_of(example: Example) -> str:
    """Where a row came from, for a message."""
    return f"{example.file}:{example.line}" if example.file else f"row {example.id}"


def _missing(example: Example, field: str) -> DataError:
    return DataError(
        f"{place_of(example)}: there is no {field}, so this row cannot be scored. Score rows that have one, or fill it in."
    )


# Counting


def mean(statistics: Statistics) -> float:
    """Mean of the first statistic; nan for no examples."""
    return float(statistics[:, 0].mean()) if len(statistics) else NAN


def ratio(statistics: Statistics) -> float:
    """Sum of the first statistic over the sum of the second; nan where that is 0."""
    top, bottom = (float(total) for total in statistics[:, :2].sum(axis=0)) if len(statistics) else (0.0, 0.0)
    return top / bottom if bottom else NAN


def perplexity(statistics: Statistics) -> float:
    """Exponential of `ratio`; infinite where it is past what a float can hold."""
    loss = ratio(statistics)
    return math.exp(loss) if not loss > LARGEST_EXPONENT else math.inf


@dataclass(frozen=True, slots=True)
class ClassScores:
    """Scores of each class that occurs in truth or predictions; 0 where scikit-learn says so by default. [K] each"""

    support: Floats
    precision: Floats
    recall: Floats
    f1: Floats

    def macro(self, scores: Floats) -> float:
        """Mean of a score, every class weighing the same; nan where there is no class."""
        return float(scores.mean()) if len(scores) else NAN

    def weighted(self, scores: Floats) -> float:
        """Mean of a score, each class weighing what it has of true examples."""
        total = float(self.support.sum())
        return float((scores * self.support).sum()) / total if total else NAN


def class_codes(example: Example, output: Output) -> tuple[float, ...]:
    """Codes of the true labels, and less than 0 those of the predicted ones: the statistics of every score by class."""
    truth, given = label_sets(example, output)
    return (*sorted(map(label_code, truth)), *sorted(-label_code(label) for label in given))


def class_counts(statistics: Statistics) -> tuple[Floats, Floats, Floats]:
    """True, predicted and right of each class that occurs. [N, S] codes as `class_codes` gives them, 0 where there is none -> [K] each"""
    places = (np.abs(statistics) - FIRST_CODE).astype(np.int64)
    if places.max(initial=-1) > MOST_NUMBERED:
        places = np.unique(places, return_inverse=True)[1].reshape(places.shape)
    is_true, is_given = statistics > 0, statistics < 0
    if statistics.shape[1] == 2 and is_true[:, 0].all() and is_given[:, 1].all():
        truth, given = places[:, 0], places[:, 1]
        right = truth[truth == given]
    else:
        truth, given = places[is_true], places[is_given]
        keys = places + (np.arange(len(places)) * (places.max(initial=-1) + 1))[:, None]  # one for each row and class
        right = given[np.isin(keys[is_given], keys[is_true])]
    num_classes = int(places.max(initial=-1)) + 1
    support, claimed, found = (np.bincount(one, minlength=num_classes).astype(np.float64) for one in (truth, given, right))
    occurs = support + claimed > 0
    return support[occurs], claimed[occurs], found[occurs]


def class_scores(statistics: Statistics) -> ClassScores:
    """Precision, recall and F1 by class. [N, S] codes as `class_codes` gives them, 0 where there is none -> [K]"""
    support, claimed, found = class_counts(statistics)
    return ClassScores(
        support,
        precision=found / np.maximum(claimed, 1),
        recall=found / np.maximum(support, 1),
        f1=2 * found / np.maximum(support + claimed, 1),
    )


@dataclass(frozen=True, slots=True)
class Bins:
    """What falls into each bin of confidence, 15 of equal width. [15] each"""

    n: Floats
    confidence: Floats
    """Sum of the confidences."""
    right: Floats
    """How many were right."""


def calibration_bins(statistics: Statistics) -> Bins:
    """Confidence and accuracy in 15 bins of equal width. [N, 2] confidence and whether it was right -> [15]"""
    confidence, right = statistics[:, 0], statistics[:, 1]
    bins = np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    return Bins(*(np.bincount(bins, weights, CALIBRATION_BINS).astype(np.float64) for weights in (None, confidence, right)))


def confidence_and_right(example: Example, output: Output) -> tuple[float, float]:
    """Probability of the predicted label, and 1 where that label is true."""
    assert output.label is not None and output.probabilities is not None, f"row {example.id}: the output has no probabilities"
    return output.probabilities.get(output.label, 0.0), float(output.label == true_label(example))


def ranks(values: Floats) -> Floats:
    """Rank of each value from 1; equal values share their mean rank. [N] -> [N]"""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    shared: Floats = (last - (counts - 1) / 2)[places]
    return shared


def correlation(left: Floats, right: Floats) -> float:
    """Pearson's correlation; nan where either does not vary. [N], [N] -> number"""
    if len(left) < 2:
        return NAN
    a, b = left - left.mean(), right - right.mean()
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(np.clip(float(a @ b) / scale, -1, 1)) if scale else NAN
