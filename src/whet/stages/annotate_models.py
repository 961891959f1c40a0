"""What trained runs and the built-in encoder say of rows that are annotated."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from whet.annotation.answers import Guess
from whet.annotation.items import Item
from whet.annotation.kinds import Job, Kind, spans_of
from whet.annotation.suggest import Embed
from whet.data.shapes import plain
from whet.engine.embed import unit_vectors
from whet.errors import DataError, RunError
from whet.models.load import load_policy
from whet.registry import fingerprint
from whet.stages.gate import objection
from whet.stages.predict import Predictor, load
from whet.types import Example, Output

EMBEDDER = "builtin:minilm"
LONGEST = 256
"""Tokens of a text that are embedded: its beginning says what it is about."""
SMALLEST = 1e-9
"""Least chance that a loss is taken of."""


@dataclass(frozen=True, slots=True)
class RunModel:
    """A trained run that guesses."""

    source: str
    """Its name, with the beginning of its model's hash: a run trained anew is another one."""
    labels: tuple[str, ...]
    """Labels that it knows."""
    predictor: Predictor
    job: Job

    def guess(self, items: Sequence[Item]) -> list[Guess]:
        """Return what the run says of each row; nothing of a row that it cannot be asked about."""
        asked, examples = [], []
        for item in items:
            try:
                examples.append(self.predictor.examples([_question(item, self.predictor)])[0])
            except DataError:
                continue
            asked.append(item)
        examples = [
            Example(id=place, text=one.text, text_pair=one.text_pair, messages=one.messages) for place, one in enumerate(examples)
        ]
        if self.predictor.writes:
            answers = self.predictor.answer(examples)
            return [Guess(item.key, self.source, answer.prediction, None) for item, answer in zip(asked, answers, strict=True)]
        outputs = self.predictor.tuned.outputs(self.predictor.tuned.policy, examples)
        return [
            _guess(item, output, self.source, self.job) for item, output in zip(asked, outputs, strict=True) if output.is_finite
        ]


def load_models(runs: Sequence[Path], job: Job, recipe: Path | None, say: Callable[[str], None]) -> list[RunModel]:
    """Return the runs as models that guess. Raises RunError where one does not answer what is asked."""
    models = []
    for path in runs:
        predictor = load(path, recipe)
        if why := objection(predictor.tuned.run):
            say(f"Warning: {why}")
        if not _answers(predictor, job.kind):
            raise RunError(
                f"{path}: a run of '{predictor.tuned.card.objective}', which does not answer what is asked here ({job.kind}). "
                "Name a run that was trained for it, or leave --run out."
            )
        source = f"{path.resolve().name} {fingerprint(path)[:8]}"
        models.append(RunModel(source, _labels(predictor), predictor, job))
    return models


def load_embedder() -> tuple[str, Embed]:
    """Return what makes embeddings, and the hash of its model. Raises ModelError."""
    policy = load_policy(EMBEDDER)

    def embed(texts: Sequence[str]) -> Tensor:
        return unit_vectors(policy, [Example(id=place, text=text) for place, text in enumerate(texts)], LONGEST)[0]

    return policy.source.sha256, embed


def _question(item: Item, predictor: Predictor) -> str | dict[str, Any]:
    """Return what the run is asked: the row with the columns that it knows, or the text alone."""
    columns, fields = predictor.columns, dict(item.places[0].fields) if item.places else {}
    own = columns.text or columns.messages or columns.prompt or columns.chosen
    if own is not None and own in fields:
        return fields
    if item.content.get("text_pair") and columns.text and columns.text_pair:
        return {columns.text: item.content["text"], columns.text_pair: item.content["text_pair"]}
    return str(item.content.get("text") or item.content["turns"][-1]["content"])


def _answers(predictor: Predictor, kind: Kind) -> bool:
    objective = predictor.tuned.objective
    if kind == "text":
        return predictor.writes
    needed = {"label": "label", "labels": "labels", "rating": "value", "spans": "token_labels"}.get(kind)
    return not predictor.writes and needed in objective.needs and not {"messages", "response"} & set(objective.needs)


def _labels(predictor: Predictor) -> tuple[str, ...]:
    classes = predictor.tuned.policy.classes
    if predictor.columns.token_labels is not None:
        return tuple(dict.fromkeys(name[2:] for name in classes if name[:2] in {"B-", "I-"}))
    return tuple(classes)


def _guess(item: Item, output: Output, source: str, job: Job) -> Guess:
    loss, given = None, item.given
    if job.kind == "label" and output.probabilities is not None and given is not None and given in output.probabilities:
        loss = -math.log(max(output.probabilities[given], SMALLEST))
    value: Any = output.label
    if job.kind == "labels":
        value = list(output.labels or ())
    elif job.kind == "spans":
        value = spans_of(output.token_labels or ()) or None
    elif job.kind == "rating":
        value = None if output.value is None else min(max(round(output.value), job.low), job.high)
    return Guess(item.key, source, plain(value) if job.kind == "label" and value is not None else value, output.confidence, loss)
