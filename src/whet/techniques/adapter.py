"""Bottleneck adapters behind the sublayers of each block."""

import math
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, relu

from whet.engine.order import seed_of
from whet.errors import ModelError
from whet.models.blocks import Block, outline
from whet.models.linear import Around, matrix, placed, take_off
from whet.models.peft_folder import refuse_other_base
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin

WEIGHTS = "bottleneck.safetensors"


class Bottleneck(Around):
    """A sublayer's last linear layer, and behind it y + U f(D y + d) + u. D [width, out], U [out, width]"""

    def __init__(self, base: nn.Module, width: int, activation: Literal["gelu", "relu"], seed: int) -> None:
        super().__init__(base)
        weight = matrix(base)
        num_out = weight.shape[0]
        drawn = torch.randn(width, num_out, generator=torch.Generator().manual_seed(seed)) / math.sqrt(num_out)
        self.down, self.down_bias = nn.Parameter(drawn.to(weight)), nn.Parameter(weight.new_zeros(width))
        self.up, self.up_bias = nn.Parameter(weight.new_zeros(num_out, width)), nn.Parameter(weight.new_zeros(num_out))
        self.activation = gelu if activation == "gelu" else relu

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.base(x)
        return y + linear(self.activation(linear(y, self.down, self.down_bias)), self.up, self.up_bias).to(y.dtype)


@plugin
class Adapter:
    """Small networks behind the sublayers of each block learn. Houlsby et al. 2019 (arXiv:1902.00751), figure 2.

    Each works on what its sublayer gives, before it is added to the stream, and begins as the identity, exactly. There is no format of
    PEFT's for them: they are saved as `bottleneck.safetensors`.
    """

    width: int = Field(default=64, ge=1)
    """Width of the bottleneck. Parameters grow linearly with it."""
    placement: Literal["houlsby", "pfeiffer"] = "houlsby"
    """houlsby: behind attention and behind the feed-forward layer. pfeiffer: behind the latter only (Pfeiffer et al. 2020)."""
    activation: Literal["gelu", "relu"] = "gelu"
    """What lies between the two layers; Pfeiffer et al. take relu."""

    mergeable: ClassVar[bool] = False
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((100, 1e-3), (1000, 5e-4), (math.inf, 2e-4))
    why_rates: ClassVar[str] = "bottlenecks start as the identity and want larger steps than the weights themselves"

    def attach(self, policy: Policy, seed: int) -> None:
        names = [name for block in outline(policy).blocks for name in self._places(block)]
        if not names:
            raise ModelError(
                f"adapter: {policy.source.name} ({policy.network.config.model_type}) shows no linear layer that ends a sublayer. "
                "Use technique 'lora', or placement 'pfeiffer' where attention is the reason."
            )
        policy.network.requires_grad_(False)
        for name in dict.fromkeys(names):
            layer = Bottleneck(policy.network.get_submodule(name), self.width, self.activation, seed_of(seed, name))
            policy.network.set_submodule(name, layer)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        take_off(policy, Bottleneck)

    def merge(self, policy: Policy) -> None:
        """Raise ModelError: what lies between two layers with a bend is no weight of either."""
        raise ModelError(
            "technique 'adapter' cannot be merged: a bottleneck is not linear. Keep the adapter folder, or train with 'lora'."
        )

    def save(self, policy: Policy, folder: Path) -> None:
        save_tensors(_tensors(policy), folder / WEIGHTS)

    def load(self, policy: Policy, folder: Path) -> None:
        if not placed(policy, Bottleneck):
            self.attach(policy, seed=0)
        saved, ours = load_tensors(folder / WEIGHTS), _tensors(policy)
        refuse_other_base(folder / WEIGHTS, ours, saved)
        with torch.no_grad():
            for name, tensor in ours.items():
                tensor.copy_(saved[name])

    def _places(self, block: Block) -> list[str]:
        last = [block.feed_forward] if block.feed_forward else []
        if self.placement == "pfeiffer":
            return last
        attention = [attention.output for attention in block.attentions]
        return [*attention, *last] if attention else []


def _tensors(policy: Policy) -> dict[str, Tensor]:
    parts = ("down", "down_bias", "up", "up_bias")
    return {f"{name}.{part}": layer.get_parameter(part) for name, layer in placed(policy, Bottleneck) for part in parts}
