"""The log of requests: one SQLite file, written by one thread of one server, read by anybody at the same time.

This is the contract between `whet serve`, which writes, and whatever watches production (`read_requests` gives it as objects).
Version 1, in SQLite's `user_version`; a reader refuses a version that it does not know.

`requests`, one row for each request that reached a model, whatever became of it (one that found the queue full did not):

| column | what it holds |
|---|---|
| `id` | 32 hexadecimal digits; the answer's `id` ends in them, and `x-request-id` is them |
| `time` | when it came, in seconds since 1970, UTC |
| `endpoint` | `chat`, `completion`, `classify` or `embedding` |
| `name`, `run`, `fingerprint` | the served name, its run's folder name, and the hash of its model, all at that time |
| `status` | HTTP status; 499 where the client went away |
| `error` | the error's code, or null |
| `prompt_tokens`, `completion_tokens` | as the answer's usage |
| `latency_s` | from the last byte of the request to the last byte of the answer |
| `first_token_s` | to the first piece of a text; null for others |

`items`, one row for each input of a request (`request`, `number` from 0), none for a request that was refused:

| column | what it holds |
|---|---|
| `num_characters`, `num_tokens` | of the input, as the model is shown it: cleaned; for a chat of all its messages, for a pair of both texts |
| `output_characters` | of the text that was written; null for a label |
| `label` | as JSON: the label, a list of labels, or a number; null for a text, and where the model abstained |
| `confidence` | 0 to 1, of the label that was chosen or withheld; null where there is none |
| `abstained` | 0 or 1 |
| `finish` | `stop`, `length`, or null |
| `tags` | JSON object of the run's slice columns with the request's values |
| `input`, `output` | texts with mail and IP addresses, phone, card, account and national numbers and keys masked; null unless the server was started with `--log-text` |

Of a pair, `input` is a JSON object with `text` and `text_pair`.

`feedback`, one row for each judgement of an item (`request`, `number`), the latest one counts:

| column | what it holds |
|---|---|
| `time` | when it came |
| `truth` | as JSON: what the answer should have been; a correction in words is masked |
| `kind` | `label`, `labels`, `value`, `correction`, or `right` with truth `true` or `false` |

The oldest requests go, with their items and feedback, when the file outgrows its size or they their age.
"""

from __future__ import annotations

import json
import math
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TextIO

from whet.errors import ServerError
from whet.files import held_alone
from whet.store.mask import mask

VERSION = 1
WAITING = 10_000
"""Records that may wait for the disk; beyond it they are dropped and counted."""
SCHEMA = """
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS requests (
    id TEXT PRIMARY KEY, time REAL NOT NULL, endpoint TEXT NOT NULL, name TEXT NOT NULL, run TEXT NOT NULL,
    fingerprint TEXT NOT NULL, status INTEGER NOT NULL, error TEXT, prompt_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL, latency_s REAL NOT NULL, first_token_s REAL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS requests_time ON requests (time);
CREATE TABLE IF NOT EXISTS items (
    request TEXT NOT NULL, number INTEGER NOT NULL, num_characters INTEGER NOT NULL, num_tokens INTEGER NOT NULL,
    output_characters INTEGER, label TEXT, confidence REAL, abstained INTEGER NOT NULL, finish TEXT, tags TEXT NOT NULL,
    input TEXT, output TEXT, PRIMARY KEY (request, number)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS feedback (
    request TEXT NOT NULL, number INTEGER NOT NULL, time REAL NOT NULL, kind TEXT NOT NULL, truth TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS feedback_item ON feedback (request, number);
"""


@dataclass(slots=True)
class Item:
    """One input of a request, and what became of it; the columns of `items`."""

    num_characters: int
    num_tokens: int
    output_characters: int | None = None
    label: str | list[str] | float | None = None
    confidence: float | None = None
    abstained: bool = False
    finish: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    input: str | None = None
    output: str | None = None
    truth: Any = None
    """Of the latest feedback; only in what is read."""
    truth_kind: str | None = None


@dataclass(slots=True)
class Logged:
    """One request; the columns of `requests`, and its items."""

    id: str
    time: float
    endpoint: str
    name: str
    run: str
    fingerprint: str
    status: int = 0
    error: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    latency_s: float = 0.0
    first_token_s: float | None = None
    items: list[Item] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Feedback:
    """What one item's answer should have been."""

    request: str
    number: int
    kind: str
    truth: Any


