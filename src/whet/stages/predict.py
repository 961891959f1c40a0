"""`whet predict` and `whet chat`: answers of a trained run, with confidence, and silence below a threshold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.data.clean import build_cleaners
from whet.data.rows import RawRow, Reject
from whet.data.shapes import question
from whet.data.write import read_prediction_rows
from whet.engine.generate import GREEDY, Sampling, generate
from whet.engine.machine import computing
from whet.errors import DataError, RunError
from whet.models.template import prompt_ids, stop_ids
from whet.stages.evaluate import Tuned, load_run
from whet.stages.prepare import stored_columns
from whet.types import Example, Message, Output

CHUNK = 512  # rows whose answers are made at one time


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer."""

    prediction: str | float | tuple[str, ...] | None
    """Label, labels, number or written answer; None where the model abstains."""
    confidence: float | None
    """Probability of the label that was chosen, 0..1; None where there is none."""
    abstained: bool = False


class Predictor:
    """A trained run that answers."""

    def __init__(self, tuned: Tuned) -> None:
        self.tuned = tuned
        self.columns = stored_columns(tuned.run)
        self.clean = build_cleaners(self.columns, tuned.folder)

    @property
    def writes(self) -> bool:
        """Whether it answers in words."""
        return bool(self.tuned.objective.written_metrics)

    def predict(self, items: Sequence[str | Mapping[str, Any]], abstain_below: float = 0.0) -> list[Prediction]:
        """Return one prediction for each text, or for each row with the columns of training, in order.

        Below a confidence of `abstain_below` (0..1) the prediction is None. Raises DataError that names an item that cannot be asked.
        """
        examples = []
        for number, item in enumerate(items):
            fields = {self.columns.text or self.columns.prompt or "text": item} if isinstance(item, str) else dict(item)
            columns = self.columns
            if isinstance(item, str) and columns.text is None and columns.prompt is None:
                columns = columns.model_copy(update={"messages": None, "prompt": "text"})
            found = question(RawRow("item", number + 1, fields), columns, self.clean, number)
            if isinstance(found, Reject):
                raise DataError(f"item {number + 1}: {found.reason}. {found.remedy}")
            examples.append(found)
        return self.answer(examples, abstain_below)

    def answer(self, examples: Sequence[Example], abstain_below: float = 0.0) -> list[Prediction]:
        """Return one prediction for each example, in order."""
        tuned = self.tuned
        if tuned.objective.head == "lm" and not self.writes:
            raise RunError(
                f"{tuned.run.path}: a run of '{tuned.card.objective}' gives no answers. Train one with objective 'sft' or 'classify'."
            )
        if not self.writes:
            outputs = tuned.outputs(tuned.policy, examples)
        else:
            with computing(tuned.precision, tuned.policy.device):
                outputs = list(tuned.objective.answers(tuned.policy, examples, tuned.recipe.evaluate.max_new_tokens))
        return [_prediction(output, abstain_below) for output in outputs]

    def reply(self, messages: Sequence[Message], sampling: Sampling = GREEDY, max_new_tokens: int = 200) -> str:
        """Return the assistant's next turn of a conversation; for a run that classifies, its label."""
        if not self.writes:
            found = self.predict([messages[-1].content])[0]
            sure = "" if found.confidence is None else f" ({found.confidence:.0%} sure)"
            return f"{found.prediction}{sure}"
        policy = self.tuned.policy
        prompt = prompt_ids(policy.tokenizer, [Message(message.role, self.clean(message.content)) for message in messages])
        with computing(self.tuned.precision, policy.device):
            ids = next(generate(policy, [prompt], max_new_tokens, stop_ids(policy.tokenizer), sampling))
        return str(policy.tokenizer.decode(ids, skip_special_tokens=True)).strip()


def load(path: Path | str, recipe: Path | None = None) -> Predictor:
    """Return a trained run that answers. Raises RunError."""
    return Predictor(load_run(Path(path), recipe))


def predict_file(predictor: Predictor, file: Path, abstain_below: float, notices: list[str]) -> Iterator[dict[str, Any]]:
    """Yield each row of a file with its prediction. A row that cannot be asked says so in `error` and is kept."""
    rows = read_prediction_rows(file, predictor.columns, predictor.clean, notices)
    while held := list(itertools.islice(rows, CHUNK)):
        answers = iter(predictor.answer([asked for _, asked in held if isinstance(asked, Example)], abstain_below))
        for row, asked in held:
            if isinstance(asked, Reject):
                yield {**row.fields, "prediction": None, "confidence": None, "abstained": False, "error": asked.sentence()}
            else:
                yield {**row.fields, **_columns(next(answers))}


def _columns(made: Prediction) -> dict[str, Any]:
    confidence = None if made.confidence is None else round(made.confidence, 6)
    return {"prediction": made.prediction, "confidence": confidence, "abstained": made.abstained, "error": None}


def _prediction(output: Output, abstain_below: float) -> Prediction:
    if output.text is not None:
        return Prediction(output.text, None)
    if output.value is not None:
        return Prediction(output.value, None)
    chances = output.probabilities or {}
    if output.labels is not None:
        least = min((max(chance, 1 - chance) for chance in chances.values()), default=0.0)
        return Prediction(None, least, True) if least < abstain_below else Prediction(output.labels, least)
    assert output.label is not None
    confidence = chances[output.label]
    return Prediction(None, confidence, True) if confidence < abstain_below else Prediction(output.label, confidence)
