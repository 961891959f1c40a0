"""Lion."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.optimise import decayed_groups
from whet.plugins import plugin


@plugin
class Lion:
    """The sign of a mean of gradients, with half of AdamW's state. Chen et al. 2023 (arXiv:2302.06675), algorithm 2.

    Every weight moves by the whole rate at every step, so rates are smaller than AdamW's, and to keep its strength
    `train.weight_decay` has to be larger by as much: both by three to ten, as the authors find.
    """

    elementwise: ClassVar[bool] = True
    beta1: float = Field(0.9, ge=0, lt=1)
    """Share of the mean in what a step follows."""
    beta2: float = Field(0.99, ge=0, lt=1)
    """Decay of the mean of gradients."""

    learning_rate_factor: ClassVar[float] = 0.2
    why_factor: ClassVar[str] = "a sign moves every weight by the whole rate; its authors take a third to a tenth of AdamW's"

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser; weight decay acts on matrices only, and falls with the rate."""
        return _Lion(decayed_groups(named, weight_decay), learning_rate, self.beta1, self.beta2)


class _Lion(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]], learning_rate: float, beta1: float, beta2: float) -> None:
        super().__init__(groups, {"lr": learning_rate})
        self.beta1, self.beta2 = beta1, beta2

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            rate, decay = group["lr"], group["weight_decay"]
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state, grad = self.state[parameter], parameter.grad
                if not state:
                    state["mean"] = torch.zeros_like(parameter)
                mean = state["mean"]
                direction = (mean * self.beta1).add_(grad, alpha=1 - self.beta1).sign_()
                parameter.mul_(1 - rate * decay).sub_(direction, alpha=rate)
                mean.mul_(self.beta2).add_(grad, alpha=1 - self.beta2)
