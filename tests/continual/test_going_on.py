"""A run that goes on from another: where it starts, what it keeps, and what it needs later."""

from __future__ import annotations

import json
import re
import shutil

import pytest
import torch
from tasks import COLOURS, make_recipe, write_task

import whet
from whet.data.dataset import read_dataset
from whet.engine import checkpoint
from whet.engine.cut import pack
from whet.engine.fit import Training, fit
from whet.errors import Interrupted, RecipeError, RunError
from whet.files import file_hash
from whet.models.builtin import model_hash
from whet.models.heads import keep_heads
from whet.models.save import load_base, read_card
from whet.recipe_parts import Choice
from whet.run import Run, open_run
from whet.stages.build import build_objective
from whet.stages.job import build_job
from whet.stages.lineage import ancestors, start_policy
from whet.stages.prepare import prepare_data
from whet.stages.search import search as whet_search
from whet.stages.train import resume
from whet.stages.tuned import load_run
from whet.testing.tiny import tiny_examples

CLASSIFY = build_objective(Choice(name="classify"), None)


def scores(policy, examples):
    """The head's outputs before any temperature. [R, K]"""
    batch = pack([unit[0] for unit in CLASSIFY.units(examples, policy, 64)])
    with torch.no_grad():
        return policy.heads["classify"](policy.pooled(batch))


@pytest.mark.parametrize("first", ["first", "lora"])
def test_it_starts_with_what_the_parent_computes_and_its_true_base_as_the_source(desk, tiny_folder, first):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / first])
    before = load_run(desk / first)
    started = start_policy(recipe, None)
    examples = read_dataset(desk / first).test
    assert torch.allclose(scores(started, examples), scores(before.policy, examples), atol=1e-5)
    assert started.source.name == before.card.source and started.source.sha256 == before.card.source_sha256
    assert started.classes == before.card.classes == ("billing", "delivery")


def test_old_classes_keep_their_rows_and_new_ones_follow(desk, tiny_folder):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "first"], continual={"replay": 0.5})
    job = build_job(recipe, prepare_data(recipe, None), None)
    assert job.policy.classes == ("billing", "delivery", "other", "travel")
    started = start_policy(recipe, None)
    old, head = started.heads["classify"], job.policy.heads["classify"]
    assert torch.equal(head.weight[:2], old.weight) and torch.equal(head.bias[:2], old.bias)
    CLASSIFY.prepare(started, job.dataset.train)  # the rows that a head begun anew has
    places = [started.classes.index(name) for name in ("other", "travel")]
    assert torch.equal(head.weight[2:], started.heads["classify"].weight[places])
    assert bool(head.weight[2:].abs().sum() > 0)


def test_one_new_class_alone_can_be_learnt(desk, tiny_folder, tmp_path):
    text = (desk / "second.csv").read_text().splitlines()
    (tmp_path / "one.csv").write_text("\n".join([text[0], *(line for line in text if line.endswith("travel"))]) + "\n")
    run = whet.train(make_recipe(tiny_folder("bert"), tmp_path / "one.csv", [desk / "first"]), out=tmp_path / "run")
    assert read_card(run.model).classes == ("billing", "delivery", "travel")


@pytest.mark.slow
def test_a_head_that_is_fitted_anew_knows_the_old_classes_by_the_rows_learnt_again(desk, tiny_folder, tmp_path):
    def learn(rows, name, parents=(), **more):
        train = {"max_steps": 2}
        recipe = make_recipe(tiny_folder("bert"), desk / rows, parents, objective="contrastive", train=train, **more)
        return whet.evaluate(whet.train(recipe, out=tmp_path / name))

    first = learn("first.csv", "first").path
    without = learn("second.csv", "without", [first], continual={"replay": 0})
    learnt_again = learn("second.csv", "learnt_again", [first], continual={"replay": 0.5})
    assert read_card(learnt_again.model).classes == ("billing", "delivery", "other", "travel")
    old, kept = (run.report["continual"]["matrix"][1][0]["value"] for run in (without, learnt_again))
    assert old == 0 and kept > 0.5


