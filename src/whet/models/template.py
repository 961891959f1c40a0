"""Conversations as tokens: the prompt exactly as at serving time, then the answer, so that training and use cannot differ.

Each stretch of text is tokenised by itself. What the model sees before an answer in training is then, token for token, what
generation is given.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jinja2
from transformers import PreTrainedTokenizerBase

from whet.errors import DataError
from whet.types import Message

PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token if eos_token else '' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{{ ' ' }}{% endif %}"
)
"""For a decoder that comes without a chat template."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in tokens."""

    ids: list[int]
    supervised: list[float]
    """1 for each token of an assistant's turn, its end token included; 0 elsewhere."""
    ends: bool
    """Every assistant turn ends in a token that stops generation."""


def prompt_text(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> str:
    """Return what stands before the assistant's next turn."""
    return _render(tokenizer, messages, prompt=True)


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Return the tokens before the assistant's next turn, segment by segment as training made them."""
    ids: list[int] = []
    for text, _ in _segments(tokenizer, messages):
        ids += _tokens(tokenizer, text)
    return ids


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Chat:
    """Return the conversation's tokens with the assistant's turns supervised. Its last turn must be the assistant's."""
    ids: list[int] = []
    supervised: list[float] = []
    ends = True
    stops = stop_ids(tokenizer)
    for text, is_answer in _segments(tokenizer, messages):
        tokens = _tokens(tokenizer, text)
        if is_answer and not stops.intersection(tokens):
            if tokenizer.eos_token_id is None:
                ends = False
            else:
                tokens = [*tokens, int(tokenizer.eos_token_id)]
        ids += tokens
        supervised += [float(is_answer)] * len(tokens)
    if supervised:
        supervised[0] = 0.0
    return Chat(ids, supervised, ends)


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's end token, and the template's end of turn where it has one."""
    stops = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    marker = "\x02"
    turn = [Message("user", "q"), Message("assistant", marker)]
    tail = _render(tokenizer, turn, prompt=False).partition(marker)[2]
    special = set(tokenizer.all_special_ids)
    first = next((token for token in _tokens(tokenizer, tail) if token in special), None)
    return frozenset(stops if first is None else {*stops, first})


def _segments(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[tuple[str, bool]]:
    """Return the rendered conversation cut into (text, is an answer). Without a last answer it ends in the generation prompt."""
    segments: list[tuple[str, bool]] = []
    done = ""
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _render(tokenizer, messages[:index], prompt=True)
        after = _render(tokenizer, messages[: index + 1], prompt=False)
        if not before.startswith(done) or not after.startswith(before):
            raise DataError(
                f"the chat template of this model rewrites earlier turns (turn {index + 1}), so an answer would be trained behind another "
                "prompt than the one it is asked with. Train on the last turn only: split such conversations into prompt and response."
            )
        segments += [(before[len(done) :], False), (after[len(before) :], True)]
        done = after
    if not messages or messages[-1].role != "assistant":
        whole = _render(tokenizer, messages, prompt=True)
        segments.append((whole[len(done) :], False))
    return [(text, answer) for text, answer in segments if text]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except jinja2.TemplateError as error:
        raise DataError(
            f"the chat template of this model refuses a conversation: {error}. Its roles are: {[m.role for m in messages]}."
        ) from None
    assert isinstance(text, str)
    return text


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert isinstance(ids, list)
    return ids
