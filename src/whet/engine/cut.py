"""Cuts the rows of a step into packed micro-batches, by tokens. Rows of one unit stay together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch

from whet.types import Batch, Row, Unit


def cut(units: Iterable[Unit], max_tokens: int) -> Iterator[Batch]:
    """Yield packed batches of at most `max_tokens` tokens each, sources counted too; a unit that is longer is a batch of its own, and so is a task.

    Rows are laid by length, so that neighbours of equal length share one dense attention product. Sums do not depend on it.
    """
    ordered = sorted(units, key=lambda unit: (unit[0].task, _longest(unit)))
    held: list[Unit] = []
    size = 0
    for unit in ordered:
        tokens = sum(row.num_tokens for row in unit)
        if held and (size + tokens > max_tokens or unit[0].task != held[0][0].task):
            yield pack([row for group in held for row in group])
            held, size = [], 0
        held.append(unit)
        size += tokens
    if held:
        yield pack([row for group in held for row in group])


def pack(rows: Sequence[Row]) -> Batch:
    """Return the rows end to end. All rows carry the same named fields, and all have a source or none."""
    lengths = tuple(len(row.ids) for row in rows)
    weights: dict[str, float] = {}
    for row in rows:
        for term, weight in row.weights.items():
            weights[term] = weights.get(term, 0.0) + weight
    first, sources = rows[0], [row.source for row in rows if row.source is not None]
    assert len(sources) in {0, len(rows)}, "some rows of a batch have a source, and some have none"
    return Batch(
        ids=torch.cat([row.ids for row in rows]),
        positions=torch.cat([torch.arange(length) for length in lengths]),
        lengths=lengths,
        row_ids=tuple(row.id for row in rows),
        tokens={name: torch.cat([row.tokens[name] for row in rows]) for name in first.tokens},
        scalars={name: torch.tensor([row.scalars[name] for row in rows]) for name in first.scalars},
        vectors={name: torch.stack([row.vectors[name] for row in rows]) for name in first.vectors},
        weights=weights,
        source=torch.cat(sources) if sources else None,
        source_lengths=tuple(len(source) for source in sources),
        task=first.task,
    )


def total_weights(batches: Iterable[Batch]) -> dict[str, float]:
    """Return, per loss term, what the sums of these micro-batches are divided by."""
    total: dict[str, float] = {}
    for batch in batches:
        for term, weight in batch.weights.items():
            total[term] = total.get(term, 0.0) + weight
    return total


def _longest(unit: Unit) -> int:
    return max(row.num_tokens for row in unit)