def test_a_label_is_spelt_as_the_parent_spelt_it(desk, tiny_folder, tmp_path):
    text = (desk / "second.csv").read_text().replace("other", "BILLING")
    (tmp_path / "spelt.csv").write_text(text)
    recipe = make_recipe(tiny_folder("bert"), tmp_path / "spelt.csv", [desk / "first"])
    assert prepare_data(recipe, None).classes == ("billing", "delivery", "travel")


@pytest.mark.parametrize(
    "technique",
    ["full", {"name": "lora", "rank": 2}, *(pytest.param(name, marks=pytest.mark.slow) for name in ("bitfit", "ia3", "head"))],
)
def test_the_model_is_whole_without_its_parents(desk, tiny_folder, tmp_path, technique):
    shutil.copytree(desk / "lora", tmp_path / "lora")
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [tmp_path / "lora"], technique)
    run = whet.train(recipe, out=tmp_path / "run")
    record = run.manifest["parents"]
    assert record == [{"path": str(tmp_path / "lora"), "sha256": model_hash(tmp_path / "lora" / "model")}]
    shutil.rmtree(tmp_path / "lora")
    tuned = load_run(run.path)
    assert tuned.card.technique == "full" and tuned.card.source == str(tiny_folder("bert"))
    assert load_base(tuned.card).source.sha256 == tuned.card.source_sha256
    answers = whet.load(run).predict(["where is the red card"])
    assert answers[0].prediction in tuned.card.classes


@pytest.mark.slow
def test_merged_is_what_was_trained(desk, tiny_folder, tmp_path):
    technique = {"name": "lora", "rank": 2}
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "lora"], technique, {"early_stopping": False})
    run = whet.train(recipe, out=tmp_path / "run")
    job = build_job(recipe, read_dataset(run.path), None)
    found = checkpoint.load(run.checkpoints / "fit", run.manifest["phases"]["fit"]["best_step"])
    for name, parameter in job.policy.trainable():
        with torch.no_grad():
            parameter.copy_(found.tensors[f"model/{name}"])
    tuned, examples = load_run(run.path), read_dataset(run.path).test
    ours, theirs = scores(tuned.policy, examples), scores(job.policy, examples)
    ratio = (theirs / ours).mean()  # the temperature was folded into the head
    assert torch.allclose(ours * ratio, theirs, atol=1e-4)


def test_without_replay_it_is_plain_training_from_the_parents_weights(desk, tiny_folder, tmp_path):
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "first"], continual={"replay": 0.0})
    alone = make_recipe(tiny_folder("bert"), desk / "second.csv")
    assert prepare_data(recipe, None).parts == prepare_data(alone, None).parts
    whet.train(recipe, out=tmp_path / "run")
    # the same steps by hand: the parent's network in the place of the base's, its head extended
    job = build_job(alone, prepare_data(alone, None), None)
    start = start_policy(recipe, None)
    heads, classes = dict(start.heads.items()), start.classes
    CLASSIFY.prepare(start, job.dataset.train)
    keep_heads(start, heads, classes)
    job.technique.attach(start, 0)
    training = Training.begin(start, job.objective, job.plan)
    units = job.objective.units(job.dataset.train, start, job.plan.max_length)
    steps = job.objective.steps(units, start, job.plan, training.cursor, training.objective_state)
    losses = [sum(step.losses.values()) for step in fit(start, job.objective, steps, job.plan, training)]
    logged = [record["loss"] for record in Run(tmp_path / "run").records() if record["kind"] == "step"]
    assert logged == losses


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bytes_and_a_stopped_run_goes_on_to_them(desk, tiny_folder, tmp_path, monkeypatch):
    recipe = make_recipe(
        tiny_folder("bert"),
        desk / "second.csv",
        [desk / "lora"],
        {"name": "lora", "rank": 2},
        {"checkpoint": {"every": 2}, "refit": True},
    )
    whole, again = (whet.train(recipe, out=tmp_path / name) for name in ("whole", "again"))
    real, seen = Run.log, []

    def stopping(run, record):
        real(run, record)
        seen.append(record)
        if len(seen) == 5:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", stopping)
    with pytest.raises(Interrupted):
        whet.train(recipe, out=tmp_path / "stopped")
    monkeypatch.setattr(Run, "log", real)
    stopped = resume(tmp_path / "stopped")
    for name in ("model/model.safetensors", "model/heads.safetensors", "log.jsonl", "splits.json"):
        assert file_hash(whole.path / name) == file_hash(again.path / name) == file_hash(stopped.path / name), name


