"""The recipe: the only configuration, section by section.

Three lines are required (model, data, objective); everything else has a default that works, or is `auto`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import chain
from typing import Annotated, Any, Literal

import pydantic
from pydantic import ConfigDict, Field, PrivateAttr
from pydantic_core import PydanticCustomError

from whet.recipe_data import COLLECTED, SOURCES, Data
from whet.recipe_parts import Auto, Choice, Names, Plugin, Plugins, Section

STANDARD: dict[tuple[str, ...], str] = {("train", "schedule"): "linear", ("train", "optimiser"): "adamw"}


class EarlyStopping(Section):
    """When to stop before the planned end. The best weights are put back."""

    patience: int = Field(2, ge=1)
    """Validations without improvement before stopping."""
    min_improvement: float = Field(0.0, ge=0)
    """How much better it must be to count, in the unit of what is watched."""
    metric: str = "loss"
    """What is watched on the validation rows: the loss, or a metric that fits what the objective gives."""
    max_generated: int = Field(50, ge=1)
    """Validation rows whose answers are generated for a metric of written answers: a seeded draw, the same at each validation."""


class Checkpoints(Section):
    """When to save what is needed to go on after a crash."""

    every: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Steps between two checkpoints; auto: at each validation, and at least every 100 steps."""
    keep: int = Field(2, ge=1)
    """How many of the last to keep; the best one is kept besides."""


