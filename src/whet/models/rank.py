"""The rank of a low-rank update: as much as what is to be learnt asks for, and no more."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import Field

from whet.models.linear import sizes
from whet.models.policy import Policy

Rank = Literal["auto"] | Annotated[int, Field(ge=1)]
UNSIZED = 16
"""Rank of an update that is attached by hand, with no rows to size it by."""
LEAST, MOST = 16, 64
"""Between these lies what `auto` becomes."""
BITS_PER_WEIGHT = 2.0
"""What a weight can remember (Allen-Zhu and Li 2024, arXiv:2404.05405, result 1)."""


def rank_for(policy: Policy, names: Iterable[str], bits: float) -> tuple[int, str]:
    """Return the least power of two, within bounds, at which updates of these layers can remember so many bits; and why.

    An adapter learns as well as all weights do until it has too few for what the rows say (Schulman 2025, LoRA Without Regret); from
    there on a higher rank costs memory and time and brings little.
    """
    return rank_of(sum(sum(sizes(policy.network.get_submodule(name))) for name in names), bits)


def rank_of(weights: int, bits: float) -> tuple[int, str]:
    """Return the same where each rank has so many weights."""
    if not weights:
        return LEAST, f"no layer is adapted, so nothing has to fit in; {LEAST} is the least that is taken"
    room = BITS_PER_WEIGHT * weights
    needed = max(1, math.ceil(bits / room))
    rank = min(MOST, max(LEAST, 2 ** math.ceil(math.log2(needed))))
    why = f"the rows say about {bits:,.0f} bits and each rank holds about {room:,.0f}, so rank {needed:,} would do"
    if needed < LEAST:
        why += f"; {LEAST} is the least that is taken"
    elif needed > MOST:
        why += f"; {MOST} is the most that is taken"
    elif needed < rank:
        why += f"; {rank} is the next power of two"
    return rank, why


def set_rank(rank: Rank) -> int:
    """Return the rank to attach with."""
    return UNSIZED if rank == "auto" else rank
