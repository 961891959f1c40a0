"""Rows of a database."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import quote, unquote, urlsplit

from pydantic import AfterValidator, Field, field_validator

from whet.collect.breakable import breakable
from whet.collect.credential import PLACE, Credential, secret, secret_error
from whet.collect.page import Mark, Page, moment, now, raw_rows
from whet.collect.postgresql import connected, is_postgresql, key_value, pages
from whet.data.values import as_json
from whet.display import brief
from whet.errors import DataError
from whet.plugins import beside_recipe, plugin
from whet.protocols import Source

PAGE = 1000
"""Rows fetched at once."""
READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
"""What a query may do in SQLite."""
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
ALLOWED = "a path or sqlite:///PATH of an SQLite database, postgresql://USER@HOST/DATABASE, env:NAME or file:PATH"
_SECRET = re.compile(
    r"[^/@]*://[^@/]*:(?!\d+(?:,[^@/]*)?(?:/|$))[^@]*@|.*\b(?:password|passwd|pwd)\s*=", re.IGNORECASE | re.DOTALL
)
"""A password in a connection, also one with signs that an address should not have in it, such as # and /."""


def _without_secret(connection: str) -> str:
    """Refuse a connection with a password in it, and find a database file."""
    if PLACE.fullmatch(connection):
        return connection
    open_secret = _SECRET.match(connection) is not None
    if not open_secret and "://" not in connection:
        return beside_recipe(connection)
    try:
        parts = urlsplit(connection)
        open_secret = open_secret or parts.password is not None or "password" in parts.query.lower()
    except ValueError:
        open_secret = True
    if open_secret:
        raise secret_error(
            "a connection with a password in it is not written into a recipe; leave the password out and name it as `password: env:NAME` or "
            "`password: file:PATH`, or name the whole connection so (what was written here is not repeated)"
        )
    if parts.scheme == "sqlite":
        return beside_recipe(unquote(parts.path)[1:])
    if not is_postgresql(connection):
        raise ValueError(ALLOWED)
    return connection


