"""Rows as they are shown to annotators, known by what is shown: a label follows its row wherever it moves in the file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import xxhash

from whet.annotation.kinds import Kind, NotAllowed, Value, name_of, spans_of
from whet.data.columns import is_empty, is_number
from whet.data.labels import label_key, merged_labels
from whet.data.rows import RawRow, Reject
from whet.data.shapes import Shape, example, plain, question, several, unchanged
from whet.recipe_data import Data
from whet.types import Example


@dataclass(frozen=True, slots=True)
class Item:
    """What is shown of a row, and what the file says of it already."""

    key: str
    """Hash of `content`: rows that look the same are one item."""
    content: Mapping[str, Any]
    """`text` and `text_pair`, or `turns` with `answer`, or `turns` with `first` and `second`."""
    given: Value | None
    """The answer that stands in the file; None where there is none."""
    places: tuple[RawRow, ...]
    """The rows, as they stand in the files."""


def items_of(rows: Iterable[RawRow | Reject], columns: Data, kind: Kind) -> tuple[list[Item], list[Reject]]:
    """Return each different row once, in order, and the rows that cannot be shown."""
    contents: dict[str, Mapping[str, Any]] = {}
    places: dict[str, list[RawRow]] = {}
    rejects: list[Reject] = []
    for row in rows:
        content = row if isinstance(row, Reject) else shown(row, columns, kind)
        if isinstance(content, Reject):
            rejects.append(content)
            continue
        assert isinstance(row, RawRow)
        key = key_of(content)
        contents.setdefault(key, content)
        places.setdefault(key, []).append(row)
    found = [
        Item(key, content, given_by(places[key][0].fields, columns, kind, content), tuple(places[key]))
        for key, content in contents.items()
    ]
    return found, rejects


def key_of(content: Mapping[str, Any]) -> str:
    """Return the hash by which a row is known."""
    text = json.dumps(content, ensure_ascii=False, sort_keys=True)
    return str(xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass")))


def shown(row: RawRow, columns: Data, kind: Kind) -> dict[str, Any] | Reject:
    """Return what is shown of a row, or why nothing can be."""
    if kind == "preference":
        found = example(row, Shape(columns, ("messages", "chosen", "rejected")), 0)
        if isinstance(found, Reject):
            return found
        return {"turns": _turns(found, answered=True), "first": found.chosen, "second": found.rejected}
    asked = question(row, columns if kind == "text" else columns.model_copy(update={"label": None}), unchanged, 0)
    if isinstance(asked, Reject):
        return asked
    if kind == "text":
        answered = example(row, Shape(columns, ("messages",)), 0)
        answer = "" if isinstance(answered, Reject) else answered.response or ""
        return {"turns": _turns(asked, answered=False), "answer": answer}
    if not (asked.text or "").strip():
        return Reject(row.file, row.line, f"'{columns.text}' is empty", "Fill it in, or delete the row.")
    return {"text": asked.text} | ({"text_pair": asked.text_pair} if asked.text_pair else {})


def given_by(fields: Mapping[str, object], columns: Data, kind: Kind, content: Mapping[str, Any]) -> Value | None:
    """Return what a row already says; None where it says nothing, or nothing that could be an answer."""
    if kind == "text":
        return content["answer"] or None
    if kind == "preference":
        return {"better": "first", "reasons": [], "note": ""}
    if kind == "spans":
        return _given_spans(fields, columns, content)
    column = (columns.labels or columns.label) if kind == "labels" else columns.label
    value = None if column is None else fields.get(column)
    if is_empty(value):
        return None
    if kind == "labels":
        return [" ".join(label.split()) for label in several(value)] or None
    if kind == "rating":
        return round(float(str(value))) if is_number(value) else None
    try:
        return name_of(plain(value)) if not isinstance(value, list | dict) else None
    except NotAllowed:
        return None


def labels_of(items: Sequence[Item], kind: Kind) -> tuple[str, ...]:
    """Return the labels that stand in the files, in order of their names."""
    if kind == "label":
        return tuple(sorted({item.given for item in items if item.given is not None}))
    if kind == "labels":
        return tuple(sorted({label for item in items for label in item.given or ()}))
    if kind == "spans":
        return tuple(sorted({span["kind"] for item in items for span in item.given or ()}))
    return ()


def spelt_alike(
    items: Sequence[Item], kind: Kind, known: Sequence[str], synonyms: Mapping[str, str]
) -> tuple[list[Item], dict[str, str]]:
    """Return the items with one spelling for each label of the files, as training reads them, and which spellings became which.

    That is the most frequent one, or one that is `known`: those that the user has named stay as they are.
    """
    if kind not in {"label", "labels", "spans"}:
        return list(items), {}
    counts = Counter(label for item in items for label in _named_by(item, kind))
    for label in known:
        counts[label] += len(items) + 1
    best = merged_labels(counts)
    others = {label_key(name): label for name, label in synonyms.items()}
    final = {label: others.get(label_key(label), best.get(label, label)) for label in counts if label not in known}
    changed = {label: name for label, name in final.items() if name != label}
    return ([replace(item, given=_respelt(item.given, kind, changed)) for item in items] if changed else list(items)), changed


def _named_by(item: Item, kind: Kind) -> list[str]:
    if item.given is None:
        return []
    return [item.given] if kind == "label" else item.given if kind == "labels" else [span["kind"] for span in item.given]


def _respelt(given: Value | None, kind: Kind, names: Mapping[str, str]) -> Value | None:
    if given is None:
        return None
    if kind == "label":
        return names.get(given, given)
    if kind == "labels":
        return list(dict.fromkeys(names.get(label, label) for label in given))
    return [{**span, "kind": names.get(span["kind"], span["kind"])} for span in given]


def text_of(content: Mapping[str, Any]) -> str:
    """Return all that is shown, as one text to compare rows by."""
    turns = [turn["content"] for turn in content.get("turns", ())]
    own = [content[name] for name in ("text", "text_pair") if content.get(name)]
    return "\n".join([*turns, *own])


def _turns(found: Example, *, answered: bool) -> list[dict[str, str]]:
    turns = found.messages or ()
    return [{"role": turn.role, "content": turn.content} for turn in (turns[:-1] if answered else turns)]


def _given_spans(fields: Mapping[str, object], columns: Data, content: Mapping[str, Any]) -> Value | None:
    value = None if columns.token_labels is None else fields.get(columns.token_labels)
    if is_empty(value):
        return None
    tags = [str(tag) for tag in value] if isinstance(value, list) else str(value).split()
    usable = len(tags) == len(str(content["text"]).split()) and all(tag == "O" or tag[:2] in {"B-", "I-"} for tag in tags)
    return spans_of(tags) if usable else None
