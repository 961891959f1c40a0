"""LoRA: low-rank updates beside frozen weights, in PEFT's file format."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.engine.order import seed_of
from whet.errors import ModelError, RecipeError, RunError
from whet.models.policy import Policy
from whet.models.tensors import load_tensors, save_tensors
from whet.plugins import plugin

CONFIG, WEIGHTS, PREFIX = "adapter_config.json", "adapter_model.safetensors", "base_model.model."

NOT_COMPUTED = ("use_rslora", "use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "layer_replication")
"""Settings of PEFT's LoRA that change what is computed."""


class LowRank(nn.Module):
    """A frozen linear layer with an update beside it: base(x) + alpha / r * B A x. A [r, in], B [out, r]"""

    def __init__(self, base: nn.Module, rank: int, alpha: float, generator: torch.Generator) -> None:
        super().__init__()
        self.base, self.alpha, self.scale = base, alpha, alpha / rank
        num_in, num_out = _sizes(base)
        like = next(base.parameters())
        bound = 1 / math.sqrt(num_in)  # kaiming_uniform with a = sqrt(5), as the authors' code starts A
        start = (torch.rand(rank, num_in, generator=generator) * 2 - 1) * bound
        self.down = nn.Parameter(start.to(like))
        self.up = nn.Parameter(torch.zeros(num_out, rank).to(like))

    def forward(self, x: Tensor) -> Tensor:
        added = nn.functional.linear(nn.functional.linear(x, self.down), self.up * self.scale)
        out: Tensor = self.base(x) + added
        return out

    def update(self) -> Tensor:
        """Return what is added to the base's weight, in the base's own layout."""
        product = self.scale * (self.up @ self.down)
        return product.T if isinstance(self.base, Conv1D) else product


@plugin
class Lora:
    """Low-rank adaptation. Hu et al. 2022 (arXiv:2106.09685), eq. 3; scale alpha / rank."""

    rank: int = Field(16, ge=1)
    """Rank r of the update. Parameters and memory grow linearly with it."""
    alpha: float = Field(32.0, gt=0)
    """The update is scaled by alpha / rank."""
    targets: str | list[str] = "all-linear"
    """Layers to adapt: all-linear (all but the output head), a regular expression over names, or a list of name endings."""

    mergeable: ClassVar[bool] = True

    def attach(self, policy: Policy, seed: int) -> None:
        chosen = self._targets(policy)
        policy.network.requires_grad_(False)
        for name in chosen:
            generator = torch.Generator().manual_seed(seed_of(seed, name))
            layer = LowRank(policy.network.get_submodule(name), self.rank, self.alpha, generator)
            policy.network.set_submodule(name, layer)
        policy.heads.requires_grad_(True)

    def detach(self, policy: Policy) -> None:
        for name, layer in list(_layers(policy)):
            policy.network.set_submodule(name, layer.base)

    def merge(self, policy: Policy) -> None:
        with torch.no_grad():
            for _, layer in _layers(policy):
                weight = layer.base.weight
                assert isinstance(weight, Tensor)
                weight += layer.update().to(weight.dtype)
        self.detach(policy)

    def save(self, policy: Policy, folder: Path) -> None:
        layers = dict(_layers(policy))
        tensors = {f"{PREFIX}{name}.lora_A.weight": layer.down for name, layer in layers.items()}
        tensors |= {f"{PREFIX}{name}.lora_B.weight": layer.up for name, layer in layers.items()}
        save_tensors(tensors, folder / WEIGHTS)
        some = next(iter(layers.values()))
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM" if policy.kind == "decoder" else "FEATURE_EXTRACTION",
            "base_model_name_or_path": policy.source.name,
            "r": some.down.shape[0],
            "lora_alpha": some.alpha,
            "lora_dropout": 0.0,
            "bias": "none",
            "fan_in_fan_out": any(isinstance(layer.base, Conv1D) for layer in layers.values()),
            "target_modules": sorted(layers),
            "inference_mode": True,
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    def load(self, policy: Policy, folder: Path) -> None:
        """Attach and fill from a folder in PEFT's format, one of PEFT's own too; its rank and alpha are the folder's."""
        named = {key.removeprefix(PREFIX): value for key, value in load_tensors(folder / WEIGHTS).items()}
        names = sorted({key.rpartition(".lora_")[0] for key in named})
        if not any(True for _ in _layers(policy)):
            rank, alpha = _rank_and_alpha(folder / CONFIG)
            pattern = f"^(?:{'|'.join(re.escape(name) for name in names)})$"
            type(self)(rank=rank, alpha=alpha, targets=pattern).attach(policy, seed=0)
        layers = dict(_layers(policy))
        wanted = {f"{name}.lora_A.weight": layer.down for name, layer in layers.items()}
        wanted |= {f"{name}.lora_B.weight": layer.up for name, layer in layers.items()}
        if {key: tensor.shape for key, tensor in wanted.items()} != {key: tensor.shape for key, tensor in named.items()}:
            raise RunError(
                f"{folder / WEIGHTS}: adapts {len(names)} layers, and of this model {len(layers)} fit by name, or their sizes differ. "
                "It belongs to another base model: name that one."
            )
        with torch.no_grad():
            for key, tensor in wanted.items():
                tensor.copy_(named[key])

    def _targets(self, policy: Policy) -> list[str]:
        output = policy.network.get_output_embeddings()
        linear = [
            name
            for name, module in policy.network.named_modules()
            if isinstance(module, (nn.Linear, Conv1D)) and module is not output
        ]
        if self.targets == "all-linear":
            return linear
        if isinstance(self.targets, str):
            try:
                chosen = [name for name in linear if re.search(self.targets, name)]
            except re.error as error:
                raise RecipeError(
                    f"lora: targets {self.targets!r} is not a regular expression: {error}. Allowed: all-linear, one, or a list."
                ) from None
        else:
            chosen = [name for name in linear if name.endswith(tuple(self.targets))]
        if not chosen:
            endings = sorted({name.rpartition(".")[2] for name in linear})
            raise ModelError(
                f"lora: targets {self.targets!r} match no linear layer of this model. Its layers end in: {', '.join(endings)}."
            )
        return chosen


def _rank_and_alpha(path: Path) -> tuple[int, float]:
    """Return what an adapter's config says. Raises RunError where it is of a kind that LowRank does not compute."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{path}: missing or damaged ({error}). Restore the folder, or train again.") from None
    special = [key for key in NOT_COMPUTED if config.get(key)]
    if config.get("bias", "none") != "none":
        special.append("bias")
    if special:
        raise RunError(
            f"{path}: an adapter with {', '.join(special)}, which lora does not compute here. Merge it with PEFT, and name the result."
        )
    return rank, alpha


def _layers(policy: Policy) -> Iterator[tuple[str, LowRank]]:
    for name, module in policy.network.named_modules():
        if isinstance(module, LowRank):
            yield name, module


def _sizes(layer: nn.Module) -> tuple[int, int]:
    if isinstance(layer, Conv1D):
        return int(layer.weight.shape[0]), int(layer.weight.shape[1])
    assert isinstance(layer, nn.Linear), type(layer)
    return layer.in_features, layer.out_features
