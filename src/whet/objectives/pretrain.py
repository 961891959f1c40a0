"""Causal language modelling on plain text."""

from collections.abc import Iterator, Sequence
from typing import ClassVar, Literal

import torch
from torch import Tensor

from whet.engine.fields import missing
from whet.engine.measure import likelihoods, nll
from whet.engine.order import shuffled
from whet.models.policy import Policy
from whet.models.template import encode_chat
from whet.plugins import plugin
from whet.types import Batch, Cursor, Example, Objective, Output, Plan, Row, State, StepRows, Unit


@plugin
class Pretrain(Objective):
    """Next-token prediction on every token of a text; a conversation is learnt as its rendered text. Radford et al. 2018, eq. 1.

    A text longer than the longest row is cut into several rows; nothing of it is lost.
    """

    needs: ClassVar[tuple[str, ...]] = ("text",)
    head: ClassVar[Literal["lm", "classify", "value"]] = "lm"
    metrics: ClassVar[tuple[str, ...]] = ("bits_per_character", "loss", "perplexity")

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        return [unit for example in examples for unit in _rows(example, policy, max_length)]

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        return shuffled(units, plan, cursor)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {"lm": nll(policy, batch)}, {}

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found = likelihoods(policy, self.units(examples, policy, max_length))
        for example in examples:
            total, tokens = found.get(example.id, (0.0, 0))  # a text of one token has nothing to predict
            yield Output(nll=total, num_tokens=tokens, num_characters=len(_text(example)))


def _text(example: Example) -> str:
    if example.text is not None:
        return example.text
    return "".join(message.content for message in example.messages or ())


def _rows(example: Example, policy: Policy, max_length: int) -> list[Unit]:
    tokenizer = policy.tokenizer
    if example.text is None:
        if example.messages is None:
            raise missing(example, "text")
        ids = encode_chat(tokenizer, example.messages).ids
    else:
        start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        end = [] if policy.end_id is None else [policy.end_id]
        ids = [*start, *tokenizer(example.text, add_special_tokens=False, verbose=False)["input_ids"], *end]
    rows: list[Unit] = []
    for begin in range(0, len(ids) - 1, max_length - 1):
        # each piece begins with the last token of the one before, so that every token but the first is predicted once
        piece = ids[begin : begin + max_length]
        supervised = torch.ones(len(piece))
        supervised[0] = 0.0
        rows.append((Row(example.id, torch.tensor(piece), {"supervised": supervised}, weights={"lm": float(len(piece) - 1)}),))
    return rows
