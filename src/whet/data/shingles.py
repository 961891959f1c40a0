"""How alike two texts are: the Jaccard similarity of their character 5-grams, and those 5-grams as numbers for many texts at once.

A text is read after Unicode NFKC and case folding, runs of white space as one space and none at its ends. Its 5-grams are all its
substrings of five code points, each counted once; a text of fewer than five is one gram by itself.

Shapes: N texts, C code points of them all, S grams of them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from whet.data.keys import folded

WIDTH = 5
"""Code points of a gram."""
LONG = 20_000
"""Code points from which on grams are compared by their 64-bit numbers, which take a tenth of the memory."""
FACTORS = np.array(
    [0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x85EBCA77C2B2AE63, 0x27D4EB2F165667C5], dtype=np.uint64
)
"""Odd numbers that the code points of a gram are multiplied by; those of xxHash."""
Words: TypeAlias = NDArray[np.uint64]
Grams: TypeAlias = frozenset[str] | frozenset[int]


def as_read(text: str) -> str:
    """Return the text as it is compared: NFKC, case folded, white space as single spaces."""
    return folded(text)


def grams(text: str) -> frozenset[str]:
    """Return the 5-grams of a text that `as_read` has given; of a shorter one, itself."""
    return frozenset(text[place : place + WIDTH] for place in range(max(1, len(text) - WIDTH + 1)))


def comparable(text: str, as_numbers: bool) -> Grams:
    """Return the 5-grams to compare: as texts, which is quickest, or as 64-bit numbers, which is smaller. See `LONG`."""
    return frozenset(numbered([text])[0].tolist()) if as_numbers else grams(text)


def jaccard(one: Grams, other: Grams) -> float:
    """Return |A and B| / |A or B|. Both must be of one form."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)


def numbered(texts: Sequence[str]) -> tuple[Words, NDArray[np.int64]]:
    """Return a 64-bit number for each gram, text by text [S], and where each text's begin, with the end of the last [N + 1].

    Equal grams have equal numbers; a text of fewer than five code points is padded with zeros to one gram.
    """
    padded = [text if len(text) >= WIDTH else text + "\0" * (WIDTH - len(text)) for text in texts]
    points = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4").astype(np.uint64)  # [C]
    lengths = np.fromiter(map(len, padded), dtype=np.int64, count=len(padded))
    whole = np.zeros(max(0, len(points) - WIDTH + 1), dtype=np.uint64)
    for place, factor in enumerate(FACTORS):
        whole += points[place : place + len(whole)] * factor
    ends = np.cumsum(lengths)
    inside = np.ones(len(whole), dtype=bool)
    for before in range(1, WIDTH):  # grams that would begin in one text and end in the next
        inside[ends[:-1] - before] = False
    starts = np.concatenate([[0], np.cumsum(lengths - WIDTH + 1)])
    return mixed(whole[inside]), starts


def mixed(numbers: Words) -> Words:
    """Return numbers in which every bit depends on all bits of what was given. Stafford's mix 13 (as in SplitMix64)."""
    found = numbers ^ (numbers >> np.uint64(30))
    found *= np.uint64(0xBF58476D1CE4E5B9)
    found ^= found >> np.uint64(27)
    found *= np.uint64(0x94D049BB133111EB)
    found ^= found >> np.uint64(31)
    return found
