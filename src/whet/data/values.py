"""What a field of a row may hold: what JSON holds, and no deeper than anybody could write out again."""

from __future__ import annotations

import base64
import datetime
import math
import re
from collections.abc import Mapping

from whet.data.rows import RawRow, Reject

DEEPEST = 100
"""Lists and objects in one another."""
_SURROGATE = re.compile("[\ud800-\udfff]")


class TooDeep(ValueError):
    """A value of more lists and objects in one another than rows may have."""


def mended(text: str) -> str:
    """Return a text with lone surrogates, which no file can hold, as the replacement character."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def as_json(value: object, depth: int = 0) -> object:
    """Return a value as a file of JSON holds it: dates by ISO 8601, decimals and bytes as text. Raises TooDeep."""
    if depth > DEEPEST:
        raise TooDeep
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return mended(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, Mapping):
        return {mended(str(key)): as_json(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(inner, depth + 1) for inner in value]
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, bytes | bytearray | memoryview):
        return _text(bytes(value))
    return str(value)


def row_of(file: str, line: int, fields: Mapping[str, object]) -> RawRow | Reject:
    """Return a record as a row of what JSON holds, or why it cannot be one."""
    try:
        return RawRow(file, line, {mended(str(name)): as_json(value, 1) for name, value in fields.items()})
    except TooDeep:
        return too_deep(file, line)


def too_deep(file: str, line: int) -> Reject:
    """Return the reject of a row above DEEPEST."""
    return Reject(file, line, f"nested deeper than {DEEPEST} lists and objects", "Flatten the row, or leave that field out.")


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return base64.b64encode(value).decode()
