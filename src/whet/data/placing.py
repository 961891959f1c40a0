"""What a row says of its own place: the part that a column names, or its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from whet.data.gathered import Gathered
from whet.data.names import part_named
from whet.data.rows import Reject
from whet.data.split import PARTS
from whet.data.stored import Rows, Stored
from whet.data.stretch import TIMED
from whet.data.times import DIFFERENT, evidence, order_of, seconds
from whet.errors import DataError
from whet.types import Example


def by_own_part(work: Gathered) -> None:
    """Give rows whose column says validation or test to these sources, as if they had stood in files of their own."""
    column, rows = work.data.part, work.examples["path"]
    if column is None:
        return
    kept = _stored_by_part(work, rows, column) if isinstance(rows, Stored) else _by_part(work, rows, column)
    for part in ("validation", "test"):
        work.examples[part] = kept[part]
        work.rows[part] += len(kept[part])
        work.rows["path"] -= len(kept[part])
    work.examples["path"] = kept["train"]
    work.named = tuple(part for part in ("validation", "test") if kept[part])
    if not kept["train"]:
        raise DataError(
            f"{', '.join(work.data.path)}: no row has the part 'train' in '{column}', so there is nothing to learn from."
        )


def _by_part(work: Gathered, rows: Sequence[Example], column: str) -> Mapping[str, Rows]:
    kept: dict[str, list[Example]] = {part: [] for part in PARTS}
    for example in rows:
        said = part_named(example.part)
        if said is None:
            work.rejects["path"].append(_of_no_part(example, example.part, column))
        else:
            kept[said].append(replace(example, part=said))
    return kept


def _stored_by_part(work: Gathered, rows: Stored, column: str) -> Mapping[str, Rows]:
    words = rows.shelf.words("part")
    said = {word: part for word in words if (part := part_named(word)) is not None}
    number_of = np.array(
        [*(PARTS.index(said[word]) if word in said else -1 for word in words), -1]
    )  # the last is that of no word
    codes = rows.column("part").astype(np.int64)
    numbers = number_of[codes]
    for place in np.flatnonzero(numbers < 0).tolist():
        word = words[codes[place]] if codes[place] >= 0 else None
        work.rejects["path"].append(_of_no_part(rows.brief(place), word, column))
    rows.shelf.say_part(rows.rows, {word: part for word, part in said.items() if word != part})
    return {part: rows.where(numbers == number) for number, part in enumerate(PARTS)}


def _of_no_part(row: Example, word: str | None, column: str) -> Reject:
    reason = f"'{column}' names no part" if word else f"'{column}' is empty"
    return Reject(row.file, row.line, reason, "Write train, validation or test, or delete the row.")


def timed(work: Gathered) -> None:
    """Read the time of each row; one that has none cannot be used. Raises DataError where it is unclear what is day and what month."""
    column, rows = work.data.time, work.examples["path"]
    if column is None:
        return
    if isinstance(rows, Stored):
        work.examples["path"] = _stored_timed(work, rows, column)
        return
    order = order_of(evidence(example.time) for example in rows if example.time is not None)
    kept = []
    for example in rows:
        moment = seconds(example.time, order) if example.time is not None else None
        if moment is not None:
            work.times[example.id] = moment
            kept.append(example)
            continue
        if example.time is not None and order == "unclear" and seconds(example.time, "day") is not None:
            raise _unclear(example, column)
        work.rejects["path"].append(_of_no_time(example, example.time is not None, column))
    work.examples["path"] = kept


def _stored_timed(work: Gathered, rows: Stored, column: str) -> Stored:
    """The same of rows on the disk, whose seconds become a column."""
    told = rows.column("time_told").astype(np.uint8)
    order = order_of(np.unique(told).tolist())
    moments = rows.column("time_month" if order == "month" else "time_day")
    if order == "unclear":
        doubtful = (told & DIFFERENT > 0) & ~np.isnan(moments)
        if doubtful.any():
            raise _unclear(rows.brief(int(np.argmax(doubtful))), column)
    for place in np.flatnonzero(np.isnan(moments)).tolist():
        work.rejects["path"].append(_of_no_time(rows.brief(place), bool(told[place] & TIMED), column))
    times = np.full(rows.shelf.num_rows, np.nan)
    times[rows.rows] = moments
    rows.shelf.put("time", times)
    rows.shelf.forget("time_told", "time_day", "time_month")
    return rows.where(~np.isnan(moments))


def _unclear(row: Example, column: str) -> DataError:
    return DataError(
        f"{row.file}:{row.line}: '{column}' has dates of which no row tells whether the day or the month stands first. "
        "Write them as YEAR-MONTH-DAY."
    )


def _of_no_time(row: Example, says_one: bool, column: str) -> Reject:
    reason = f"'{column}' is no date or time" if says_one else f"'{column}', the time, is empty"
    return Reject(row.file, row.line, reason, "Write it as YEAR-MONTH-DAY, with or without a time, or as seconds since 1970.")