@pytest.mark.slow
def test_weights_are_held_to_the_same_bytes_however_often_it_stops(desk, tiny_folder, tmp_path, monkeypatch):
    train, technique = {"checkpoint": {"every": 2}, "refit": True}, {"name": "lora", "rank": 2}
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "lora"], technique, train, continual={"ewc": 50.0})
    whole = whet.train(recipe, out=tmp_path / "whole")
    real, seen = Run.log, []

    def stopping(run, record):
        real(run, record)
        seen.append(record)
        if len(seen) in {5, 9}:
            raise KeyboardInterrupt

    monkeypatch.setattr(Run, "log", stopping)
    with pytest.raises(Interrupted):
        whet.train(recipe, out=tmp_path / "stopped")
    with pytest.raises(Interrupted):
        resume(tmp_path / "stopped")
    torn = next((tmp_path / "stopped" / "checkpoints" / "fisher").glob("step-0/*.safetensors"))
    torn.write_bytes(torn.read_bytes()[:-9])  # measured again
    monkeypatch.setattr(Run, "log", real)
    stopped = resume(tmp_path / "stopped")
    steps = [record for record in whole.records() if record["kind"] == "step"]
    assert {record["phase"] for record in steps} == {"fit", "refit"}
    assert all((record["losses"]["ewc"] > 0) == (record["step"] > 1) for record in steps)
    for name in ("model/model.safetensors", "model/heads.safetensors", "log.jsonl"):
        assert file_hash(whole.path / name) == file_hash(stopped.path / name), name


@pytest.mark.slow
def test_a_search_tries_settings_from_the_same_parent(desk, tiny_folder, tmp_path):
    search = {"space": {"train.learning_rate": [0.001, 0.01]}, "trials": 2, "sampler": "grid"}
    continual = {"ewc": 10.0}
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [desk / "first"], search=search, continual=continual)
    found = whet_search(recipe, out=tmp_path / "search")
    best = open_run(tmp_path / "search-best")
    parents = best.manifest["parents"]
    assert parents[0]["path"] == str(desk / "first") and parents[1] == str(found.path)
    assert read_card(best.model).classes[:2] == ("billing", "delivery") and "continual" in best.report


def half_trained(desk, tiny_folder, tmp_path, monkeypatch):
    """A run that was stopped, and its parent beside it."""
    shutil.copytree(desk / "first", tmp_path / "runs" / "first")
    monkeypatch.setattr(Run, "log", lambda run, record: (_ for _ in ()).throw(KeyboardInterrupt))
    recipe = make_recipe(tiny_folder("bert"), desk / "second.csv", [tmp_path / "runs" / "first"])
    with pytest.raises(Interrupted):
        whet.train(recipe, out=tmp_path / "runs" / "second")
    monkeypatch.undo()
    return tmp_path / "runs"


