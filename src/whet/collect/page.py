"""What a source gives at once: rows with their places and date, and where to go on after them."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

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
