"""What was forgotten: the figures by hand, and the report of a run that went on."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from tasks import make_recipe

import whet
from whet import plugins
from whet.report.forgetting import StageTest, build_forgetting
from whet.report.html import render
from whet.report.scores import Resampling
from whet.stats import paired, paired_mean
from whet.testing.tiny import tiny_examples

RESAMPLING = Resampling(200, 0)


def right(number, of=20):
    """Statistics of accuracy for rows of which the first are right."""
    return np.array([[1.0 if place < number else 0.0] for place in range(of)])


def found(metric, tests, stages):
    examples = tiny_examples(20)
    made = {stage: StageTest(f"runs/{stages[stage]}", examples, by_stage) for stage, by_stage in tests.items()}
    built = plugins.build("metrics", metric, {})
    return build_forgetting(metric, built, [f"runs/{name}" for name in stages], made, RESAMPLING, "4 old rows were learnt again.")


def test_forgetting_is_the_best_of_before_less_the_last():
    # test a: 18/20 after a, 19/20 after b, 11/20 after c; test b: 17/20 after b, 16/20 after c
    report = found(
        "accuracy",
        {0: [right(18), right(19), right(11)], 1: [right(0), right(17), right(16)], 2: [right(0), right(0), right(20)]},
        ["a", "b", "c"],
    )
    assert [[cell["value"] for cell in row] for row in report["matrix"]] == [[0.9, 0, 0], [0.95, 0.85, 0], [0.55, 0.8, 1]]
    by_test = report["forgetting"]["by_test"]
    assert by_test["runs/a"]["value"] == pytest.approx(0.4) and by_test["runs/a"]["best_stage"] == "runs/b"
    assert by_test["runs/b"]["value"] == pytest.approx(0.05)
    assert report["forgetting"]["value"] == pytest.approx((0.4 + 0.05) / 2) and report["forgetting"]["n"] == 40
    # backward transfer is against the stage's own score: (11 - 18) / 20 and (16 - 17) / 20
    assert report["backward_transfer"]["value"] == pytest.approx((-0.35 - 0.05) / 2)
    assert report["sentence"].startswith("It forgot 40.0 points of runs/a (")
    assert "accuracy 95.0 % then, 55.0 % now, on 20 test rows" in report["sentence"]
    assert "It did not clearly forget runs/b" in report["sentence"]
    assert report["sentence"].endswith("4 old rows were learnt again.")


def test_more_forgetting_is_worse_where_lower_scores_are_better():
    # Brier scores, which are lower the better: 0.1 after a, 0.5 after b
    report = found("brier", {0: [np.full((20, 1), 0.1), np.full((20, 1), 0.5)]}, ["a", "b"])
    assert report["forgetting"]["value"] == pytest.approx(0.4) and report["backward_transfer"]["value"] == pytest.approx(-0.4)
    assert report["lower_is_better"] and report["sentence"].startswith("It forgot ")


def test_one_set_alone_has_the_interval_of_a_paired_comparison():
    def mean(statistics):
        return float(statistics[:, 0].mean())

    assert paired_mean(mean, [(right(18), right(11))], 300, 5) == paired(mean, right(18), right(11), 300, 5)


def test_a_run_that_went_on_is_judged_on_the_test_rows_of_all_stages(desk, tiny_folder, tmp_path):
    shutil.copytree(desk / "first", tmp_path / "first")
    first = whet.evaluate(tmp_path / "first")
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [tmp_path / "first"], train={"max_steps": 30})
    second = whet.evaluate(whet.train(recipe, out=tmp_path / "second"))
    report = second.report["continual"]
    assert report["stages"] == [str(first.path), str(second.path)] and len(report["tests"]) == 2
    matrix = report["matrix"]
    assert matrix[0][0] == first.report["metrics"]["accuracy"]
    assert matrix[1][1] == second.report["metrics"]["accuracy"]
    assert matrix[0][1]["value"] == 0.0  # classes that it did not know
    lost = report["forgetting"]["by_test"][str(first.path)]
    assert lost["value"] == pytest.approx(matrix[0][0]["value"] - matrix[1][0]["value"])
    assert lost["low"] <= lost["value"] <= lost["high"]
    page = (second.path / "report.html").read_text()
    assert "What it still knows" in page and "test rows of" in page
    assert "continual" not in first.report and "What it still knows" not in (first.path / "report.html").read_text()
    known = whet.evaluate(second, test=[desk / "first.csv"]).report["hints"][0]  # most of these the parent has learnt from
    assert "also stand in what was learnt from" in known and "left out" in known
    before = (second.path / "report.json").read_bytes()
    assert (whet.evaluate(second).path / "report.json").read_bytes() == before
    shutil.rmtree(tmp_path / "first")
    again = whet.evaluate(second).report
    assert "continual" not in again and any("What was forgotten is not measured" in hint for hint in again["hints"])


def test_names_of_runs_are_text_on_the_page():
    report = found("accuracy", {0: [right(18), right(11)], 1: [right(0), right(19)]}, ["<b>a</b>", "b"])
    base = {
        "objective": "classify",
        "metric": "accuracy",
        "n": 20,
        "metrics": {"accuracy": {"value": 0.9, "low": 0.8, "high": 1.0, "n": 20}},
        "higher_is_better": {"accuracy": True},
        "verdict": {"decision": None, "sentence": "Fine.", "baseline": None},
    }
    page = render(json.loads(json.dumps(base | {"continual": report})), {})
    assert "<b>a</b>" not in page and "&lt;b&gt;" in page
