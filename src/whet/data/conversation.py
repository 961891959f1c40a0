"""Conversations as people store them, OpenAI's and ShareGPT's forms, as messages of four roles."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from whet.data.columns import is_empty, turns_of
from whet.types import Message, Role

ROLES: Mapping[str, Role] = {
    "system": "system", "developer": "system", "user": "user", "human": "user", "prompter": "user", "question": "user",
    "assistant": "assistant", "gpt": "assistant", "model": "assistant", "bot": "assistant", "chatgpt": "assistant",
    "answer": "assistant", "function_call": "assistant", "tool_call": "assistant", "tool": "tool", "function": "tool",
    "observation": "tool", "function_response": "tool", "tool_response": "tool", "ipython": "tool",
}  # fmt: skip


class Unusable(Exception):
    """A row cannot become an example: why, and what to do."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.remedy = remedy


class Unwelcome(Unusable):
    """A row is not to be learnt from, as a cleaner says that the recipe names: no fault of the data."""

    def __init__(self, reason: str, remedy: str, by: str) -> None:
        super().__init__(reason, remedy)
        self.by = by


def conversation(value: object, column: str) -> tuple[Message, ...]:
    """Return the messages of a conversation. Raises Unusable that names the column."""
    turns = turns_of(value)
    if turns is None:
        raise Unusable(f"'{column}' is no conversation",
                       'A list of turns is needed: [{"role": "user", "content": ...}, ...].')  # fmt: skip
    return tuple(message(turn, column) for turn in turns)


def message(turn: Mapping[str, object], column: str) -> Message:
    """Return one turn as a message. Raises Unusable that names the column."""
    name = str(turn.get("role") or turn.get("from") or "").strip().lower()
    role = ROLES.get(name)
    if role is None:
        raise Unusable(f"'{column}' has a turn of a role that is not known",
                       "Roles may be system, user, assistant or tool (or human, gpt, function_call, observation).")  # fmt: skip
    content = turn.get("content") if not is_empty(turn.get("content")) else turn.get("value")
    text = _content(content, column)
    calls = turn.get("tool_calls")
    if isinstance(calls, list) and calls:
        text = "\n".join(part for part in (text, *(_call(call) for call in calls)) if part)
    return Message(role, text)


def answer(value: object, column: str) -> tuple[tuple[Message, ...], str]:
    """Return (turns before it, answer) of a `chosen` or `rejected` field: a text, one turn, or a whole conversation or transcript."""
    if isinstance(value, dict):
        return (), message(value, column).content
    if isinstance(value, list) or turns_of(value) is not None:
        messages = conversation(value, column)
        if messages[-1].role != "assistant":
            raise Unusable(f"'{column}' does not end with the assistant's turn", "Its last turn must be the answer.")
        return messages[:-1], messages[-1].content
    turns = _transcript(str(value))
    return (turns[:-1], turns[-1].content) if turns else ((), str(value))


def _transcript(text: str) -> tuple[Message, ...]:
    """Return the turns of a conversation written as `Human: ...` and `Assistant: ...`, the last one an answer; none where it is not one."""
    if not re.match(r"\s*Human: ", text):
        return ()
    _, *parts = re.split(r"\n\n(Human|Assistant):[ ]?", "\n\n" + text.strip())
    turns = tuple(Message(ROLES[name.lower()], said.strip()) for name, said in zip(parts[0::2], parts[1::2], strict=True))
    return turns if turns and turns[-1].role == "assistant" else ()


def _content(content: object, column: str) -> str:
    if isinstance(content, str):
        return content
    if content is None:
        return ""
    if not isinstance(content, Sequence):
        return json.dumps(content, ensure_ascii=False)
    parts = []
    for part in content:
        if isinstance(part, str):
            parts.append(part)
            continue
        text = part.get("text", part.get("value")) if isinstance(part, Mapping) else None
        if not isinstance(text, str):
            raise Unusable(
                f"'{column}' has a turn that holds something other than text",
                "Images and sound cannot be learnt from; leave such rows out.",
            )
        parts.append(text)
    return "\n".join(parts)


def _call(call: object) -> str:
    inner = call.get("function", call) if isinstance(call, dict) else call
    return json.dumps(inner, ensure_ascii=False)
