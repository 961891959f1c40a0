"""Temperature scaling: one number that makes a classifier's probabilities as sure as its answers are right.

Guo et al. 2017 (arXiv:1706.04599), section 4.2. Shapes: N rows, K classes.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

RANGE = (math.log(0.1), math.log(10.0))
GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0
NUM_TRIES = 40
"""Golden sections; the last interval is 2e-8 wide."""


def class_nll(scores: Tensor, targets: Tensor, *, several: bool) -> Tensor:
    """Return the cross-entropy of scores and targets, summed: a softmax over the classes, or a sigmoid for each. [N, K] both -> []"""
    if several:
        return nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="sum")
    return -(torch.log_softmax(scores, dim=-1) * targets).sum()


def fit_temperature(scores: Tensor, targets: Tensor, *, several: bool) -> tuple[float, float]:
    """Return the temperature that these rows like best, and their mean loss with it. [N, K] both

    The logarithm of the temperature has a standard normal prior, worth one row, so that a few rows that are all right do not make
    the model certain of everything. The search is a golden section over a convex function, the same on every machine.
    """
    scores, targets = scores.double().cpu(), targets.double().cpu()
    weight = float(targets.numel() if several else targets.sum())
    if not weight:
        return 1.0, 0.0

    def price(log_temperature: float) -> float:
        loss = class_nll(scores / math.exp(log_temperature), targets, several=several)
        return float(loss) + log_temperature**2 / 2

    low, high = RANGE
    left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
    at_left, at_right = price(left), price(right)
    for _ in range(NUM_TRIES):
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = price(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = price(right)
    best = (low + high) / 2
    return math.exp(best), float(class_nll(scores / math.exp(best), targets, several=several)) / weight
