"""`whet plan`: what training by a recipe takes, before anything is trained: memory, time, disk, money; what fits; what to do."""

from __future__ import annotations

import itertools
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from transformers import AutoConfig

from whet.data.dataset import Dataset
from whet.engine.fit import Training, fit, validation
from whet.engine.machine import choose_precision, describe, free_memory, memory_now, peak_accelerator_memory, peak_memory
from whet.errors import RecipeError, TrainingError
from whet.files import expanded, write_json
from whet.models.builtin import builtin_folder
from whet.models.memory import ACCELERATOR_PROGRAM, GIB, PROGRAM, Estimate, Load, Shape, estimate
from whet.models.policy import Kind
from whet.models.recompute import recompute_blocks
from whet.models.shapes import shape_of, shape_of_config
from whet.recipe import Recipe
from whet.recipe_parts import Choice
from whet.stages.advice import advise, gib, models, ranks, techniques, way_load
from whet.stages.build import build_objective, build_optimiser, check_plugins
from whet.stages.decide import Decision, choose_max_tokens
from whet.stages.estimate import (
    Seconds,
    job_load,
    logits_of,
    program_bytes,
    seconds_of,
    state_bytes,
    unit_tokens,
)
from whet.stages.fitting import recomputed_load, why_again
from whet.stages.job import Job, build_job, loading, refuse
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import prepare_data
from whet.stages.settle import bits_foreseen
from whet.types import Cursor, Example, StepRows, Unit

DEVICES: Mapping[str, float] = {
    "t4": 16, "v100": 16, "l4": 24, "a10": 24, "a10g": 24, "l40s": 48, "a40": 48, "a6000": 48, "a100": 40, "a100-40": 40, "a100-80": 80,
    "h100": 80, "h200": 141, "b200": 180, "mi300x": 192, "rtx2080ti": 11, "rtx3060": 12, "rtx3080": 10, "rtx3090": 24, "rtx4060": 8,
    "rtx4070": 12, "rtx4080": 16, "rtx4090": 24, "rtx5080": 16, "rtx5090": 32,
}  # fmt: skip
"""Usual accelerators, and their memory in GiB."""
SCALES = {
    "": GIB,
    "g": GIB,
    "gb": 10**9,
    "gib": GIB,
    "m": 2**20,
    "mb": 10**6,
    "mib": 2**20,
    "t": 2**40,
    "tb": 10**12,
    "tib": 2**40,
}
TIGHT = 0.85
"""Share of the memory above which it only just fits."""
CHARACTERS = 4
"""Of a token, where no tokenizer is loaded; English words and their parts."""


@dataclass(frozen=True, slots=True)
class Probe:
    """Three real steps."""

    seconds: Seconds
    peak_bytes: int
    """Most that the process held, with the longest rows in one step."""


def plan(
    recipe: Recipe,
    *,
    folder: Path | None = None,
    device_memory: str | None = None,
    probe: bool = True,
    price_per_hour: float | None = None,
    out: Path | None = None,
    narrator: Narrator = SILENT,
) -> dict[str, Any]:
    """Return what training takes and whether it fits. Nothing is written but `out`, a JSON file, if one is named.

    `device_memory` is another machine's accelerator, as a size or a usual name; then nothing is probed, since that machine is not here.
    Raises WhetError; Refused where the rows cannot be learnt from. That it does not fit is an answer, in `fits`.
    """
    if out is not None and out.exists():
        raise RecipeError(f"{out}: this file exists, and nothing is written over. Name another one with --out.")
    if price_per_hour is not None and not 0 <= price_per_hour < float("inf"):
        raise RecipeError(f"a price of {price_per_hour} an hour; allowed: 0 or more.")
    limit = device_bytes(device_memory) if device_memory is not None else None
    check_plugins(recipe, folder)
    dataset = prepare_data(recipe, folder, narrator, spend=False)
    shape = _shape_unloaded(recipe)
    held = ACCELERATOR_PROGRAM if peak_accelerator_memory() is not None else memory_now()
    too_large = shape is not None and 4 * shape.size + held > free_memory()
    if too_large:
        assert shape is not None
        narrator.say(
            f"{recipe.model} itself does not fit into the memory here, so it is not loaded: all numbers follow from the formula."
        )
        found = _unloaded(recipe, dataset, shape, folder, limit)
    else:
        narrator.say(loading(recipe.model, recipe, folder))
        begun = time.monotonic()
        job = build_job(recipe, dataset, folder)
        load_s = time.monotonic() - begun
        refuse(job.findings)
        found = _planned(job, recipe, limit, load_s if probe and limit is None else None, narrator)
    found = {"run": None, **found, "machine": describe() | {"free_bytes": free_memory()}}
    found["money"] = None if price_per_hour is None or not found["seconds"] else _money(price_per_hour, found["seconds"])
    found["sentence"] = sentence(found)
    if out is not None:
        write_json(out, found)
    return found


