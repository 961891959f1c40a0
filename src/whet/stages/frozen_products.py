"""How a job multiplies with weights that do not learn: as with all others, or in int8 where the recipe asks for it."""

from __future__ import annotations

from whet.engine.int8_products import why_not
from whet.engine.parallel import size
from whet.engine.projections import part_of
from whet.errors import RecipeError
from whet.models.policy import Policy
from whet.protocols import Objective
from whet.recipe import Recipe
from whet.recipe_parts import Choice

ALLOWED = "Allowed: lora (not variant dora), bitfit, head, full with layers"
SAME = "Set train.frozen_precision to same."
ELSEWHERE = "Go on on a machine that does, as a run that began so must, or begin anew with train.frozen_precision set to same."


def set_products(recipe: Recipe, policy: Policy, objective: Objective, precision: str) -> None:
    """Let the policy, to which the technique is attached, multiply as the recipe asks. Raises RecipeError where it cannot."""
    int8 = recipe.train.frozen_precision == "int8"
    reason = _obstacle(recipe, policy, objective, precision) if int8 else ""
    if reason:
        raise RecipeError(f"train.frozen_precision is int8, and {reason}. {SAME}")
    if int8 and (missing := why_not()) is not None:
        raise RecipeError(f"train.frozen_precision is int8, and {missing}. {ELSEWHERE}")
    if policy.fusion is not None:
        policy.fusion.multiply(int8=int8)


def _as_set(technique: Choice) -> str:
    """Return the technique's name with the settings that it has."""
    given = "".join(f", {key}: {value}" for key, value in technique.settings.items())
    return f"{{name: {technique.name}{given}}}" if given else f"'{technique.name}'"


def _obstacle(recipe: Recipe, policy: Policy, objective: Objective, precision: str) -> str:
    """Return why frozen weights cannot be multiplied in int8, as the end of a sentence; nothing where they can."""
    assert isinstance(recipe.technique, Choice)
    name, body = recipe.technique.name, policy.network.base_model
    if policy.device.type != "cpu":
        return "this job computes on an accelerator; int8 is for the processor"
    if precision != "bf16":
        return f"train.precision is {precision} here; what is not frozen must be bf16 beside it"
    if objective.reference or objective.online:
        return f"objective '{recipe.objective.name}' compares with answers of the model as it was, which are computed exactly"
    if policy.fusion is None:
        return f"{recipe.model} is not computed by the package's own steps: {policy.ability.unfused}"
    if recipe.train.gradient_checkpointing is True:
        return "train.gradient_checkpointing is true, which computes blocks by the network's own modules"
    if size() > 1 and recipe.train.parallel == "fsdp":
        return "train.parallel is fsdp, which computes blocks by the network's own modules"
    layers = policy.fusion.form.layers(body)
    if layers is None:
        return f"technique '{name}' changes the network's modules, which then compute by themselves. {ALLOWED}"
    groups = [[part_of(matrix) for matrix in group] for layer in layers for group in layer.groups]
    parts = [part for group in groups for part in group]
    known = [part for part in parts if part is not None]
    if len(known) < len(parts):
        own = f"{len(parts) - len(known)} of {len(parts)} layers"
        return f"technique {_as_set(recipe.technique)} puts modules of its own, which are not in int8, in the place of {own}. {ALLOWED}"
    if all(part.weight.requires_grad for part in known):
        return f"technique '{name}' leaves no weights frozen. {ALLOWED}"
    mixed = sum(len({part.weight.requires_grad for part in group if part is not None}) > 1 for group in groups)
    if mixed:
        return (
            f"technique '{name}' lets some weights learn that are one product with frozen ones ({mixed} of {len(groups)} products), "
            "and such a product is not rounded. Let layers that read the same input learn together, or none of them"
        )
    return ""
