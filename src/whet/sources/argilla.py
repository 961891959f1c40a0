"""Rows of Argilla's records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from whet.collect.exports import Exports, Paths, longest_text, settled, tags
from whet.data.rows import RawRow, Reject
from whet.plugins import plugin

FLAT = ".responses"
"""How the columns of answers end where records were written flat."""
OPEN = ("draft", "discarded")
"""What a person said and did not hand in."""


@plugin
class Argilla(Exports):
    """Records labelled in Argilla: a column for each field and each question; of several people the majority counts."""

    path: Paths
    """What `dataset.records.to_json`, `to_list` or `to_datasets` gave, or version 1 wrote; one or several files."""

    @classmethod
    def recognises(cls, record: Mapping[str, object]) -> bool:
        """Whether it has fields and people's responses, nested or flat."""
        nested = isinstance(record.get("fields"), Mapping) and isinstance(record.get("responses"), Mapping | list)
        return nested or (any(name.endswith(FLAT) for name in record) and {"id", "status"} <= record.keys())

    def row(self, row: RawRow) -> RawRow | Reject:
        """Return a record as a row."""
        return _row(row)


def _row(row: RawRow) -> RawRow | Reject:
    shown = row.fields.get("fields")
    if isinstance(shown, Mapping):
        answers = _nested(row.fields.get("responses"))
    elif any(name.endswith(FLAT) for name in row.fields):
        questions = [name.removesuffix(FLAT) for name in row.fields if name.endswith(FLAT)]
        shown, answers = _shown(row.fields, questions), _flat(row.fields, questions)
    else:
        return Reject(
            row.file, row.line, "is no record of Argilla (no 'fields')", "Write them with dataset.records.to_json(path)."
        )
    said = {name: [_plain(value, shown) for value in values] for name, values in answers.items()}
    return settled(row, shown, {name: values for name, values in said.items() if values})


def _nested(responses: object) -> dict[str, list[object]]:
    """Return the answers by question: version 2 has a list for each question, version 1 an object for each person."""
    found: dict[str, list[object]] = {}
    if isinstance(responses, Mapping):
        for question, given in responses.items():
            values = [one for one in given if isinstance(one, Mapping)] if isinstance(given, list) else []
            found[str(question)] = [
                one["value"] for one in values if one.get("value") is not None and one.get("status") not in OPEN
            ]
    for person in responses if isinstance(responses, list) else ():
        handed_in = person.get("values") if isinstance(person, Mapping) and person.get("status") not in OPEN else None
        for question, one in handed_in.items() if isinstance(handed_in, Mapping) else ():
            if isinstance(one, Mapping) and one.get("value") is not None:
                found.setdefault(str(question), []).append(one["value"])
    return found


def _flat(record: Mapping[str, Any], questions: list[str]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = {}
    for question in questions:
        values = record[f"{question}{FLAT}"]
        given = list(values) if isinstance(values, list | tuple) else []
        states = record.get(f"{question}{FLAT}.status")
        states = list(states) if isinstance(states, list | tuple) and len(states) == len(given) else [None] * len(given)
        found[question] = [value for value, state in zip(given, states, strict=True) if value is not None and state not in OPEN]
    return found


def _shown(record: Mapping[str, Any], questions: list[str]) -> dict[str, object]:
    """Return what flat records hold beside their questions and their own numbering."""
    asked = tuple(f"{question}{end}" for question in questions for end in (FLAT, ".suggestion"))
    return {
        name: value for name, value in record.items() if not name.startswith(asked) and name not in {"id", "status", "_server_id"}
    }


def _plain(answer: object, shown: Mapping[str, object]) -> object:
    """Return spans as a label for each word of the longest text, a ranking as the name of what is best, all else as it is."""
    if not isinstance(answer, list) or not answer or not all(isinstance(one, Mapping) for one in answer):
        return answer
    if all(isinstance(one.get("start"), int) and isinstance(one.get("end"), int) and "label" in one for one in answer):
        return tags(longest_text(shown), ((one["start"], one["end"], str(one["label"])) for one in answer))
    if all("value" in one and isinstance(one.get("rank"), int) for one in answer):
        best = min(one["rank"] for one in answer)
        return " = ".join(str(one["value"]) for one in answer if one["rank"] == best)
    return answer
