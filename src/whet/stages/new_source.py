"""From an address, a database or another tool's export that `whet new` is given to the source that reads it, and its first rows."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from whet import plugins
from whet.collect.breakable import breakable
from whet.collect.fetch import Patience, Reach, patiently, shown
from whet.collect.postgresql import connected, is_postgresql, largest_table
from whet.collect.visits import Visits, hosts_of
from whet.data.json_rows import only_list
from whet.data.notices import counted
from whet.data.rows import RawRow, Reject
from whet.data.values import mended
from whet.display import brief, listed
from whet.errors import DataError
from whet.protocols import Source
from whet.server.address import is_local

LOOKED_AT = 2_000
"""Rows that a recipe is guessed from."""
PAGES = 5
"""Answers of a web server that are looked at, at most."""
COUNTED_S = 30.0
"""Longest that the rows of a database are counted."""
ANOTHER = "Name another in data.sources.query."
SQLITE = b"SQLite format 3\x00"


def is_address(name: object) -> bool:
    """Whether this is the address of something on the web, or of a database server."""
    return re.match(r"(?:https?|postgres(?:ql)?):/", str(name), re.IGNORECASE) is not None


def is_database(name: object) -> bool:
    """Whether this is a file of SQLite."""
    try:
        if not Path(str(name)).is_file():
            return False  # a pipe can be read only once
        with Path(str(name)).open("rb") as file:
            return file.read(len(SQLITE)) == SQLITE
    except (OSError, ValueError):
        return False


def source_of(name: str, said: list[str]) -> dict[str, Any]:
    """Return the settings of the source that reads this, its name among them. Raises DataError where it cannot be told.

    What was chosen, such as the table of a database, is added to `said`.
    """
    if is_postgresql(name):
        return _of_postgresql(name, said)
    return _of_address(name, said) if is_address(name) else _of_database(Path(name), said)


def first_rows(settings: Mapping[str, Any]) -> Iterator[RawRow | Reject]:
    """Yield the first rows of a source, without keeping them; of an export all."""
    more = {key: value for key, value in settings.items() if key != "name"}
    source: Source = plugins.build("sources", settings["name"], more)
    pages = source.collect(None) if settings["name"] in {"sql", *exports()} else islice(source.collect(None), PAGES)
    yield from islice((row for page in pages for row in page.rows), None if settings["name"] in exports() else LOOKED_AT)


@cache
def exports() -> dict[str, type[Source]]:
    """Return the sources that recognise the records of another tool's export, by name."""
    found = {name: plugins.load("sources", name) for name in plugins.names("sources")}
    return {name: source for name, source in found.items() if "recognises" in vars(source)}


def export_in(path: Path) -> str | None:
    """Return the source for a folder or an archive that another tool exports, by the names of its files; none where there is none."""
    try:
        files = [file.name for file in path.iterdir()] if path.is_dir() else []
        if path.is_file() and zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                files = [Path(name).name for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError):
        return None  # reading it says what is wrong
    named = {name: source for name, source in exports().items() if source.members}
    return next((name for name, source in named.items() if any(re.fullmatch(source.members, file) for file in files)), None)


def export_of(rows: Sequence[RawRow | Reject]) -> str | None:
    """Return the source that recognises more than half of the first rows of a file; none where no other tool has written it."""
    records = [row.fields for row in rows if isinstance(row, RawRow)]
    return next((name for name, source in exports().items() if 2 * sum(map(source.recognises, records)) > len(records)), None)


def _of_address(url: str, said: list[str]) -> dict[str, Any]:
    try:
        reach = Reach(hosts_of([url]), private=_is_local(url))
    except ValueError as error:
        raise DataError(f"{shown(url)}: cannot be fetched; allowed: {error}.") from None
    local = {"private": True} if reach.private else {}
    visits = Visits(reach, Patience(retries=2), 0.0, robots=False)
    answer = patiently(lambda: _answered(visits, url), Patience(retries=0), shown(url))
    if answer.status != 200:
        raise DataError(
            f"{shown(url)}: answers {answer.status}. Check the address; where it wants a key, write the recipe by hand: data.sources: "
            "{name: json_api, url: ..., key: env:NAME}."
        )
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().casefold()
    head = answer.body[:2000].lstrip()
    if kind.endswith("json") or head[:1] in {b"{", b"["}:
        linked = {"paging": "link"} if 'rel="next"' in answer.headers.get("link", "") else {}
        if not linked:
            said.append(
                "One answer is read, and no further page. Where the API has more, say how it goes on in data.sources.paging."
            )
        return {"name": "json_api", "url": url, **_records(answer.body), **linked, **local}
    if b"<urlset" in head or b"<sitemapindex" in head or urlsplit(url).path.endswith(".xml.gz"):
        return {"name": "web", "sitemaps": url, **local}
    if kind in {"text/html", "application/xhtml+xml", "text/plain", ""}:
        return {"name": "web", "urls": url, **local}
    raise DataError(f"{shown(url)}: is {kind[:80]}, which is read as a file. Download it, and name the file: whet new FILE")


