"""Low-rank updates beside frozen linear layers, and their folders in PEFT's format.

Shapes: r rank, in and out of a layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers.pytorch_utils import Conv1D

from whet.engine.order import seed_of
from whet.errors import RecipeError, RunError
from whet.models.linear import Around, matrix, placed
from whet.models.peft_folder import CONFIG, PREFIX, WEIGHTS, number, read_adapter, refuse_other_base, write_adapter
from whet.models.policy import Policy

Variant = Literal["lora", "rslora", "dora"]
Start = Literal["default", "pissa", "filled"]
"""How A and B begin; "filled": as with pissa two products are kept apart, and both are taken from a folder."""
FULL_SVD = 1024
"""Smaller side of a matrix up to which its singular values are all computed; beyond it the first ones only, by iteration."""
NOT_COMPUTED = ("rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "layer_replication")
"""Settings of PEFT's LoRA that change what is computed."""
MOVED_BASES = ("pissa", "olora", "corda")
"""Ways in which PEFT begins an adapter that change the base's weights, so that the folder alone does not say what is computed."""


def scale_of(variant: Variant, alpha: float, rank: int) -> float:
    """Return what the update is multiplied by: alpha / r (Hu et al. 2022), or alpha / sqrt(r) (Kalajdzievski 2023)."""
    return alpha / math.sqrt(rank) if variant == "rslora" else alpha / rank


class LowRank(Around):
    """A frozen linear layer with an update beside it: base(x) + scale * B A x. A [r, in], B [out, r]

    With `dora` each row of the whole weight also has a length of its own that learns (Liu et al. 2024, arXiv:2402.09353, eq. 5;
    its norm counts as a constant, section 4.3). With `pissa` A and B begin at the first singular vectors (Meng et al. 2024,
    arXiv:2404.02948, eq. 2-4), and what they begin at is subtracted, so that the base's own weight stays as it is.
    """

    start_down: Tensor | None
    start_up: Tensor | None

    def __init__(self, base: nn.Module, rank: int, alpha: float, variant: Variant, start: Start, seed: int) -> None:
        super().__init__(base)
        self.alpha, self.variant, self.scale = alpha, variant, scale_of(variant, alpha, rank)
        with torch.no_grad():
            weight = matrix(base)
            down, up = _principal(weight, rank, self.scale, seed) if start == "pissa" else _beginning(weight, rank, seed)
            self.down, self.up = (nn.Parameter(start.to(weight).contiguous()) for start in (down, up))
            self.register_buffer("start_down", self.down.detach().clone() if start != "default" else None, persistent=False)
            self.register_buffer("start_up", self.up.detach().clone() if start != "default" else None, persistent=False)
            self.magnitude = nn.Parameter(self._lengths()) if variant == "dora" else None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.base(x)
        added = linear(linear(x, self.down), self.up * self.scale)
        if self.start_down is not None and self.start_up is not None:
            added = added - linear(linear(x, self.start_down), self.start_up * self.scale)
        if self.magnitude is None:
            return out + added
        ratio = self._ratio()
        plain = out if self.bias is None else out - self.bias.to(out.dtype)
        return out + (ratio - 1).to(out.dtype) * plain + ratio.to(out.dtype) * added

    def added(self) -> Tensor:
        """Return the low-rank update. [out, in]"""
        update = self.scale * (self.up @ self.down)
        return update if self.start_down is None else update - self.scale * (self.start_up @ self.start_down)  # type: ignore[operator]

    def changed(self) -> Tensor:
        """Return by how much the whole weight differs from the base's. [out, in]"""
        return self.added() if self.magnitude is None else self.merged() - matrix(self.base)

    def merged(self) -> Tensor:
        """Return the weight that computes the same alone. [out, in]"""
        weight = matrix(self.base)
        whole: Tensor = weight + self.added().to(weight.dtype)
        return whole if self.magnitude is None else self._ratio()[:, None] * whole

    def factors(self) -> tuple[Tensor, Tensor]:
        """Return A and B of the update as one product; of rank 2 r where something is subtracted."""
        if self.start_down is None or self.start_up is None:
            return self.down, self.up
        return torch.cat([self.down, self.start_down]), torch.cat([self.up, -self.start_up], dim=1)

    def fill(self, down: Tensor, up: Tensor) -> None:
        """Take over what `factors` returned."""
        rank = self.down.shape[0]
        with torch.no_grad():
            self.down.copy_(down[:rank])
            self.up.copy_(up[:, :rank])
            if self.start_down is not None and self.start_up is not None:
                self.start_down.copy_(down[rank:])
                self.start_up.copy_(-up[:, rank:])

    def _lengths(self) -> Tensor:
        with torch.no_grad(), torch.autocast(self.down.device.type, enabled=False):
            lengths: Tensor = torch.linalg.vector_norm(matrix(self.base) + self.added(), dim=1)
        return lengths

    def _ratio(self) -> Tensor:
        assert self.magnitude is not None
        return self.magnitude / self._lengths()


