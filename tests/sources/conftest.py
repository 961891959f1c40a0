"""A web server for each test that asks for one, and no waiting."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from web_site import Site

from whet.collect.fetch import Patience


@pytest.fixture
def site() -> Iterator[Site]:
    made = Site()
    yield made
    made.close()


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, which nobody waits."""
    waited: list[float] = []
    monkeypatch.setattr(Patience.__init__, "__defaults__", (4, 1.0, waited.append))
    return waited
