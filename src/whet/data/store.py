"""Examples as lines of JSON, and back, exactly."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from whet.types import Example, Message


def example_record(example: Example) -> dict[str, Any]:
    """Return an example as JSON holds it: fields that are None or empty are left out."""
    record: dict[str, Any] = {}
    for field in fields(Example):
        value = getattr(example, field.name)
        if value is None or (field.name == "tags" and not value):
            continue
        if field.name == "messages":
            value = [{"role": turn.role, "content": turn.content} for turn in value]
        record[field.name] = list(value) if isinstance(value, tuple) else dict(value) if field.name == "tags" else value
    return record


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
            record = {key: value for key, value in example_record(example).items() if key != "file"}
            digest.update(json.dumps(record, ensure_ascii=True, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()
