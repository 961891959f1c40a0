"""Where labels go wrong: scores by class, who is taken for whom, and whether confidence can be believed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.stats import calibration_bins, confidence_and_right, label_sets, true_label
from whet.types import Example, Output

LARGEST_MATRIX = 300
"""Classes above which the confusion matrix is left out of the report; the most confused pairs stay."""
MOST_PAIRS = 20

Rows = Sequence[tuple[Example, Output]]


def all_classes(pairs: Rows, classes: Sequence[str]) -> list[str]:
    """The model's classes in their order, then any other label that occurs."""
    seen = {label for pair in pairs for labels in label_sets(*pair) for label in labels}
    return [*classes, *sorted(seen.difference(classes))]


def per_class(pairs: Rows, classes: Sequence[str]) -> dict[str, dict[str, Any]]:
    """n, precision, recall and F1 of each class; null where there is nothing to divide by."""
    support, claimed, right = Counter[str](), Counter[str](), Counter[str]()
    for pair in pairs:
        truth, given = label_sets(*pair)
        support.update(truth)
        claimed.update(given)
        right.update(truth & given)
    return {
        name: {
            "n": support[name],
            "precision": _share(right[name], claimed[name]),
            "recall": _share(right[name], support[name]),
            "f1": _share(2 * right[name], support[name] + claimed[name]),
        }
        for name in classes
    }


def confusion(pairs: Rows, classes: Sequence[str]) -> dict[str, Any] | None:
    """Counts by true class (row) and predicted class (column); None above LARGEST_MATRIX classes."""
    if len(classes) > LARGEST_MATRIX:
        return None
    place = {name: number for number, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for example, output in pairs:
        counts[place[true_label(example)], place[str(output.label)]] += 1
    return {"labels": list(classes), "counts": counts.tolist()}


def confused_pairs(pairs: Rows) -> list[dict[str, Any]]:
    """The pairs of true and predicted label that are mistaken most often."""
    support = Counter(true_label(example) for example, _ in pairs)
    wrong = Counter((true_label(example), str(output.label)) for example, output in pairs if example.label != output.label)
    ordered = sorted(wrong.items(), key=lambda item: (-item[1], item[0]))[:MOST_PAIRS]
    return [{"label": truth, "prediction": given, "n": n, "of": support[truth]} for (truth, given), n in ordered]


def calibration(pairs: Rows) -> list[dict[str, Any]]:
    """Mean confidence, accuracy and n of each of 15 bins of equal width that is not empty."""
    bins = calibration_bins(np.array([confidence_and_right(*pair) for pair in pairs], dtype=np.float64).reshape(-1, 2))
    return [
        {"confidence": float(confidence / n), "accuracy": float(right / n), "n": int(n)}
        for n, confidence, right in zip(bins.n, bins.confidence, bins.right, strict=True)
        if n
    ]


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
