"""LoRA: low-rank updates beside frozen weights, in PEFT's file format."""

import math
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field

from whet.errors import RecipeError
from whet.models.blocks import pattern_of
from whet.models.linear import choose_layers, placed, set_matrix, sizes, take_off
from whet.models.lowrank import LowRank, Start, attach_low_rank, load_low_rank, read_low_rank, save_low_rank
from whet.models.policy import Policy
from whet.models.rank import Rank, rank_for, set_rank
from whet.plugins import plugin


@plugin
class Lora:
    """Low-rank adaptation. Hu et al. 2022 (arXiv:2106.09685), eq. 3; scale alpha / rank."""

    rank: Rank = "auto"
    """Rank r of the update; parameters and memory grow linearly with it. auto: 16 to 64, as much as the rows have to say."""
    alpha: float = Field(default=32.0, gt=0)
    """The update is scaled by alpha / rank; by alpha / sqrt(rank) with rslora."""
    targets: str | list[str] = "all-linear"
    """Layers to adapt: all-linear (all but the output head), a regular expression over names, or a list of name endings."""
    variant: Literal["lora", "rslora", "dora"] = "lora"
    """rslora: a scale for high ranks (Kalajdzievski 2023, arXiv:2312.03732). dora: also the weights' lengths learn (Liu et al. 2024)."""
    init: Literal["default", "pissa"] = "default"
    """pissa: begin at the weights' first singular vectors (Meng et al. 2024, arXiv:2404.02948); learns faster, attaches more slowly."""
    learning_rate_ratio: float = Field(default=1.0, gt=0)
    """Learning rate of B over that of A. LoRA+ (Hayou et al. 2024, arXiv:2402.12354) takes 16, with a rate 4 to 8 times smaller."""

    mergeable: ClassVar[bool] = True
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((100, 1e-3), (1000, 4e-4), (math.inf, 2e-4))
    why_rates: ClassVar[str] = "adapters start from zero and want larger steps than the weights themselves"

    def __post_init__(self) -> None:
        if self.variant == "dora" and self.init == "pissa":
            raise RecipeError("techniques 'lora': variant 'dora' and init 'pissa' do not go together. Choose one of them.")

    def sized(self, policy: Policy, bits: float) -> dict[str, tuple[float, str]]:
        if self.rank != "auto":
            return {}
        names = choose_layers(policy, self.targets, "lora")
        rank, why = rank_for(policy, names, bits)
        most = min(min(sizes(policy.network.get_submodule(name))) for name in names)
        if self.init == "pissa" and rank > most:
            rank, why = most, f"{why}; init pissa can have {most}, since a layer has no more singular values"
        return {"rank": (rank, why)}

    def attach(self, policy: Policy, seed: int) -> None:
        chosen = choose_layers(policy, self.targets, "lora")
        attach_low_rank(policy, chosen, set_rank(self.rank), self.alpha, self.variant, self.init, seed, self.learning_rate_ratio)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        take_off(policy, LowRank)
        policy.rates.clear()

    def merge(self, policy: Policy) -> None:
        with torch.no_grad():
            for _, layer in placed(policy, LowRank):
                set_matrix(layer.base, layer.merged())
        self.detach(policy)

    def save(self, policy: Policy, folder: Path) -> None:
        save_low_rank(policy, folder)

    def load(self, policy: Policy, folder: Path) -> None:
        """Attach and fill from a folder in PEFT's format, one of PEFT's own too; rank, alpha and variant are the folder's."""
        if not placed(policy, LowRank):
            names, rank, alpha, variant = read_low_rank(folder)
            start: Start = "filled" if self.init == "pissa" and rank % 2 == 0 else "default"
            if start == "filled":
                rank, alpha = rank // 2, alpha / (math.sqrt(2) if variant == "rslora" else 2)
            chosen = choose_layers(policy, pattern_of(names), "lora")
            attach_low_rank(policy, chosen, rank, alpha, variant, start, 0, self.learning_rate_ratio)
            policy.heads.requires_grad_(True)
        load_low_rank(policy, folder)
