"""What judges: metrics of an evaluation, checks of production.

Shapes: S statistics of a metric, N examples of an evaluation.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from whet.types import Example, Output, Score, Statistics, Values


class Metric(Protocol):
    """A score made of per-example statistics, so that slices, intervals and pairings all come from the same numbers.

    A built-in one also says how it is spoken of: `title`, `claim` (with {value} and {rows}), and whether it is a `share`.
    """

    higher_is_better: ClassVar[bool]
    best: ClassVar[float]
    needs: ClassVar[tuple[str, ...]]
    """Fields of Output that must be set; `labels` is met by a single label too."""

    @abstractmethod
    def statistics(self, example: Example, output: Output) -> Sequence[float]:
        """What one example adds. [S]; rows may differ in length, and are padded with 0"""
        ...

    @abstractmethod
    def reduce(self, statistics: Statistics) -> float:
        """The score of these examples. [N, S] -> number; nan where it is undefined."""
        ...


@runtime_checkable
class Redraws(Protocol):
    """A metric with a quicker way of its own to score many draws of the same examples, for the bootstrap."""

    @abstractmethod
    def redrawn(self, statistics: Statistics) -> Callable[[NDArray[np.int64]], float]:
        """The score of any draw by row numbers: exactly `reduce(statistics[rows])`."""
        ...


class Check(Protocol):
    """Whether what came in production still looks like what the model was judged on."""

    takes: ClassVar[tuple[str, ...]]
    """What it compares: `numbers` [N], names of `categories`, or `vectors` [N, D]."""
    fewest: ClassVar[int] = 30
    """Values on either side below which nothing is said."""

    @property
    @abstractmethod
    def smallest(self) -> float:
        """Least change that matters: below it there is no alarm, however certain it is."""
        ...

    @abstractmethod
    def measure(self, window: Values, baseline: Values) -> Score:
        """How far apart they lie, 0 for not at all, with its 95 % interval; n is that of the window."""
        ...

    @abstractmethod
    def p_value(self, window: Values, baseline: Values) -> float:
        """Chance of lying at least so far apart where both were drawn from the same: at most `level` of such draws are below any level."""
        ...

    def alarm(self, score: Score, p_value: float, level: float) -> bool:
        """Whether the change is certain at this level, and large enough to matter."""
        return p_value <= level and score.value >= self.smallest
