"""Muon."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.optimise import decayed_groups
from whet.plugins import plugin

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the quintic iteration. They blow small singular values up fast, and leave all of them between about 0.7 and 1.2."""
EPSILON = 1e-7


@plugin
class Muon:
    """Hidden layers' matrices step along their momentum made orthogonal, the rest by AdamW. Jordan 2024 (kellerjordan.github.io/posts/muon).

    The rest are embeddings, the output head, a task's head, virtual tokens, vectors, and tensors with more than two sides. One learning
    rate serves both: an orthogonal step is scaled to the size of AdamW's, by Liu et al. 2025 (arXiv:2502.16982), section 2.2.
    """

    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Decay of the momentum, in Nesterov's form."""
    iterations: int = Field(default=5, ge=1, le=20)
    """Newton-Schulz iterations of each step."""
    scale: Literal["adamw", "original"] = "adamw"
    """adamw: 0.2 sqrt(longer side), the size of AdamW's steps. original: sqrt(rows / columns), at least 1, as its author has it."""
    matrix_rate: float = Field(default=1.0, gt=0)
    """Learning rate of hidden layers' matrices over that of the rest; with `scale: original` they want some 60 times as much."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Arithmetic of the iterations; the author takes bf16, which is faster where the machine multiplies in it."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Of AdamW, for the rest: decay of the mean of gradients."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Of AdamW, for the rest: decay of the mean of their squares."""
    epsilon: float = Field(default=1e-8, gt=0)
    """Of AdamW, for the rest: added to the root."""

    why_factor: ClassVar[str] = "orthogonal steps are scaled to the size of AdamW's, so its rates fit"

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser where no network is known: every matrix counts as one of a hidden layer."""
        hidden = {name: False for name, tensor in named if tensor.ndim == 2}
        return self.build_by_role(named, hidden, learning_rate, weight_decay)

    def build_by_role(
        self, named: Sequence[tuple[str, Tensor]], hidden: Mapping[str, bool], learning_rate: float, weight_decay: float
    ) -> torch.optim.Optimizer:
        """Return the optimiser; weight decay acts on all matrices, and falls with the rate."""
        groups: list[dict[str, Any]] = [
            {
                "params": [tensor for name, tensor in named if hidden.get(name) is turned],
                "weight_decay": weight_decay,
                "orthogonal": True,
                "turned": turned,
                "lr_ratio": self.matrix_rate,
            }
            for turned in (False, True)
        ]
        rest = decayed_groups([(name, tensor) for name, tensor in named if name not in hidden], weight_decay)
        adamw = torch.optim.AdamW(
            [group | {"orthogonal": False} for group in rest] or [{"params": [], "orthogonal": False}],
            lr=learning_rate,
            betas=(self.beta1, self.beta2),
            eps=self.epsilon,
            fused=True,
        )
        return _Muon([group for group in groups if group["params"]], adamw, learning_rate, self)


class _Muon(torch.optim.Optimizer):
    """One optimiser over both: its groups and its state are AdamW's and its own together."""

    def __init__(self, groups: list[dict[str, Any]], adamw: torch.optim.AdamW, learning_rate: float, settings: Muon) -> None:
        for group in groups:
            group["lr"] = learning_rate * group["lr_ratio"]
        super().__init__(groups + [group for group in adamw.param_groups if group["params"]], {"lr": learning_rate})
        self.adamw, self.settings = adamw, settings
        self.adamw.state = self.state

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        self.adamw.param_groups = [group for group in self.param_groups if not group["orthogonal"]]
        self.adamw.step()
        for group in self.param_groups:
            for parameter in group["params"] if group["orthogonal"] else ():
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group)

    def _move(self, parameter: Tensor, grad: Tensor, group: Mapping[str, Any]) -> None:
        made, state, rate = self.settings, self.state[parameter], group["lr"]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = state["momentum"].mul_(made.momentum).add_(grad, alpha=1 - made.momentum)
        ahead = (momentum * made.momentum).add_(grad, alpha=1 - made.momentum)
        step = orthogonal(ahead, made.iterations, torch.bfloat16 if made.precision == "bf16" else ahead.dtype)
        rows, columns = parameter.shape[::-1] if group["turned"] else parameter.shape
        size = 0.2 * math.sqrt(max(rows, columns)) if made.scale == "adamw" else math.sqrt(max(1.0, rows / columns))
        parameter.mul_(1 - rate * group["weight_decay"]).sub_(step.to(parameter.dtype), alpha=rate * size)


def orthogonal(matrix: Tensor, iterations: int, dtype: torch.dtype) -> Tensor:
    """Return about the orthogonal matrix nearest to it: its singular vectors, with singular values near 1. Zero stays zero. [out, in]"""
    a, b, c = COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix).to(dtype)
    x = x / (x.norm() + EPSILON)
    for _ in range(iterations):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
