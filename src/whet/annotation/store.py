"""Where annotations live: one SQLite file beside the recipe; an answer is on the disk before it is confirmed.

Its tables are in `store_file`. Only one server writes it at a time; anybody may read.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from whet.annotation.answers import Answer, Change, Guess, Stale, Subject, answer_of, as_json, change_of, said
from whet.annotation.items import Item
from whet.annotation.kinds import Job, job_of
from whet.annotation.store_file import NotStored, damaged, locked, opened
from whet.data.rows import RawRow
from whet.errors import DataError
from whet.recipe_data import Data


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of the rows since the last time."""

    new: int
    gone: int
    """Rows that the files no longer have; their answers stay."""
    altered: tuple[str, ...]
    """Files that are not what they were."""


class Store:
    """The file, opened. Every method may be called from any thread."""

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        """Open the file, or make it where it is to be written. Raises DataError."""
        self.path = path
        self._guard = threading.RLock()
        self._lock = locked(path) if writes else None
        try:
            self._file = opened(path, writes)
        except (sqlite3.Error, DataError) as error:
            self.close_lock()
            raise error if isinstance(error, DataError) else damaged(path, error) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and let others write it."""
        with self._guard:
            self._file.close()
        self.close_lock()

    def close_lock(self) -> None:
        if self._lock is not None:
            self._lock.close()

    @property
    def job(self) -> Job | None:
        """What is asked; None in a new file."""
        found = self._meta("job")
        return None if found is None else job_of(found)

    def set_job(self, job: Job) -> None:
        """Say what is asked."""
        with self.change():
            self._set_meta("job", job.record())

    @property
    def columns(self) -> Data:
        """Which columns of the rows mean what. Raises DataError where no row has ever been read."""
        found = self._meta("columns")
        if found is None:
            raise DataError(f"{self.path}: holds no rows yet. Begin with: whet annotate FILE")
        return Data.model_validate(found)

    def load(self, items: Sequence[Item], sources: Mapping[str, str], columns: Data) -> Loaded:
        """Take over the rows as the files have them now; `sources` are the files' hashes. Answers follow their rows."""
        with self.change() as file:
            known = {key: bool(present) for key, present in file.execute("SELECT key, present FROM items")}
            before = self._meta("sources") or {}
            file.execute("UPDATE items SET present = 0")
            file.executemany(
                "INSERT INTO items VALUES (?, ?, ?, ?, 1) ON CONFLICT (key) DO UPDATE SET "
                "number = excluded.number, content = excluded.content, given = excluded.given, present = 1",
                [(item.key, number, as_json(item.content), as_json(item.given)) for number, item in enumerate(items)],
            )  # fmt: skip
            file.executemany("DELETE FROM places WHERE key = ?", [(item.key,) for item in items])
            file.executemany(
                "INSERT INTO places VALUES (?, ?, ?, ?)",
                [(item.key, row.file, row.line, as_json(dict(row.fields))) for item in items for row in item.places],
            )
            self._set_meta("sources", dict(sources))
            self._set_meta("columns", columns.model_dump(mode="json"))
        here = {item.key for item in items}
        altered = tuple(name for name, digest in sources.items() if before.get(name, digest) != digest)
        return Loaded(len(here - set(known)), sum(present and key not in here for key, present in known.items()), altered)

    def items(self, *, gone: bool = False) -> list[Item]:
        """Return the rows in order; `gone`: those too that the files no longer have."""
        with self._guard:
            places: dict[str, list[RawRow]] = {}
            for key, name, line, fields in self._file.execute("SELECT * FROM places ORDER BY rowid"):
                places.setdefault(key, []).append(RawRow(name, line, json.loads(fields)))
            rows = self._file.execute(
                "SELECT key, content, given FROM items WHERE present OR ? ORDER BY present DESC, number", (gone,)
            )
            return [Item(key, json.loads(content), json.loads(given), tuple(places.get(key, ()))) for key, content, given in rows]

    def item(self, key: str) -> Item | None:
        """Return one row, also one that the files no longer have, without its places."""
        with self._guard:
            found = self._file.execute("SELECT content, given FROM items WHERE key = ?", (key,)).fetchone()
        return None if found is None else Item(key, json.loads(found[0]), json.loads(found[1]), ())

    def answers(self) -> list[Answer]:
        """Return what everybody has said."""
        with self._guard:
            return [answer_of(row) for row in self._file.execute("SELECT * FROM answers ORDER BY time, key, annotator")]

    def decisions(self) -> list[Answer]:
        """Return what was settled."""
        with self._guard:
            return [answer_of(row) for row in self._file.execute("SELECT * FROM decisions ORDER BY time, key")]

    def answer(self, key: str, annotator: str) -> Answer:
        """Return what one annotator has said of a row."""
        with self._guard:
            found = self._file.execute("SELECT * FROM answers WHERE key = ? AND annotator = ?", (key, annotator)).fetchone()
        return Answer(key=key, annotator=annotator) if found is None else answer_of(found)

    def decision(self, key: str) -> Answer:
        """Return what was settled of a row."""
        with self._guard:
            found = self._file.execute("SELECT * FROM decisions WHERE key = ?", (key,)).fetchone()
        return Answer(key=key, annotator="") if found is None else answer_of(found)

    def put(self, new: Answer, *, subject: Subject = "answer", source: str = "page", undoes: int | None = None) -> Answer:
        """Store an answer, or a decision; `new.revision` is that of the one it replaces. Returns it as stored, on the disk.

        Raises Stale where it is no longer that one, and KeyError for an unknown row.
        """
        with self.change() as file:
            if file.execute("SELECT 1 FROM items WHERE key = ?", (new.key,)).fetchone() is None:
                raise KeyError(new.key)
            before = self.answer(new.key, new.annotator) if subject == "answer" else self.decision(new.key)
            if before.revision != new.revision:
                raise Stale(before)
            stored = replace(new, revision=before.revision + 1, time=new.time or time.time())
            row = (
                stored.key, stored.annotator, stored.revision, stored.action, as_json(stored.value), stored.reason, stored.time,
                stored.seconds,
            )  # fmt: skip
            table = "answers" if subject == "answer" else "decisions"
            file.execute(f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            file.execute(
                "INSERT INTO history (key, subject, annotator, time, revision, before, after, seconds, source, undoes) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    stored.key, subject, stored.annotator, stored.time, stored.revision, said(before), said(stored),
                    stored.seconds, source, undoes,
                ),
            )  # fmt: skip
        return stored

    def undo(self, annotator: str) -> Answer | None:
        """Take back what this annotator did last and has not taken back; None where there is nothing. Returns the answer as it is now.

        Only what was said on the page counts; an import is undone by importing something else.
        """
        with self.change() as file:
            last = file.execute(
                "SELECT id, key, revision, before FROM history WHERE annotator = ? AND subject = 'answer' AND undoes IS NULL "
                "AND source = 'page' AND id NOT IN (SELECT undoes FROM history WHERE undoes IS NOT NULL AND annotator = ?) "
                "ORDER BY id DESC LIMIT 1",
                (annotator, annotator),
            ).fetchone()
            if last is None:
                return None
            number, key, _, before = last
            now = self.answer(key, annotator)
            return self.put(
                Answer(key=key, annotator=annotator, revision=now.revision, **json.loads(before)), source="page", undoes=number
            )

    def history(self, key: str | None = None) -> list[Change]:
        """Return every change, of one row or of all, oldest first."""
        with self._guard:
            rows = self._file.execute("SELECT * FROM history WHERE key = ? OR ? IS NULL ORDER BY id", (key, key)).fetchall()
        return [change_of(row) for row in rows]

    def guesses(self) -> list[Guess]:
        """Return what models have said."""
        with self._guard:
            rows = self._file.execute("SELECT key, source, value, confidence, loss FROM guesses").fetchall()
        return [Guess(key, source, json.loads(value), sure, loss) for key, source, value, sure, loss in rows]

    def put_guesses(self, guesses: Iterable[Guess]) -> None:
        """Keep what a model says."""
        rows = [(one.key, one.source, as_json(one.value), one.confidence, one.loss) for one in guesses]
        with self.change() as file:
            file.executemany("INSERT OR REPLACE INTO guesses VALUES (?, ?, ?, ?, ?)", rows)

    def vectors(self, model: str) -> dict[str, bytes]:
        """Return the embeddings that a model has made."""
        with self._guard:
            return dict(self._file.execute("SELECT key, vector FROM vectors WHERE model = ?", (model,)).fetchall())

    def put_vectors(self, model: str, vectors: Mapping[str, bytes]) -> None:
        """Keep embeddings; those of other models go."""
        with self.change() as file:
            file.execute("DELETE FROM vectors WHERE model != ?", (model,))
            rows = [(key, model, vector) for key, vector in vectors.items()]
            file.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """Give the file within a transaction, which is on the disk at the end of the outermost block, or has never been."""
        with self._guard:
            if self._file.in_transaction:
                yield self._file
                return
            try:
                self._file.execute("BEGIN IMMEDIATE")
                yield self._file
                self._file.commit()
            except BaseException as error:
                with suppress(sqlite3.Error):  # where it went wrong so far that SQLite has rolled back itself
                    self._file.rollback()
                if isinstance(error, sqlite3.OperationalError):  # a full disk, a broken one, a lock that another program holds
                    raise NotStored(self.path, error) from None
                raise

    def _meta(self, name: str) -> Any:
        with self._guard:
            found = self._file.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if found is None else json.loads(found[0])

    def _set_meta(self, name: str, value: object) -> None:
        self._file.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, as_json(value)))
