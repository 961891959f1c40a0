"""A look at the rows before anything is decided: what they are, which column is what, and why."""

from __future__ import annotations

import heapq
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import xxhash

from whet.data.columns import Column, is_empty, look
from whet.data.guess import (
    FIELDS,
    Guess,
    guess_classify,
    guess_sft,
    guess_text,
    guess_tokens,
    label_is_evident,
    slices_of,
    why_others,
)
from whet.data.labels import merged_labels
from whet.data.language import guess_language
from whet.data.names import plain
from whet.data.notices import grouped
from whet.data.rows import RawRow, Read
from whet.data.shapes import several
from whet.display import places
from whet.errors import DataError

SAMPLE = 5000  # rows kept to look at
LIMIT = 200_000  # rows read at most
CERTAIN = frozenset({"token_labels", "ner_tags", "ner_labels", "word_labels", "bio_tags"})
"""Names of a column that holds labels of words, also where it is a text."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """How long the texts are, in characters."""

    mean: float
    median: float
    longest: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What the rows are."""

    files: tuple[str, ...]
    shape: str
    """The recognised shape in words, such as 'text and label'."""
    objective: str | None
    """classify, sft or pretrain; none where no objective fits."""
    columns: Mapping[str, str]
    """Keys of the recipe's `data` and the column that each was guessed to be."""
    reasons: tuple[str, ...]
    """Why, one sentence per guess, and what became of the other columns."""
    classes: Mapping[str, int]
    """Class and its number of rows among those looked at, commonest first; spellings of one label are counted together."""
    lengths: Lengths
    language: str | None
    slices: tuple[str, ...]
    """Columns by whose values scores could be split; at most three."""
    found_columns: tuple[str, ...]
    num_rows: int
    """Rows read."""
    num_looked_at: int
    """Rows that the guesses rest on: a draw, if there were many."""
    num_rejects: int
    notices: tuple[str, ...]


def profile(
    rows: Read, notices: Sequence[str] = (), given: Mapping[str, str] | None = None, named: Sequence[object] = ()
) -> Profile:
    """Return what these rows are. Raises DataError where there is no row to look at.

    `notices` may still grow while `rows` are read (`read_files` fills it); it is copied at the end. `given` maps keys of the recipe's
    `data` to the columns that the user named for a text and its label. `named` is where the rows are from, to be told where there is none.
    """
    kept, files, num_rows, num_rejects = draw(rows)
    if not kept:
        where = places(files or [str(name) for name in named]) or "the data"
        raise DataError(f"{where}: no row could be read ({num_rejects} rejected). Each row needs at least one text.")
    columns = look(kept)
    objective, guess = choose(columns, {key: name for key, name in (given or {}).items() if name in columns})
    texts = _texts(kept, guess.columns)
    label = guess.columns.get("label") if objective == "classify" else None
    lengths = [len(text) for text in texts] or [0]
    used = set(guess.columns.values())
    slices = slices_of(columns.values(), used, len(kept))
    return Profile(
        files=tuple(files),
        shape=guess.shape,
        objective=objective,
        columns=guess.columns,
        reasons=(*guess.reasons, *why_others(columns.values(), used, slices)),
        classes=_classes(kept, label, guess.columns.get("labels")),
        lengths=Lengths(statistics.fmean(lengths), statistics.median(lengths), max(lengths)),
        language=guess_language(texts),
        slices=tuple(slices),
        found_columns=tuple(columns),
        num_rows=num_rows,
        num_looked_at=len(kept),
        num_rejects=num_rejects,
        notices=grouped(notices, files),
    )


