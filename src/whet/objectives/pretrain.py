"""Causal language modelling on plain text."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from whet.engine.measure import likelihoods, nll
from whet.engine.order import shuffled
from whet.engine.text_rows import characters, text_rows
from whet.models.policy import Policy
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, State, StepRows, Unit


@plugin
class Pretrain(Objective):
    """Next-token prediction on every token of a text; a conversation is learnt as its rendered text. Radford et al. 2018, eq. 1.

    A text longer than the longest row is cut into several rows; nothing of it is lost.
    """

    needs: ClassVar[tuple[str, ...]] = ("text",)
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    mixes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "loss", "perplexity")

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        return [(row,) for example in examples for row in text_rows(example, policy, max_length)]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"lm": nll(policy, batch)}, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found = likelihoods(policy, self.units(examples, policy, max_length))
        for example in examples:
            total, tokens = found.get(example.id, (0.0, 0))  # a text of one token has nothing to predict
            yield Output(nll=total, num_tokens=tokens, num_characters=characters(example))
