"""MinHash: a few numbers for each text, of which as large a share agrees as the texts have in common; and bands of them.

Broder 1997; bands: Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, section 3.4. Two texts of similarity s agree in a whole
band of r numbers with probability s^r, so that 1 - (1 - s^r)^b of such pairs are found in b bands.

Shapes: N texts, K numbers of each, B bands, G grams of a block, R pieces of texts in it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from whet.data.shingles import Words, mixed, numbered

PIECE = 512
"""Grams of the pieces that longer texts are cut into."""
BLOCK = 32_768
"""Grams of a block: what is worked on at once stays in the processor's second cache."""
MISSED = 0.001
"""Share of pairs exactly as similar as is asked for that no band finds, at most."""
MOST_ROWS = 10
Signatures = NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Bands:
    """How many numbers a text gets, and how they are banded."""

    num_bands: int
    num_rows: int
    """Numbers of a band."""

    @property
    def num_hashes(self) -> int:
        return self.num_bands * self.num_rows


def bands_for(similarity: float) -> Bands:
    """Return bands of which each is shared by a third of the pairs of this similarity, so many that 99.9 % of them share one."""
    if similarity == 1:
        return Bands(1, MOST_ROWS)
    rows = min(MOST_ROWS, max(1, round(math.log(1 / 3) / math.log(similarity))))
    return Bands(math.ceil(math.log(MISSED) / math.log(1 - similarity**rows)), rows)


def floor_for(similarity: float, bands: Bands) -> float:
    """Return the share of equal numbers below which a pair is not looked at: 3.5 standard deviations under what is expected."""
    return similarity - 3.5 * math.sqrt(similarity * (1 - similarity) / bands.num_hashes) - 1e-9


def signatures(texts: Sequence[str], bands: Bands) -> Signatures:
    """Return the numbers of each text, of `shingles.as_read`. They depend on the text alone. [N, K]"""
    words, starts = numbered(texts)
    hashes = (words >> np.uint64(32)).astype(np.uint32)
    begins, owner_starts = _pieces(starts)
    sizes = np.minimum(np.append(begins[1:], starts[-1]), begins + PIECE) - begins
    found = np.empty((bands.num_hashes, len(begins)), dtype=np.uint32)
    keys, factors = _family(bands.num_hashes)
    order = np.argsort(sizes, kind="stable")
    done = 0
    while done < len(order):
        width = int(sizes[order[done]])
        while True:  # as many pieces of about one size as fit
            end = min(len(order), done + max(1, BLOCK // width))
            longest = int(sizes[order[end - 1]])
            if longest <= width * 1.25 or (end - done) * longest <= BLOCK:
                break
            width = longest
        block = order[done:end]
        grid = hashes[begins[block] + np.minimum(np.arange(longest)[:, None], sizes[block] - 1)]  # [G, R]
        scratch = np.empty_like(grid)
        for number in range(bands.num_hashes):
            np.bitwise_xor(grid, keys[number], out=scratch)
            np.multiply(scratch, factors[number], out=scratch)
            found[number, block] = np.minimum.reduce(scratch, axis=0)
        done = end
    return np.ascontiguousarray(np.minimum.reduceat(found, owner_starts, axis=1).T)


def band_keys(found: Signatures, bands: Bands) -> Words:
    """Return a 64-bit number of each band of each text. [B, N]"""
    keys = np.zeros((bands.num_bands, len(found)), dtype=np.uint64)
    for number in range(bands.num_bands):
        for row in range(bands.num_rows):
            keys[number] = mixed(keys[number] + found[:, number * bands.num_rows + row] + np.uint64(0x9E3779B97F4A7C15))
    return keys


def _pieces(starts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where each piece begins, and the first piece of each text."""
    num_pieces = -(-np.diff(starts) // PIECE)
    first = np.concatenate([[0], np.cumsum(num_pieces)])
    within = np.arange(first[-1]) - np.repeat(first[:-1], num_pieces)
    return np.repeat(starts[:-1], num_pieces) + within * PIECE, first[:-1]


def _family(number: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Return what hashes are turned by to give `number` independent ones: h -> (h xor key) * odd factor, modulo 2^32."""
    drawn = mixed(np.arange(1, 2 * number + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
    small = (drawn >> np.uint64(32)).astype(np.uint32)
    return small[:number], small[number:] | np.uint32(1)
