"""`whet retrain` from new rows to the registry: frozen parts, both test sets, refusals, feedback, crashes, wrong input."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import whet
from whet.cli import app, main
from whet.data.added import add_rows
from whet.data.clean import build_cleaners
from whet.data.keys import text_key
from whet.data.rows import RawRow
from whet.errors import DataError, Interrupted, Refused, RunError
from whet.recipe_data import Data, Split
from whet.recipe_file import build_recipe
from whet.registry import Registry, fingerprint
from whet.report.challenge import SMALLEST, build_challenge, tolerance
from whet.report.scores import Group, Resampling
from whet.run import Run, free_path
from whet.stages import retrain as stage
from whet.stages.gate import objection
from whet.stages.prepare import stored_dataset
from whet.store.log import Feedback, Item, Logged, RequestLog
from whet.testing import write_tiny
from whet.types import Example, Output

WORDS = {"billing": list("abcdefgh"), "network": list("ijklmn")}
"""Each letter is a word of the tiny model's."""
DRIFTED = {"billing": list("opqr"), "network": list("stuv"), "travel": list("wxyz")}
LONGER = ("--set", "train.max_steps=80")


def write_table(file: Path, words: dict[str, list[str]], number: int, seed: int = 0, wrong: bool = False) -> Path:
    """Rows whose label follows from their words; with `wrong`, each label is another one's."""
    draw, labels = random.Random(seed), sorted(words)
    with file.open("w", newline="") as opened:
        writer = csv.writer(opened)
        writer.writerow(["text", "label", "channel"])
        for index in range(number):
            label = labels[index % len(labels)]
            said = labels[(index + 1) % len(labels)] if wrong else label
            writer.writerow([" ".join(draw.choices(words[label], k=6)), said, draw.choice(["mail", "chat"])])
    return file


