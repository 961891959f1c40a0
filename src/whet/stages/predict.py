"""`whet predict` and `whet chat`: answers of a trained run, with confidence, and silence below a threshold."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from whet.data.clean import build_cleaners
from whet.data.read import Spooled
from whet.data.rows import RawRow, Reject
from whet.data.shapes import question
from whet.data.write import read_prediction_rows
from whet.engine.generate import GREEDY, Sampling, fitted, generate
from whet.engine.machine import computing
from whet.engine.targets import source_ids
from whet.errors import DataError, RunError
from whet.models.template import prompt_ids, stop_ids
from whet.protocols import Objective
from whet.stages.prepare import stored_columns
from whet.stages.tuned import Tuned, load_whole
from whet.types import Example, Message, Output
from whet.words import spans

WHOLE = 10**9  # tokens: nothing is cut
CHUNK = 512  # rows whose answers are made at one time
ANSWERED = ("prediction", "confidence", "abstained", "error")
"""What is added to each row."""
NOT_FINITE = "the model's scores for this row are not finite numbers, so there is no answer. Train again, with a lower rate."


class Entity(TypedDict):
    """A stretch of words with a kind."""

    kind: str
    text: str
    first: int
    """Number of its first word, from 0."""
    end: int
    """Number of the word behind its last."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """One answer."""

    prediction: str | float | tuple[str, ...] | tuple[Entity, ...] | None
    """Label, labels, number, written answer or the entities of a text; None where the model abstains."""
    confidence: float | None
    """Probability of the label that was chosen, 0..1; None where there is none."""
    abstained: bool = False
    error: str | None = None
    """Why there is no answer; None where there is one, or the model abstains."""


class Predictor:
    """A trained run that answers."""

    def __init__(self, tuned: Tuned) -> None:
        self.tuned = tuned
        self.columns = stored_columns(tuned.run, tuned.task)
        self.clean = build_cleaners(self.columns, tuned.folder)

    @property
    def writes(self) -> bool:
        """Whether it answers in words."""
        return type(self.tuned.objective).answers is not Objective.answers

    def predict(self, items: Sequence[str | Mapping[str, Any]], abstain_below: float = 0.0) -> list[Prediction]:
        """Return one prediction for each text, or for each row with the columns of training, in order.

        Below a confidence of `abstain_below` (0..1) the prediction is None. Raises DataError that names an item that cannot be asked.
        """
        return self.answer(self.examples(items), abstain_below)

    def examples(self, items: Sequence[str | Mapping[str, Any]]) -> list[Example]:
        """Return texts, or rows with the columns of training, as examples. Raises DataError that names an item that cannot be asked."""
        if isinstance(items, str | Mapping):
            raise DataError("items: one text or row, and a list of them is needed. Put it into brackets: predict([...]).")
        examples = []
        for number, item in enumerate(items):
            if not isinstance(item, str | Mapping):
                raise DataError(
                    f"item {number + 1}: {type(item).__name__}. Allowed: a text, or a dictionary with the columns of training."
                )
            fields = {self.columns.text or self.columns.prompt or "text": item} if isinstance(item, str) else dict(item)
            columns = self.columns
            if isinstance(item, str) and columns.text is None and columns.prompt is None:
                columns = columns.model_copy(update={"messages": None, "prompt": "text"})
            found = question(RawRow("item", number + 1, fields), columns, self.clean, number)
            if isinstance(found, Reject):
                raise DataError(f"item {number + 1}: {found.reason}. {found.remedy}")
            examples.append(self.clean.redacted(found) if columns.token_labels is not None else found)
        return examples

    def answer(self, examples: Sequence[Example], abstain_below: float = 0.0) -> list[Prediction]:
        """Return one prediction for each example, in order."""
        tuned = self.tuned
        if tuned.objective.head in {"lm", "seq2seq", "value", "masked"} and not self.writes:
            raise RunError(
                f"{tuned.run.path}: a run of '{tuned.card.objective}' gives no answers. Train one with objective 'sft' or 'classify'."
            )
        if not self.writes:
            outputs = tuned.outputs(tuned.policy, examples)
        else:
            with computing(tuned.precision, tuned.policy.device):
                outputs = list(tuned.objective.answers(tuned.policy, examples, tuned.recipe.evaluate.max_new_tokens))
        return [_prediction(output, abstain_below, example) for output, example in zip(outputs, examples, strict=True)]

    @property
    def longest(self) -> int:
        """Tokens of the longest text that is read whole."""
        return min(self.tuned.card.max_length, self.tuned.policy.context)

    def num_cut(self, examples: Sequence[Example]) -> int:
        """Return how many of the texts to classify are longer than the model reads."""
        if self.writes or not examples:
            return 0
        tokenizer, number = self.tuned.policy.tokenizer, 0
        for example in examples:
            if len(example.text or "") + len(example.text_pair or "") > self.longest // 2:  # a token has a character at least
                ids = tokenizer(example.text or "", example.text_pair, verbose=False)["input_ids"]
                number += len(ids) > self.longest
        return number

    def reply(self, messages: Sequence[Message], sampling: Sampling = GREEDY, max_new_tokens: int | None = None) -> str:
        """Return the assistant's next turn of a conversation; for a run that classifies, its label.

        It has at most `max_new_tokens` tokens; none: the recipe's `evaluate.max_new_tokens`.
        """
        if not self.writes:
            found = self.predict([messages[-1].content])[0]
            if found.error:
                raise RunError(f"{self.tuned.run.path}: {found.error}")
            sure = "" if found.confidence is None else f" ({100 * found.confidence:.0f} % sure)"
            return f"{found.prediction}{sure}"
        policy, longest = self.tuned.policy, max_new_tokens or self.tuned.recipe.evaluate.max_new_tokens
        if policy.kind == "encoder-decoder":
            return self._written(messages, sampling, longest)
        prompt = self._prompt(messages)
        with computing(self.tuned.precision, policy.device):
            ids = next(generate(policy, [prompt], longest, stop_ids(policy.tokenizer), sampling))
        return str(policy.tokenizer.decode(ids, skip_special_tokens=True)).strip()

    def fits(self, messages: Sequence[Message]) -> bool:
        """Whether the model reads the whole conversation, with room for the longest answer; one that classifies reads the last turn."""
        if not self.writes:
            return True
        policy = self.tuned.policy
        if policy.kind == "encoder-decoder":
            source = self.tuned.objective.source(Example(id=0, messages=tuple(self._cleaned(messages))))
            return len(source_ids(policy, source, WHOLE)) <= policy.context
        prompt = self._prompt(messages)
        return len(fitted(policy, prompt, self.tuned.recipe.evaluate.max_new_tokens)[0]) == len(prompt)

    def _prompt(self, messages: Sequence[Message]) -> list[int]:
        return prompt_ids(self.tuned.policy.tokenizer, self._cleaned(messages))

    def _cleaned(self, messages: Sequence[Message]) -> list[Message]:
        return [Message(message.role, self.clean(message.content)) for message in messages]

    def _written(self, messages: Sequence[Message], sampling: Sampling, max_new_tokens: int) -> str:
        """Return the target that an encoder-decoder writes. Raises RunError where it should be drawn."""
        if sampling.temperature:
            raise RunError(
                f"{self.tuned.run.path}: an encoder-decoder writes its likeliest answer only. Leave the temperature at 0."
            )
        asked = Example(id=0, messages=tuple(self._cleaned(messages)))
        with computing(self.tuned.precision, self.tuned.policy.device):
            return next(self.tuned.objective.answers(self.tuned.policy, [asked], max_new_tokens)).text or ""


def load(path: Path | str, recipe: Path | None = None, task: str | None = None) -> Predictor:
    """Return a trained run that answers, of a run of several tasks one. Raises RunError, RecipeError.

    Of tasks that write text, which share all weights, it is the first where none is named.
    """
    predictors = load_tasks(path, recipe, task)
    first = next(iter(predictors.values()))
    if len(predictors) > 1 and not first.writes:
        raise RunError(
            f"{path}: has several tasks ({', '.join(predictors)}), and this takes one. Name it: --task, or in Python task="
            f"{next(iter(predictors))!r}; where the verb has none, train that task by itself."
        )
    return first


def load_tasks(path: Path | str, recipe: Path | None = None, task: str | None = None) -> dict[str, Predictor]:
    """Return every task of a trained run, or the one that is named, by name; of a run with one only, it under an empty name."""
    tuned = load_whole(Path(path), recipe)
    names = tuple(tuned.card.tasks) if task is None else (task,)
    return {name: Predictor(tuned.of_task(name)) for name in names} or {"": Predictor(tuned)}


class Answers(Iterator[dict[str, Any]]):
    """The rows of a file with their predictions, one after another."""

    def __init__(
        self, columns: Sequence[str], names: Mapping[str, Sequence[str]], rows: Iterator[dict[str, Any]], separator: str = ","
    ) -> None:
        self.separator = separator
        """Between the fields of the file that came in."""
        self.columns = tuple(columns)
        """Of all rows: those of the file as they came in, then the names of the answer's."""
        self.names = names
        """What each of ANSWERED is called here, once for each task: another name where the file has a column of that name already."""
        self._rows = rows

    def __next__(self) -> dict[str, Any]:
        return next(self._rows)


