"""Rows of a further file to judge a trained run on: read as in training, never changed, and compared with what was learnt from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from whet.data.accounting import check_rejects
from whet.data.clean import build_cleaners
from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.data.labels import label_key
from whet.data.notices import counted, grouped
from whet.data.read import read_files
from whet.data.rows import Reject
from whet.data.shapes import to_examples
from whet.types import Example


def read_held_out(
    paths: Sequence[Path], dataset: Dataset, needs: tuple[str, ...], folder: Path | None
) -> tuple[tuple[Example, ...], tuple[str, ...]]:
    """Return the examples of these files, by the columns of `dataset`, and what to know of them.

    Rows that cannot be read are counted, and stop the evaluation above `data.max_reject_fraction`. Rows that were also learnt from
    stay, since the file is the user's, and are counted aloud. Raises DataError.
    """
    notices: list[str] = []
    rows = list(read_files(paths, notices))
    made = list(to_examples(rows, dataset.columns, needs, build_cleaners(dataset.columns, folder)))
    rejects = [one for one in made if isinstance(one, Reject)]
    check_rejects(rejects, len(rows), dataset.columns, [str(path) for path in paths])
    if rejects:
        notices.append(f"{counted(len(rejects), 'row')} cannot be scored. The first: {rejects[0].sentence()}")
    keys = Counter(label_key(label) for label in dataset.classes)
    spelling = {label_key(label): label for label in dataset.classes if keys[label_key(label)] == 1}
    examples = tuple(_spelt(one, spelling) for one in made if isinstance(one, Example))
    learnt = {text_key(example) for example in (*dataset.train, *dataset.validation)}
    seen = sum(text_key(example) in learnt for example in examples)
    if seen:
        notices.append(
            f"{counted(seen, 'row')} of {len(examples):,} also stand in what was learnt from, so these scores flatter the model."
        )
    return examples, grouped(notices)


def _spelt(example: Example, spelling: dict[str, str]) -> Example:
    """Return the example with its label spelt as in training."""
    if example.label is not None:
        return replace(example, label=spelling.get(label_key(example.label), example.label))
    if example.labels is not None:
        return replace(example, labels=tuple(dict.fromkeys(spelling.get(label_key(label), label) for label in example.labels)))
    return example
