"""Examples in the prompt: which training rows are shown before a question, and as many of them as fit.

Shapes: N questions, M training rows.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor

from whet.engine.embed import nearest, neighbours, same_texts, unit_vectors
from whet.engine.order import permutation
from whet.errors import DataError
from whet.models.policy import Policy
from whet.models.template import encode_chat, prompt_ids
from whet.types import Example, Message

Choose = Literal["similar", "fixed"]
WORD = re.compile(r"\w+")


def exchange(example: Example) -> tuple[Message, Message]:
    """Return a row's last question and its answer, as it is shown before others."""
    assert example.prompt and example.response is not None, f"row {example.id} has no question with an answer"
    return Message("user", question(example)), Message("assistant", example.response)


def question(example: Example) -> str:
    """Return the last turn before the answer."""
    return example.prompt[-1].content if example.prompt else ""


def drawn(examples: Sequence[Example], train: Sequence[Example], number: int, seed: int) -> list[list[int]]:
    """Return the places of the same seeded draw of training rows for every example, but its own: there the next one follows."""
    own = same_texts(examples, train)
    most = max((len(places) for places in own.values()), default=0)
    order = permutation(seed, 2, len(train))[: number + most].tolist()
    return [[place for place in order if place not in own.get(at, ())][:number] for at in range(len(examples))]


def nearest_by_meaning(embedder: Policy, examples: Sequence[Example], train: Sequence[Example], number: int) -> list[list[int]]:
    """Return the places of the training rows whose questions have the nearest embeddings, the nearest first; never the same question."""
    asked, known = ([_as_text(example) for example in some] for some in (examples, train))
    ours, theirs = (unit_vectors(embedder, some, embedder.context)[0] for some in (asked, known))
    return [places for places, _ in neighbours(ours, theirs, number, same_texts(examples, train))]


def nearest_by_words(examples: Sequence[Example], train: Sequence[Example], number: int) -> list[list[int]]:
    """Return the places of the training rows whose questions share most words, rare ones counting more (the cosine of TF-IDF)."""
    words = {word: place for place, word in enumerate(sorted({word for one in train for word in _words(one)}))}
    holding = Counter(word for one in train for word in set(_words(one)))
    weights = np.array([math.log((1 + len(train)) / (1 + holding[word])) + 1 for word in words])
    ours, theirs = (_weighted(some, words, weights) for some in (examples, train))

    def similar(begin: int, end: int) -> Tensor:
        return torch.from_numpy((ours[begin:end] @ theirs.T).toarray())

    return [places for places, _ in nearest(similar, len(examples), number, same_texts(examples, train))]


def shown(policy: Policy, example: Example, chosen: Sequence[Example], max_new_tokens: int) -> Example:
    """Return the example with as many of the chosen rows before it as fit into the context, the first of them next to its question.

    What is left out is the last of them, the furthest. Liu et al. 2022 (arXiv:2101.06804), section 3, for the order.
    """
    for number in range(len(chosen), 0, -1):
        turns = tuple(turn for one in reversed(chosen[:number]) for turn in exchange(one))
        candidate = replace(example, shots=turns)
        if _fits(policy, candidate, max_new_tokens):
            return candidate
    return example


def _fits(policy: Policy, example: Example, max_new_tokens: int) -> bool:
    """Whether question and answer fit; not where the template refuses so many turns."""
    try:
        whole = len(encode_chat(policy.tokenizer, example.turns).ids)
        asked = len(prompt_ids(policy.tokenizer, example.prompt or ()))
    except DataError:
        return False
    return max(whole, asked + max_new_tokens) <= policy.context


def _as_text(example: Example) -> Example:
    return Example(id=example.id, file=example.file, line=example.line, text=question(example) or " . ")


def _words(example: Example) -> list[str]:
    found: list[str] = WORD.findall(question(example).casefold())
    return found


def _weighted(examples: Sequence[Example], words: dict[str, int], weights: np.ndarray) -> csr_array:
    """Return a row of length 1 for each example; one without a known word is 0 everywhere. [N, words]"""
    rows, columns, values = [], [], []
    for place, example in enumerate(examples):
        counts = Counter(word for word in _words(example) if word in words)
        length = math.sqrt(sum((count * weights[words[word]]) ** 2 for word, count in counts.items()))
        for word, count in sorted(counts.items()):
            rows.append(place)
            columns.append(words[word])
            values.append(count * weights[words[word]] / length)
    return csr_array((values, (rows, columns)), shape=(len(examples), len(words)))
