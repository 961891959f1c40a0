"""Prefix-tuning: keys and values before every row, in PEFT's file format."""

import math
from pathlib import Path
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from whet.engine.attention import Prefix, witnessed
from whet.errors import ModelError
from whet.models.blocks import Attention
from whet.models.peft_folder import CONFIG, WEIGHTS, number, read_adapter, refuse_other_base, write_adapter
from whet.models.policy import Policy
from whet.models.virtual_sources import BesideTargets, target_prefixes
from whet.models.virtual_tokens import Shift, are_there, attending_layers, check_room, put, put_prefix, take, there, virtual_ids
from whet.plugins import plugin


@plugin
class PrefixTuning:
    """Keys and values before every row, in each layer, learn. Li and Liang 2021 (arXiv:2101.00190), eq. 3, without the MLP.

    They begin as those of real tokens (section 7.4), which makes up for the MLP of section 4.3. Layers with a window see them always.
    In an encoder-decoder they lie in the decoder's attention to itself, as PEFT puts them there.
    """

    length: int = Field(16, ge=1)
    """Virtual tokens before each row; they use up as much of the model's context."""
    text: str | None = None
    """Text whose keys and values the prefix begins with; none: tokens drawn from the vocabulary."""

    mergeable: ClassVar[bool] = False
    identity: ClassVar[bool] = False
    learning_rates: ClassVar[tuple[tuple[float, float], ...]] = ((20, 3e-2), (math.inf, 1e-2))
    why_rates: ClassVar[str] = "keys and values are few and large, and want larger steps than adapters"

    @property
    def num_virtual(self) -> int:
        """Virtual tokens before each row."""
        return self.length

    def attach(self, policy: Policy, seed: int) -> None:
        check_room(policy, self.length, "prefix")
        if policy.kind == "encoder-decoder":
            self._attach_to_targets(policy, seed)
            return
        layers = self._layers(policy)
        ids = virtual_ids(policy, self.length, self.text, seed)
        with torch.no_grad(), witnessed() as seen:
            policy.network.base_model(input_ids=ids, use_cache=False)
        policy.network.requires_grad_(False)
        first = {attended.module: attended for attended in reversed(seen)}  # a module that is run again begins as at first
        for layer in layers:
            attended = first[policy.network.get_submodule(layer.name)]
            keys, values = (
                nn.Parameter(tensor[0].clone(memory_format=torch.contiguous_format)) for tensor in (attended.key, attended.value)
            )
            put_prefix(policy, layer.name, Prefix(keys, values))
        given = policy.kind != "encoder" or policy.ability.packs
        put(policy, Shift(self.length, given=given, first=policy.ability.first_position))
        policy.heads.requires_grad_(True)

    def _attach_to_targets(self, policy: Policy, seed: int) -> None:
        """Put the prefix into an encoder-decoder's decoder, as PEFT does."""
        if len(policy.heads):
            raise ModelError(
                f"prefix: {policy.source.name} is an encoder-decoder, in whose decoder the prefix lies, and this objective asks its "
                "encoder alone. Use technique 'prompt' or 'lora'."
            )
        layers = target_prefixes(policy, virtual_ids(policy, self.length, self.text, seed))
        policy.network.requires_grad_(False)
        put(policy, BesideTargets(layers))

    def detach(self, policy: Policy) -> None:
        take(policy)

    def merge(self, policy: Policy) -> None:
        """Raise ModelError: no weight of the base computes the same."""
        raise ModelError(
            "technique 'prefix' cannot be merged: its keys and values are no weights of the base. Keep the adapter folder."
        )

    def save(self, policy: Policy, folder: Path) -> None:
        layers = list(_prefixes(policy).values())
        heads, length, width = layers[0][0].shape
        settings = {
            "num_virtual_tokens": length,
            "num_layers": len(layers),
            "num_attention_heads": heads,
            "token_dim": heads * width,
            "num_transformer_submodules": 2 if policy.kind == "encoder-decoder" else 1,
            "encoder_hidden_size": heads * width,
            "prefix_projection": False,
        }
        both = torch.stack([tensor for pair in layers for tensor in pair])  # [2 layers, H, P, d]
        write_adapter(
            policy, folder, "PREFIX_TUNING", settings, {"prompt_embeddings": both.permute(2, 0, 1, 3).reshape(length, -1)}
        )

    def load(self, policy: Policy, folder: Path) -> None:
        """Attach and fill from a folder in PEFT's format, one of PEFT's own too; its length is the folder's."""
        config, tensors = read_adapter(folder, "PREFIX_TUNING")
        length = int(number(config, "num_virtual_tokens", folder / CONFIG))
        if not are_there(policy):
            type(self)(length).attach(policy, seed=0)
        layers = list(_prefixes(policy).values())
        heads, length, width = layers[0][0].shape
        whole = torch.empty(length, 2 * len(layers) * heads * width)
        refuse_other_base(folder / WEIGHTS, {"prompt_embeddings": whole}, tensors)
        parts = tensors["prompt_embeddings"].view(length, 2 * len(layers), heads, width).permute(1, 2, 0, 3)
        with torch.no_grad():
            for index, (keys, values) in enumerate(layers):
                keys.copy_(parts[2 * index])
                values.copy_(parts[2 * index + 1])

    def _layers(self, policy: Policy) -> tuple[Attention, ...]:
        """Return the attending layers. Raises ModelError where there are none, or they differ."""
        layers = attending_layers(policy)
        if len({layer.key.shape[1::2] for layer in layers}) != 1:
            raise ModelError(
                f"prefix: {policy.source.name} ({policy.network.config.model_type}) has no attention of one shape that keys and values "
                "can be put into from outside. Use technique 'prompt' or 'lora'."
            )
        return layers


def _prefixes(policy: Policy) -> dict[str, tuple[Tensor, Tensor]]:
    """Return keys and values of each layer, in order."""
    assert there(policy).number, "no prefix is attached"
    found = {}
    for name, module in policy.network.named_modules():
        if isinstance(module, Prefix):
            assert module.keys is not None and module.values is not None
            found[name] = (module.keys, module.values)
    return found
