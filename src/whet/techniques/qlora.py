"""QLoRA: LoRA on a base in few bits, in PEFT's file format."""

import math
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from whet.errors import ModelError
from whet.models.blocks import pattern_of
from whet.models.linear import choose_layers, linear_layers, matrix, placed, take_off
from whet.models.load import load_policy
from whet.models.lowrank import LowRank, attach_low_rank, load_low_rank, read_low_rank, save_low_rank
from whet.models.policy import Policy
from whet.models.quantised import Bits, Quantised
from whet.models.rank import Rank, rank_for, set_rank
from whet.plugins import plugin


@plugin
class QLora:
    """LoRA beside a frozen base in 4 or 8 bits. Dettmers et al. 2023 (arXiv:2305.14314), eq. 5; for models that do not fit else.

    All linear layers but the output head are quantised, also those that are not adapted. Attaching changes what the model computes:
    that is the price. Merged, it is a plain model that computes what base in few bits and adapter did.
    """

    bits: Literal["nf4", "int8"] = "nf4"
    """nf4: 4.1 bits a weight, scales themselves in 8 bits. int8: one scale a row; twice the memory, a tenth of the error."""
    rank: Rank = "auto"
    """Rank r of the update; parameters and memory grow linearly with it. auto: 16 to 64, as much as the rows have to say."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank."""
    targets: str | list[str] = "all-linear"
    """Layers to adapt: all-linear (all but the output head), a regular expression over names, or a list of name endings."""
    variant: Literal["lora", "rslora", "dora"] = "lora"
    """As for technique `lora`."""
    learning_rate_ratio: float = Field(default=1.0, gt=0)
    """Learning rate of B over that of A, as for technique `lora`."""

    mergeable: ClassVar[bool] = True
    identity: ClassVar[bool] = False
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((100, 1e-3), (1000, 4e-4), (math.inf, 2e-4))
    why_rates: ClassVar[str] = "as with LoRA: adapters start from zero and want larger steps than the weights themselves"

    def sized(self, policy: Policy, bits: float) -> dict[str, tuple[float, str]]:
        if self.rank != "auto":
            return {}
        return {"rank": rank_for(policy, choose_layers(policy, self.targets, "qlora"), bits)}

    def attach(self, policy: Policy, seed: int) -> None:
        chosen = choose_layers(policy, self.targets, "qlora")
        _quantise(policy, self.bits)
        attach_low_rank(policy, chosen, set_rank(self.rank), self.alpha, self.variant, "default", seed, self.learning_rate_ratio)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        """Take adapters and quantisation off. The base's own weights are read again from where they came from."""
        take_off(policy, LowRank)
        policy.rates.clear()
        fresh = load_policy(policy.source.name).network
        for name, layer in _quantised(policy):
            original = fresh.get_submodule(name).to(policy.device)
            if not layer.same_as(original):
                raise ModelError(
                    f"{policy.source.name}: {name} is not what was quantised, so the adapter cannot be taken off. Load the model again."
                )
            policy.network.set_submodule(name, layer.restored(matrix(original)))

    def merge(self, policy: Policy) -> None:
        """Make plain layers again, of the weights as they were quantised, with the updates in them."""
        with torch.no_grad():
            for name, adapted in placed(policy, LowRank):
                assert isinstance(adapted.base, Quantised), name
                policy.network.set_submodule(name, adapted.base.restored(adapted.merged()))
            for name, layer in _quantised(policy):
                policy.network.set_submodule(name, layer.restored(layer.weight))
        policy.rates.clear()

    def save(self, policy: Policy, folder: Path) -> None:
        save_low_rank(policy, folder)

    def load(self, policy: Policy, folder: Path) -> None:
        """Quantise, attach and fill from a folder in PEFT's format; rank, alpha and variant are the folder's."""
        if not placed(policy, LowRank):
            names, rank, alpha, variant = read_low_rank(folder)
            chosen = choose_layers(policy, pattern_of(names), "qlora")
            _quantise(policy, self.bits)
            attach_low_rank(policy, chosen, rank, alpha, variant, "default", 0, self.learning_rate_ratio)
            policy.heads.requires_grad_(True)
        load_low_rank(policy, folder)


def _quantise(policy: Policy, bits: Bits) -> None:
    for name, layer in list(linear_layers(policy)):
        policy.network.set_submodule(name, Quantised(layer, bits))


def _quantised(policy: Policy) -> list[tuple[str, Quantised]]:
    return [(name, module) for name, module in policy.network.named_modules() if isinstance(module, Quantised)]
