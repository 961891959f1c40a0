"""The vocabulary: examples, the rows and batches made of them, steps, outputs and scores.

Shapes: R rows of a batch, T tokens of it (rows laid end to end, nothing padded), S tokens of their sources, K classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor
    from torch import device as Device

    Ints = Tensor
    Floats = Tensor
    Statistics = NDArray[np.float64]
    Values = Statistics | Sequence[str]

Role = Literal["system", "user", "assistant", "tool"]
State = dict[str, Any]
"""What an objective carries from step to step, saved with the checkpoint: numbers, and lists of them."""


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
    task: str | None = None
    """Which of several tasks it belongs to; none where there is one only."""
    text: str | None = None
    text_pair: str | None = None
    label: str | None = None
    labels: tuple[str, ...] | None = None
    token_labels: tuple[str, ...] | None = None
    """One label for each word of a text, such as B-PLACE, I-PLACE, O."""
    value: float | None = None
    """The target of a regression."""
    messages: tuple[Message, ...] | None = None
    """A conversation; a prompt with its answer is one of two turns."""
    shots: tuple[Message, ...] | None = None
    """Questions and answers of other rows that are shown before this one; nothing of them is learnt or scored."""
    chosen: str | None = None
    rejected: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    """Column name to value, for scores by slice."""
    group: tuple[str, ...] | None = None
    """What the row belongs to, `column=value` each: rows that share one are in one part."""
    time: str | None = None
    """When it is of, as the file has it, where rows are divided by time."""
    part: str | None = None
    """The part that the file says."""
    made_by: str | None = None
    """The augmenter that made it of the training row at `file` and `line`; none: it is a row of the data."""
    known_key: str | None = field(default=None, init=False, repr=False, compare=False)
    """Its `data.keys.text_key`, once somebody has asked for it; `replace` does not hand it on, so that it never outlives its text."""

    @property
    def turns(self) -> tuple[Message, ...]:
        """The conversation as a model sees it: a system message first, then the shots."""
        messages = self.messages or ()
        begin = 1 if messages and messages[0].role == "system" else 0
        return (*messages[:begin], *(self.shots or ()), *messages[begin:])

    @property
    def prompt(self) -> tuple[Message, ...] | None:
        """The turns before the last answer, the shots among them; None where there is none."""
        turns = self.turns
        return (turns[:-1] if turns and turns[-1].role == "assistant" else turns) or None

    @property
    def response(self) -> str | None:
        """The last answer of the conversation; None where it ends with a question."""
        turns = self.messages or ()
        return turns[-1].content if turns and turns[-1].role == "assistant" else None


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
    example: Example | None = None
    """What the row was made of, for an objective that scores answers to it later."""
    source: Ints | None = None  # [S]
    """What an encoder-decoder reads to write `ids`; None for every other model, and where its encoder alone is asked."""
    task: str = ""
    """Which of several tasks it belongs to; a micro-batch has rows of one task only."""

    @property
    def num_tokens(self) -> int:
        """Tokens that the row costs, its source's too."""
        return len(self.ids) + (0 if self.source is None else len(self.source))

    @property
    def length(self) -> int:
        """Tokens of the longer of its sequences, which is what a model's context limits."""
        return len(self.ids) if self.source is None else max(len(self.ids), len(self.source))


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
    carry: State = field(default_factory=dict)
    """What goes into the objective's state once the step is done, such as a rollout that further steps learn from."""


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
    source: Ints | None = None  # [S]
    source_lengths: tuple[int, ...] = ()  # R of them where there are sources
    task: str = ""
    """Which of several tasks its rows belong to."""

    @property
    def num_tokens(self) -> int:
        """Tokens of the rows and of their sources."""
        return len(self.ids) + (0 if self.source is None else len(self.source))

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
            source=None if self.source is None else self.source.to(device),
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
    token_labels: tuple[str, ...] | None = None
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
    margin: float | None = None
    """How much more the better of two answers is liked than the worse one, on any scale."""
    reward: float | None = None
    """What the answer is worth by the objective's reward."""
    kl: float | None = None
    """Divergence of the policy from its reference along the answer, summed over its tokens, in nats."""

    @property
    def is_finite(self) -> bool:
        """Whether its numbers are numbers: what is not is no answer."""
        numbers = (self.value, self.nll, *(self.probabilities or {}).values())
        return all(math.isfinite(number) for number in numbers if number is not None)

    @property
    def confidence(self) -> float | None:
        """Probability of the label that was chosen, of several labels that of the least certain yes or no; None where there is none."""
        if self.probabilities is None:
            return None
        if self.labels is not None:
            return min((max(chance, 1 - chance) for chance in self.probabilities.values()), default=0.0)
        return None if self.label is None else self.probabilities.get(self.label)


@dataclass(frozen=True, slots=True)
class Original:
    """A training row as an augmenter sees it."""

    text: str
    target: str = ""
    """What is learnt of it in words, such as its label; empty where that is not a class."""
    draw: str = ""
    """What every random draw about it is seeded by: the same for the same row and copy, whatever rows there are beside it."""
    alike: tuple[str, ...] = ()
    """A few texts of other training rows with the same target."""


@dataclass(frozen=True, slots=True)
class Score:
    """A number with its 95 % interval and the number of examples behind it."""

    value: float
    low: float
    high: float
    n: int
