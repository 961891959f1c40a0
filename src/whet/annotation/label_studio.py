"""Label Studio's JSON: tasks with `data`, `annotations` and `predictions` (labelstud.io/guide/task_format), out and in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any
from xml.sax.saxutils import quoteattr

from whet.annotation.exchange import (
    Finder,
    Incoming,
    Record,
    Taken,
    characters,
    listed,
    moment,
    prompt_of,
    seconds_of,
    when,
    words,
)
from whet.annotation.items import Item
from whet.annotation.kinds import Job, Value
from whet.errors import DataError

OWN = "whet"
"""Key in a task's data of what only whet reads: the row's key, and who made each annotation."""
FLAG, REASONS, NOTE, TIE = "flag", "reasons", "note", "tie"
"""Names of the controls that are no answer of their own."""
LEFT, RIGHT = ("left", "right")


def tasks(records: Sequence[Record], job: Job) -> list[dict[str, Any]]:
    """Return the rows as tasks, with an annotation for each person and a prediction for each model."""
    made = []
    for number, record in enumerate(records, 1):
        content, data = record.item.content, _data(record)
        data[OWN] = {"key": record.item.key, "annotators": [one.annotator for one in record.answers]}
        annotations = [
            {
                "result": _result(job, content, one.value)
                if one.action == "answer"
                else _flag(one.reason, one.action == "flag", job),
                "was_cancelled": one.action == "skip",
                "created_at": when(one.time),
                **({} if one.seconds is None else {"lead_time": one.seconds}),
            }
            for one in record.answers
        ]
        predictions = [
            {"model_version": guess.source, "score": guess.confidence, "result": _result(job, content, guess.value)}
            for guess in record.guesses
        ]
        made.append({"id": number, "data": data, "annotations": annotations, "predictions": predictions})
    return made


def config(job: Job) -> str:
    """Return the labelling interface that these tasks are made for, as Label Studio's project settings take it."""
    names = [f"    <{'Label' if job.kind == 'spans' else 'Choice'} value={quoteattr(label)}/>" for label in job.labels]
    shown = '  <Text name="text" value="$text"/>'
    asked = '  <Text name="text" value="$prompt"/>'
    several = ' choice="multiple"' if job.kind == "labels" else ""
    body = {
        "label": [shown, f'  <Choices name="label" toName="text"{several}>', *names, "  </Choices>"],
        "spans": [shown, '  <Labels name="label" toName="text">', *names, "  </Labels>"],
        "text": [asked, '  <TextArea name="answer" toName="text" value="$answer" maxSubmissions="1" editable="true"/>'],
        "rating": [shown, f'  <Rating name="rating" toName="text" maxRating="{job.high}"/>'],
        "preference": [
            asked,
            '  <Pairwise name="better" toName="left,right"/>',
            '  <Text name="left" value="$left"/>',
            '  <Text name="right" value="$right"/>',
            f'  <Choices name="{REASONS}" toName="text" choice="multiple">',
            *(f"    <Choice value={quoteattr(reason)}/>" for reason in job.reasons),
            "  </Choices>",
            f'  <TextArea name="{NOTE}" toName="text"/>',
        ],
    }
    return "\n".join(["<View>", *body["label" if job.kind == "labels" else job.kind], "</View>"]) + "\n"


def read_tasks(found: object, job: Job, finder: Finder, taken: Taken, name: str) -> Iterator[Incoming]:
    """Yield what people have said in tasks. Raises DataError where the file holds something else."""
    if not isinstance(found, list) or not all(isinstance(one, dict) and isinstance(one.get("data"), dict) for one in found):
        raise DataError(f"{name}: is no export of Label Studio in the format JSON (a list of tasks with data and annotations).")
    for task in found:
        data, own = task["data"], task["data"].get(OWN)
        own = own if isinstance(own, dict) else {}
        item = finder.find(own.get("key"), data.values())
        if item is None:
            taken.unknown += 1
            continue
        names = listed(own.get("annotators"))
        for place, one in enumerate(listed(task.get("annotations"))):
            if isinstance(one, dict):
                who = names[place] if place < len(names) else _who(one.get("completed_by"))
                yield from _incoming(item, one, str(who), job)