def test_a_run_that_goes_on_refuses_another_model_in_its_parents_place(desk, tiny_folder, tmp_path, monkeypatch):
    runs = half_trained(desk, tiny_folder, tmp_path, monkeypatch)
    card = json.loads((runs / "first" / "model" / "policy.json").read_text())
    (runs / "first" / "model" / "policy.json").write_text(json.dumps(card | {"max_tokens": 77}))
    with pytest.raises(RunError, match=r"is another model now .* begin a new run"):
        resume(runs / "second")
    shutil.rmtree(runs / "first")
    with pytest.raises(RunError, match="there is no such run"):
        resume(runs / "second")


def test_a_folder_of_runs_may_move_as_a_whole(desk, tiny_folder, tmp_path, monkeypatch):
    runs = half_trained(desk, tiny_folder, tmp_path, monkeypatch)
    shutil.move(runs, tmp_path / "elsewhere")
    assert resume(tmp_path / "elsewhere" / "second").model.exists()


@pytest.mark.slow
def test_all_that_came_before_is_found_each_once_and_a_missing_one_is_named(desk, tiny_folder, tmp_path):
    shutil.copytree(desk / "first", tmp_path / "first")
    write_task(tmp_path, "second")
    model = tiny_folder("bert")
    second = whet.train(make_recipe(model, tmp_path / "second.csv", [tmp_path / "first"]), out=tmp_path / "second")
    found = ancestors([open_run(desk / "lora"), second, open_run(tmp_path / "first")])
    assert [run.path.name for run in found] == ["lora", "first", "second"]
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(RunError, match=r"first: there is no such run.*second goes on from it"):
        ancestors([second])


def test_two_parents_give_rows_and_the_last_its_weights(desk, tiny_folder, tmp_path):
    write_task(tmp_path, "second")
    model = tiny_folder("bert")
    other = whet.train(make_recipe(model, tmp_path / "second.csv"), out=tmp_path / "other")
    (tmp_path / "third.csv").write_text(re.sub(rf"\b({'|'.join(COLOURS)})\b", r"\1ish", (tmp_path / "second.csv").read_text()))
    recipe = make_recipe(model, tmp_path / "third.csv", [desk / "first", other.path], continual={"replay": 1.0})
    dataset = prepare_data(recipe, None)
    assert {one.label for one in dataset.train} == {"billing", "delivery", "travel", "other"}
    job = build_job(recipe, dataset, None)
    assert job.policy.classes == ("other", "travel", "billing", "delivery")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"objective": "sft"}, "learnt 'classify', and this recipe's objective is 'sft'"),
        (
            {"objective": {"name": "classify", "kind": "several"}},
            "from text, label, and this recipe's settings need text, labels",
        ),
        ({"model": "builtin:minilm"}, "goes on from the same model: write model: "),
        ({"technique": "prefix"}, "cannot be folded into the weights"),
        ({"technique": "ia3", "continual": {"ewc": 1.0}}, "learns something beside them .*lora, full, bitfit or head"),
    ],
)
def test_what_does_not_fit_the_parent_is_said(desk, tiny_folder, tmp_path, changes, said):
    values = {"model": str(tiny_folder("bert")), "objective": "classify", "technique": "full"} | changes
    model, technique = values.pop("model"), values.pop("technique")
    with pytest.raises(RecipeError, match=said):
        whet.train(make_recipe(model, desk / "second.csv", [desk / "first"], technique, **values), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_a_regression_and_several_labels_go_on_too(builder):
    for kind in ("number", "several"):
        objective = build_objective(Choice(name="classify", kind=kind), None)
        policy, examples = builder("bert")(), tiny_examples()
        objective.prepare(policy, examples[:4])
        with torch.no_grad():
            policy.heads["classify"].weight.fill_(0.25)
        heads, classes = dict(policy.heads.items()), policy.classes
        objective.prepare(policy, examples)
        keep_heads(policy, heads, classes)
        assert policy.classes[: len(classes)] == classes
        assert len(policy.heads["classify"].weight) == len(policy.classes)
        assert bool((policy.heads["classify"].weight[: len(classes)] == 0.25).all())
