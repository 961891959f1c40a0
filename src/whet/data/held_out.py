"""Rows of a further file to judge a trained run on: read as in training, never changed, and compared with what was learnt from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whet.data.accounting import check_rejects
from whet.data.alike import near_to
from whet.data.clean import build_cleaners
from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.data.labels import respelt, spellings
from whet.data.mapping import check_columns, required
from whet.data.notices import counted, grouped
from whet.data.read import read_files
from whet.data.rows import Reject
from whet.data.shapes import to_examples
from whet.data.table import Reading
from whet.errors import Refused
from whet.types import Example


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Rows to judge on, and what to know of them."""

    examples: tuple[Example, ...]
    notices: tuple[str, ...]
    """How the files were read."""
    known: tuple[str, ...]
    """What whoever reads the scores must know first: rows that were also learnt from."""


def read_held_out(
    paths: Sequence[Path],
    dataset: Dataset,
    needs: tuple[str, ...],
    folder: Path | None,
    *,
    keep_learnt: bool = False,
    before: Iterable[Example] = (),
) -> HeldOut:
    """Return the examples of these files, by the columns of `dataset`; `before` are rows that earlier stages have learnt from.

    Rows that cannot be read are counted, and stop the evaluation above `data.max_reject_fraction`. Rows that were also learnt from
    are left out, or with `keep_learnt` kept; both are told. Raises DataError, or Refused where no other row is there.
    """
    notices: list[str] = []
    wanted = required(dataset.columns)
    rows = list(read_files(paths, notices, Reading(tuple(wanted.values()))))
    check_columns(wanted, rows)
    cleaners = build_cleaners(dataset.columns, folder)
    made = list(to_examples(rows, dataset.columns, needs, cleaners))
    rejects = [one for one in made if isinstance(one, Reject)]
    check_rejects(rejects, len(rows), dataset.columns, [str(path) for path in paths])
    if rejects:
        notices.append(f"{counted(len(rejects), 'row')} cannot be scored. The first: {rejects[0].sentence()}")
    spelling = spellings(dataset.classes, dataset.columns.label_synonyms)
    examples = tuple(respelt(cleaners.redacted(one), spelling) for one in made if isinstance(one, Example))
    said = grouped(notices, dict.fromkeys(row.file for row in rows))
    learnt = {text_key(example) for example in (*dataset.train, *dataset.validation, *before)}
    new = tuple(example for example in examples if text_key(example) not in learnt)
    like = near_to(new, (*dataset.train, *dataset.validation, *before), dataset.columns.duplicates)
    if like:
        first = min(like)
        said = (
            *said,
            f"{counted(len(like), 'row')} of {', '.join(path.name for path in paths)} are nearly the same as rows that were learnt from, such as "
            f"{new[first].file}:{new[first].line} as {like[first][0].file}:{like[first][0].line} ({like[first][1]:.2f}); they are scored too.",
        )
    if len(new) == len(examples):
        return HeldOut(examples, said, ())
    found = f"{len(examples) - len(new):,} of {counted(len(examples), 'row')} of {', '.join(path.name for path in paths)}"
    found += " also stand in what was learnt from"
    if keep_learnt:
        return HeldOut(examples, said, (f"{found}, and are scored all the same: these scores flatter the model.",))
    if not new:
        raise Refused(
            f"{found}, so a score would say nothing about new texts. Name a file with other rows, or score these all the same "
            "with --keep-learnt."
        )
    return HeldOut(new, said, (f"{found}. They are left out of the score; {counted(len(new), 'row')} stay.",))
