"""The vocabulary: examples, the rows and batches made of them, steps, scores, and the protocols of the plugins.

Shapes: R rows of a batch, T tokens of it (rows laid end to end, nothing padded), D width, V vocabulary, K classes, N examples
of an evaluation, S statistics of a metric.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch import device as Device
    from torch.optim import Optimizer

    from whet.models.policy import Policy

    Ints = Tensor
    Floats = Tensor
    Statistics = NDArray[np.float64]

Role = Literal["system", "user", "assistant", "tool"]


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row of any kind, with where it came from. Fields that a row of its kind does not have are None."""

    id: int
    """Number of the row in the data set, from 0 in reading order; every random draw about this row is keyed by it."""
    file: str = ""
    line: int = 0
    """Physical line (or record, for formats without lines) where the row begins, from 1."""
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None
    """The target of a regression."""
    messages: tuple[Message, ...] | None = None
    """A conversation; a prompt with its answer is one of two turns."""
    chosen: str | None = None
    rejected: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Column name to value, for scores by slice."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence, made without gradient. A batch concatenates the rows' fields by name."""

    id: int
    ids: Ints  # [T]
    tokens: Mapping[str, Floats] = field(default_factory=dict)  # each [T]
    scalars: Mapping[str, float] = field(default_factory=dict)
    vectors: Mapping[str, Floats] = field(default_factory=dict)  # each of a fixed width, e.g. several labels [K]
    weights: Mapping[str, float] = field(default_factory=dict)
    """Per loss term: what this row adds to the number the step's sum is divided by. Known before any forward pass."""


Unit = tuple[Row, ...]
"""Rows that must stay in one micro-batch: a single row, a pair of answers, a group of rollouts."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where an objective goes on: a few integers, saved with every step."""

    epoch: int = 0
    position: int = 0
    """Units of this epoch's order that are already used."""


@dataclass(frozen=True, slots=True)
class StepRows:
    """What an objective yields: the rows of one optimiser step."""

    units: tuple[Unit, ...]
    after: Cursor


@dataclass(frozen=True, slots=True)
class Batch:
    """The packed tensors of one micro-batch. Rows lie end to end; `lengths` says where each begins."""

    ids: Ints  # [T]
    positions: Ints  # [T], from 0 in each row
    lengths: tuple[int, ...]  # R of them
    row_ids: tuple[int, ...]
    tokens: Mapping[str, Floats]  # each [T]
    scalars: Mapping[str, Floats]  # each [R]
    vectors: Mapping[str, Floats]  # each [R, K]
    weights: Mapping[str, float]
    """Per loss term, over this micro-batch."""

    def to(self, device: Device) -> Batch:
        """Return the batch with its tensors on a device."""
        if self.ids.device == device:
            return self
        moved = [
            {name: tensor.to(device) for name, tensor in group.items()} for group in (self.tokens, self.scalars, self.vectors)
        ]
        return replace(
            self,
            ids=self.ids.to(device),
            positions=self.positions.to(device),
            tokens=moved[0],
            scalars=moved[1],
            vectors=moved[2],
        )


@dataclass(frozen=True, slots=True)
class Step:
    """One optimiser step, after its update."""

    number: int
    """From 1."""
    losses: Mapping[str, float]
    """Mean of each term over what its weights count."""
    metrics: Mapping[str, float]
    learning_rate: float
    grad_norm: float
    num_rows: int
    num_tokens: int
    cursor: Cursor


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a model gave for one example. Only the fields of its objective are set."""

    label: str | None = None
    labels: tuple[str, ...] | None = None
    value: float | None = None
    text: str | None = None
    probabilities: Mapping[str, float] | None = None
    """Class to probability, in the model's own order of classes."""
    nll: float | None = None
    """Negative log-likelihood of the supervised tokens, summed, in nats."""
    num_tokens: int | None = None
    """Supervised tokens that `nll` sums over."""
    num_characters: int | None = None
    """Characters that `nll` describes; for bits per character."""


@dataclass(frozen=True, slots=True)
class Score:
    """A number with its 95 % interval and the number of examples behind it."""

    value: float
    low: float
    high: float
    n: int


State = dict[str, float]
"""What an objective carries from step to step, saved with the checkpoint."""


class Plan(Protocol):
    """What objectives read of a training plan."""

    @property
    def batch_size(self) -> int:
        """Units of one optimiser step."""
        ...

    @property
    def num_steps(self) -> int: ...
    @property
    def max_length(self) -> int:
        """Longest row, in tokens."""
        ...

    @property
    def seed(self) -> int: ...


class Objective(Protocol):
    """What is learnt. A plugin class names this protocol as its base to get the default `init` and `update`."""

    head: ClassVar[Literal["lm", "classify", "value"]]
    reference: ClassVar[bool] = False
    online: ClassVar[bool] = False
    """It learns from its own rollouts, so nothing may be fetched ahead."""
    written_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics of the answers that it generates; none where it generates nothing."""

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of Example that must be there."""
        ...

    @property
    def metrics(self) -> tuple[str, ...]:
        """Metrics of its outputs; the first is the one a verdict speaks of."""
        ...

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy what this objective needs before a technique is attached, such as a head for these classes."""
        ...

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Rows of each example, without gradient; also what validation loss is measured on."""
        ...

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        """Yield whole optimiser steps from `cursor` on, without end. Everything that needs no gradient happens here."""
        ...

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return ({term: sum}, {metric: sum}); divided by the weights of the whole step, never here."""
        ...

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """What the policy answers to each example, in order, without gradient."""
        ...

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """What the user would have without tuning: outputs for the same examples, by the baseline's name."""
        ...

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """The generated answer to each example, in order; only where there are `written_metrics`."""
        return iter(())

    def init(self, policy: Policy) -> State:
        return {}

    def update(self, state: State, metrics: Mapping[str, float]) -> State:
        return state


class Technique(Protocol):
    """Which parameters learn."""

    mergeable: ClassVar[bool]

    def attach(self, policy: Policy, seed: int) -> None:
        """Make the policy trainable this way, in place."""
        ...

    def detach(self, policy: Policy) -> None:
        """Take it off again; the base's weights are what they were."""
        ...

    def merge(self, policy: Policy) -> None:
        """Fold it into the base's weights, for good. Raises ModelError where that is impossible."""
        ...

    def save(self, policy: Policy, folder: Path) -> None: ...
    def load(self, policy: Policy, folder: Path) -> None: ...


class Optimiser(Protocol):
    """How parameters step."""

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> Optimizer: ...


class Schedule(Protocol):
    """How the learning rate moves."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        """Share of the peak learning rate at step 1..num_steps."""
        ...


class Metric(Protocol):
    """A score made of per-example statistics, so that slices, intervals and pairings all come from the same numbers."""

    higher_is_better: ClassVar[bool]
    best: ClassVar[float]
    needs: ClassVar[tuple[str, ...]]
    """Fields of Output that must be set; `labels` is met by a single label too."""

    def statistics(self, example: Example, output: Output) -> Sequence[float]:
        """What one example adds. [S]; rows may differ in length, and are padded with 0"""
        ...

    def reduce(self, statistics: Statistics) -> float:
        """The score of these examples. [N, S] -> number; nan where it is undefined."""
        ...


class Cleaner(Protocol):
    """Repairs a row's text, or says why it is dropped."""

    def clean(self, text: str) -> str:
        """Return the repaired text; the same text where there is nothing to repair."""
        ...
