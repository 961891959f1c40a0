"""What the frozen lower part of a network makes of each row, computed once and kept, so that later epochs begin above it.

Rows that are not kept yet are computed together, as in any micro-batch. A row's bits do not depend on the rows beside it as long as products have a
few tokens to work on (LEAST), and whether that is so with this network on this machine is tried before anything is kept. So nothing that
is kept, or is not, changes a result.

Shapes: T tokens of a batch, t tokens of a row, D width, R rows, N places.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from whet.engine.cut import pack
from whet.engine.packed_attention import lowered
from whet.engine.state_store import StateStore, content_key
from whet.models.begun import Begun
from whet.models.blocks import outline
from whet.models.policy import Policy
from whet.types import Batch, Row

LEAST = 64
"""Tokens of a pass at the least, rows being repeated: of very few, torch's products take another way, with other sums."""
NUM_TRIED = 8
"""Rows that are tried."""


class _Reached(Exception):
    """The pass has come to the block that is asked for."""


@dataclass(frozen=True, slots=True)
class Bottom:
    """The part of a network that does not learn, from the input up."""

    blocks: tuple[str, ...]
    """Names of the lowest blocks that are frozen, with all below them."""
    num_blocks: int
    whole: bool
    """Nothing of the network learns: a head on top of it does."""
    next: str = ""
    """The name of the block that follows, where it is not whole."""


def frozen_bottom(policy: Policy) -> Bottom:
    """Return what of a policy is frozen, with its technique attached."""
    network = policy.network
    learning = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    found = outline(policy)
    blocks = tuple(block.name for block in found.blocks)
    if not learning:
        return Bottom(blocks, len(blocks), whole=True)
    lowest = len(blocks)
    for name in learning:
        inside = next((index for index, block in enumerate(blocks) if name.startswith(f"{block}.")), None)
        if inside is None and not any(name.startswith(f"{above}.") for above in found.above):
            return Bottom((), len(blocks), whole=False)
        lowest = lowest if inside is None else min(lowest, inside)
    if lowest == len(blocks):  # only what lies above all blocks learns
        lowest -= 1
    return Bottom(blocks[:lowest], len(blocks), whole=False, next=blocks[lowest])


def obstacle(policy: Policy) -> str:
    """Return why a policy's states cannot be kept, as the end of a sentence; nothing where they can."""
    if policy.kind == "encoder-decoder":
        return "rows of an encoder-decoder are padded"
    if not policy.ability.packs:
        return "rows of this architecture are padded"
    if policy.device.type != "cpu":
        return "an accelerator gives other bits in other company"
    if policy.num_virtual:
        return "virtual tokens that learn stand before every row"
    return ""


class Frozen:
    """The states of rows behind the frozen blocks of a policy."""

    def __init__(self, policy: Policy, bottom: Bottom, store: StateStore, rows: Iterable[Row]) -> None:
        """`rows` are those that come back; others are computed as always. What is kept is of the precision that products have now."""
        self.bottom, self.store, self.dtype = bottom, store, lowered()
        self.asked = self.computed = 0
        """Rows that were asked for, and those of them that had to be computed."""
        modules = dict(policy.network.named_modules())
        self.blocks = [modules[name] for name in bottom.blocks]
        self.known = {content_key("", row.ids) for row in rows}

    def states(self, policy: Policy, batch: Batch, places: Tensor | None = None) -> Tensor | None:
        """Return the last hidden states of a batch, all or some; None where it must be computed as always. [T, D] or [N, D]"""
        if not self._are_known(batch):
            return None
        if self.bottom.whole:
            (states,) = self._tokens(batch, lambda some: (policy.computed(some),))
            return states if places is None else states[places]
        begun = Begun(len(self.blocks), self._tokens(batch, lambda some: lower(policy, self.bottom, some)))
        if policy.fusion is not None:
            fused = policy.fusion.states(policy.network, batch, places, begun)
            if fused is not None:
                return fused
        with _passed(self.blocks, begun.carried[0]):
            states = policy.asked(batch)
        return states if places is None else states[places]

    def pooled(self, policy: Policy, batch: Batch) -> Tensor | None:
        """Return one vector per row where nothing of the network learns, of which only they are kept; else None. [R, D]"""
        if not self.bottom.whole or not self._are_known(batch):
            return None
        found = self._found(batch, "pooled", lambda some: [(one,) for one in policy.pool(some, policy.computed(some)).unbind()])
        return torch.stack([vector for (vector,) in found])

    def _are_known(self, batch: Batch) -> bool:
        same = batch.source is None and self.dtype == lowered()
        return same and all(content_key("", ids) in self.known for ids in torch.split(batch.ids, list(batch.lengths)))

    def _tokens(self, batch: Batch, make: Callable[[Batch], tuple[Tensor, ...]]) -> tuple[Tensor, ...]:
        """Return what is made of all tokens of a batch. [T, D] each"""

        def split(some: Batch) -> list[tuple[Tensor, ...]]:
            return list(zip(*(torch.split(one, list(some.lengths)) for one in make(some)), strict=True))

        return tuple(torch.cat(parts) for parts in zip(*self._found(batch, "states", split), strict=True))

    def _found(self, batch: Batch, kind: str, make: Callable[[Batch], list[tuple[Tensor, ...]]]) -> list[tuple[Tensor, ...]]:
        """Return what is kept of each row; what is not is made now, and kept where there is room."""
        rows = torch.split(batch.ids, list(batch.lengths))
        keys = [content_key(f"{kind} {self.dtype}", ids) for ids in rows]
        found = {key: kept for key in keys if (kept := self.store.get(key)) is not None}
        missing = {key: ids for key, ids in zip(keys, rows, strict=True) if key not in found}
        self.asked, self.computed = self.asked + len(rows), self.computed + len(missing)
        if missing:
            made = make(company(list(missing.values())))
            for key, tensors in zip(missing, made, strict=False):  # the last ones may be repeated
                found[key] = tensors
                self.store.put(key, tensors)
        return [found[key] for key in keys]


