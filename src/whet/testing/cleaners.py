"""The laws of a cleaner, for the built-in ones and for your own: `check_cleaner(MyCleaner())`."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Sequence

from whet.protocols import Cleaner, Unwanted

CLEAN = (
    "Please send me a new card.",
    "a < b and c > d, so print(x[0] & 1)",
    "Crème brûlée for 3 €, naïve façade",
    "日本語のテキスト。中文文本，没有问题。한국어도 있습니다.",
    "العربية والعبرية עברית в одном тексте",
    "می‌خواهم یک کارت جدید",
    "नमस्ते, क्या हाल है?",
    "👩‍👩‍👧 👍🏽 🇩🇪 are all fine",
    "first line\nsecond line\nthird line",
    "https://example.org/?a=1&b=2#part, name@example.org, C:\\folder, 50% off, #tag",
)
"""Texts with nothing to repair."""

DIRTY = (
    "",
    " ",
    "\r\n\r\n",
    "a \t b\u00a0\u2003c \n\n d  ",
    "cafÃ© â€“ donâ€™t",
    "ÃƒÂ©",
    "<p>Hello<br/>there</p> &amp; &lt;b&gt;bold&lt;/b&gt;",
    "&amp;amp;amp;lt;",
    "<scr<script>x</script>ipt>alert(1)</script>",
    "<b><i>x</b></i><<p>>",
    "zero\u200bwidth \ufeffand\x00control\x07 \u202eback\u202c",
    "\u200c\u200d\u200c",
    "a\u200db\u200c\u200dé",
    "\ud800 alone",
    "e\u0301 and é",
    "x" * 10_000,
    "<" * 500 + "&" * 500,
)
"""Texts with something to repair, and texts that are hard to repair only once."""


def check_cleaner(cleaner: Cleaner, clean: Sequence[str] = CLEAN, dirty: Sequence[str] = DIRTY) -> None:
    """Raise AssertionError at the first law that does not hold."""
    clean_text_is_unchanged(cleaner, clean)
    cleaning_twice_is_cleaning_once(cleaner, [*clean, *dirty, *mixtures([*clean, *dirty])])


def clean_text_is_unchanged(cleaner: Cleaner, texts: Sequence[str] = CLEAN) -> None:
    """A text with nothing to repair stays as it is, or is dropped whole."""
    for text in texts:
        found = outcome(cleaner, text)
        assert found is None or found == text, f"a clean text was changed: {text!r} became {found!r}"


def cleaning_twice_is_cleaning_once(cleaner: Cleaner, texts: Sequence[str]) -> None:
    """Cleaning a cleaned text changes nothing and drops nothing, and the same text is always cleaned to the same one."""
    for text in texts:
        once = outcome(cleaner, text)
        assert outcome(cleaner, text) == once, f"cleaned again, {text[:80]!r} became another text"
        if once is None:
            continue
        assert isinstance(once, str), f"clean() returned {type(once).__name__} for {text[:80]!r}; it returns a str"
        twice = outcome(cleaner, once)
        assert twice == once, f"not cleaned at once: {text[:80]!r} -> {once[:80]!r} -> {(twice or 'dropped')[:80]!r}"


def outcome(cleaner: Cleaner, text: str) -> str | None:
    """Return the cleaned text; None where it is dropped. The reason must be there, and must not repeat the text."""
    try:
        return cleaner.clean(text)
    except Unwanted as error:
        reason = str(error)
        assert reason, f"{text[:80]!r} was dropped without a reason: raise Unwanted('why')"
        assert len(text.split()) < 3 or text[:40] not in reason, "the reason repeats the text; it is shown to anybody"
        return None


def mixtures(texts: Sequence[str], number: int = 300, seed: int = 0) -> list[str]:
    """Return texts pieced together from pieces of these, in any order and normal form: what no one would think of."""
    draw = random.Random(seed)
    pieces = [text[start : start + 6] for text in texts for start in range(0, min(len(text), 60), 3)]
    made = ["".join(draw.choices(pieces, k=draw.randint(1, 8))) for _ in range(number)]
    return [text if draw.random() < 0.8 else unicodedata.normalize("NFD", text) for text in made]
