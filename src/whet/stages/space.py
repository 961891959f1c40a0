"""The space of a search: from the recipe's words to optuna's distributions, and from a trial's setting to a recipe."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet import plugins
from whet.engine.study import optuna
from whet.errors import RecipeError
from whet.protocols import Space
from whet.recipe import Recipe
from whet.recipe_file import build_recipe
from whet.stages.build import check_plugins

SECTIONS = ("model", "objective", "technique", "train")
"""Parts of a recipe that a search may change; the others say what trials are compared on."""
KINDS = {"technique": "techniques", "objective": "objectives", "train.schedule": "schedules", "train.optimiser": "optimisers"}
RANGE = {"low", "high", "log", "step"}


@dataclass(frozen=True, slots=True)
class SearchSpace:
    """What may be tried."""

    distributions: Space
    recipe: Recipe
    """The recipe's own setting."""

    def apply(self, params: Mapping[str, Any]) -> Recipe:
        """Return the recipe with a trial's setting. Raises RecipeError."""
        ordered = sorted(params, key=lambda key: (key.count("."), key))  # a plugin before its settings
        sets = [f"{key}={json.dumps(meant(params[key]))}" for key in ordered]
        return build_recipe(self.recipe.model_dump(mode="json", exclude_none=True), "the search", sets)

    def inside(self, recipe: Recipe, folder: Path | None) -> dict[str, Any] | None:
        """Return a recipe's setting as a trial has it; None where it lies outside the space. The recipe holds no `auto`."""
        found = {key: _named(value_at(recipe, key, folder)) for key in self.distributions}
        for key, distribution in self.distributions.items():
            try:
                fits = distribution._contains(distribution.to_internal_repr(found[key]))
            except (ValueError, TypeError):
                fits = False
            if not fits:
                return None
        return found


def build_space(recipe: Recipe, folder: Path | None) -> SearchSpace:
    """Return the space of `search.space`. Raises RecipeError, with its place, for what cannot be searched."""
    assert recipe.search is not None
    found: dict[str, Any] = {}
    for key, given in recipe.search.space.items():
        try:
            found[key] = _distribution(key, given)
        except ValueError as error:
            raise RecipeError(f"{recipe.place('search', 'space', key)}: '{key}' {error}") from None
    space = SearchSpace(found, recipe)
    for key, distribution in found.items():
        for value in getattr(distribution, "choices", None) or (distribution.low, distribution.high):
            _try(space, key, value, folder)
    return space


def meant(value: Any) -> Any:
    """Return what a trial's value stands for in a recipe: a list or a section is kept as its JSON."""
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" and value else value


def value_at(recipe: Recipe, key: str, folder: Path | None) -> Any:
    """Return what stands at a key of a recipe, of a plugin's setting its default; None where there is no such key."""
    node: Any = recipe.model_dump(mode="json")
    parts = key.split(".")
    for depth, part in enumerate(parts):
        if not isinstance(node, dict):
            return None
        if part not in node and ".".join(parts[:depth]) in KINDS:
            settings = {name: value for name, value in node.items() if name != "name"}
            made = plugins.build(KINDS[".".join(parts[:depth])], node["name"], settings, folder)
            node = vars(made).get(part)
        else:
            node = node.get(part)
    plain = isinstance(node, dict) and set(node) == {"name"}
    return node["name"] if plain else node


def _named(value: Any) -> Any:
    return json.dumps(value, sort_keys=True) if isinstance(value, list | dict) else value


def _distribution(key: str, given: Any) -> Any:
    """Return optuna's distribution. Raises ValueError with what was found and what is allowed."""
    if key.split(".")[0] not in SECTIONS:
        allowed = ", ".join(f"{name}.*" if name != "model" else name for name in SECTIONS)
        raise ValueError(f"is not searched: it does not change how a model learns from the same rows. Allowed: {allowed}.")
    distributions = optuna().distributions
    choices = given.get("choices") if isinstance(given, dict) and set(given) == {"choices"} else given
    if isinstance(choices, list | tuple):
        named = [_named(value) for value in choices]
        if not named:
            raise ValueError("has no choices, so there is nothing to try. Name at least one, or leave the key out.")
        if len({json.dumps(value) for value in named}) < len(named):
            raise ValueError(f"names a choice twice: {', '.join(map(str, named))}. Name each once.")
        return distributions.CategoricalDistribution(named)
    shape = "{low: 1.0e-5, high: 1.0e-3, log: true}, a list such as [4, 8, 16], or {choices: [...]}"
    if not isinstance(given, dict) or not {"low", "high"} <= set(given) <= RANGE:
        raise ValueError(f"is {given!r}; allowed: {shape}.")
    low, high, log, step = given["low"], given["high"], given.get("log", False), given.get("step")
    if not all(_is_number(number) for number in (low, high, *([] if step is None else [step]))) or not isinstance(log, bool):
        raise ValueError(f"is {given!r}; low, high and step are numbers, and log is true or false: {shape}.")
    if low >= high:
        raise ValueError(f"has low {low:g} and high {high:g}; low must be below high. Exchange them, or leave the key out.")
    if log and low <= 0:
        raise ValueError(f"has log and low {low:g}; a logarithm needs low above 0. Raise it, or leave log out.")
    if step is not None and (log or step <= 0):
        raise ValueError(f"has step {step:g}; a step is above 0, and does not go with log. Leave one of them out.")
    if all(isinstance(number, int) for number in (low, high)) and isinstance(step, int | None):
        return distributions.IntDistribution(low, high - (high - low) % (step or 1), log=log, step=step or 1)
    if step is not None:
        high = low + math.floor((high - low) / step + 1e-9) * step
    return distributions.FloatDistribution(float(low), float(high), log=log, step=step)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _try(space: SearchSpace, key: str, value: Any, folder: Path | None) -> None:
    """Raise RecipeError, with its place, where a value of the space makes no valid recipe by itself."""
    recipe = space.recipe
    above = key.split(".")[0]
    if key.startswith("technique.") and recipe.technique == "auto" and "technique" not in space.distributions:
        raise RecipeError(
            f"{recipe.place('search', 'space', key)}: '{key}' is a setting of a technique, and `technique` is auto. "
            "Name one, such as technique: lora."
        )
    others = {name: one.choices[0] for name, one in space.distributions.items() if name == above and name != key}
    try:
        check_plugins(space.apply({**others, key: value}), folder)
    except RecipeError as error:
        raise RecipeError(f"{recipe.place('search', 'space', key)}: {error}") from None
