"""Words that came from a file, as a terminal, a shell or a message may show them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What moves a cursor, colours, names a window or turns the direction of writing; not the tab and the line feed."""


def plain(text: str) -> str:
    """Return the text with each character that a terminal would act on written out, such as \\x1b."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def brief(text: str, limit: int = 60) -> str:
    """Return the text on one line, its middle left out where it is longer than `limit` characters."""
    line = plain(" ".join(text.split()))
    if len(line) <= limit:
        return line
    kept = (limit - 5) // 2
    return f"{line[:kept]} ... {line[-kept:]}"


def listed(names: Iterable[str], limit: int = 10) -> str:
    """Return the first names, and how many there are beside them."""
    found = list(names)
    more = f" and {len(found) - limit:,} more" if len(found) > limit else ""
    return ", ".join(brief(name) for name in found[:limit]) + more


def places(files: Sequence[str], limit: int = 3) -> str:
    """Return the names of the first files, whole, and how many there are beside them."""
    more = f" and {len(files) - limit:,} more files" if len(files) > limit + 1 else ""
    return ", ".join(files[: limit if more else None]) + more


def why_unread(error: OSError | UnicodeDecodeError) -> str:
    """Return why a text file cannot be read, without its name and what it holds."""
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start + 1:,} is no UTF-8"
    return error.strerror or type(error).__name__


def finite(value: object) -> object:
    """Return a value with None in place of each number that is not finite, which JSON has not."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return [finite(inner) for inner in value] if isinstance(value, list | tuple) else value


def quoted(path: str | Path) -> str:
    """Return a path as a shell takes it, for a command that can be pasted."""
    return shlex.quote(str(path))


def name_fault(path: Path) -> str:
    """Return what keeps a path from being the name of a file that a run can speak of; nothing where all is well."""
    if "\0" in str(path):
        return "a name cannot hold a NUL character."
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return "a name must be UTF-8 text."
    return ""
