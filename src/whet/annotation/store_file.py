"""The file of annotations: its tables, and how it is opened by one writer alone.

Version 1, in SQLite's `user_version`; another version is refused. Only one server writes it at a time; anybody may read.

| table | what it holds |
|---|---|
| `meta` | `job` (what is asked), `sources` (each file and its SHA-256), `columns` (which column means what) |
| `items` | each different row: `key` (hash of what is shown), `number` (its order), `content`, `given` (what the file says), `present` (whether the file still has it) |
| `places` | where it stands: `key`, `file`, `line`, `fields` (the row as it was read) |
| `answers` | the present state: `key`, `annotator`, `revision`, `action` (answer, skip, flag, none), `value`, `reason`, `time`, `seconds` |
| `decisions` | the same for what an adjudicator has settled, one for each `key` |
| `history` | every change, never altered: who, when, `before`, `after`, why; `undoes` names the change that an undo took back |
| `guesses` | what models say: `key`, `source`, `value`, `confidence`, `loss` (of what the file says) |
| `vectors` | a text's embedding in fp32, by `key` and the model's hash |

Times are seconds since 1970, UTC; values are JSON.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import TextIO

from whet.errors import DataError
from whet.files import held_alone

VERSION = 1
STATE = "revision INTEGER NOT NULL, action TEXT NOT NULL, value TEXT, reason TEXT NOT NULL, time REAL NOT NULL, seconds REAL"
SCHEMA = f"""
PRAGMA journal_mode = WAL;
CREATE TABLE IF NOT EXISTS meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS items (
    key TEXT PRIMARY KEY, number INTEGER NOT NULL, content TEXT NOT NULL, given TEXT, present INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS places (key TEXT NOT NULL, file TEXT NOT NULL, line INTEGER NOT NULL, fields TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS places_key ON places (key);
CREATE TABLE IF NOT EXISTS answers (key TEXT NOT NULL, annotator TEXT NOT NULL, {STATE}, PRIMARY KEY (key, annotator)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS decisions (key TEXT PRIMARY KEY, annotator TEXT NOT NULL, {STATE}) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS history (
    id INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL, subject TEXT NOT NULL, annotator TEXT NOT NULL, time REAL NOT NULL,
    revision INTEGER NOT NULL, before TEXT NOT NULL, after TEXT NOT NULL, seconds REAL, source TEXT NOT NULL, undoes INTEGER);
CREATE INDEX IF NOT EXISTS history_key ON history (key);
CREATE INDEX IF NOT EXISTS history_annotator ON history (annotator);
CREATE TABLE IF NOT EXISTS guesses (
    key TEXT NOT NULL, source TEXT NOT NULL, value TEXT, confidence REAL, loss REAL, PRIMARY KEY (key, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors (key TEXT NOT NULL, model TEXT NOT NULL, vector BLOB NOT NULL, PRIMARY KEY (key, model)) WITHOUT ROWID;
"""


class NotStored(DataError):
    """The file could not be written, and holds what it held; `reason` is SQLite's."""

    def __init__(self, path: Path, error: sqlite3.Error) -> None:
        super().__init__(
            f"{path}: could not be written ({error}), and holds what it held before. Make room there, and try again."
        )
        self.reason = str(error)


def locked(path: Path) -> TextIO:
    """Return the open file beside it that only one writer holds. Raises DataError."""
    if path.is_dir():
        raise DataError(f"{path}: is a folder, and annotations are kept in a file. Name one with --store FILE.")
    try:
        file = held_alone(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}). Name another file with --store FILE.") from None
    if file is None:
        raise DataError(
            f"{path}: another `whet annotate` is at work on it. Go to its page, or stop it first; several people may use one page."
        )
    return file


def opened(path: Path, writes: bool) -> sqlite3.Connection:
    """Return the file, made where it is to be written and is not there. Raises DataError."""
    if not writes and not path.is_file():
        raise DataError(f"{path}: there are no annotations yet. Begin with: whet annotate FILE; or name them with --store.")
    place = path if writes else f"{path.absolute().as_uri()}?mode=ro"
    file = sqlite3.connect(place, timeout=10, check_same_thread=False, isolation_level=None, uri=not writes)
    try:
        found = file.execute("PRAGMA user_version").fetchone()[0]
        if found not in {0, VERSION} or (not found and not writes):
            raise DataError(
                f"{path}: annotations of version {found}; this version of whet knows {VERSION}. Name another --store."
            )
        if writes:
            tables = file.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if tables and not found:
                raise DataError(f"{path}: is another program's file. Name another one with --store FILE.")
            file.executescript(SCHEMA)
            file.execute(f"PRAGMA user_version = {VERSION}")
            file.execute("PRAGMA synchronous = FULL")  # a confirmed answer survives a power cut
    except BaseException:
        file.close()
        raise
    return file


def damaged(path: Path, error: Exception) -> DataError:
    """Return the error of a file that SQLite cannot read."""
    return DataError(f"{path}: is no file of annotations, or damaged ({error}). Restore it, or name another with --store FILE.")
