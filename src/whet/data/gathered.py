"""The rows of a recipe's section on their way: read, cleaned, rid of duplicates, not yet divided."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from whet.data.deduplicate import Conflict
from whet.data.frozen import Frozen
from whet.data.frozen_stored import StoredFrozen
from whet.data.redact import Private
from whet.data.rows import Reject
from whet.data.stored import Rows
from whet.recipe_data import Data


@dataclass(slots=True)
class Gathered:
    """Rows that were read, cleaned and rid of duplicates, by source, before they are divided."""

    data: Data
    """The recipe's section."""
    columns: Data
    """The same with every guess filled in."""
    classes: tuple[str, ...] = ()
    conflicts: tuple[Conflict, ...] = ()
    rows: dict[str, int] = field(default_factory=dict)
    examples: dict[str, Rows] = field(default_factory=dict)
    rejects: dict[str, list[Reject]] = field(default_factory=dict)
    notices: list[str] = field(default_factory=list)
    cleaned: Counter[str] = field(default_factory=Counter)
    dropped: Counter[str] = field(default_factory=Counter)
    """Cleaner and the number of rows that it dropped."""
    files: dict[str, None] = field(default_factory=dict)
    named: tuple[str, ...] = ()
    """Parts whose rows the user has named, by a file or in a column."""
    times: dict[int, float] = field(default_factory=dict)
    """Seconds of each row, by its id, where rows are divided by time."""
    near: dict[int, int] = field(default_factory=dict)
    """Groups of near duplicates that stay, by the examples' ids."""
    keeps_near: bool = False
    frozen: Frozen | StoredFrozen | None = None
    hidden: tuple[str, ...] = ()
    dates: dict[str, str] = field(default_factory=dict)
    private: tuple[Private, ...] = ()
