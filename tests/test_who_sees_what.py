"""Which rows each part of a run is given: the test rows are only ever answered, once training is over."""

import csv
import random

import pytest

import whet
from whet.objectives.classify import Classify
from whet.recipe_file import build_recipe
from whet.stages import evaluate as judging
from whet.stages.prepare import stored_dataset
from whet.testing import write_tiny

WORDS = {"billing": "invoice charge refund pay money card".split(), "network": "offline router signal wifi cable slow".split()}


@pytest.fixture
def table(tmp_path):
    draw, path = random.Random(3), tmp_path / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        for number in range(90):
            label = "billing" if number % 10 else "network"  # skewed, so that the metric of the verdict has to be chosen
            writer.writerow([f"{' '.join(draw.choices(WORDS[label], k=4))} {number}", label])
    return path


@pytest.fixture
def seen(monkeypatch):
    """The ids of the examples that the objective was given, by what it was asked for."""
    found = {name: [] for name in ("units", "outputs", "prepare", "baselines.train", "baselines.examples", "metric")}
    units, outputs, prepare, baselines, metric = (
        Classify.units,
        Classify.outputs,
        Classify.prepare,
        Classify.baselines,
        judging.choose_metric,
    )

    def note(name, examples):
        found[name].append(tuple(example.id for example in examples))

    def noted_units(self, examples, *rest):
        note("units", examples)
        return units(self, examples, *rest)

    def noted_outputs(self, policy, examples, *rest):
        note("outputs", examples)
        return outputs(self, policy, examples, *rest)

    def noted_prepare(self, policy, examples):
        note("prepare", examples)
        prepare(self, policy, examples)

    def noted_baselines(self, base, train, examples, *rest):
        note("baselines.train", train)
        note("baselines.examples", examples)
        return baselines(self, base, train, examples, *rest)

    def noted_metric(metrics, train):
        note("metric", train)
        return metric(metrics, train)

    for name, function in [
        ("units", noted_units),
        ("outputs", noted_outputs),
        ("prepare", noted_prepare),
        ("baselines", noted_baselines),
    ]:
        monkeypatch.setattr(Classify, name, function)
    monkeypatch.setattr(judging, "choose_metric", noted_metric)
    return found


def test_the_test_rows_are_seen_only_when_they_are_answered(table, tmp_path, seen):
    recipe = build_recipe(
        {
            "model": str(write_tiny(tmp_path / "bert", "bert")),
            "data": {"path": str(table), "text": "text", "label": "label"},
            "objective": "classify",
            "train": {
                "max_steps": 8,
                "batch_size": 8,
                "precision": "fp32",
                "refit": True,
                "early_stopping": {"metric": "macro_f1"},
            },
            "evaluate": {"resamples": 100},
        },
        "test",
    )
    run = whet.train(recipe, out=tmp_path / "run")
    dataset = stored_dataset(run)
    train, validation, test = (
        tuple(example.id for example in rows) for rows in (dataset.train, dataset.validation, dataset.test)
    )
    assert test and not set(test) & {*train, *validation}
    assert set(seen["prepare"]) == {train, (*train, *validation)}, "the head begins with what is learnt from"
    assert validation in seen["units"], "what early stopping watches are the validation rows"
    assert set(seen["outputs"]) == {validation}, "and so for a metric"
    for name, given in seen.items():
        assert not set(test) & {row for rows in given for row in rows}, f"{name} was given test rows in training"
        given.clear()

    whet.evaluate(run, sets=["evaluate.metric=auto"])
    assert seen["outputs"] == [test]
    assert seen["baselines.train"] == [train] and seen["baselines.examples"] == [test]
    assert seen["metric"] == [train], "the metric of the verdict is chosen without a look at the test rows"