class RequestLog:
    """The writer. `write` never waits and never raises; `judge` says whether it was stored."""

    def __init__(
        self,
        path: Path,
        *,
        keep_text: bool,
        max_bytes: int,
        max_days: float,
        say: Callable[[str], None],
        on_drop: Callable[[int], None],
    ) -> None:
        """Open or make the file. Raises ServerError where that is impossible, or another server writes to it."""
        self.path, self.keep_text = path, keep_text
        self._max_bytes, self._max_age_s = max_bytes, max_days * 86_400
        self._say, self._on_drop, self._has_said = say, on_drop, False
        self._queue: queue.Queue[Logged | tuple[Feedback, Future[bool]] | None] = queue.Queue(WAITING)
        self._lock = _lock(path)
        try:
            self._file = _open_for_writing(path)
        except (sqlite3.Error, ServerError) as error:
            self._lock.close()
            raise error if isinstance(error, ServerError) else _unwritable(path, error) from None
        self._thread = threading.Thread(target=self._work, name="whet request log", daemon=True)
        self._thread.start()

    def write(self, record: Logged) -> None:
        """Hand a record over."""
        try:
            self._queue.put_nowait(record)
        except queue.Full:
            self._lost(1, "its disk is too slow")

    def judge(self, feedback: Feedback) -> Future[bool]:
        """Store a judgement. The result says whether the item is known; it raises sqlite3.Error or queue.Full where it was not stored."""
        told: Future[bool] = Future()
        try:
            self._queue.put_nowait((feedback, told))
        except queue.Full as error:
            told.set_exception(error)
        return told

    def close(self) -> None:
        """Write what waits and close the file."""
        self._queue.put(None)
        self._thread.join(timeout=10)
        self._lock.close()

    def _work(self) -> None:
        last = 0.0
        open_still = True
        while open_still:
            held = [self._queue.get()]
            while len(held) < 500:
                try:
                    held.append(self._queue.get_nowait())
                except queue.Empty:
                    break
            open_still = None not in held
            self._store([one for one in held if isinstance(one, Logged)])
            for one in held:
                if isinstance(one, tuple):
                    self._store_feedback(*one)
            if time.monotonic() - last > 60 or not last:
                self._prune()
                last = time.monotonic()
        self._file.close()

    def _store(self, records: list[Logged]) -> None:
        try:
            with self._file:
                for record in records:
                    self._file.execute(f"INSERT OR REPLACE INTO requests VALUES ({', '.join('?' * 12)})", _request_row(record))
                    self._file.executemany(
                        f"INSERT OR REPLACE INTO items VALUES ({', '.join('?' * 12)})",
                        [_item_row(record.id, number, item, self.keep_text) for number, item in enumerate(record.items)],
                    )
        except (sqlite3.Error, ValueError) as error:
            self._lost(len(records), str(error))

    def _store_feedback(self, feedback: Feedback, told: Future[bool]) -> None:
        truth = mask(feedback.truth) if feedback.kind == "correction" else feedback.truth
        try:
            with self._file:
                key = (feedback.request, feedback.number)
                if self._file.execute("SELECT 1 FROM items WHERE request = ? AND number = ?", key).fetchone() is None:
                    told.set_result(False)
                    return
                row = (*key, time.time(), feedback.kind, json.dumps(truth, ensure_ascii=False))
                self._file.execute("INSERT INTO feedback VALUES (?, ?, ?, ?, ?)", row)
        except (sqlite3.Error, ValueError) as error:
            told.set_exception(error)
        else:
            told.set_result(True)

    def _prune(self) -> None:
        """Take out what is too old, and the oldest tenth while the file is too large."""
        try:
            self._forget("time < ?", time.time() - self._max_age_s)
            for _ in range(20):
                if self._size() <= self._max_bytes:
                    return
                count = self._file.execute("SELECT count(*) FROM requests").fetchone()[0]
                if not count:
                    return
                cut = self._file.execute("SELECT time FROM requests ORDER BY time LIMIT 1 OFFSET ?", (count // 10,)).fetchone()[0]
                self._forget("time <= ?", cut)
        except sqlite3.Error as error:
            self._lost(0, str(error))

    def _forget(self, condition: str, value: float) -> None:
        with self._file:
            old = f"SELECT id FROM requests WHERE {condition}"
            for table in ("items", "feedback"):
                self._file.execute(f"DELETE FROM {table} WHERE request IN ({old})", (value,))
            gone = self._file.execute(f"DELETE FROM requests WHERE {condition}", (value,)).rowcount
        if gone:
            # as a script: `execute` would step once, and give one page back
            self._file.executescript("PRAGMA incremental_vacuum; PRAGMA wal_checkpoint(TRUNCATE);")

    def _size(self) -> int:
        pages, size = (self._file.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
        return int(pages * size)

    def _lost(self, count: int, reason: str) -> None:
        if count:
            self._on_drop(count)
        if not self._has_said:
            self._has_said = True
            self._say(
                f"{self.path}: the request log cannot be written: {reason}. Requests are answered, and what is lost is counted."
            )


def texts_of(logged: str) -> tuple[str, str | None]:
    """Return the text, or the two of a pair, that a logged input of a run with pairs holds."""
    try:
        found = json.loads(logged)
    except ValueError:
        return logged, None
    if isinstance(found, dict) and isinstance(found.get("text"), str) and isinstance(found.get("text_pair"), str):
        return found["text"], found["text_pair"]
    return logged, None


def read_requests(path: Path, *, since: float = 0.0, until: float = float("inf"), name: str | None = None) -> Iterator[Logged]:
    """Yield the requests that came from `since` until before `until` (seconds since 1970), in order of time, with their items.

    An item's `truth` is that of its latest feedback. `name` keeps those to one served name. Raises ServerError.
    """
    if not path.is_file():
        raise ServerError(f"{path}: there is no such request log. `whet serve` writes one; name it with --log FILE.")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=10)) as file:
            _check_version(path, file.execute("PRAGMA user_version").fetchone()[0])
            rows = file.execute(
                "SELECT * FROM requests WHERE time >= ? AND time < ? AND (? IS NULL OR name = ?) ORDER BY time, id",
                (since, until, name, name),
            )
            for row in rows:
                logged = Logged(*row)
                _check(logged, _REQUEST_TYPES)
                logged.items = _items(file, logged.id)
                yield logged
    except (sqlite3.Error, ValueError, TypeError, RecursionError) as error:
        raise ServerError(f"{path}: is no request log, or damaged ({error}). Name another file, or restore it.") from None


def _items(file: sqlite3.Connection, request: str) -> list[Item]:
    rows = file.execute("SELECT * FROM items WHERE request = ? ORDER BY number", (request,)).fetchall()
    told = file.execute("SELECT number, kind, truth FROM feedback WHERE request = ? ORDER BY rowid", (request,)).fetchall()
    truths = {number: (kind, json.loads(truth)) for number, kind, truth in told}
    items = []
    for _, number, characters, tokens, output, label, confidence, abstained, finish, tags, asked, answer in rows:
        kind, truth = truths.get(number, (None, None))
        named = None if label is None else json.loads(label)
        values = (characters, tokens, output, named, confidence, bool(abstained), finish, json.loads(tags), asked, answer)
        items.append(Item(*values, truth=truth, truth_kind=kind))
        _check(items[-1], _ITEM_TYPES)
    return items


_REQUEST_TYPES: Mapping[str, tuple[type, ...]] = {
    "fingerprint": (str,), "name": (str,), "run": (str,), "status": (int,), "latency_s": (int, float),
    "first_token_s": (int, float, NoneType),
}  # fmt: skip
_ITEM_TYPES: Mapping[str, tuple[type, ...]] = {
    "num_characters": (int,), "confidence": (int, float, NoneType), "label": (str, list, int, float, NoneType),
    "tags": (dict,), "input": (str, NoneType), "output": (str, NoneType), "truth": (str, list, int, float, NoneType),
}  # fmt: skip
"""What is in a column, where it is computed with; SQLite itself holds no column to its type."""


def _check(record: Logged | Item, types: Mapping[str, tuple[type, ...]]) -> None:
    """Raise ValueError where a column holds something else, or what is no finite number."""
    for name, allowed in types.items():
        value = getattr(record, name)
        if not isinstance(value, allowed) or (isinstance(value, float) and not math.isfinite(value)):
            raise ValueError(f"{name} is no {' or '.join(kind.__name__ for kind in allowed if kind is not NoneType)}")
        parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(f"{name} holds something else than texts")


def _request_row(record: Logged) -> tuple[Any, ...]:
    return (
        record.id, record.time, record.endpoint, record.name, record.run, record.fingerprint, record.status, record.error,
        record.prompt_tokens, record.completion_tokens, record.latency_s, record.first_token_s,
    )  # fmt: skip


def _item_row(request: str, number: int, item: Item, keep_text: bool) -> tuple[Any, ...]:
    label = None if item.label is None else json.dumps(item.label, ensure_ascii=False)
    texts = [mask(text) if keep_text and text is not None else None for text in (item.input, item.output)]
    tags = json.dumps({key: mask(value) for key, value in item.tags.items()}, ensure_ascii=False)
    return (
        request, number, item.num_characters, item.num_tokens, item.output_characters, label, item.confidence,
        int(item.abstained), item.finish, tags, *texts,
    )  # fmt: skip


def _lock(path: Path) -> TextIO:
    """Return the open file beside the log that only one server holds. Raises ServerError."""
    if path.is_dir():
        raise ServerError(f"{path}: is a folder, and the request log is a file. Name one with --log FILE.")
    try:
        file = held_alone(path)
    except OSError as error:
        raise _unwritable(path, error) from None
    if file is None:
        raise ServerError(f"{path}: another server writes this log. Name another file with --log FILE.")
    return file


def _unwritable(path: Path, error: Exception) -> ServerError:
    return ServerError(
        f"{path}: the request log cannot be written: {error}. Name another file with --log FILE, or serve without: --no-log"
    )


def _open_for_writing(path: Path) -> sqlite3.Connection:
    file = sqlite3.connect(path, timeout=5, check_same_thread=False)
    try:
        found = file.execute("PRAGMA user_version").fetchone()[0]
        if found:
            _check_version(path, found)
        file.executescript(SCHEMA)
        file.execute(f"PRAGMA user_version = {VERSION}")
    except BaseException:
        file.close()
        raise
    return file


def _check_version(path: Path, found: int) -> None:
    if found != VERSION:
        raise ServerError(
            f"{path}: a request log of version {found}; this version of whet reads and writes {VERSION}. Name another file."
        )
