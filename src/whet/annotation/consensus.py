"""What counts of what several people said: the answer that a row leaves with, and how far they agree."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from whet.annotation.agreement import Agreement, Level, cohen_kappa, fleiss_kappa, krippendorff_alpha
from whet.annotation.answers import Answer
from whet.annotation.items import Item
from whet.annotation.kinds import Job, Kind, Value, comparable, tags_of, words_of

How = Literal["decided", "agreed", "majority", "single", "flagged", "disputed", "open"]
USED: tuple[How, ...] = ("decided", "agreed", "majority", "single")
Units = list[dict[str, Hashable]]
MOST_CONFUSIONS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a row leaves with."""

    how: How
    value: Value | None
    by: tuple[str, ...]
    """Whose answer it is: those who said so, or who settled it."""
    time: float
    """When the last of them said it."""


def outcome(kind: Kind, said: Mapping[str, Answer], decision: Answer | None) -> Outcome:
    """Return a decision, else what all say, else what more than half say; a flagged row, and one without a majority, leaves with nothing."""
    if decision is not None and decision.action == "answer":
        return Outcome("decided", decision.value, (decision.annotator,), decision.time)
    if (decision is not None and decision.action == "flag") or any(one.action == "flag" for one in said.values()):
        return Outcome("flagged", None, tuple(name for name, one in said.items() if one.action == "flag"), 0.0)
    answers = [one for one in said.values() if one.action == "answer"]
    if not answers:
        return Outcome("open", None, (), 0.0)
    counts = Counter(comparable(kind, one.value) for one in answers)
    value, times = counts.most_common(1)[0]
    if 2 * times <= len(answers):
        return Outcome("disputed", None, tuple(one.annotator for one in answers), 0.0)
    those = [one for one in answers if comparable(kind, one.value) == value]
    how: How = "single" if len(answers) == 1 else "agreed" if times == len(answers) else "majority"
    latest = max(those, key=lambda one: one.time)
    return Outcome(how, latest.value, tuple(one.annotator for one in those), latest.time)


def judge(job: Job, items: Mapping[str, Item], answers: Sequence[Answer]) -> dict[str, Any]:
    """Return how far annotators agree, pair by pair and altogether, how fast each is, and what they take for what."""
    given = [one for one in answers if one.action == "answer" and one.key in items]
    found = units(job, items, given)
    names = sorted({one.annotator for one in answers})
    levels: tuple[Level, ...] = ("nominal", "ordinal", "interval") if job.kind == "rating" else ("nominal",)
    pairs = [{"first": one, "second": two, **_pair(found, one, two)} for one, two in itertools.combinations(names, 2)]
    return {
        "unit": {"spans": "word", "labels": "label of a row"}.get(job.kind, "row"),
        "annotators": [_annotator(name, answers) for name in names],
        "pairs": [pair for pair in pairs if pair["n"]],
        "fleiss_kappa": asdict(fleiss_kappa(found)),
        "krippendorff_alpha": {level: asdict(krippendorff_alpha(found, level)) for level in levels},
        "confusions": _confusions(found),
    }


def units(job: Job, items: Mapping[str, Item], answers: Sequence[Answer]) -> Units:
    """Return what is compared: each row; of several labels each label of a row, yes or no; of spans each word's label."""
    said: dict[str, dict[str, Value]] = {}
    for one in answers:
        said.setdefault(one.key, {})[one.annotator] = one.value
    if job.kind == "labels":
        return [{who: label in value for who, value in by.items()} for by in said.values() for label in job.labels]
    if job.kind == "spans":
        found: Units = []
        for key, by in said.items():
            tags = {who: tags_of(value, len(words_of(items[key].content))) for who, value in by.items()}
            found += [dict(zip(tags, word, strict=True)) for word in zip(*tags.values(), strict=True)]
        return found
    return [{who: comparable(job.kind, value) for who, value in by.items()} for by in said.values()]


def _pair(found: Units, one: str, two: str) -> dict[str, Any]:
    both = [(unit[one], unit[two]) for unit in found if one in unit and two in unit]
    kappa: Agreement = cohen_kappa(found, one, two)
    return {"n": len(both), "same": sum(a == b for a, b in both) / len(both) if both else None, "cohen_kappa": kappa.value}


def _annotator(name: str, answers: Sequence[Answer]) -> dict[str, Any]:
    own = [one for one in answers if one.annotator == name]
    paces = [one.seconds for one in own if one.seconds is not None and one.action == "answer"]
    counts = Counter(one.action for one in own)
    return {
        "name": name,
        **{action: counts[action] for action in ("answer", "skip", "flag")},
        "median_seconds": statistics.median(paces) if paces else None,
    }


def _confusions(found: Units) -> list[dict[str, Any]]:
    """Return the two answers that most often stand against each other, with how often."""
    times: Counter[tuple[str, str]] = Counter()
    for unit in found:
        for one, two in itertools.combinations(sorted(map(str, unit.values())), 2):
            times[one, two] += one != two
    return [{"first": one, "second": two, "times": number} for (one, two), number in times.most_common(MOST_CONFUSIONS) if number]
