"""What learning is made of: objectives, techniques, optimisers, schedules and rewards.

Shapes: T tokens, D width, V vocabulary, K classes.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor
    from torch.optim import Optimizer

    from whet.models.policy import Policy
    from whet.types import Batch, Cursor, Example, Floats, Output, State, StepRows, Unit


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
    @property
    def precision(self) -> Literal["fp32", "bf16"]: ...


class Objective(Protocol):
    """What is learnt. A plugin class names this protocol as its base to get what has a default: all that is not abstract."""

    reference: ClassVar[bool] = False
    online: ClassVar[bool] = False
    """It learns from its own rollouts, so nothing may be fetched ahead."""
    mixes: ClassVar[bool] = False
    """Its units are learnt from one by one, whatever else is in the step, and `steps` only orders them: it can be one of several tasks."""
    written_metrics: ClassVar[tuple[str, ...]] = ()
    """Metrics of the answers that it generates; none where it generates nothing."""
    shots: ClassVar[bool] = False
    """Its outputs and answers heed `Example.shots`, so that the untuned model can be asked with examples in the prompt."""

    @property
    @abstractmethod
    def head(self) -> Literal["lm", "classify", "value", "tokens", "masked", "seq2seq"]:
        """What answers: the network's output head (lm of a decoder, seq2seq of an encoder-decoder, masked), or a head of its own."""
        ...

    @property
    @abstractmethod
    def needs(self) -> tuple[str, ...]:
        """Fields of Example that must be there."""
        ...

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Metrics of its outputs; the first is the one a verdict speaks of."""
        ...

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        """Give the policy what this objective needs before a technique is attached, such as a head for these classes; by default nothing."""

    @abstractmethod
    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Rows of each example, without gradient; also what validation loss is measured on."""
        ...

    @abstractmethod
    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        """Yield whole optimiser steps from `cursor` on, without end. Everything that needs no gradient happens here."""
        ...

    @abstractmethod
    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Floats], dict[str, Floats]]:
        """Return ({term: sum}, {metric: sum}); divided by the weights of the whole step, never here."""
        ...

    @abstractmethod
    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        """What the policy answers to each example, in order, without gradient."""
        ...

    def baselines(
        self, base: Policy, train: Sequence[Example], examples: Sequence[Example], max_length: int
    ) -> dict[str, list[Output]]:
        """What the user would have without tuning: outputs for the same examples, by the baseline's name; by default the base's own."""
        return {"base_model": list(self.outputs(base, examples, max_length))}

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """The generated answer to each example, in order; only where there are `written_metrics`."""
        return iter(())

    def source(self, example: Example) -> str:
        """The text that an encoder-decoder reads to answer an example; by default its turns before the answer, one below the other."""
        return "\n".join(message.content for message in example.prompt or ())

    def settle(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> None:
        """Fit what no step learns on the training units, such as a head on tuned embeddings; by default nothing.

        Called before each validation and once the best weights are put back. It depends on the policy's weights and on these units
        alone, and leaves what learns as it is, so that a resumed run ends in the same bytes.
        """

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        """What training watches on the validation units, lower is better; nothing where that is the loss itself.

        An `online` objective has to say it, since its units have no answer yet. May fit the policy's temperature on these units.
        """
        return {}

    def init(self, policy: Policy) -> State:
        return {}

    def update(self, state: State, metrics: Mapping[str, float]) -> State:
        return state


class Technique(Protocol):
    """Which parameters learn."""

    mergeable: ClassVar[bool]
    identity: ClassVar[bool] = True
    """Attached and not yet trained, it changes no output; a class without this member is held to that."""
    learning_rates: ClassVar[tuple[tuple[float, float], ...]]
    """What `train.learning_rate: auto` becomes: (below so many million parameters, rate) in order; the last bound is infinite."""
    why_rates: ClassVar[str]
    """The reason for them, shown behind the rate."""
    num_virtual: int = 0
    """Virtual tokens that it puts before every row, if any; a class without this member has none."""

    @abstractmethod
    def attach(self, policy: Policy, seed: int) -> None:
        """Make the policy trainable this way, in place."""
        ...

    @abstractmethod
    def detach(self, policy: Policy) -> None:
        """Take it off again; the base's weights are what they were."""
        ...

    @abstractmethod
    def merge(self, policy: Policy) -> None:
        """Fold it into the base's weights, for good. Raises ModelError where that is impossible."""
        ...

    @abstractmethod
    def save(self, policy: Policy, folder: Path) -> None: ...
    @abstractmethod
    def load(self, policy: Policy, folder: Path) -> None: ...


@runtime_checkable
class Sized(Protocol):
    """A technique with settings that follow from the model and from how much there is to learn; it is also a Technique."""

    @abstractmethod
    def sized(self, policy: Policy, bits: float) -> Mapping[str, tuple[float, str]]:
        """What each setting that is `auto` becomes, and why, where about so many bits are to be learnt."""
        ...


class Optimiser(Protocol):
    """How parameters step. All state lies in `state` of what `build` returns, as tensors, numbers and mappings of them."""

    learning_rate_factor: float = 1.0
    """What `train.learning_rate: auto` is multiplied by, since the techniques' rates are AdamW's; a class without this member has 1."""
    why_factor: str = ""
    """The reason for it, shown behind the rate."""
    elementwise: bool = False
    """It takes each number by itself, so it may step on shares of a tensor; a class without this member does not."""

    @abstractmethod
    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> Optimizer: ...


@runtime_checkable
class ByRole(Protocol):
    """An optimiser that moves some matrices in another way than the rest; it is also an Optimiser, for where no network is known."""

    @abstractmethod
    def build_by_role(
        self, named: Sequence[tuple[str, Tensor]], hidden: Mapping[str, bool], learning_rate: float, weight_decay: float
    ) -> Optimizer:
        """`hidden` names the matrices between hidden states, and says of each whether it is kept as [in, out] and not as [out, in]."""
        ...


class Schedule(Protocol):
    """How the learning rate moves."""

    @abstractmethod
    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        """Share of the peak learning rate at step 1..num_steps."""
        ...


class Reward(Protocol):
    """What an answer is worth. What cannot be scored is an error, never 0."""

    needs: ClassVar[tuple[str, ...]]
    """Fields of Example that must be there: `prompt`, and `response` where an expected answer is compared with."""

    def check(self, examples: Sequence[Example]) -> None:
        """Raise DataError at the first example whose answers cannot be scored; by default all can."""

    @abstractmethod
    def score(self, examples: Sequence[Example], answers: Sequence[str]) -> Sequence[float]:
        """Return one finite number for each answer, which replies to the example at its place; more is better."""
        ...
