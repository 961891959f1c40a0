"""What a field of a row holds, whatever its source gave: what JSON holds, and not without bounds."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from uuid import UUID

import pytest

from whet.data.rows import RawRow, Reject
from whet.data.values import DEEPEST, as_json, row_of


@pytest.mark.parametrize(
    ("value", "held"),
    [
        (float("nan"), None), (float("-inf"), None), (1.5, 1.5), (True, True), (2**70, 2**70), (None, None), ("a", "a"),
        (datetime.datetime(2024, 1, 2, 3, 4), "2024-01-02T03:04:00"), (datetime.date(2024, 1, 2), "2024-01-02"),
        (datetime.time(3, 4, 5), "03:04:05"), (Decimal("1.50"), "1.50"), (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (b"caf\xc3\xa9", "caf\u00e9"), (bytearray(b"a"), "a"), (memoryview(b"a"), "a"), (b"\xff", "/w=="),
        ((1, b"a"), [1, "a"]), ({1}, [1]), (frozenset({1}), [1]), ({1: float("inf"), "b": [datetime.date(2024, 1, 2)]}, {"1": None, "b": ["2024-01-02"]}),
    ],
)  # fmt: skip
def test_a_value_is_held_as_json_has_it(value, held):
    assert as_json(value) == held and type(as_json(value)) is type(held)
    assert json.loads(json.dumps(as_json(value), allow_nan=False)) == held


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"a": inner}])
def test_a_row_may_be_as_deep_as_is_said_and_no_deeper(wrap):
    value: object = "text"
    for _ in range(DEEPEST - 1):
        value = wrap(value)  # the row itself is one more
    assert row_of("a", 1, {"deep": value}) == RawRow("a", 1, {"deep": value})
    found = row_of("a", 1, {"deep": wrap(value)})
    assert isinstance(found, Reject) and found.reason == "nested deeper than 100 lists and objects"
