"""Every sampler and pruner keeps the laws of its kind. New files are tested without being named."""

from __future__ import annotations

from typing import Any

import pytest

from whet import plugins
from whet.engine.study import optuna
from whet.plugins import plugin
from whet.protocols import Sampler, Space
from whet.testing.pruners import PRUNER_LAWS
from whet.testing.samplers import SAMPLER_LAWS, same_seed_gives_the_same_settings, sampler_space


def law_name(law: object) -> str:
    return getattr(law, "__name__", str(law))


@pytest.mark.parametrize("law", SAMPLER_LAWS, ids=law_name)
@pytest.mark.parametrize("name", plugins.names("samplers"))
def test_sampler_keeps_the_law(law: Any, name: str) -> None:
    law(plugins.build("samplers", name, {}))


@pytest.mark.parametrize("law", PRUNER_LAWS, ids=law_name)
@pytest.mark.parametrize("name", plugins.names("pruners"))
def test_pruner_keeps_the_law(law: Any, name: str) -> None:
    law(plugins.build("pruners", name, {}))


def test_a_grid_has_the_points_of_each_form_of_range() -> None:
    made = optuna().distributions
    grid = plugins.build("samplers", "grid", {"points": 3})
    space = {
        "a": made.FloatDistribution(1e-4, 1e-2, log=True),  # by ratio: 1e-4, 1e-3, 1e-2
        "b": made.IntDistribution(1, 5),  # 1, 3, 5
        "c": made.FloatDistribution(0.0, 0.4, step=0.1),  # its five steps
        "d": made.CategoricalDistribution(["x", "y"]),
        "e": made.IntDistribution(1, 2),  # 1, 1.5 and 2: two whole numbers
    }
    values = grid._values(space)
    assert values["a"] == pytest.approx([1e-4, 1e-3, 1e-2])
    assert values["b"] == [1, 3, 5] and values["d"] == ["x", "y"] and values["e"] == [1, 2]
    assert values["c"] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert grid.size(space) == 3 * 3 * 5 * 2 * 2


def test_the_battery_notices_a_sampler_that_ignores_the_seed() -> None:
    @plugin
    class Careless(Sampler):
        def build(self, space: Space, seed: int) -> Any:
            return optuna().samplers.RandomSampler()

    with pytest.raises(AssertionError, match="the same seed gave"):
        same_seed_gives_the_same_settings(Careless())
    assert Careless().size(sampler_space()) is None
