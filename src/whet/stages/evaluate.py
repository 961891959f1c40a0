"""`whet evaluate`: the tuned model against what the user would have had without tuning, on the same held-out rows."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from whet import plugins
from whet.data.dataset import Dataset, read_dataset
from whet.data.held_out import read_held_out
from whet.engine.machine import Precision, computing
from whet.engine.order import permutation
from whet.errors import Interrupted, RecipeError, RunError
from whet.files import write_json, write_lines, write_whole
from whet.models.load import load_policy
from whet.models.policy import Policy
from whet.models.save import Card, load_tuned, read_card
from whet.recipe import Recipe
from whet.recipe_file import load_recipe
from whet.report.build import Group, build_report
from whet.report.html import render
from whet.run import Run, open_run
from whet.stages.job import plugin_folder
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import stored_dataset
from whet.types import Example, Objective, Output, Technique


@dataclass(frozen=True, slots=True)
class Tuned:
    """A trained run, loaded."""

    run: Run
    recipe: Recipe
    card: Card
    policy: Policy
    objective: Objective
    folder: Path | None
    """Where plugin files of the user's own lie."""

    @property
    def precision(self) -> Precision:
        assert self.recipe.train.precision != "auto"
        return self.recipe.train.precision

    def outputs(self, policy: Policy, examples: Sequence[Example]) -> list[Output]:
        """Return what a policy answers, in the precision of the run."""
        with computing(self.precision, policy.device), torch.no_grad():
            return list(self.objective.outputs(policy, examples, self.card.max_length))


def load_run(path: Path, recipe: Path | None = None) -> Tuned:
    """Return a trained run with its policy. `recipe` is needed where the run uses plugin files of the user's own. Raises RunError."""
    run = open_run(path)
    if run.manifest["kind"] != "train":
        raise RunError(f"{path}: a run of kind '{run.manifest['kind']}' has no model. Train one with: whet train RECIPE")
    folder = plugin_folder(run, recipe)
    card = read_card(run.model)
    technique: Technique = plugins.build("techniques", card.technique, card.technique_settings, folder)
    objective: Objective = plugins.build("objectives", card.objective, card.objective_settings, folder)
    policy = load_tuned(run.model, technique)
    if objective.head != "lm" and not len(policy.heads):
        raise RunError(f"{run.model}: its head is missing. Delete the folder, and make it again with: whet train --resume {path}")
    return Tuned(run, load_recipe(run.path / "recipe.yaml"), card, policy, objective, folder)


def evaluate(path: Path, *, test: Sequence[Path] = (), recipe: Path | None = None, narrator: Narrator = SILENT) -> Run:
    """Score a trained run on its test rows, or on another file, and write report.json, report.html and predictions.jsonl."""
    with open_run(path).lock():
        try:
            return _evaluate(path, test, recipe, narrator)
        except KeyboardInterrupt:
            raise Interrupted(
                f"Stopped while judging; the model in {path} is whole. Judge it with: whet evaluate {path}"
            ) from None


def _evaluate(path: Path, test: Sequence[Path], recipe: Path | None, narrator: Narrator) -> Run:
    begun = time.monotonic()
    tuned = load_run(path, recipe)
    dataset = stored_dataset(tuned.run)
    examples = dataset.test
    if test:
        examples, notices = read_held_out(test, dataset, tuned.objective.needs, tuned.folder)
        for notice in notices:
            narrator.say(f"Note: {notice}")
    settings = tuned.recipe.evaluate
    if settings.max_rows is not None and len(examples) > settings.max_rows:
        order = permutation(settings.seed, 0, len(examples))[: settings.max_rows]
        examples = tuple(examples[index] for index in sorted(order.tolist()))
        narrator.say(f"Scoring a seeded draw of {settings.max_rows:,} test rows (evaluate.max_rows).")
    if not examples:
        raise RunError(f"{path}: there are no test rows to judge on. Name a file: whet evaluate {path} --test FILE")
    narrator.say(f"Judging on {len(examples):,} test rows ...")
    groups, samples = _groups(tuned, dataset, examples, narrator)
    report = build_report(
        objective=tuned.card.objective,
        metric=_primary(tuned, groups, dataset.train),
        groups=groups,
        classes=tuned.policy.classes,
        slices=tuned.recipe.data.slices,
        resamples=settings.resamples,
        seed=settings.seed,
        log=tuned.run.records(),
        folder=tuned.folder,
    )
    _write(tuned, report, groups, samples, time.monotonic() - begun)
    return tuned.run


