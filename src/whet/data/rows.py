"""What reading yields: a row as it stands in a file, or the reason why it cannot be used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

MAX_ROW = 16 * 2**20
"""Longest row, in characters: what keeps one giant line from filling the memory."""

Kind = Literal["unusable", "duplicate", "near duplicate", "leak", "near leak", "group leak", "conflict", "unwanted"]
LEAKS: tuple[Kind, ...] = ("leak", "near leak", "group leak")
"""Rows that stood in two parts: as the same text, as nearly the same, or as another row of the same group."""
INTENDED: tuple[Kind, ...] = ("duplicate", "near duplicate", *LEAKS, "conflict", "unwanted")
"""Rows dropped on purpose: they count neither for `strict` nor for `max_reject_fraction`."""


@dataclass(frozen=True, slots=True)
class RawRow:
    """One record of a file, before its columns mean anything."""

    file: str
    """The file as the user named it."""
    line: int
    """Physical line where the record begins, from 1; for parquet the number of the record."""
    fields: Mapping[str, object]
    """By column, what JSON holds (`values.as_json`), and numbers that are not finite."""


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that is not used, and why. Its content is never repeated here, so that the list can be shown to anybody."""

    file: str
    line: int
    reason: str
    remedy: str
    kind: Kind = "unusable"
    task: str = ""
    """Which of several tasks the row was read for."""
    other: str = ""
    """The row, as file:line, that a duplicate or a leak is like."""
    similarity: float = 0.0
    """How like it is, where it is not the same."""
    by: str = ""
    """The cleaner that dropped it."""

    @property
    def unusable(self) -> bool:
        """Whether the row counts as a fault of the data."""
        return self.kind not in INTENDED

    @property
    def group(self) -> str:
        """What the row is counted under: the reason, without the place that a duplicate or a leak points to."""
        return self.reason if self.unusable else self.kind

    def sentence(self) -> str:
        """Where, what, and what to do."""
        return f"{self.file}:{self.line}: {self.reason}. {self.remedy}"


Read = Iterable[RawRow | Reject]


def too_long(file: str, line: int) -> Reject:
    """Return the reject of a row above MAX_ROW."""
    return Reject(
        file, line, f"longer than {MAX_ROW // 2**20} MiB", "Split the row, or look for a quote or bracket that is never closed."
    )
