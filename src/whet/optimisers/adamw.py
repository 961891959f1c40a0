"""AdamW."""

from collections.abc import Sequence
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from whet.engine.optimise import decayed_groups
from whet.plugins import plugin


@plugin
class AdamW:
    """Adam with decoupled weight decay. Loshchilov and Hutter 2019 (arXiv:1711.05101), algorithm 2.

    The paper's lambda is the learning rate times the recipe's weight decay, as in torch: the decay falls with the rate.
    """

    elementwise: ClassVar[bool] = True
    beta1: float = Field(0.9, ge=0, lt=1)
    """Decay of the mean of gradients."""
    beta2: float = Field(0.999, ge=0, lt=1)
    """Decay of the mean of their squares."""
    epsilon: float = Field(1e-8, gt=0)
    """Added to the root, against division by zero."""

    def build(self, named: Sequence[tuple[str, Tensor]], learning_rate: float, weight_decay: float) -> torch.optim.Optimizer:
        """Return the optimiser; weight decay acts on matrices only, not on biases and norms."""
        groups = decayed_groups(named, weight_decay)
        return torch.optim.AdamW(groups, lr=learning_rate, betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)
