"""Semantic duplicates: texts that mean the same by the embeddings of builtin:minilm. All pairs are compared, block by block.

Shapes: N texts, D width.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from whet.data.near import Near
from whet.data.near_walk import Grouped, Like
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


def find_semantic(
    texts: Sequence[str], similarity: float, targets: Sequence[Hashable], tiers: Sequence[int], *, drop: bool
) -> Near:
    """Return which rows mean nearly the same: those whose embeddings have at least this cosine. As `near.find_near` otherwise."""
    if len(texts) > MOST:
        raise DataError(
            f"data.duplicates.semantic compares every pair of texts, and there are {len(texts):,}; allowed: {MOST:,}. Take it out: near "
            "duplicates by their letters are found among any number of rows."
        )
    examples = [Example(id=number, text=text or " ") for number, text in enumerate(texts)]
    vectors, _ = unit_vectors(load_policy(MODEL), examples, MAX_LENGTH)  # [N, D]
    found, groups = Near(), Grouped()
    top = tiers[-1] if len(tiers) else 0
    for row, others in enumerate(_earlier(vectors, similarity)):
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


def _earlier(vectors: Tensor, similarity: float) -> list[list[Like]]:
    """Return of each row the earlier ones that are at least so similar, the most similar first."""
    found: list[list[Like]] = [[] for _ in range(len(vectors))]
    for begin in range(0, len(vectors), BLOCK):
        block = vectors[begin : begin + BLOCK] @ vectors[: begin + BLOCK].T  # [BLOCK, begin + BLOCK]
        block = block.tril(begin - 1)
        for row, other in torch.nonzero(block >= similarity).tolist():
            found[begin + row].append(Like(begin + row, other, min(1.0, float(block[row, other]))))
    return [sorted(some, key=lambda like: (-like.similarity, like.other)) for some in found]