def _primary(tuned: Tuned, groups: Sequence[Group], train: Sequence[Example]) -> str:
    """Return the metric of the verdict, chosen without a look at the test rows. Raises RecipeError where the recipe names one that is not measured."""
    asked, known = tuned.recipe.evaluate.metric, [name for group in groups for name in group.metrics]
    if asked != "auto":
        if asked not in known:
            raise RecipeError(f"evaluate.metric is '{asked}', which is not measured here. Allowed: auto, {', '.join(known)}.")
        return asked
    if known[0] == "accuracy":
        commonest = max(Counter(example.label for example in train).values())
        if commonest > 0.65 * len(train):
            return "macro_f1"  # accuracy flatters a model that always gives the commonest class
    return known[0]


def _groups(
    tuned: Tuned, dataset: Dataset, examples: Sequence[Example], narrator: Narrator
) -> tuple[list[Group], list[dict[str, str]]]:
    """Return what is scored, and a few answers before and after tuning to look at."""
    objective, settings, limit = tuned.objective, tuned.recipe.evaluate, tuned.card.max_length
    ours = tuned.outputs(tuned.policy, examples)
    narrator.say(f"Asking {tuned.card.source} without tuning ...")
    base = load_policy(tuned.recipe.model)
    with computing(tuned.precision, base.device), torch.no_grad():
        theirs = objective.baselines(base, dataset.train, examples, limit)
    groups = [Group(objective.metrics, examples, ours, theirs)]
    if not objective.written_metrics:
        return groups, []
    order = permutation(settings.seed, 1, len(examples))[: settings.max_generated]
    asked = [examples[index] for index in sorted(order.tolist())]
    narrator.say(f"Writing {len(asked):,} answers with and without tuning ...")
    with computing(tuned.precision, base.device):
        written = list(objective.answers(tuned.policy, asked, settings.max_new_tokens))
        before = list(objective.answers(base, asked, settings.max_new_tokens))
    groups.append(Group(objective.written_metrics, asked, written, {"base_model": before}))
    return groups, [_sample(example, a, b) for example, a, b in zip(asked[:5], before, written, strict=False)]


def _sample(example: Example, before: Output, after: Output) -> dict[str, str]:
    messages = example.messages or ()
    return {
        "prompt": messages[-2].content if len(messages) > 1 else "",
        "reference": messages[-1].content if messages else "",
        "base": before.text or "",
        "tuned": after.text or "",
    }


def _write(tuned: Tuned, report: dict[str, Any], groups: Sequence[Group], samples: list[dict[str, str]], seconds: float) -> None:
    run = tuned.run
    last = groups[-1]
    write_lines(
        run.path / "predictions.jsonl",
        (_prediction(example, output) for example, output in zip(last.examples, last.outputs, strict=True)),
    )
    run.note(actual=run.manifest["actual"] | {"evaluate_s": round(seconds, 2)})
    write_json(run.path / "report.json", report | {"samples": samples})
    write_whole(run.path / "report.html", render(report, _context(tuned, samples)))


def _prediction(example: Example, output: Output) -> dict[str, Any]:
    record: dict[str, Any] = {"id": example.id, "file": example.file, "line": example.line}
    if example.messages is not None:
        record |= {
            "prompt": [message.content for message in example.messages[:-1]],
            "reference": example.messages[-1].content,
            "output": output.text,
        }
    else:
        truth = example.label if example.label is not None else example.labels if example.labels is not None else example.value
        answer = output.label if output.label is not None else output.labels if output.labels is not None else output.value
        record |= {"text": example.text, "label": truth, "prediction": answer}
    if output.probabilities is not None:
        record["probabilities"] = {name: round(chance, 6) for name, chance in output.probabilities.items()}
    if output.nll is not None:
        record |= {"nll": output.nll, "tokens": output.num_tokens}
    return record


def _context(tuned: Tuned, samples: list[dict[str, str]]) -> dict[str, Any]:
    manifest = tuned.run.manifest
    dataset = read_dataset(tuned.run.path)
    accounting = dataset.accounting
    return {
        "run": str(tuned.run.path),
        "recipe": tuned.recipe.model_dump(mode="json", exclude_none=True),
        "decisions": manifest.get("decisions", []),
        "log": tuned.run.records(),
        "data": {
            "rows_in": accounting.rows,
            "used": sum(accounting.used.values()),
            "dropped": accounting.dropped,
            "splits": accounting.used,
            "cleaned": dict(dataset.cleaned),
            "notices": list(dataset.notices),
        },
        "preflight": manifest.get("preflight", []),
        "machine": manifest.get("machine", {}),
        "timing": manifest.get("actual", {}),
        "samples": samples,
    }
