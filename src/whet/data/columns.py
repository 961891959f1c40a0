"""What the columns of a file hold: texts, classes, numbers, conversations, numbering."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from whet.data.labels import label_key
from whet.data.names import is_date, is_identifier, part_named, plain
from whet.data.rows import RawRow
from whet.data.telling import told
from whet.data.times import ORDERS, seconds
from whet.data.values import as_json

Form = Literal["text", "number", "flag", "turns", "turn", "list", "other", "empty"]
LOOKED_AT = 50
"""Different values, from the first to the last of a column, that tell whether it holds dates."""
DATES = 0.8
"""Share of them above which it does."""
PLAUSIBLE_S = (-5_364_662_400, 7_289_654_400)
"""Seconds of dates that rows have: from 1800 to 2200. Others are rather telephone numbers or versions."""


@dataclass(frozen=True, slots=True)
class Column:
    """What is known of one column from the rows that were looked at."""

    name: str
    form: Form
    num_filled: int
    counts: Mapping[str, int]
    """How often each value stands there."""
    mean_characters: float
    mean_words: float
    answered: bool = True
    """For conversations: whether they hold an assistant's turn."""
    told: float = 0.0
    """How well the texts beside it tell its values, 0 (chance) to 1; taken where several columns hold classes."""

    @property
    def num_distinct(self) -> int:
        return len(self.counts)

    @property
    def num_classes(self) -> int:
        """Different values, spellings of one label counted once."""
        return len({label_key(value) for value in self.counts})

    @property
    def says_part(self) -> bool:
        """Whether it says which part of a split each row is in: it is called split, or its values are train and others like it."""
        parts = {part_named(value) for value in self.counts}
        return plain(self.name) == "split" or (len(parts) > 1 and "train" in parts and None not in parts)

    @property
    def is_about(self) -> bool:
        """Whether it numbers or dates the rows rather than saying something."""
        return is_identifier(self.name) or is_date(self.name) or self.is_dates

    @property
    def is_dates(self) -> bool:
        """Whether nearly all that stands in it is dates, whatever it is called. Plain numbers are none: any of them is a stamp too."""
        values = list(self.counts)
        values = values[:: max(1, len(values) // LOOKED_AT)]
        return self.form == "text" and sum(map(_is_date, values)) > DATES * len(values)

    @property
    def is_classes(self) -> bool:
        """Whether it holds few short values that come again, as classes do."""
        if (
            self.form not in {"text", "number", "flag"}
            or self.num_distinct < 2
            or self.mean_characters > 60
            or self.mean_words > 6
        ):
            return False
        return 2 * self.num_distinct <= self.num_filled or (self.num_filled < 10 and self.num_distinct < self.num_filled)

    @property
    def is_continuous(self) -> bool:
        """Whether it holds numbers of which there are too many, or too fine ones, to be classes."""
        if self.form != "number" or self.num_distinct <= 10:
            return False
        return self.num_distinct > 20 or any(not float(value).is_integer() for value in self.counts)

    @property
    def is_prose(self) -> bool:
        """Whether it holds texts that somebody wrote."""
        return (
            self.form == "text"
            and not self.is_about
            and (self.mean_words >= 2 or self.mean_characters >= 15)
            and not self.is_links
        )

    @property
    def is_links(self) -> bool:
        return all(value.startswith(("http://", "https://", "www.")) for value in list(self.counts)[:20])


def look(rows: Sequence[RawRow]) -> dict[str, Column]:
    """Return what each column of these rows holds, in the order of first appearance."""
    values: dict[str, list[object]] = {}
    for row in rows:
        for name, value in row.fields.items():
            values.setdefault(name, []).append(value)
    columns = {name: _column(name, [value for value in column if not is_empty(value)]) for name, column in values.items()}
    return {**columns, **_told(columns, rows)}


def _told(columns: Mapping[str, Column], rows: Sequence[RawRow]) -> dict[str, Column]:
    """Return the columns of classes with how well the texts tell them, where there are several."""
    classes = [column for column in columns.values() if column.is_classes and not column.is_continuous and not column.is_about]
    prose = [column for column in columns.values() if column.is_prose and not column.is_classes]
    if len(classes) < 2 or not prose:
        return {}
    text = max(prose, key=lambda column: column.mean_characters).name
    found = {}
    for column in classes:
        both = [
            (str(row.fields[text]), str(row.fields[column.name]))
            for row in rows
            if not is_empty(row.fields.get(text)) and not is_empty(row.fields.get(column.name))
        ]
        found[column.name] = replace(column, told=told([one for one, _ in both], [value for _, value in both]))
    return found


def is_empty(value: object) -> bool:
    """Whether a field holds nothing."""
    return (
        value is None
        or value == ""
        or value == []
        or (isinstance(value, float) and math.isnan(value))
        or (isinstance(value, str) and not value.strip())
    )


def turns_of(value: object) -> list[Mapping[str, object]] | None:
    """Return a conversation's turns, also where they are JSON in a text, or the `messages` of an object; None where it is no conversation."""
    if isinstance(value, str) and value.lstrip().startswith("[{"):
        try:
            value = as_json(json.loads(value))
        except (ValueError, RecursionError):
            return None
    if isinstance(value, dict) and not is_turn(value):
        value = value.get("messages")
    if not isinstance(value, list | tuple) or not value or not all(is_turn(item) for item in value):
        return None
    return list(value)


def is_turn(value: object) -> bool:
    """Whether this is one turn of a conversation, in OpenAI's or ShareGPT's form."""
    return isinstance(value, dict) and ("role" in value or "from" in value)


def _is_date(value: str) -> bool:
    if is_number(value):
        return False
    found = [moment for order in ORDERS if (moment := seconds(value, order)) is not None]
    return bool(found) and PLAUSIBLE_S[0] <= found[0] < PLAUSIBLE_S[1]


def _column(name: str, values: Sequence[object]) -> Column:
    form = _form(values)
    texts = [value if isinstance(value, str) else str(value) for value in values] if form in {"text", "number", "flag"} else []
    total = max(1, len(texts))
    answered = form != "turns" or any(_answers(value) for value in values)
    return Column(
        name, form, len(values), Counter(text.strip() for text in texts),
        sum(map(len, texts)) / total, sum(len(text.split()) for text in texts) / total, answered,
    )  # fmt: skip


def _answers(value: object) -> bool:
    return any(str(turn.get("role") or turn.get("from")) in {"assistant", "gpt", "model"} for turn in turns_of(value) or ())


def _form(values: Sequence[object]) -> Form:
    if not values:
        return "empty"
    if all(isinstance(value, bool) for value in values):
        return "flag"
    if all(is_number(value) for value in values):
        return "number"
    if all(turns_of(value) is not None for value in values[:50]):
        return "turns"
    if all(isinstance(value, str | int | float) for value in values):
        return "text"
    if all(is_turn(value) for value in values):
        return "turn"
    return "list" if all(isinstance(value, list) for value in values) else "other"


def is_number(value: object) -> bool:
    """Whether a field holds a finite number, written or real."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return False
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return False
    return math.isfinite(number)
