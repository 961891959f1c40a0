"""The laws of an augmenter, for the built-in ones and for your own: `check_augmenter(MyAugmenter())`."""

from __future__ import annotations

import random
from collections.abc import Sequence

from whet.protocols import Augmenter
from whet.types import Original

TEXTS = (
    "I lost my card yesterday and cannot find it anywhere.",
    "Please send me two new tickets for the concert!",
    "The food was not good, and the waiter was very slow.",
    "Why was I charged twice for one transfer?",
    "Great phone; it works well and looks beautiful.",
    "Visit https://example.org/?a=1 or write to name@example.org, room 12.",
    "no",
    "",
    "  \n ",
    "日本語のテキスト。中文文本，没有问题。",
    "Ich möchte eine neue Karte, und zwar nicht morgen.",
    "{name} has 3 items",
)
TARGETS = ("complaint", "request", "")


def rows(num_copies: int = 2) -> list[Original]:
    """Return texts of several kinds to make others of."""
    return [
        Original(text, TARGETS[place % 3], f"0:{copy}:{place}", tuple(one for one in TEXTS[:5] if one != text))
        for copy in range(num_copies)
        for place, text in enumerate(TEXTS)
    ]


def check_augmenter(augmenter: Augmenter, originals: Sequence[Original] = ()) -> None:
    """Raise AssertionError at the first law that does not hold."""
    asked = list(originals) or rows()
    one_text_for_each(augmenter, asked)
    the_same_draw_the_same_text(augmenter, asked)
    company_and_order_do_not_matter(augmenter, asked)
    something_is_made(augmenter, asked)


def one_text_for_each(augmenter: Augmenter, originals: Sequence[Original]) -> None:
    """Each row gets one text, an empty one too, and what it says before costs nothing."""
    assert isinstance(augmenter.foretell(originals), str), "foretell() returned no text"
    made = list(augmenter.augment(originals))
    assert len(made) == len(originals), f"{len(originals)} rows were given, and {len(made)} texts came"
    assert all(isinstance(text, str) for text in made), "what was made is no text"
    assert list(augmenter.augment([])) == [], "texts were made of no rows"


def the_same_draw_the_same_text(augmenter: Augmenter, originals: Sequence[Original]) -> None:
    """The same rows with the same draws give the same texts, whatever was drawn between."""
    first = list(augmenter.augment(originals))
    random.random()
    assert list(augmenter.augment(originals)) == first, "asked again, it made other texts"


def company_and_order_do_not_matter(augmenter: Augmenter, originals: Sequence[Original]) -> None:
    """A row's text is the same alone, in parts and in another order, so that any number of workers gives the same bytes."""
    whole = list(augmenter.augment(originals))
    backwards = list(augmenter.augment(list(reversed(originals))))
    assert backwards[::-1] == whole, "in another order, other texts were made"
    for begin in range(0, len(originals), 5):
        some = list(augmenter.augment(originals[begin : begin + 5]))
        assert some == whole[begin : begin + 5], f"rows {begin} to {begin + 5} alone gave other texts"


def something_is_made(augmenter: Augmenter, originals: Sequence[Original]) -> None:
    """At least one text differs from its row's."""
    pairs = zip(augmenter.augment(originals), originals, strict=True)
    assert any(text != one.text for text, one in pairs), "no text differs from its row's"
