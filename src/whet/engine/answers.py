"""A prompt with one of its answers as a row, and what a policy says of such rows without gradient.

Shapes: R rows, T tokens, V vocabulary. Of a pair of answers the chosen one comes first: rows 2i are chosen, 2i+1 rejected.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from whet.engine.cut import cut
from whet.engine.measure import segment_sum
from whet.errors import DataError
from whet.models.policy import Policy
from whet.models.template import encode_chat, prompt_ids
from whet.types import Batch, Example, Message, Row


def answer_row(example: Example, answer: str, policy: Policy, max_length: int) -> Row:
    """Return prompt and answer as a row; with a decoder this answer, and no earlier one, is supervised to its end token."""
    prompt = example.prompt or ()
    if policy.kind != "decoder":
        shown = "\n".join(message.content for message in prompt)
        ids = policy.tokenizer(shown, answer, truncation=True, max_length=max_length, verbose=False)["input_ids"]
        return Row(example.id, torch.tensor(ids))
    try:
        chat = encode_chat(policy.tokenizer, [*prompt, Message("assistant", answer)])
        start = len(prompt_ids(policy.tokenizer, prompt)) if prompt else 0
    except DataError as error:
        raise DataError(f"{example.file}:{example.line}: {error}") from None
    supervised = torch.tensor(chat.supervised)
    supervised[:start] = 0.0
    return Row(example.id, torch.tensor(chat.ids[:max_length]), {"supervised": supervised[:max_length]})


def with_reference(rows: Sequence[Row], policy: Policy) -> list[Row]:
    """Return the rows with the reference's log-probability of each supervised token.

    A row longer than the model reads gets zeros: it is only counted, and cut before anything is learnt from it.
    """
    assert policy.reference is not None, "prepare() keeps the reference"
    fitting = [row for row in rows if len(row.ids) <= policy.context]
    known = iter(token_logprobs(policy.reference, fitting))
    made = []
    for row in rows:
        values = next(known) if len(row.ids) <= policy.context else torch.zeros(len(row.ids))
        made.append(replace(row, tokens={**row.tokens, "reference_logprobs": values}))
    return made


def token_logprobs(policy: Policy, rows: Sequence[Row]) -> list[Tensor]:
    """Return, without gradient, the log-probability of each supervised token of each row; 0 elsewhere. [T] each, on the processor"""
    found: dict[int, Tensor] = {}
    with torch.no_grad():
        for batch in numbered(rows, policy.max_tokens):
            parts = torch.split(policy.logprobs(batch.to(policy.device)).cpu(), list(batch.lengths))
            found |= dict(zip(batch.row_ids, parts, strict=True))
    return [found[number] for number in range(len(rows))]


def row_logprobs(policy: Policy, rows: Sequence[Row]) -> list[float]:
    """Return, without gradient, the log-probability of each row's supervised tokens together, in nats."""
    return [float(values.double().sum()) for values in token_logprobs(policy, rows)]


def numbered(rows: Sequence[Row], max_tokens: int) -> Iterable[Batch]:
    """Return packed batches of single rows whose ids are their places in `rows`."""
    return cut(((replace(row, id=number),) for number, row in enumerate(rows)), max_tokens)


def likelihood_margins(policy: Policy, examples: Sequence[Example], max_length: int) -> list[float]:
    """Return by how much the chosen answer of each example is likelier than the rejected one, in nats."""
    rows = [answer_row(example, answer, policy, max_length) for example in examples for answer in both(example)]
    found = row_logprobs(policy, rows)
    return [chosen - rejected for chosen, rejected in zip(found[0::2], found[1::2], strict=True)]


def both(example: Example) -> tuple[str, str]:
    """Return (chosen, rejected) of an example that has both."""
    assert example.chosen is not None and example.rejected is not None, f"row {example.id}: there is no pair of answers"
    return example.chosen, example.rejected


def log_ratios(policy: Policy, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return, for each row, log p(answer) - log p_reference(answer), and the number of its tokens. [R] each"""
    supervised = batch.tokens["supervised"]
    ratios = (policy.logprobs(batch) - batch.tokens["reference_logprobs"]) * supervised
    return segment_sum(ratios, batch), segment_sum(supervised, batch)