def _incoming(item: Item, one: Mapping[str, Any], who: str, job: Job) -> Iterator[Incoming]:
    results = [
        result for result in listed(one.get("result")) if isinstance(result, dict) and isinstance(result.get("value"), dict)
    ]
    said = partial(
        Incoming, key=item.key, annotator=who, time=moment(one.get("created_at")), seconds=seconds_of(one.get("lead_time"))
    )
    flagged = next((_texts(result["value"]) for result in results if result.get("from_name") == FLAG), None)
    if flagged:
        yield said(action="flag", reason=str(flagged[0]))
    elif one.get("was_cancelled"):
        yield said(action="skip")
    elif results or job.kind in {"labels", "spans"}:
        yield said(action="answer", value=_value(job, item, results))


def _data(record: Record) -> dict[str, Any]:
    content = record.item.content
    if "first" in content:
        return {"prompt": prompt_of(content), LEFT: content["first"], RIGHT: content["second"], "source": record.place}
    if "answer" in content:
        return {"prompt": prompt_of(content), "answer": content["answer"], "source": record.place}
    return {**content, "source": record.place}


def _result(job: Job, content: Mapping[str, Any], value: Value) -> list[dict[str, Any]]:
    if job.kind in {"label", "labels"}:
        return [_control("label", "choices", {"choices": value if isinstance(value, list) else [value]})]
    if job.kind == "rating":
        return [_control("rating", "rating", {"rating": value})]
    if job.kind == "text":
        return [_control("answer", "textarea", {"text": [value]})]
    if job.kind == "preference":
        return _preferred(value)
    made = []
    for place, span in enumerate(value):
        begin, end = characters(str(content["text"]), span["first"], span["end"])
        shown = {"start": begin, "end": end, "text": str(content["text"])[begin:end], "labels": [span["kind"]]}
        made.append({"id": f"span-{place}", **_control("label", "labels", shown)})
    return made


def _preferred(value: Value) -> list[dict[str, Any]]:
    made = []
    if value["better"] == "tie":
        made.append(_control(TIE, "choices", {"choices": [TIE]}))
    else:
        selected = LEFT if value["better"] == "first" else RIGHT
        made.append({**_control("better", "pairwise", {"selected": selected}), "to_name": f"{LEFT},{RIGHT}"})
    made += [_control(REASONS, "choices", {"choices": value["reasons"]})] if value["reasons"] else []
    return made + ([_control(NOTE, "textarea", {"text": [value["note"]]})] if value["note"] else [])


def _flag(reason: str, flagged: bool, job: Job) -> list[dict[str, Any]]:
    return [_control(FLAG, "textarea", {"text": [reason]})] if flagged else []


def _control(name: str, kind: str, value: dict[str, Any]) -> dict[str, Any]:
    return {"from_name": name, "to_name": "text", "type": kind, "value": value}


def _value(job: Job, item: Item, results: Sequence[Mapping[str, Any]]) -> Value:
    """Return the answer that results say; one of another shape is left to the job's own check."""
    values = [(str(result.get("from_name")), result["value"]) for result in results]
    plain = [value for name, value in values if name not in {REASONS, NOTE, TIE}]
    first: Mapping[str, Any] = plain[0] if plain else {}
    if job.kind == "label":
        return (listed(first.get("choices")) or [None])[0]
    if job.kind == "labels":
        return [label for value in plain for label in listed(value.get("choices"))]
    if job.kind == "rating":
        return first.get("rating")
    if job.kind == "text":
        return "\n".join(map(str, _texts(first)))
    if job.kind == "preference":
        chosen = {LEFT: "first", RIGHT: "second"}.get(str(first.get("selected")), "")
        tie = any(name == TIE for name, _ in values)
        reasons = [one for name, value in values if name == REASONS for one in listed(value.get("choices"))]
        notes = [str(one) for name, value in values if name == NOTE for one in _texts(value)]
        return {"better": "tie" if tie else chosen, "reasons": reasons, "note": " ".join(notes)}
    spans = []
    for value in plain:
        start, end, labels = value.get("start"), value.get("end"), listed(value.get("labels"))
        if isinstance(start, int) and isinstance(end, int) and labels:
            touched = words(str(item.content["text"]), start, end)
            spans += [] if touched is None else [{"kind": labels[0], "first": touched[0], "end": touched[1]}]
    return spans


def _texts(value: Mapping[str, Any]) -> list[Any]:
    """Return the texts of a field, which is a list, or one text alone."""
    found = value.get("text")
    return [found] if isinstance(found, str) else listed(found)


def _who(completed_by: object) -> str:
    """Return who made an annotation, as Label Studio says it: a number, an address, or an object with one."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("username") or completed_by.get("id")
    return f"label-studio {'' if completed_by is None else completed_by}".strip()
