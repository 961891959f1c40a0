"""Rows that a source has collected, with the places that they came from rather than their lines in the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator

from whet.data.lines import Line
from whet.data.rows import RawRow, Reject
from whet.errors import DataError

MARK, VERSION = "whet_collected", 1
"""Key of the first line, and the version of the format."""


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
            file, line = str(said["file"]), int(said["line"])
            dates[file] = max(dates.get(file, ""), str(said["date"]))
            if "fields" in said:
                yield RawRow(file, line, dict(said["fields"]))
            else:
                yield Reject(file, line, str(said["reason"]), str(said["remedy"]), said["kind"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise DataError(
                f"{name}:{number}: a damaged collection ({type(error).__name__}). Delete its folder; it is then collected anew."
            ) from None
