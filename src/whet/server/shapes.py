"""Answers of texts as OpenAI's clients read them: whole, and as chunks of a stream."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

from whet.engine.continuous import Written
from whet.server.text import BROKEN
from whet.server.worker import Piece
from whet.store.log import Item

Decode = Callable[[list[int]], str]


@dataclass(slots=True)
class Whole:
    """One answer as it gathers."""

    item: Item
    text: str = ""
    tokens: list[Written] = field(default_factory=list)
    num_tokens: int = 0
    finish: str | None = None

    def take(self, piece: Piece) -> None:
        self.text += piece.text
        if piece.written is not None:
            self.tokens.append(piece.written)
        self.num_tokens, self.finish = piece.num_tokens, piece.finish or self.finish

    def note(self) -> None:
        """Write what became of it into its item."""
        self.item.output, self.item.output_characters, self.item.finish = self.text, len(self.text), self.finish


class Shape(Protocol):
    """One endpoint's form of an answer."""

    endpoint: ClassVar[str]
    asks: ClassVar[str]
    """The key with the prompt."""
    strips: ClassVar[bool]
    """Whether spaces around the text fall away, as they do where the run was judged."""

    def whole(self, wholes: Sequence[Whole]) -> list[dict[str, Any]]:
        """Return the choices of a whole answer."""
        ...

    def opening(self) -> list[dict[str, Any]]:
        """Return the choices that a stream begins with."""
        ...

    def chunk(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        """Return the choices that one piece of a stream becomes."""
        ...

    def head(self, streamed: bool) -> dict[str, Any]:
        """Return what stands around the choices."""
        ...


@dataclass(frozen=True, slots=True)
class ChatShape:
    """`chat.completion`."""

    head_values: dict[str, Any]
    decode: Decode
    logprobs: bool
    endpoint: ClassVar[str] = "chat"
    asks: ClassVar[str] = "messages"
    strips: ClassVar[bool] = True

    def head(self, streamed: bool) -> dict[str, Any]:
        return {**self.head_values, "object": "chat.completion.chunk" if streamed else "chat.completion"}

    def whole(self, wholes: Sequence[Whole]) -> list[dict[str, Any]]:
        return [
            {
                "index": index,
                "message": {"role": "assistant", "content": one.text, "refusal": None},
                "logprobs": self._logprobs(one.tokens),
                "finish_reason": one.finish,
            }
            for index, one in enumerate(wholes)
        ]

    def opening(self) -> list[dict[str, Any]]:
        return [self._choice(0, {"role": "assistant", "content": ""})]

    def chunk(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        found = []
        if piece.text or (self.logprobs and piece.written is not None):
            found.append(self._choice(index, {"content": piece.text}, [piece.written] if piece.written is not None else []))
        if piece.finish is not None:
            found.append(self._choice(index, {}, finish=piece.finish))
        return found

    def _choice(
        self, index: int, delta: dict[str, Any], tokens: Sequence[Written] = (), finish: str | None = None
    ) -> dict[str, Any]:
        logprobs = self._logprobs(tokens) if tokens else None
        return {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}

    def _logprobs(self, tokens: Sequence[Written]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        return {
            "content": [
                self._token(one.token, one.logprob) | {"top_logprobs": [self._token(*likely) for likely in one.top]}
                for one in tokens
            ],
            "refusal": None,
        }

    def _token(self, token: int, logprob: float) -> dict[str, Any]:
        text = self.decode([token])
        whole = BROKEN not in text  # part of a character has bytes that are not known here
        return {"token": text, "logprob": _finite(logprob), "bytes": list(text.encode()) if whole else None}


@dataclass(frozen=True, slots=True)
class CompletionShape:
    """`text_completion`."""

    head_values: dict[str, Any]
    decode: Decode
    logprobs: bool
    endpoint: ClassVar[str] = "completion"
    asks: ClassVar[str] = "prompt"
    strips: ClassVar[bool] = False

    def head(self, streamed: bool) -> dict[str, Any]:
        return {**self.head_values, "object": "text_completion"}

    def whole(self, wholes: Sequence[Whole]) -> list[dict[str, Any]]:
        return [self._choice(index, one.text, one.tokens, one.finish) for index, one in enumerate(wholes)]

    def opening(self) -> list[dict[str, Any]]:
        return []

    def chunk(self, index: int, piece: Piece) -> list[dict[str, Any]]:
        if not piece.text and piece.finish is None and not (self.logprobs and piece.written is not None):
            return []
        return [self._choice(index, piece.text, [piece.written] if piece.written is not None else [], piece.finish)]

    def _choice(self, index: int, text: str, tokens: Sequence[Written], finish: str | None) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": self._logprobs(tokens), "finish_reason": finish}

    def _logprobs(self, tokens: Sequence[Written]) -> dict[str, Any] | None:
        if not self.logprobs:
            return None
        texts = [self.decode([one.token]) for one in tokens]
        return {
            "tokens": texts,
            "token_logprobs": [_finite(one.logprob) for one in tokens],
            "top_logprobs": [{self.decode([token]): _finite(value) for token, value in one.top} for one in tokens],
            "text_offset": [sum(map(len, texts[:place])) for place in range(len(texts))],
        }


def _finite(logprob: float) -> float:
    """JSON knows no infinity; OpenAI writes this number for a token that cannot be."""
    return max(logprob, -9999.0)
