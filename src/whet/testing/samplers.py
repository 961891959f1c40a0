"""The laws of a sampler of a search, for the built-in ones and for your own: `check_sampler(MySampler())`."""

from __future__ import annotations

from typing import Any

from whet.engine.study import optuna
from whet.protocols import Sampler, Space

TRIALS = 7
"""Enough for a model of the scores to take over from the first draws at random, after five."""


def check_sampler(sampler: Sampler) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in SAMPLER_LAWS:
        law(sampler)


def settings_are_inside_the_space(sampler: Sampler) -> None:
    """Every setting is one that the recipe allows: within the range, on its steps, one of the choices."""
    space = sampler_space()
    for number, params in enumerate(_tried(sampler, seed=1)):
        assert params.keys() == space.keys(), f"trial {number} sets {sorted(params)}, not {sorted(space)}"
        for key, value in params.items():
            fits = space[key]._contains(space[key].to_internal_repr(value))
            assert fits, f"trial {number}: {key} is {value!r}, outside {space[key]}"


def same_seed_gives_the_same_settings(sampler: Sampler) -> None:
    """What is tried depends on the seed and on the trials that are done, on nothing else."""
    first, again = _tried(sampler, seed=3), _tried(sampler, seed=3)
    assert first == again, f"the same seed gave {again}, and before {first}"


def a_stopped_search_goes_on_the_same(sampler: Sampler) -> None:
    """A search whose process ended after a trial tries what it would have tried."""
    whole = _tried(sampler, seed=5)
    stopped = _tried(sampler, seed=5, again_after=6)
    assert stopped == whole, f"stopped after 5 trials it tried {stopped[5:]}, else {whole[5:]}"


def a_failed_trial_does_not_end_the_search(sampler: Sampler) -> None:
    """Trials that failed, or were given up, are no obstacle."""
    assert len(_tried(sampler, seed=7, failing=True)) == TRIALS, "the search ended at a trial that failed"


def settings_are_not_all_the_same(sampler: Sampler) -> None:
    """More than one setting is tried."""
    tried = [tuple(sorted(params.items(), key=str)) for params in _tried(sampler, seed=11)]
    assert len(set(tried)) > 1, f"all {len(tried)} trials had the same setting: {tried[0]}"
    size = sampler.size(sampler_space())
    assert size is None or len(set(tried)) == min(size, len(tried)), "a sampler that counts its settings tries each once"


SAMPLER_LAWS = (
    settings_are_inside_the_space,
    same_seed_gives_the_same_settings,
    a_stopped_search_goes_on_the_same,
    a_failed_trial_does_not_end_the_search,
    settings_are_not_all_the_same,
)


def sampler_space() -> Space:
    """Return a space with a range of each form and with choices."""
    made = optuna().distributions
    return {
        "objective.smoothing": made.FloatDistribution(0.0, 0.4, step=0.1),
        "technique.rank": made.IntDistribution(2, 10, step=2),
        "train.learning_rate": made.FloatDistribution(1e-5, 1e-2, log=True),
        "train.schedule": made.CategoricalDistribution(["linear", "cosine", "constant"]),
    }


def _tried(sampler: Sampler, seed: int, failing: bool = False, again_after: int | None = None) -> list[dict[str, Any]]:
    """Return the settings of some trials of a bowl; trial 0 is given, as a recipe's own setting is."""
    module, space = optuna(), sampler_space()
    storage = module.storages.InMemoryStorage()
    study = module.create_study(storage=storage, study_name="search", direction="minimize")
    own = {"objective.smoothing": 0.1, "technique.rank": 4, "train.learning_rate": 1e-4, "train.schedule": "linear"}
    study.add_trial(module.trial.create_trial(value=9.0, params=own, distributions=dict(space)))
    for number in range(1, TRIALS + 1):
        if number == again_after:
            study = module.load_study(storage=storage, study_name="search")
        study.sampler = sampler.build(space, 1000 * seed + number)
        trial = study.ask(fixed_distributions=dict(space))
        if failing and number % 3 == 0:
            study.tell(trial, state=module.trial.TrialState.FAIL)
        else:
            rate = trial.params["train.learning_rate"]
            study.tell(trial, (rate * 1000 - 1) ** 2 + trial.params["technique.rank"] / 10 + trial.params["objective.smoothing"])
    return [dict(trial.params) for trial in study.get_trials(deepcopy=False)[1:]]
