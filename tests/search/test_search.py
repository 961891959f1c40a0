"""`whet search` from the recipe to the best run: trials that do not depend on each other, stopping, failing, and mistakes."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
from pathlib import Path
from typing import Any

import optuna
import pytest
from typer.testing import CliRunner

import whet
from whet import cli, recipe_file
from whet.errors import Interrupted, RecipeError, RunError, TrainingError
from whet.recipe import Recipe
from whet.report.search import describe_search
from whet.run import Run
from whet.stages import search as stage
from whet.stages import trials
from whet.stages.phase import Flag
from whet.stages.prepare import prepare_data
from whet.stages.trials import Kept, Shared, run_trial
from whet.testing import write_tiny

WORDS = {"billing": "invoice charge refund pay money card".split(), "network": "offline router signal wifi cable slow".split()}
SPACE: dict[str, Any] = {"train.learning_rate": {"low": 1e-4, "high": 3e-2, "log": True}, "train.batch_size": [4, 8]}


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("bert"), "bert")


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    draw, file = random.Random(0), tmp_path_factory.mktemp("data") / "tickets.csv"
    rows = [(draw.choice(sorted(WORDS)), number) for number in range(160)]
    lines = [f"{' '.join(draw.choices(WORDS[label], k=4))} {number},{label}" for label, number in rows]
    file.write_text("\n".join(["text,label", *lines]) + "\n")
    return file


@pytest.fixture(scope="module")
def values(encoder: Path, table: Path) -> dict[str, Any]:
    return {
        "model": str(encoder),
        "data": {"path": str(table)},
        "objective": "classify",
        "technique": "lora",
        "train": {"max_steps": 6, "validate_every": 2, "batch_size": 8, "learning_rate": 1e-4, "max_tokens": 512},
        "evaluate": {"resamples": 100},
        "search": {"trials": 5, "sampler": {"name": "tpe", "startup": 2}, "space": SPACE},
    }


def build(values: dict[str, Any], **search: Any) -> Recipe:
    return recipe_file.build_recipe({**values, "search": {**values["search"], **search}}, "here")


@pytest.fixture(scope="module")
def searched(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Run:
    return whet.search(build(values), out=tmp_path_factory.mktemp("runs") / "found")


def outcome(run: Run) -> list[tuple[Any, ...]]:
    trials = stage.result_of(run)["trials"]
    return [(one["number"], one["state"], one["value"], one["last"], one["params"]) for one in trials]


def test_a_search_ends_in_a_best_recipe_and_a_run_that_was_judged_once(searched: Run, values: dict[str, Any]) -> None:
    result = stage.result_of(searched)
    assert len(result["trials"]) == 5 and result["trials"][0]["default"]
    assert result["trials"][0]["setting"] == {"train.learning_rate": 1e-4, "train.batch_size": 8}
    complete = [one for one in result["trials"] if one["state"] == "complete"]
    assert result["best"]["value"] == min(one["value"] for one in complete)
    assert result["beat_default"] == (result["best"]["number"] != 0)
    best = recipe_file.load_recipe(searched.path / "best.yaml")
    assert best.search is None
    assert best.train.learning_rate == result["best"]["params"]["train.learning_rate"]
    child = Run(Path(result["child"]))
    assert child.manifest["parents"] == [str(searched.path)] and child.report["n"] > 0
    # the whole training of the same setting has the same validation loss as its trial, to the bit
    assert child.manifest["phases"]["fit"]["best_loss"] == result["best"]["value"]
    assert not (searched.path / "predictions.jsonl").exists()


def test_the_page_shows_every_trial_and_both_pictures(searched: Run) -> None:
    page = (searched.path / "report.html").read_text()
    result = stage.result_of(searched)
    assert result["sentence"].replace("'", "&#39;") in page
    assert page.count("<svg") == 2 and "Score of each trial" in page and "Settings and scores" in page
    assert "<script" not in page and all(f"trial {one['number']}" in page for one in result["trials"])
    assert "learning_rate:" in page  # the best recipe


def test_optuna_and_its_dashboard_open_the_study_file(searched: Run) -> None:
    file = searched.path / "study.log"
    for line in file.read_text().splitlines():
        json.loads(line)  # no pickle
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(file)))
    study = optuna.load_study(study_name="search", storage=storage)
    result = stage.result_of(searched)
    assert [trial.number for trial in study.trials] == [one["number"] for one in result["trials"]]
    assert study.best_trial.number == result["best"]["number"] and study.best_value == result["best"]["value"]
    get_storage = pytest.importorskip("optuna_dashboard._storage_url").get_storage
    assert get_storage(str(file)).get_all_studies()[0].study_name == "search"


def test_a_trial_does_not_depend_on_those_before_it(values: dict[str, Any]) -> None:
    recipe = build(values)
    dataset = prepare_data(recipe, None)
    lora = recipe.model_copy(update={"search": None})
    full = recipe_file.build_recipe({**values, "technique": "full", "train": values["train"] | {"learning_rate": 3e-2}}, "here")

    def values_of(kept: Kept, one: Recipe) -> list[float]:
        return run_trial(one, dataset, "loss", kept, None, Flag(), lambda number, score: False).scores

    shared = Shared()
    first = values_of(shared, lora)
    before = {name: tensor.clone() for name, tensor in shared.models[recipe.model, False].network.state_dict().items()}
    values_of(shared, full)  # all weights learn, at a rate that spoils them
    assert values_of(shared, lora) == first == values_of(Kept(), lora)
    after = shared.models[recipe.model, False].network.state_dict()
    assert all(bool((after[name] == tensor).all()) for name, tensor in before.items())
    assert len(shared.rows) == 2  # train and validation, tokenised once for all


@pytest.mark.parametrize("stop_at", [2, pytest.param(8, marks=pytest.mark.slow)])
def test_stopped_and_resumed_it_ends_as_if_it_had_not_been(
    stop_at: int, searched: Run, values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, count = trials.validation, [0]

    def stopping(*arguments: Any) -> Any:
        count[0] += 1
        if count[0] == stop_at:  # within trial 0, within trial 2: the first ones have three validations each
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    monkeypatch.setattr(trials, "validation", stopping)
    with pytest.raises(Interrupted, match="whet search --resume") as stopped:
        whet.search(build(values), out=tmp_path / "found")
    assert stopped.value.exit_code == 130
    study = tmp_path / "found" / "study.log"
    study.write_bytes(study.read_bytes() + b'{"op_code": 4, "wor')  # as a kill in the middle of a write leaves it
    (tmp_path / "found" / "study.log.lock").symlink_to("gone")
    monkeypatch.setattr(trials, "validation", real)
    resumed = whet.search(resume=tmp_path / "found")
    assert outcome(resumed) == outcome(searched)
    again = whet.search(resume=tmp_path / "found")  # nothing is left to do
    assert outcome(again) == outcome(searched)


def test_failed_trials_are_kept_and_do_not_end_the_search(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = trials.build_job

    def failing(recipe: Recipe, *arguments: Any, **named: Any) -> Any:
        if recipe.train.batch_size == 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 3.00 GiB")
        return real(recipe, *arguments, **named)

    monkeypatch.setattr(trials, "build_job", failing)
    recipe = build(values, trials=6, sampler="grid", space={"train.batch_size": [4, 8, 16]}, pruner="none")
    run = whet.search(recipe, out=tmp_path / "found")
    found = {one["setting"].get("train.batch_size"): one for one in stage.result_of(run)["trials"][1:]}
    assert sorted(found) == [4, 8, 16]  # the grid is used up before six trials are
    assert found[4]["state"] == "fail" and "out of memory" in found[4]["error"]
    assert found[8]["same_as"] == 0  # the recipe's own setting again
    assert "1 failed" in stage.result_of(run)["sentence"]


def test_where_every_trial_fails_it_says_what_they_said(
    values: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*arguments: Any, **named: Any) -> Any:
        raise TrainingError("step 3: the loss is not finite")

    monkeypatch.setattr(trials, "build_job", failing)
    with pytest.raises(TrainingError, match=r"none of 2 trials came to its end(.|\n)*step 3: the loss is not finite"):
        whet.search(build(values, trials=2), out=tmp_path / "found")


@pytest.mark.slow
def test_a_default_outside_the_space_is_still_trial_0_and_pruning_and_a_metric_work(
    values: dict[str, Any], tmp_path: Path
) -> None:
    recipe = build(
        values,
        trials=8,
        metric="accuracy",
        sampler={"name": "gp", "startup": 2},
        pruner={"name": "median", "startup": 1, "warmup": 0},
        space={
            "train.learning_rate": {"low": 1e-3, "high": 3e-2, "log": True},
            "technique": ["lora", {"name": "lora", "rank": 2}],
        },
    )
    run = whet.search(recipe, out=tmp_path / "found")
    result = stage.result_of(run)
    first = result["trials"][0]
    assert first["outside"] and first["state"] == "complete" and first["setting"]["train.learning_rate"] == 1e-4
    assert result["higher_is_better"] and result["best"]["value"] == max(one["value"] or 0 for one in result["trials"])
    assert all(1e-3 <= one["setting"]["train.learning_rate"] <= 3e-2 for one in result["trials"][1:])


def test_no_further_trial_begins_after_the_time_is_over(values: dict[str, Any], tmp_path: Path) -> None:
    run = whet.search(build(values, timeout=1e-3), out=tmp_path / "found")
    assert len(stage.result_of(run)["trials"]) == 1
    assert "did not beat the recipe's own setting" in stage.result_of(run)["sentence"]


def test_it_says_plainly_whether_the_recipe_was_beaten() -> None:
    own = {"number": 0, "state": "complete", "value": 0.5, "error": None}
    other = {"number": 1, "state": "complete", "value": 0.4, "error": None}
    lost = {"number": 2, "state": "pruned", "value": None, "error": None}
    base = {"metric": "loss", "trials": [own, other, lost]}
    said = describe_search({**base, "best": other})
    assert said.startswith("The search beat the recipe's own setting on validation: loss 0.4000 (trial 1) against 0.5000")
    assert "3 trials (2 complete, 1 given up early)" in said
    assert "did not beat" in describe_search({**base, "trials": [own, lost], "best": own})


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    (
        "unknown key",
        {"space": {"train.learning_rat": [1, 2]}},
        r"unknown key 'train.learning_rat'; did you mean 'train.learning_rate'",
    ),
    ("unknown setting", {"space": {"technique.rang": [1, 2]}}, r"unknown key 'rang'; did you mean 'rank'"),
    ("empty space", {"space": {}}, r"'search.space' is \{\}; allowed: at least one"),
    ("no choices", {"space": {"train.batch_size": []}}, r"'train.batch_size' has no choices.*Name at least one"),
    ("low not below high", {"space": {"train.learning_rate": {"low": 1e-3, "high": 1e-3}}}, r"low must be below high"),
    ("log of zero", {"space": {"train.weight_decay": {"low": 0, "high": 1, "log": True}}}, r"a logarithm needs low above 0"),
    ("no range", {"space": {"train.weight_decay": 3}}, r"'train.weight_decay' is 3; allowed: \{low"),
    ("a word for a number", {"space": {"train.weight_decay": {"low": "a", "high": 1}}}, r"low, high and step are numbers"),
    ("step with log", {"space": {"train.weight_decay": {"low": 1, "high": 2, "log": True, "step": 1}}}, r"does not go with log"),
    ("value out of bounds", {"space": {"train.batch_size": [0, 4]}}, r"'train.batch_size' is 0; allowed"),
    ("rows", {"space": {"data.split.seed": [1, 2]}}, r"is not searched.*Allowed: model, objective"),
    ("a choice twice", {"space": {"train.batch_size": [4, 4]}}, r"names a choice twice"),
    ("unknown sampler", {"sampler": "tpee"}, r"search.sampler|'tpee' is no plugin of kind 'samplers'. Did you mean 'tpe'"),
    ("unknown pruner", {"pruner": "mediann"}, r"'mediann' is no plugin of kind 'pruners'. Did you mean 'median'"),
    ("metric of another objective", {"metric": "bleu"}, r"'bleu' is a metric of .*which this objective does not give"),
    ("one trial", {"trials": 1}, r"'search.trials' is 1; allowed"),
]


@pytest.mark.parametrize(("changes", "said"), [case[1:] for case in MISTAKES], ids=[case[0] for case in MISTAKES])
def test_a_mistake_gives_a_sentence_and_leaves_nothing(
    changes: dict[str, Any], said: str, values: dict[str, Any], tmp_path: Path
) -> None:
    with pytest.raises(RecipeError) as found:
        whet.search(build(values, **changes), out=tmp_path / "found")
    assert re.search(said, str(found.value), re.DOTALL), str(found.value)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_search_is_gone_on_with_as_one(values: dict[str, Any], searched: Run) -> None:
    with pytest.raises(RunError, match=r"exists.*whet search --resume"):
        whet.search(build(values), out=searched.path)


@pytest.mark.parametrize(
    "damage", [lambda text: "no line\n" + text, lambda text: text + '{"op_code": 99}\n', lambda text: text.replace("{", "[", 3)]
)
def test_a_study_that_was_damaged_is_named_and_not_written_to(damage: Any, searched: Run, tmp_path: Path) -> None:
    place = shutil.copytree(searched.path, tmp_path / "found")
    (place / "study.log").write_text(damage((place / "study.log").read_text()))
    before = (place / "study.log").read_bytes()
    with pytest.raises(RunError, match=r"study\.log: damaged .*Restore it"):
        stage.resume(place)
    assert (place / "study.log").read_bytes() == before


def test_a_folder_that_is_there_is_never_written_over(values: dict[str, Any], searched: Run, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="this folder exists"):
        whet.search(build(values), out=searched.path)
    (tmp_path / "new-best").mkdir()
    with pytest.raises(RunError, match="new-best: this folder exists"):
        whet.search(build(values), out=tmp_path / "new")
    child = Path(stage.result_of(searched)["child"])
    with pytest.raises(RunError, match=r"not a search\. For one of training: whet train --resume"):
        whet.search(resume=child)
    with pytest.raises(RecipeError, match=r"no `search:` section"):
        whet.search(build(values).model_copy(update={"search": None}), out=tmp_path / "none")


@pytest.mark.slow
def test_the_verb_answers_with_one_object(values: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "recipe.yaml"
    file.write_text(recipe_file.dump_recipe(build(values, trials=2)))
    found = CliRunner().invoke(cli.app, ["search", str(file), "--out", str(tmp_path / "found"), "--json"])
    assert found.exit_code == 0, found.output
    answer = json.loads(found.stdout)
    assert (
        answer["run"] == str(tmp_path / "found")
        and len(answer["trials"]) == 2
        and answer["sentence"] in " ".join(found.stderr.split())
    )
    assert CliRunner().invoke(cli.app, ["search"]).exit_code == 2
    assert CliRunner().invoke(cli.app, ["search", "--resume", str(tmp_path / "found"), "--out", "x"]).exit_code == 2


@pytest.mark.parametrize("higher", [True, False])
def test_of_equal_trials_the_first_is_the_best_so_the_recipe_stays_as_it_is(higher: bool) -> None:
    records = [{"number": number, "state": "complete", "value": value} for number, value in enumerate([0.5, 0.5, 0.5])]
    assert stage._best(records, higher) == records[0]
    better = {"number": 3, "state": "complete", "value": 0.6 if higher else 0.4}
    assert stage._best([*records, better, {**better, "number": 4, "state": "pruned"}], higher) == better
