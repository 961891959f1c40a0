"""Argilla's JSON: records with `fields`, `suggestions` and `responses`, as `Dataset.records.to_json` writes them (version 2), out and in."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from whet.annotation.exchange import Finder, Incoming, Record, Taken, characters, listed, prompt_of, words
from whet.annotation.items import Item
from whet.annotation.kinds import Job, Kind, Value
from whet.errors import DataError

QUESTIONS: Mapping[Kind, str] = {
    "label": "label", "labels": "labels", "spans": "spans", "text": "answer", "preference": "better", "rating": "rating"
}  # fmt: skip
"""The question's name by what is asked: a label question, a multi-label, span, text, ranking or rating question."""
REASONS, NOTE = "reasons", "note"
FIRST, SECOND = "answer_1", "answer_2"
"""The two answers of a preference, as fields and as options of the ranking."""
NAMES = "annotator."
"""Metadata of whet's own: Argilla knows people by a UUID, and this says who that is."""


def to_records(records: Sequence[Record], job: Job) -> list[dict[str, Any]]:
    """Return the rows as records. Skipped and flagged rows have no response: Argilla keeps them as a status of its own server."""
    question, made = QUESTIONS[job.kind], []
    for record in records:
        answers = [one for one in record.answers if one.action == "answer"]
        responses: dict[str, list[dict[str, Any]]] = {}
        for one in answers:
            for name, value in _values(job, record.item, one.value).items():
                responses.setdefault(name, []).append({"value": value, "user_id": _user(one.annotator)})
        best = max(record.guesses, key=lambda guess: guess.confidence or 0.0, default=None)
        suggestions = {}
        if best is not None:
            value = _values(job, record.item, best.value)[question]
            suggestions[question] = {"value": value, "score": best.confidence, "agent": best.source}
        made.append(
            {
                "id": record.item.key,
                "fields": _fields(record.item.content),
                "metadata": {"source": record.place} | {f"{NAMES}{_user(one.annotator)}": one.annotator for one in answers},
                "suggestions": suggestions,
                "responses": responses,
                "vectors": {},
                "status": "completed" if answers else "pending",
            }
        )
    return made


def read_records(found: object, job: Job, finder: Finder, taken: Taken, name: str) -> Iterator[Incoming]:
    """Yield what people have said in records. Raises DataError where the file holds something else."""
    if not isinstance(found, list) or not all(isinstance(one, dict) and isinstance(one.get("fields"), dict) for one in found):
        raise DataError(f"{name}: is no export of Argilla (a list of records with fields and responses).")
    for record in found:
        item = finder.find(record.get("id"), record["fields"].values())
        if item is None:
            taken.unknown += 1
            continue
        responses = record.get("responses")
        responses = responses if isinstance(responses, dict) else {}
        metadata = record.get("metadata") if isinstance(record.get("metadata"), dict) else {}
        said: dict[str, dict[str, Any]] = {}
        for question, given in responses.items():
            for one in given if isinstance(given, list) else ():
                if isinstance(one, dict) and "value" in one:
                    said.setdefault(str(one.get("user_id")), {})[question] = one["value"]
        for user, values in said.items():
            answer = _answer(job, item, values)
            if answer is not None:
                who = metadata.get(f"{NAMES}{user}") or f"argilla {user}"
                yield Incoming(key=item.key, annotator=str(who), action="answer", value=answer)


def _user(annotator: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"whet:annotator:{annotator}"))


def _fields(content: Mapping[str, Any]) -> dict[str, Any]:
    if "first" in content:
        return {"prompt": prompt_of(content), FIRST: content["first"], SECOND: content["second"]}
    if "answer" in content:
        return {"prompt": prompt_of(content), "answer": content["answer"]}
    return dict(content)


def _values(job: Job, item: Item, value: Value) -> dict[str, Any]:
    """Return an answer by question."""
    question = QUESTIONS[job.kind]
    if job.kind == "spans":
        text, spans = str(item.content["text"]), []
        for span in value:
            begin, end = characters(text, span["first"], span["end"])
            spans.append({"label": span["kind"], "start": begin, "end": end})
        return {question: spans}
    if job.kind == "preference":
        ranks = {"first": (1, 2), "second": (2, 1), "tie": (1, 1)}[value["better"]]
        ranking = [{"value": name, "rank": rank} for name, rank in zip((FIRST, SECOND), ranks, strict=True)]
        more = {REASONS: value["reasons"]} if value["reasons"] else {}
        return {question: ranking} | more | ({NOTE: value["note"]} if value["note"] else {})
    return {question: value}


def _answer(job: Job, item: Item, values: Mapping[str, Any]) -> Value | None:
    """Return one person's answer: to our own question, or to the only one, whatever it is called."""
    asked = [name for name in values if name not in {REASONS, NOTE}]
    question = QUESTIONS[job.kind] if QUESTIONS[job.kind] in values else asked[0] if len(asked) == 1 else None
    if question is None:
        return None
    value = values[question]
    if job.kind == "spans" and isinstance(value, list):
        return [span for one in value if (span := _span(str(item.content["text"]), one)) is not None]
    if job.kind == "preference" and isinstance(value, list):
        ranks = {str(one.get("value")): one.get("rank") for one in value if isinstance(one, dict)}
        first, second = ranks.get(FIRST), ranks.get(SECOND)
        if not isinstance(first, int) or not isinstance(second, int):
            return None
        better = "tie" if first == second else "first" if first < second else "second"
        return {"better": better, "reasons": listed(values.get(REASONS)), "note": str(values.get(NOTE) or "")}
    return value


def _span(text: str, one: object) -> dict[str, Any] | None:
    if not isinstance(one, dict) or not isinstance(one.get("start"), int) or not isinstance(one.get("end"), int):
        return None
    touched = words(text, one["start"], one["end"])
    return None if touched is None else {"kind": one.get("label"), "first": touched[0], "end": touched[1]}
