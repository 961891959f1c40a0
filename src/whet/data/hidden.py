"""Targets that stand in the texts: a label written out, a first or last word that tells the class, an answer inside its own prompt.

A model that learns from such texts looks for the mark, is judged on texts that have it too, and fails on those that have not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from whet.data.keys import folded, shown
from whet.data.labels import labels_of
from whet.data.notices import SHOWN, counted
from whet.types import Example

WORD = re.compile(r"[^\W_]+")
_WORD, _DIGIT = re.compile(r"\w+"), re.compile(r"\d")
MOST_ROWS = 200_000
"""Rows that are looked at; of more, every so many."""
MOST_CHECKS = 4_000_000
"""Texts times labels that are looked at; beyond, every so many rows only."""
FEWEST = 10
"""Rows of a class below which nothing is said of it."""
CERTAIN, OFTEN, PURE = 0.9, 0.5, 0.99
"""Share of a class's rows, or of all, that have a mark; and how sure a mark must be of its class."""
LARGE = 0.1
"""Share of the rows that a class must have to be told by itself: small ones are often named by what they are about."""
LIFT = 10
"""How much oftener a label must stand in its own class's texts than in others'."""
LONG_ANSWER, COPIED = 20, 0.2
"""Characters of an answer, and share of rows in which it stands in the prompt, from which on it is told."""
REFUSED, ENOUGH = 0.95, 100
"""Share of the rows that give their class away above which nothing else would be learnt, and rows from which on that is certain."""


@dataclass(frozen=True, slots=True)
class Hidden:
    """A way in which texts give their target away."""

    sentence: str
    share: float
    """Share of the rows that do."""
    certain: bool
    """Whether that is no accident of few words: the label itself stands there."""


def hidden_targets(examples: Sequence[Example]) -> list[Hidden]:
    """Return the ways in which the texts give away what is to be learnt of them; of very many, as a part of them shows it."""
    examples = list(examples[:: max(1, -(-len(examples) // MOST_ROWS))])
    labelled = [one for one in examples if labels_of(one) and one.messages is None]
    found = [_written_out(labelled), *_ends(labelled)] if labelled else []
    return [one for one in (*found, _copied([one for one in examples if one.response])) if one is not None]


def _written_out(examples: Sequence[Example]) -> Hidden | None:
    """Look for labels that stand word for word in the texts of their own class, and hardly in others'."""
    marks = {label: mark for label in {label for one in examples for label in labels_of(one)} if (mark := _mark(label))}
    if not marks:
        return None
    step = max(1, len(examples) * len(marks) // MOST_CHECKS)
    some = examples[::step]
    size, own, others = Counter[str](), Counter[str](), Counter[str]()
    first: dict[str, str] = {}
    for one in some:
        text, mine = _words(shown(one)), set(labels_of(one))
        size.update(mine)
        for label, mark in marks.items():
            if mark in text:
                (own if label in mine else others)[label] += 1
                if label in mine:
                    first.setdefault(label, f"{one.file}:{one.line}")
    shares = {label: own[label] / size[label] for label in sorted(marks) if size[label] >= FEWEST}
    given = {
        label: share
        for label, share in shares.items()
        if share >= OFTEN and share >= LIFT * others[label] / max(1, len(some) - size[label])
    }
    share = sum(own[label] for label in given) / len(some)
    large = [label for label, one in given.items() if one >= CERTAIN and size[label] >= LARGE * len(some)]
    if share < OFTEN and not large:
        return None
    worst = sorted(given, key=lambda label: (-given[label], label))[:SHOWN]
    named = ", ".join(f"'{label}' in {given[label]:.0%} of its rows (first {first[label]})" for label in worst)
    return Hidden(
        f"The label stands word for word in the text of {share:.0%} of the rows, and hardly in those of other classes: {named}. If texts in "
        "use will not have it, take it out; else the model learns to look for it, and scores flatter it.",
        share,
        certain=True,
    )


def _ends(examples: Sequence[Example]) -> list[Hidden | None]:
    """Look for a first and for a last word that tells the class."""
    first, last = [], []
    for one in examples:
        text = shown(one).casefold()
        begin, end = _WORD.search(text), _WORD.search(text[::-1])
        alone = begin is None or end is None or begin.end() == len(text) - end.start()
        first.append("" if alone or begin is None else _DIGIT.sub("0", begin[0]))
        last.append("" if alone or end is None else _DIGIT.sub("0", end[0][::-1]))
    classes = [_class(one) for one in examples]
    return [_end(examples, classes, "first", first), _end(examples, classes, "last", last)]


def _end(examples: Sequence[Example], classes: Sequence[str], which: str, marks: Sequence[str]) -> Hidden | None:
    """Look for a mark, a text's first or last word with its digits alike, that tells the class."""
    seen: dict[str, Counter[str]] = {}
    size = Counter(classes)
    for (mark, name), number in Counter(zip(marks, classes, strict=True)).items():
        seen.setdefault(mark, Counter())[name] = number
    telling = {mark for mark, counts in seen.items() if mark and _is_telling(counts)}
    told = Counter(name for mark, name in zip(marks, classes, strict=True) if mark in telling)
    share = sum(told.values()) / len(examples)
    large = [label for label in size if size[label] >= FEWEST]
    if len(large) < 2 or share < CERTAIN or any(told[label] < OFTEN * size[label] for label in large):
        return None
    at = [f"{one.file}:{one.line}" for one, mark in zip(examples, marks, strict=True) if mark in telling][:SHOWN]
    return Hidden(
        f"The {which} word of the text tells the class in {share:.0%} of the rows (digits taken alike), such as at {', '.join(at)}. If it is a "
        "mark that texts in use will not have, take it out; else the model learns nothing but the mark, and scores flatter it.",
        share,
        certain=False,
    )


def _copied(examples: Sequence[Example]) -> Hidden | None:
    """Look for long answers that stand in their own prompts."""
    copied = [
        one for one in examples if len(one.response or "") >= LONG_ANSWER and folded(one.response or "") in folded(shown(one))
    ]
    if not examples or len(copied) < max(FEWEST, COPIED * len(examples)):
        return None
    at = ", ".join(f"{one.file}:{one.line}" for one in copied[:SHOWN])
    return Hidden(
        f"In {counted(len(copied), 'row')} of {len(examples):,} the answer stands word for word in the prompt ({at}). That is right where it is "
        "to be found there; else take it out of the prompt.",
        len(copied) / len(examples),
        certain=False,
    )


def _class(example: Example) -> str:
    return " | ".join(sorted(labels_of(example)))


def _is_telling(counts: Mapping[str, int]) -> bool:
    total = sum(counts.values())
    return total >= FEWEST // 2 and max(counts.values()) >= PURE * total


def _mark(label: str) -> str:
    """Return a label as it is looked for; empty where it is too short, or a number, to be told from other words."""
    words = _words(label)
    return words if len(words.strip()) >= 3 and not words.replace(" ", "").isdecimal() else ""


def _words(text: str) -> str:
    return f" {' '.join(WORD.findall(text.casefold()))} "
