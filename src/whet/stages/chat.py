"""`whet chat`: a conversation with a trained run, line by line. Without a terminal it reads lines and asks nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from whet.engine.generate import Sampling
from whet.stages.predict import load
from whet.types import Message


def converse(
    path: Path,
    *,
    temperature: float,
    system: str | None,
    recipe: Path | None,
    show: Callable[[str], None],
    message: str | None = None,
) -> list[dict[str, str]]:
    """Answer one message, or each line of standard input, where an empty line ends. Returns the conversation."""
    predictor = load(path, recipe)
    messages = [] if system is None else [Message("system", system)]
    sampling = Sampling(temperature=temperature)
    for line in _lines() if message is None else [message]:
        messages.append(Message("user", line))
        answer = predictor.reply(messages, replace(sampling, seed=len(messages)))
        messages.append(Message("assistant", answer))
        show(answer)
    return [{"role": turn.role, "content": turn.content} for turn in messages]


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
