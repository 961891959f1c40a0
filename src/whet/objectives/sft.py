"""Supervised fine-tuning on conversations."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from whet.engine.fields import missing
from whet.engine.generate import generate
from whet.engine.measure import likelihoods, nll
from whet.engine.order import shuffled
from whet.errors import DataError
from whet.models.policy import Policy
from whet.models.template import encode_chat, prompt_ids, stop_ids
from whet.plugins import plugin
from whet.types import Batch, Cursor, Example, Objective, Output, Plan, Row, State, StepRows, Unit


@plugin
class Sft(Objective):
    """Likelihood of the assistant's turns given what stands before them, end token included. Ouyang et al. 2022, section 3.5.

    Each answer token weighs the same, over the whole step.
    """

    needs: ClassVar[tuple[str, ...]] = ("messages",)
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    metrics: ClassVar[tuple[str, ...]] = ("loss", "perplexity")
    written_metrics: ClassVar[tuple[str, ...]] = ("rouge_l", "rouge_1", "rouge_2", "bleu", "chrf", "exact_match")

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        return [(_row(example, policy, max_length),) for example in examples]

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
        prompts = [prompt_ids(policy.tokenizer, _before_answer(example)) for example in examples]
        stops = stop_ids(policy.tokenizer)
        for ids in generate(policy, prompts, max_new_tokens, stops):
            yield Output(text=policy.tokenizer.decode(ids, skip_special_tokens=True).strip())


def _before_answer(example: Example) -> Sequence:  # type: ignore[type-arg]
    messages = example.messages or ()
    return messages[:-1] if messages and messages[-1].role == "assistant" else messages


def _row(example: Example, policy: Policy, max_length: int) -> Row:
    if example.messages is None:
        raise missing(example, "messages")
    try:
        chat = encode_chat(policy.tokenizer, example.messages)
    except DataError as error:
        raise DataError(f"{example.file}:{example.line}: {error}") from None
    supervised = torch.tensor(chat.supervised[:max_length])
    return Row(
        example.id, torch.tensor(chat.ids[:max_length]), {"supervised": supervised}, weights={"lm": float(supervised.sum())}
    )
