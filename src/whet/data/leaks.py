"""Rows of the user's test or validation file that also stand in what is learnt from: found, and taken out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from whet.data.keys import text_key
from whet.data.rows import Reject
from whet.errors import Refused
from whet.types import Example

LIMIT = 0.2  # share of the training rows above which the files are not what the user thinks they are


def without_leaks(examples: Sequence[Example], held_out: Iterable[Example], what: str) -> tuple[list[Example], list[Reject]]:
    """Return the examples whose text is not in `held_out`, and a Reject for each other. `what`: 'test' or 'validation'."""
    places = {text_key(one): f"{one.file}:{one.line}" for one in reversed(list(held_out))}
    kept, dropped = [], []
    for example in examples:
        place = places.get(text_key(example))
        if place is None:
            kept.append(example)
        else:
            dropped.append(
                Reject(example.file, example.line, f"also stands in the {what} file {place}", "Nothing to do.", kind="leak")
            )
    return kept, dropped


def refuse_many(num_leaks: int, num_rows: int, what: str) -> None:
    """Raise Refused where more than a fifth of the training rows also stand in a held-out file."""
    if num_leaks > LIMIT * num_rows:
        raise Refused(
            f"{num_leaks} of {num_rows} training rows ({num_leaks / num_rows:.1%}) also stand in the {what} file; at most "
            f"{LIMIT:.0%} are taken out without asking. Check that data.path and data.{what} are different files."
        )