def choose(columns: Mapping[str, Column], given: Mapping[str, str] = MappingProxyType({})) -> tuple[str | None, Guess]:
    """Return the objective that these columns suggest, and its mapping. A label among the `given` makes it classify."""
    sft, classify, text = guess_sft(columns, {}), guess_classify(columns, given), guess_text(columns, given)
    for key, name in given.items():
        for made in (classify, text) if key == "text" else (classify,):
            made.take(key, name, "as you said")
    if {"label", "labels"} & set(given) and "text" in classify.columns:
        classify.reasons.append("The objective is classify: there is a text and a label.")
        return "classify", classify
    complete = {"text"} < set(classify.columns) and bool({"label", "labels"} & set(classify.columns))
    words = guess_tokens(columns, {})
    lists = [name for name in words.columns.values() if columns[name].form == "list"]
    if len(words.columns) == 2 and (len(lists) == 2 or plain(words.columns["token_labels"]) in CERTAIN):
        words.reasons.append("The objective is tokens: each word has a label.")
        return "tokens", words
    if sft.shape == "preferences":
        asked = {"prompt", "messages"} & set(sft.columns) or columns[sft.columns["chosen"]].form == "turns"
        objective = "dpo" if asked else "reward"
        sft.reasons.append(
            f"The objective is {objective}: the rows are preferences"
            + (", and sft would learn from the chosen answers alone." if asked else " without a prompt.")
        )
        return objective, sft
    if sft.shape == "conversations":
        sft.reasons.append(f"The objective is sft: the rows are {sft.shape}.")
        return "sft", sft
    if complete and classify.shape == "text and number":
        classify.reasons.append(
            "The objective is classify of kind number: there is a text, and the label is a number with many values."
        )
        return "classify", classify
    if complete and (label_is_evident(columns) if sft.columns else True) and not _is_instruct(sft, columns):
        other = f", although '{sft.columns['response']}' could be learnt as an answer (objective: sft)" if sft.columns else ""
        classify.reasons.append(f"The objective is classify: there is a text and a label{other}.")
        return "classify", classify
    if sft.columns:
        sft.reasons.append("The objective is sft: there is a prompt and an answer.")
        return "sft", sft
    if not text.columns:
        text.reasons.append("No objective is suggested: there is no column of text.")
        return None, text
    empty = [
        name
        for name in columns
        if plain(name) in ("label", "labels", "intent", "category", "class") and not columns[name].num_filled
    ]
    if empty:
        raise DataError(
            f"the label column '{empty[0]}' is empty in every row, so there is no class to learn. Fill in labels; or, to learn from the "
            "text alone, write a recipe with objective: pretrain."
        )
    text.reasons.append("The objective is pretrain: there is text, and neither a label nor an answer.")
    return "pretrain", text


def _is_instruct(sft: Guess, columns: Mapping[str, Column]) -> bool:
    """Whether prompt and answer are certain: their names say so, and the answer is a text, not a class."""
    prompt, response = sft.columns.get("prompt"), sft.columns.get("response")
    named = prompt is not None and prompt.lower() in {"instruction", "prompt"}
    return named and response is not None and not columns[response].is_classes


def draw(rows: Read) -> tuple[list[RawRow], list[str], int, int]:
    """Return a draw of the rows that does not depend on their order, in reading order, and counts."""
    heap: list[tuple[int, int, RawRow]] = []
    files: dict[str, None] = {}
    num_rows = num_rejects = 0
    for row in rows:
        files.setdefault(row.file)
        if not isinstance(row, RawRow):
            num_rejects += 1
            continue
        num_rows += 1
        item = (-xxhash.xxh3_64_intdigest(f"{row.file}:{row.line}:{num_rows}".encode()), -num_rows, row)
        if len(heap) < SAMPLE:
            heapq.heappush(heap, item)
        else:
            heapq.heappushpop(heap, item)
        if num_rows >= LIMIT:
            break
    return [row for _, _, row in sorted(heap, key=lambda item: -item[1])], list(files), num_rows, num_rejects


def _texts(rows: Sequence[RawRow], columns: Mapping[str, str]) -> list[str]:
    names = [columns[key] for key in FIELDS if key in columns and key not in {"label", "labels"}]
    return ["\n".join(_flat(row.fields.get(name)) for name in names).strip() for row in rows]


def _flat(value: object) -> str:
    if isinstance(value, list):
        return "\n".join(map(_flat, value))
    if isinstance(value, dict):
        return _flat(value.get("content") or value.get("value"))
    return "" if value is None else str(value)


def _classes(rows: Sequence[RawRow], label: str | None, labels: str | None) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for row in rows:
        if label is not None and not is_empty(value := row.fields.get(label)) and (text := _flat(value).strip()):
            counts[text] += 1
        if labels is not None:
            counts.update(several(row.fields.get(labels)))
    merged = merged_labels(counts)
    spelt_alike: Counter[str] = Counter()
    for spelling, number in counts.items():
        spelt_alike[merged.get(spelling, spelling)] += number
    return dict(spelt_alike.most_common())
