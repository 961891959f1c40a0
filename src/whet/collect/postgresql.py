"""PostgreSQL, read only: a connection on which every value comes as something that a row holds, and what went wrong in words."""

from __future__ import annotations

import datetime
import decimal
import json
import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

from whet.collect.credential import hidden
from whet.data.values import as_json
from whet.display import brief
from whet.errors import DataError, installing

SCHEMES = ("postgresql://", "postgres://")
PAGE = 1000
"""Rows fetched at once, at most."""
FIRST = 50
"""Rows fetched first, while nothing is known of their size."""
PAGE_BYTES = 1 << 25
"""What a page holds about, at most, where its rows are large."""
_TOLD = frozenset({"08", "0A", "25", "28", "3D", "3F", "42", "53", "54", "55", "57"})
"""Classes of errors whose words are of the connection and the query, never of a value. PostgreSQL 17, appendix A."""
_IN_TIME = ("date", "time", "timetz", "timestamp", "timestamptz", "interval")
_IN_JSON = ("json", "jsonb")
AS_TEXT = 0
"""How psycopg calls values that come as text."""


def key_value(value: object) -> int | str | None:
    """Return the value of a key as a later query can name it; None for what has no order that can be written."""
    if isinstance(value, int | str):
        return value
    return str(value) if isinstance(value, datetime.date | decimal.Decimal | uuid.UUID) else None


def is_postgresql(connection: str) -> bool:
    """Whether this is the address of a PostgreSQL database."""
    return connection.startswith(SCHEMES)


@contextmanager
def connected(where: str, name: str, password: str | None, timeout_s: float) -> Iterator[Any]:
    """Connect to a database for as long as the block takes; it can change nothing. `name` is what errors call it.

    Raises DataError, with no secret and no value of a row in it.
    """
    try:
        import psycopg
    except ImportError:
        raise DataError(f"{name}: PostgreSQL needs the extra 'postgres': {installing('postgres')}") from None
    encoding = {} if "client_encoding" in where else {"client_encoding": "UTF8"}
    secrets = (password or "", *((where, *_passwords(where)) if where != name else ()))
    database = None
    try:
        with psycopg.connect(
            where, password=password, connect_timeout=max(2, int(timeout_s)), application_name="whet", **encoding
        ) as database:
            database.read_only = True
            _load_any(database)
            yield database
    except psycopg.Error as error:
        raise DataError(f"{name}: {hidden(_said(error, database), *secrets)}") from None


def pages(database: Any, query: str, values: Sequence[object]) -> Iterator[tuple[list[str], list[tuple[Any, ...]]]]:
    """Yield the names of a query's columns with some of its rows, until there are no more. Large rows come few at a time."""
    with database.cursor(name="whet") as cursor:  # a cursor on the server: it never sends more than is fetched
        cursor.execute(query, values or None)
        names = [str(column.name) for column in cursor.description or ()]
        number = FIRST
        while rows := cursor.fetchmany(number):
            size = max(sum(_size(value) for value in row) for row in rows)
            number = max(1, min(2 * number, PAGE, PAGE_BYTES // max(size, 1)))
            yield names, rows


def largest_table(database: Any) -> tuple[str, str | None] | None:
    """Return the largest table that may be read, as a query names it, and its key where that is one column; None where there is none.

    By the size on the disk, so that nothing has to be counted.
    """
    tables = database.execute(
        "SELECT c.oid, quote_ident(n.nspname) || '.' || quote_ident(c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace "
        "WHERE c.relkind IN ('r', 'p', 'm', 'v', 'f') AND NOT c.relispartition AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_' "
        "AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') "
        "ORDER BY (SELECT coalesce(sum(pg_table_size(t.relid)), 0) FROM pg_partition_tree(c.oid) t) + pg_table_size(c.oid) DESC, 2 LIMIT 1"
    ).fetchall()
    if not tables:
        return None
    ((table, name),) = tables
    keys = database.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = ANY(i.indkey) "
        "WHERE i.indrelid = %s AND i.indisprimary",
        (table,),
    ).fetchall()
    return name, str(keys[0][0]) if len(keys) == 1 else None


def _load_any(database: Any) -> None:
    """Let no value fail: a date that Python has not (infinity, 44 BC) and JSON that Python cannot read come as the server writes them."""
    from psycopg import DataError as ValueFault
    from psycopg.adapt import Loader

    adapters, encoding = database.adapters, database.info.encoding

    class AsWritten(Loader):  # type: ignore[misc]
        def load(self, data: Any) -> object:
            return bytes(data).decode(encoding, "replace")

    class Json(AsWritten):
        def load(self, data: Any) -> object:
            try:
                return as_json(json.loads(bytes(data).decode(encoding)))
            except (ValueError, RecursionError):
                return super().load(data)

    class Moment(AsWritten):
        def __init__(self, oid: int, context: Any = None) -> None:
            super().__init__(oid, context)
            self._usual = usual[oid](oid, context)

        def load(self, data: Any) -> object:
            try:
                return self._usual.load(data)
            except (ValueFault, ValueError, OverflowError):
                return super().load(data)

    usual = {adapters.types[name].oid: adapters.get_loader(adapters.types[name].oid, AS_TEXT) for name in _IN_TIME}
    for name in _IN_TIME:
        adapters.register_loader(name, Moment)
    for name in _IN_JSON:
        adapters.register_loader(name, Json)


def _size(value: object) -> int:
    return len(value) if isinstance(value, str | bytes) else len(str(value)) if isinstance(value, list | dict) else 8


def _said(error: Any, database: Any) -> str:
    """Return what went wrong and what to do."""
    state = error.sqlstate or ""
    lines = str(error).strip().splitlines()
    words = brief(lines[0].rstrip("."), 200) if lines else type(error).__name__
    if database is None:
        return f"{words}. Check connection and password of data.sources, and that the server runs."
    if (not state and type(error).__name__ == "OperationalError") or state[:2] == "08" or state.startswith("57P"):
        return (
            f"the connection broke ({words}). Start the same command again: with a `key` it goes on after the rows that it has."
        )
    if state == "22021":
        return (
            "text there is not in the encoding that the database says it has. Name the one that it is in behind the connection, such as "
            "?client_encoding=LATIN1."
        )
    if state[:2] not in _TOLD:  # its words may hold a value of a row
        words = (
            f"the server gave up with {type(error).__name__} ({state})"
            if state
            else f"a value is not understood ({type(error).__name__})"
        )
    return f"{words}. The query may only read, and is one SELECT: data.sources query."


def _passwords(connection: str) -> list[str]:
    """Return what may be a password in an address, or a part of one that has signs in it which end it, as it is written and as it is read."""
    user = connection.partition("://")[2].rpartition("@")[0]
    parts = [one for one in re.split(r"[/?#@]", user.partition(":")[2]) if one]
    return sorted({*parts, *map(unquote, parts)}, key=len, reverse=True)
