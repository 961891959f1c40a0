"""BitFit: only the biases learn."""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor, nn

from whet.errors import ModelError
from whet.models.peft_folder import refuse_other_base
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin

WEIGHTS, BEFORE = "biases.safetensors", "bias_before"


@plugin
class BitFit:
    """Only the biases learn. Ben Zaken et al. 2022 (arXiv:2106.10199), section 3; for models that have biases, as most encoders do.

    There is no format of PEFT's for them: they are saved as `biases.safetensors`.
    """

    mergeable: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((math.inf, 4e-3),)
    why_rates: ClassVar[str] = "biases are few and want larger steps than all weights; the authors search 1e-4 to 1e-3 on 110 M"

    def attach(self, policy: Policy, seed: int) -> None:
        policy.network.requires_grad_(False)
        found = list(_biased(policy))
        if not found:
            raise ModelError(
                f"bitfit: {policy.source.name} ({policy.network.config.model_type}) has no biases to learn. Use technique 'ia3' or 'lora'."
            )
        for _, module, bias in found:
            module.register_buffer(BEFORE, bias.detach().clone(), persistent=False)
            bias.requires_grad_(True)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        """Put the base's own biases back."""
        with torch.no_grad():
            for _, module, bias in _biased(policy):
                if module._buffers.get(BEFORE) is not None:
                    bias.copy_(module.get_buffer(BEFORE))
        self.merge(policy)

    def merge(self, policy: Policy) -> None:
        """Keep the learnt biases as the base's own."""
        for _, module, _ in _biased(policy):
            module._buffers.pop(BEFORE, None)
        policy.network.requires_grad_(False)

    def save(self, policy: Policy, folder: Path) -> None:
        save_tensors({name: bias for name, _, bias in _biased(policy)}, folder / WEIGHTS)

    def load(self, policy: Policy, folder: Path) -> None:
        if not any(BEFORE in module._buffers for _, module, _ in _biased(policy)):
            self.attach(policy, seed=0)
        saved, ours = load_tensors(folder / WEIGHTS), {name: bias for name, _, bias in _biased(policy)}
        refuse_other_base(folder / WEIGHTS, ours, saved)
        with torch.no_grad():
            for name, bias in ours.items():
                bias.copy_(saved[name])


def _biased(policy: Policy) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """Yield each bias of the network with its name and its module; the output head's stays as it is."""
    output = policy.network.get_output_embeddings()
    for name, module in policy.network.named_modules():
        bias = module._parameters.get("bias")
        if bias is not None and module is not output:
            yield f"{name}.bias" if name else "bias", module, bias
