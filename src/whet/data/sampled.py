"""The sample of streamed data that is looked at before anything is learnt; it has the rows that the run is stopped by and judged on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from whet.data.accounting import Accounting, check_rejects, count
from whet.data.clean import Cleaners, build_cleaners
from whet.data.dataset import Dataset
from whet.data.deduplicate import without_duplicates
from whet.data.mapping import check_columns, required, resolve
from whet.data.notices import counted
from whet.data.pieces import SAID, Content, large_files, pieces_of, read_piece
from whet.data.redact import build_privacy
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.data.split import PARTS
from whet.data.stream import ROWS_OF_PIECE, Streamed, keys_of, parts_of
from whet.engine.order import permutation
from whet.errors import DataError
from whet.recipe_data import Data, Split
from whet.types import Example

SAMPLED = 64
"""Pieces that are read before anything is learnt, from all over the files."""
LOOKED = 2_000
"""Training rows of them that the check before training looks at."""
WANTED = 300
"""Rows that validation and test part shall have each, where the sample has so many to give and the recipe names no shares."""


def rows_of(
    number: int, content: Content, columns: Data, needs: tuple[str, ...], cleaners: Cleaners
) -> Iterator[Example | Reject]:
    """Yield the examples of piece `number`, with the ids that they have wherever they are met, and what cannot be used."""
    rows = list(content.rows())
    check_columns(required(columns), rows)

    def clean(text: str) -> str:
        repaired = cleaners.learnt(text)[0]
        return repaired if cleaners.redactor is None else cleaners.redactor(repaired)

    for made in to_examples(rows, columns, needs, clean):
        if isinstance(made, Reject):
            if columns.strict and made.unusable:
                raise DataError(f"{made.sentence()} The run stops at the first such row because data.strict is true.")
            yield made
        else:
            yield replace(cleaners.redacted(made), id=(number << ROWS_OF_PIECE) + made.id)


def sampled(data: Data, needs: tuple[str, ...], folder: Path | None) -> Dataset:
    """Return a data set whose rows are those of a sample, and that says what is streamed. Raises DataError.

    The sample is of pieces from all over the files. Its validation and test rows are those of the run, and some of its training rows are
    what is looked at before training; as `train` of a run they serve what needs training rows later.
    """
    notices: list[str] = []
    files = tuple(large_files(data.path, notices))
    pieces = pieces_of(files)
    chosen = [int(number) for number in permutation(data.split.seed, 0, len(pieces))[-SAMPLED:]]
    contents = {number: read_piece(pieces[number]) for number in sorted(chosen)}
    raw: list[RawRow | Reject] = [row for content in contents.values() for row in content.rows()]
    columns = resolve(data, needs, raw, notices)
    cleaners = build_cleaners(columns, folder, raw)
    privacy = build_privacy(columns, cleaners.redactor)
    made = [one for number, content in contents.items() for one in rows_of(number, content, columns, needs, cleaners)]
    rejects = [one for one in made if isinstance(one, Reject)]
    check_rejects(rejects, len(made), data)
    examples = [one for one in made if isinstance(one, Example)]
    if privacy is not None:
        examples = [privacy.look(one) for one in examples]
    examples, again = without_duplicates(examples)
    split = _shares(data, len(examples))
    parts = _divided(examples, split)
    apart = -(-len(parts["train"]) // LOOKED)
    looked = parts["train"][::apart]
    size = sum(len(content.held) for content in contents.values()) * len(looked) // len(parts["train"])
    stream = Streamed(files, split, size)
    return Dataset(
        train=looked,
        validation=parts["validation"],
        test=parts["test"],
        columns=columns.model_copy(update={"split": split}),
        classes=(),
        accounting=Accounting({"path": count(len(made), {part: len(parts[part]) for part in PARTS}, [*rejects, *again])}),
        rejects=(*rejects, *again),
        notices=(*notices, *_told(stream, len(pieces), len(chosen), len(looked), again), *(privacy.notices() if privacy else ())),
        conflicts=(),
        cleaned={},
        private=privacy.report() if privacy else (),
        stream=stream,
    )


def _divided(examples: Sequence[Example], split: Split) -> dict[str, tuple[Example, ...]]:
    parts: dict[str, list[Example]] = {part: [] for part in PARTS}
    shown = np.array([keys_of(example)[0] for example in examples], np.uint64)
    for example, part in zip(examples, parts_of(shown, split), strict=True):
        parts[str(part)].append(example)
    for part in PARTS:
        if not parts[part]:
            raise DataError(
                f"data.streaming: no {part} row among the {counted(len(examples), 'row')} of the sample. Set the shares in data.split, or "
                "leave data.streaming out: a file that fits into memory is divided better without."
            )
    return {part: tuple(some) for part, some in parts.items()}


def _shares(data: Data, num_rows: int) -> Split:
    """Return the recipe's shares; where it names none, so much that the sample has some hundred rows to judge by, 1 % at least."""
    if data.split.model_fields_set & {"train", "validation", "test"}:
        return data.split
    share = round(min(0.15, max(0.01, WANTED / max(1, num_rows))), 4)
    return data.split.model_copy(update={"train": round(1 - 2 * share, 4), "validation": share, "test": share})


def _told(stream: Streamed, num_pieces: int, num_sampled: int, num_looked: int, again: Sequence[Reject]) -> list[str]:
    split, kinds = stream.split, Counter(SAID[file.kind] for file in stream.files)
    size = stream.total_bytes / 2**20
    return [
        f"data.streaming: {counted(len(stream.files), 'file')}, {size:,.0f} MiB, read in {counted(num_pieces, 'piece')} while they are learnt "
        f"from; {'; '.join(kinds)}.",
        f"data.streaming: {counted(num_sampled, 'piece')} from all over the files are a sample, whose rows are counted below. The check before "
        f"training looks at {counted(num_looked, 'row')} of it; its validation and test rows are those of the run.",
        f"data.streaming: parts follow from a hash of each text: {split.train:.4g} to learn from, {split.validation:.4g} to stop by, "
        f"{split.test:.4g} to be judged on (data.split).",
        f"data.streaming: exact duplicates are dropped, the first that is read stays ({counted(len(again), 'row')} in the sample); near "
        "duplicates are not looked for.",
    ]
