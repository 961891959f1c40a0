"""The benchmark of data: what is planted is near by the definition, and what is measured of it adds up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.data.__main__ import draw, found_and_right, similarity, with_interval


def test_the_similarity_is_that_of_the_definition():
    # abcdef: abcde, bcdef; abcdeg: abcde, bcdeg; one of three is shared
    assert similarity("abcdef", "abcdeg") == pytest.approx(1 / 3)


def test_planted_near_duplicates_are_found_and_nothing_else():
    found = found_and_right(draw(4000, seed=7))
    assert found["planted"] >= 30 and found["recall"] >= 0.97 and found["precision"] >= 0.97


def test_an_interval_is_around_the_median_and_within_the_range():
    found = with_interval([10.0, 11.0, 12.0, 13.0, 30.0])
    assert found["median"] == 12.0 and found["n"] == 5
    assert 10.0 <= found["low"] <= 12.0 <= found["high"] <= 30.0
    assert with_interval([4.0, 4.0, 4.0]) == {"median": 4.0, "low": 4.0, "high": 4.0, "n": 3}


def test_the_recorded_result_adds_up():
    said = json.loads((Path(__file__).parents[2] / "bench" / "results" / "data.json").read_text(encoding="utf-8"))
    for name, some in said["seconds"].items():
        assert said["rows_per_second"][name] == with_interval([said["rows"][name] / one for one in some]), name
    pairs = zip(said["seconds"]["datatrove duplicates"], said["seconds"]["whet duplicates"], strict=True)
    assert said["times_datatrove"] == with_interval([peer / own for peer, own in pairs])
    assert said["near_duplicates"]["recall"] >= 0.97 and said["near_duplicates"]["precision"] >= 0.97