def predict_tasks(
    predictors: Mapping[str, Predictor], file: Path, abstain_below: float, notices: list[str], suffix: str | None = None
) -> Answers:
    """Return the rows of a file with their predictions. A row that cannot be asked says so in `error` and is kept.

    The file's columns stay as they are: where it has one called `prediction`, the answer's is `whet_prediction`. The predictions of
    several tasks are in columns that begin with the task's name; of one under an empty name, or by itself, in columns without it. The
    file is read as if its name ended in `suffix`, where one is given.
    """
    asked, said = {}, list[str]()
    for name, predictor in predictors.items():
        told = list[str]()
        try:
            asked[name] = read_prediction_rows(file, predictor.columns, predictor.clean, told, suffix)
        except DataError as error:
            if len(predictors) == 1:
                raise
            raise DataError(f"task '{name}': {error} To ask one task alone: --task NAME ({', '.join(predictors)}).") from None
        said += [notice for notice in told if notice not in said]
    notices += said
    columns = list(next(iter(asked.values())).columns)
    names: dict[str, dict[str, str]] = {}
    for name in predictors:
        taken = [*columns, *itertools.chain.from_iterable(one.values() for one in names.values())]
        names[name] = _free_names(taken, f"{name}_" if len(predictors) > 1 else "")
        for key, free in names[name].items():
            wished = f"{name}_{key}" if len(predictors) > 1 else key
            if free != wished:
                notices.append(f"{file_name(file)}: has a column '{wished}' of its own, which is kept; the answers' is '{free}'.")
    separate = [
        _answered(predictor, asked[name].rows, names[name], abstain_below, notices) for name, predictor in predictors.items()
    ]
    together = {key: [names[name][key] for name in predictors] for key in ANSWERED}
    rows = (dict(itertools.chain.from_iterable(one.items() for one in row)) for row in zip(*separate, strict=True))
    flat = [column for one in names.values() for column in one.values()]
    return Answers((*columns, *flat), together, rows, next(iter(asked.values())).separator)


