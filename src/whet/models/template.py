"""Conversations as tokens: the prompt exactly as at serving time, then the answer, so that training and use cannot differ.

Each stretch of text is tokenised by itself. What the model sees before an answer in training is then, token for token, what
generation is given.
"""

from __future__ import annotations

import functools
import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import jinja2
from transformers import PreTrainedTokenizerBase

from whet.display import brief
from whet.errors import DataError
from whet.types import Message

PLAIN_TEMPLATE = (
    "{{ bos_token if bos_token else '' }}"
    "{% for message in messages %}{{ message['role'].capitalize() + ': ' + message['content'] }}"
    "{% if message['role'] == 'assistant' %}{{ eos_token if eos_token else '' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}Assistant:{{ ' ' }}{% endif %}"
)
"""For a decoder that comes without a chat template."""
MARKER = "\x02"
"""Stands for an answer, to see what a template puts around it."""
SECONDS = 5
"""Time that a template has for one conversation."""
LONGEST = 1 << 20
"""Characters that a template may write beside 64 for each one of the conversation."""
_OTHER = "Mend the template in the model's folder, or choose another model."


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation in tokens."""

    ids: list[int]
    supervised: list[float]
    """1 for each token of an assistant's turn to its end token, which is included; 0 elsewhere."""
    ends: bool
    """Every assistant turn ends in a token that stops generation."""


def prompt_ids(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[int]:
    """Return the tokens before the assistant's next turn, as training makes them; at least one."""
    ids = [token for piece in _pieces(tokenizer, messages) for token in piece.ids]
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    return ids if ids or start is None else [int(start)]


def encode_chat(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> Chat:
    """Return the conversation's tokens with the assistant's turns supervised, each to its end token."""
    pieces = _pieces(tokenizer, messages)
    ids = [token for piece in pieces for token in piece.ids]
    supervised = [weight for piece in pieces for weight in piece.supervised]
    if supervised:
        supervised[0] = 0.0
    return Chat(ids, supervised, all(piece.ends for piece in pieces))


def _pieces(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message]) -> list[Chat]:
    """Return what stands before each answer, and each answer, in tokens."""
    stops = stop_ids(tokenizer)
    pieces = []
    for text, is_answer in _segments(tokenizer, messages):
        ids = _tokens(tokenizer, text)
        if not is_answer:
            pieces.append(Chat(ids, [0.0] * len(ids), True))
            continue
        if not stops.intersection(ids) and tokenizer.eos_token_id is not None:
            ids = [*ids, int(tokenizer.eos_token_id)]
        # generation stops at the end token: what the template puts behind it is never written
        last = next((place for place, token in enumerate(ids) if token in stops), len(ids))
        pieces.append(Chat(ids, [float(place <= last) for place in range(len(ids))], last < len(ids)))
    return pieces


def stop_ids(tokenizer: PreTrainedTokenizerBase) -> frozenset[int]:
    """Return the tokens that end an answer: the tokenizer's end token, and the template's end of turn where it has one."""
    return _stop_ids(tokenizer, str(tokenizer.chat_template), tokenizer.eos_token_id)


@functools.lru_cache(maxsize=8)
def _stop_ids(tokenizer: PreTrainedTokenizerBase, template: str, end: int | None) -> frozenset[int]:
    """Render a turn to see what ends it; once for a tokenizer, and not for each row."""
    stops = set() if end is None else {int(end)}
    turn = [Message("user", "q"), Message("assistant", MARKER)]
    tail = _render(tokenizer, turn, prompt=False).partition(MARKER)[2]
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
        before = _render(tokenizer, messages[:index], prompt=True) if index else _opening(tokenizer)
        after = _render(tokenizer, messages[: index + 1], prompt=False)
        if not before.startswith(done) or not after.startswith(before):
            raise DataError(
                f"the chat template of this model rewrites earlier turns (turn {index + 1}), so an answer would be trained behind another "
                "prompt than the one it is asked with. Train on the last turn only: split such conversations into prompt and response."
            )
        segments += [(before[len(done) :], False), (after[len(before) :], True)]
        done = after
    if not messages or messages[-1].role != "assistant":
        whole = _render(tokenizer, messages, prompt=True) if messages else _opening(tokenizer)
        segments.append((whole[len(done) :], False))
    return [(text, answer) for text, answer in segments if text]


def _opening(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return what stands before an answer that nothing stands before."""
    return _render(tokenizer, [Message("assistant", MARKER)], prompt=False).partition(MARKER)[0]


def _render(tokenizer: PreTrainedTokenizerBase, messages: Sequence[Message], prompt: bool) -> str:
    turns = [{"role": message.role, "content": message.content} for message in messages]
    roles = [message.role for message in messages]
    try:
        with _in_time():
            text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=prompt)
    except _TooSlow:
        raise DataError(f"the chat template of this model was not done after {SECONDS} s. {_OTHER}") from None
    except jinja2.TemplateError as error:
        raise DataError(
            f"the chat template of this model refuses a conversation: {str(error).rstrip('.')}. Its roles are: {roles}."
        ) from None
    except Exception as error:  # a template is a program of somebody else's: it can divide by zero, and call itself for ever
        raise DataError(
            f"the chat template of this model fails: {type(error).__name__}: {brief(str(error), 120)}. {_OTHER}"
        ) from None
    longest = LONGEST + 64 * sum(len(message.content) for message in messages)
    if not isinstance(text, str) or len(text) > longest:
        raise DataError(f"the chat template of this model writes more than {longest:,} characters. {_OTHER}")
    return text


class _TooSlow(BaseException):
    """A template that is still at work. No Exception, so that none of the template's own handlers takes it."""


@contextmanager
def _in_time() -> Iterator[None]:
    """Raise _TooSlow where the block takes longer than SECONDS. Outside the main thread, where no signal comes, there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _TooSlow

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _tokens(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    ids = tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
    assert isinstance(ids, list)
    return ids
