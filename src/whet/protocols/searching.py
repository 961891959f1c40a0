"""What is tried and noted: samplers and pruners of a search, trackers of runs."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from whet.tracked import Measured, Tracked


Space = Mapping[str, Any]
"""What a search may choose: recipe key to optuna distribution (FloatDistribution, IntDistribution, CategoricalDistribution)."""


class Sampler(Protocol):
    """What a search tries next. It is built anew for each trial, so that a resumed search goes on as if it had not been stopped."""

    @abstractmethod
    def build(self, space: Space, seed: int) -> Any:
        """Return an optuna sampler; what it draws depends on the seed and the trials that are done."""
        ...

    def size(self, space: Space) -> int | None:
        """How many settings there are to try; none: no end of them."""
        return None


class Pruner(Protocol):
    """When a search gives up a trial that does badly."""

    @abstractmethod
    def build(self) -> Any:
        """Return an optuna pruner; a trial reports the score of each of its validations, counted from 1."""
        ...


class Tracking(Protocol):
    """A run in a tracker, while it is open. All calls come from one thread, which is not the one that trains."""

    @property
    @abstractmethod
    def key(self) -> str:
        """What leads to the same place again, for a run that goes on. No secret; it is kept in the run's manifest."""
        ...

    @property
    @abstractmethod
    def place(self) -> str:
        """Where a person looks: a folder or an address."""
        ...

    @abstractmethod
    def log(self, records: Sequence[Measured]) -> None:
        """Take note of numbers, in order. A run that goes on tells the steps after its last checkpoint again."""
        ...

    @abstractmethod
    def finish(self, ending: Literal["finished", "failed", "interrupted"]) -> None:
        """Write out everything, and close."""
        ...


class Tracker(Protocol):
    """A tool that shows runs beside each other. It may fail at any time: the run goes on without it, and says so once."""

    @abstractmethod
    def start(self, run: Tracked) -> Tracking:
        """Begin, or go on where `run.key` leads. Its keys come from the environment, never from the recipe."""
        ...
