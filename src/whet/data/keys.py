"""What makes two examples the same: the same contents, the same text or the same target, whatever the case and spaces."""

from __future__ import annotations

import unicodedata

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
    return _digest(unicodedata.normalize("NFKC", END.join("\x00" if part is None else part for part in parts)))


def text_key(example: Example) -> str:
    """Return the key of leaks and of groups: what the model is shown (text and pair, or the turns before the last answer)."""
    return _digest(folded(shown(example)))


def shown(example: Example) -> str:
    """Return what the model is shown of an example."""
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
    labels = repr(tuple(sorted(example.labels or ())))
    answers = [
        None if text is None else folded(text)
        for text in (example.response if example.messages is not None else None, example.chosen, example.rejected)
    ]
    parts = (example.label, labels, repr(example.value), " ".join(example.token_labels or ()), *answers)
    return _digest(END.join("\x00" if part is None else part for part in parts))


def folded(text: str) -> str:
    """Return the text with compatible characters, case and spaces made the same."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def _digest(text: str) -> str:
    return str(xxhash.xxh3_128_hexdigest(text.encode("utf-8", "surrogatepass")))
