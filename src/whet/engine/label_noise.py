"""Labels that are probably wrong: confident learning over cross-validated predictions from vectors that stand still.

Northcutt, Jiang and Chuang 2021, Confident Learning (arXiv:1911.00068). Shapes: N rows, D width, K classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from whet.engine.logistic import fit_logistic
from whet.engine.order import permutation

FOLDS = 5
PENALTY = 1.0
"""Of the logistic regression: strong enough that a tenth of wrong labels is not learnt by heart."""
ROUNDS = 30
"""Of its search: on banking77 with a tenth of the labels wrong, 30 and 100 rounds find the same rows."""
MOST_ROWS = 20_000
"""Rows up to which the regression is fitted on all of a fold's others; beyond it on a seeded draw of so many."""
SMALLEST = 1e-9
"""Least chance that a logarithm is taken of."""
Told = Callable[[int, int], None]
"""What is told how many folds of how many are done."""


@dataclass(frozen=True, slots=True)
class LabelNoise:
    """What was found, for every row that has a label."""

    ranking: tuple[int, ...]
    """All rows, the most suspicious first."""
    margins: tuple[float, ...]
    """By row: how much likelier its own label is than the likeliest other one, as the difference of the logarithms; below 0 it is not."""
    suggested: tuple[str, ...]
    """By row: the likeliest label."""
    probabilities: Tensor
    """[N, K], from models that have not seen the row."""
    classes: tuple[str, ...]
    num_wrong: int
    """Rows whose label is probably wrong: those that stand off the diagonal of the confident joint."""
    fraction: float
    """Estimated share of wrong labels, 0..1: what is off the diagonal of the calibrated joint (section 3.1)."""

    @property
    def suspects(self) -> tuple[int, ...]:
        """The rows whose label is probably wrong, the most suspicious first."""
        return self.ranking[: self.num_wrong]


def find_label_noise(
    vectors: Tensor, labels: Sequence[str], *, seed: int = 0, told: Told = lambda done, folds: None
) -> LabelNoise:
    """Return which of these labels are probably wrong. [N, D], unit vectors

    Each row is judged by a logistic regression that has not seen it. Where one class only is there, nothing is suspected.
    """
    classes = tuple(sorted(set(labels)))
    places = {name: place for place, name in enumerate(classes)}
    given = torch.tensor([places[label] for label in labels], dtype=torch.long)
    if len(classes) < 2 or len(labels) < 2 * FOLDS:
        ones = torch.zeros(len(labels), len(classes), dtype=torch.float64)
        return LabelNoise(tuple(range(len(labels))), (1.0,) * len(labels), tuple(labels), ones, classes, 0, 0.0)
    probabilities = cross_validated(vectors, given, len(classes), seed=seed, told=told)
    own = probabilities.gather(1, given[:, None])[:, 0]
    others = probabilities.scatter(1, given[:, None], -1.0)
    margins = own.clamp(min=SMALLEST).log() - others.max(-1).values.clamp(min=SMALLEST).log()
    judged = confidently(probabilities, given)
    return LabelNoise(
        ranking=tuple(margins.argsort(stable=True).tolist()),
        margins=tuple(margins.tolist()),
        suggested=tuple(classes[place] for place in probabilities.argmax(-1).tolist()),
        probabilities=probabilities,
        classes=classes,
        num_wrong=int(((judged >= 0) & (judged != given)).sum()),
        fraction=noise(judged, given, len(classes)),
    )


def cross_validated(vectors: Tensor, given: Tensor, num_classes: int, *, seed: int, told: Told) -> Tensor:
    """Return each row's chances by a model that was fitted on the other folds; the folds have as much of each class. [N, D] -> [N, K]"""
    fold = _folds(given, seed)
    found = torch.zeros(len(given), num_classes, dtype=torch.float64)
    for number in range(FOLDS):
        told(number, FOLDS)
        seen = (fold != number).nonzero()[:, 0]
        if len(seen) > MOST_ROWS:
            seen = seen[torch.from_numpy(permutation(seed, number + 1, len(seen))[:MOST_ROWS])]
        weight, bias = fit_logistic(vectors[seen], given[seen], num_classes, PENALTY, ROUNDS)
        asked = fold == number
        found[asked] = torch.softmax(vectors[asked].double() @ weight.T + bias, -1)
    told(FOLDS, FOLDS)
    return found


def confidently(probabilities: Tensor, given: Tensor) -> Tensor:
    """Return the class that each row confidently is of, -1 where it is of none. [N, K], [N] -> [N]

    Section 3.1: a class's threshold is its mean chance over the rows that are labelled so; of several classes above theirs the
    likeliest counts.
    """
    num_classes = probabilities.shape[1]
    counts = torch.bincount(given, minlength=num_classes)
    own = probabilities.gather(1, given[:, None])[:, 0]
    totals = torch.zeros(num_classes, dtype=probabilities.dtype).index_add_(0, given, own)
    thresholds = torch.where(counts > 0, totals / counts.clamp(min=1), torch.inf)
    likeliest, which = torch.where(probabilities >= thresholds, probabilities, -1.0).max(-1)
    return torch.where(likeliest >= 0, which, -1)


def noise(judged: Tensor, given: Tensor, num_classes: int) -> float:
    """Return the share of wrong labels: each label's rows are divided as its confident ones are (equation 3). [N], [N]"""
    sure = judged >= 0
    joint = torch.zeros(num_classes, num_classes, dtype=torch.float64)
    joint.index_put_((given[sure], judged[sure]), torch.ones(int(sure.sum()), dtype=torch.float64), accumulate=True)
    counts = torch.bincount(given, minlength=num_classes).double()
    calibrated = joint / joint.sum(1, keepdim=True).clamp(min=1) * counts[:, None]
    total = float(calibrated.sum())
    return 1 - float(calibrated.diagonal().sum()) / total if total else 0.0


def _folds(given: Tensor, seed: int) -> Tensor:
    """Return each row's fold: a seeded order, dealt out class by class. [N]"""
    order = torch.from_numpy(permutation(seed, 0, len(given)))
    dealt = order[given[order].argsort(stable=True)]
    fold = torch.empty(len(given), dtype=torch.long)
    fold[dealt] = torch.arange(len(given)) % FOLDS
    return fold