def _free_names(columns: Sequence[str], prefix: str) -> dict[str, str]:
    """Return what the columns of an answer are called beside these."""
    names: dict[str, str] = {}
    for key in ANSWERED:
        name = f"{prefix}{key}"
        candidates = (name, f"whet_{name}", *(f"whet_{name}_{number}" for number in range(2, len(columns) + 3)))
        names[key] = next(free for free in candidates if free not in columns)
    return names


def _answered(
    predictor: Predictor,
    rows: Iterator[tuple[RawRow, Example | Reject]],
    names: Mapping[str, str],
    abstain_below: float,
    notices: list[str],
) -> Iterator[dict[str, Any]]:
    num_cut = 0
    while held := list(itertools.islice(rows, CHUNK)):
        examples = [asked for _, asked in held if isinstance(asked, Example)]
        num_cut += predictor.num_cut(examples)
        answers = iter(predictor.answer(examples, abstain_below))
        for row, asked in held:
            made = Prediction(None, None, error=asked.sentence()) if isinstance(asked, Reject) else next(answers)
            confidence = None if made.confidence is None else round(made.confidence, 6)
            values = {"prediction": made.prediction, "confidence": confidence, "abstained": made.abstained, "error": made.error}
            yield {**row.fields, **{names[key]: value for key, value in values.items()}}
    if num_cut:
        notices.append(_cut_notice(num_cut, predictor.longest))


def _cut_notice(number: int, longest: int) -> str:
    which = "1 text is" if number == 1 else f"{number:,} texts are"
    return f"{which} longer than {longest:,} tokens, and only the beginning was read. Shorten them, or train with a larger train.max_length."


def file_name(file: Path) -> str:
    """Return what a file is called in messages."""
    return file.shown if isinstance(file, Spooled) else str(file)


def _prediction(output: Output, abstain_below: float, example: Example) -> Prediction:
    if not output.is_finite:
        return Prediction(None, None, error=NOT_FINITE)
    if output.text is not None:
        return Prediction(output.text, None)
    if output.value is not None:
        return Prediction(output.value, None)
    if output.token_labels is not None:
        return Prediction(_entities(example, output.token_labels), None)
    chances = output.probabilities or {}
    if output.labels is not None:
        least = min((max(chance, 1 - chance) for chance in chances.values()), default=0.0)
        return Prediction(None, least, True) if least < abstain_below else Prediction(output.labels, least)
    assert output.label is not None
    confidence = chances[output.label]
    return Prediction(None, confidence, True) if confidence < abstain_below else Prediction(output.label, confidence)


def _entities(example: Example, labels: Sequence[str]) -> tuple[Entity, ...]:
    words = (example.text or "").split()
    return tuple(
        Entity(kind=kind, text=" ".join(words[first:end]), first=first, end=end)
        for kind, first, end in spans(labels, "prediction")
    )
