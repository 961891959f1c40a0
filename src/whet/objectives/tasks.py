"""Several tasks on one network."""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field
from torch import Tensor

from whet.engine.cut import cut
from whet.engine.fields import require
from whet.engine.fit import mean_terms
from whet.engine.mixture import mixed, turns
from whet.errors import RecipeError
from whet.models.policy import Policy
from whet.plugins import inner, plugin
from whet.protocols import Objective, Plan
from whet.types import Batch, Cursor, Example, Output, Row, State, StepRows, Unit

COEFFICIENT, SHARE = "coefficient", "share"
"""Of a row in its step: what its task's mean loss is multiplied by, and its task's share of the units."""
ObjectiveSetting = Annotated[
    Any, BeforeValidator(functools.partial(inner, "objectives"), json_schema_input_type=str | dict[str, Any])
]


@plugin
class Tasks(Objective):
    """Several tasks on one network, their rows mixed; what a recipe's `tasks:` becomes. Caruana 1997; Raffel et al. 2020, section 3.5.2.

    Tasks that write share the network's output head; others have a head each. A step's loss is the sum over tasks of weight *
    share of the step's units * mean loss of the task: with equal weights each unit counts the same, whatever task it is of. In
    validation tasks count by weight alone. By weight, a task's weight says how often its units come, and not how much they count.
    """

    objectives: dict[str, ObjectiveSetting]
    """Each task's objective, by the task's name."""
    weights: dict[str, Annotated[float, Field(gt=0)]] = Field({})
    """How much each task counts; 1 where it is not named."""
    by: Literal["size", "temperature", "weight"] = Field("size")
    """How often a task's units come: each once an epoch, by a power of the task's size, or by weight."""
    temperature: float = Field(2.0, gt=0)
    """T of size ** (1 / T)."""

    needs: ClassVar[tuple[str, ...]] = ("task",)

    def __post_init__(self) -> None:
        for name, objective in self.objectives.items():
            if not getattr(objective, "mixes", False):  # a class that does not inherit the protocol has no default
                raise RecipeError(
                    f"task '{name}': objective '{_called(objective)}' needs steps of its own, so it cannot be mixed with other tasks. Allowed: "
                    "classify, tokens; sft, pretrain."
                )
        writing = [name for name, objective in self.objectives.items() if objective.head == "lm"]
        if writing and len(writing) < len(self.objectives):
            other = next(name for name in self.objectives if name not in writing)
            raise RecipeError(
                f"task '{writing[0]}' writes text and task '{other}' does not. Allowed: tasks that all write (sft, pretrain), or none "
                "(classify, tokens). Train the two kinds as two runs."
            )

    @property
    def head(self) -> Literal["lm", "classify"]:
        return "lm" if any(objective.head == "lm" for objective in self.objectives.values()) else "classify"

    @property
    def metrics(self) -> tuple[str, ...]:
        """Those that all tasks have."""
        first, *others = self.objectives.values()
        return tuple(name for name in first.metrics if all(name in other.metrics for other in others))

    def prepare(self, policy: Policy, examples: Sequence[Example]) -> None:
        require(examples, self.needs)
        for name, objective in self.objectives.items():
            objective.prepare(policy.task(name), [example for example in examples if example.task == name])
            policy.adopt_heads(name)

    def units(self, examples: Sequence[Example], policy: Policy, max_length: int) -> list[Unit]:
        require(examples, self.needs)
        known = {example.task for example in examples} - set(self.objectives)
        assert not known, f"examples of tasks that the recipe does not name: {known}"
        whole = sum(self._weight(name) for name in self.objectives)
        found: list[Unit] = []
        for name, objective in self.objectives.items():
            own = [example for example in examples if example.task == name]
            made = objective.units(own, policy.task(name), max_length)
            found += [_marked(unit, name, self._weight(name) / whole, 1.0) for unit in made]
        return found

    def steps(self, units: Sequence[Unit], policy: Policy, plan: Plan, cursor: Cursor, state: State) -> Iterator[StepRows]:
        parts = {name: [unit for unit in units if unit[0].task == name] for name in self.objectives}
        sizes = {name: len(own) for name, own in parts.items() if own}
        num_turns = turns(sizes, self.by, self.temperature, {name: self._weight(name) for name in sizes})
        for chosen, after in mixed(parts, num_turns, plan, cursor):
            shares = {name: sum(unit[0].task == name for unit in chosen) / len(chosen) for name in sizes}
            marked = [_scaled(unit, self._coefficient(unit[0].task), shares[unit[0].task]) for unit in chosen]
            yield StepRows(tuple(marked), after)

    def loss(self, policy: Policy, batch: Batch, state: State) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        name = batch.task
        sums, metrics = self.objectives[name].loss(policy.task(name), _own_batch(batch), state.get(name, {}))
        coefficient, share = (float(batch.scalars[key][0]) for key in (COEFFICIENT, SHARE))
        return (
            {f"{name}/{term}": coefficient * total for term, total in sums.items()},
            {f"{name}/{metric}": total / share for metric, total in metrics.items()},  # so it is a mean of the task's rows
        )

    def settle(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> None:
        for name, objective in self.objectives.items():
            objective.settle(policy.task(name), _own_units(units, name), plan)

    def trial(self, policy: Policy, units: Sequence[Unit], plan: Plan) -> dict[str, float]:
        """Each task's own validation loss, times its share of the weights; their sum is the weighted mean. Fits every temperature."""
        found: dict[str, float] = {}
        present = [name for name in self.objectives if any(unit[0].task == name for unit in units)]
        whole = sum(self._weight(name) for name in present)
        for name in present:
            objective, view = self.objectives[name], policy.task(name)
            own = _own_units(units, name)
            said = objective.trial(view, own, plan)
            said = said or mean_terms(view, objective, cut(own, policy.max_tokens), objective.init(view))
            found |= {f"{name}/{term}": value * self._weight(name) / whole for term, value in said.items()}
        return found

    def outputs(self, policy: Policy, examples: Sequence[Example], max_length: int) -> Iterator[Output]:
        found: dict[int, Output] = {}
        for name, objective in self.objectives.items():
            places = [place for place, example in enumerate(examples) if example.task == name]
            asked = [examples[place] for place in places]
            found |= dict(zip(places, objective.outputs(policy.task(name), asked, max_length), strict=True))
        for place in range(len(examples)):
            yield found[place]

    def init(self, policy: Policy) -> State:
        return {name: objective.init(policy.task(name)) for name, objective in self.objectives.items()}

    def update(self, state: State, metrics: Mapping[str, float]) -> State:
        return {
            name: objective.update(state[name], _without_prefix(metrics, name)) for name, objective in self.objectives.items()
        }

    def _weight(self, name: str) -> float:
        return self.weights.get(name, 1.0)

    def _coefficient(self, name: str) -> float:
        return 1.0 if self.by == "weight" else self._weight(name)


def _marked(unit: Unit, task: str, coefficient: float, share: float) -> Unit:
    """Return a task's unit as one of several tasks': with its task, and its terms by the task's name."""
    return tuple(
        replace(
            row,
            task=task,
            scalars={**row.scalars, COEFFICIENT: coefficient, SHARE: share},
            weights={f"{task}/{term}": weight for term, weight in row.weights.items()},
        )
        for row in unit
    )


def _scaled(unit: Unit, weight: float, share: float) -> Unit:
    return tuple(replace(row, scalars={**row.scalars, COEFFICIENT: weight * share, SHARE: share}) for row in unit)


def _own_units(units: Sequence[Unit], task: str) -> list[Unit]:
    """Return the units of a task as it made them."""
    return [tuple(_own_row(row) for row in unit) for unit in units if unit[0].task == task]


def _own_row(row: Row) -> Row:
    """Return a row as its own task made it."""
    scalars = {name: value for name, value in row.scalars.items() if name not in {COEFFICIENT, SHARE}}
    return replace(row, task="", scalars=scalars, weights=_without_prefix(row.weights, row.task))


def _own_batch(batch: Batch) -> Batch:
    scalars = {name: values for name, values in batch.scalars.items() if name not in {COEFFICIENT, SHARE}}
    return replace(batch, task="", scalars=scalars, weights=_without_prefix(batch.weights, batch.task))


def _without_prefix(values: Mapping[str, float], task: str) -> dict[str, float]:
    return {name.removeprefix(f"{task}/"): value for name, value in values.items() if name.startswith(f"{task}/")}


def _called(objective: Any) -> str:
    return type(objective).__module__.rpartition(".")[2]
