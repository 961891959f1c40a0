"""A set of 64-bit keys that takes eight bytes for each and little more: which texts have been met before."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
FULL = 0.7
"""Share of its places that may be taken before it grows."""


class Seen:
    """Keys that were met, in a table with open addressing; 0 is no key."""

    def __init__(self, places: int = 1 << 16) -> None:
        self._table: Keys = np.zeros(places, np.uint64)
        self.size = 0

    def first(self, keys: Keys) -> NDArray[np.bool_]:
        """Return which of these keys are met for the first time, here and ever, and remember them. [N] -> [N]"""
        new = np.zeros(len(keys), np.bool_)
        own, places = np.unique(keys, return_index=True)
        while self.size + len(own) > FULL * len(self._table):
            self._grow()
        new[places[self._put(own)]] = True
        return new

    def _put(self, keys: Keys) -> NDArray[np.bool_]:
        """Put different keys in; return which were not there. Where several want one place, one of them gets it and the others go on."""
        mask = np.uint64(len(self._table) - 1)
        new, waiting, place = np.zeros(len(keys), np.bool_), np.arange(len(keys)), keys & mask
        while len(waiting):
            wanted = keys[waiting]
            found = self._table[place]
            empty = found == 0
            self._table[place[empty]] = wanted[empty]
            placed = empty & (self._table[place] == wanted)
            new[waiting[placed]] = True
            on = ~placed & (found != wanted)
            waiting, place = waiting[on], (place[on] + np.uint64(1)) & mask
        self.size += int(new.sum())
        return new

    def _grow(self) -> None:
        held, self._table, self.size = self._table, np.zeros(2 * len(self._table), np.uint64), 0
        for begin in range(0, len(held), 1 << 20):
            part = held[begin : begin + (1 << 20)]
            self._put(part[part != 0])
