"""What makes two examples the same: the same contents, the same text or the same target, whatever the case and spaces."""

from __future__ import annotations

import unicodedata
from dataclasses import fields
from functools import lru_cache
from operator import attrgetter

import xxhash

from whet.types import Example

END = "\x1f"  # between parts, so that moving a boundary changes the key


def content_key(example: Example) -> str:
    """Return the key of exact duplicates: text (NFKC, case kept), pair, and what is to be learnt of it."""
    turns = tuple(f"{turn.role}{END}{turn.content}" for turn in example.messages or ())
    labels = tuple(sorted(example.labels or ()))
    parts = (
        example.text,
        example.text_pair,
        example.label,
        repr(labels),
        repr(example.value),
        *(example.token_labels or ()),
        *turns,
        example.chosen,
        example.rejected,
    )
    return _digest(_compatible(END.join("\x00" if part is None else part for part in parts)))


def text_key(example: Example) -> str:
    """Return the key of leaks and of groups: what the model is shown (text and pair, or the turns before the last answer)."""
    key = example.known_key
    if key is None:
        key = _digest(folded(shown(example)))
        object.__setattr__(example, "known_key", key)  # a cache of what the other fields say
    return key


def with_id(example: Example, number: int) -> Example:
    """Return the row with another id; its key, once known, stays known, and for many rows this is quicker than `replace`."""
    made = object.__new__(Example)
    for put, value in zip(_PUT, _GET(example), strict=True):
        put(made, value)
    _PUT_ID(made, number)
    return made


_FIELDS = tuple(field.name for field in fields(Example))
_GET = attrgetter(*_FIELDS)
_PUT = tuple(Example.__dict__[name].__set__ for name in _FIELDS)
_PUT_ID = Example.__dict__["id"].__set__


def shown(example: Example) -> str:
    """Return what the model is shown of an example."""
    if example.messages is None and example.text_pair is None and example.text is not None:
        return example.text
    if example.messages is not None:
        last = max(
            (index for index, turn in enumerate(example.messages) if turn.role == "assistant"), default=len(example.messages)
        )
        before = [turn.content for turn in example.messages[:last] if turn.role != "system"]
        if before:
            return END.join(before)
        return END.join(turn.content for turn in example.messages)
    return END.join(part for part in (example.text, example.text_pair) if part is not None)


def target_key(example: Example) -> str:
    """Return the key of what is to be learnt of an example, whatever the case and spaces of its answers."""
    others = (example.messages, example.labels, example.token_labels, example.value, example.chosen, example.rejected)
    if example.label is not None and all(one is None for one in others):
        return _label_key(example.label)
    return _target_key(example)


@lru_cache(maxsize=1 << 16)
def _label_key(label: str) -> str:
    return _target_key(Example(id=0, label=label))


def _target_key(example: Example) -> str:
    labels = repr(tuple(sorted(example.labels or ())))
    answers = [
        None if text is None else folded(text)
        for text in (example.response if example.messages is not None else None, example.chosen, example.rejected)
    ]
    parts = (example.label, labels, repr(example.value), " ".join(example.token_labels or ()), *answers)
    return _digest(END.join("\x00" if part is None else part for part in parts))


def folded(text: str) -> str:
    """Return the text with compatible characters, case and spaces made the same."""
    return " ".join(_compatible(text).casefold().split())


def _compatible(text: str) -> str:
    """Return the text with compatible characters the same; ASCII has none."""
    return text if text.isascii() else unicodedata.normalize("NFKC", text)


def _digest(text: str) -> str:
    return str(xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass")))
