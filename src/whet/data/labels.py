"""Labels that mean the same: spellings that differ by case, spaces, - or _ only become the most frequent one."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from whet.types import Example


def labels_of(example: Example) -> tuple[str, ...]:
    """Return the one label of an example, or all of several."""
    return (example.label,) if example.label is not None else example.labels or ()


def label_key(label: str) -> str:
    """Return what spellings of one label share. A sign at either end stays: -1 is not 1, A- is not A."""
    folded = unicodedata.normalize("NFKC", label).casefold().strip()
    return re.sub(r"(?<=[^\W_])[\s\-_]+(?=[^\W_])", " ", folded)


def merged_labels(counts: Mapping[str, int]) -> dict[str, str]:
    """Return {spelling: most frequent spelling} for the spellings that change. Ties go to the first in the alphabet."""
    groups: dict[str, list[str]] = {}
    for label in counts:
        groups.setdefault(label_key(label), []).append(label)
    best = {key: min(spellings, key=lambda label: (-counts[label], label)) for key, spellings in groups.items()}
    return {label: best[key] for key, spellings in groups.items() for label in spellings if label != best[key]}
