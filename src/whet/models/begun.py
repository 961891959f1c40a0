"""A forward pass that stands above the lowest layers of a network.

Shapes: T tokens, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Begun:
    """What a pass goes on from."""

    depth: int
    """Layers that are behind it."""
    carried: tuple[Tensor, ...]
    """What the next layer reads, in the family's own form. [T, D] each"""
