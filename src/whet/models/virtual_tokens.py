"""Virtual tokens before every row: callers pass and get what they would without them.

They lie in the network as its child `virtual_tokens`, which hooks into the network's body. The real tokens' positions begin behind
them. Where attention goes through the interface they are keys and values beside a row's own, in each layer, so that packing,
padding and a cache of keys and values know nothing of them. Else they are put before the rows' embeddings and taken off the states.

Shapes: R rows, T tokens, P virtual tokens, H heads, d width of a head, D width of the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from whet.engine.attention import NAME, PREFIX, Prefix, packed, packed_lengths, witnessed
from whet.errors import ModelError
from whet.models.blocks import Attention, few_ids, outline
from whet.models.key_values import cache_in
from whet.models.policy import Policy

CHILD = "virtual_tokens"
TOLERANCE = 1e-4
"""Largest change by another way of computing attention, over the spread of the output."""
SHORTEST = 8
"""Tokens that are left for rows at least: a word or two between the tokens that stand around every row."""


class Virtual(nn.Module):
    """Virtual tokens of a network, which they hook into."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.handles: tuple[RemovableHandle, ...] = ()

    def hook(self, network: PreTrainedModel) -> tuple[RemovableHandle, ...]:
        """Hook into the network, and return what takes the hooks out."""
        raise NotImplementedError


