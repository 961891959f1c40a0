"""`whet evaluate`: the tuned model against what the user would have had without tuning, on the same held-out rows."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from whet.data.dataset import Dataset
from whet.data.held_out import read_held_out
from whet.data.store import examples_hash
from whet.display import quoted
from whet.engine.machine import computing
from whet.engine.order import permutation
from whet.errors import Interrupted, RecipeError, RunError
from whet.files import file_hash, json_text, lines_text, write_together
from whet.models.save import load_base
from whet.private.kinds import plural
from whet.recipe_file import load_recipe
from whet.report.build import Group, build_report
from whet.report.html import render
from whet.report.plan import plan_against_actual
from whet.report.scores import Resampling
from whet.report.tasks import build_sharing, build_tasks_report
from whet.report.tasks_html import render_tasks
from whet.report.wording import metric_name
from whet.run import Run, open_run
from whet.stages.build import (
    asked_metrics,
    measured_by,
    metric_settings,
)
from whet.stages.decide import choose_metric
from whet.stages.few_shot import NAME, show_examples
from whet.stages.forgetting import measure_forgetting
from whet.stages.gate import GATE, gate_record, store_gate
from whet.stages.lineage import ancestors, recorded
from whet.stages.mirror import mirrored
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import stored_dataset
from whet.stages.train import alone_path, compared
from whet.stages.tuned import Tuned, load_run, load_whole
from whet.tracked import judgement
from whet.types import Example, Output

BASE = "base_model"
PAGES = "tasks"
"""Folder of a run with a page for each of several tasks."""


def evaluate(
    path: Path,
    *,
    test: Sequence[Path] = (),
    sets: Sequence[str] = (),
    recipe: Path | None = None,
    keep_learnt: bool = False,
    task: str | None = None,
    narrator: Narrator = SILENT,
) -> Run:
    """Score a trained run on its test rows, or on other files, and write report.json, report.html and predictions.jsonl.

    Of other files they lie beside the run's own, in evaluations/NAME, and the returned run's `report` is theirs; rows that the run
    has learnt from are left out of the score, unless they are to be kept. `sets` override the recipe's `evaluate`, for this
    report only. Of a run of several tasks `task` is the one that other files are for. Raises Refused where all rows were learnt
    from.
    """
    with open_run(path).lock():
        try:
            tuned = load_whole(path, recipe, sets)
            if tuned.card.tasks and task is None:
                return _evaluate_tasks(tuned, test, narrator)
            if task is not None and not test:
                raise RecipeError(
                    "--task says which task the rows of --test are for; without --test all tasks are judged together."
                )
            return _evaluate(tuned if task is None else tuned.of_task(task), test, recipe, keep_learnt, narrator)
        except KeyboardInterrupt:
            raise Interrupted(
                f"Stopped while judging; the model in {path} is whole. Judge it with: whet evaluate {quoted(path)}"
            ) from None


def _evaluate(tuned: Tuned, test: Sequence[Path], recipe: Path | None, keep_learnt: bool, narrator: Narrator) -> Run:
    begun = time.monotonic()
    dataset = stored_dataset(tuned.run)
    if tuned.task:
        dataset = dataset.of_task(tuned.task)
    examples, run, known = dataset.test, tuned.run, tuple[str, ...]()
    if test:
        found = read_held_out(
            test,
            dataset,
            tuned.objective.needs,
            tuned.folder,
            keep_learnt=keep_learnt,
            before=_learnt_before(tuned.run, narrator),
        )
        examples, known = found.examples, found.known
        run = _beside(run, test, examples)
        for notice in (*found.notices, *known):
            narrator.say(f"Note: {notice}")
    examples = _drawn(tuned, examples, narrator)
    narrator.say(f"Judging on {len(examples):,} test rows ...")
    report, groups = _judge(tuned, dataset, examples, known, narrator)
    if test:
        report |= {"test": [path.name for path in test], "rows_sha256": examples_hash({"test": examples})}
    elif recorded(tuned.run):
        report |= _forgetting(tuned, report["settings"]["metric"], recipe, report["hints"], narrator)
    _write(tuned, run, report, groups, dataset, tuned.run.records(), time.monotonic() - begun)
    if run.evaluation is None and tuned.run.manifest["kind"] == "train":
        with mirrored(tuned.run, tuned.recipe, tuned.folder, narrator) as watched:
            watched.tell(judgement(report))
    return run


def _drawn(tuned: Tuned, examples: tuple[Example, ...], narrator: Narrator) -> tuple[Example, ...]:
    """Return the rows to judge on, at most `evaluate.max_rows`. Raises RunError where there is none."""
    path, settings = tuned.run.path, tuned.recipe.evaluate
    if not examples:
        of = f" of task '{tuned.task}'" if tuned.task else ""
        option = f" --task {tuned.task}" if tuned.task else ""
        raise RunError(
            f"{path}: there are no test rows{of} to judge on. Name a file: whet evaluate {quoted(path)} --test FILE{option}"
        )
    if settings.max_rows is None or len(examples) <= settings.max_rows:
        return examples
    narrator.say(f"Scoring a seeded draw of {settings.max_rows:,} test rows (evaluate.max_rows).")
    order = permutation(settings.seed, 0, len(examples))[: settings.max_rows]
    return tuple(examples[index] for index in sorted(order.tolist()))


def _judge(
    tuned: Tuned, dataset: Dataset, examples: Sequence[Example], known: Sequence[str], narrator: Narrator
) -> tuple[dict[str, Any], list[Group]]:
    """Return the report of one task on these rows, and what was scored."""
    settings = tuned.recipe.evaluate
    metric = _metric(tuned, dataset.originals)
    groups, samples, few_shot = _groups(tuned, metric, dataset, examples, narrator)
    report = build_report(
        objective=tuned.card.objective,
        metric=metric,
        groups=groups,
        classes=tuned.policy.classes,
        slices=tuned.recipe.data.slices,
        resamples=settings.resamples,
        seed=settings.seed,
        log=[] if tuned.task else tuned.run.records(),
        folder=tuned.folder,
        gate=tuned.recipe.gate,
        known=known,
    )
    report |= few_shot | {"samples": samples, "settings": settings.model_dump(mode="json") | {"metric": metric}}
    if metric.endswith(".py") and tuned.folder is not None:
        report["plugins"] = {metric: file_hash(tuned.folder / metric)}
    return report, groups


def _evaluate_tasks(tuned: Tuned, test: Sequence[Path], narrator: Narrator) -> Run:
    """Judge each of several tasks on its own test rows, and where it was trained alone too, against that."""
    begun = time.monotonic()
    run, dataset = tuned.run, stored_dataset(tuned.run)
    if test:
        raise RecipeError(
            f"{run.path}: has several tasks ({', '.join(tuned.card.tasks)}). Say which one {test[0]} is for: --task {next(iter(tuned.card.tasks))}"
        )
    reports: dict[str, dict[str, Any]] = {}
    texts: dict[Path, str] = {}
    answers: list[dict[str, Any]] = []
    context = _context(tuned, [], dataset, run.records())
    for name in tuned.card.tasks:
        own, rows = tuned.of_task(name), dataset.of_task(name)
        examples = _drawn(own, rows.test, narrator)
        narrator.say(f"{name}: judging on {len(examples):,} test rows ...")
        report, groups = _judge(own, rows, examples, (), narrator)
        if (sharing := _sharing(own, report["settings"]["metric"], groups, narrator)) is not None:
            report["sharing"] = sharing
        reports[name] = report
        last = groups[-1]
        pairs = zip(last.examples, last.outputs, strict=True)
        answers += [{"task": name, **_prediction(example, output)} for example, output in pairs]
        page = _context(own, report["samples"], rows, []) | {"task": name}
        texts[run.results / PAGES / f"{name}.html"] = render(report, page)
    report = build_tasks_report(reports)
    run.note(actual=run.manifest["actual"] | {"evaluate_s": round(time.monotonic() - begun, 2)})
    (run.results / PAGES).mkdir(exist_ok=True)
    texts |= {
        run.results / "predictions.jsonl": lines_text(answers),
        run.results / "report.html": render_tasks(report, context, PAGES),
        run.results / "report.json": json_text(report),
    }
    write_together(texts)
    return run


def _learnt_before(run: Run, narrator: Narrator) -> list[Example]:
    """Return what the runs that this one went on from have learnt from; where one is gone, that is told."""
    try:
        datasets = [stored_dataset(one) for one in ancestors([run])[:-1]]
    except RunError as error:
        narrator.say(f"Note: rows that were learnt from before {run.path} are not known, and may be among the test rows: {error}")
        return []
    return [example for dataset in datasets for example in (*dataset.train, *dataset.validation)]


def _forgetting(tuned: Tuned, metric: str, recipe: Path | None, hints: list[str], narrator: Narrator) -> dict[str, Any]:
    """Return what became of the stages before; where a run before is not there any more, a hint says so, and nothing is returned."""
    try:
        return {"continual": measure_forgetting(tuned, metric, lambda path: load_run(path, recipe), narrator)}
    except RunError as error:
        hints.append(f"What was forgotten is not measured: {error}")
        narrator.say(f"Note: {hints[-1]}")
        return {}


def _sharing(tuned: Tuned, metric: str, groups: Sequence[Group], narrator: Narrator) -> dict[str, Any] | None:
    """Return how a task compares with the same task trained alone, on the same rows; None where the recipe does not ask."""
    if tuned.task not in compared(load_recipe(tuned.run.path / "recipe.yaml")):
        return None
    place = alone_path(tuned.run.path, tuned.task)
    if not (place / "manifest.json").is_file() or not Run(place).model.exists():
        raise RunError(
            f"{place}: task '{tuned.task}' has not been trained alone yet, and the recipe asks to compare (mixture.compare). "
            f"Run: whet train --resume {quoted(tuned.run.path)}"
        )
    narrator.say(f"{tuned.task}: asking the same of {place} ...")
    alone = load_run(place, None if tuned.folder is None else tuned.folder / "recipe.yaml")
    group = next(one for one in groups if metric_name(metric) in map(metric_name, one.metrics))
    if group.outputs and group.outputs[0].text is not None:
        with computing(alone.precision, alone.policy.device):
            theirs = list(alone.objective.answers(alone.policy, group.examples, alone.recipe.evaluate.max_new_tokens))
    else:
        theirs = alone.finite_outputs(alone.policy, group.examples)
    settings = tuned.recipe.evaluate
    resampling = Resampling(settings.resamples, settings.seed)
    return {"run": str(place)} | build_sharing(tuned.task, metric, group, theirs, resampling, tuned.folder)


def _beside(run: Run, test: Sequence[Path], examples: Sequence[Example]) -> Run:
    """Return the run with a name for its evaluation on these files: a free one, or that of the same rows, which is made again."""
    stem = re.sub(r"[^A-Za-z0-9]+", "-", "-".join(path.stem for path in test)).strip("-").lower()[:48] or "rows"
    rows = examples_hash({"test": examples})
    for number in itertools.count(1):
        named = Run(run.path, stem if number == 1 else f"{stem}-{number}")
        if not (named.results / "report.json").is_file() or named.report.get("rows_sha256") == rows:
            break
    return named


def _metric(tuned: Tuned, train: Sequence[Example]) -> str:
    """Return the metric of the verdict, as the recipe names it."""
    asked = tuned.recipe.evaluate.metric
    return choose_metric((*tuned.objective.metrics, *tuned.objective.written_metrics), train)[0] if asked == "auto" else asked


def _groups(
    tuned: Tuned, metric: str, dataset: Dataset, examples: Sequence[Example], narrator: Narrator
) -> tuple[list[Group], list[dict[str, str]], dict[str, Any]]:
    """Return what is scored, a few answers before and after tuning to look at, and what the report says of examples in the prompt."""
    objective, settings, limit = tuned.objective, tuned.recipe.evaluate, tuned.card.max_length
    given, of_answers = measured_by(objective, (metric, *asked_metrics(tuned.recipe).values()), tuned.folder)
    changed = {name: metric_settings(tuned.recipe, name) for name in (*given, *of_answers)}
    base = load_base(tuned.card, tuned.run.model)
    if objective.reference:
        tuned.policy.reference = base
    shown = None
    if settings.few_shot.examples:
        longest = settings.max_new_tokens if of_answers else 0
        shown = show_examples(
            base, dataset.originals, examples, settings.few_shot, settings.seed, longest, tuned.precision, narrator
        )
    said = {NAME: shown.record} if shown else {}
    groups = []
    if given:
        ours = tuned.finite_outputs(tuned.policy, examples)
        narrator.say(f"Asking {tuned.card.source} without tuning ...")
        with computing(tuned.precision, base.device), torch.no_grad():
            theirs = objective.baselines(base, dataset.originals, examples, limit)
            if shown:
                theirs[NAME] = shown.outputs(theirs[BASE], lambda some: objective.outputs(base, some, base.context))
        groups.append(Group(given, examples, ours, theirs, changed))
    if not of_answers:
        return groups, [], said
    order = permutation(settings.seed, 1, len(examples))[: settings.max_generated]
    places = sorted(order.tolist())
    asked = [examples[index] for index in places]
    narrator.say(f"Writing {len(asked):,} answers with and without tuning ...")
    with computing(tuned.precision, base.device):
        written = list(objective.answers(tuned.policy, asked, settings.max_new_tokens))
        before = list(objective.answers(base, asked, settings.max_new_tokens))
        others = {BASE: before}
        if shown:
            narrator.say(f"Writing {len(asked):,} answers with examples in the prompt ...")
            others[NAME] = shown.of(places).outputs(before, lambda some: objective.answers(base, some, settings.max_new_tokens))
    groups.append(Group(of_answers, asked, written, others, changed))
    return groups, [_sample(example, a, b) for example, a, b in zip(asked[:5], before, written, strict=False)], said


def _sample(example: Example, before: Output, after: Output) -> dict[str, str]:
    return {
        "prompt": example.prompt[-1].content if example.prompt else "",
        "reference": example.response or "",
        "base": before.text or "",
        "tuned": after.text or "",
    }


def _write(
    tuned: Tuned,
    run: Run,
    report: dict[str, Any],
    groups: Sequence[Group],
    dataset: Dataset,
    records: Sequence[dict[str, Any]],
    seconds: float,
) -> None:
    last = groups[-1]
    run.results.mkdir(parents=True, exist_ok=True)
    answers = (_prediction(example, output) for example, output in zip(last.examples, last.outputs, strict=True))
    gate = report.get("gate") if run.evaluation is None else None
    texts = {run.path / GATE: json_text(gate_record(gate))} if gate is not None else {}
    if run.evaluation is None:
        run.note(actual=run.manifest["actual"] | {"evaluate_s": round(seconds, 2)})
    texts |= {
        run.results / "predictions.jsonl": lines_text(answers),
        run.results / "report.html": render(report, _context(tuned, report["samples"], dataset, records)),
        run.results / "report.json": json_text(report),
    }
    write_together(texts)
    if run.evaluation is None and gate is None:
        store_gate(run, None)


def _prediction(example: Example, output: Output) -> dict[str, Any]:
    record: dict[str, Any] = {"id": example.id, "file": example.file, "line": example.line}
    if example.messages is not None:
        record |= {
            "prompt": [message.content for message in example.prompt or ()],
            "reference": example.response,
            "output": output.text,
        }
    elif output.token_labels is not None:
        words = (example.text or "").split()
        record |= {"tokens": words, "label": example.token_labels, "prediction": output.token_labels}
    else:
        truth = example.label if example.label is not None else example.labels if example.labels is not None else example.value
        answer = output.label if output.label is not None else output.labels if output.labels is not None else output.value
        record |= {"text": example.text, "label": truth, "prediction": answer}
    if output.probabilities is not None:
        record["probabilities"] = {name: round(chance, 6) for name, chance in output.probabilities.items()}
    if output.nll is not None:
        record |= {"nll": output.nll, "tokens": output.num_tokens}
    judged = {"margin": output.margin, "reward": output.reward, "kl": output.kl}
    record |= {name: value for name, value in judged.items() if value is not None}
    return record


def _context(
    tuned: Tuned, samples: Sequence[dict[str, str]], dataset: Dataset, records: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    manifest = tuned.run.manifest
    accounting = dataset.accounting
    return {
        "run": str(tuned.run.path),
        "recipe": tuned.recipe.model_dump(mode="json", exclude_none=True),
        "decisions": manifest.get("decisions", []),
        "log": records,
        "data": {
            "rows_in": accounting.rows,
            "used": sum(accounting.used.values()),
            "dropped": accounting.dropped,
            "splits": accounting.used,
            "cleaned": dict(dataset.cleaned),
            "notices": list(dataset.notices),
            "private": [{"words": plural(one.kind, one.rows), "rows": one.rows} for one in dataset.private],
        },
        "preflight": manifest.get("preflight", []),
        "machine": manifest.get("machine", {}),
        "timing": manifest.get("actual", {}),
        "planned": plan_against_actual(manifest),
        "samples": samples,
    }
