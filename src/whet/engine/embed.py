"""Texts as vectors: their rows and pooled states, class centroids, and the training rows nearest to a text.

Shapes: N texts, M training rows, D width.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from whet.engine.answers import numbered
from whet.engine.fields import missing, require
from whet.engine.order import permutation
from whet.models.policy import Policy
from whet.types import Example, Row

MOST_SOUGHT = 5000
"""Training rows up to which neighbours are always sought among all of them: about a minute's work at most."""
BLOCK = 256
"""Queries whose similarities are held at a time."""
CLOSEST = 1e-12
"""Squared distance below which two texts are as near as can be."""

ONE_LABEL = (
    "accuracy",
    "macro_f1",
    "macro_precision",
    "macro_recall",
    "weighted_f1",
    "weighted_precision",
    "weighted_recall",
    "matthews_correlation",
    "auroc",
    "calibration_error",
    "brier",
)
"""Metrics of an objective that gives one label with its probabilities."""


def plain_rows(examples: Sequence[Example], policy: Policy, max_length: int) -> list[Row]:
    """Return the tokens of each text, of a pair both texts. Raises DataError where an example has no text."""
    require(examples, ("text",))
    texts = [example.text for example in examples]
    pairs = [example.text_pair for example in examples] if any(example.text_pair for example in examples) else None
    if not texts:
        return []
    encoded = policy.tokenizer(texts, pairs, truncation=True, max_length=max_length, verbose=False)["input_ids"]
    for example, ids in zip(examples, encoded, strict=True):
        if not ids:
            raise missing(example, "text")
    return [Row(example.id, torch.tensor(ids)) for example, ids in zip(examples, encoded, strict=True)]


def pooled_vectors(policy: Policy, rows: Sequence[Row]) -> Tensor:
    """Return each row's pooled vector, without gradient, on the processor. [N, D]"""
    found = torch.empty(len(rows), policy.width)
    with torch.no_grad():
        for batch in numbered(rows, policy.max_tokens):
            found[list(batch.row_ids)] = policy.pooled(batch.to(policy.device)).cpu().float()
    return found


def unit_vectors(policy: Policy, examples: Sequence[Example], max_length: int) -> tuple[Tensor, Tensor]:
    """Return the texts as unit vectors [N, D], and the length each had [N]."""
    found = pooled_vectors(policy, plain_rows(examples, policy, max_length))
    return nn.functional.normalize(found, dim=-1), found.norm(dim=-1)


def few_of_each(examples: Sequence[Example], per_class: int) -> list[Example]:
    """Return the first rows of each label, in order."""
    taken: Counter[str | None] = Counter()
    chosen = []
    for example in examples:
        if taken[example.label] < per_class:
            taken[example.label] += 1
            chosen.append(example)
    return chosen


def centroids(examples: Sequence[Example], vectors: Tensor) -> dict[str, Tensor]:
    """Return each label's mean vector, as a unit vector. [D] each"""
    members: dict[str, list[int]] = {}
    for number, example in enumerate(examples):
        members.setdefault(example.label or "", []).append(number)
    return {label: nn.functional.normalize(vectors[rows].mean(0), dim=0) for label, rows in sorted(members.items())}


def asked_rows(train: Sequence[Example], num_asked: int) -> list[Example]:
    """Return the training rows that neighbours are sought among: all, or of very many a fixed draw, so that it stays a third of the work."""
    most = max(num_asked, MOST_SOUGHT)
    return [train[place] for place in sorted(permutation(0, 0, len(train))[:most].tolist())]


def nearest(
    similar: Callable[[int, int], Tensor], num_queries: int, number: int, barred: Mapping[int, Sequence[int]]
) -> list[tuple[list[int], list[float]]]:
    """Return the places of what is most similar to each query, the most similar first, and the similarities.

    `similar(begin, end)` gives those of some queries to everything, [end - begin, M]; of equal ones the first come first. `barred` are
    the places that a query must not be answered by.
    """
    found: list[tuple[list[int], list[float]]] = []
    for begin in range(0, num_queries, BLOCK):
        block = similar(begin, min(begin + BLOCK, num_queries))
        for row in range(len(block)):
            block[row, list(barred.get(begin + row, ()))] = -torch.inf
        near, places = block.sort(dim=-1, descending=True, stable=True)
        for some, at in zip(near[:, :number], places[:, :number], strict=True):
            kept = some > -torch.inf
            found.append((at[kept].tolist(), some[kept].tolist()))
    return found


def neighbours(
    queries: Tensor, keys: Tensor, number: int, barred: Mapping[int, Sequence[int]] = MappingProxyType({})
) -> list[tuple[list[int], list[float]]]:
    """Return the places of each query's nearest keys, the nearest first, and what their votes weigh. [N, D], [M, D]

    All are unit vectors; a vote weighs the inverse of its distance, and the votes of a query add up to 1.
    """
    wide = keys.double()
    found = nearest(lambda begin, end: queries[begin:end].double() @ wide.T, len(queries), number, barred)
    return [(places, _votes(similar)) for places, similar in found]


def _votes(similar: Sequence[float]) -> list[float]:
    votes = [1 / math.sqrt(max(2 - 2 * one, CLOSEST)) for one in similar]
    return [vote / sum(votes) for vote in votes]


def voters(
    vectors: Tensor, keys: Tensor, examples: Sequence[Example], asked: Sequence[Example], number: int
) -> list[list[tuple[Example, float]]]:
    """Return, for each example, the rows nearest to it and what their votes weigh. Unit vectors of examples [N, D] and rows [M, D]

    A row of the same text is never among them: it may be the example itself.
    """
    found = neighbours(vectors, keys, number, same_texts(examples, asked))
    return [[(asked[place], weight) for place, weight in zip(*near, strict=True)] for near in found]


def by_centroid(base: Policy, vectors: Tensor, train: Sequence[Example], per_class: int, max_length: int) -> list[str]:
    """Return the label whose mean embedding over a few training rows is nearest to each vector. [N, D]"""
    few = few_of_each(train, per_class)
    of_class = centroids(few, unit_vectors(base, few, max_length)[0])
    names, nearest = list(of_class), vectors @ torch.stack(list(of_class.values())).T  # [N, K] cosines
    return [names[index] for index in nearest.argmax(-1).tolist()]


def shares(names: Sequence[str], cast: Sequence[tuple[Sequence[str], float]]) -> dict[str, float]:
    """Return the share of the votes that each name gets; a vote may be for several."""
    found = dict.fromkeys(names, 0.0)
    for chosen, weight in cast:
        for name in chosen:
            found[name] += weight
    return found


def same_texts(asked: Sequence[Example], known: Sequence[Example]) -> dict[int, list[int]]:
    """Return, for each example whose text is among the known ones too, whatever its case and spaces, at which places."""
    places: dict[str, list[int]] = {}
    for place, example in enumerate(known):
        places.setdefault(_key(example), []).append(place)
    return {number: places[key] for number, key in enumerate(map(_key, asked)) if key in places}


def _key(example: Example) -> str:
    turns = [turn.content for turn in example.prompt or () if turn.role != "system"]
    said = turns or [example.text or "", example.text_pair or ""]
    return "\n".join(" ".join(text.casefold().split()) for text in said)
