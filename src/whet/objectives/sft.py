"""Supervised fine-tuning on conversations."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

from torch import Tensor

from whet.engine.generate import generate
from whet.engine.measure import likelihoods, nll
from whet.engine.order import shuffled
from whet.engine.text_rows import chat_row
from whet.models.policy import Policy
from whet.models.template import prompt_ids, stop_ids
from whet.plugins import plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, State, StepRows, Unit


@plugin
class Sft(Objective):
    """Likelihood of the assistant's turns given what stands before them, end token included. Ouyang et al. 2022, section 3.5.

    Each answer token weighs the same, over the whole step.
    """

    needs: ClassVar[tuple[str, ...]] = ("messages",)
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    mixes: ClassVar[bool] = True
    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    shots: ClassVar[bool] = True
    written_metrics: ClassVar[tuple[str, ...]] = ("rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "exact_match")

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        return [(chat_row(example, policy, max_length),) for example in examples]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"lm": nll(policy, batch)}, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found = likelihoods(policy, self.units(examples, policy, max_length))
        for example in examples:
            total, tokens = found[example.id]
            yield Output(nll=total, num_tokens=tokens)

    def answers(self, policy: Policy, examples: Sequence[Example], max_new_tokens: int) -> Iterator[Output]:
        """Generate the last answer of each conversation, greedily."""
        prompts = [prompt_ids(policy.tokenizer, example.prompt or ()) for example in examples]
        stops = stop_ids(policy.tokenizer)
        for ids in generate(policy, prompts, max_new_tokens, stops):
            yield Output(text=policy.tokenizer.decode(ids, skip_special_tokens=True).strip())
