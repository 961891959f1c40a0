"""Exact duplicates leave; the same text with different labels is reported and stays."""

from __future__ import annotations

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
    groups: dict[str, list[Example]] = {}
    for example in examples:
        if is_labelled(example):
            groups.setdefault(text_key(example), []).append(example)
    return [
        Conflict(tuple(shown_label(one) for one in group), tuple(f"{one.file}:{one.line}" for one in group))
        for group in groups.values()
        if len({shown_label(one) for one in group}) > 1
    ]


def is_labelled(example: Example) -> bool:
    """Whether a text has a label or several; a label beside a conversation is one of its answer."""
    return example.messages is None and (example.label is not None or example.labels is not None)


def shown_label(example: Example) -> str:
    """Return what the text is labelled with, in words."""
    return example.label if example.label is not None else " | ".join(sorted(example.labels or ()))
