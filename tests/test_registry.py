"""Versions, aliases, history, gates and locks of the registry; and its verb with wrong input. Runs are folders written here."""

import json
import multiprocessing
import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from whet.cli import app, main
from whet.errors import Refused, RunError
from whet.files import file_hash, write_json
from whet.registry import Registry, is_reference
from whet.run import Run, open_run
from whet.stages.registry import resolve
from whet.stages.retrain import find_champion

RECIPE = "model: builtin:minilm\ndata: {path: rows.csv}\nobjective: classify\n"
TRAINED = {
    "base": {"name": "builtin:minilm", "sha256": "0", "parameters": 1, "kind": "encoder"},
    "plan": {"num_steps": 1, "batch_size": 1, "learning_rate": 0.1, "precision": "fp32"},
    "phases": {},
    "actual": {"train_s": 0.1},
}


def write_run(folder, weights="a", gate=None):
    """A run as far as the registry looks into it."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "weights").write_text(weights)
    (folder / "recipe.yaml").write_text(RECIPE)
    write_json(
        folder / "manifest.json",
        {"kind": "train", "data_sha256": "0", "recipe_sha256": file_hash(folder / "recipe.yaml"), **TRAINED},
    )
    if gate is not None:
        ruling = {"decision": gate, "sentence": "Accuracy at least 90 %: failed."}
        write_json(folder / "gate.json", {"passed": gate == "pass", "decision": gate, "rules": [], "rulings": [ruling]})
    return folder


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("one", "two", "three"):
        write_run(tmp_path / "runs" / name, name)
    write_run(tmp_path / "runs" / "bad", "bad", gate="fail")
    write_run(tmp_path / "runs" / "good", "good", gate="pass")
    return tmp_path


def call(*words):
    return CliRunner().invoke(app, ["registry", *words], catch_exceptions=True)


def answered(*words):
    found = call(*words, "--json")
    assert found.exit_code == 0, found.exception
    return json.loads(found.stdout)


def test_a_model_from_first_version_to_rollback(place):
    first = answered("add", "tickets", "runs/one", "--why", "the first", "--who", "ada")
    assert first["version"] == 1 and set(first["aliases"]) == {"champion", "challenger"}
    assert answered("add", "tickets", "runs/two")["aliases"] == ["challenger"]
    assert answered("promote", "tickets", "challenger", "--why", "better")["version"] == 2
    assert Registry().resolve("tickets").name == "two"
    assert Registry().resolve("tickets@1").name == "one"
    assert answered("rollback", "tickets", "--why", "complaints")["version"] == 1
    shown = answered("show", "tickets")
    assert shown["aliases"] == {"champion": 1, "challenger": 2}
    moves = [(one["action"], one["alias"], one["version"], one["why"]) for one in shown["history"]]
    assert moves[0] == ("add", None, 1, "the first") and shown["history"][0]["who"] == "ada"
    assert moves[-2:] == [("promote", "champion", 2, "better"), ("rollback", "champion", 1, "complaints")]
    assert [one["name"] for one in answered("list")["models"]] == ["tickets"]
    assert call("list").exit_code == 0 and call("show", "tickets").exit_code == 0


def test_rolling_back_twice_goes_back_twice(place):
    for run in ("one", "two", "three"):
        answered("add", "m", f"runs/{run}")
        if run != "one":
            answered("promote", "m", "challenger")
    assert [answered("rollback", "m")["version"] for _ in range(2)] == [2, 1]


def test_each_model_that_is_compared_with_a_version_counts_once(place):
    answered("add", "m", "runs/one")
    answered("add", "m", "runs/two")
    held = Registry()
    assert [held.note_challenger("m", 1, sha256) for sha256 in ("aa", "bb", "aa", "cc")] == [1, 2, 1, 3]
    assert held.note_challenger("m", 2, "cc") == 1, "each champion has challengers of its own"
    with pytest.raises(RunError, match="has no version 3"):
        held.note_challenger("m", 3, "aa")


def test_a_refused_run_comes_in_only_on_demand_and_that_is_recorded(place):
    before = call("add", "m", "runs/bad")
    assert isinstance(before.exception, Refused) and "Accuracy at least 90 %" in str(before.exception)
    assert not (place / "registry" / "registry.json").exists()
    made = answered("add", "m", "runs/bad", "--ignore-gate")
    assert made["gate"] == "ignored" and "Accuracy" in made["objection"]
    assert answered("add", "m", "runs/good")["gate"] == "passed"
    assert answered("add", "m", "runs/one")["gate"] == "none"


def test_a_gate_that_refused_later_stops_the_promotion(place):
    answered("add", "m", "runs/one")
    answered("add", "m", "runs/two")
    ruling = {"decision": "fail", "sentence": "Worse."}
    write_json(place / "runs/two/gate.json", {"passed": False, "decision": "fail", "rules": [], "rulings": [ruling]})
    assert isinstance(call("promote", "m", "2").exception, Refused)
    assert Registry().find("m").version == 1
    answered("promote", "m", "2", "--ignore-gate")
    assert "Worse." in answered("show", "m")["history"][-1]["objection"]


def test_the_folder_can_be_moved_with_its_runs(place):
    answered("add", "m", "runs/one")
    inner = place / "moved"
    inner.mkdir()
    (place / "runs").rename(inner / "runs")
    (place / "registry").rename(inner / "registry")
    assert Registry(inner / "registry").resolve("m@champion") == inner / "runs" / "one"


WRONG = [
    (("add", "m", "runs/none"), 1, "no such run"),
    (("add", "2 words", "runs/one"), 1, "cannot be the name"),
    (("add", "m", "runs/two", "--alias", "7"), 1, "cannot be the alias"),
    (("add", "known", "runs/one"), 1, "already version 1"),
    (("add", "m", "runs/empty"), 1, "no trained model"),
    (("add", "m", "runs/bad"), 3, "--ignore-gate"),
    (("add", "m"), 2, ""),
    (("promote", "known", "7"), 1, "no version 7"),
    (("promote", "known", "best"), 1, "Allowed behind the @"),
    (("promote", "known", "1"), 1, "already"),
    (("promote", "stranger", "1"), 1, "Known names: known"),
    (("promote", "known", "1", "--alias", "no no"), 1, "cannot be the alias"),
    (("rollback", "known"), 1, "nothing to go back to"),
    (("rollback", "known", "--alias", "shadow"), 1, "Allowed: challenger, champion"),
    (("rollback", "stranger"), 1, "no model 'stranger'"),
    (("rollback", "known", "--registry", "runs/one/recipe.yaml"), 1, "is a file"),
    (("rollback",), 2, ""),
    (("show", "stranger"), 1, "whet registry add stranger RUN"),
    (("show", "stranger", "--registry", "nowhere"), 1, "This folder does not exist."),
    (("list", "--registry", "damaged"), 1, "damaged"),
    (("list", "--registry", "newer"), 1, "has format 9"),
]


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_wrong_input_ends_in_a_sentence_and_changes_nothing(place, monkeypatch, capsys, words, code, said):
    answered("add", "known", "runs/one")
    write_run(place / "runs" / "empty")
    (place / "runs/empty/model/weights").unlink()
    for name, text in (("damaged", "{"), ("newer", '{"format": 9, "models": {}}')):
        (place / name).mkdir()
        (place / name / "registry.json").write_text(text)
    before = file_hash(place / "registry/registry.json")
    monkeypatch.setattr(sys, "argv", ["whet", "registry", *words, "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    out = capsys.readouterr()
    assert left.value.code == code and said in out.err.replace("\n", " ")
    assert json.loads(out.out)["error"]["exit_code"] == code
    assert file_hash(place / "registry/registry.json") == before
    assert not list((place / "registry").glob("*.partial"))


def test_a_model_that_was_altered_is_not_taken_for_the_version(place):
    answered("add", "m", "runs/one")
    (place / "runs/one/model/weights").write_text("other")
    with pytest.raises(RunError, match="not the one that was registered"):
        Registry().resolve("m")


def test_paths_and_references_are_told_apart(place):
    answered("add", "m", "runs/one")
    assert is_reference("m") and is_reference("m@champion") and is_reference("other@1")
    assert not is_reference("runs/one") and not is_reference("stranger") and not is_reference("./m")
    (place / "m").mkdir()
    assert not is_reference("m") and is_reference("m@champion")


def _add(folder, number):
    Registry(folder / "registry").add("m", folder / "runs" / str(number), who=f"process {number}")


def test_ten_at_once_lose_nothing(tmp_path):
    for number in range(10):
        write_run(tmp_path / "runs" / str(number), str(number))
    work = [multiprocessing.get_context("fork").Process(target=_add, args=(tmp_path, number)) for number in range(10)]
    for one in work:
        one.start()
    for one in work:
        one.join()
    model = Registry(tmp_path / "registry").model("m")
    assert [one.version for one in model.versions] == list(range(1, 11))
    assert {one.by for one in model.versions} == {f"process {number}" for number in range(10)}


def test_what_a_killed_change_left_goes_with_the_next_and_the_registry_is_whole(place):
    registry = Registry()
    registry.add("words", place / "runs" / "one")
    torn = registry.folder / ".registry.json.4711.partial"
    torn.write_text('{"format": 1, "mod')
    assert registry.model("words").versions
    registry.add("words", place / "runs" / "two")
    assert not torn.exists() and len(registry.model("words").versions) == 2


def test_what_a_lock_that_is_a_link_leads_to_stays_as_it_was(place):
    (place / "registry").mkdir()
    (place / "precious.txt").write_text("of somebody")
    (place / "registry" / ".lock").symlink_to(place / "precious.txt")
    (place / "runs" / "one" / ".lock").symlink_to(place / "precious.txt")
    Registry().add("words", place / "runs" / "one")
    with Run(place / "runs" / "one").lock():
        pass
    assert (place / "precious.txt").read_text() == "of somebody"


def test_a_name_that_is_neither_registered_nor_a_run_is_told_with_those_that_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Registry(tmp_path / "registry").add("tickets", write_run(tmp_path / "first"))
    with pytest.raises(
        RunError, match=r"tikets: there is no such run, nor a model of that name in registry/, which has tickets\."
    ):
        resolve("tikets", Path("registry"))
    with pytest.raises(RunError, match="which has tickets"):
        find_champion("tikets", Registry(Path("registry")))
    assert resolve("runs/none", Path("registry")) == Path("runs/none")  # plainly a folder: whoever opens it says so


def test_a_run_that_is_not_there_is_told_with_the_latest_by_time(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for age, name in enumerate("fbdcea"):
        os.utime(write_run(tmp_path / "runs" / name) / "manifest.json", (1e9 - age, 1e9 - age))
    with pytest.raises(RunError, match="The latest under runs/: e, c, d, b, f"):
        open_run(Path("runs/z"))


def test_a_registry_that_is_not_there_is_told_from_an_empty_one(place, monkeypatch, capsys):
    (place / "empty").mkdir()
    for folder, told in (("nowhere", True), ("empty", False)):
        monkeypatch.setattr(sys, "argv", ["whet", "registry", "list", "--registry", folder, "--json"])
        with pytest.raises(SystemExit) as left:
            main()
        out = capsys.readouterr()
        assert left.value.code == 0 and json.loads(out.out)["models"] == []
        assert ("nowhere: there is no such folder" in out.err.replace("\n", " ")) == told
    assert not (place / "nowhere").exists()
