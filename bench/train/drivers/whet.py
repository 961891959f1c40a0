"""whet: a recipe becomes a job as in `whet train`, and `engine.fit` trains it; no validation and no checkpoint falls into the timed steps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.train.meter import Meter
from bench.train.task import Measured, Task, drive, text_of
from whet.data.accounting import Accounting
from whet.data.dataset import Dataset
from whet.engine.fit import Training, fit
from whet.engine.order import permutation
from whet.recipe import Recipe
from whet.recipe_file import build_recipe
from whet.stages.job import Job, build_job
from whet.types import Example, Message

UNCLIPPED = 1e9
"""The peers clip nothing either."""


def train(task: Task) -> Measured:
    job = prepared(task, task.steps())
    training = Training.begin(job.policy, job.objective, job.plan)
    rows = job.objective.steps(job.train_units, job.policy, job.plan, training.cursor, training.objective_state)
    meter = Meter()
    meter.mark()
    for step in fit(job.policy, job.objective, rows, job.plan, training):
        meter.losses.append(sum(step.losses.values()))
        meter.mark()
    return meter.measured(("torch", "transformers") + (("liger-kernel",) if task.gpu else ()))


def prepared(task: Task, steps: list[list[dict[str, Any]]]) -> Job:
    """Return the job, at the task's first values, whose objective yields these steps in this order."""
    recipe = recipe_of(task, rows_per_step=len(steps[0]))
    rows = laid(steps, recipe.train.seed)
    example = asked if recipe.objective.name == "sft" else labelled
    examples = tuple(example(number, row) for number, row in enumerate(rows))
    job = build_job(recipe, dataset(recipe, examples), None)
    for (unit,), row in zip(job.train_units, rows, strict=True):
        assert unit.ids.tolist() == row["ids"], "the tokenizer made other tokens of a row than were drawn"
    if task.start is not None:
        job.technique.load(job.policy, Path(task.start))
    for parameter in job.policy.heads.parameters():
        parameter.data.zero_()  # as the peers' begin, so that losses can be compared
    return job


def recipe_of(task: Task, rows_per_step: int) -> Recipe:
    """Return what a user would write for this task, with what else must be as the peers have it."""
    decodes = "encoder" not in task.work
    technique = {"name": "lora", "rank": task.rank, "alpha": task.alpha} if task.mode == "lora" else {"name": task.mode}
    columns = {"prompt": "prompt", "response": "response"} if decodes else {"text": "text", "label": "label"}
    learning = {"learning_rate": task.learning_rate, "weight_decay": 0.0, "warmup": 0.0, "schedule": "constant"}
    learning |= {"clip": UNCLIPPED, "precision": "bf16", "epochs": 1, "batch_size": rows_per_step, "early_stopping": False}
    learning |= task.settings
    values = {
        "model": task.model,
        "data": {"path": "drawn.jsonl", **columns},
        "objective": "sft" if decodes else "classify",
        "technique": technique,
        "train": learning,
    }
    return build_recipe(values, "the benchmark's recipe")


def laid(steps: list[list[dict[str, Any]]], seed: int) -> list[dict[str, Any]]:
    """Return the rows laid so that the order in which an epoch takes them, which is drawn, gives these steps."""
    flat = [row for step in steps for row in step]
    rows: list[dict[str, Any]] = [{}] * len(flat)
    for place, row in zip(permutation(seed, 0, len(flat)), flat, strict=True):
        rows[place] = row
    return rows


def asked(number: int, row: dict[str, Any]) -> Example:
    prompt, answer = row["ids"][: row["supervised_from"]], row["ids"][row["supervised_from"] : -1]  # an end token is added
    return Example(id=number, messages=(Message("user", text_of(prompt)), Message("assistant", text_of(answer))))


def labelled(number: int, row: dict[str, Any]) -> Example:
    return Example(id=number, text=text_of(row["ids"][1:-1]), label=str(row["label"]))


def dataset(recipe: Recipe, examples: tuple[Example, ...]) -> Dataset:
    """Return the examples as prepared data, all of them to learn from."""
    return Dataset(
        train=examples,
        validation=(),
        test=(),
        columns=recipe.data,
        classes=(),
        accounting=Accounting({}),
        rejects=(),
        notices=(),
        conflicts=(),
        cleaned={},
    )


if __name__ == "__main__":
    drive(train)