class Shift(Virtual):
    """Moves the positions of the real tokens behind `number` virtual ones. `first` is the first token's where there are none."""

    def __init__(self, number: int, *, given: bool, first: int = 0) -> None:
        super().__init__(number)
        self.given, self.first = given, first

    def hook(self, network: PreTrainedModel) -> tuple[RemovableHandle, ...]:
        body = network.base_model
        before = body.register_forward_pre_hook(self.before, with_kwargs=True)
        return before, body.register_forward_hook(self.after, with_kwargs=True)

    def before(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Change what the body is called with."""
        return (), self.moved(named(args, kwargs))

    def after(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        """Change what the body gives."""
        return output

    def moved(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the call with positions from P on. An encoder whose positions cannot be given keeps its own."""
        positions = kwargs.get("position_ids")
        if positions is None:
            if not self.given:
                return kwargs
            tokens = kwargs["input_ids"] if kwargs.get("input_ids") is not None else kwargs["inputs_embeds"]
            past = filled(kwargs)
            positions = torch.arange(past, past + tokens.shape[1], device=tokens.device)[None] + self.first
        return kwargs | {"position_ids": positions + self.number}


class Beside(Shift):
    """Virtual tokens of a causal network. What they compute depends on nothing behind them: keys and values, once for all rows."""

    def __init__(self, embedding: nn.Parameter, layers: Sequence[Prefix]) -> None:
        super().__init__(len(embedding), given=True)
        self.embedding = embedding  # [P, D]
        self.layers = tuple(layers)
        self.running = False
        self.made_of: Tensor | None = None
        self.made_in: tuple[bool, torch.dtype] | None = None

    def before(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if self.running:
            return args, kwargs
        self._fill(body)
        return (), self.moved(named(args, kwargs))

    def after(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if not self.running and self.made_of is None:
            self._clear()  # they hold the graph of this pass
        return output

    def _fill(self, body: nn.Module) -> None:
        kind = self.embedding.device.type
        made_in = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        learns = torch.is_grad_enabled()
        if not learns and self.made_of is not None and self.made_in == made_in and torch.equal(self.made_of, self.embedding):
            return
        self._clear()
        rows = packed((self.number,)) if packed_lengths() is not None else contextlib.nullcontext()
        self.running = True
        try:
            with rows, witnessed() as seen:
                positions = torch.arange(self.number, device=self.embedding.device)[None]
                body(inputs_embeds=self.embedding[None], position_ids=positions, use_cache=False)
        finally:
            self.running = False
        for attended in seen:
            held = attended.module.get_submodule(PREFIX)
            assert isinstance(held, Prefix)
            held.keys, held.values = attended.key[0], attended.value[0]
        if not learns:
            self.made_of, self.made_in = self.embedding.detach().clone(), made_in

    def _clear(self) -> None:
        self.made_of = None
        for layer in self.layers:
            layer.keys = layer.values = None


class Inserted(Shift):
    """Virtual tokens that see the row they stand before, as in an encoder: part of the sequence, but for the caller."""

    def __init__(self, embedding: nn.Parameter, first: int = 0) -> None:
        super().__init__(len(embedding), given=False, first=first)
        self.embedding = embedding  # [P, D]
        self.rows: contextlib.ExitStack | None = None
        self.kept: Tensor | None = None

    def before(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        call = named(args, kwargs)
        ids, mask = call.pop("input_ids"), call.get("attention_mask")
        if mask is not None:
            call["attention_mask"] = torch.cat([mask.new_ones(len(mask), self.number), mask], dim=1)
        if filled(call):
            return (), self.moved(call | {"input_ids": ids})
        lengths, positions = packed_lengths(), call.get("position_ids")
        embeds = body.get_input_embeddings()(ids)  # type: ignore[operator]
        own = self.embedding.to(embeds.dtype)
        if lengths is None:
            embeds = torch.cat([own.expand(len(ids), *own.shape), embeds], dim=1)
            if positions is not None:
                first = torch.arange(self.number, device=ids.device).expand(len(positions), self.number)
                call["position_ids"] = torch.cat([first, positions + self.number], dim=1)
            return (), call | {"inputs_embeds": embeds}
        longer = [length + self.number for length in lengths]
        parts = [part for row in torch.split(embeds[0], list(lengths)) for part in (own, row)]
        call["position_ids"] = torch.cat([torch.arange(length, device=ids.device) for length in longer])[None] + self.first
        self.kept = torch.cat([torch.arange(length, device=ids.device) >= self.number for length in longer])
        self.rows = contextlib.ExitStack()
        self.rows.enter_context(packed(tuple(longer)))
        return (), call | {"inputs_embeds": torch.cat(parts)[None]}

    def after(self, body: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> Any:
        if self.rows is not None and self.kept is not None:
            self.rows.close()
            output.last_hidden_state = output.last_hidden_state[:, self.kept]
            self.rows = self.kept = None
        elif kwargs.get("inputs_embeds") is not None:
            output.last_hidden_state = output.last_hidden_state[:, self.number :]
        return output


def put(policy: Policy, tokens: Virtual) -> None:
    """Hook the virtual tokens into the network."""
    tokens.handles = tokens.hook(policy.network)
    policy.network.add_module(CHILD, tokens)
    policy.num_virtual = tokens.number


def take(policy: Policy) -> None:
    """Take the virtual tokens out of the network again, and every layer's keys and values."""
    tokens = there(policy)
    for handle in tokens.handles:
        handle.remove()
    policy.network._modules.pop(CHILD)
    for module in policy.network.modules():
        if isinstance(module._modules.get(PREFIX), Prefix):
            module._modules.pop(PREFIX)
    policy.num_virtual = 0


def are_there(policy: Policy) -> bool:
    """Whether the network has virtual tokens."""
    return CHILD in policy.network._modules


def check_room(policy: Policy, number: int, technique: str) -> None:
    """Raise ModelError where virtual tokens leave no context for even the shortest row."""
    context = policy.context + policy.num_virtual
    if number > (most := max(1, context - SHORTEST)):
        raise ModelError(
            f"{technique}: length {number} leaves {max(0, context - number)} of the model's context of {context} tokens, and rows stand behind "
            f"it. Allowed: 1 to {most}."
        )


def there(policy: Policy) -> Virtual:
    """Return the virtual tokens of a network that has some."""
    tokens = policy.network.get_submodule(CHILD)
    assert isinstance(tokens, Virtual)
    return tokens


def attending_layers(policy: Policy) -> tuple[Attention, ...]:
    """Return the layers whose attention goes through this package's function, in order; from now on it does. None where none can."""
    found = tuple(attention for block in outline(policy).blocks for attention in block.attentions)
    if not found:
        return ()
    ids = few_ids(policy)
    with torch.no_grad():
        before = policy.network.base_model(input_ids=ids, use_cache=False).last_hidden_state
        policy.network.set_attn_implementation(NAME)
        after = policy.network.base_model(input_ids=ids, use_cache=False).last_hidden_state
    if not float((after - before).abs().max() / before.std()) <= TOLERANCE:
        raise ModelError(
            f"{policy.source.name}: its attention gives other numbers through transformers' interface, so that virtual tokens "
            "cannot be put into it. Use technique 'lora'."
        )
    return found


def put_prefix(policy: Policy, name: str, prefix: Prefix) -> Prefix:
    """Give an attending module keys and values that every row sees."""
    policy.network.get_submodule(name).add_module(PREFIX, prefix)
    return prefix


def virtual_ids(policy: Policy, number: int, text: str | None, seed: int) -> Tensor:
    """Return the tokens that virtual ones begin as: those of a text, repeated as often as needed, or drawn ones. [1, P]"""
    if text is None:
        return few_ids(policy, number, seed)
    ids: Sequence[int] = policy.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] or [0]
    return torch.tensor([[ids[index % len(ids)] for index in range(number)]], device=policy.device)


def named(args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Return a call of a network's body by names; only the tokens are ever passed by place."""
    return ({"input_ids": args[0]} if args else {}) | kwargs


def filled(kwargs: dict[str, Any]) -> int:
    """Return how many tokens the cache of a call holds."""
    cache = cache_in(kwargs)
    return 0 if cache is None else int(cache.get_seq_length())
