"""Tokens into text as they come: nothing that was shown is taken back, and what ends the text is not shown."""

from __future__ import annotations

from collections.abc import Callable, Sequence

BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What a tokenizer gives for the first bytes of a character whose others are still to come."""
CONTEXT, WINDOW = 8, 64
"""Tokens at least that the text of a token may hang on, and tokens that are decoded again at most."""
LONGEST_CHARACTER = 4
"""Bytes, each of which may be a token."""


class TextStream:
    """The text of one answer. The pieces that `feed` and `close` return, end to end, are the whole of it.

    Held back is what may still change or fall away: a character that is not whole, the beginning of a stop string, and spaces at
    the end where the text is stripped.

    A token changes the text of the few before it at most, so that only the last ones are decoded again: what a token takes does not grow
    with the answer. Where a tokenizer is found to decode otherwise, more are.
    """

    def __init__(self, decode: Callable[[list[int]], str], stops: Sequence[str] = (), strip: bool = False) -> None:
        self._decode = decode
        self._stops = stops
        self._strip = strip
        self._ids: list[int] = []
        """The last tokens."""
        self._done = ""
        """The text of those before them, and of the first of them as far as `_overlap` goes."""
        self._overlap = 0
        """Characters of the text of `_ids` that `_done` holds."""
        self._most = WINDOW
        self._raw = ""
        self._end: int | None = None
        self.text = ""
        """What was shown so far."""

    @property
    def stopped(self) -> bool:
        """Whether a stop string was met."""
        return self._end is not None

    def feed(self, token: int) -> str:
        """Take one more token; returns what can be shown now."""
        assert not self.stopped, "the text has ended"
        self._ids.append(token)
        decoded = self._decode(self._ids)
        self._raw = self._done + decoded[self._overlap :]
        if len(self._ids) >= self._most:
            self._forget(decoded)
        found = [place for stop in self._stops if (place := self._raw.find(stop)) >= 0]
        if found:
            self._end = min(found)
            return self._show(self._raw[: self._end], last=True)
        sure = self._raw.rstrip(BROKEN)
        return self._show(sure[: len(sure) - self._begun(sure)], last=False)

    def close(self) -> str:
        """Return what is left when no more tokens come."""
        return self._show(self._raw[: self._end], last=True)

    def _forget(self, decoded: str) -> None:
        """Let all but the last tokens go, where these alone go on as they do behind the others; `decoded` is the text of all."""
        for size in range(CONTEXT, CONTEXT + LONGEST_CHARACTER):  # one of these ends where a character does
            kept = self._ids[-2 * CONTEXT :]
            before, context = self._decode(self._ids[: len(self._ids) - size]), self._decode(kept[:-size])
            alone = self._decode(kept)
            if before + alone[len(context) :] == decoded:
                self._done += before[self._overlap :]
                self._ids, self._overlap, self._most = kept, len(context), WINDOW
                return
        self._most = 2 * len(self._ids)

    def _begun(self, text: str) -> int:
        """Return how many characters at the end may be the beginning of a stop string."""
        longest = max((len(stop) - 1 for stop in self._stops), default=0)
        for size in range(min(longest, len(text)), 0, -1):
            if any(stop.startswith(text[-size:]) for stop in self._stops):
                return size
        return 0

    def _show(self, text: str, last: bool) -> str:
        if self._strip:
            text = text.strip()
        if not text.startswith(self.text):  # a tokenizer that mends spaces backwards: wait until it has made up its mind
            return text[len(self.text) :] if last else ""
        piece = text[len(self.text) :]
        self.text = text
        return piece
