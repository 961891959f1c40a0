"""A division that was made before: which text stands in which part, so that new rows never move old ones across."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whet.data.alike import groups_of
from whet.data.keys import text_key
from whet.data.store import example_of
from whet.errors import DataError
from whet.files import expanded, read_lines
from whet.recipe_data import Duplicates
from whet.types import Example

PARTS = ("train", "validation", "test")
SPLITS = "splits.json"
REMEDY = "Name the folder of a run, or the splits.json in it, that whet has written (data.split.frozen)."


@dataclass(frozen=True, slots=True)
class Frozen:
    """The texts of a division."""

    part_of: Mapping[str, str]
    """Text key and its part."""
    examples: Mapping[str, tuple[Example, ...]]
    """The rows of each part, where they lie beside splits.json: what new rows are compared with."""


def read_frozen(name: str) -> Frozen:
    """Return the division of a run, or of its splits.json. Raises DataError."""
    file = division_file(name)
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
        texts = said["texts"]
        part_of = {str(key): part for part in PARTS for key in texts[part]}
    except (OSError, RecursionError) as error:
        raise not_readable(name, error) from None
    except (ValueError, KeyError, TypeError):
        raise no_division(name) from None
    if not (file.parent / "data" / "train.jsonl").is_file():
        return Frozen(part_of, {})
    try:
        rows = {part: tuple(map(example_of, read_lines(file.parent / "data" / f"{part}.jsonl"))) for part in PARTS}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise rows_damaged(file.parent, error) from None
    return Frozen(part_of, rows)


def division_file(name: str) -> Path:
    """Return the file that says the division."""
    path = expanded(name)
    return path / SPLITS if path.is_dir() else path


def not_readable(name: str, error: Exception) -> DataError:
    return DataError(f"{name}: cannot be read ({type(error).__name__}). {REMEDY}")


def no_division(name: str) -> DataError:
    return DataError(f"{name}: says no part for any text. {REMEDY}")


def rows_damaged(folder: Path, error: Exception) -> DataError:
    return DataError(f"{folder / 'data'}: damaged ({type(error).__name__}). Restore the folder, or name {SPLITS} elsewhere.")


def placed_by(
    frozen: Frozen, examples: Sequence[Example], settings: Duplicates
) -> tuple[dict[str, str], list[tuple[Example, str]]]:
    """Return the parts of texts that are decided by the frozen ones, and the rows that no part may have, each with why.

    A text that was there stays where it was. A new one that is near to old ones, or of their group, joins them; where those stand in
    different parts, it can be in neither.
    """
    old = [(part, one) for part in PARTS for one in frozen.examples.get(part, ())]
    fresh = [one for one in examples if text_key(one) not in frozen.part_of]  # the others' texts are among the old ones
    near = groups_of([*(one for _, one in old), *fresh], settings) if old else {}
    parts: dict[object, dict[str, str]] = {}
    for place, (part, one) in enumerate(old):
        for sign in _signs(one, near.get(place)):
            parts.setdefault(sign, {}).setdefault(part, f"{one.file}:{one.line}")
    placed, barred = dict(frozen.part_of), []
    for place, one in enumerate(fresh):
        found: dict[str, str] = {}
        for sign in _signs(one, near.get(len(old) + place)):
            found |= parts.get(sign, {})
        if len(found) > 1:
            held = "test" if "test" in found else "validation"
            barred.append((one, found[held]))
        elif found:
            placed[text_key(one)] = next(iter(found))
    return placed, barred


def _signs(example: Example, near: int | None) -> list[object]:
    return [*([("near", near)] if near is not None else []), *(("group", group) for group in example.group or ())]
