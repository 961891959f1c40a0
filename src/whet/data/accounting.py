"""Rows in = used + dropped by reason, always; and the limit on how many may be dropped as unusable."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from whet.data.notices import counted
from whet.data.rows import INTENDED, Reject
from whet.display import places
from whet.errors import DataError
from whet.recipe_data import Data

ACCOUNTING = Path("data/accounting.json")
"""Where it lies in a run."""
MADE = "augment"
"""The name of rows that were made of training rows; of one of several tasks with the task before it. The recipe's key."""
OF_BEFORE = "parents"
"""The source of rows that a run's parents have learnt from. The recipe's key."""


@dataclass(frozen=True, slots=True)
class Count:
    """What became of the rows of one source."""

    rows: int
    used: Mapping[str, int]
    """Part (train, validation, test) and its rows."""
    dropped: Mapping[str, int]
    """Reason and its rows."""

    def __post_init__(self) -> None:
        out = sum(self.used.values()) + sum(self.dropped.values())
        assert self.rows == out, f"{self.rows} rows went in and {out} came out: {self}"


@dataclass(frozen=True, slots=True)
class Accounting:
    """What became of every row. Sources are the recipe's keys: path, validation, test."""

    sources: Mapping[str, Count]

    @property
    def rows(self) -> int:
        return sum(count.rows for count in self.sources.values())

    @property
    def used(self) -> dict[str, int]:
        """Part and its rows, over all sources."""
        return _total([count.used for count in self.sources.values()])

    @property
    def dropped(self) -> dict[str, int]:
        """Reason and its rows, over all sources, commonest first."""
        return dict(Counter(_total([count.dropped for count in self.sources.values()])).most_common())

    def sentence(self) -> str:
        """One line: what went in and where it went. Of rows that were made of others, or that parents have learnt from, there is another one."""
        apart = (MADE, OF_BEFORE)
        read = Accounting({name: one for name, one in self.sources.items() if name.rpartition(".")[2] not in apart})
        used = ", ".join(f"{number} {part}" for part, number in read.used.items())
        dropped = "; ".join(f"{number} {reason}" for reason, number in read.dropped.items()) or "none"
        return f"{read.rows} rows = {used} + dropped: {dropped}."


def count(num_rows: int, used: Mapping[str, int], rejects: Sequence[Reject]) -> Count:
    """Return the count of one source."""
    return Count(num_rows, dict(used), dict(Counter(reject.group for reject in rejects).most_common()))


def check_rejects(rejects: Sequence[Reject], num_rows: int, data: Data, files: Sequence[str] = ()) -> None:
    """Raise DataError where more rows are unusable than `max_reject_fraction` allows, with the commonest reasons.

    `files` are named in the message; data.path where none are given.
    """
    bad = [reject for reject in rejects if reject.kind not in INTENDED]
    if len(bad) <= data.max_reject_fraction * num_rows:
        return
    first: dict[str, Reject] = {}
    for reject in bad:
        first.setdefault(reject.reason, reject)
    commonest = Counter(reject.reason for reject in bad).most_common(4)
    lines = [f"  {counted(number, 'row')}: {reason} (first at {first[reason].file}:{first[reason].line}). {first[reason].remedy}"
             for reason, number in commonest]  # fmt: skip
    share = len(bad) / num_rows
    higher = f", or raise the limit: --set data.max_reject_fraction={math.ceil(share * 100) / 100:g}" if share < 1 else ""
    raise DataError(
        f"{places(files or data.path)}: {len(bad)} of {num_rows} rows ({share:.1%}) cannot be used; data.max_reject_fraction allows "
        f"{data.max_reject_fraction:.1%}.\n" + "\n".join(lines) + "\n"
        f"Mend the rows, or name other columns (data.text, data.label, data.prompt, data.response, ...){higher}."
    )


def _total(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for one in counts:
        for key, number in one.items():
            total[key] = total.get(key, 0) + number
    return total
