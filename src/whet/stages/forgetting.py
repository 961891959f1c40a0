"""All stages of a run's learning on all their test rows: what `whet evaluate` adds for a run that went on from others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet import plugins
from whet.data.accounting import OF_BEFORE
from whet.data.keys import text_key
from whet.engine.order import permutation
from whet.protocols import Metric
from whet.report.forgetting import StageTest, build_forgetting
from whet.report.scores import Resampling
from whet.report.wording import metric_name
from whet.run import Run
from whet.stages.build import measured_by, metric_settings
from whet.stages.lineage import ancestors
from whet.stages.narrate import Narrator
from whet.stages.prepare import stored_dataset
from whet.stages.score import Scoring
from whet.types import Example

if TYPE_CHECKING:
    from whet.stages.tuned import Tuned


def measure_forgetting(tuned: Tuned, metric: str, load: Callable[[Path], Tuned], narrator: Narrator) -> dict[str, Any]:
    """Return what the report of a run with parents says under `continual`. Raises RunError where a run before it is missing or damaged.

    `load` gives an earlier run; one is held at a time. A test row that any stage has learnt from is left out, whichever stage it belongs to.
    """
    runs = ancestors([tuned.run])
    names = [str(run.path) for run in runs]
    tests = _tests(runs, tuned, metric)
    objective, settings = tuned.objective, tuned.recipe.evaluate
    _, of_answers = measured_by(objective, metric, tuned.folder)
    built: Metric = plugins.build("metrics", metric, metric_settings(tuned.recipe, metric), tuned.folder)
    scoring = Scoring(
        name=metric_name(metric),
        metric=built,
        objective=objective,
        examples=(),
        written=metric_name(metric) in map(metric_name, of_answers),
        max_length=tuned.card.max_length,
        max_new_tokens=settings.max_new_tokens,
        precision=tuned.precision,
    )
    found: dict[int, list[Any]] = {stage: [] for stage in tests}
    for number, run in enumerate(runs):
        narrator.say(f"Asking {names[number]} about {sum(map(len, tests.values())):,} test rows of {len(tests)} stages ...")
        asked = tuned if number == len(runs) - 1 else load(run.path)
        for stage, examples in tests.items():
            found[stage].append(replace(scoring, examples=examples, max_length=asked.card.max_length).statistics(asked.policy))
    stage_tests = {stage: StageTest(names[stage], examples, found[stage]) for stage, examples in tests.items()}
    resampling = Resampling(settings.resamples, settings.seed)
    return build_forgetting(metric_name(metric), built, names, stage_tests, resampling, _kept_by(tuned))


def _tests(runs: Sequence[Run], tuned: Tuned, metric: str) -> dict[int, Sequence[Example]]:
    """Return the test rows of each stage that has some, drawn as the run's evaluation draws its own."""
    datasets = [stored_dataset(run) for run in runs]
    learnt = {text_key(one) for dataset in datasets for one in (*dataset.train, *dataset.validation)}
    settings = tuned.recipe.evaluate
    _, of_answers = measured_by(tuned.objective, metric, tuned.folder)
    limits = [settings.max_rows, settings.max_generated if metric_name(metric) in map(metric_name, of_answers) else None]
    found: dict[int, Sequence[Example]] = {}
    for stage, dataset in enumerate(datasets):
        rows: Sequence[Example] = [one for one in dataset.test if text_key(one) not in learnt]
        for turn, limit in enumerate(limits):
            if limit is not None and len(rows) > limit:
                order = permutation(settings.seed, turn, len(rows))[:limit]
                rows = [rows[index] for index in sorted(order.tolist())]
        if rows:
            found[stage] = rows
    return found


def _kept_by(tuned: Tuned) -> str:
    """Return what the run did against forgetting, in a sentence."""
    again = stored_dataset(tuned.run).accounting.sources[OF_BEFORE].used["train"]
    kept = f"{again:,} old rows were learnt again" if again else "No old rows were learnt again (continual.replay)"
    if tuned.recipe.continual.merge != "none":
        return f"{kept}, and the stages' adapters were merged ({tuned.recipe.continual.merge})."
    strength = tuned.recipe.continual.ewc
    return f"{kept}, and weights were held by ewc of {strength:g}." if strength else f"{kept}."
