"""`whet compress`: a smaller copy of a trained run, as a run of its own, measured beside the one it was made of."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

import whet
from whet.data.dataset import Dataset
from whet.engine.cut import cut, pack
from whet.engine.generate import generate
from whet.engine.latency import measure_in_turn
from whet.engine.machine import computing, describe
from whet.engine.order import permutation
from whet.errors import Interrupted, ModelError
from whet.files import write_json
from whet.models.compressed import COMPRESSED, save_compressed
from whet.models.policy import Policy
from whet.models.save import HEADS, POLICY, load_base, load_tuned
from whet.models.tensors import save_tensors
from whet.protocols import Compressor
from whet.recipe_file import parse_settings
from whet.report.compression import BEFORE, Latency, build_comparison
from whet.report.scores import Group, Resampling
from whet.run import Run, free_path, new_run, open_run
from whet.stages.build import asked_metrics, measured_by, metric_settings
from whet.stages.decide import choose_metric
from whet.stages.finished import beside_reference, build_named, merge, parent, technique_of, test_rows, weight_bytes
from whet.stages.gate import respect_gate
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import stored_dataset
from whet.stages.tuned import Tuned, load_run
from whet.types import Batch, Example, Output

COMPRESSION = "compression.json"
TIMED_ROWS = 8
TIMED_PROMPTS = 4
TIMED_TOKENS = 24


def compress(
    path: Path,
    method: str,
    *,
    sets: Sequence[str] = (),
    out: Path | None = None,
    recipe: Path | None = None,
    ignore_gate: bool = False,
    narrator: Narrator = SILENT,
) -> Run:
    """Make a run smaller by a plugin of kind compressors, and measure size, speed and answers before and after. Returns the new run.

    `sets` are the plugin's settings. Answers are of the run's own test rows, from the file that was written. Raises RecipeError,
    ModelError, RunError, and Refused where the run's gate has refused it.
    """
    run = open_run(path)
    respect_gate(run, "compress", ignore_gate)
    settings = parse_settings(sets)
    compressor: Compressor
    compressor, named = build_named("compressors", method, settings, None if recipe is None else recipe.parent)
    place = free_path(out, f"{run.name}-{Path(method).stem}")
    try:
        tuned = load_run(path, recipe)
        if tuned.card.compressor:
            raise ModelError(
                f"{path}: was compressed with '{tuned.card.compressor}' already. Compress its parent run another way."
            )
        return _compress(tuned, compressor, named, place, narrator)
    except KeyboardInterrupt:
        raise Interrupted(f"Stopped while compressing; {path} is as it was, and nothing half-written was left.") from None


def _compress(tuned: Tuned, compressor: Compressor, named: dict[str, Any], place: Path, narrator: Narrator) -> Run:
    begun = time.monotonic()
    dataset = stored_dataset(tuned.run)
    examples = test_rows(tuned, dataset, None)
    size = weight_bytes(tuned)
    before = merge(tuned)
    calibration = _calibration(tuned, dataset, compressor.calibration_rows)
    narrator.say(f"Compressing with {named['name']} ...")
    after = compressor.compress(copy.deepcopy(before), calibration)
    with new_run(place, _manifest(tuned, named)) as child:
        _write_model(tuned, after, named, child)
        after = load_tuned(child.model, technique_of(tuned))  # what is measured is what is on the disk
        groups = _groups(tuned, before, after, dataset, examples, narrator)
        narrator.say("Measuring latency, before and after in turn ...")
        evaluate = tuned.recipe.evaluate
        found = build_comparison(
            groups=groups,
            metric=_metric(tuned, dataset),
            before_bytes=size,
            after_bytes=sum(file.stat().st_size for file in child.model.glob("*.safetensors")),
            latency=_latency(tuned, before, after, examples),
            resampling=Resampling(evaluate.resamples, evaluate.seed),
            folder=tuned.folder,
        )
        write_json(
            child.path / COMPRESSION,
            {"method": named["name"], "settings": named["settings"], "parent": parent(tuned.run.path), **found},
        )
        child.note(actual={"compress_s": round(time.monotonic() - begun, 2)})
    return Run(place)


def _calibration(tuned: Tuned, dataset: Dataset, number: int) -> list[Batch]:
    """Return training rows in batches without padding, drawn by the run's seed; never rows that are tested on."""
    if not number:
        return []
    order = permutation(tuned.recipe.train.seed, 0, len(dataset.train))[:number]
    drawn = [dataset.train[index] for index in sorted(order.tolist())]
    with beside_reference(tuned):
        units = tuned.objective.units(drawn, tuned.policy, tuned.card.max_length)
    if not tuned.policy.ability.packs:  # of rows side by side the padding would be measured as well
        return [pack([row]) for unit in units for row in unit]
    return list(cut(units, tuned.policy.max_tokens))