@pytest.fixture(scope="module")
def champion(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("retrain")
    recipe = {
        "model": str(write_tiny(folder / "bert", "bert")),
        "data": {
            "path": str(write_table(folder / "rows.csv", WORDS, 240)),
            "text": "text",
            "label": "label",
            "slices": ["channel"],
        },
        "objective": "classify",
        "technique": "full",
        "train": {"max_steps": 40, "batch_size": 16, "precision": "fp32", "learning_rate": 0.003, "early_stopping": False},
        "evaluate": {"resamples": 200},
    }
    run = whet.train(build_recipe(recipe, "test"), out=folder / "champion")
    whet.evaluate(run)
    return run.path


@pytest.fixture
def desk(champion: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the champion registered in it as words, and files of new rows."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(champion, tmp_path / "runs" / "champion")
    Registry().add("words", Path("runs/champion"), who="test")
    write_table(tmp_path / "new.csv", DRIFTED, 150, seed=1)
    write_table(tmp_path / "poisoned.csv", WORDS, 480, seed=2, wrong=True)
    return tmp_path


def call(*words: str) -> tuple[int, dict[str, Any], str]:
    found = CliRunner().invoke(app, ["retrain", *words, "--json"])
    answered = json.loads(found.stdout) if found.stdout else {}
    return (3 if isinstance(found.exception, Refused) else found.exit_code), answered, str(found.exception or "") + found.stderr


def test_a_better_challenger_is_registered_and_promoted_by_the_rule(desk: Path) -> None:
    code, found, said = call("words", "new.csv", "--promote", "if-better", "--out", "runs/next", "--why", "new products", *LONGER)
    assert code == 0, said
    assert found["passed"] and found["better"] and found["promoted"] and found["registered"]["version"] == 2
    old, new = found["sets"]["old"], found["sets"]["new"]
    assert (old["n"], new["n"]) == (36, found["new_rows"]["test"]) and found["new_classes"] == ["travel"]
    change = new["metrics"]["accuracy"]["difference"]
    assert change["low"] > 0 and change["value"] == pytest.approx(
        new["metrics"]["accuracy"]["challenger"]["value"] - new["metrics"]["accuracy"]["champion"]["value"]
    )
    held = Registry().model("words")
    assert found["lead"]["number"] == 1 and change["value"] >= found["lead"]["needed"] > 0
    assert held.version(1).challengers == [fingerprint(desk / "runs" / "next")] and not held.version(2).challengers
    assert held.aliases["champion"].version == held.aliases["challenger"].version == 2
    assert (
        held.history[-1].action == "promote"
        and "new products" in held.history[-1].why
        and "may take over" in held.history[-1].why
    )
    run = Run(desk / "runs" / "next")
    assert run.manifest["parents"] == ["runs/champion"] and objection(run) is None
    page = (run.path / "retrain.html").read_text()
    assert "may take over" in page and "<svg" in page and "http" not in page.replace("http-equiv", "")
    before, after = stored_dataset(Run(desk / "runs" / "champion")), stored_dataset(run)
    for part in ("train", "validation", "test"):
        assert after.parts[part][: len(before.parts[part])] == before.parts[part]
        assert len(after.parts[part]) == len(before.parts[part]) + found["new_rows"][part]
    keys = {part: {text_key(one) for one in rows} for part, rows in after.parts.items()}
    assert not keys["train"] & keys["test"] and not keys["train"] & keys["validation"]
    again = stage.resume(run.path)  # nothing is left to do, and nothing is done twice
    assert (
        stage.result_of(again) == json.loads((run.path / "retrain.json").read_text())
        and len(Registry().model("words").versions) == 2
    )


def test_a_sabotaged_challenger_is_refused_and_kept_from_promotion(desk: Path) -> None:
    """Rows whose labels are exchanged: on them the challenger is better, and on the old ones it has become worse."""
    code, found, said = call(
        "words", "poisoned.csv", "--promote", "if-passed", "--out", "runs/bad", "--set", "train.max_steps=40"
    )
    assert code == 3 and not found["passed"] and not found["promoted"] and "refused" in said, said
    decided = {one["rows"]: one["decision"] for one in found["gate"]["rulings"]}
    assert decided["old"] == "fail"
    held = Registry().model("words")
    assert held.aliases["champion"].version == 1 and held.aliases["challenger"].version == 2
    version = held.version(2)
    assert version is not None and version.gate == "refused" and "worse than its champion" in (version.objection or "")
    with pytest.raises(Refused, match="worse than its champion"):
        whet.promote("words", "challenger")
    assert not Registry().overridden("words@2")
    whet.promote("words", "challenger", ignore_gate=True)
    assert Registry().overridden("words") and not Registry().overridden("words@1")


@pytest.mark.slow
def test_a_run_without_a_name_is_compared_and_not_registered(desk: Path) -> None:
    code, found, said = call("runs/champion", "new.csv", "--set", "train.max_steps=12")
    assert code in {0, 3} and "registered" not in found and found["name"] is None, said
    assert Path(found["run"]).name.endswith("-champion-retrain")
    code, _, said = call("runs/champion", "new.csv", "--promote", "if-passed")
    assert code == 1 and "registry add" in said


@pytest.mark.slow
def test_a_challenger_that_passes_and_is_not_better_stays_one_and_why_is_said(desk: Path) -> None:
    code, found, said = call("words", "new.csv", "--promote", "if-better", "--tolerance", "1", "--set", "train.max_steps=1")
    assert code == 0 and found["passed"] and not found["better"] and not found["promoted"], said
    assert "not certainly better" in found["not_promoted"] and "whet registry promote words 2" in " ".join(said.split())
    assert Registry().model("words").aliases["champion"].version == 1


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["read_files", "build_challenge"])
def test_a_champion_that_moved_meanwhile_is_not_replaced(desk: Path, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    real = getattr(stage, moment)

    def while_somebody_promotes(*given: Any, **named: Any) -> Any:
        shutil.copytree("runs/champion", "runs/other")
        (desk / "runs/other/model/more.txt").write_text("another model")
        Registry().add("words", Path("runs/other"), alias="champion", who="somebody")
        return real(*given, **named)

    monkeypatch.setattr(stage, moment, while_somebody_promotes)
    code, found, said = call("words", "new.csv", "--promote", "if-passed", "--tolerance", "1", "--set", "train.max_steps=6")
    assert code == 0 and not found["promoted"] and "is version 2 by now" in found["not_promoted"], said
    assert found["version"] == 1, "compared with the one that it was begun against"
    assert Registry().model("words").aliases["champion"].version == 2


@pytest.mark.slow
def test_from_the_champion_the_new_rows_and_a_draw_of_the_old_ones_are_learnt(desk: Path) -> None:
    code, found, said = call(
        "words", "new.csv", "--from", "champion", "--set", "continual.replay=0.5", "--set", "train.max_steps=40"
    )
    assert code in {0, 3} and found["sets"]["old"]["n"] == 36, said
    run = Run(Path(found["run"]))
    dataset, new = stored_dataset(run), found["new_rows"]
    assert len(dataset.train) == new["train"] + round(0.5 * new["train"]) and len(dataset.validation) == new["validation"] + 36
    assert run.manifest["parents"][0]["path"] == "runs/champion"
    held = sum(dataset.accounting.used.values())
    assert held == sum(map(len, dataset.parts.values())) and "learnt again" in said
    assert found["sets"]["new"]["metrics"]["accuracy"]["difference"]["value"] > 0.3
    code, again, said = call("words@2", "new.csv", "--tolerance", "1", "--out", "runs/none")
    assert code == 1 and "nothing to learn" in said, "all of it is known to the version that learnt it"


# Feedback


def write_log(file: Path, run: Path, *, text: bool, other: bool = False) -> Path:
    log = RequestLog(file, keep_text=text, max_bytes=2**30, max_days=90, say=print, on_drop=lambda _: None)
    draw = random.Random(5)
    labels = sorted(DRIFTED)
    told = []
    for index in range(120):
        label = labels[index % 3]
        asked = f"{' '.join(draw.choices(DRIFTED[label], k=4))} number{index}"
        item = Item(len(asked), 5, label="billing", confidence=0.6, tags={"channel": "mail"}, input=asked)
        of_model = "another" if other else fingerprint(run)
        log.write(Logged(f"{index:032x}", time.time(), "classify", "words", "champion", of_model, 200, items=[item]))
        right = label == "billing"
        kind, truth = (
            ("right", True) if right and index % 2 else ("right", False) if index % 10 == 1 else ("label", label.upper())
        )
        told.append(log.judge(Feedback(f"{index:032x}", 0, kind, truth)))
    assert all(one.result(timeout=30) for one in told)
    log.close()
    return file


@pytest.mark.slow
def test_feedback_of_the_log_is_learnt_from(desk: Path) -> None:
    write_log(desk / "requests.sqlite", desk / "runs/champion", text=True)
    code, found, said = call("words", "--log", "requests.sqlite", "--out", "runs/fed")
    assert code in {0, 3}, said
    rows = [one for one in stored_dataset(Run(desk / "runs/fed")).train if one.file == "requests.sqlite"]
    assert len(rows) == found["new_rows"]["train"] and found["sources"] == ["requests.sqlite"]
    assert {one.label for one in rows} == {"billing", "network", "TRAVEL"}  # known labels as before, the new one as most have it
    assert all(one.text and one.tags == {"channel": "mail"} for one in rows)
    called_wrong = sum(index % 10 == 1 and not (index % 3 == 0 and index % 2) for index in range(120))
    assert sum(found["new_rows"].values()) == 120 - called_wrong and "called wrong" in said


def test_a_log_without_texts_or_of_others_says_so(desk: Path) -> None:
    write_log(desk / "bare.sqlite", desk / "runs/champion", text=False)
    code, _, said = call("words", "--log", "bare.sqlite")
    assert code == 1 and "--log-text" in said and "no text" in said
    write_log(desk / "other.sqlite", desk / "runs/champion", text=True, other=True)
    code, _, said = call("words", "--log", "other.sqlite")
    assert code == 1 and "of other models" in said
    assert sorted(one.name for one in (desk / "runs").iterdir()) == ["champion"]


@pytest.mark.parametrize(
    ("needs", "columns", "kind", "given", "expected"),
    [
        (("text", "label"), {"text": "t", "label": "l"}, "label", "a", {"t": "asked", "l": "a"}),
        (("text", "labels"), {"text": "t", "labels": "l"}, "labels", ["a", "b"], {"t": "asked", "l": ["a", "b"]}),
        (("text", "value"), {"text": "t", "label": "l"}, "value", 0.5, {"t": "asked", "l": 0.5}),
        (("text", "label"), {"text": "t", "text_pair": "p", "label": "l"}, "label", "a", {"t": "one", "p": "two", "l": "a"}),
        (("messages",), {"prompt": "p", "response": "r"}, "correction", "better", {"p": "asked", "r": "better"}),
    ],
)
def test_feedback_of_each_kind_becomes_a_row(
    needs: tuple[str, ...], columns: dict[str, str], kind: str, given: Any, expected: dict[str, Any], tmp_path: Path
) -> None:
    sent = json.dumps({"text": "one", "text_pair": "two"}) if "text_pair" in columns else "asked"
    log = RequestLog(tmp_path / "log", keep_text=True, max_bytes=2**30, max_days=90, say=print, on_drop=lambda _: None)
    log.write(Logged("0" * 32, time.time(), "classify", "m", "run", "f", 200, items=[Item(5, 1, input=sent, output="said")]))
    assert log.judge(Feedback("0" * 32, 0, kind, given)).result(timeout=30)
    log.close()
    (row,) = stage.feedback_rows(tmp_path / "log", {"f"}, Data(path=("a",), **columns), needs, [])  # type: ignore[arg-type]
    assert row.fields == expected and row.line == 1
    other = (
        (("messages",), Data(path=("a",), prompt="p"))
        if kind != "correction"
        else (("text", "label"), Data(path=("a",), text="t"))
    )
    with pytest.raises(DataError, match="another kind"):
        stage.feedback_rows(tmp_path / "log", {"f"}, other[1], other[0], [])


def test_feedback_that_an_objective_cannot_learn_from_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="corrected answers"):
        stage.feedback_rows(Path("log"), set(), Data(path=("a",)), ("prompt", "chosen", "rejected"), [])


# Rows


def new_text(number: int) -> str:
    """A text like no other."""
    return "new " + sha256(str(number).encode()).hexdigest()[:24]


def test_new_rows_never_come_to_stand_in_two_parts(champion: Path) -> None:
    old = stored_dataset(Run(champion))
    raw = [
        RawRow("new.csv", 2, {"text": (old.test[0].text or "").upper(), "label": old.test[0].label}),
        RawRow("new.csv", 3, {"text": old.validation[0].text, "label": "other"}),
        RawRow("new.csv", 4, {"text": old.train[0].text, "label": old.train[0].label}),
        RawRow("new.csv", 5, {"text": old.train[1].text, "label": "other"}),
        RawRow("new.csv", 6, {"text": "", "label": "billing"}),
        *(RawRow("new.csv", 10 + n, {"text": new_text(n), "label": "Billing" if n % 2 else "net-work"}) for n in range(40)),
    ]
    columns = old.columns.model_copy(update={"max_reject_fraction": 0.1})
    found = add_rows(
        whet.data.dataset.replace(old, columns=columns),
        raw,
        ("text", "label"),
        Split(),
        build_cleaners(columns, None),
        ["new.csv"],
    )
    assert sum(found.used.values()) == 41 and found.used["test"] == 6 and found.used["validation"] == 6
    assert [one.reason.split(" part")[0].split(" of ")[0] for one in found.dataset.rejects[-4:]] == [
        "'text' is empty", "duplicate", "also stands in the test", "also stands in the validation",
    ]  # fmt: skip
    relabelled = [one for one in found.dataset.train if one.text == old.train[1].text]
    assert [one.label for one in relabelled] == [old.train[1].label, "other"]
    assert found.new_classes == ("net-work", "other") and "billing" in {one.label for one in found.dataset.train[-20:]}
    ids = sorted(one.id for rows in found.dataset.parts.values() for one in rows)
    assert ids == list(range(len(ids))) and found.first_id == ids[-1] - 40
    assert found.dataset.accounting.rows == old.accounting.rows + 45
    twice = add_rows(found.dataset, [RawRow("b.csv", 1, {"text": "more", "label": "billing"})], ("text", "label"), Split(),
                     build_cleaners(columns, None), ["b.csv"])  # fmt: skip
    assert set(twice.dataset.accounting.sources) == {"path", "new", "new 2"}


def test_the_order_of_new_rows_does_not_move_them(champion: Path) -> None:
    old = stored_dataset(Run(champion))
    raw = [RawRow("new.csv", 2 + n, {"text": new_text(n), "label": "billing" if n % 3 else "network"}) for n in range(60)]
    cleaners = build_cleaners(old.columns, None)
    one, two = (
        add_rows(old, rows, ("text", "label"), Split(), cleaners, ["new.csv"]).dataset for rows in (raw, list(reversed(raw)))
    )
    assert {text_key(row) for row in one.test} == {text_key(row) for row in two.test}


# The decision


def outputs(right: int, n: int) -> list[Output]:
    return [Output(label="a" if place < right else "b") for place in range(n)]


def group(champion: int, challenger: int, n: int) -> list[Group]:
    examples = [Example(id=place, text=str(place), label="a") for place in range(n)]
    return [Group(("accuracy",), examples, outputs(challenger, n), {"champion": outputs(champion, n)})]


@pytest.mark.parametrize(
    ("old", "new", "asked", "decided"),
    [
        ((90, 90), (40, 80), None, ("pass", "pass")),
        ((90, 50), (40, 80), None, ("fail", "pass")),
        ((90, 95), (80, 40), None, ("pass", "fail")),
        ((90, 88), (40, 80), 0.0, ("undecided", "pass")),
        ((90, 88), (40, 80), 0.06, ("pass", "pass")),  # 2 of 100 rows fewer: some 5 points at the interval's end
    ],
)
def test_both_sets_must_pass(old: tuple[int, int], new: tuple[int, int], asked: float | None, decided: tuple[str, str]) -> None:
    found = build_challenge(
        groups={"old": group(*old, 100), "new": group(*new, 100)}, metric="accuracy", resampling=Resampling(1000, 0), asked=asked
    )
    assert tuple(one["decision"] for one in found["gate"]["rulings"]) == decided
    assert found["passed"] == (decided == ("pass", "pass")) and json.dumps(found, allow_nan=False)
    opening = "must not" if "fail" in decided else "should not" if "undecided" in decided else "may take over"
    assert opening in found["sentence"]


def test_the_gate_of_the_recipe_counts_too() -> None:
    groups = {"old": group(90, 90, 100), "new": group(40, 80, 100)}
    own = {"decision": "fail", "sentence": "Gate failed: 1 failed of 1 checks."}
    found = build_challenge(groups=groups, metric="accuracy", resampling=Resampling(200, 0), own_gate=own)
    assert not found["passed"] and found["gate"]["decision"] == "pass" and "gate failed" in found["sentence"]


def test_an_own_gate_that_could_not_be_decided_is_no_pass() -> None:
    groups = {"old": group(90, 90, 100), "new": group(40, 80, 100)}
    own = {"decision": "undecided", "sentence": "Gate undecided: 1 undecided of 1 checks."}
    found = build_challenge(groups=groups, metric="accuracy", resampling=Resampling(200, 0), own_gate=own)
    assert not found["passed"] and found["gate"]["decision"] == "pass" and "should not" in found["sentence"]


@pytest.mark.parametrize(("old", "new", "better"), [((90, 90), (40, 80), True), ((40, 80), (90, 90), False)])
def test_better_is_better_on_the_new_rows(old: tuple[int, int], new: tuple[int, int], better: bool) -> None:
    groups = {"old": group(*old, 100), "new": group(*new, 100)}
    found = build_challenge(groups=groups, metric="accuracy", resampling=Resampling(200, 0))
    assert found["passed"] and found["better"] == better


def test_the_sentence_says_what_lead_counts() -> None:
    # 40 of 100 new rows are answered otherwise: the first challenger needs 2.89 * sqrt(40) / 100 = 18.3 points
    groups = {"old": group(90, 90, 100), "new": group(40, 80, 100)}
    found = build_challenge(groups=groups, metric="accuracy", resampling=Resampling(5000, 0), number=1)
    assert found["lead"]["needed"] == pytest.approx(0.183, abs=0.005)
    assert re.search(r"counts from 1[78]\.\d points on, this being challenger 1 of the same champion\.$", found["sentence"])


def test_where_no_row_tells_them_apart_no_lead_is_spoken_of() -> None:
    groups = {"old": group(90, 90, 100), "new": group(80, 80, 100)}
    found = build_challenge(groups=groups, metric="accuracy", resampling=Resampling(200, 0), number=3)
    assert not found["better"] and "0.0 points on" not in found["sentence"] and "challenger 3" in found["sentence"]


def test_the_tolerance_is_what_so_many_rows_can_tell() -> None:
    assert tolerance("accuracy", 0.9, 10_000, None).size == SMALLEST
    assert tolerance("accuracy", 0.9, 256, None).size == pytest.approx(0.05)  # 0.8 / 16
    assert tolerance("perplexity", 50.0, 10_000, None).size == pytest.approx(1.0)  # 2 % of 50
    assert tolerance("accuracy", 0.9, 10, 0.3).size == 0.3


# Crashes


@pytest.mark.slow
def test_what_was_stopped_goes_on_to_the_same_end(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ("words", "new.csv", "--promote", "if-passed", "--set", "train.max_steps=6")
    _, whole, _ = call(*options, "--out", "runs/whole")
    shutil.rmtree(desk / "registry")
    Registry().add("words", Path("runs/champion"), who="test")
    for place, name in enumerate(("run_phase", "save_policy", "evaluate", "build_challenge", "_register", "render_challenge")):
        run = f"runs/stopped{place}"
        with monkeypatch.context() as patch:
            module = stage if hasattr(stage, name) else stage.training
            patch.setattr(module, name, interrupted)
            with pytest.raises(Interrupted, match="retrain --resume"):
                stage.retrain("words", [Path("new.csv")], promote="if-passed", sets=["train.max_steps=6"], out=Path(run))
        assert len(Registry().model("words").versions) == (1 if name != "render_challenge" else 2)
        found = stage.result_of(stage.resume(desk / run))
        assert found["sets"] == whole["sets"] and found["promoted"] == whole["promoted"]
        assert len(Registry().model("words").versions) == 2
        assert fingerprint(desk / run) == fingerprint(desk / "runs/whole")
        shutil.rmtree(desk / "registry")
        Registry().add("words", Path("runs/champion"), who="test")


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


def test_a_challenger_that_was_not_compared_is_not_used(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(stage, "_finish", interrupted)
        with pytest.raises(Interrupted):
            stage.retrain("words", [Path("new.csv")], out=Path("runs/half"), sets=["train.max_steps=3"])
    with pytest.raises(Refused, match="not been compared"):
        whet.register("words", Path("runs/half"))
    with pytest.raises(RunError, match="retrain --resume"):
        stage.result_of(Run(Path("runs/half")))


# From Python


@pytest.mark.slow
def test_a_name_is_kept_and_watched_and_retrained_from_python(desk: Path) -> None:
    shutil.copytree("runs/champion", "runs/copy")
    (desk / "runs/copy/model/more.txt").write_text("another model")
    assert whet.register("words", Run(Path("runs/copy")), why="a copy")["aliases"] == ["challenger"]
    assert whet.promote("words", 2)["version"] == 2 and whet.rollback("words")["version"] == 1
    assert [one["name"] for one in whet.registered()] == ["words"] and whet.registered("words")[0]["aliases"]["champion"] == 1
    write_log(desk / "requests.sqlite", desk / "runs/champion", text=True)
    watched = whet.monitor("words", log="requests.sqlite", checks=["psi"])
    assert watched["verdict"]["decision"] == "retrain" and Path(watched["report"]).is_file()
    run, found = whet.retrain("words", "new.csv", start="champion", sets=["train.max_steps=3"], tolerance=1.0, out="runs/next")
    assert found["passed"] and found["registered"]["version"] == 3 and whet.retrain(resume=run.path) == (run, found)


# Mistakes

MISTAKES = {
    "nothing new": ("retrain words", 1, "no new rows", "--log FILE"),
    "no name": ("retrain", 2, "--resume"),
    "unknown name": ("retrain wrods@champion new.csv", 1, "no model 'wrods'", "words"),
    "unknown run": ("retrain runs/nosuch new.csv", 1, "no such run"),
    "unknown file": ("retrain words nosuch.csv", 1, "nosuch.csv"),
    "unknown log": ("retrain words --log nosuch.sqlite", 1, "no such request log"),
    "other columns": ("retrain words other.csv", 1, "other.csv", "'text'"),
    "the same rows": ("retrain words same.csv", 1, "same.csv", "nothing to learn"),
    "too few": ("retrain words few.csv", 3, "few.csv", "in vain", "67"),
    "a rule": ("retrain words new.csv --promote always", 2, "--promote", "if-passed"),
    "another objective": ("retrain words new.csv --set objective=sft", 1, "--set objective=sft", "Allowed"),
    "a taken folder": ("retrain words new.csv --out runs/champion", 1, "nothing is written over"),
    "a start": ("retrain words new.csv --from scratch", 2, "--from", "base, champion"),
    "replay from the base": ("retrain words new.csv --set continual.replay=0.5", 1, "continual", "parents"),
    "a tolerance": ("retrain words new.csv --tolerance -1", 2, "--tolerance"),
    "resume and more": ("retrain --resume runs/champion words", 2, "--resume"),
    "resume another run": ("retrain --resume runs/champion", 1, "not begun by `whet retrain`", "whet train --resume"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_leaves_nothing_behind(
    mistake: str, desk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line, code, *words = MISTAKES[mistake]
    (desk / "other.csv").write_text("title,body\na,b\nc,d\n")
    (desk / "few.csv").write_text("text,label\n" + "".join(f"voucher {n},billing\n" for n in range(20)))
    shutil.copy(
        Path(json.loads((desk / "runs/champion/data/train.jsonl").read_text().splitlines()[0])["file"]), desk / "same.csv"
    )
    before = sorted(desk.rglob("*")), (desk / "registry/registry.json").read_bytes()
    monkeypatch.setattr(sys, "argv", ["whet", *line.split()])
    with pytest.raises(SystemExit) as left:
        main()
    said = capsys.readouterr()
    assert left.value.code == code and "Traceback" not in said.err and not said.out, said.err
    for word in words:
        assert word in " ".join(said.err.split()), f"{word!r} is not in: {said.err}"
    assert (sorted(desk.rglob("*")), (desk / "registry/registry.json").read_bytes()) == before


@pytest.mark.slow
def test_a_killed_process_goes_on(desk: Path) -> None:
    command = [sys.executable, "-m", "whet", "retrain"]
    options = ["words", "new.csv", "--out", "runs/killed", "--set", "train.max_steps=60", "--set", "train.checkpoint.every=5"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    log = desk / "runs/killed/log.jsonl"
    while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > 12):
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(Registry().model("words").versions) == 1
    done = subprocess.run([*command, "--resume", "runs/killed", "--json"], capture_output=True, text=True)
    assert done.returncode in {0, 3}, done.stderr
    assert json.loads(done.stdout)["registered"]["version"] == 2


@pytest.mark.parametrize(
    ("manifest", "verb"), [({"kind": "train", "retrain": {}}, "retrain"), ({"kind": "train"}, "train"), ({"kind": "export"}, "")]
)
def test_a_folder_that_is_taken_tells_how_to_go_on_with_what_is_in_it(
    tmp_path: Path, manifest: dict[str, object], verb: str
) -> None:
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match="this folder exists, and nothing is written over") as refused:
        free_path(tmp_path, "run")
    assert ("--resume" in str(refused.value)) == bool(verb)
    assert f"whet {verb} --resume" in str(refused.value) or not verb
