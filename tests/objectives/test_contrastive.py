"""Learning from few rows: the contrast by hand, how rows are grouped, the head against scikit-learn, and a run from end to end."""

from __future__ import annotations

import csv
import json
import math
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.linear_model import LogisticRegression

from whet.engine.cut import pack
from whet.engine.logistic import fit_logistic
from whet.errors import DataError
from whet.objectives.contrastive import Contrastive
from whet.recipe_file import build_recipe
from whet.stages.evaluate import evaluate
from whet.stages.predict import load
from whet.stages.train import resume, train
from whet.testing.steps import ready, settle, tiny_plan, whole_step
from whet.testing.tiny import LABELS, OPENINGS, THINGS, tiny_examples
from whet.types import Cursor, Example


def loss_of(objective: Contrastive, policy, unit) -> float:
    with torch.no_grad():
        return float(objective.loss(policy, pack(unit), {})[0]["contrast"])


def test_the_supervised_loss_is_that_of_the_paper_written_out(builder):
    objective, examples = Contrastive(group=12, temperature=0.2), tiny_examples()
    policy = ready(objective, builder("bert"), examples, double=True)
    [unit] = objective.units(examples, policy, 128)
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(policy.pooled(pack(unit)), dim=-1).tolist()
    labels = [row.scalars["class"] for row in unit]
    total = 0.0
    for i, mine in enumerate(vectors):  # Khosla et al. 2020, eq. 2: A(i) are all others, P(i) those of the same class
        cosines = [sum(a * b for a, b in zip(mine, theirs, strict=True)) / 0.2 for theirs in vectors]
        below = math.log(sum(math.exp(cosines[a]) for a in range(len(vectors)) if a != i))
        positives = [p for p in range(len(vectors)) if p != i and labels[p] == labels[i]]
        total -= sum(cosines[p] - below for p in positives) / len(positives)
    assert loss_of(objective, policy, unit) == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize(("kind", "each"), [("supervised", math.log(3)), ("cosine", 1.0)])
def test_texts_that_are_all_alike_cost_what_is_worked_out_by_hand(kind, each, builder):
    # four rows, two of each class, all cosines 1: each of the three others is as likely, log 3; and squared, 0 for the partner, 1 for others
    objective = Contrastive(loss_type=kind)
    examples = [Example(id=place, text="my card is lost", label="ab"[place % 2]) for place in range(4)]
    policy = ready(objective, builder("bert"), examples)
    [unit] = objective.units(examples, policy, 128)
    assert loss_of(objective, policy, unit) == pytest.approx(4 * each, abs=1e-5)


def test_a_row_without_a_partner_adds_nothing_and_stands_against_the_others(builder):
    objective = Contrastive()
    examples = [
        Example(id=place, text=text, label=label) for place, (text, label) in enumerate([("my card", "a"), ("a card", "a")])
    ]
    lone = Example(id=2, text="where is the parcel", label="b")
    policy = ready(objective, builder("bert"), [*examples, lone])
    [pair], [three] = (objective.units(some, policy, 128) for some in (examples, [*examples, lone]))
    assert loss_of(objective, policy, pair) == pytest.approx(0, abs=1e-6)  # the only other row is the partner: certain
    alone = [row for row in three if row.id == 2]
    assert loss_of(objective, policy, alone) == 0
    assert loss_of(objective, policy, three) > 0.01


def test_labels_that_training_has_not_are_no_class_together(builder):
    objective, known = Contrastive(), tiny_examples(4)
    policy = ready(objective, builder("bert"), known)
    strange = [replace(example, label=f"new {example.id}") for example in known[:2]]
    [unit] = objective.units([*strange, known[2]], policy, 128)
    assert loss_of(objective, policy, unit) == 0  # none of the three has a partner


def test_an_epoch_has_every_row_once_with_a_partner_beside_it(builder):
    objective = Contrastive(group=5)
    examples = tiny_examples(31)
    policy = ready(objective, builder("bert"), examples)
    units = objective.units(examples, policy, 128)
    steps = objective.steps(units, policy, tiny_plan(policy, batch_size=1), Cursor(), {})
    seen = []
    for _ in range(3):
        epoch = [next(steps).units[0] for _ in range(len(units))]
        ids = [row.id for unit in epoch for row in unit]
        assert sorted(ids) == list(range(31)) and len(epoch) == 7
        assert {len(unit) for unit in epoch} <= {4, 5, 6}
        alone = sum(count == 1 for unit in epoch for count in Counter(row.scalars["class"] for row in unit).values())
        assert alone <= 3  # one of each class at most, where their number is odd
        seen.append(ids)
    assert seen[0] != seen[1] != seen[2]


def test_classes_of_one_row_each_are_refused(builder):
    rows = [replace(example, label=f"class {example.id}") for example in tiny_examples(4)]
    with pytest.raises(DataError, match=r"each of the 4 classes has one training row.*classify"):
        Contrastive().prepare(builder("bert")(), rows)


