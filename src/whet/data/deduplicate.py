"""Exact duplicates leave; the same text with different labels is reported and stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from whet.data.keys import content_key, text_key
from whet.data.rows import Reject
from whet.types import Example


@dataclass(frozen=True, slots=True)
class Conflict:
    """One text that stands in the data with different labels."""

    labels: tuple[str, ...]
    places: tuple[str, ...]
    """`file:line` of each row, in the order of `labels`."""
    similarity: float = 1.0
    """How like the rows' texts are, where they are not the same."""

    def sentence(self) -> str:
        """What was found, in words."""
        shown = ", ".join(f"{label} at {place}" for label, place in list(zip(self.labels, self.places, strict=True))[:4])
        if self.similarity < 1:
            return f"Nearly the same text ({self.similarity:.2f}) has different labels: {shown}."
        return f"The same text has {len(set(self.labels))} different labels: {shown}."


def without_duplicates(examples: Iterable[Example]) -> tuple[list[Example], list[Reject]]:
    """Return the first of each set of equal examples, and a Reject for every other."""
    first: dict[str, Example] = {}
    dropped = []
    for example in examples:
        kept = first.setdefault(content_key(example), example)
        if kept is not example:
            place = f"{kept.file}:{kept.line}"
            dropped.append(
                Reject(example.file, example.line, f"duplicate of {place}", "Nothing to do.", kind="duplicate", other=place)
            )
    return list(first.values()), dropped


def conflicts(examples: Sequence[Example]) -> list[Conflict]:
    """Return the texts whose rows disagree about the label."""
    first: dict[str, str] = {}
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if is_labelled(example):
            key, label = text_key(example), shown_label(example)
            if first.setdefault(key, label) != label:
                groups[key] = []
    if not groups:
        return []
    for example in examples:
        if is_labelled(example) and (group := groups.get(text_key(example))) is not None:
            group.append(example)
    in_order = (groups[key] for key in first if key in groups)
    return [
        Conflict(tuple(shown_label(one) for one in group), tuple(f"{one.file}:{one.line}" for one in group)) for group in in_order
    ]


def without_conflicts(examples: Sequence[Example], majority: bool) -> tuple[list[Example], list[Reject]]:
    """Return the rows without those whose text stands there with another label too, and a Reject for each that leaves.

    With `majority`, rows with the commonest label of their text stay where it is commoner than each other one.
    """
    counts: dict[str, Counter[str]] = {}
    for example in examples:
        if is_labelled(example):
            counts.setdefault(text_key(example), Counter())[shown_label(example)] += 1
    kept, dropped = [], []
    for example in examples:
        votes = counts[text_key(example)] if is_labelled(example) else Counter[str]()
        ranked = votes.most_common(2)
        wins = majority and len(ranked) > 1 and ranked[0][1] > ranked[1][1] and shown_label(example) == ranked[0][0]
        if len(ranked) < 2 or wins:
            kept.append(example)
        else:
            reason = f"the same text has {len(votes)} different labels"
            dropped.append(Reject(example.file, example.line, reason, "Nothing to do; data.conflicts.", kind="conflict"))
    return kept, dropped


def is_labelled(example: Example) -> bool:
    """Whether a text has a label or several; a label beside a conversation is one of its answer."""
    return example.messages is None and (example.label is not None or example.labels is not None)


def shown_label(example: Example) -> str:
    """Return what the text is labelled with, in words."""
    return example.label if example.label is not None else " | ".join(sorted(example.labels or ()))
