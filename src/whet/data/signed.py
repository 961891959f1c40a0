"""What the texts of a stretch are compared by, kept beside it on the disk: made where the texts are at hand, or where it is missing.

Shapes: N rows of a stretch, K numbers of each, B bands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from whet.data.compared import WHOLE, Cut, compared_text
from whet.data.kept import HEAD
from whet.data.minhash import Bands, bands_for
from whet.data.signing import chunks, sign
from whet.recipe_data import Data
from whet.types import Example

FORM = 1
"""Another number for each change of what is kept of near duplicates, or of how it is made."""
COUNT = 8
"""Bytes that say how many rows there are."""


def signed_ahead(data: Data, rows: Sequence[Example]) -> bytes:
    """Return what rows of this section are compared by; nothing where nobody asks, or all are conversations, whose cut is not known yet."""
    if data.duplicates.near is False or all(row.messages is not None for row in rows):
        return b""
    return packed_signed([compared_text(row, WHOLE) for row in rows], bands_for(data.duplicates.similarity))


def packed_signed(texts: Sequence[str], bands: Bands) -> bytes:
    """Return what texts are compared by, as it is kept: their number, bands, short numbers, where each text ends, and the texts."""
    some = [sign(chunk, bands) for chunk in chunks(texts)]
    encoded = [text.encode("utf-8", "surrogatepass") for one in some for text in one.texts]
    keys = np.concatenate([one.keys for one in some], axis=1)
    short = np.concatenate([one.short for one in some])
    ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded))).astype(np.uint32)
    return b"".join([len(encoded).to_bytes(COUNT, "little"), keys.tobytes(), short.tobytes(), ends.tobytes(), *encoded])


def signed_key(made_of: bytes, bands: Bands, cut: Cut) -> bytes:
    """Return 16 bytes that say what was signed: a stretch that was made of this, in this way."""
    way = f"{FORM} {bands.num_bands} {bands.num_rows} {cut.begin} {cut.end}"
    return hashlib.blake2b(way.encode(), key=made_of, digest_size=16).digest()


class Layout:
    """Where what is kept lies in the file of a stretch."""

    def __init__(self, num_rows: int, bands: Bands) -> None:
        self._num_rows, self._bands = num_rows, bands
        self._short = COUNT + 8 * num_rows * bands.num_bands
        self._ends = self._short + num_rows * bands.num_hashes
        self.texts = HEAD + self._ends + 4 * num_rows
        """The place of the first text in the file."""

    def short(self, content: bytes) -> NDArray[np.uint8]:
        """Return the short numbers. [N, K]"""
        shape = (self._num_rows, self._bands.num_hashes)
        return np.frombuffer(content, np.uint8, shape[0] * shape[1], self._short).reshape(shape)

    def ends(self, content: bytes) -> NDArray[np.uint32]:
        """Return where each text ends. [N]"""
        return np.frombuffer(content, "<u4", self._num_rows, self._ends)

    def band(self, path: Path, number: int) -> NDArray[np.uint64]:
        """Return a band's number of each row, read from the file. [N]"""
        begin = HEAD + COUNT + 8 * self._num_rows * number
        return np.fromfile(path, "<u8", self._num_rows, offset=begin)
