"""Rows made into examples, cleaned and looked through for private data, stretch by stretch: the same in this process and in another."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

from whet.data.clean import build_cleaners
from whet.data.keys import text_key
from whet.data.redact import build_redactor, redact_row, texts_of, wanted
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.recipe_data import Data
from whet.types import Example, Message


@dataclass(frozen=True, slots=True)
class Making:
    """What has to be known to make examples of rows."""

    columns: Data
    """The final mapping."""
    needs: tuple[str, ...]
    folder: Path | None
    """The recipe's, from where cleaners of the user's own come."""
    key: bytes
    """What stand-ins of private data are made with (`redact.secret_key`)."""


class Made(NamedTuple):
    """What became of some rows."""

    items: list[Example | Reject]
    """One for each row."""
    changed: Counter[str]
    """Cleaner and the number of texts that it changed, in the order of the first of them."""
    private: dict[int, list[str]]
    """Of items with private data, by place, the kinds that were found."""


class Maker:
    """Makes examples of rows. Their keys are known afterwards, since that is work too."""

    def __init__(self, making: Making) -> None:
        self._making = making
        self._cleaners = build_cleaners(making.columns, making.folder, key=making.key)
        asked = wanted(making.columns)
        self._changes = asked is not None and asked.changes
        self._redactor = self._cleaners.redactor or (None if asked is None else build_redactor(asked, b""))

    def __call__(self, rows: Sequence[RawRow | Reject], judged: bool, first: int = 0) -> Made:
        """Return what became of the rows, the examples numbered from `first`. Those that are `judged` on no cleaner drops."""
        changed: Counter[str] = Counter()
        repaired_by = self._cleaners.changes if judged else self._cleaners.learnt

        def clean(text: str) -> str:
            repaired, names = repaired_by(text)
            if names:
                changed.update(names)
            return repaired

        items = list(to_examples(rows, self._making.columns, self._making.needs, clean, first))
        private: dict[int, list[str]] = {}
        if self._redactor is not None:
            self._redactor.ahead([text for item in items if isinstance(item, Example) for text in texts_of(item)])
        for place, item in enumerate(items):
            if isinstance(item, Reject):
                continue
            if self._redactor is not None:
                item, kinds = redact_row(item, self._redactor, changes=self._changes)
                if kinds:
                    items[place], private[place] = item, kinds
            text_key(item)
        return Made(items, changed, private)


def packed_rows(rows: Sequence[RawRow | Reject]) -> bytes:
    """Return rows for another process, or for the disk: JSON, in which a file with its columns' names stands once."""
    heads: dict[tuple[str, ...], int] = {}
    lines: list[object] = [
        asdict(row)
        if isinstance(row, Reject)
        else [heads.setdefault((row.file, *row.fields), len(heads)), row.line, *row.fields.values()]
        for row in rows
    ]
    return _JSON.encode([list(heads), lines]).encode("utf-8", "surrogatepass")


def unpacked_rows(packed: bytes) -> list[RawRow | Reject]:
    """Return the rows again."""
    heads, lines = json.loads(packed.decode("utf-8", "surrogatepass"))
    found: list[RawRow | Reject] = []
    for row in lines:
        if isinstance(row, dict):
            found.append(Reject(**row))
        else:
            head, line, *values = row
            file, *names = heads[head]
            found.append(RawRow(file, line, dict(zip(names, values, strict=True))))
    return found


def packed_made(made: Made) -> bytes:
    """Return what was made for another process: field by field, which takes a fraction of the time of object by object.

    By pickle, since it goes through a pipe from a process that this one began, and never to the disk.
    """
    rejects = {place: item for place, item in enumerate(made.items) if isinstance(item, Reject)}
    examples = [item for item in made.items if isinstance(item, Example)]
    columns: dict[str, list[Any]] = {}
    for name in _NAMES:
        column = list(map(attrgetter(name), examples))
        if name in _TURNS:
            column = [turns and tuple((turn.role, turn.content) for turn in turns) for turns in column]
        if any(column) or (name != "tags" and any(value is not None for value in column)):
            columns[name] = column
    return pickle.dumps((len(examples), columns, rejects, made.changed, made.private), pickle.HIGHEST_PROTOCOL)


def unpacked_made(packed: bytes, first: int) -> Made:
    """Return what was made again, the examples numbered from `first`."""
    number, columns, rejects, changed, private = pickle.loads(packed)
    for name in _TURNS & columns.keys():
        columns[name] = [turns and tuple(Message(*turn) for turn in turns) for turns in columns[name]]
    columns["id"] = list(range(first, first + number))
    columns.setdefault("line", [0] * number)
    columns.setdefault("file", [""] * number)
    columns["tags"] = columns["tags"] if "tags" in columns else [{} for _ in range(number)]
    made: list[Example] = [object.__new__(Example) for _ in range(number)]
    for name in _NAMES:
        put = Example.__dict__[name].__set__
        for example, value in zip(made, columns.get(name) or [None] * number, strict=True):
            put(example, value)
    left = iter(made)
    return Made([rejects[place] if place in rejects else next(left) for place in range(number + len(rejects))], changed, private)


_JSON = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":"))
_NAMES = tuple(field.name for field in fields(Example))
_TURNS = {"messages", "shots"}
