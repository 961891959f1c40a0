"""A folder of collected rows: written a page at a time, resumable after a stop, hashed once it is whole, and read like any data file."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from whet.collect.page import Mark, Page, now
from whet.data.collected import MARK, VERSION
from whet.data.rows import RawRow
from whet.data.values import as_json
from whet.errors import DataError
from whet.files import file_hash, hold_lock, naming, sync_file, write_json

ROWS, JOURNAL, LOCK = "rows.jsonl", "journal.json", ".lock"
FOLDER = "collected"
"""Beside the recipe."""


@dataclass(frozen=True, slots=True)
class Journal:
    """What is known of a collection, as `journal.json` holds it."""

    source: str
    """What the source calls itself."""
    settings: Mapping[str, Any]
    """The recipe's, without any secret: those are named there, not written."""
    stamp: str
    """Of what the rows were, where the source can tell: collected anew where it has changed."""
    began: str
    ended: str = ""
    """Empty while something is left to collect."""
    rows: int = 0
    size: int = 0
    """Bytes of the rows' file that count; what comes after was being written when it stopped."""
    after: Mark | None = None
    sha256: str = ""
    notices: tuple[str, ...] = ()


def folder_of(name: str, settings: Mapping[str, Any], beside: Path) -> Path:
    """Return the folder of a source's rows: the same settings, the same folder."""
    digest = hashlib.sha256(json.dumps([name, settings], sort_keys=True, default=str).encode()).hexdigest()
    return beside / FOLDER / f"{Path(name).stem}-{digest[:10]}"


def read_journal(folder: Path) -> Journal | None:
    """Return what is known of a collection; none where there is none yet. Raises DataError where it is damaged."""
    file = folder / JOURNAL
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        return Journal(**{**said, "notices": tuple(said["notices"])})
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, OSError) as error:
        raise DataError(
            f"{file}: damaged ({type(error).__name__}). Delete the folder {folder}; its rows are then collected anew."
        ) from None


def check_whole(folder: Path, journal: Journal) -> Path:
    """Return the file of a finished collection. Raises DataError where it is no longer what was collected."""
    file = folder / ROWS
    if not file.is_file() or file_hash(file) != journal.sha256:
        raise DataError(
            f"{file}: missing, or altered since {journal.ended}. Delete the folder {folder}; its rows are then collected anew."
        )
    return file


class Writer:
    """A collection that is being written. Each page is on the disk, and its mark after it, before the next one is asked for."""

    def __init__(self, folder: Path, journal: Journal) -> None:
        self.folder, self.journal = folder, journal
        folder.mkdir(parents=True, exist_ok=True)
        self._rows = folder / ROWS
        if journal.size:
            os.truncate(self._rows, journal.size)
        else:
            header = {MARK: VERSION, "source": journal.source, "began": journal.began}
            with naming(self._rows):
                self._rows.write_text(json.dumps(header, ensure_ascii=False) + "\n", encoding="utf-8")

    def add(self, page: Page) -> None:
        """Write a page."""
        with naming(self._rows), self._rows.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(_record(row, page.date), ensure_ascii=False) + "\n" for row in page.rows)
        self._note(
            rows=self.journal.rows + len(page.rows),
            after=page.after,
            notices=tuple(dict.fromkeys((*self.journal.notices, *page.notices))),
        )

    def finish(self) -> Path:
        """Close the collection, and return its file."""
        self._note(ended=now(), after=None, sha256=file_hash(self._rows))
        return self._rows

    def _note(self, **changes: Any) -> None:
        sync_file(self._rows)
        self.journal = Journal(**{**_fields(self.journal), "size": self._rows.stat().st_size, **changes})
        write_json(self.folder / JOURNAL, asdict(self.journal))


def _fields(journal: Journal) -> dict[str, Any]:
    return {name: getattr(journal, name) for name in Journal.__dataclass_fields__}


def _record(row: RawRow | Any, date: str) -> dict[str, object]:
    place = {"file": row.file, "line": row.line, "date": date}
    if isinstance(row, RawRow):
        return {**place, "fields": as_json(row.fields)}
    return {**place, "reason": row.reason, "remedy": row.remedy, "kind": row.kind}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a collection's folder for this process. Raises DataError where another one holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = hold_lock(folder / LOCK)
    if lock is None:
        raise DataError(f"{folder}: another whet is collecting these rows. Wait until it has ended, and start again.")
    with lock:
        yield


def abandon(folder: Path) -> None:
    """Delete a folder of which nothing is known yet, and the one that holds it where it is empty then. The caller holds its lock."""
    if not (folder / JOURNAL).exists():
        shutil.rmtree(folder)
        with suppress(OSError):
            folder.parent.rmdir()


def forget(folder: Path) -> None:
    """Delete what was collected, but for the lock."""
    for file in (folder / JOURNAL, folder / ROWS):
        file.unlink(missing_ok=True)
    for left in folder.glob(".*.partial"):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