class Train(Section):
    """How to train."""

    epochs: Auto | Annotated[float, Field(gt=0, le=1_000_000)] = "auto"
    """Times over the training rows, at most; early stopping may end it before."""
    max_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps at most."""
    batch_size: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Rows of one optimiser step, over all devices."""
    max_tokens: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Tokens of one packed micro-batch. It changes memory and speed, never the result."""
    max_length: Auto | Annotated[int, Field(ge=2)] = "auto"
    """Longest row in tokens; longer ones are cut, and counted."""
    learning_rate: Auto | Annotated[float, Field(gt=0)] = "auto"
    """Peak learning rate."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay of matrices."""
    warmup: float = Field(0.06, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    schedule: Plugin = Choice(name=STANDARD["train", "schedule"])
    optimiser: Plugin = Choice(name=STANDARD["train", "optimiser"])
    clip: float = Field(1.0, gt=0)
    """Largest norm of the gradient."""
    precision: Auto | Literal["fp32", "bf16"] = "auto"
    """Arithmetic of the forward and backward pass; weights are always fp32, and the optimiser too unless it says otherwise."""
    frozen_precision: Literal["same", "int8"] = "same"
    """Arithmetic of products with weights that do not learn: same, as all others; int8: weights, and what is multiplied with them, in 8 bits
    with a step for each row. Quicker the wider the network, in half the memory of such weights; the loss moves a little (docs/concepts/speed.md).
    On processors with AVX-512 VNNI, in bf16, for the Llama and BERT families."""
    gradient_checkpointing: Auto | bool = "auto"
    """Keep only the input of each block and compute it again in the backward pass: about a third more time for much less memory, and the
    same result; auto: where the estimate does not fit without."""
    keep_states: Auto | bool = "auto"
    """Compute what frozen lower blocks make of each row once, and keep it in memory, then on the disk, instead of once an epoch; the same
    result to the bit; auto: where rows are met twice or more and a trial says that it is the same."""
    parallel: Auto | Literal["ddp", "fsdp"] = "auto"
    """On several devices (torchrun): ddp, each holds the whole model; fsdp, each holds a share of its blocks; auto: ddp where the whole
    fits. It changes memory and speed, never the result."""
    early_stopping: EarlyStopping | Literal[False] = EarlyStopping()
    """Stop on validation loss, or on a metric; false: train to the end and keep the best by loss."""
    validate_every: Auto | Annotated[int, Field(ge=1)] = "auto"
    """Steps between two validations; auto: once an epoch, and at least eight times in a run of less than three epochs."""
    checkpoint: Checkpoints = Checkpoints()
    refit: Auto | bool = False
    """Once early stopping has found the number of epochs, train again on training and validation rows together."""
    seed: int = Field(0, ge=0)
    """Seed of the order, of new weights and of everything else that is drawn."""


class FewShot(Section):
    """The untuned model with training rows in its prompt, as a baseline of objectives that write."""

    examples: int = Field(0, ge=0, le=100)
    """Rows shown before each question, as many as fit; 0: it is not asked. Each lengthens every prompt by its own tokens."""
    choose: Literal["similar", "fixed"] = "similar"
    """similar: the rows whose questions are nearest, the nearest last; fixed: the same seeded draw before every question."""


class Evaluate(Section):
    """How the result is judged."""

    metric: Auto | str = "auto"
    """The metric of the verdict: one that fits what the objective gives, or a file of your own beside the recipe.

    auto: the objective's first, or macro_f1 where one class has over 65 % of the training rows."""
    metrics: tuple[Plugin, ...] = ()
    """Further metrics to report, such as meteor, or one with settings: {name: bleu, tokenize: char}."""
    resamples: int = Field(1000, ge=100, le=100_000)
    """Bootstrap resamples behind each interval."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Score at most this many test rows (a seeded draw); none: all."""
    max_generated: int = Field(200, ge=1)
    """Test rows whose answers are generated and scored, for objectives that write text."""
    max_new_tokens: int = Field(128, ge=1)
    """Longest generated answer, in tokens; of `predict` and `chat` too."""
    few_shot: FewShot = FewShot()
    seed: int = Field(0, ge=0)


class GateRule(Section):
    """One thing that a model must be shown to reach. It passes where the pessimistic end of the 95 % interval does."""

    metric: str
    """What is measured: one that fits what the objective gives."""
    minimum: float | None = None
    """Least score, for a metric that is better the higher it is, in its own unit: 0.9 is 90 %."""
    maximum: float | None = None
    """Largest score, for a metric that is better the lower it is."""
    max_loss: Annotated[float, Field(ge=0)] | None = None
    """How much worse than a baseline it may be, in the metric's own unit; 0: no worse. Compared row by row."""
    baseline: Auto | str = "auto"
    """The baseline of max_loss, such as base_model or majority_class; auto: the strongest."""
    slices: Names = ()
    """Columns of data.slices; the rule must hold for every value of theirs too."""
    min_rows: int = Field(20, ge=2)
    """Fewest rows to decide on; slices with fewer are not judged."""

    @pydantic.model_validator(mode="after")
    def _demands_something(self) -> GateRule:
        if not self.demands:
            raise ValueError("at least one of minimum, maximum and max_loss")
        if self.baseline != "auto" and self.max_loss is None:
            raise ValueError("a baseline only with max_loss")
        return self

    @property
    def demands(self) -> tuple[Literal["minimum", "maximum", "max_loss"], ...]:
        """What it asks for, by the names of the fields that are set."""
        asked: tuple[Literal["minimum", "maximum", "max_loss"], ...] = ("minimum", "maximum", "max_loss")
        return tuple(name for name in asked if getattr(self, name) is not None)


class Search(Section):
    """A search for better settings: `whet search RECIPE`. `whet train` does not look at it."""

    space: Annotated[dict[str, Any], Field(min_length=1)]
    """Keys of model, objective, technique and train, each with a range or with choices.

    `train.learning_rate: {low: 1.0e-5, high: 1.0e-3, log: true}`, `technique.rank: [4, 8, 16]`, or `{choices: [...]}`; `step` is
    the distance of a range's values."""
    trials: int = Field(20, ge=2, le=100_000)
    """Settings to try; the first one is the recipe's own."""
    timeout: Annotated[float, Field(gt=0)] | None = None
    """Seconds of training after which no further trial begins; none: no limit."""
    metric: str = "auto"
    """What trials are compared by on the validation rows; auto: what early stopping watches, the loss unless said otherwise."""
    sampler: Plugin = Choice(name="tpe")
    pruner: Plugin = Choice(name="median")
    seed: int = Field(0, ge=0)
    """Seed of what is tried; that of training is train.seed."""


class Continual(Section):
    """How a run that goes on from `parents` keeps what they have learnt."""

    replay: float = Field(0.2, ge=0, le=100)
    """Rows that the parents have learnt from and that are learnt again, as a share of the new training rows; 0: none."""
    ewc: float = Field(0.0, ge=0)
    """Strength of elastic weight consolidation: weights that matter to the parents are held near where they were (Kirkpatrick et al.
    2017, arXiv:1612.00796, eq. 3); 0: none. It is the factor lambda beside a mean loss per row."""
    ewc_rows: int = Field(256, ge=1)
    """Rows of the parents on which it is measured how much each weight matters."""
    merge: Literal["none", "linear", "ties"] = "none"
    """linear, ties: with technique lora, every stage learns an adapter of its own from the untuned model, and they are folded in together
    (task arithmetic, Ilharco et al. 2023; TIES, Yadav et al. 2023, arXiv:2306.01708). none: go on from the last parent's weights."""
    weights: Auto | tuple[float, ...] = "auto"
    """Of each stage's adapter when they are merged, oldest first, the new one's last; auto: equal shares (linear), or 1 each (ties)."""
    density: float = Field(0.2, gt=0, le=1)
    """Share of each adapter's numbers, the largest ones, that ties keeps."""
    seed: int = Field(0, ge=0)
    """Seed of the draw of the parents' rows."""

    @pydantic.model_validator(mode="after")
    def _held_or_merged(self) -> Continual:
        if self.ewc and self.merge != "none":
            raise ValueError("either ewc or merge: what is merged begins at the untuned model, so there is nothing to be held at")
        return self


class Task(Section):
    """One of several tasks that share a network: its rows, what is learnt of them, and how much it counts."""

    data: Data
    objective: Plugin
    """classify or tokens for each task, which gets a head of its own; or sft or pretrain for each, which share the network's."""
    weight: float = Field(1.0, gt=0)
    """How much the task counts beside the others: its loss is multiplied by it; with mixture.by: weight its rows come so often instead."""
    metric: Auto | str = "auto"
    """The metric of its verdict; auto: evaluate.metric."""


class Mixture(Section):
    """How the rows of several tasks are mixed, whole epochs at a time."""

    by: Literal["size", "temperature", "weight"] = "size"
    """size: every row once an epoch. temperature: in proportion to rows ** (1 / temperature), so that small tasks come more often.
    weight: in proportion to each task's weight."""
    temperature: Annotated[float, Field(gt=0)] | None = None
    """1: by size; the larger, the more alike the tasks' turns. None: 2, where it is by temperature."""
    compare: bool = False
    """Train each task alone too, with the same settings and rows, and tell for each whether sharing helped."""

    @pydantic.model_validator(mode="after")
    def _temperature_is_read(self) -> Mixture:
        if self.temperature is not None and self.by != "temperature":
            raise ValueError("a temperature only with by: temperature")
        return self


def _of_tasks() -> Any:
    """Return what stands for a section that a recipe with tasks does not have, until it is put together from them."""
    return None


TASK_NAME = re.compile(r"[A-Za-z](_?[A-Za-z0-9])*")


class Recipe(Section):
    """The whole configuration of a run."""

    model_config = ConfigDict(
        json_schema_extra={"anyOf": [{"required": ["data", "objective"]}, {"required": ["tasks"]}]},
    )

    model: str
    """builtin:minilm, builtin:seedling, a Hugging Face id, or a folder."""
    parents: Names = ()
    """Finished runs of the same model and objective. The run goes on from the last one's weights and classes, and is judged on all
    their test rows too."""
    continual: Continual = Continual()
    data: Data = Field(default_factory=_of_tasks)
    objective: Plugin = Field(default_factory=_of_tasks)
    tasks: dict[str, Task] | None = Field(None, validate_default=True)
    """Several tasks for one network, by name, instead of data and objective: `{intent: {data: ..., objective: classify}, ...}`."""
    mixture: Mixture | None = None
    """How the rows of `tasks` are mixed; none: by size."""
    technique: Auto | Plugin = "auto"
    """Which parameters learn; auto chooses by model size."""
    train: Train = Train()
    evaluate: Evaluate = Evaluate()
    gate: tuple[GateRule, ...] = ()
    """Rules that the model must pass to be used: `whet evaluate` exits 3 where it does not."""
    search: Search | None = None
    trackers: Plugins = ()
    """Tools that mirror the run, such as tensorboard, mlflow, wandb. One that fails never stops it."""
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    """Name of the run; its folder is runs/DATE-NAME."""
    _places: dict[tuple[str, ...], str] = PrivateAttr(default_factory=dict)

    @pydantic.field_validator("tasks")
    @classmethod
    def _data_or_tasks(cls, tasks: dict[str, Task] | None, info: pydantic.ValidationInfo) -> dict[str, Task] | None:
        given = [name for name in ("data", "objective") if info.data.get(name) is not None]
        lacking = [name for name in ("data", "objective") if name in info.data and info.data[name] is None]
        if tasks is None:
            if lacking:
                names = " and ".join(f"'{name}'" for name in lacking)
                raise _sentence(
                    f"{names} {'is' if len(lacking) == 1 else 'are'} missing. A recipe needs model, data (with path) and objective; or model "
                    "and tasks, each with data and objective."
                )
            return None
        if given:
            raise _sentence(
                f"a recipe has either 'tasks', or 'data' and 'objective' for its only one; here are 'tasks' and '{given[0]}'. Each task has "
                "data and an objective of its own: move them there, or leave 'tasks' out."
            )
        if info.data.get("parents"):
            raise _sentence(
                "a run of several tasks begins with a base model: take out 'parents', or go on with one of the tasks."
            )
        if len(tasks) < 2:
            raise _sentence(f"'tasks' has {len(tasks)}; allowed: two or more. For one, write data and objective instead.")
        wrong = next((name for name in tasks if not TASK_NAME.fullmatch(name) or len(name) > 32), None)
        if wrong is not None:
            raise _sentence(
                f"'{wrong}' is the name of a task; allowed: letters, digits and single _ between them, beginning with a letter, 32 at most."
            )
        return tasks

    @pydantic.model_validator(mode="after")
    def _put_together(self) -> Recipe:
        """Let `data` and `objective` of a recipe with tasks stand for all of them."""
        if self.tasks is None:
            if self.mixture is not None:
                raise _sentence("'mixture' says how tasks are mixed, and there are none. Take it out, or name them in 'tasks'.")
            if self.objective.name.replace("-", "_") == "tasks":
                raise _sentence(
                    "objective 'tasks' is made of a section 'tasks', where each has data and an objective: write that instead."
                )
            return self
        mixture = self.mixture or Mixture()
        objective = Choice(
            name="tasks",
            objectives={name: task.objective.model_dump() for name, task in self.tasks.items()},
            weights={name: task.weight for name, task in self.tasks.items()},
            by=mixture.by,
            temperature=mixture.temperature or 2.0,
        )
        sections = [task.data for task in self.tasks.values()]
        files = {key: tuple(dict.fromkeys(file for one in sections for file in getattr(one, key))) for key in SOURCES}
        files |= {key: tuple(chain.from_iterable(getattr(one, key) for one in sections)) for key in COLLECTED.values()}
        self.__dict__.update(data=Data(**files), objective=objective)  # frozen for everybody else
        return self

    @pydantic.model_serializer(mode="wrap")
    def _as_written(self, write: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out what was put together from the tasks."""
        values = write(self)
        return {key: value for key, value in values.items() if self.tasks is None or key not in {"data", "objective"}}

    @property
    def singles(self) -> dict[str, Recipe]:
        """The recipe of each task alone, by its name; of a recipe without tasks itself, under an empty name."""
        return {name: self.of_task(name) for name in self.tasks} if self.tasks else {"": self}

    def of_task(self, name: str) -> Recipe:
        """Return the recipe of one task alone, with everything else as it is here."""
        assert self.tasks is not None
        task = self.tasks[name]
        metric = self.evaluate.metric if task.metric == "auto" else task.metric
        evaluate = self.evaluate.model_copy(update={"metric": metric})
        alone = {"data": task.data, "objective": task.objective, "evaluate": evaluate, "tasks": None, "mixture": None}
        single = self.model_copy(update=alone)
        prefix = ("tasks", name)
        own = {path[2:]: place for path, place in self._places.items() if path[:2] == prefix and len(path) > 2}
        single._places = {**self._places, **own}
        if ("metric",) in own:
            single._places["evaluate", "metric"] = own["metric",]
        return single

    def __eq__(self, other: object) -> bool:
        """Two recipes are equal where they say the same, wherever it was written."""
        return isinstance(other, Recipe) and self.model_dump() == other.model_dump()

    __hash__ = None  # type: ignore[assignment]  # its plugins' settings may be lists

    @pydantic.field_validator("continual")
    @classmethod
    def _has_parents(cls, continual: Continual, info: pydantic.ValidationInfo) -> Continual:
        if not info.data.get("parents") and continual != Continual():
            raise ValueError(
                "other than its defaults only beside `parents`, the finished runs to go on from: parents: [runs/first]"
            )
        return continual

    def place(self, *path: str) -> str:
        """Return where a key was written, such as `recipe.yaml:7` or `--set train.epochs`: the key's own place, or the nearest above it."""
        return next((self._places[path[:end]] for end in range(len(path), 0, -1) if path[:end] in self._places), "the recipe")


def _sentence(text: str) -> PydanticCustomError:
    """Return an error that is a whole sentence, to be said as it stands."""
    return PydanticCustomError("recipe_sentence", "{text}", {"text": text})


def schema() -> dict[str, Any]:
    """Return the JSON Schema of recipes, for completion in editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Recipe.model_json_schema()}
