"""The laws of a pruner of a search, for the built-in ones and for your own: `check_pruner(MyPruner())`."""

from __future__ import annotations

from whet.engine.study import optuna
from whet.protocols import Pruner

VALIDATIONS = 9
TRIALS = 16


def check_pruner(pruner: Pruner) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in PRUNER_LAWS:
        law(pruner)


def a_first_trial_comes_to_its_end(pruner: Pruner) -> None:
    """With nothing to compare with, nothing is given up: the recipe's own setting is always whole."""
    assert _lengths(pruner, [1.0]) == [VALIDATIONS], "the first trial was given up"


def the_best_is_never_given_up(pruner: Pruner) -> None:
    """A trial that is better at each validation than all before it comes to its end."""
    levels = [float(TRIALS - number) for number in range(TRIALS)]
    lengths = _lengths(pruner, levels)
    assert lengths == [VALIDATIONS] * TRIALS, f"trials that were the best so far ended after {lengths} validations"


def the_direction_counts(pruner: Pruner) -> None:
    """Where higher is better, it gives up those that would go on where lower is better."""
    levels = [5.0, 4.0, 6.0, 5.0, *([9.0, 1.0] * 6)]
    low = _lengths(pruner, levels)
    high = _lengths(pruner, [-level for level in levels], higher_is_better=True)
    assert low == high, f"turned round, trials ended after {high} validations, not {low}"


def it_is_pure(pruner: Pruner) -> None:
    """The same scores give the same decisions, so that a resumed search gives up the same trials."""
    levels = [5.0, 4.0, 6.0, 5.0, *([9.0, 1.0] * 6)]
    first, again = _lengths(pruner, levels), _lengths(pruner, levels)
    assert first == again, f"the same scores gave {again}, and before {first}"


PRUNER_LAWS = (a_first_trial_comes_to_its_end, the_best_is_never_given_up, the_direction_counts, it_is_pure)


def _lengths(pruner: Pruner, levels: list[float], higher_is_better: bool = False) -> list[int]:
    """Return the validations that each trial got; its scores stay at its level."""
    module = optuna()
    study = module.create_study(direction="maximize" if higher_is_better else "minimize", study_name="search")
    study.sampler = module.samplers.RandomSampler(seed=0)
    lengths = []
    for level in levels:
        study.pruner = pruner.build()
        trial, number, given_up = study.ask(), 0, False
        while number < VALIDATIONS and not given_up:
            number += 1
            trial.report(level, number)
            given_up = number < VALIDATIONS and trial.should_prune()
        lengths.append(number)
        study.tell(trial, None if given_up else level, state=module.trial.TrialState.PRUNED if given_up else None)
    return lengths
