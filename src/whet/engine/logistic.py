"""Logistic regression: the best linear head on vectors that stand still.

Shapes: N rows, D width, K classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import one_hot

if TYPE_CHECKING:
    from numpy.typing import NDArray

MOST_ROUNDS = 500
TOLERANCE = 1e-7
"""Largest slope at which the search ends, per row."""


def fit_logistic(
    vectors: Tensor, classes: Tensor, num_classes: int, penalty: float, max_rounds: int = MOST_ROUNDS
) -> tuple[Tensor, Tensor]:
    """Return weight [K, D] and bias [K] of multinomial logistic regression in float64. [N, D], [N]

    Vectors are centred and divided by their mean length first, so that `penalty`, half the squared weights' share of the summed loss,
    means the same for every model; the result is for the vectors as they came. The loss is convex and its search (L-BFGS) starts at 0:
    nothing is drawn. It ends after `max_rounds` at the latest.
    """
    vectors = vectors.double().cpu()
    centre = vectors.mean(0)
    scale = float((vectors - centre).norm(dim=-1).mean()) or 1.0
    inputs = (vectors - centre) / scale
    targets = one_hot(classes.cpu(), num_classes).double()
    width, number = inputs.shape[1], len(inputs)

    def price(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weight = torch.from_numpy(flat[: num_classes * width]).view(num_classes, width)
        bias = torch.from_numpy(flat[num_classes * width :])
        logprobs = torch.log_softmax(inputs @ weight.T + bias, dim=-1)
        away = (logprobs.exp() - targets) / number
        total = -float((logprobs * targets).sum()) / number + penalty / (2 * number) * float(weight.square().sum())
        slope = torch.cat([(away.T @ inputs + penalty / number * weight).flatten(), away.sum(0)])
        return total, slope.numpy()

    begun = np.zeros(num_classes * (width + 1))
    options = {"maxiter": max_rounds, "gtol": TOLERANCE, "ftol": 0.0}
    found = minimize(price, begun, jac=True, method="L-BFGS-B", options=options).x
    weight = torch.from_numpy(found[: num_classes * width]).view(num_classes, width) / scale
    return weight, torch.from_numpy(found[num_classes * width :]) - weight @ centre