def _records(body: bytes) -> dict[str, str]:
    """Return where the records of an answer are, if that has to be said: below its top."""
    try:
        path = only_list(json.loads(body))
    except (ValueError, RecursionError):
        return {}  # reading it says what is wrong
    if path is None or len(path) < 2 or any("." in name or name != mended(name) for name in path):
        return {}
    return {"records": ".".join(path)}


def _answered(visits: Visits, url: str) -> Any:
    answer = visits.get(url, {"accept": "text/html, application/json;q=0.9, */*;q=0.5"})
    assert answer is not None, "robots.txt is not asked here"
    return answer


def _is_local(url: str) -> bool:
    """Whether a person who typed this address means their own machine."""
    return is_local(urlsplit(url).hostname or "")


def _of_database(file: Path, said: list[str]) -> dict[str, Any]:
    """Return how the largest table of a database is read, in the order of its key, where it has one."""
    try:
        with closing(sqlite3.connect(f"file:{quote(str(file))}?mode=ro", uri=True)) as database, breakable(database, COUNTED_S):
            database.text_factory = lambda content: content.decode("utf-8", "replace")
            sizes, unread = _counted(database)
            if not any(sizes.values()):
                why = f" {_unread(unread)}" if unread else " Check that it is the one you mean."
                raise DataError(f"{file}: a database without a row in any table.{why}")
            table = max(sizes, key=lambda name: sizes[name])
            key = _key_of(database, table)
    except TimeoutError:
        raise DataError(
            f"{file}: counting its rows takes longer than {COUNTED_S:g} s, as of a view that computes for long. Name what is wanted in a recipe: "
            "data.sources: {name: sql, connection: FILE, query: SELECT ...}"
        ) from None
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where what it says holds a name that is no text
        raise DataError(f"{file}: cannot be read as a database ({type(error).__name__}). Open it in its own program.") from None
    others = sorted((name for name in sizes if name != table), key=lambda name: -sizes[name])
    if others:
        left = listed((f"'{name}' ({counted(sizes[name], 'row')})" for name in others), 5)
        said.append(
            f"The table '{brief(table)}' ({counted(sizes[table], 'row')}) is read, the largest; {left} left out. {ANOTHER}"
        )
    if unread:
        said.append(_unread(unread))
    return {"name": "sql", "connection": str(file), "query": f"SELECT * FROM {_quoted(table)}", **_keyed(key)}


def _counted(database: sqlite3.Connection) -> tuple[dict[str, int], list[str]]:
    """Return the rows of each table and view, by name, and the names of those that cannot be read, as a view of a table that is gone.

    Tables that a module makes, such as an index of words, count among the latter, and those that it keeps beside them are no one's to read.
    """
    found = database.execute("SELECT name, sql FROM sqlite_master WHERE type IN ('table', 'view') ORDER BY name").fetchall()
    made = tuple(name for name, sql in found if re.match(r"CREATE\s+VIRTUAL\b", sql or "", re.IGNORECASE))
    sizes, unread = dict[str, int](), [f"'{name}'" for name in made]
    for name, _ in found:
        if name.startswith(("sqlite_", *(f"{one}_" for one in made))) or name in made:
            continue
        try:
            sizes[name] = database.execute(f"SELECT count(*) FROM {_quoted(name)}").fetchone()[0]
        except sqlite3.OperationalError as error:
            if str(error) == "interrupted":
                raise
            unread.append(f"'{name}'")
    return sizes, unread


def _unread(names: Sequence[str]) -> str:
    return f"Cannot be read, and left out: {listed(names, 5)}."


def _key_of(database: sqlite3.Connection, table: str) -> str | None:
    """Return the column that is the key of a table; none where there is none, or several, or where it is empty in a row."""
    keys = [row[1] for row in database.execute(f"PRAGMA table_info({_quoted(table)})") if row[5]]
    if len(keys) != 1:
        return None
    empty = database.execute(f"SELECT 1 FROM {_quoted(table)} WHERE {_quoted(keys[0])} IS NULL LIMIT 1").fetchone()
    return keys[0] if empty is None else None


def _of_postgresql(url: str, said: list[str]) -> dict[str, Any]:
    """Return how the largest table of a server's database is read; its password is that of PGPASSWORD, or libpq's own file."""
    settings = {"connection": url, **({"password": "env:PGPASSWORD"} if os.environ.get("PGPASSWORD", "").strip() else {})}
    plugins.build("sources", "sql", {**settings, "query": "SELECT 1"})  # refuses an address with a password in it
    with connected(url, url, None, COUNTED_S) as database:
        found = largest_table(database)
    if found is None:
        raise DataError(f"{url}: no table there that this user may read. Check the database's name, and the user's rights.")
    table, key = found
    said.append(f"The table {brief(table)} is read, the largest. {ANOTHER}")
    return {"name": "sql", **settings, "query": f"SELECT * FROM {table}", **_keyed(key)}


def _keyed(key: str | None) -> dict[str, str]:
    return {"key": key} if key is not None and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", key) else {}


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