def device_bytes(asked: str) -> int:
    """Return the memory of an accelerator: a size such as 16GiB, or a usual name such as A100. Raises RecipeError."""
    name = re.sub(r"[\s_]|nvidia|geforce", "", asked.lower())
    name = re.sub(r"^(a100|h100)-?(\d+)(gb|gib)?$", r"\1-\2", name)
    name = {"h100-80": "h100"}.get(name, name)
    if name in DEVICES:
        return round(DEVICES[name] * GIB)
    size = re.fullmatch(r"(\d+(?:\.\d+)?)([a-z]*)", name)
    if size is None or size[2] not in SCALES or not 0 < float(size[1]) * SCALES[size[2]] < 2**50:
        raise RecipeError(
            f"--device-memory {asked}: neither a size nor a usual accelerator. Allowed: a size such as 16GiB, or one of "
            f"{', '.join(DEVICES)}."
        )
    return round(float(size[1]) * SCALES[size[2]])


def sentence(found: Mapping[str, Any]) -> str:
    """Return the plan in one sentence or two."""
    memory, where = found["memory"], "there" if found["elsewhere"] else "here"
    takes = f"about {gib(memory['needed_bytes'])}"
    if found["seconds"]:
        takes = f"{_range(found['seconds']['low'], found['seconds']['high'])} and {takes}"
    if not found["fits"]:
        why = found["does_not_fit"]
        return f"This would take {takes} {where}. It does not fit: {why}."
    tight = memory["needed_bytes"] > TIGHT * memory["limit_bytes"]
    fits = f"It only just fits ({gib(memory['limit_bytes'])} free): close other programs" if tight else "It fits"
    return f"This will take {takes} {where}. {fits}."


def _planned(job: Job, recipe: Recipe, limit: int | None, load_s: float | None, narrator: Narrator) -> dict[str, Any]:
    """Plan with the model at hand. `load_s`: how long that took; none: no steps are tried."""
    shape, elsewhere = shape_of(job.policy), limit is not None
    load, program = (_elsewhere(job, recipe) if elsewhere else job_load(job)), program_bytes(job)
    room = limit if limit is not None else free_memory()
    plain = estimate(shape, load, program).total
    load = recomputed_load(recipe, load, room, lambda one: estimate(shape, one, program).total)
    guess = estimate(shape, load, program)
    if load.recomputed:
        job.recomputed = True
        why = why_again(recipe.train.gradient_checkpointing, plain, room)
        job.decisions.append(Decision("train.gradient_checkpointing", True, why))
        narrator.say(f"Gradient checkpointing: blocks are computed again in the backward pass, {why}.")
    probed = None
    if load_s is not None and guess.total <= room:
        narrator.say("Trying three steps ...")
        probed = _probe(job, load_s, narrator)
    disk = _disk(job, load)
    needed = max(guess.total, probed.peak_bytes if probed else 0)
    reason = f"it takes {gib(needed)}, and {gib(room)} are free" if needed > room else ""
    if not elsewhere and disk["bytes"] > disk["free_bytes"]:
        reason = f"it writes {gib(disk['bytes'])}, and {gib(disk['free_bytes'])} of the disk are free"
    by = ranks(recipe, job.bits)
    ways = techniques(job, shape, load, program, room, by)
    others = models(job.objective.head, load, program, room, by)
    lengths = [row.length for unit in job.train_units for row in unit]
    facts = {
        "rows": len(job.dataset.train),
        "mean_tokens": round(fmean(lengths), 1),
        "longest_tokens": max(lengths),
        "objective": recipe.objective.name,
        "model": recipe.model,
        "parameters": shape.size,
        "learning": load.trainable,
        "technique": job.recipe.technique.name if isinstance(job.recipe.technique, Choice) else "",
        "rank": ranks(job.recipe, job.bits).named,
        "steps": job.plan.num_steps,
        "batch_size": job.plan.batch_size,
        "micro_batch_tokens": load.tokens,
        "precision": load.precision,
    }
    return {
        "fits": not reason,
        "does_not_fit": reason or None,
        "elsewhere": elsewhere,
        "facts": facts,
        "memory": {
            **guess.record(),
            "needed_bytes": needed,
            "limit_bytes": room,
            "measured_bytes": probed and probed.peak_bytes,
            "gradient_checkpointing": load.recomputed,
        },
        "seconds": probed.seconds.record() if probed else None,
        "disk": disk,
        "techniques": ways,
        "models": others,
        "advice": advise(facts, shape, load, program, room, ways, others, not reason),
        "decisions": [asdict(decision) for decision in job.decisions],
    }


