"""What texts are compared by where near duplicates are looked for, made chunk by chunk: MinHash's numbers of each, and its bands.

Shapes: N texts, K numbers of each, B bands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from whet.data.minhash import Bands, band_keys, signatures
from whet.data.shingles import Words, as_read

CHUNK = 4096
"""Texts whose numbers are made at a time, at most."""
CHUNK_CHARACTERS = 1 << 20


class Signed(NamedTuple):
    """Texts, and what they are compared by."""

    texts: list[str]
    """As they are compared."""
    short: NDArray[np.uint8]  # [N, K]
    """The low bits of each number: what says whether a pair is worth comparing."""
    keys: Words  # [B, N]


def sign(texts: Sequence[str], bands: Bands) -> Signed:
    """Return what is known of a chunk of texts."""
    read = [as_read(text) for text in texts]
    found = signatures(read, bands)
    return Signed(read, found.astype(np.uint8), band_keys(found, bands))


def signed(texts: Iterable[str], bands: Bands, num_workers: int) -> Iterator[Signed]:
    """Yield chunks in order; a few are worked on at a time."""
    with ThreadPoolExecutor(num_workers) as pool:
        pending: deque[Future[Signed]] = deque()
        for chunk in chunks(texts):
            pending.append(pool.submit(sign, chunk, bands))
            if len(pending) > num_workers:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts in as many lists as keep each one's work small."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text)
        if len(chunk) == CHUNK or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