def attach_low_rank(
    policy: Policy, names: Iterable[str], rank: int, alpha: float, variant: Variant, start: Start, seed: int, rate: float
) -> None:
    """Put updates beside these layers; everything else in the network is frozen. `rate` is B's learning rate over A's."""
    policy.network.requires_grad_(False)
    for name in names:
        base = policy.network.get_submodule(name)
        policy.network.set_submodule(name, LowRank(base, rank, alpha, variant, start, seed_of(seed, name)))
        if rate != 1:
            policy.rates[f"network.{name}.up"] = rate


def save_low_rank(policy: Policy, folder: Path) -> None:
    """Write the updates as PEFT does. One that began at singular vectors becomes a plain one of twice the rank."""
    layers = dict(placed(policy, LowRank))
    tensors: dict[str, Tensor] = {}
    for name, layer in layers.items():
        down, up = layer.factors()
        tensors |= {f"{PREFIX}{name}.lora_A.weight": down, f"{PREFIX}{name}.lora_B.weight": up}
        if layer.magnitude is not None:
            tensors[f"{PREFIX}{name}.lora_magnitude_vector"] = layer.magnitude
    some = next(iter(layers.values()))
    times = 1 if some.start_down is None else 2
    settings = {
        "r": times * some.down.shape[0],
        "lora_alpha": some.alpha * (math.sqrt(times) if some.variant == "rslora" else times),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": any(isinstance(layer.base, Conv1D) for layer in layers.values()),
        "target_modules": sorted(layers),
        "use_rslora": some.variant == "rslora",
        "use_dora": some.variant == "dora",
    }
    write_adapter(policy, folder, "LORA", settings, tensors)


def read_low_rank(folder: Path) -> tuple[list[str], int, float, Variant]:
    """Return layers, rank, alpha and variant of a folder, one of PEFT's own too. Raises RunError where it is of a kind not computed here."""
    config, tensors = read_adapter(folder, "LORA")
    place = folder / CONFIG
    special = [key for key in NOT_COMPUTED if config.get(key)]
    special += ["bias"] if config.get("bias", "none") != "none" else []
    special += ["use_dora with use_rslora"] if config.get("use_dora") and config.get("use_rslora") else []
    if str(config.get("init_lora_weights")).startswith(MOVED_BASES):
        special.append(f"init_lora_weights '{config['init_lora_weights']}'")
    if special:
        raise RunError(
            f"{place}: an adapter with {', '.join(special)}, which lora does not compute here. Merge it with PEFT, and name the result."
        )
    variant: Variant = "rslora" if config.get("use_rslora") else "dora" if config.get("use_dora") else "lora"
    names = sorted({key.rpartition(".lora_")[0] for key in tensors})
    return names, int(number(config, "r", place)), number(config, "lora_alpha", place), variant


def load_low_rank(policy: Policy, folder: Path) -> None:
    """Fill the updates that are attached. Raises RunError where the folder's are others."""
    _, tensors = read_adapter(folder, "LORA")
    layers = dict(placed(policy, LowRank))
    wanted: dict[str, Tensor] = {}
    for name, layer in layers.items():
        down, up = layer.factors()
        wanted |= {f"{name}.lora_A.weight": down, f"{name}.lora_B.weight": up}
        if layer.magnitude is not None:
            wanted[f"{name}.lora_magnitude_vector"] = layer.magnitude
    refuse_other_base(folder / WEIGHTS, wanted, tensors)
    for name, layer in layers.items():
        layer.fill(tensors[f"{name}.lora_A.weight"], tensors[f"{name}.lora_B.weight"])
        if layer.magnitude is not None:
            with torch.no_grad():
                layer.magnitude.copy_(tensors[f"{name}.lora_magnitude_vector"])


def _beginning(weight: Tensor, rank: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return A drawn and B zero, as the authors' code begins: A by kaiming_uniform with a = sqrt(5)."""
    num_out, num_in = weight.shape
    drawn = torch.rand(rank, num_in, generator=torch.Generator().manual_seed(seed))
    return (drawn * 2 - 1) / math.sqrt(num_in), torch.zeros(num_out, rank)


def _principal(weight: Tensor, rank: int, scale: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return A and B whose scaled product is the weight's best approximation of rank r."""
    wide = weight.detach().cpu().double()
    if rank > min(wide.shape):
        raise RecipeError(
            f"init 'pissa' takes at most {min(wide.shape)} singular values of a layer of {tuple(wide.shape)}; rank is {rank}."
        )
    if min(wide.shape) <= FULL_SVD:
        left, values, right = torch.linalg.svd(wide, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            left, values, right = torch.svd_lowrank(wide, q=rank + 8, niter=16)
        right = right.T
    roots = (values[:rank] / scale).sqrt()
    return (roots[:, None] * right[:rank]).float(), (left[:, :rank] * roots).float()
