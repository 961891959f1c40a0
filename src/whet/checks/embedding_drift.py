"""Distance of two clouds of embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from pydantic import Field

from whet.drift import ends, redrawn_p
from whet.plugins import plugin
from whet.protocols import Check
from whet.types import Score

if TYPE_CHECKING:
    from whet.drift import Floats
    from whet.types import Values


@plugin
class EmbeddingDrift(Check):
    """Maximum mean discrepancy of embeddings, root, with a Gaussian kernel. Gretton et al. 2012, eq. 5; tested by exchange."""

    smallest: float = Field(0.1, ge=0)
    """Least discrepancy that matters; 0 to 1.4."""
    most: int = Field(400, ge=50, le=5000)
    """Vectors of either side that are compared, a seeded draw: the work grows with the square."""
    redraws: int = Field(1000, ge=100, le=100_000)
    """Exchanges behind the p-value; twenty times as many where fewer than ten of them lie as far apart."""
    seed: int = Field(0, ge=0)

    takes: ClassVar[tuple[str, ...]] = ("vectors",)

    def measure(self, window: Values, baseline: Values) -> Score:
        kernel, n = self._kernel(window, baseline)
        m = len(kernel) - n
        generator = np.random.default_rng(self.seed)
        counts = [generator.multinomial(size, np.full(size, 1 / size), 500) / size for size in (n, m)]
        drawn = np.sqrt(np.maximum(_squared(kernel, np.hstack([counts[0], -counts[1]])), 0))
        return ends(self._discrepancy(kernel, n), drawn, len(window))

    def p_value(self, window: Values, baseline: Values) -> float:
        kernel, n = self._kernel(window, baseline)
        weights = np.r_[np.full(n, 1 / n), np.full(len(kernel) - n, -1 / (len(kernel) - n))]
        generator, same = np.random.default_rng(self.seed), np.tile(weights, (self.redraws, 1))
        return redrawn_p(float(_squared(kernel, weights[None])[0]), lambda: _squared(kernel, generator.permuted(same, axis=1)))

    def _kernel(self, window: Values, baseline: Values) -> tuple[Floats, int]:
        """Likeness of all pairs, window first, its width the median distance; and the number of the window's. -> [N + M, N + M]"""
        generator = np.random.default_rng(self.seed)
        drawn = []
        for values in (window, baseline):
            vectors = np.asarray(values, dtype=np.float64)
            drawn.append(vectors if len(vectors) <= self.most else vectors[generator.permutation(len(vectors))[: self.most]])
        both = np.vstack(drawn)
        lengths = (both**2).sum(1)
        squared = np.maximum(lengths[:, None] + lengths[None] - 2 * both @ both.T, 0)
        width = float(np.median(squared[np.triu_indices(len(both), 1)])) or 1.0
        return np.exp(-squared / width), len(drawn[0])

    def _discrepancy(self, kernel: Floats, n: int) -> float:
        """Root of the discrepancy, less what chance alone adds to it. -> number"""
        within = [block[~np.eye(len(block), dtype=bool)].mean() for block in (kernel[:n, :n], kernel[n:, n:])]
        return float(np.sqrt(max(0.0, within[0] + within[1] - 2 * kernel[:n, n:].mean())))


def _squared(kernel: Floats, weights: Floats) -> Floats:
    """Squared distance of the weighted means in the kernel's space. [N + M, N + M], [R, N + M] -> [R]"""
    found: Floats = ((weights @ kernel) * weights).sum(1)
    return found