def _write_model(tuned: Tuned, after: Policy, named: dict[str, Any], child: Run) -> None:
    for name in ("recipe.yaml", "log.jsonl", "rejects.jsonl", "splits.json"):
        if (tuned.run.path / name).is_file():
            shutil.copy2(tuned.run.path / name, child.path / name)
    shutil.copytree(tuned.run.path / "data", child.path / "data")
    child.model.mkdir()
    save_compressed(after.network, child.model)
    if len(after.heads):
        save_tensors(after.heads.state_dict(), child.model / HEADS)
    after.tokenizer.save_pretrained(child.model)
    card = replace(tuned.card, compressor=named["name"], compressor_settings=named["settings"])
    write_json(child.model / POLICY, {name: getattr(card, name) for name in card.__dataclass_fields__})
    assert (child.model / COMPRESSED).is_file()


def _groups(
    tuned: Tuned, before: Policy, after: Policy, dataset: Dataset, examples: Sequence[Example], narrator: Narrator
) -> list[Group]:
    """Return the test rows with the answers before and after, in the metrics of the run."""
    objective, settings = tuned.objective, tuned.recipe.evaluate
    given, of_answers = measured_by(objective, (_metric(tuned, dataset), *asked_metrics(tuned.recipe).values()), tuned.folder)
    changed = {name: metric_settings(tuned.recipe, name) for name in (*given, *of_answers)}
    if objective.reference:
        before.reference = after.reference = load_base(tuned.card, tuned.run.model)
    groups = []
    if given:
        narrator.say(f"Asking {len(examples):,} test rows before and after ...")
        asked_before = {BEFORE: tuned.outputs(before, examples)}
        groups.append(Group(given, examples, tuned.outputs(after, examples), asked_before, changed))
    if of_answers:
        order = permutation(settings.seed, 1, len(examples))[: settings.max_generated]
        asked = [examples[index] for index in sorted(order.tolist())]
        narrator.say(f"Writing {len(asked):,} answers before and after ...")
        written = {name: _answers(tuned, policy, asked) for name, policy in ((BEFORE, before), ("after", after))}
        groups.append(Group(of_answers, asked, written["after"], {BEFORE: written[BEFORE]}, changed))
    return groups


def _answers(tuned: Tuned, policy: Policy, asked: Sequence[Example]) -> list[Output]:
    with computing(tuned.precision, policy.device):
        return list(tuned.objective.answers(policy, asked, tuned.recipe.evaluate.max_new_tokens))


def _latency(tuned: Tuned, before: Policy, after: Policy, examples: Sequence[Example]) -> Latency:
    """Time one row after the other, or where texts are written each token of them, one text at a time."""
    few = list(examples[:TIMED_ROWS])
    if before.kind == "decoder" and tuned.objective.head == "lm":
        prompts = _prompts(tuned, few[:TIMED_PROMPTS])
        writes = [_writing(tuned, policy, prompts) for policy in (before, after)]
        times = measure_in_turn(writes, per=TIMED_TOKENS * len(prompts))
        return Latency("each written token, one text at a time", *times)
    works = [_asking(tuned, policy, few) for policy in (before, after)]
    return Latency("a row, one at a time", *measure_in_turn(works, per=len(few)))


def _prompts(tuned: Tuned, examples: Sequence[Example]) -> list[list[int]]:
    """Return the first half of each row, so long that there is room to write."""
    units = tuned.objective.units(examples, tuned.policy, tuned.card.max_length)
    rows = [unit[0].ids.tolist() for unit in units]
    room = max(1, tuned.policy.context - TIMED_TOKENS)
    return [ids[: max(1, min(len(ids) // 2, room))] for ids in rows]


def _writing(tuned: Tuned, policy: Policy, prompts: Sequence[Sequence[int]]) -> Callable[[], object]:
    def work() -> None:
        with computing(tuned.precision, policy.device):
            for prompt in prompts:
                list(generate(policy, [prompt], TIMED_TOKENS, frozenset()))

    return work


def _asking(tuned: Tuned, policy: Policy, examples: Sequence[Example]) -> Callable[[], object]:
    return lambda: [tuned.outputs(policy, [example]) for example in examples]


def _metric(tuned: Tuned, dataset: Dataset) -> str:
    asked = tuned.recipe.evaluate.metric
    known = (*tuned.objective.metrics, *tuned.objective.written_metrics)
    return choose_metric(known, dataset.originals)[0] if asked == "auto" else asked


def _manifest(tuned: Tuned, named: dict[str, Any]) -> dict[str, Any]:
    kept = ("data_sha256", "base", "plugins", "plan", "packs", "decisions", "preflight")
    inherited = {name: value for name, value in tuned.run.manifest.items() if name in kept}
    return {
        "kind": "compress",
        "whet": whet.__version__,
        "parents": [parent(tuned.run.path)],
        **inherited,
        "compressor": named,
        "machine": describe() | {"threads": torch.get_num_threads()},
        "actual": {},
    }
