"""Rows that a source has collected, with the places that they came from rather than their lines in the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

from whet.data.lines import Line
from whet.data.rows import Kind, RawRow, Reject
from whet.data.values import mended, row_of
from whet.errors import DataError

MARK, VERSION = "whet_collected", 1
"""Key of the first line, and the version of the format."""
KINDS = get_args(Kind)
LINES = 1 << 63
"""Numbers of lines are below it."""


def is_collected(first: Line) -> bool:
    """Whether a file begins as a collection does."""
    return first.text is not None and first.text.startswith(f'{{"{MARK}"')


def collected_rows(lines: Iterable[Line], name: str, dates: dict[str, str]) -> Iterator[RawRow | Reject]:
    """Yield the rows of a collection, and note the latest date of each place. Raises DataError where it is damaged, or of a later version."""
    for number, text in lines:
        try:
            said = json.loads(text or "")
            if number == 1:
                if said[MARK] != VERSION:
                    raise DataError(
                        f"{name}: collected by a later version of whet. Delete its folder; it is then collected anew."
                    )
                continue
            row = _row(said)
            dates[row.file] = max(dates.get(row.file, ""), mended(str(said["date"])))
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
            raise DataError(
                f"{name}:{number}: a damaged collection ({type(error).__name__}). Delete its folder; it is then collected anew."
            ) from None
        yield row


def _row(said: dict[str, Any]) -> RawRow | Reject:
    """Return the row of a line. Raises what collected_rows says of a line that no collection has."""
    file, line = mended(str(said["file"])), int(said["line"])
    if not 0 <= line < LINES:
        raise ValueError
    if "fields" in said:
        return row_of(file, line, dict(said["fields"]))
    if said["kind"] not in KINDS:
        raise ValueError
    return Reject(file, line, mended(str(said["reason"])), mended(str(said["remedy"])), said["kind"])
