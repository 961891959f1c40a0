"""The blocks of a network, found by watching one forward pass: what attends, and which linear layers lie before and after it.

So that techniques know no architecture by name. What is found is what ran; layers that share weights are found once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from whet.engine.attention import NAME, Attended, witnessed
from whet.models.policy import Policy

NUM_TOKENS = 6


@dataclass(frozen=True, slots=True)
class Attention:
    """One attending module of a block."""

    name: str
    keys_values: tuple[str, ...]
    """Linear layers that make keys or values and no queries; where one layer makes all three, that one."""
    output: str
    """The linear layer behind it."""
    key: Tensor
    value: Tensor
    """Of a few tokens. [1, H, T, d]"""


@dataclass(frozen=True, slots=True)
class Block:
    """One block, in the order in which blocks run."""

    name: str
    attentions: tuple[Attention, ...]
    linear: tuple[str, ...]
    """Linear layers in the order in which they run."""

    @property
    def feed_forward(self) -> str | None:
        """The last linear layer, which brings the inner width back; None where attention's own is the last."""
        last = self.linear[-1] if self.linear else None
        return None if last in {attention.output for attention in self.attentions} else last


@dataclass(frozen=True, slots=True)
class Outline:
    """A network as it ran."""

    blocks: tuple[Block, ...]
    above: tuple[str, ...]
    """Modules with parameters of their own that run after the last block: a last norm, an output head."""
    num_attended: int
    """Products of attention that went through the interface."""


@dataclass(frozen=True, slots=True)
class _Event:
    name: str
    output: Tensor | None
    attended: Attended | None


def outline(policy: Policy) -> Outline:
    """Run a few tokens through the network and return its blocks."""
    network = policy.network
    names = {module: name for name, module in network.named_modules()}
    owners = [module for module in names if next(module.parameters(recurse=False), None) is not None]
    events: list[_Event] = []
    with torch.enable_grad(), attending(policy), witnessed() as seen, contextlib.ExitStack() as hooks:

        def note(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            while len([event for event in events if event.attended]) < len(seen):
                attended = seen[len([event for event in events if event.attended])]
                events.append(_Event(names[attended.module], None, attended))
            if isinstance(output, Tensor) and not output.requires_grad:
                output.requires_grad_(True)
            events.append(_Event(names[module], output if isinstance(output, Tensor) else None, None))

        for module in owners:
            hooks.callback(module.register_forward_hook(note).remove)
        ids = few_ids(policy)
        more = {"decoder_input_ids": ids} if policy.kind == "encoder-decoder" else {}
        network(input_ids=ids, use_cache=False, **more)
        return _outline(events, {name: module for module, name in names.items()}, len(seen))


@contextlib.contextmanager
def attending(policy: Policy) -> Iterator[None]:
    """Within this, attention goes through this package's function, where the architecture has the interface."""
    network = policy.network
    before = network.config.get_text_config()._attn_implementation
    network.set_attn_implementation(NAME)
    try:
        yield
    finally:
        network.set_attn_implementation(before)


def few_ids(policy: Policy, number: int = NUM_TOKENS, seed: int = 0) -> Tensor:
    """Return tokens of the vocabulary, special ones left out where there are others. [1, T]"""
    special = set(policy.tokenizer.all_special_ids)
    usual = [index for index in sorted(policy.tokenizer.get_vocab().values()) if index not in special] or [0]
    drawn = torch.randint(len(usual), (number,), generator=torch.Generator().manual_seed(seed))
    return torch.tensor([[usual[index] for index in drawn.tolist()]], device=policy.device)


def block_name(name: str, modules: dict[str, nn.Module]) -> str | None:
    """Return the outermost element of a module list that a module lies in."""
    parts = name.split(".")
    for end in range(1, len(parts)):
        if isinstance(modules.get(".".join(parts[:end])), nn.ModuleList):
            return ".".join(parts[: end + 1])
    return None


def _outline(events: list[_Event], modules: dict[str, nn.Module], num_attended: int) -> Outline:
    blocks: dict[str, list[_Event]] = {}
    last = 0
    for index, event in enumerate(events):
        name = block_name(event.name, modules)
        if name is not None:
            blocks.setdefault(name, []).append(event)
            last = index
    above = [event.name for event in events[last + 1 :] if event.attended is None]
    return Outline(
        tuple(_block(name, inside, modules) for name, inside in blocks.items()), tuple(dict.fromkeys(above)), num_attended
    )


def _block(name: str, events: list[_Event], modules: dict[str, nn.Module]) -> Block:
    first_round: dict[tuple[str, bool], _Event] = {}
    for event in events:
        if event.attended is not None or isinstance(modules[event.name], (nn.Linear, Conv1D)):
            first_round.setdefault((event.name, event.attended is not None), event)
    once = list(first_round.values())
    attentions, start = [], 0
    for index, event in enumerate(once):
        if event.attended is not None:
            output = next((later.name for later in once[index + 1 :] if later.attended is None), "")
            makers = _makers(once[start:index], event.attended)
            attentions.append(Attention(event.name, makers, output, event.attended.key.detach(), event.attended.value.detach()))
            start = index + 2
    return Block(name, tuple(attentions), tuple(event.name for event in once if event.attended is None))


def _makers(before: list[_Event], attended: Attended) -> tuple[str, ...]:
    outputs = [event.output for event in before if event.output is not None]
    if not outputs:
        return ()
    made = [
        torch.autograd.grad(what.sum(), outputs, retain_graph=True, allow_unused=True)
        for what in (attended.query, attended.key, attended.value)
    ]
    kept = [
        event.name for event, key, value in zip(before, made[1], made[2], strict=True) if key is not None or value is not None
    ]
    queries = {event.name for event, query in zip(before, made[0], strict=True) if query is not None}
    alone = [name for name in kept if name not in queries]
    return tuple(alone or kept)


def pattern_of(names: list[str]) -> str:
    """Return a regular expression that matches these names and no others."""
    return f"^(?:{'|'.join(re.escape(name) for name in names)})$"
