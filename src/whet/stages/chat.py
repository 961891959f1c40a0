"""`whet chat`: a conversation with a trained run, line by line. Without a terminal it reads lines and asks nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from whet.engine.generate import Sampling
from whet.stages.gate import objection
from whet.stages.predict import Predictor, load
from whet.types import Message


def converse(
    path: Path,
    *,
    temperature: float,
    system: str | None,
    recipe: Path | None,
    show: Callable[[str], None],
    message: str | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> list[dict[str, str]]:
    """Answer one message, or each line of standard input, where an empty line ends. Returns the conversation.

    `show` is given the answers, `say` what to know of them: that the run's gate objects, that the model cannot read all that was said.
    """
    predictor = load(path, recipe)
    if why := objection(predictor.tuned.run):
        say(f"Warning: {why}")
    messages = [] if system is None else [Message("system", system)]
    sampling = Sampling(temperature=temperature)
    for line in _lines() if message is None else [message]:
        messages.append(Message("user", line))
        answer = predictor.reply(_read(predictor, messages, say), replace(sampling, seed=len(messages)))
        messages.append(Message("assistant", answer))
        show(answer)
    return [{"role": turn.role, "content": turn.content} for turn in messages]


def _read(predictor: Predictor, messages: Sequence[Message], say: Callable[[str], None]) -> list[Message]:
    """Return what the model reads of a conversation: all of it, or without its oldest exchanges, which is said."""
    head = [turn for turn in messages[:1] if turn.role == "system"]
    kept = list(messages[len(head) :])
    while len(kept) > 1 and not predictor.fits([*head, *kept]):
        kept = kept[2:]
    if left_out := len(messages) - len(head) - len(kept):
        say(f"Note: the conversation is longer than the model reads; its first {left_out} turns are left out.")
    if not predictor.fits([*head, *kept]):
        say("Note: this message is longer than the model reads; its beginning is cut.")
    return [*head, *kept]


def _lines() -> Iterator[str]:
    """Yield the lines of standard input up to an empty one; a person at a terminal is asked for each."""
    asking = sys.stdin is not None and sys.stdin.isatty()
    while True:
        if asking:
            sys.stderr.write("you: ")
            sys.stderr.flush()
        line = sys.stdin.readline().strip() if sys.stdin is not None else ""
        if not line:
            return
        yield line
