"""A text as words that can be exchanged, moved and left out, with everything between them kept as it was.

What is no plain word (a number, an address, a placeholder, code) stands still: it belongs to what lies between the words.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


NEGATIONS = _set(
    "not no never none nobody nothing neither nor nowhere cannot without hardly nicht kein keine nie non ne pas jamais nunca"
)
"""Words that are never left out, moved or exchanged, since the label may hang on them."""
SIGNS = "぀-ヿ㐀-䶿一-鿿豈-﫿"
"""Signs of Chinese and Japanese, each a word by itself, as the inside of a pattern's brackets."""
_JOINED = "฀-࿿က-႟ក-៿"
"""Scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer."""
_WORD = re.compile(rf"[{SIGNS}]|[^\W\d_{SIGNS}]+(?:['’\-][^\W\d_{SIGNS}]+)*")
_SOLID = re.compile(r"[^\W_]")
_RUN = re.compile(r"\S+")
_FIXED = re.compile(rf"[\d@_/\\<>{{}}\[\]=#$%^*|~`]|\w\.\w|://|[{_JOINED}]")
"""A run without spaces that has any of these is no plain word."""


@dataclass(slots=True)
class Worded:
    """A text, cut: `between` has one more entry than `words`, and they alternate, `between` first."""

    words: list[str]
    between: list[str]

    @property
    def text(self) -> str:
        pairs = zip(self.between, [*self.words, ""], strict=True)
        return "".join(gap + word for gap, word in pairs)

    def leave_out(self, place: int) -> None:
        """Take a word out, and one of the two gaps beside it: at an end the inner one, else the one that is only spaces.

        A gap with something in it that stands still is never taken out.
        """
        self.words.pop(place)
        before, after = self.between[place], self.between.pop(place + 1)
        if _SOLID.search(before) and _SOLID.search(after):
            self.between[place] = f"{before.rstrip()} {after.lstrip()}"
        elif _SOLID.search(after) or place == len(self.words):
            kept = before.rstrip() if _SOLID.search(before) else ""
            self.between[place] = kept + after if place else before + after.lstrip()
        elif place and not before.strip():
            self.between[place] = after

    def put_in(self, place: int, word: str) -> None:
        """Put a word before the one at this place, or behind the last."""
        self.words.insert(place, word)
        self.between.insert(max(1, place), " ")

    def swap(self, one: int, other: int) -> None:
        """Let two words change places."""
        self.words[one], self.words[other] = self.words[other], self.words[one]


def cut(text: str) -> Worded:
    """Return a text cut into its plain words and what lies between them; put together again it is the same text."""
    words, between, end = [], [], 0
    for run in _RUN.finditer(text):
        if _FIXED.search(run[0]):
            continue
        for word in _WORD.finditer(run[0]):
            begin = run.start() + word.start()
            words.append(word[0])
            between.append(text[end:begin])
            end = begin + len(word[0])
    return Worded(words, [*between, text[end:]])


def is_negation(word: str) -> bool:
    """Whether the sense of a text may turn on this word: not, never, isn't."""
    plain = word.casefold().replace("’", "'")
    return plain in NEGATIONS or plain.endswith("n't")


def movable(words: list[str]) -> list[int]:
    """Return the places of the words that may be touched: all but negations."""
    return [place for place, word in enumerate(words) if not is_negation(word)]


def number_of(strength: float, words: list[str]) -> int:
    """Return how many words are touched: this share of them, and at least one (n = alpha * l of Wei and Zou 2019)."""
    return max(1, round(strength * len(words)))


def cased(word: str, like: str) -> str:
    """Return a word with the capitals of another: all, the first, or its own."""
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word
