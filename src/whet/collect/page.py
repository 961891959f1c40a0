"""What a source gives at once: rows with their places and date, and where to go on after them."""

from __future__ import annotations

import base64
import datetime
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from whet.data.json_rows import DEEPEST
from whet.data.rows import RawRow, Reject

Mark = dict[str, object]
"""Where a source goes on, as JSON holds it. Never a secret: it is written to the disk."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, in order, and where the source goes on after them."""

    rows: tuple[RawRow | Reject, ...]
    after: Mark | None
    """None: the source cannot go on from here, and begins anew after a stop."""
    date: str
    """Of when the rows are, by ISO 8601."""
    notices: tuple[str, ...] = ()


def raw_rows(origin: str, names: Sequence[str], rows: Sequence[Sequence[Any]], before: int) -> tuple[RawRow, ...]:
    """Return rows with their numbers, which go on after those before."""
    return tuple(RawRow(origin, before + number, dict(zip(names, row, strict=True))) for number, row in enumerate(rows, 1))


def now() -> str:
    """Return the time, by ISO 8601."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def moment(seconds: float) -> str:
    """Return seconds since 1970 by ISO 8601."""
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="seconds")


class TooDeep(ValueError):
    """A value of more lists and objects in one another than rows may have."""


def as_json(value: object, depth: int = 0) -> object:
    """Return a value as JSON holds it: dates by ISO 8601, decimals and bytes as text. Raises TooDeep."""
    if depth > DEEPEST:
        raise TooDeep
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Mapping):
        return {str(key): as_json(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(inner, depth + 1) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    return str(value)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
