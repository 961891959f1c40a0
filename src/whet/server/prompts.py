"""What a text goes on from, or is an answer to: a request's prompt in tokens, and how long the text behind it may be.

An encoder-decoder reads its prompt as a source, which takes nothing of the room for the text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from whet.engine.targets import source_ids
from whet.errors import DataError
from whet.models.template import prompt_ids
from whet.server.refusals import Refusal
from whet.server.served import Served
from whet.types import Example, Message

TAIL = 8
"""Tokens of a prompt that a completion is decoded with, so that its first space is right."""
WHOLE = 10**9
"""Tokens: nothing is cut."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is read before a text is written."""

    ids: list[int]
    text: str
    tail: tuple[int, ...] = ()
    """Tokens that the text is decoded with."""


def conversation(served: Served, turns: Sequence[Message]) -> Prompt:
    """Return turns that are to be answered, as in training: by the chat template, or as a source. Raises Refusal."""
    if turns[-1].role == "assistant":
        raise Refusal(
            400, "the last message is the assistant's, so there is nothing to answer.", param="messages", code="invalid_value"
        )
    text = "\n".join(turn.content for turn in turns)
    if served.reads_sources:
        source = served.objective.source(Example(id=0, messages=tuple(turns)))
        return Prompt(source_ids(served.policy, source, WHOLE, served.reader), text)
    try:
        return Prompt(prompt_ids(served.reader, turns), text)
    except DataError as error:
        raise Refusal(400, str(error), param="messages", code="invalid_value") from None


def plain(served: Served, prompt: str | list[int]) -> Prompt:
    """Return a text, or its tokens, as it stands. Raises Refusal."""
    if not isinstance(prompt, str):
        check_tokens(served, prompt, "prompt")
        tail = () if served.reads_sources else tuple(prompt[-TAIL:])
        return Prompt(prompt, str(served.reader.decode(prompt)), tail)
    if served.reads_sources:
        return Prompt(source_ids(served.policy, prompt, WHOLE, served.reader), prompt)
    ids: list[int] = served.reader(prompt, verbose=False)["input_ids"]
    start = served.reader.bos_token_id if served.reader.bos_token_id is not None else served.reader.eos_token_id
    if not ids and start is None:
        raise Refusal(
            400, "the prompt is empty, and this model has no token to begin with.", param="prompt", code="invalid_value"
        )
    ids = ids or [int(start)]
    return Prompt(ids, prompt, tuple(ids[-TAIL:]))


def check_tokens(served: Served, ids: Sequence[int], param: str) -> None:
    """Raise Refusal where a token is none of the model's."""
    size = int(served.policy.network.get_input_embeddings().weight.shape[0])
    if max(ids) >= size:
        raise Refusal(
            400, f"'{param}' holds token {max(ids)}; this model has 0 to {size - 1}.", param=param, code="invalid_value"
        )


def room(served: Served, length: int, limit: int | None, most: int, param: str) -> int:
    """Return how many tokens may be written behind a prompt of this length. Raises Refusal where they do not fit.

    `limit` is what was asked, `most` what the server allows, and `param` the key with the prompt.
    """
    _check_context(served, length, limit, param)
    if limit is not None and limit > most:
        raise Refusal(
            400, f"'max_tokens' is {limit}; this server writes at most {most}.", param="max_tokens", code="invalid_value"
        )
    return min(limit or most, served.longest_text if served.reads_sources else served.policy.context - length)


def _check_context(served: Served, length: int, limit: int | None, param: str) -> None:
    context = served.policy.context
    if not served.reads_sources:
        if length >= context or length + (limit or 0) > context:
            asked = f"{length} tokens of prompt" + (f" and {limit} to be written" if limit else "")
            raise Refusal(
                400, f"{asked} do not fit: this model's context is {context} tokens. Shorten the prompt, or lower max_tokens.",
                param=param if length >= context else "max_tokens", code="context_length_exceeded",
            )  # fmt: skip
        return
    fits = f"this model reads up to {context} tokens, and writes up to {served.longest_text}"
    if length > context:
        raise Refusal(
            400, f"{length} tokens of prompt do not fit: {fits}. Shorten the prompt.", param=param, code="context_length_exceeded"
        )
    if limit is not None and limit > served.longest_text:
        raise Refusal(
            400, f"{limit} tokens to be written do not fit: {fits}. Lower max_tokens.",
            param="max_tokens", code="context_length_exceeded",
        )  # fmt: skip