def _probe(job: Job, load_s: float, narrator: Narrator) -> Probe | None:
    """Take three steps on the job's own policy, which nothing else uses: one with the longest rows, two with usual ones; and one validation."""
    if job.recomputed:
        recompute_blocks(job.policy)
    settings = replace(job.plan, num_steps=max(3, job.plan.num_steps))
    training = Training.begin(job.policy, job.objective, settings)
    longest = sorted(job.train_units, key=unit_tokens)[-settings.batch_size :]
    state = training.objective_state

    def rows() -> Iterator[StepRows]:
        yield next(job.objective.steps(longest, job.policy, settings, Cursor(), state))
        yield from itertools.islice(
            job.objective.steps(job.train_units, job.policy, settings, Cursor(), training.objective_state), 2
        )

    _reset_peak()
    marks = [time.monotonic()]
    try:
        for _ in fit(job.policy, job.objective, rows(), settings, training):
            marks.append(time.monotonic())
        validations = _validate_some(job, training)
    except TrainingError as error:
        narrator.say(f"Note: the three steps could not be taken ({error}), so there is no time and no measured memory.")
        return None
    peak = peak_accelerator_memory()
    steps = [after - before for before, after in itertools.pairwise(marks)][1:]
    return Probe(seconds_of(job, steps, validations, load_s), peak_memory() if peak is None else peak)


def _validate_some(job: Job, training: Training) -> list[float]:
    """Time a share of the validation rows, and return what all of them would take."""
    if not job.validation_units or job.objective.online:
        return []
    some, held = list[Unit](), 0
    for unit in job.validation_units:
        some.append(unit)
        held += unit_tokens(unit)
        if held >= job.plan.max_tokens:
            break
    begun = time.monotonic()
    validation(job.policy, job.objective, job.train_units, some, job.plan, training.objective_state)
    return [(time.monotonic() - begun) * sum(map(unit_tokens, job.validation_units)) / held]


