"""Exports of other tools: a file's records, each turned into a row with plain columns, a page at a time."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from whet.collect.page import Mark, Page, moment
from whet.data.find import find_files
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading
from whet.plugins import beside_recipe
from whet.protocols import Source

PAGE = 1000
"""Rows written at once."""
MISSING = object()
"""What `majority` returns where no answer is given by more than half."""

Turn = Callable[[RawRow], RawRow | Reject]
Span = tuple[int, int, str]
"""Where it begins and ends, in characters, and its kind."""


def _several(value: str | Sequence[str]) -> tuple[str, ...]:
    return tuple(beside_recipe(one) for one in ((value,) if isinstance(value, str) else value))


Paths = Annotated[tuple[str, ...], BeforeValidator(_several), Field(min_length=1)]
"""One or several files, folders or patterns, as data.path takes them."""


class Exports(Source):
    """What sources of files have in common. Such a source names its `path`, and may turn each record into another row."""

    path: Paths

    @property
    def origin(self) -> str:
        return ", ".join(self.path)

    def stamp(self) -> str:
        """Say when the files were last written."""
        files = [file.stat() for file in self.files()]
        return f"{len(files)}:{sum(one.st_size for one in files)}:{max(one.st_mtime_ns for one in files)}"

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield a row for each record, file by file. Raises DataError where a file is missing or broken."""
        return pages(self.files(), after, self.row, Reading(members=self.members))

    def row(self, row: RawRow) -> RawRow | Reject:
        """Return a record as the row that it becomes, or why it is none; by default as it is."""
        return row

    def files(self) -> list[Path]:
        """Return the files; of an export's folder those with rows in it. Raises DataError where there are none."""
        return [file for path in map(Path, self.path) for file in members_of(path, self.members) or find_files(path, [])]


def members_of(folder: Path, names: str) -> list[Path]:
    """Return the files of a folder whose names fit a regular expression; none where it is no folder, or there is no expression."""
    if not names or not folder.is_dir():
        return []
    return sorted(file for file in folder.iterdir() if re.fullmatch(names, file.name))


def pages(files: Sequence[Path], after: Mark | None, turn: Turn, reading: Reading) -> Iterator[Page]:
    """Yield the rows, file by file. Raises DataError where a file is broken."""
    begin, number = int(str((after or {}).get("file", 0))), int(str((after or {}).get("rows", 0)))
    for index, file in enumerate(files[begin:], begin):
        notices: list[str] = []
        rows = islice(read_files([file], notices, reading), number, None)
        date = moment(file.stat().st_mtime)
        while page := tuple(islice(rows, PAGE)):
            number += len(page)
            turned = tuple(turn(row) if isinstance(row, RawRow) else row for row in page)
            yield Page(turned, {"file": index, "rows": number}, date, tuple(notices))
        number = 0


def settled(row: RawRow, shown: Mapping[str, object], said: Mapping[str, Sequence[object]]) -> RawRow | Reject:
    """Return the row of what was shown, with a column for what most people said to each question; a Reject where no answer has most."""
    fields = dict(shown)
    for question, answers in said.items():
        answer = majority(answers)
        if answer is MISSING:
            return Reject(
                row.file,
                row.line,
                f"'{question}' was answered differently by {len(answers)} people, and no answer has a majority",
                "Settle it in the tool and export again, or leave the row out.",
            )
        fields[question if question not in shown else f"{question}_answer"] = answer
    return RawRow(row.file, row.line, fields)


def majority(values: Sequence[object]) -> object:
    """Return what more than half of the values are, else MISSING. Values are JSON."""
    counts = Counter(json.dumps(value, sort_keys=True, default=str) for value in values)
    found, times = counts.most_common(1)[0]
    return json.loads(found) if 2 * times > len(values) else MISSING


def tags(text: str, spans: Iterable[Span]) -> list[str]:
    """Return a label B-KIND, I-KIND or O for each word between spaces; a word that a span touches belongs to the first that does."""
    made: list[str] = []
    at, before = 0, None
    ordered = sorted(spans)
    for word in text.split():
        begin = text.index(word, at)
        at = begin + len(word)
        span = next((one for one in ordered if one[0] < at and begin < one[1]), None)
        made.append("O" if span is None else f"{'I' if span == before else 'B'}-{'_'.join(span[2].split())}")
        before = span
    return made


def longest_text(shown: Mapping[str, object]) -> str:
    """Return the longest of the texts that were shown."""
    return max((value for value in shown.values() if isinstance(value, str)), key=len, default="")
