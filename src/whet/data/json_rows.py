"""Rows of JSON files: lines of objects, an array, or one object of lists (splits, columns)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TextIO

from whet.data.json_stream import BrokenJson, JsonStream
from whet.data.lines import Line
from whet.data.names import KNOWN, plain
from whet.data.notices import counted
from whet.data.rows import RawRow, Reject, too_long
from whet.data.values import DEEPEST, TooDeep, mended, too_deep
from whet.display import brief
from whet.errors import DataError

Opened = Callable[[], AbstractContextManager[TextIO]]

WRAPPERS = frozenset({"data", "rows", "examples", "items", "records", "cases"})
ROW_KEYS = frozenset({
    "messages", "conversations", "conversation", "instruction", "prompt", "question", "chosen", "rejected", "text", "completion",
})  # fmt: skip


def json_lines(lines: Iterator[Line], name: str) -> Iterator[RawRow | Reject]:
    """Yield the rows of a file with one JSON value per line."""
    for number, text in lines:
        if text is None:
            yield too_long(name, number)
        elif text.strip(" \t\r\ufeff"):
            try:
                value = json.loads(text.lstrip("\ufeff"))
            except (json.JSONDecodeError, RecursionError):
                yield Reject(
                    name, number, "not valid JSON", "Each line of the file must be one JSON object; mend or delete the line."
                )
            except ValueError:  # of more digits than Python reads
                yield Reject(name, number, "a number that is too long", "Write it as a text, in quotes, or delete the line.")
            else:
                yield from rows_of(value, name, number)


def json_document(opened: Opened, newline: str, name: str, notices: list[str]) -> Iterator[RawRow | Reject]:
    """Yield the rows of a file that is one JSON value, or several that spread over lines. `opened` opens the file anew."""
    try:
        with opened() as stream:
            cursor = JsonStream(stream, newline)
            if cursor.peek() == "[":
                for value, line in _elements(cursor):
                    yield from rows_of(value, name, line)
                _nothing_follows(cursor, name)
                return
            first = _first_of(cursor)
            several = bool(cursor.peek()) and first is not None
        with opened() as stream:
            cursor = JsonStream(stream, newline)
            if first is None or (not several and _holds_rows(first)):
                yield from _lists(cursor, name, notices)
            elif not several and (path := _path_to_rows(first)) is not None:
                notices.append(f"{name}: the rows are the list at {brief('.'.join(path))}; what stands beside it was left out.")
                for value, line in _below(cursor, path, name):
                    yield from rows_of(value, name, line)
            else:
                yield from _objects(cursor, name, notices, first if not several else None)
    except TooDeep:
        raise DataError(f"{name}: nested deeper than {DEEPEST} lists and objects. Write one object on each line.") from None
    except BrokenJson as error:
        raise DataError(f"{name}:{error.line}: not valid JSON: {error.what}. Nothing after this line can be trusted; mend it, "
                        "or fetch the file again if it was cut short.") from None  # fmt: skip


def only_list(value: object) -> tuple[str, ...] | None:
    """Return the path to the only list of objects within objects, at most five names long; None where there is none, or several."""
    found = list(_lists_of_objects(value, ()))
    return found[0] if len(found) == 1 else None


def _lists_of_objects(value: object, path: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    if isinstance(value, dict) and len(path) < 5:
        for key, inner in value.items():
            if isinstance(inner, list) and inner and all(isinstance(item, dict) for item in inner):
                yield *path, key
            else:
                yield from _lists_of_objects(inner, (*path, key))


def _path_to_rows(value: object) -> tuple[str, ...] | None:
    """Return where the rows are in what an API answers, such as {"data": {"items": [row, ...]}}; None where the value is a row itself."""
    if not isinstance(value, dict) or ROW_KEYS & set(value) or _columns(value) is not None:
        return None
    return only_list(value)


def _below(cursor: JsonStream, path: Sequence[str], name: str) -> Iterator[tuple[object, int]]:
    """Yield the elements of the list at a path of names, which is there. Raises DataError where a name of the path stands twice."""
    if not path:
        yield from _elements(cursor)
        return
    cursor.take("{")
    met = False
    while cursor.peek() != "}":
        here, line = cursor.value()
        cursor.take(":")
        if here != path[0]:
            cursor.value()
        elif met or cursor.peek() != ("{" if path[1:] else "["):  # the last one counts, and this is another
            raise DataError(f"{name}:{line}: '{brief(path[0])}' stands twice in one object. Give each list a name of its own.")
        else:
            met = True
            yield from _below(cursor, path[1:], name)
        if cursor.take(",}") == "}":
            return


def rows_of(value: object, name: str, line: int) -> Iterator[RawRow | Reject]:
    """Yield the row, or rows, that a JSON value holds."""
    try:
        found = list(_rows_of(value, name, line))
    except TooDeep:
        found = [too_deep(name, line)]
    yield from found


def _rows_of(value: object, name: str, line: int) -> Iterator[RawRow | Reject]:
    if isinstance(value, str):
        yield RawRow(name, line, {"text": _mended(value)})
    elif isinstance(value, list) and len(value) == 2 and all(isinstance(item, str | int) for item in value):
        yield RawRow(name, line, {"text": _mended(value[0]), "label": _mended(value[1])})
    elif isinstance(value, dict):
        instances = value.get("instances")
        if isinstance(instances, list) and instances and all(isinstance(item, dict) for item in instances):
            outer = {key: inner for key, inner in value.items() if key != "instances"}
            for instance in instances:
                yield RawRow(name, line, _fields({**outer, **instance}))
        else:
            yield RawRow(name, line, _fields(value))
    else:
        yield Reject(
            name, line, "a JSON value that is no object", 'Each row must be an object such as {"text": ..., "label": ...}.'
        )


def _fields(value: Mapping[str, object], depth: int = 0) -> dict[str, object]:
    return {str(_mended(key)): _mended(inner, depth + 1) for key, inner in value.items()}


def _mended(value: object, depth: int = 0) -> object:
    """Return the value with lone surrogates, which no file can hold, as the replacement character."""
    if depth > DEEPEST:
        raise TooDeep
    if isinstance(value, str):
        return mended(value)
    if isinstance(value, list):
        return [_mended(item, depth + 1) for item in value]
    return _fields(value, depth) if isinstance(value, dict) else value


def _elements(cursor: JsonStream) -> Iterator[tuple[object, int]]:
    cursor.take("[")
    while cursor.peek() != "]":
        yield cursor.value()
        if cursor.take(",]") == "]":
            return
    cursor.take("]")


def _nothing_follows(cursor: JsonStream, name: str) -> None:
    if cursor.peek():
        raise DataError(f"{name}:{cursor.line}: something follows the end of the JSON array. Put all rows into one array, "
                        "or one object on each line.")  # fmt: skip


def _first_of(cursor: JsonStream) -> object | None:
    """Return the first value; none where it is too long to be a single row."""
    try:
        return cursor.value()[0]
    except BrokenJson as error:
        if error.too_long:
            return None
        raise


def _holds_rows(value: object) -> bool:
    """Whether this is {"train": [row, ...], ...} or {"class": ["text", ...], ...}, and not a row itself."""
    if not isinstance(value, dict) or ROW_KEYS & set(value) or not value:
        return False
    lists = [inner for inner in value.values() if isinstance(inner, list) and inner]
    if any(isinstance(inner[0], dict | list) for inner in lists):
        return True
    texts = all(isinstance(item, str) for inner in lists for item in inner)
    return texts and len(lists) == len(value) and not KNOWN & {plain(key) for key in value}


def _lists(cursor: JsonStream, name: str, notices: list[str]) -> Iterator[RawRow | Reject]:
    """Yield the rows of an object of lists: what stands before each list is its split, or the class of its texts."""
    cursor.take("{")
    left_out, keys = [], []
    while cursor.peek() != "}":
        key = str(cursor.value()[0])
        cursor.take(":")
        if cursor.peek() == "[":
            keys.append(key)
            for value, line in _elements(cursor):
                yield from _of_list(key, value, name, line)
        else:
            cursor.value()
            left_out.append(key)
        if cursor.take(",}") == "}":
            break
    notices.append(f"{name}: an object of {len(keys)} lists was read as rows; the name of the list became a column.")
    if left_out:
        notices.append(f"{name}: {len(left_out)} entries that are no lists of rows were left out.")


def _of_list(key: str, value: object, name: str, line: int) -> Iterator[RawRow | Reject]:
    if isinstance(value, str):
        yield RawRow(name, line, {"text": _mended(value), "label": _mended(key)})
        return
    for row in rows_of(value, name, line):
        if isinstance(row, Reject) or key in WRAPPERS:
            yield row
        else:
            yield RawRow(name, line, {"split": _mended(key), **row.fields})


def _objects(cursor: JsonStream, name: str, notices: list[str], single: object | None) -> Iterator[RawRow | Reject]:
    """Yield the rows of objects one after another, or of the single one, which may hold columns."""
    if isinstance(single, dict) and (table := _columns(single)) is not None:
        names, rows = table
        notices.append(f"{name}: an object of columns was read as {counted(len(rows), 'row')}.")
        yield from (RawRow(name, 1, _fields(dict(zip(names, row, strict=True)))) for row in rows)
        return
    if single is None:
        notices.append(f"{name}: JSON objects that spread over several lines were read one after another.")
    while cursor.peek():
        value, line = cursor.value()
        yield from rows_of(value, name, line)


def _columns(value: Mapping[str, object]) -> tuple[list[str], list[tuple[object, ...]]] | None:
    """Return names and rows of {"text": [...], "label": [...]}, also with {"0": ..., "1": ...} in place of the lists."""
    lists: list[list[object]] = []
    for inner in value.values():
        if isinstance(inner, dict) and inner and all(key.isdigit() for key in inner):
            lists.append(list(inner.values()))
        elif isinstance(inner, list) and inner:
            lists.append(inner)
        else:
            return None
    same = len(lists) > 1 and len({len(column) for column in lists}) == 1
    return (list(value), list(zip(*lists, strict=True))) if same else None
