"""The rows to read first: the errors that the model was surest of, or the answers furthest from the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from whet.report.scores import Measured
from whet.stats import label_sets, true_and_given_text
from whet.types import Example, Output

MOST_ROWS = 20
LONGEST_TEXT = 2000


def worst_labels(examples: Sequence[Example], outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Up to 20 wrong rows, the surest first."""
    wrong = []
    for example, output in zip(examples, outputs, strict=True):
        truth, given = label_sets(example, output)
        if truth != given:
            wrong.append(_row(example, _joined(truth), _joined(given)) | {"probability": _confidence(output, truth, given)})
    return sorted(wrong, key=lambda row: (-(row["probability"] or 0.0), row["id"]))[:MOST_ROWS]


def worst_scores(measured: Measured, outputs: Sequence[Output]) -> list[dict[str, Any]]:
    """Up to 20 rows whose own score is furthest from the best one."""
    own = np.array([measured.metric.reduce(statistics[None, :]) for statistics in measured.tuned])
    best = measured.metric.best
    away = np.abs(own - best) if np.isfinite(best) else -np.sign(best) * own  # a reward has no best
    ordered = sorted(range(len(own)), key=lambda place: (-away[place], measured.examples[place].id))
    rows = []
    for place in ordered[:MOST_ROWS]:
        if np.isfinite(own[place]) and own[place] != best:
            example = measured.examples[place]
            score = {"probability": None, "metric": measured.name, "score": float(own[place])}
            rows.append(_row(example, *_answers(example, outputs[place])) | score)
    return rows


def _row(example: Example, label: Any, prediction: Any) -> dict[str, Any]:
    where = {"id": example.id, "file": example.file, "line": example.line}
    return where | {"text": _cut(_question(example)), "label": label, "prediction": prediction}


def _question(example: Example) -> str:
    if example.text is not None:
        return example.text if example.text_pair is None else f"{example.text}\n{example.text_pair}"
    asked = [message.content for message in example.messages or () if message.role == "user"]
    return asked[-1] if asked else ""


def _answers(example: Example, output: Output) -> tuple[Any, Any]:
    if output.token_labels is not None:
        return " ".join(example.token_labels or ()), " ".join(output.token_labels)
    if output.text is not None:
        if example.response is None and example.messages is not None:  # a prompt, whose answers are scored by themselves
            return None, _cut(output.text)
        truth, given = true_and_given_text(example, output)
        return _cut(truth), _cut(given)
    if output.value is not None:
        return example.value, output.value
    answers = [message.content for message in example.messages or () if message.role == "assistant"]
    return (_cut(answers[-1]) if answers else None), None


def _confidence(output: Output, truth: frozenset[str], given: frozenset[str]) -> float | None:
    """Probability of the prediction; with several labels, how sure the model was of its surest mistake."""
    chances = output.probabilities
    if chances is None:
        return None
    if output.labels is None:
        return max((chances.get(label, 0.0) for label in given), default=None)
    extra = [chances.get(label, 0.0) for label in given - truth]
    missed = [1 - chances.get(label, 0.0) for label in truth - given]
    return max(extra + missed)


def _joined(labels: frozenset[str]) -> str:
    return " | ".join(sorted(labels))


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "…"