def _reset_peak() -> None:
    """Let the most memory that was held begin anew, where the system can."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _elsewhere(job: Job, recipe: Recipe) -> Load:
    """Return the load on an accelerator: what is `auto` in the recipe becomes what it would be there."""
    max_tokens = choose_max_tokens(True, job.policy.kind)[0] if recipe.train.max_tokens == "auto" else None
    precision = "bf16" if recipe.train.precision == "auto" else recipe.train.precision
    return job_load(job, max_tokens, precision, accelerator=True)


def _disk(job: Job, load: Load) -> dict[str, int]:
    """Return what a run writes: checkpoints that are kept, with the best one beside them, in each phase; and the model."""
    one = round(load.trainable * (4 + load.state))
    kept = (job.recipe.train.checkpoint.keep + 1) * (2 if load.again else 1)
    model = 4 * (job.policy.num_parameters if load.whole else load.trainable)
    return {
        "bytes": kept * one + model,
        "checkpoint_bytes": one,
        "checkpoints": kept,
        "model_bytes": model,
        "free_bytes": _free_disk(),
    }


def _free_disk() -> int:
    return shutil.disk_usage(Path.cwd()).free


def _shape_unloaded(recipe: Recipe) -> Shape | None:
    """Return the sizes of a model whose files lie here, without loading it; none where they do not."""
    name = recipe.model
    folder = builtin_folder(name.removeprefix("builtin:")) if name.startswith("builtin:") else expanded(name)
    try:
        if not (folder / "config.json").is_file():
            return None
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        parameters = 0
        for file in folder.glob("*.safetensors"):
            with safe_open(file, "pt") as opened:
                for key in opened.keys():  # noqa: SIM118  # no mapping
                    numbers = 1
                    for side in opened.get_slice(key).get_shape():
                        numbers *= side
                    parameters += numbers
        kind: Kind = "decoder" if any("CausalLM" in one for one in config.architectures or ()) else "encoder"
        return shape_of_config(name, config, kind, parameters or None)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, SafetensorError):  # loading says in words what is wrong
        return None


def _unloaded(recipe: Recipe, dataset: Dataset, shape: Shape, folder: Path | None, limit: int | None) -> dict[str, Any]:
    """Plan from the sizes alone, for a model that cannot even be loaded here."""
    objective = build_objective(recipe.objective, folder)
    lengths = [max(4, _characters(example) // CHARACTERS) for example in dataset.train]
    longest = min(max(lengths), recipe.train.max_length if recipe.train.max_length != "auto" else 2048)
    batch = 16 if recipe.train.batch_size == "auto" else recipe.train.batch_size
    room = limit if limit is not None else free_memory()
    elsewhere = limit is not None
    most = choose_max_tokens(elsewhere, shape.kind)[0] if recipe.train.max_tokens == "auto" else recipe.train.max_tokens
    precision = choose_precision()[0] if recipe.train.precision == "auto" else recipe.train.precision
    load = Load(
        tokens=max(longest, min(most, round(1.3 * batch * fmean(lengths)))), scored=min(most, sum(lengths)), supervised=1.0, row=longest,
        precision="bf16" if elsewhere else precision, trainable=0, logits=logits_of(objective.head), accelerator=elsewhere,
        state=_state_unloaded(recipe, shape, folder),
    )  # fmt: skip
    name = "lora" if recipe.technique == "auto" else recipe.technique.name
    by = ranks(recipe, len(lengths) if objective.online else bits_foreseen(dataset.train, lengths))
    ways = {way: way_load(way, shape, load, by.of(shape), 0, objective.reference) for way in ("full", "lora", "qlora")}
    load = ways.get(name, ways["lora"])
    program = max(PROGRAM, memory_now())
    load = recomputed_load(recipe, load, room, lambda one: estimate(shape, one, program).total)
    ways = {way: replace(one, recomputed=load.recomputed) for way, one in ways.items()}
    guess: Estimate = estimate(shape, load, program)
    rows = []
    for way, asked in ways.items():
        total = estimate(shape, asked, program).total
        rows.append({"technique": way, "learning": asked.trainable, "bytes": total, "fits": total <= room, "chosen": way == name})
    others = models(objective.head, load, program, room, by)
    facts = {
        "rows": len(dataset.train), "mean_tokens": round(fmean(lengths), 1), "longest_tokens": longest, "objective": recipe.objective.name,
        "model": recipe.model, "parameters": shape.size, "learning": load.trainable, "technique": name,
        "rank": by.of(shape) if name in {"lora", "qlora"} else None, "steps": None, "batch_size": batch,
        "micro_batch_tokens": load.tokens, "precision": load.precision,
    }  # fmt: skip
    fits = guess.total <= room
    return {
        "fits": fits,
        "does_not_fit": None if fits else f"it takes {gib(guess.total)}, and {gib(room)} are free",
        "elsewhere": elsewhere,
        "facts": facts,
        "memory": {
            **guess.record(),
            "needed_bytes": guess.total,
            "limit_bytes": room,
            "measured_bytes": None,
            "gradient_checkpointing": load.recomputed,
        },
        "seconds": None,
        "disk": None,
        "techniques": rows,
        "models": others,
        "advice": advise(facts, shape, load, program, room, rows, others, fits),
        "decisions": [],
    }


def _state_unloaded(recipe: Recipe, shape: Shape, folder: Path | None) -> float:
    """Return the bytes that the optimiser keeps of each number of a hidden layer's matrix."""
    name, sides = "network.layer.weight", (shape.inner, shape.width)
    return state_bytes(
        build_optimiser(recipe.train.optimiser, folder), [(name, torch.empty(sides, device="meta"))], {name: False}
    )


def _characters(example: Example) -> int:
    parts = [example.text, example.text_pair, example.chosen, *(message.content for message in example.messages or ())]
    return sum(len(part) for part in parts if part)


def _money(price: float, seconds: Mapping[str, float]) -> dict[str, float]:
    return {"per_hour": price, "low": round(price * seconds["low"] / 3600, 4), "high": round(price * seconds["high"] / 3600, 4)}


def _range(low: float, high: float) -> str:
    """Return two times as words: '2 to 6 minutes'."""
    unit, size = next((unit for unit in (("hours", 3600.0), ("minutes", 60.0)) if high >= 1.5 * unit[1]), ("seconds", 1.0))
    ends = [
        f"{max(value / size, 1 if unit == 'seconds' else 0.1):.{0 if value / size >= 10 or unit == 'seconds' else 1}f}"
        for value in (low, high)
    ]
    return f"about {ends[1]} {unit}" if ends[0] == ends[1] else f"{ends[0]} to {ends[1]} {unit}"
