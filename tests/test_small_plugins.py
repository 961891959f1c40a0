"""Every schedule, optimiser, metric and cleaner keeps the laws of its kind. New files are tested without being named."""

from __future__ import annotations

import pytest

from whet import plugins
from whet.testing.cleaners import check_cleaner
from whet.testing.metrics import METRIC_LAWS
from whet.testing.optimisers import OPTIMISER_LAWS
from whet.testing.schedules import SCHEDULE_LAWS


def law_name(law: object) -> str:
    return getattr(law, "__name__", str(law))


@pytest.mark.parametrize("law", SCHEDULE_LAWS, ids=law_name)
@pytest.mark.parametrize("name", plugins.names("schedules"))
def test_schedule_keeps_the_law(law, name):
    law(plugins.build("schedules", name, {}))


@pytest.mark.parametrize("law", OPTIMISER_LAWS, ids=law_name)
@pytest.mark.parametrize("name", plugins.names("optimisers"))
def test_optimiser_keeps_the_law(law, name):
    law(plugins.build("optimisers", name, {}))


@pytest.mark.parametrize("law", METRIC_LAWS, ids=law_name)
@pytest.mark.parametrize("name", plugins.names("metrics"))
def test_metric_keeps_the_law(law, name, examples):
    law(plugins.build("metrics", name, {}), examples)


@pytest.mark.parametrize("name", plugins.names("cleaners"))
def test_cleaner_keeps_the_laws(name):
    cleaner = plugins.build("cleaners", name, {})
    check_cleaner(cleaner)
