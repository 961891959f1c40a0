"""What is suggested: learnt in the background from what people have said so far, on embeddings that are made once.

Nearest centroids while a label has few rows, logistic regression from then on (`ENOUGH` rows a label). N rows, D width, K labels.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from whet.annotation.answers import Guess
from whet.annotation.consensus import USED, outcome
from whet.annotation.desk import Desk
from whet.annotation.items import Item, text_of
from whet.annotation.kinds import Kind, words_of
from whet.annotation.phrases import Phrases
from whet.engine.label_noise import LabelNoise, find_label_noise
from whet.engine.logistic import fit_logistic

SOURCE = "your labels"
LEARNT: tuple[Kind, ...] = ("label", "labels", "rating")
"""Kinds whose answers can be foreseen from a text's embedding."""
CHUNK = 256
ENOUGH = 8
PENALTY = 0.3
SHARPNESS = 16.0
"""What cosines are multiplied by to become the centroids' confidence."""
MOST_LEARNT = 10_000
"""Rows that are learnt from at most, the latest: more no longer change a suggestion, and would keep the page waiting for it."""
NUM_LIKELY = 9

Embed = Callable[[Sequence[str]], Tensor]
"""Texts as unit vectors, [N, D]."""


class Model(Protocol):
    """A trained model that guesses."""

    @property
    def source(self) -> str: ...

    def guess(self, items: Sequence[Item]) -> list[Guess]:
        """Return what it says of rows."""
        ...


