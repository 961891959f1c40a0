"""How a job is made to fit into the memory there is: several devices share the model, blocks are computed again. Nothing of it changes a result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from whet.engine.machine import free_memory
from whet.engine.parallel import Way, by_first, on_this_machine, size
from whet.errors import RecipeError
from whet.models.memory import GIB, Load
from whet.recipe import Recipe
from whet.stages.decide import Decision
from whet.stages.estimate import bits_of, estimate_job
from whet.stages.job import Job
from whet.stages.narrate import Narrator

WORDS: dict[Way, str] = {"ddp": "each with the whole model", "fsdp": "each with a share of the model"}


@dataclass(frozen=True, slots=True)
class Fit:
    """What was chosen, and what to say of it."""

    way: Way
    recomputed: bool
    said: tuple[str, ...] = ()


def make_fit(job: Job, narrator: Narrator) -> None:
    """Choose for all devices how the job fits, and say it. Raises RecipeError where the recipe asks for what cannot be."""
    chosen = by_first(lambda: choose(job, room_here(job)))
    job.way, job.recomputed = chosen.way, chosen.recomputed
    for words in chosen.said:
        narrator.say(words)


def room_here(job: Job) -> int:
    """Return the memory that a process may take: processes without a device of their own share the machine's."""
    return free_memory() // (on_this_machine() if job.policy.device.type == "cpu" else 1)


def choose(job: Job, room: int) -> Fit:
    """Return the first way that fits: as it is; in shares, where there are several devices; with blocks computed again; or the least of all."""
    asked, again = job.recipe.train.parallel, job.recipe.train.gradient_checkpointing
    obstacle = _obstacle(job) if size() > 1 else ""
    if asked == "fsdp" and obstacle:
        raise RecipeError(f"train.parallel is fsdp, and {obstacle}. Set it to ddp, or to auto.")
    if size() > 1 and asked == "fsdp" and again is True:
        raise RecipeError(
            "train.parallel is fsdp, and train.gradient_checkpointing is true: blocks whose weights lie in shares cannot be computed again. "
            "Set the one to ddp, or the other to false."
        )
    shared: list[Way] = ["ddp", "fsdp"] if size() > 1 and not obstacle else ["ddp"]
    ways: list[Way] = shared if asked == "auto" else [asked] if size() > 1 else ["ddp"]
    several = [(way, one) for one in _again_or_not(job.recipe) for way in ways if (way, one) != ("fsdp", True)]
    needed = {pair: estimate_job(replace(job, way=pair[0], recomputed=pair[1])).total for pair in several}
    way, recomputed = next((pair for pair in several if needed[pair] <= room), min(several, key=lambda pair: needed[pair]))
    first, said = needed[several[0]], list[str]()
    if size() > 1:
        why = f"train.parallel: {asked}" if asked != "auto" else _why(way, first, room, obstacle)
        said.append(f"Training on {size()} devices, {WORDS[way]} ({why}).")
    if recomputed:
        said.append(f"Gradient checkpointing: blocks are computed again in the backward pass, {why_again(again, first, room)}.")
    return Fit(way, recomputed, tuple(said))


def _again_or_not(recipe: Recipe) -> list[bool]:
    """Return whether blocks may be computed again, in the order in which it is tried. In int8 they may not: it would change the result."""
    again = recipe.train.gradient_checkpointing
    if again != "auto":
        return [again]
    return [False] if recipe.train.frozen_precision == "int8" else [False, True]


def decided(job: Job, chosen: Fit, room: int) -> list[Decision]:
    """Return what came of each `auto` of the machine. The words stay in the recipe: a run may go on elsewhere, and in the same result."""
    train, made = job.recipe.train, []
    if train.gradient_checkpointing == "auto":
        needed = estimate_job(replace(job, way=chosen.way, recomputed=False)).total
        why = why_again("auto", needed, room)
        if not chosen.recomputed:
            fits = "without it this fits" if needed <= room else "with it this would take no less"
            if train.frozen_precision == "int8":
                fits = "products in int8 are made by the fused steps alone"
            why = f"{fits}: about {needed / GIB:,.1f} GiB, and {room / GIB:,.1f} GiB are free"
        made.append(Decision("train.gradient_checkpointing", chosen.recomputed, why))
    if train.parallel == "auto":
        several = f"{size()} devices, {WORDS[chosen.way]}"
        made.append(Decision("train.parallel", chosen.way, several if size() > 1 else "one device: nothing is shared"))
    return made


def recomputed_load(recipe: Recipe, load: Load, room: int, total: Callable[[Load], int]) -> Load:
    """Return the load with gradient checkpointing where the recipe asks for it, or where it does not fit without."""
    ways = _again_or_not(recipe)
    return replace(load, recomputed=ways[0] if len(ways) == 1 else total(load) > room)


def why_again(asked: object, needed: int, room: int) -> str:
    """Return the reason for gradient checkpointing in words."""
    if asked is True:
        return "as train.gradient_checkpointing asks"
    return f"since without it this is estimated to take {needed / GIB:,.1f} GiB, and {room / GIB:,.1f} GiB are free"


def _why(way: Way, needed: int, room: int, obstacle: str) -> str:
    sizes = f"about {needed / GIB:,.1f} GiB of {room / GIB:,.1f} GiB each"
    if way == "fsdp":
        return f"the whole does not fit: {sizes}"
    if needed <= room:
        return f"it fits: {sizes}"
    return f"it does not fit, {sizes}" + (f", and cannot be shared: {obstacle}" if obstacle else "")


def _obstacle(job: Job) -> str:
    """Return why the model cannot lie in shares; nothing where it can."""
    recipe = job.recipe
    if not getattr(job.plan.optimiser, "elementwise", False):  # a plugin need not say so
        return (
            f"optimiser '{recipe.train.optimiser.name}' looks at whole matrices, which no device has then; adamw and lion do not"
        )
    if recipe.parents:
        return "a run that goes on from parents needs whole weights in the end"
    if bits_of(job) != "fp32":
        return "quantised weights cannot be shared"
    if recipe.train.frozen_precision == "int8":
        return "products in int8 (train.frozen_precision) need whole weights"
    return ""
