"""What the rows of a run are: counts over all of them, and a seeded draw on which the rest is measured."""

from __future__ import annotations

import heapq
import json
import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from whet.data.language import NAMES, guess_language
from whet.data.split import PARTS
from whet.data.store import example_of
from whet.drift import category_counts, counted_interval, exchanged_p, holm, quantile_counts
from whet.report.cloud import bins
from whet.types import Example

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from whet.drift import Floats, Ints

MOST = 20_000
"""Rows drawn on which lengths, languages, sources and labels are looked at; more would not change a figure that is shown."""
FEWEST = 30
"""Rows below which a source is not compared."""
SOURCES = 8
"""Sources that are compared at most, the largest."""
REDRAWS = 1000
LEVEL, LEAST = 0.05, 0.2
"""A difference between sources is told where it is certain at this level after correction, and at least so large."""
LENGTH_BINS = 8
CHUNK = 512
FEWEST_WORDS = 8
"""Words from which on a row says by itself which language it is in."""


@dataclass(slots=True)
class Seen:
    """Counts over all rows, and the draw."""

    parts: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    classes: Counter[str] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    """How often each answer stands there, by its hash."""
    drawn: list[Example] = field(default_factory=list)


def see(folder: Path, most: int = MOST) -> Seen:
    """Return what a run's rows are, read one by one."""
    seen = Seen()

    def counted() -> Iterator[Example]:
        for part, example in _rows(folder):
            seen.parts[part] += 1
            seen.sources[example.file] += 1
            seen.classes.update(classes_of(example))
            if example.response:
                seen.answers[xxhash.xxh3_64_intdigest(" ".join(example.response.split()).encode("utf-8", "surrogatepass"))] += 1
            if example.made_by is None:
                yield example

    seen.drawn = heapq.nsmallest(most, counted(), key=lambda one: (xxhash.xxh3_64_intdigest(str(one.id).encode()), one.id))
    seen.drawn.sort(key=lambda one: one.id)
    return seen


def _rows(folder: Path) -> Iterator[tuple[str, Example]]:
    for part in PARTS:
        with (folder / "data" / f"{part}.jsonl").open(encoding="utf-8") as lines:
            for line in lines:
                yield part, example_of(json.loads(line))


def classes_of(example: Example) -> list[str]:
    """Return what a row is counted under: its label, its labels, or the kinds of its marked words."""
    if example.labels is not None:
        found = list(example.labels)
    elif example.token_labels is not None:
        found = [one[2:] for one in example.token_labels if one.startswith("B-")]
    else:
        found = [example.label] if example.label is not None else []
    return [f"{example.task}: {name}" if example.task else name for name in found]


def texts_of(example: Example) -> dict[str, str]:
    """Return the texts of a row by what they are."""
    if example.messages is None:
        both = "\n".join(part for part in (example.text, example.text_pair) if part is not None)
        return {"text" if example.text_pair is None else "both texts": both}
    found = {"conversation": "\n".join(turn.content for turn in example.messages)}
    if example.response:
        found["answer"] = example.response
    for name in ("chosen", "rejected"):
        value = getattr(example, name)
        if value is not None:
            found[f"{name} answer"] = value
            found.pop("answer", None)
    return found


def lengths(rows: Sequence[Example], tokenizer: PreTrainedTokenizerBase, limit: int) -> list[dict[str, Any]]:
    """Return how many tokens each kind of text has, and how many rows exceed `limit` (0: none is known)."""
    by_kind: dict[str, list[str]] = {}
    for row in rows:
        for kind, text in texts_of(row).items():
            by_kind.setdefault(kind, []).append(text)
    found = []
    for kind, texts in by_kind.items():
        sizes: list[int] = []
        for begin in range(0, len(texts), CHUNK):
            ids = tokenizer(texts[begin : begin + CHUNK], add_special_tokens=False, verbose=False)["input_ids"]
            sizes += [len(one) for one in ids]
        ordered = sorted(sizes)
        found.append(
            {
                "name": kind,
                "n": len(sizes),
                "median": int(statistics.median(ordered)),
                "p95": ordered[min(len(ordered) - 1, math.ceil(0.95 * len(ordered)))],
                "longest": ordered[-1],
                "over": sum(size > limit for size in sizes) if limit else 0,
                "empty": sum(size < 2 for size in sizes),
                "bins": bins(sizes),
            }
        )
    return found


