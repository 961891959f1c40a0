"""Conversations and texts as rows to learn from."""

from __future__ import annotations

import torch

from whet.engine.fields import missing
from whet.errors import DataError
from whet.models.policy import Policy
from whet.models.template import encode_chat
from whet.types import Example, Row


def chat_row(example: Example, policy: Policy, max_length: int) -> Row:
    """Return a conversation as a row whose assistant's turns are supervised, end tokens included; those of its shots are not."""
    if example.messages is None:
        raise missing(example, "messages")
    try:
        chat = encode_chat(policy.tokenizer, example.turns)
        shown = len(encode_chat(policy.tokenizer, example.turns[: -_own(example)]).ids) if example.shots else 0
    except DataError as error:
        raise DataError(f"{example.file}:{example.line}: {error}") from None
    supervised = torch.tensor(chat.supervised[:max_length])
    supervised[:shown] = 0.0
    ids = torch.tensor(chat.ids[:max_length])
    return Row(example.id, ids, {"supervised": supervised}, weights={"lm": float(supervised.sum())})


def _own(example: Example) -> int:
    """Return how many turns at the end of the conversation stand behind the shots."""
    messages = example.messages or ()
    return len(messages) - (1 if messages and messages[0].role == "system" else 0)


def text_rows(example: Example, policy: Policy, max_length: int) -> list[Row]:
    """Return a text, or a conversation's rendered text, as rows of at most `max_length` tokens, each token but the first supervised once."""
    tokenizer = policy.tokenizer
    if example.text is None:
        if example.messages is None:
            raise missing(example, "text")
        ids = encode_chat(tokenizer, example.messages).ids
    else:
        start = [] if tokenizer.bos_token_id is None else [int(tokenizer.bos_token_id)]
        end = [] if policy.end_id is None else [policy.end_id]
        ids = [*start, *tokenizer(example.text, add_special_tokens=False, verbose=False)["input_ids"], *end]
    rows: list[Row] = []
    for begin in range(0, len(ids) - 1, max_length - 1):
        # each piece begins with the last token of the one before, so that every token but the first is predicted once
        piece = ids[begin : begin + max_length]
        supervised = torch.ones(len(piece))
        supervised[0] = 0.0
        rows.append(Row(example.id, torch.tensor(piece), {"supervised": supervised}, weights={"lm": float(len(piece) - 1)}))
    return rows


def characters(example: Example) -> int:
    """Return how many characters `text_rows` describe."""
    if example.text is not None:
        return len(example.text)
    return sum(len(message.content) for message in example.messages or ())