def company(rows: Sequence[Tensor]) -> Batch:
    """Return rows as a batch, the first ones repeated behind them until it has LEAST tokens."""
    all_rows, total, index = list(rows), sum(map(len, rows)), 0
    while total < LEAST:
        all_rows.append(rows[index % len(rows)])
        total, index = total + len(all_rows[-1]), index + 1
    return pack([Row(number, ids) for number, ids in enumerate(all_rows)])


def lower(policy: Policy, bottom: Bottom, batch: Batch) -> tuple[Tensor, ...]:
    """Return what stands behind the frozen blocks, as the next one reads it. [T, D] each"""
    with torch.enable_grad():  # as in a step: nothing here learns, and what scores alone would lay out its weights in another way
        fused = None if policy.fusion is None else policy.fusion.lower(policy.network, batch, len(bottom.blocks))
        if fused is not None:
            return fused
        caught: list[Tensor] = []

        def catch(module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
            caught.append(given[0] if given else named["hidden_states"])
            raise _Reached

        hook = policy.network.get_submodule(bottom.next).register_forward_pre_hook(catch, with_kwargs=True)
        try:
            policy.asked(batch)
        except _Reached:
            pass
        finally:
            hook.remove()
    return (caught[0][0],)


def why_not_kept(policy: Policy, bottom: Bottom, rows: Sequence[Row]) -> str:
    """Return why states of these rows cannot be kept, tried on some of them as products are computed now; nothing where they can.

    What is begun above the frozen blocks must be what is computed from the start, and a row alone what it is among others, to the bit.
    """
    by_length = sorted(rows, key=lambda row: len(row.ids))
    few = [by_length[round(place * (len(by_length) - 1) / (NUM_TRIED - 1))].ids for place in range(NUM_TRIED)]
    chosen = [ids for place, ids in enumerate(few) for _ in range(1 + place % 3)]  # rows of one length may be attended together
    try:
        with torch.enable_grad():
            batch = company(chosen)
            plain = policy.computed(batch).detach()
            begun = Frozen(policy, bottom, StateStore(0), rows).states(policy, batch)
            if begun is None or begun.shape != plain.shape or not torch.equal(begun.detach(), plain):
                return "what is begun above the frozen blocks is not to the bit what is computed from the start"
            for ids, among in zip(chosen, torch.split(_bottom_of(policy, bottom, batch), list(batch.lengths)), strict=False):
                alone = _bottom_of(policy, bottom, company([ids]))[: len(ids)]
                if not torch.equal(alone, among):
                    return "on this machine a row's bits depend on the rows beside it"
    except (RuntimeError, TypeError, ValueError, IndexError, KeyError, AttributeError) as error:
        return f"it could not be asked so ({next(iter(str(error).splitlines()), type(error).__name__)[:120]})"
    return ""


def _bottom_of(policy: Policy, bottom: Bottom, batch: Batch) -> Tensor:
    """Return the states behind what is frozen, all of them beside each other. [T, D or more]"""
    made = (policy.computed(batch),) if bottom.whole else lower(policy, bottom, batch)
    return torch.cat([one.detach().float() for one in made], dim=-1)


@contextlib.contextmanager
def _passed(blocks: Sequence[nn.Module], states: Tensor) -> Iterator[None]:
    """Within this, these blocks give the states that are known already. [T, D]"""
    before = [vars(block).get("forward") for block in blocks]
    try:
        for block in blocks:
            block.forward = lambda *given, **named: states[None]
        yield
    finally:
        for block, own in zip(blocks, before, strict=True):
            del block.forward
            if own is not None:
                block.forward = own