def languages(rows: Sequence[Example]) -> list[dict[str, Any]]:
    """Return how many rows are in each language, as far as each row says by itself."""
    texts = ["\n".join(texts_of(row).values()) for row in rows]
    codes = Counter(guess_language([text]) if len(text.split()) >= FEWEST_WORDS else None for text in texts)
    names = Counter({"not clear" if code is None else NAMES.get(code, code): number for code, number in codes.items()})
    return [{"name": name, "n": number} for name, number in names.most_common()]


def drift(rows: Sequence[Example]) -> list[dict[str, Any]]:
    """Return how each source differs from all others, in labels and in lengths; the largest differences first."""
    sizes = Counter(row.file for row in rows)
    names = [name for name, number in sizes.most_common(SOURCES) if number >= FEWEST] if len(sizes) > 1 else []
    found: list[dict[str, Any]] = []
    for name in names:
        own = [row for row in rows if row.file == name]
        others = [row for row in rows if row.file != name]
        if len(others) < FEWEST:
            continue
        labels = [[one for row in some for one in classes_of(row)] for some in (own, others)]
        if all(labels):
            found.append(_compared(name, "labels", *category_counts(labels[0], labels[1]), _most_different(*labels)))
        long = [np.array([sum(map(len, texts_of(row).values())) for row in some], np.float64) for some in (own, others)]
        words = f"half of its rows have at most {np.median(long[0]):,.0f} characters, of the others {np.median(long[1]):,.0f}"
        found.append(_compared(name, "lengths", *quantile_counts(long[0], long[1], LENGTH_BINS), words))
    for one, p in zip(found, holm([one["p"] for one in found]), strict=True):
        one["p"], one["alarm"] = p, p <= LEVEL and one["value"] >= LEAST
    return sorted(found, key=lambda one: (not one["alarm"], -one["value"]))


def _compared(name: str, what: str, own: Ints, others: Ints, words: str) -> dict[str, Any]:
    score = counted_interval(total_variation, own, others, REDRAWS, seed=0)
    p = exchanged_p(total_variation, own, others, REDRAWS, seed=0)
    assert score.value is not None and score.low is not None and score.high is not None, "counts of rows have a distance"
    said = (
        f"{Path(name).name}: {what} differ by {100 * score.value:.0f} % ({100 * score.low:.0f}-{100 * score.high:.0f}); {words}."
    )
    return {"source": name, "what": what, "value": score.value, "low": score.low, "high": score.high, "p": p, "sentence": said}


def total_variation(own: Floats | Ints, others: Floats | Ints) -> Floats:
    """Return the share of rows that would have to change to make both alike. [R, B], [R, B] -> [R]"""
    shares = [counts / np.maximum(counts.sum(-1, keepdims=True), 1) for counts in (own, others)]
    found: Floats = 0.5 * np.abs(shares[0] - shares[1]).sum(-1)
    return found


def _most_different(own: Sequence[str], others: Sequence[str]) -> str:
    counts = [Counter(some) for some in (own, others)]
    share = [{name: number / counter.total() for name, number in counter.items()} for counter in counts]
    name = max(counts[0] | counts[1], key=lambda one: (abs(share[0].get(one, 0) - share[1].get(one, 0)), one))
    return f"'{name}' is {100 * share[0].get(name, 0):.0f} % of its rows, {100 * share[1].get(name, 0):.0f} % of the others'"


def commonest_answer(seen: Seen) -> Mapping[str, int]:
    """Return how often the commonest answer is given, and of how many; nothing where no answers are learnt."""
    if not seen.answers:
        return {}
    return {"n": seen.answers.most_common(1)[0][1], "of": seen.answers.total()}
