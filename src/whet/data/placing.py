"""What a row says of its own place: the part that a column names, or its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from whet.data.gathered import Gathered
from whet.data.rows import Reject
from whet.data.times import order_of, seconds
from whet.errors import DataError
from whet.types import Example

WORDS: Mapping[str, str] = {
    **dict.fromkeys(("train", "training", "tr", "learn"), "train"),
    **dict.fromkeys(("validation", "valid", "val", "dev", "development", "eval", "evaluation"), "validation"),
    **dict.fromkeys(("test", "testing", "holdout", "heldout", "held out", "hold out"), "test"),
}
"""How parts are called."""


def by_own_part(work: Gathered) -> None:
    """Give rows whose column says validation or test to these sources, as if they had stood in files of their own."""
    column = work.data.part
    if column is None:
        return
    kept: dict[str, list[Example]] = {"train": [], "validation": [], "test": []}
    for example in work.examples["path"]:
        said = WORDS.get((example.part or "").casefold().replace("_", " ").replace("-", " ").strip())
        if said is None:
            reason = f"'{column}' names no part" if example.part else f"'{column}' is empty"
            work.rejects["path"].append(
                Reject(example.file, example.line, reason, "Write train, validation or test, or delete the row.")
            )
        else:
            kept[said].append(replace(example, part=said))
    for part in ("validation", "test"):
        work.examples[part] = kept[part]
        work.rows[part] += len(kept[part])
        work.rows["path"] -= len(kept[part])
    work.examples["path"] = kept["train"]
    work.named = tuple(part for part in ("validation", "test") if kept[part])
    if not kept["train"]:
        raise DataError(
            f"{', '.join(work.data.path)}: no row has the part 'train' in '{column}', so there is nothing to learn from."
        )


def timed(work: Gathered) -> None:
    """Read the time of each row; one that has none cannot be used. Raises DataError where it is unclear what is day and what month."""
    column = work.data.time
    if column is None:
        return
    examples = work.examples["path"]
    order = order_of(example.time for example in examples if example.time is not None)
    kept = []
    for example in examples:
        moment = seconds(example.time, order) if example.time is not None else None
        if moment is not None:
            work.times[example.id] = moment
            kept.append(example)
            continue
        if example.time is not None and order == "unclear" and seconds(example.time, "day") is not None:
            raise DataError(
                f"{example.file}:{example.line}: '{column}' has dates of which no row tells whether the day or the month stands first. "
                "Write them as YEAR-MONTH-DAY."
            )
        reason = f"'{column}' is no date or time" if example.time is not None else f"'{column}', the time, is empty"
        remedy = "Write it as YEAR-MONTH-DAY, with or without a time, or as seconds since 1970."
        work.rejects["path"].append(Reject(example.file, example.line, reason, remedy))
    work.examples["path"] = kept