class Suggester:
    """The background thread of a desk."""

    def __init__(self, desk: Desk, embedder: Callable[[], tuple[str, Embed]] | None, models: Sequence[Model] = ()) -> None:
        """`embedder` loads what embeds, and says which model it is; it is called in the thread, since it takes a while.

        Without one nothing is learnt, and only `models` suggest.
        """
        self._desk, self._embedder, self._models = desk, embedder, models
        self._wake, self._ended = threading.Event(), threading.Event()
        self._vectors = torch.empty(0)
        self._items: list[Item] = []
        self._likely: dict[str, tuple[str, ...]] = {}
        self._thread = threading.Thread(target=self._work, name="whet suggestions", daemon=True)
        self.fault: Exception | None = None
        """What ended the thread, if anything did; people go on without suggestions."""

    def start(self) -> None:
        """Begin."""
        self._desk.likely = lambda key: self._likely.get(key, ())
        self._desk.on_answer = self._wake.set
        self._thread.start()

    def stop(self) -> None:
        """End, once what is being computed is done."""
        self._ended.set()
        self._wake.set()
        self._thread.join(timeout=30)

    def _work(self) -> None:
        try:
            self._items = list(self._desk.queue.items.values())
            for model in self._models:
                self._ask(model)
            if self._embedder is None:
                return
            if self._desk.job.kind != "spans":
                self._embed()
            if self._desk.queue.review and self._desk.job.kind == "label" and not self._ended.is_set():
                self._suspect()
            learnt = -1
            while not self._ended.is_set():
                known = self._known()
                if len(known) != learnt and len(set(map(repr, known.values()))) > 1:
                    self._learn(known)
                    learnt = len(known)
                self._wake.wait()
                self._wake.clear()
        except Exception as error:  # suggestions are a help, and people go on labelling without
            self.fault = error
            self._tell(f"no suggestions ({type(error).__name__})")

    def _ask(self, model: Model) -> None:
        """Ask a model about every row that it has not been asked about, and keep what it says."""
        desk = self._desk
        asked = {guess.key for guess in desk.store.guesses() if guess.source == model.source}
        open_rows = [item for item in self._items if item.key not in asked]
        for begin in range(0, len(open_rows), CHUNK):
            if self._ended.is_set():
                return
            self._tell(f"asking {model.source}, {begin:,} of {len(open_rows):,} rows")
            guesses = model.guess(open_rows[begin : begin + CHUNK])
            desk.store.put_guesses(guesses)
            with desk.lock:
                desk.queue.tell_guesses(guesses)
                desk.queue.arrange()
        self._tell("")

    def _embed(self) -> None:
        """Make what embeddings are missing, and keep them."""
        assert self._embedder is not None
        name, embed = self._embedder()
        desk = self._desk
        kept = {key: np.frombuffer(blob, np.float32) for key, blob in desk.store.vectors(name).items()}
        missing = [item for item in self._items if item.key not in kept]
        for begin in range(0, len(missing), CHUNK):
            if self._ended.is_set():
                return
            self._tell(f"reading {begin:,} of {len(missing):,} rows for suggestions")
            some = missing[begin : begin + CHUNK]
            made = embed([text_of(item.content) or " " for item in some]).float().numpy()
            found = {item.key: vector for item, vector in zip(some, made, strict=True)}
            desk.store.put_vectors(name, {key: vector.astype(np.float32).tobytes() for key, vector in found.items()})
            kept.update(found)
        self._vectors = torch.from_numpy(np.stack([kept[item.key] for item in self._items]))
        self._tell("")

    def _suspect(self) -> None:
        """Look for labels of the file that are probably wrong."""
        rows = [place for place, item in enumerate(self._items) if item.given is not None]
        labels = [str(self._items[place].given) for place in rows]
        if len(set(labels)) < 2:
            return

        def told(done: int, folds: int) -> None:
            self._tell(f"looking for wrong labels, {done} of {folds}")

        found = find_label_noise(self._vectors[rows], labels, told=told)
        self._take(rows, found)
        self._tell(f"{found.num_wrong:,} labels look wrong")

    def _take(self, rows: Sequence[int], found: LabelNoise) -> None:
        desk, keys = self._desk, [self._items[place].key for place in rows]
        best = found.probabilities.max(-1).values.tolist()
        guesses = [
            Guess(key, "other rows like it", name, sure) for key, name, sure in zip(keys, found.suggested, best, strict=True)
        ]
        with desk.lock:
            self._likely.update(self._ranked(keys, found.probabilities, found.classes))
            desk.queue.suspicion = {key: -margin for key, margin in zip(keys, found.margins, strict=True)}
            desk.queue.tell_guesses(guesses)
            desk.queue.arrange()

    def _known(self) -> dict[int, Any]:
        """Return by place what each row's answer is, the latest rows; what the file says counts where nobody reviews it."""
        desk, kind = self._desk, self._desk.job.kind
        if kind not in LEARNT and kind != "spans":
            return {}
        with desk.lock:
            settled = {
                key: outcome(kind, desk.queue.said.get(key, {}), desk.queue.settled.get(key))
                for key in {*desk.queue.said, *desk.queue.settled}
            }
            review = desk.queue.review
        found: dict[int, tuple[float, Any]] = {}
        for place, item in enumerate(self._items):
            one = settled.get(item.key)
            if one is not None and one.how in USED:
                found[place] = (one.time, one.value)
            elif item.given is not None and not review:
                found[place] = (0.0, item.given)
        latest = sorted(found, key=lambda place: found[place][0])[-MOST_LEARNT:]
        return {place: found[place][1] for place in latest}

    def _learn(self, known: dict[int, Any]) -> None:
        desk, kind = self._desk, self._desk.job.kind
        open_rows = [place for place in range(len(self._items)) if place not in known]
        if not open_rows:
            return
        if kind == "spans":
            guesses = self._again(known, open_rows)
        elif kind == "labels":
            guesses = self._several(known, open_rows)
        else:
            guesses = self._one(known, open_rows)
        with desk.lock:
            desk.queue.tell_guesses(guesses)
            desk.queue.arrange()
        if not desk.queue.review:
            self._tell(f"suggestions from {len(known):,} rows")

    def _one(self, known: dict[int, Any], open_rows: Sequence[int]) -> list[Guess]:
        classes = sorted(set(known.values()))
        targets = torch.tensor([classes.index(value) for value in known.values()])
        chances = predicted(self._vectors[list(known)], targets, len(classes), self._vectors[open_rows])
        keys = [self._items[place].key for place in open_rows]
        if self._desk.job.kind == "label" and not self._desk.queue.review:
            self._likely.update(self._ranked(keys, chances, classes))
        sure, best = chances.max(-1)
        return [
            Guess(key, SOURCE, classes[place], chance)
            for key, place, chance in zip(keys, best.tolist(), sure.tolist(), strict=True)
        ]

    def _several(self, known: dict[int, Any], open_rows: Sequence[int]) -> list[Guess]:
        """Return for each row the labels that are likelier than not; confidence is that of the least certain yes or no."""
        classes = sorted({label for value in known.values() for label in value})
        columns = []
        for label in classes:
            targets = torch.tensor([int(label in value) for value in known.values()])
            if bool(targets.all()):
                columns.append(torch.ones(len(open_rows), dtype=torch.float64))
                continue
            columns.append(predicted(self._vectors[list(known)], targets, 2, self._vectors[open_rows])[:, 1])
        chances = torch.stack(columns, -1)  # [N, K]
        sure = torch.maximum(chances, 1 - chances).min(-1).values.tolist()
        keys = [self._items[place].key for place in open_rows]
        self._likely.update(self._ranked(keys, chances, classes))
        return [
            Guess(key, SOURCE, [name for name, chance in zip(classes, row, strict=True) if chance > 0.5], confidence)
            for key, row, confidence in zip(keys, chances.tolist(), sure, strict=True)
        ]

    def _again(self, known: dict[int, Any], open_rows: Sequence[int]) -> list[Guess]:
        """Return for each row the spans that were labelled elsewhere."""
        phrases = Phrases((words_of(self._items[place].content), value) for place, value in known.items())
        made = []
        for place in open_rows:
            spans, sure = phrases.spans(words_of(self._items[place].content))
            made.append(Guess(self._items[place].key, SOURCE, spans or None, sure))
        return made

    def _ranked(self, keys: Sequence[str], chances: Tensor, classes: Sequence[str]) -> dict[str, tuple[str, ...]]:
        order = chances.topk(min(NUM_LIKELY, len(classes)), -1).indices.tolist()
        return {key: tuple(classes[place] for place in row) for key, row in zip(keys, order, strict=True)}

    def _tell(self, text: str) -> None:
        with self._desk.lock:
            self._desk.learning = text


def predicted(vectors: Tensor, targets: Tensor, num_classes: int, asked: Tensor) -> Tensor:
    """Return the chance of each class for each vector asked about. [N, D], [N] -> [M, K]"""
    counts = torch.bincount(targets, minlength=num_classes)
    if int(counts.min()) < 2 or len(targets) < ENOUGH * num_classes:
        means = torch.stack([normalize(vectors[targets == place].mean(0), dim=0) for place in range(num_classes)])
        return torch.softmax((SHARPNESS * asked @ means.T).double(), -1)
    weight, bias = fit_logistic(vectors, targets, num_classes, PENALTY)
    return torch.softmax((asked @ weight.float().T).double() + bias, -1)
