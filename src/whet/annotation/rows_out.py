"""Annotated rows as files that `whet train` reads at once: the row as it was, its answer, and where the answer is from."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from whet.annotation.answers import Change
from whet.annotation.consensus import USED, Outcome, outcome
from whet.annotation.exchange import Incoming, Taken, moment, when
from whet.annotation.items import Item, items_of
from whet.annotation.kinds import Job, Value, tags_of, words_of
from whet.annotation.store import Store
from whet.data.rows import RawRow
from whet.errors import DataError
from whet.recipe_data import Data

BY, AT, HOW, FROM = "annotated_by", "annotated_at", "annotated_how", "annotated_from"
"""Columns that are added: whose answer it is, when it was given, how it came about (consensus.How), and the file and line of the row."""
BETWEEN = "; "
"""Between names of several people."""
FILE = "file"
"""How an answer came about that nobody has touched: it stood in the file."""


@dataclass(slots=True)
class Exported:
    """Rows to be written, and what was left out."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    used: Counter[str] = field(default_factory=Counter)
    """How answers came about, and the number of rows."""
    left_out: Counter[str] = field(default_factory=Counter)
    """Why rows have no place in it, and their number."""


def collect(store: Store, job: Job, columns: Data, *, only_annotated: bool) -> Exported:
    """Return every row with the answer that it leaves with. Rows that nobody answered keep what the file says, unless `only_annotated`."""
    found = Exported()
    said: dict[str, dict[str, Any]] = {}
    for answer in store.answers():
        said.setdefault(answer.key, {})[answer.annotator] = answer
    settled = {decision.key: decision for decision in store.decisions()}
    for item in store.items():
        end = outcome(job.kind, said.get(item.key, {}), settled.get(item.key))
        how: str = end.how
        value = end.value
        if end.how == "open" and item.given is not None and not only_annotated:
            how, value = FILE, item.given
        if how not in {*USED, FILE}:
            found.left_out[how] += len(item.places)
        elif job.kind == "labels" and not value:
            found.left_out["no label"] += len(item.places)
        elif job.kind == "preference" and value is not None and value["better"] == "tie":
            found.left_out["neither better"] += len(item.places)
        else:
            found.used[how] += len(item.places)
            found.rows += [_row(job, columns, item, place, value, how, end) for place in item.places]
    return found


def as_jsonl(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as lines of JSON."""
    return "".join(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def as_csv(rows: Sequence[Mapping[str, Any]], job: Job, columns: Data) -> str:
    """Return the rows as csv; lists become texts that training reads as the lists again. Raises DataError where a label cannot be one."""
    several = _answer_column(job, columns) if job.kind == "labels" else None
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value, name == several) for name, value in row.items()})
    return text.getvalue()


def history_lines(store: Store, changes: Sequence[Change]) -> Iterator[dict[str, Any]]:
    """Yield every change for a file of its own: who, when, before, after, and which row."""
    places = {item.key: item.places for item in store.items(gone=True)}
    for one in changes:
        where = places.get(one.key, ())
        yield {
            "key": one.key, "row": f"{where[0].file}:{where[0].line}" if where else None, "who": one.annotator, "when": when(one.time),
            "what": one.subject, "before": one.before, "after": one.after, "seconds": one.seconds, "through": one.source,
            "undo": one.undoes is not None,
        }  # fmt: skip


def read_rows(
    rows: Sequence[RawRow], job: Job, columns: Data, known: Mapping[str, Item], who: str, taken: Taken
) -> Iterator[Incoming]:
    """Yield the answers that rows of a file with the same columns hold."""
    items, _ = items_of(rows, columns, job.kind)
    for item in items:
        if item.key not in known:
            taken.unknown += 1
            continue
        fields = item.places[0].fields
        if item.given is None or fields.get(HOW) == FILE:
            continue
        names = str(fields.get(BY) or who).split(BETWEEN)
        for name in names:
            yield Incoming(key=item.key, annotator=name, action="answer", value=item.given, time=moment(fields.get(AT)))


def _row(job: Job, columns: Data, item: Item, place: RawRow, value: Value, how: str, end: Outcome) -> dict[str, Any]:
    row = {**place.fields, **_fields(job, columns, item, place, value)}
    row[BY] = BETWEEN.join(end.by) if how != FILE else ""
    row[AT] = when(end.time) if how != FILE else ""
    return {**row, HOW: how, FROM: f"{place.file}:{place.line}"}


def _answer_column(job: Job, columns: Data) -> str:
    if job.kind == "labels":
        return columns.labels or columns.label or "labels"
    if job.kind == "spans":
        return columns.token_labels or "token_labels"
    return columns.response or "response" if job.kind == "text" else columns.label or "label"


def _fields(job: Job, columns: Data, item: Item, place: RawRow, value: Value) -> dict[str, Any]:
    """Return what the answer changes in a row."""
    if job.kind == "preference":
        assert columns.chosen is not None and columns.rejected is not None, "a preference has both"
        sides = [place.fields[columns.chosen], place.fields[columns.rejected]]
        chosen, rejected = sides if value["better"] == "first" else reversed(sides)
        more = {"preference_reasons": value["reasons"], "preference_note": value["note"]}
        return {columns.chosen: chosen, columns.rejected: rejected, **more}
    if job.kind == "spans":
        return {_answer_column(job, columns): tags_of(value, len(words_of(item.content)))}
    if job.kind == "text" and columns.messages is not None:
        turns = [*item.content["turns"], {"role": "assistant", "content": value}]
        return {columns.messages: turns}
    return {_answer_column(job, columns): value}


def _cell(value: object, several: bool) -> object:
    """Return a value as it stands in csv."""
    if several and isinstance(value, list):
        if any("|" in label for label in value):
            raise DataError("a label with | in it cannot stand beside others in csv. Write jsonl: --format jsonl")
        joined = "|".join(value)
        return f"{joined}|" if len(value) == 1 and any(mark in joined for mark in ";,") else joined
    if isinstance(value, list) and all(isinstance(one, str) and one and len(one.split()) == 1 for one in value):
        return " ".join(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict) else value