@plugin
class Sql(Source):
    """Rows of a query to SQLite, or to PostgreSQL by `pip install 'whet[postgres]'`; read only, a thousand rows at a time."""

    connection: Annotated[str, AfterValidator(_without_secret)]
    """An SQLite file (`tickets.sqlite`, `sqlite:///tickets.sqlite`), `postgresql://USER@HOST/DATABASE`, or where that is: env:NAME, file:PATH."""
    query: Annotated[str, Field(min_length=1)]
    """One SELECT. It changes nothing."""
    key: str | None = None
    """A column of the query whose values are different and never empty. Rows come in its order, and collecting resumes after its last value."""
    password: Credential | None = None
    """Where the password of the database is: env:NAME, file:PATH."""
    timeout_s: Annotated[float, Field(gt=0)] = 60.0
    """Seconds to wait for a connection, or for a lock on a file."""

    @field_validator("key")
    @classmethod
    def _is_name(cls, key: str | None) -> str | None:
        if key is not None and not NAME.fullmatch(key):
            raise ValueError("the plain name of a column of the query: letters, digits and _")
        return key

    @property
    def origin(self) -> str:
        if PLACE.fullmatch(self.connection):
            return f"database of {self.connection}"
        return self.connection

    def stamp(self) -> str:
        """Say when an SQLite file was last written."""
        if self._kind(self.connection) != "sqlite":
            return ""
        files = [Path(self.connection), Path(f"{self.connection}-wal")]
        return " ".join(f"{found.st_size}:{found.st_mtime_ns}" for file in files if file.is_file() and (found := file.stat()))

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield the rows of the query. Raises DataError where the database refuses."""
        where = secret(self.connection) if PLACE.fullmatch(self.connection) else self.connection
        if self._kind(where) == "sqlite":
            yield from self._of_sqlite(Path(where.removeprefix("sqlite:///")), after)
        else:
            yield from self._of_postgresql(where, after)

    @staticmethod
    def _kind(connection: str) -> Literal["sqlite", "postgresql", ""]:
        if is_postgresql(connection):
            return "postgresql"
        return "" if PLACE.fullmatch(connection) else "sqlite"

    def _asked(self, after: Mark | None, sign: str) -> tuple[str, tuple[object, ...]]:
        """Return the query that goes on after a mark, with its values. `sign` stands for a value."""
        query = self.query.strip().rstrip(";")
        if sign == "%s" and self.key is not None and after is not None:
            query = query.replace("%", "%%")  # psycopg looks for its own signs where values are given
        if self.key is None:
            return query, ()
        if after is None:
            return f'SELECT * FROM ({query}\n) AS rows_of_query ORDER BY "{self.key}"', ()
        return f'SELECT * FROM ({query}\n) AS rows_of_query WHERE "{self.key}" > {sign} ORDER BY "{self.key}"', (after["key"],)

    def _of_sqlite(self, file: Path, after: Mark | None) -> Iterator[Page]:
        shown = self.origin if PLACE.fullmatch(self.connection) else str(file)  # what a place holds may have a password in it
        if not _is_there(file):
            raise DataError(
                f"{shown}: names no file that is there, and no PostgreSQL database. Allowed: {ALLOWED.partition(', env:')[0]}."
                if PLACE.fullmatch(self.connection)
                else f"{file}: there is no such database. You are in {Path.cwd()}; a relative path may also begin at the recipe."
            )
        query, values = self._asked(after, "?")
        try:
            with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True, timeout=self.timeout_s)) as database:
                database.set_authorizer(lambda action, *_: sqlite3.SQLITE_OK if action in READS else sqlite3.SQLITE_DENY)
                database.text_factory = lambda content: content.decode("utf-8", "replace")
                with breakable(database):
                    cursor = database.execute(query, values)
                    yield from self._pages(cursor, after, str(file), moment(file.stat().st_mtime))
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where what it says holds a name that is no text
            if "not a database" in str(error):
                raise DataError(f"{shown}: is no SQLite database. Name one: data.sources connection.") from None
            raise DataError(
                f"{shown}: {_reason(error)}. The query may only read, and is one SELECT: data.sources query."
            ) from None

    def _of_postgresql(self, where: str, after: Mark | None) -> Iterator[Page]:
        query, values = self._asked(after, "%s")
        password = secret(self.password) if self.password else None
        number, before = int(str(after["rows"])) if after else 0, None
        with connected(where, self.origin, password, self.timeout_s) as database:
            for columns, rows in pages(database, query, values):
                names = _names(columns)
                place = self._place_of_key(names, self.origin)
                before = self._check_keys([row[place] for row in rows], before, number, self.origin)
                found = raw_rows(self.origin, names, [[as_json(value) for value in row] for row in rows], number)
                number += len(rows)
                yield Page(found, self._mark(key_value(rows[-1][place]), number), now())

    def _pages(self, cursor: Any, after: Mark | None, file: str, date: str) -> Iterator[Page]:
        """Yield what a cursor gives. Without a key, an SQLite file goes on by counting: unchanged, it gives the same rows in the same order."""
        names = _names([str(column[0]) for column in cursor.description or ()])
        place = self._place_of_key(names, file)
        number, before = int(str(after["rows"])) if after else 0, None
        if after and self.key is None:
            for _ in range(0, number, PAGE):
                cursor.fetchmany(PAGE)  # a page is never shorter but for the last
        while rows := cursor.fetchmany(PAGE):
            before = self._check_keys([row[place] for row in rows], before, number, file)
            found = raw_rows(file, names, [[as_json(value) for value in row] for row in rows], number)
            number += len(rows)
            yield Page(found, self._mark(rows[-1][place], number), date)

    def _place_of_key(self, names: Sequence[str], file: str) -> int:
        """Return where the key stands among the columns; the first where none is named. Raises DataError where it is no column."""
        if self.key is None:
            return 0
        if self.key not in names:
            raise DataError(
                f"{file}: the query has no column '{self.key}', which its key names. Columns: {', '.join(map(brief, names))}."
            )
        return names.index(self.key)

    def _check_keys(self, keys: Sequence[object], before: object, number: int, file: str) -> object:
        """Return the last key, behind `number` rows of which the last has the key `before`. Raises DataError where one would be passed over.

        Collecting goes on behind the last key, so rows that share it, or have none, would be lost.
        """
        for row, key in enumerate(keys if self.key is not None else (), start=number + 1):
            if key is None or key == before:
                what = "is empty" if key is None else "is that of the row before, too"
                raise DataError(
                    f"{file}: row {row:,} of the query, in the order of its key: '{self.key}' {what}, and a key is different in each row and never "
                    "empty, or rows would be lost after a stop. Name such a column as data.sources key, or none."
                )
            before = key
        return before

    def _mark(self, last: object, number: int) -> Mark | None:
        if self.key is None:
            return {"rows": number} if self._kind(self.connection) == "sqlite" else None
        return {"rows": number, "key": last} if isinstance(last, int | str) else None


def _is_there(file: Path) -> bool:
    try:
        return file.is_file()
    except (OSError, ValueError):  # too long for a name, or with a NUL in it
        return False


def _names(columns: Sequence[str]) -> list[str]:
    """Return one name per column, each once."""
    names: dict[str, None] = {}
    for index, column in enumerate(columns):
        name = column or f"column_{index + 1}"
        names[name if name not in names else f"{name}_{index + 1}"] = None
    return list(names)


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return brief(lines[0].rstrip("."), 200) if lines else type(error).__name__
