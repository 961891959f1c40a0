"""Examples as lines of JSON, and back, exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from json.encoder import encode_basestring, encode_basestring_ascii
from operator import attrgetter
from typing import Any

from whet.types import Example, Message

NAMES = tuple(field.name for field in fields(Example) if field.init)


class _Form:
    """Writes examples as JSON, these fields in this order; what is None is left out, and tags where there are none.

    Written by hand, since an encoder's own call costs more than the few strings of a row.
    """

    def __init__(self, names: Sequence[str], encoder: json.JSONEncoder) -> None:
        self._values = attrgetter(*names)
        self._begins = tuple(f"{json.dumps(name)}: " for name in names)
        self._encoded = encoder.encode
        self._string = encode_basestring_ascii if encoder.ensure_ascii else encode_basestring

    def __call__(self, example: Example) -> str:
        parts = []
        for begin, value in zip(self._begins, self._values(example), strict=True):
            if value is None:
                continue
            if type(value) is str:
                parts.append(begin + self._string(value))
            elif type(value) is int:
                parts.append(f"{begin}{value}")
            elif isinstance(value, Mapping):
                parts += [begin + self._encoded(dict(value))] * bool(value)
            elif isinstance(value, tuple):
                listed = [{"role": one.role, "content": one.content} if isinstance(one, Message) else one for one in value]
                parts.append(begin + self._encoded(listed))
            else:
                parts.append(begin + self._encoded(value))
        return "{" + ", ".join(parts) + "}"


example_line = _Form(NAMES, json.JSONEncoder(ensure_ascii=False, allow_nan=False))
"""Returns an example as a line of a file, without its end."""
_SORTED = sorted(set(NAMES) - {"file"})
_ASCII = json.JSONEncoder(ensure_ascii=True, sort_keys=True)
_HASHED = _Form(_SORTED, _ASCII)
_TAIL = _Form([name for name in NAMES if name != "id"], json.JSONEncoder(ensure_ascii=False, allow_nan=False))
_BEFORE = _Form([name for name in _SORTED if name < "id"], _ASCII)
_AFTER = _Form([name for name in _SORTED if name > "id"], _ASCII)


def line_tail(example: Example) -> str:
    """Return what follows the id in `example_line`."""
    return f", {_TAIL(example)[1:]}"


def hashed_parts(example: Example) -> tuple[str, str]:
    """Return what stands before and after the id in what is hashed of an example (`examples_hash`)."""
    before = _BEFORE(example)[:-1]
    return f"{before}, " if len(before) > 1 else before, f", {_AFTER(example)[1:]}"


def example_of_line(line: str) -> Example:
    """Return the example of a line."""
    return example_of(json.loads(line))


def example_of(record: Mapping[str, Any]) -> Example:
    """Return the example of a record."""
    values = dict(record)
    if "messages" in values:
        values["messages"] = tuple(Message(turn["role"], turn["content"]) for turn in values["messages"])
    if "token_labels" in values:
        values["token_labels"] = tuple(values["token_labels"])
    for name in ("labels", "group"):
        if name in values:
            values[name] = tuple(values[name])
    return Example(**values)


def examples_hash(parts: Mapping[str, Iterable[Example]]) -> str:
    """Return the SHA-256 of the contents of all parts; where the files lay does not matter."""
    digest = hashlib.sha256()
    for part, examples in parts.items():
        digest.update(part.encode())
        for example in examples:
            digest.update(_HASHED(example).encode() + b"\n")
    return digest.hexdigest()
