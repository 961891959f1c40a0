"""IA3: learnt scales of keys, values and inner activations, in PEFT's file format."""

import math
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.errors import ModelError
from whet.models.blocks import outline, pattern_of
from whet.models.linear import Around, choose_layers, matrix, placed, set_matrix, sizes, take_off
from whet.models.peft_folder import PREFIX, WEIGHTS, read_adapter, refuse_other_base, write_adapter
from whet.models.policy import Policy
from whet.plugins import plugin


class Scaled(Around):
    """A linear layer whose outputs, or whose inputs, are multiplied by a vector that begins at one."""

    def __init__(self, base: nn.Module, *, inputs: bool) -> None:
        super().__init__(base)
        self.inputs = inputs
        num_in, num_out = sizes(base)
        self.scale = nn.Parameter(matrix(base).new_ones(num_in if inputs else num_out))

    def forward(self, x: Tensor) -> Tensor:
        if self.inputs:
            scaled: Tensor = self.base(x * self.scale.to(x.dtype))
            return scaled
        out: Tensor = self.base(x)
        return out * self.scale.to(out.dtype)

    def fold(self) -> None:
        """Multiply the base's own weight instead."""
        with torch.no_grad():
            set_matrix(self.base, matrix(self.base) * (self.scale if self.inputs else self.scale[:, None]))
            if self.bias is not None and not self.inputs:
                self.bias.mul_(self.scale)


@plugin
class IA3:
    """Scales of keys, values and inner activations learn: IA3. Liu et al. 2022 (arXiv:2205.05638), section 3.3.

    Where one layer makes queries, keys and values together, all of its output is scaled, as PEFT does.
    """

    mergeable: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((math.inf, 1e-2),)
    why_rates: ClassVar[str] = "a few scales around one want large steps; the authors take 3e-3 for 3 to 11 B parameters"

    def attach(self, policy: Policy, seed: int) -> None:
        inputs: dict[str, bool] = {}
        for block in outline(policy).blocks:
            inputs |= {name: False for attention in block.attentions for name in attention.keys_values}
            inputs |= {block.feed_forward: True} if block.feed_forward else {}
        if not any(not side for side in inputs.values()):
            raise ModelError(
                f"ia3: {policy.source.name} ({policy.network.config.model_type}) does not show which layers make its keys and values. "
                "Use technique 'lora' or 'bitfit'."
            )
        _place(policy, inputs)

    def detach(self, policy: Policy) -> None:
        take_off(policy, Scaled)

    def merge(self, policy: Policy) -> None:
        for _, layer in placed(policy, Scaled):
            layer.fold()
        self.detach(policy)

    def save(self, policy: Policy, folder: Path) -> None:
        layers = dict(placed(policy, Scaled))
        settings = {
            "target_modules": sorted(layers),
            "feedforward_modules": sorted(name for name, layer in layers.items() if layer.inputs),
            "fan_in_fan_out": any(isinstance(layer.base, Conv1D) for layer in layers.values()),
        }
        tensors = {f"{PREFIX}{name}": scale for name, scale in _tensors(policy).items()}
        write_adapter(policy, folder, "IA3", settings, tensors)

    def load(self, policy: Policy, folder: Path) -> None:
        """Attach and fill from a folder in PEFT's format, one of PEFT's own too; its layers are the folder's."""
        _, saved = read_adapter(folder, "IA3")
        if not placed(policy, Scaled):
            names = {key.removesuffix(".ia3_l"): tensor.shape[0] == 1 for key, tensor in saved.items()}
            chosen = choose_layers(policy, pattern_of(list(names)), "ia3")
            _place(policy, {name: names[name] for name in chosen})
        ours = _tensors(policy)
        refuse_other_base(folder / WEIGHTS, ours, saved)
        with torch.no_grad():
            for name, tensor in ours.items():
                tensor.copy_(saved[name])


def _place(policy: Policy, inputs: dict[str, bool]) -> None:
    policy.network.requires_grad_(False)
    for name, side in inputs.items():
        policy.network.set_submodule(name, Scaled(policy.network.get_submodule(name), inputs=side))
    policy.heads.requires_grad_(True)


def _tensors(policy: Policy) -> dict[str, Tensor]:
    """Return the scales in PEFT's layout: [1, in] for inputs, [out, 1] for outputs."""
    return {
        f"{name}.ia3_l": layer.scale[None] if layer.inputs else layer.scale[:, None] for name, layer in placed(policy, Scaled)
    }
