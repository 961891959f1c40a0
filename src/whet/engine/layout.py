"""Vectors laid out on a plane so that neighbours stay neighbours: t-SNE, computed exactly.

van der Maaten and Hinton 2008 (JMLR 9), begun from the principal components, so that the same vectors give the same picture. N points, D width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PERPLEXITY = 30.0
"""About how many neighbours of a point count."""
COMPONENTS = 50
"""Principal components that distances are taken in (section 4.2)."""
STEPS, EARLY = 400, 100
"""Steps of gradient descent, and those at the beginning in which neighbours attract each other more (section 3.4)."""
EXAGGERATION = 12.0
SEARCHES = 40
"""Halvings that find each point's width of neighbourhood."""
SMALLEST = 1e-12
Told = Callable[[int, int], None]


def plane(vectors: Tensor, told: Told = lambda done, steps: None) -> Tensor:
    """Return a place on the plane for each vector, within -1 and 1. Time and memory grow as N squared. [N, D] -> [N, 2]"""
    components = principal(vectors.double(), COMPONENTS)
    if len(vectors) < 5:
        return _within(components[:, :2])
    wanted = neighbourhood(components, min(PERPLEXITY, (len(vectors) - 1) / 3))
    places = components[:, :2] / components[:, 0].std().clamp(min=SMALLEST) * 1e-4
    rate = max(len(vectors) / EXAGGERATION / 4, 50.0)
    speed, gains = torch.zeros_like(places), torch.ones_like(places)
    for step in range(STEPS):
        if step % 20 == 0:
            told(step, STEPS)
        pull = gradient(places, wanted * (EXAGGERATION if step < EARLY else 1.0))
        gains = torch.where((pull > 0) == (speed > 0), gains * 0.8, gains + 0.2).clamp(min=0.01)
        speed = (0.5 if step < EARLY else 0.8) * speed - rate * gains * pull
        places = places + speed
        places = places - places.mean(0)
    told(STEPS, STEPS)
    return _within(places)


def principal(vectors: Tensor, number: int) -> Tensor:
    """Return the first principal components, at least two, each with its largest entry positive. [N, D] -> [N, at most `number`]"""
    centred = vectors - vectors.mean(0)
    left, sizes, _ = torch.linalg.svd(centred, full_matrices=False)
    found = (left * sizes)[:, :number]
    found = torch.nn.functional.pad(found, (0, max(0, 2 - found.shape[1])))
    largest = found.gather(0, found.abs().argmax(0, keepdim=True))
    return found * torch.where(largest < 0, -1.0, 1.0)


def neighbourhood(points: Tensor, perplexity: float) -> Tensor:
    """Return how much each pair belongs together: symmetric, sums to 1. Equations 1 and 2, with the width that gives this perplexity. [N, N]"""
    distances = torch.cdist(points, points).square()
    distances.fill_diagonal_(torch.inf)
    low = torch.zeros(len(points), 1, dtype=points.dtype)
    high = torch.full_like(low, torch.inf)
    narrow = 1 / distances.masked_fill(distances.isinf(), torch.nan).nanmean(1, keepdim=True).clamp(min=SMALLEST)
    nearest = distances.min(1, keepdim=True).values
    for _ in range(SEARCHES):
        chances = torch.softmax(-(distances - nearest) * narrow, 1)
        entropy = -(chances * chances.clamp(min=SMALLEST).log()).sum(1, keepdim=True)
        wide = entropy > torch.log(torch.tensor(perplexity))
        low, high = torch.where(wide, narrow, low), torch.where(wide, high, narrow)
        narrow = torch.where(high.isinf(), narrow * 2, (low + high) / 2)
    return (chances + chances.T) / (2 * len(points))


def gradient(places: Tensor, wanted: Tensor) -> Tensor:
    """Return the gradient of the Kullback-Leibler divergence by the places. Equation 5. [N, 2], [N, N] -> [N, 2]"""
    near = 1 / (1 + torch.cdist(places, places).square())
    near.fill_diagonal_(0)
    force = (wanted - near / near.sum().clamp(min=SMALLEST)) * near
    return 4 * (force.sum(1, keepdim=True) * places - force @ places)


def _within(places: Tensor) -> Tensor:
    return places / places.abs().max().clamp(min=SMALLEST)
