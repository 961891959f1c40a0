"""What each `auto` outside `train` became: technique, its numbers, metric, and what was done to the rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

from whet.data.clean import build_cleaners
from whet.data.dataset import Dataset
from whet.data.notices import counted
from whet.models.policy import Policy
from whet.private.kinds import plural
from whet.protocols import Objective, Sized, Technique
from whet.recipe import Recipe
from whet.recipe_parts import Choice
from whet.stages.build import build_technique
from whet.stages.decide import Decision, choose_metric, choose_technique
from whet.types import Example, Row, Unit


def settle(
    recipe: Recipe, objective: Objective, policy: Policy, dataset: Dataset, folder: Path | None
) -> tuple[Recipe, list[Decision]]:
    """Return the recipe with technique and metric chosen, and what each `auto` of these and of `data` became."""
    made: list[Decision] = []
    if recipe.technique == "auto":
        choice, reason = choose_technique(policy.num_parameters, len(dataset.train), policy.kind, objective.head)
        recipe = recipe.model_copy(update={"technique": choice})
        made.append(Decision("technique", choice.name, reason))
    if recipe.tasks is not None:  # each task's metric and cleaners are its own
        return recipe, made
    if recipe.evaluate.metric == "auto":
        metric, reason = choose_metric((*objective.metrics, *objective.written_metrics), dataset.originals)
        recipe = recipe.model_copy(update={"evaluate": recipe.evaluate.model_copy(update={"metric": metric})})
        made.append(Decision("evaluate.metric", metric, reason))
    if recipe.data.clean == "auto":  # the word stays: it also merges spellings of a label, which no list of cleaners says
        names = [name for name, _ in build_cleaners(dataset.columns, folder).chain]
        made.append(Decision("data.clean", names, f"{', '.join(names)}; spellings of one label become one"))
    return recipe, made + _of_rows(recipe, dataset)


def _of_rows(recipe: Recipe, dataset: Dataset) -> list[Decision]:
    """Return what came of each `auto` about rows. The words stay in the recipe: rows of another day may ask for something else."""
    made = []
    if recipe.data.duplicates.near == "auto":
        num_dropped = dataset.accounting.dropped.get("near duplicate", 0)
        why = (
            "keep: more than half would go, so these are variations of a few texts; each group is in one part of the split"
            if dataset.keeps_near
            else f"drop: {counted(num_dropped, 'row')} nearly the same as an earlier one, with the same target"
        )
        made.append(Decision("data.duplicates.near", "keep" if dataset.keeps_near else "drop", why))
    if recipe.data.redact == "auto":
        found = ", ".join(plural(one.kind, one.rows) for one in dataset.private) or "none"
        made.append(Decision("data.redact", False, f"private data are counted and told, and nothing is changed; found: {found}"))
    return made


def bits_to_learn(policy: Policy, units: Sequence[Unit]) -> float:
    """Return about how much these say: log2 of the classes for a label, a bit for each class of a row that may have several, and for each
    token of text, pair of answers, rating or number."""
    return sum(_bits(row, len((policy.tasks[row.task] if row.task else policy).classes)) for unit in units for row in unit)


def _bits(row: Row, num_classes: int) -> float:
    answers = sum(row.weights.values())
    several = bool(row.vectors) and answers == num_classes  # every class is asked about by itself
    return answers if several else answers * math.log2(max(2, num_classes))


def bits_foreseen(examples: Sequence[Example], tokens: Sequence[int]) -> float:
    """Return the same where there is no model to ask: each row by what it is labelled with, one that is not by a bit for each of its `tokens`."""
    spellings = {name for example in examples for name in _names(example)}
    label = math.log2(max(2, len(spellings)))
    return sum(_foreseen(example, length, label, len(spellings)) for example, length in zip(examples, tokens, strict=True))


def _foreseen(example: Example, length: int, label: float, num_classes: int) -> float:
    if example.labels is not None:
        return num_classes
    if example.chosen is not None or example.value is not None:
        return 1.0
    return label * len(names) if (names := _names(example)) else length


def _names(example: Example) -> tuple[str, ...]:
    """Return the names of classes in a row, each as often as it stands there."""
    return example.token_labels or example.labels or (() if example.label is None else (example.label,))


def counted_as(objective: Objective, policy: Policy) -> str:
    """Return what a bit stands for where the rows do not show it, as the end of a reason; else nothing."""
    if objective.online:
        return ". A prompt counts one bit: a reward says little"
    if objective.head == "masked":
        return ". A token counts one bit where one pass hides it"
    return ". A token counts one bit for itself and one for the teacher's say, where both are learnt" if policy.teacher else ""


def size(
    recipe: Recipe, technique: Technique, policy: Policy, bits: float, counted: str, folder: Path | None
) -> tuple[Recipe, Technique, list[Decision]]:
    """Return recipe and technique with the numbers that follow from the model and from how much is to be learnt, and what each number is.

    `counted` says how the bits were counted.
    """
    choice = chosen(recipe)
    found = technique.sized(policy, bits) if isinstance(technique, Sized) else {}
    made = [Decision(f"technique.{name}", value, f"{reason}{counted}") for name, (value, reason) in found.items()]
    if found:
        choice = Choice(name=choice.name, **choice.settings | {name: value for name, (value, _) in found.items()})
        recipe = recipe.model_copy(update={"technique": choice})
        technique = build_technique(choice, folder)
    return recipe, technique, made + _standard(choice, technique)


def as_settled(recipe: Recipe, decisions: Sequence[Mapping[str, Any]], folder: Path | None) -> Recipe:
    """Return a run's stored recipe with the technique's numbers that the run goes by, where a default is another one now."""
    choice = chosen(recipe)
    technique = build_technique(choice, folder)
    fields: Mapping[str, FieldInfo] = type(technique).__pydantic_fields__  # type: ignore[attr-defined]
    settled = {}
    for decision in decisions:
        section, _, name = decision["key"].partition(".")
        if (
            section == "technique"
            and name in fields
            and name not in choice.settings
            and getattr(technique, name) != decision["value"]
        ):
            settled[name] = decision["value"]
    return recipe.model_copy(update={"technique": Choice(name=choice.name, **choice.settings | settled)}) if settled else recipe


def _standard(choice: Choice, technique: Technique) -> list[Decision]:
    """Return the numbers that a technique goes by where the recipe names none, each with what it is."""
    fields: Mapping[str, FieldInfo] = type(technique).__pydantic_fields__  # type: ignore[attr-defined]
    return [
        Decision(
            f"technique.{name}", value, f"the default of {choice.name}. {(field.description or '').split('. ')[0].rstrip('.')}"
        )
        for name, field in fields.items()
        if name not in choice.settings and type(value := getattr(technique, name)) in {int, float}
    ]


def chosen(recipe: Recipe) -> Choice:
    """Return the technique of a recipe in which it is settled."""
    assert isinstance(recipe.technique, Choice)
    return recipe.technique
