"""Gradients of embeddings that learn, made once a step and not once a micro-batch.

The gradient of a table of [V, D] is as large as the table, and all zeros but for the rows of the tokens that were looked up. Made by each
backward pass and added up, it is most of what a further micro-batch of a small encoder costs. So the backward passes of a step keep what
they would add, and it is added at the end: where another layer shares the table, such as a tied output layer, to that layer's gradient.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class Lookups:
    """The tables of a network on the processor that learn, and what is looked up in them."""

    def __init__(self, network: nn.Module) -> None:
        self._tables = [module for module in network.modules() if type(module) is nn.Embedding and _is_plain(module)]

    @contextmanager
    def together(self) -> Iterator[Waiting]:
        """Make these tables' gradients at the end, of all backward passes within. Until then they have none of a lookup, and
        `torch.autograd.grad` finds none. Call `settle` of what this gives between two backward passes.
        """
        kept = Waiting(max((table.num_embeddings for table in self._tables), default=0))
        try:
            for table in self._tables:
                table.__class__, table.kept = _Noted, kept  # type: ignore[assignment]
            yield kept
        finally:
            for table in self._tables:
                vars(table).pop("kept", None)
                table.__class__ = nn.Embedding
        kept.add()


class Waiting:
    """What backward passes would add to tables: which, at which rows, and the gradients of these."""

    def __init__(self, most: int) -> None:
        self.most, self.rows = most, 0
        self.notes: list[tuple[Tensor, Tensor, Tensor]] = []

    def note(self, weight: Tensor, ids: Tensor, rows: Tensor) -> None:
        self.notes.append((weight, ids, rows))
        self.rows += len(ids)

    def settle(self) -> None:
        """Add what waits where it is more than `most` rows, so that a step of many takes no more memory for it.

        Not for within a backward pass: a table whose block is computed again there would get its sums in another order.
        """
        if self.rows > self.most:
            self.add()

    def add(self) -> None:
        for weight, ids, rows in self.notes:
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            weight.grad.index_add_(0, ids, rows)  # row after row, so to the same bits
        self.notes, self.rows = [], 0


class _Noted(nn.Embedding):
    """A table whose lookups are noted in `kept`."""

    kept: Waiting

    def forward(self, input: Tensor) -> Tensor:
        found: Tensor = _Lookup.apply(self.weight, input, self.padding_idx, self.kept)  # type: ignore[no-untyped-call]
        return found


class _Lookup(torch.autograd.Function):
    """Rows of a table, which is given no gradient."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, ids: Tensor, unlearnt: int | None, kept: Waiting) -> Tensor:
        ctx.weight, ctx.ids, ctx.unlearnt, ctx.kept = weight, ids, unlearnt, kept
        return nn.functional.embedding(ids, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, None, None, None]:
        ids, rows = ctx.ids.reshape(-1), gradient.reshape(-1, gradient.shape[-1])
        if ctx.unlearnt is not None:
            learnt = ids != ctx.unlearnt
            ids, rows = ids[learnt], rows[learnt]
        ctx.kept.note(ctx.weight, ids, rows)
        return None, None, None, None


def _is_plain(table: nn.Embedding) -> bool:
    """Whether it learns, and nobody has given it another way to look up or to learn."""
    if "forward" in vars(table) or "weight" not in table._parameters:
        return False
    weight = table.weight
    watched = bool(weight._backward_hooks) or bool(weight._post_accumulate_grad_hooks)
    usual = table.max_norm is None and not table.sparse and not table.scale_grad_by_freq
    whole = type(weight.data) is Tensor  # and no share of one, whose gradients are summed over devices within the backward pass
    return weight.requires_grad and weight.device.type == "cpu" and whole and usual and not watched
