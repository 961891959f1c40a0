"""The rows of a source as they are read, kept on the disk: where a kill stopped the reading, it goes on, and gives the same."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from whet import __version__
from whet.data import raw
from whet.data.find import find_files
from whet.data.journal import Journal
from whet.data.marks import Compared, Marks, Place, Stale
from whet.data.raw import RawRows
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading

FORM = 2
"""Another number for each change of how files are read, or of what is kept of them."""


class Said:
    """What reading says beside the rows: notices, dates of files, and which files had rows."""

    def __init__(self, notices: list[str], dates: dict[str, str], files: dict[str, None]) -> None:
        self.notices, self.dates, self.files = notices, dates, files
        self._before = len(notices), dict(dates), dict(files)
        self.known: tuple[list[str], list[str]] = [], []
        """Notices, and files with rows, at the place where reading goes on."""

    def size(self) -> tuple[int, int]:
        return len(self.notices) - self._before[0], len(self.files) - len(self._before[2])

    def restore(self) -> None:
        self.notices[self._before[0] :] = self.known[0]
        self.files.update(dict.fromkeys(self.known[1]))

    def forget(self) -> None:
        """Let it be what it was before anything was read."""
        del self.notices[self._before[0] :]
        for now, before in ((self.dates, self._before[1]), (self.files, self._before[2])):
            now.clear()
            now.update(before)  # type: ignore[arg-type] # each with its own
        self.known = [], []

    def since(self, size: tuple[int, int], until: tuple[int, int]) -> dict[str, list[str]]:
        """Return what was said between two places."""
        files = list(self.files)[len(self._before[2]) :]
        return {"notices": self.notices[self._before[0] :][size[0] : until[0]], "files": files[size[1] : until[1]]}


def read_on(
    paths: Sequence[Path],
    at: Path,
    said: Said,
    check: Callable[[RawRow | Reject], None],
    told: Compared = lambda done, total: None,
) -> RawRows | None:
    """Return the rows of files, those that were read before from the file `at`; None where one is a pipe, which can be read only once.

    `check` is shown each row that is read; `told` hears of files that are compared with what was read of them.
    """
    noticed: list[str] = []
    files = [file for path in paths for file in find_files(path, noticed)]
    if any(file.is_fifo() for file in files):
        return None
    asked = [__version__, FORM, raw.STRETCH, raw.STRETCH_CHARACTERS, [str(file) for file in files], noticed]
    made_of = hashlib.blake2b(json.dumps(asked).encode(), digest_size=16).digest()
    journal = Journal(at, made_of)
    try:
        return _rows(paths, journal, said, check, told)
    except Stale:
        journal.clear(made_of)
        said.forget()
        return _rows(paths, journal, said, check, told)


def _rows(
    paths: Sequence[Path], journal: Journal, said: Said, check: Callable[[RawRow | Reject], None], told: Compared
) -> RawRows:
    rows, place = RawRows(journal=journal), Place()
    try:
        for record in journal.records:
            rows.restore(record)
            if "place" in record.said:
                place.moved(record.said["place"])
                said.known[0].extend(record.said["notices"])
                said.known[1].extend(record.said["files"])
        num_kept = len(rows)
    except (KeyError, TypeError, ValueError, AttributeError):  # of another form than is written here
        raise Stale from None
    marks = Marks(place, said, told)
    written = _Written(marks, said)
    rows.beside = written.news
    unproved = rows.restored(place.num_rows)
    for row in read_files(paths, said.notices, Reading(dates=said.dates, marks=marks)):
        if marks.leaping:
            continue
        if marks.noted is not None:
            marks.took(row.line)
        marks.num_rows += 1
        said.files.setdefault(row.file)
        if marks.num_rows <= num_kept:
            if _shown(row) != _shown(next(unproved)):  # what stands behind the place is proved by no hash
                raise Stale
            continue
        check(row)
        if rows.add(row):
            marks.ask()
    if marks.num_rows < num_kept:
        raise Stale
    rows.finish()
    return rows


def _shown(row: RawRow | Reject) -> str:
    """Return what is the same for the same row only, where `==` takes True for 1, and no NaN for another."""
    return repr(row if isinstance(row, Reject) else (row.file, row.line, dict(row.fields)))


class _Written:
    """How far what stands in the journal reaches."""

    def __init__(self, marks: Marks, said: Said) -> None:
        self._marks, self._said = marks, said
        self._place, self._num_done = marks.place, len(marks.place.done)

    def news(self) -> dict[str, Any]:
        """Return what is to be written beside the next rows; nothing where no place was noted since the last."""
        place, before = self._marks.place, self._place
        if place is before:
            return {}
        told = place.as_said(self._num_done)
        self._place, self._num_done = place, len(place.done)
        return {"place": told, **self._said.since(before.size, place.size)}
