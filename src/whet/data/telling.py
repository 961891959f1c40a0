"""How well the words of the texts tell a column's values: what makes one of several columns with few values the likeliest label."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from whet.data.labels import label_key

MOST = 1000  # texts looked at; more change the answer little
COUNTED = 300  # words of a text that count
_WORD = re.compile(r"\w+")


def told(texts: Sequence[str], values: Sequence[str]) -> float:
    """Return the agreement (Cohen's kappa, 0: chance, 1: always) of the values with what the words of their texts say.

    Each text is judged by a multinomial naive Bayes of all others, so that nothing is learnt by heart; of equal texts the first counts.
    """
    rows = dict(zip(texts[::-1], values[::-1], strict=True))
    every = max(1, len(rows) // MOST)
    kept = list(rows.items())[::every][:MOST]
    names = {name: place for place, name in enumerate(dict.fromkeys(label_key(value) for _, value in kept))}
    if len(names) < 2:
        return 0.0
    truth = np.array([names[label_key(value)] for _, value in kept])
    guessed = _guessed([text for text, _ in kept], truth, len(names))
    shares = [np.bincount(of, minlength=len(names)) / len(truth) for of in (truth, guessed)]
    chance = float(shares[0] @ shares[1])
    return 0.0 if chance == 1 else (float(np.mean(truth == guessed)) - chance) / (1 - chance)


def _guessed(texts: Sequence[str], truth: np.ndarray, num_classes: int) -> np.ndarray:
    """Return the class of each text by the others' words. [N] -> [N]"""
    places: dict[str, int] = {}
    bags = [
        np.array(sorted({places.setdefault(word, len(places)) for word in _WORD.findall(text.lower())[:COUNTED]}), dtype=np.int64)
        for text in texts
    ]
    counts = np.zeros((len(places), num_classes))  # [V, K]
    for bag, place in zip(bags, truth, strict=True):
        counts[bag, place] += 1
    words, rows = counts.sum(0), np.bincount(truth, minlength=num_classes).astype(float)  # [K]
    guessed = np.empty(len(texts), dtype=np.int64)
    for index, (bag, own) in enumerate(zip(bags, truth, strict=True)):
        seen = counts[bag]  # [W, K]
        total, prior = words.copy(), rows.copy()
        seen[:, own] -= 1
        total[own] -= len(bag)
        prior[own] -= 1
        scores = np.log(seen + 0.5).sum(0) - len(bag) * np.log(total + 0.5 * (len(places) + 1)) + np.log(prior + 1e-9)
        guessed[index] = int(scores.argmax())
    return guessed
