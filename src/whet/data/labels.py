"""Labels that mean the same: spellings that differ by case, spaces, - or _ only become the most frequent one."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

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


def spellings(classes: Iterable[str], synonyms: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """Return how each label is spelt, by what its spellings share; labels that would be taken for one another are left out.

    `synonyms` are other names of labels, as in the recipe.
    """
    known = list(classes)
    keys = Counter(label_key(label) for label in known)
    return {label_key(label): label for label in known if keys[label_key(label)] == 1} | {
        label_key(name): label for name, label in synonyms.items()
    }


def respelt(example: Example, spelling: Mapping[str, str]) -> Example:
    """Return the example with its label spelt as in training."""
    if example.label is not None:
        return replace(example, label=spelling.get(label_key(example.label), example.label))
    if example.labels is not None:
        return replace(example, labels=tuple(dict.fromkeys(spelling.get(label_key(label), label) for label in example.labels)))
    return example
