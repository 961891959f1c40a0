"""Adafactor."""

from collections.abc import Sequence
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.optimise import decayed_groups
from whet.plugins import plugin


@plugin
class Adafactor:
    """Squares of gradients as a row and a column each, so that a matrix needs almost no state. Shazeer and Stern 2018 (arXiv:1804.04235).

    Algorithms 4 and 5 without momentum, with the step size of the recipe's schedule: `relative_step` makes it a share of a matrix's own
    size, as in the paper. Larger tensors are taken as a stack of matrices.
    """

    relative_step: bool = False
    """Step size as a share of the root mean square of a parameter (section 8); learning rates are then some 20 times larger."""
    decay_power: float = Field(default=0.8, gt=0, le=1)
    """The decay of the squares at step t is 1 - t ** -decay_power (section 7.2)."""
    threshold: float = Field(default=1.0, gt=0)
    """Largest root mean square of an update before it is multiplied by the rate (section 6)."""
    epsilon: float = Field(default=1e-30, gt=0)
    """Added to squared gradients, the paper's epsilon 1."""
    smallest: float = Field(default=1e-3, gt=0)
    """What a parameter's root mean square counts as at the least where steps are relative, the paper's epsilon 2."""

    @property
    def learning_rate_factor(self) -> float:
        return 20.0 if self.relative_step else 1.0

    @property
    def why_factor(self) -> str:
        return "a share of each matrix's own size; T5 was tuned with 1e-3" if self.relative_step else ""

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser; weight decay is decoupled, acts on matrices only, and falls with the rate."""
        return _Adafactor(decayed_groups(named, weight_decay), learning_rate, self)


class _Adafactor(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]], learning_rate: float, settings: Adafactor) -> None:
        super().__init__(groups, {"lr": learning_rate})
        self.settings = settings

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"], group["weight_decay"])

    def _move(self, parameter: Tensor, grad: Tensor, rate: float, decay: float) -> None:
        made, state = self.settings, self.state[parameter]
        state["step"] = state.get("step", 0) + 1
        fresh = state["step"] ** -made.decay_power  # the share of this step's squares
        squares = grad.square().add_(made.epsilon)
        if parameter.ndim >= 2:
            rows = _mean(state, "rows", squares.mean(-1, keepdim=True), fresh)
            columns = _mean(state, "columns", squares.mean(-2, keepdim=True), fresh)
            # one after the other, since the product of two tiny means would be zero in fp32
            update = grad * (rows / rows.mean(-2, keepdim=True)).rsqrt_() * columns.rsqrt()
        else:
            update = grad * _mean(state, "squares", squares, fresh).rsqrt()
        update.div_((_size(update) / made.threshold).clamp_(min=1.0))
        own = _size(parameter).clamp_(min=made.smallest) if made.relative_step else 1.0
        parameter.mul_(1 - rate * decay).sub_(update.mul_(own), alpha=rate)


def _mean(state: dict[str, Any], key: str, new: Tensor, fresh: float) -> Tensor:
    """Return the running mean with the new values in it. The first step's share is 1, so it begins as they are."""
    if key not in state:
        state[key] = torch.zeros_like(new)
    mean: Tensor = state[key].mul_(1 - fresh).add_(new, alpha=fresh)
    return mean


def _size(tensor: Tensor) -> Tensor:
    """Return the root mean square."""
    return tensor.square().mean().sqrt()
