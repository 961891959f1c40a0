"""The same test rows asked of champion and challenger."""

from __future__ import annotations

from collections.abc import Sequence

from whet.engine.machine import computing
from whet.engine.order import permutation
from whet.models.save import load_base
from whet.registry import CHAMPION
from whet.report.challenge import Rows
from whet.report.scores import Group
from whet.stages.build import asked_metrics, measured_by, metric_settings
from whet.stages.narrate import Narrator
from whet.stages.tuned import Tuned
from whet.types import Example, Output


def paired_answers(
    champion: Tuned, challenger: Tuned, examples: Sequence[Example], which: Rows, narrator: Narrator
) -> list[Group]:
    """Return test rows with the answers of both, in the metrics of the challenger's recipe."""
    settings, objective = challenger.recipe.evaluate, challenger.objective
    examples = _drawn(examples, settings.max_rows, settings.seed, 0)
    given, of_answers = measured_by(objective, tuple(asked_metrics(challenger.recipe).values()), challenger.folder)
    changed = {name: metric_settings(challenger.recipe, name) for name in (*given, *of_answers)}
    narrator.say(f"Asking champion and challenger {len(examples):,} {which} test rows ...")
    groups = []
    if given:
        for one in (champion, challenger) if objective.reference else ():
            one.policy.reference = load_base(one.card)
        theirs = {CHAMPION: champion.finite_outputs(champion.policy, examples)}
        groups.append(Group(given, examples, challenger.finite_outputs(challenger.policy, examples), theirs, changed))
    if of_answers:
        asked = _drawn(examples, settings.max_generated, settings.seed, 1)
        groups.append(Group(of_answers, asked, _answers(challenger, asked), {CHAMPION: _answers(champion, asked)}, changed))
    return groups


def _drawn(examples: Sequence[Example], most: int | None, seed: int, draw: int) -> list[Example]:
    if most is None or len(examples) <= most:
        return list(examples)
    return [examples[index] for index in sorted(permutation(seed, draw, len(examples))[:most].tolist())]


def _answers(tuned: Tuned, asked: Sequence[Example]) -> list[Output]:
    with computing(tuned.precision, tuned.policy.device):
        return list(tuned.objective.answers(tuned.policy, asked, tuned.recipe.evaluate.max_new_tokens))
