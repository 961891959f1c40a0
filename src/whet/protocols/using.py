"""What becomes of a finished run: compressors, exporters and their artefacts, engines, targets."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from whet.bundle.subject import Entry, Subject
    from whet.engine.continuous import Request, Written
    from whet.models.policy import Policy
    from whet.models.save import Card
    from whet.protocols.learning import Technique
    from whet.types import Batch, Floats, Ints


class Compressor(Protocol):
    """How a network is made smaller."""

    @property
    @abstractmethod
    def calibration_rows(self) -> int:
        """Training rows for which it looks at what the network computes; 0: none."""
        ...

    @abstractmethod
    def compress(self, policy: Policy, calibration: Sequence[Batch]) -> Policy:
        """Make the policy's network smaller in place, and return the policy; its heads stay as they are.

        `calibration` are packed training rows, as many as it asks for. Raises ModelError where it does not fit the network.
        """
        ...


class Artefact(Protocol):
    """An exported model as its own format's program runs it."""

    @property
    @abstractmethod
    def runtime(self) -> str:
        """Program and version."""
        ...

    @property
    @abstractmethod
    def chat_template(self) -> str | None: ...
    @property
    @abstractmethod
    def tensors(self) -> Mapping[str, Tensor]:
        """Weights as they were read back, by the network's own names, to compare one by one; empty where the format has others."""
        ...

    @property
    @abstractmethod
    def notes(self) -> Sequence[str]:
        """What who uses it must know."""
        ...

    @abstractmethod
    def encode(self, text: str, pair: str | None, special_tokens: bool) -> list[int]:
        """Return the tokens that the artefact's own tokenizer makes of a text."""
        ...

    @abstractmethod
    def outputs(self, rows: Sequence[Ints], sources: Sequence[Ints] = ()) -> list[Floats]:
        """Return the logits of each row of tokens: [T, V] of a language model, [K] of a classifier.

        `sources` are what an encoder-decoder reads, one for each row, which its decoder reads.
        """
        ...


class Exporter(Protocol):
    """A format that other programs read."""

    @property
    @abstractmethod
    def tolerance(self) -> float:
        """Largest difference of the artefact's outputs from the run's, over the spread of these."""
        ...

    @property
    @abstractmethod
    def tensor_tolerance(self) -> float:
        """Largest difference of a weight that was read back, over the largest weight of its tensor."""
        ...

    @abstractmethod
    def write(self, policy: Policy, technique: Technique, card: Card, folder: Path) -> None:
        """Write into an empty folder; the technique is attached, and may be merged. Raises ModelError where the format has no place for it."""
        ...

    @abstractmethod
    def read(self, folder: Path) -> Artefact:
        """Return what was written, in the format's own program."""
        ...


class Generation(Protocol):
    """Requests of one policy at work in an engine; whoever calls it does so from one thread."""

    @property
    @abstractmethod
    def num_running(self) -> int: ...
    @property
    @abstractmethod
    def num_waiting(self) -> int: ...

    @abstractmethod
    def add(self, request: Request) -> None:
        """Let a request join as soon as there is a free row."""
        ...

    @abstractmethod
    def drop(self, request_id: str) -> None:
        """Forget a request; nothing more of it is written. Does nothing where it is not there."""
        ...

    @abstractmethod
    def step(self) -> list[Written]:
        """Go on with what runs, and return the tokens that were written, each request's in order; nothing where there is no request."""
        ...


class Engine(Protocol):
    """What writes texts for a server. A request's text must not depend on what else is written at the same time."""

    @abstractmethod
    def start(self, policy: Policy) -> Generation:
        """Return a place where requests to this policy join and leave. Raises ModelError where the policy cannot write."""
        ...

    @abstractmethod
    def score(self, policy: Policy, prompt: Sequence[int], answer: Sequence[int]) -> list[float]:
        """Return the log-probability of each token of an answer to a prompt."""
        ...


class Target(Protocol):
    """A place that a trained run is bundled for."""

    @abstractmethod
    def write(self, subject: Subject, folder: Path) -> Entry:
        """Write what the place asks for into a folder that holds the run, its packages and whet, and return how it is started there.

        The same subject gives the same bytes. Raises RecipeError where the settings do not fit the run.
        """
