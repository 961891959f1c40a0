"""Virtual tokens of an encoder-decoder: before every source, or as keys and values before every target. As PEFT computes them.

Both lie in the network as `models/virtual_tokens.py` says, and hook into its encoder and its decoder. Only public interfaces are used:
embeddings given in place of tokens, attention masks, and a key-value cache that is filled when a pass begins.

Shapes: R rows, T tokens, S tokens of a source, P virtual tokens, H heads, d width of a head, D width of the model.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import DynamicCache, EncoderDecoderCache, PreTrainedModel

from whet.engine.attention import Prefix
from whet.models.blocks import few_ids
from whet.models.key_values import cache_name
from whet.models.policy import Policy
from whet.models.virtual_tokens import Virtual, filled, named

Call = tuple[tuple[Any, ...], dict[str, Any]]


class BeforeSources(Virtual):
    """Embeddings before every source. The encoder gives P + S states, and a target sees all of them.

    They are put in the place of P tokens' own, not given to the encoder as embeddings: Marian scales its tokens', and not given ones.
    """

    def __init__(self, embedding: nn.Parameter) -> None:
        super().__init__(len(embedding))
        self.embedding = embedding  # [P, D]
        self.reading = False

    def hook(self, network: PreTrainedModel) -> tuple[RemovableHandle, ...]:
        encoder, decoder = network.get_encoder(), network.get_decoder()
        longer = encoder.register_forward_pre_hook(self._longer, with_kwargs=True)
        in_place = encoder.get_input_embeddings().register_forward_hook(self._in_place)
        return longer, in_place, decoder.register_forward_pre_hook(self._seen, with_kwargs=True)

    def _longer(self, encoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = named(args, kwargs)
        ids, mask = call["input_ids"], call.get("attention_mask")
        if mask is not None:
            call["attention_mask"] = self._wider(mask)
        self.reading = True
        return (), call | {"input_ids": torch.cat([ids[:, :1].expand(-1, self.number), ids], dim=1)}

    def _in_place(self, embeddings: nn.Module, args: tuple[Any, ...], embeds: Tensor) -> Tensor:
        if not self.reading:  # the decoder's embeddings may be the same
            return embeds
        self.reading = False
        virtual = self.embedding.to(embeds.dtype).expand(len(embeds), *self.embedding.shape)
        return torch.cat([virtual, embeds[:, self.number :]], dim=1)

    def _seen(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        mask, states = kwargs.get("encoder_attention_mask"), kwargs.get("encoder_hidden_states")
        if mask is None or states is None or mask.shape[1] == states.shape[1]:
            return args, kwargs
        return args, kwargs | {"encoder_attention_mask": self._wider(mask)}

    def _wider(self, mask: Tensor) -> Tensor:
        return torch.cat([mask.new_ones(len(mask), self.number), mask], dim=1)


class BesideTargets(Virtual):
    """Keys and values that every target sees beside its own, in each layer of the decoder, as if they had been written before it."""

    def __init__(self, layers: list[Prefix]) -> None:
        assert layers and layers[0].keys is not None, "a decoder without layers"
        super().__init__(layers[0].keys.shape[1])
        self.layers = nn.ModuleList(layers)

    def hook(self, network: PreTrainedModel) -> tuple[RemovableHandle, ...]:
        return (network.get_decoder().register_forward_pre_hook(self._begun, with_kwargs=True),)

    def _begun(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
        call = named(args, kwargs)
        if filled(call):
            return (), call
        tokens, mask = call["input_ids"], call.get("attention_mask")
        cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
        for number, layer in enumerate(self.layers):
            assert isinstance(layer, Prefix) and layer.keys is not None and layer.values is not None
            both = (tensor.expand(len(tokens), *tensor.shape) for tensor in (layer.keys, layer.values))
            cache.self_attention_cache.update(*both, number)
        if mask is not None:
            call["attention_mask"] = torch.cat([mask.new_ones(len(mask), self.number), mask], dim=1)
        return (), call | {cache_name(decoder): cache}


def target_prefixes(policy: Policy, ids: Tensor) -> list[Prefix]:
    """Return what the decoder's layers keep of these tokens when it reads them, behind a source of a few tokens. ids [1, P]"""
    network, source = policy.network, few_ids(policy)
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        read = network.get_encoder()(input_ids=source, attention_mask=torch.ones_like(source)).last_hidden_state
        decoder = network.get_decoder()
        decoder(input_ids=ids, encoder_hidden_states=read, use_cache=True, **{cache_name(decoder): cache})
    return [
        Prefix(*(nn.Parameter(tensor[0].clone(memory_format=torch.contiguous_format)) for tensor in (layer.keys, layer.values)))
        for layer in cache.self_attention_cache.layers
    ]
