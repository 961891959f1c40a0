"""What every objective has in common that learns from its own rollouts: prompts as units, answers that a reward scores, and when to give up."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal, Protocol

from whet.engine.fields import require
from whet.engine.generate import Sampling
from whet.engine.rollout import counting_flat, greedy_outputs, prompt_units, rollout_steps, trial_reward, try_out
from whet.models.policy import Policy
from whet.protocols import Objective, Plan, Reward
from whet.types import Cursor, Example, Output, Row, State, StepRows, Unit


class Online(Objective, Protocol):
    """An objective with a reward. A plugin class names this protocol as its base, has these settings, and adds `rolled_out` and `loss`."""

    reward: Reward
    """What an answer is worth."""
    updates: int
    """Optimiser steps from each rollout."""
    max_new_tokens: int
    """Longest answer in tokens, in training."""
    patience: int
    """Steps in a row in which no answer is worth more than another before the run stops; 0: never."""

    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    reference: ClassVar[bool] = True
    online: ClassVar[bool] = True
    shots: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ()
    written_metrics: ClassVar[tuple[str, ...]] = ("mean_reward", "kl")

    @abstractmethod
    def rolled_out(self, prompts: Sequence[Row], policy: Policy, sampling: Sampling) -> tuple[Unit, ...]:
        """Return the policy's answers to these prompts, scored, as units to learn from; without gradient."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(("prompt", *self.reward.needs)))

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        """Prompts; in `steps` the policy answers them."""
        require(examples, self.needs)
        self.reward.check(examples)
        try_out(self.reward, examples)
        return prompt_units(examples, policy, max_length, self.max_new_tokens)

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return rollout_steps(units, policy, plan, cursor, state, self.updates, self.rolled_out)

    def update(self, state: State, metrics: Mapping[str, float]) -> State:
        return counting_flat(state, metrics, self.patience)

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        return trial_reward(policy, units, self.reward, self.max_new_tokens)

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        require(examples, self.needs)
        return iter(greedy_outputs(policy, examples, self.reward, max_length, self.max_new_tokens))

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        return iter(greedy_outputs(policy, examples, self.reward, policy.context, max_new_tokens))
