"""Semantic duplicates: texts that mean the same by the embeddings of builtin:minilm. All pairs are compared, block by block.

Shapes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from whet.data.near import MEMORY, Near
from whet.data.near_walk import Grouped, Like
from whet.data.spool import Spool, Table
from whet.engine.embed import unit_vectors
from whet.errors import DataError
from whet.models.load import load_policy
from whet.types import Example

MODEL = "builtin:minilm"
MAX_LENGTH = 128
"""Tokens of a text that count."""
MOST = 200_000
"""Texts above which comparing all pairs takes hours."""
BLOCK = 512
"""Texts that are compared with earlier ones at a time."""
EMBEDDED = 4096
"""Texts whose vectors are made, and earlier ones that are compared with, at a time."""


def find_semantic(
    texts: Iterable[str],
    number: int,
    similarity: float,
    targets: Sequence[Hashable] | NDArray[np.uint64],
    tiers: Sequence[int],
    *,
    drop: bool,
    folder: Path | None = None,
) -> Near:
    """Return which of so many rows mean nearly the same: those whose embeddings have at least this cosine. As `near.find_near` otherwise.

    `texts` are read once; with `folder`, their vectors lie there and not in memory, and the result is the same.
    """
    if number > MOST:
        raise DataError(
            f"data.duplicates.semantic compares every pair of texts, and there are {number:,}; allowed: {MOST:,}. Take it out: near "
            "duplicates by their letters are found among any number of rows."
        )
    with Spool(MEMORY if folder is None else 0, folder) as spool:
        vectors = _embedded(iter(texts), spool)
        return _decided(_earlier(vectors, similarity), targets, tiers, drop=drop)


def _embedded(texts: Iterator[str], spool: Spool) -> NDArray[np.float32]:
    """Return the texts' vectors, each of length 1. [N, D]"""
    policy = load_policy(MODEL)
    table = Table(spool, np.float32, policy.width)
    while some := [Example(id=place, text=text or " ") for place, text in enumerate(islice(texts, EMBEDDED))]:
        table.append(unit_vectors(policy, some, MAX_LENGTH)[0].numpy())
    return table.array()


def _decided(
    likes: Iterable[list[Like]], targets: Sequence[Hashable] | NDArray[np.uint64], tiers: Sequence[int], *, drop: bool
) -> Near:
    """Return what the rows are, of each the earlier ones that it is like given, the likest first."""
    found, groups = Near(), Grouped()
    top = tiers[-1] if len(tiers) else 0
    for row, others in enumerate(likes):
        tier = tiers[row]
        leak = next((like for like in others if tiers[like.other] < tier and like.other not in found.leaks), None)
        if leak is not None:
            found.leaks[row] = leak
        if leak is not None or tier != top:
            continue
        equals = [like for like in others if tiers[like.other] == tier and like.other not in found.leaks]
        copy = next((like for like in equals if like.other not in found.copies and targets[like.other] == targets[row]), None)
        if copy is not None:
            found.copies[row] = copy
            if drop:
                continue
        staying = [like for like in equals if not (drop and like.other in found.copies)]
        found.conflicts += [like for like in staying if targets[like.other] != targets[row]][:1]
        for like in staying:
            groups.join(row, like.other)
    found.group = groups.firsts()
    return found


def _earlier(vectors: NDArray[np.float32], similarity: float) -> Iterator[list[Like]]:
    """Yield of each row the earlier ones that are at least so similar, the most similar first."""
    for begin in range(0, len(vectors), BLOCK):
        block = _read(vectors, begin, begin + BLOCK)
        found: list[list[Like]] = [[] for _ in range(len(block))]
        for first in range(0, begin + len(block), EMBEDDED):
            products = block @ _read(vectors, first, min(first + EMBEDDED, begin + len(block))).T  # [BLOCK, EMBEDDED]
            for row, other in torch.nonzero(products.tril(begin - first - 1) >= similarity).tolist():
                found[row].append(Like(begin + row, first + other, min(1.0, float(products[row, other]))))
        yield from (sorted(some, key=lambda like: (-like.similarity, like.other)) for some in found)


def _read(vectors: NDArray[np.float32], begin: int, end: int) -> Tensor:
    return torch.from_numpy(np.array(vectors[begin:end]))