def test_the_head_is_scikit_learns_logistic_regression():
    generator = torch.Generator().manual_seed(0)
    classes = torch.arange(40) % 3
    vectors = torch.randn(40, 6, generator=generator) + 2 * torch.nn.functional.one_hot(classes, 6)
    centred = (vectors - vectors.mean(0)).double()
    centred = (centred / centred.norm(dim=-1).mean()).numpy()
    theirs = LogisticRegression(C=1 / 0.3, tol=1e-10, max_iter=5000).fit(centred, classes.numpy())
    weight, bias = fit_logistic(vectors, classes, 3, penalty=0.3)
    ours = torch.softmax(vectors.double() @ weight.T + bias, dim=-1).numpy()
    np.testing.assert_allclose(ours, theirs.predict_proba(centred), atol=1e-4)


def test_the_head_is_the_same_for_vectors_moved_and_stretched():
    vectors, classes = torch.randn(20, 4, generator=torch.Generator().manual_seed(1)), torch.arange(20) % 2
    plain, other = (fit_logistic(some, classes, 2, 0.1) for some in (vectors, 50 * vectors + 7))
    scores = vectors.double() @ plain[0].T + plain[1]
    torch.testing.assert_close((50 * vectors + 7).double() @ other[0].T + other[1], scores, atol=1e-3, rtol=1e-3)


def test_the_watched_loss_is_the_finished_classifiers(builder):
    objective, examples = Contrastive(), tiny_examples(24)
    policy = ready(objective, builder("bert"), examples)
    settle(objective, policy, examples)
    held_out = tiny_examples(36)[24:]
    units = objective.units(held_out, policy, 128)
    watched = objective.trial(policy, units, tiny_plan(policy))["label"]
    given = [
        output.probabilities[example.label]
        for output, example in zip(objective.outputs(policy, held_out, 128), held_out, strict=True)
    ]
    assert watched == pytest.approx(-sum(map(math.log, given)) / len(given), rel=1e-5)
    assert policy.temperature != 1.0


def test_steps_never_learn_the_head(builder):
    objective, examples = Contrastive(), tiny_examples()
    policy = ready(objective, builder("bert"), examples)
    assert not len(policy.heads) and whole_step(objective, policy, examples).units
    settle(objective, policy, examples)
    assert not any(name.startswith("heads") for name, _ in policy.trainable())


def write_rows(file: Path) -> None:
    colours = ("red", "blue", "green", "old", "new", "big")
    with file.open("w", newline="") as opened:
        rows = [
            (opening.format(f"{colour} {thing}"), label)
            for colour in colours
            for thing, label in zip(THINGS, LABELS, strict=True)
            for opening in OPENINGS
        ]
        csv.writer(opened).writerows([("text", "label"), *rows])


@pytest.fixture(scope="module")
def trained(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("few")
    write_rows(folder / "few.csv")
    recipe = build_recipe(
        {
            "model": str(tiny_folder("bert")),
            "data": {"path": str(folder / "few.csv"), "text": "text", "label": "label"},
            "objective": {"name": "contrastive", "group": 16},
            "train": {"epochs": 3, "precision": "fp32"},
            "evaluate": {"resamples": 100},
        },
        "test",
    )
    return train(recipe, out=folder / "run")


def test_a_run_is_judged_and_asked_as_any_classifier(trained):
    report = evaluate(trained.path).report
    assert set(report["baselines"]) == {"majority_class", "nearest_neighbours", "nearest_centroid", "linear_probe"}
    assert report["metrics"]["accuracy"]["value"] > report["baselines"]["majority_class"]["metrics"]["accuracy"]["value"]
    assert "calibration" in report and "confusion" in report
    predicted = json.loads((trained.path / "predictions.jsonl").read_text().splitlines()[0])
    [answer] = load(trained.path).predict([predicted["text"]])
    assert answer.prediction == predicted["prediction"]
    assert answer.confidence == pytest.approx(predicted["probabilities"][answer.prediction], abs=1e-5)
    heads = load_file(trained.path / "model" / "heads.safetensors")
    assert (
        heads["classify.weight"].shape == (3, 32) and json.loads((trained.path / "model" / "policy.json").read_text())["classes"]
    )


@pytest.mark.parametrize("at", ["end", "middle"])
def test_a_run_that_goes_on_ends_in_the_same_head(at, trained, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(trained.path, copy)
    shutil.rmtree(copy / "model")
    if at == "middle":
        manifest = json.loads((copy / "manifest.json").read_text())
        steps = sorted((copy / "checkpoints" / "fit").iterdir(), key=lambda path: int(path.name.partition("-")[2]))
        shutil.rmtree(steps[-1])
        (copy / "manifest.json").write_text(json.dumps(manifest | {"phases": {}}))
    resume(copy)
    for name in ("heads.safetensors", "adapter_model.safetensors"):
        assert (copy / "model" / name).read_bytes() == (trained.path / "model" / name).read_bytes(), name


def test_the_automatic_settings_are_for_groups(trained):
    train_settings = trained.manifest["plan"]
    decided = {one["key"]: one for one in trained.manifest["decisions"]}
    assert train_settings["batch_size"] == 1 and "groups" in decided["train.batch_size"]["reason"]
    assert "half" in decided["train.learning_rate"]["reason"]
