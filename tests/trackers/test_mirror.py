"""Runs with trackers: the same bytes as without, whatever the trackers do; one that fails is named once."""

import json
import time

import pytest

from whet.files import file_hash
from whet.recipe_file import load_recipe
from whet.run import Run
from whet.stages.evaluate import evaluate
from whet.stages.mirror import mirrored
from whet.stages.train import resume, train
from whet.testing.tiny import LABELS, OPENINGS, THINGS
from whet.testing.trackers import TEXT
from whet.tracked import measured

pytestmark = pytest.mark.slow

TRACKER = '''import json
import time

from whet.plugins import plugin


class Tracking:
    def __init__(self, run, fails):
        self.folder, self.fails = run.folder.parent / "told", fails
        self.folder.mkdir(exist_ok=True)
        self.key, self.place = run.key or "first", str(self.folder)
        self.write({"start": run.key, "parameters": dict(run.parameters)})

    def write(self, record):
        with (self.folder / "told.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\\n")

    def log(self, records):
        if self.fails == "log":
            raise OSError("the server is gone")
        for record in records:
            self.write({"step": record.step, "numbers": dict(record.numbers), "tags": dict(record.tags)})

    def finish(self, ending):
        if self.fails == "finish":
            raise OSError("the server is gone")
        if self.fails == "hang":
            time.sleep(60)
        self.write({"ending": ending})


@plugin
class Told:
    """Writes down what it is told."""

    fails: str = ""
    """Where it fails."""

    def start(self, run):
        if self.fails == "start":
            raise OSError("the server is gone")
        return Tracking(run, self.fails)
'''


class Heard:
    """A narrator that keeps what is said."""

    console = None

    def __init__(self):
        self.said = []

    def say(self, text):
        self.said.append(text)

    def bar(self, title, total):
        from whet.stages.narrate import SILENT

        return SILENT.bar(title, total)


@pytest.fixture
def desk(tmp_path, tiny_folder):
    return write_desk(tmp_path, tiny_folder("bert"))


def write_desk(tmp_path, model):
    colours = ("red", "blue", "old", "new")
    lines = [
        f"{opening.format(f'{colour} {thing}')},{label}"
        for colour in colours
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]
    (tmp_path / "rows.csv").write_text("text,label\n" + "\n".join(lines) + "\n")
    (tmp_path / "told.py").write_text(TRACKER)
    (tmp_path / "recipe.yaml").write_text(
        f"model: {model}\ndata: {{path: rows.csv, text: text, label: label}}\nobjective: classify\n"
        "technique: {name: lora, rank: 2}\ntrain: {max_steps: 6, batch_size: 8, precision: fp32, validate_every: 2, refit: true}\n"
        "evaluate: {resamples: 100}\n"
    )
    return tmp_path


def trained(desk, name, trackers=None, narrator=None):
    sets = [f"trackers={trackers}"] if trackers else []
    more = {} if narrator is None else {"narrator": narrator}
    return train(load_recipe(desk / "recipe.yaml", sets), folder=desk, out=desk / name, **more)


@pytest.fixture(scope="module")
def plain(tmp_path_factory, tiny_folder):
    """A run without trackers."""
    return trained(write_desk(tmp_path_factory.mktemp("plain"), tiny_folder("bert")), "run")


def weights(run):
    return {path.name: file_hash(path) for path in run.model.glob("*.safetensors")}


def told(desk):
    return [json.loads(line) for line in (desk / "told" / "told.jsonl").read_text().splitlines()]


def test_weights_and_log_are_the_same_with_and_without_trackers(desk, plain):
    watched = trained(desk, "watched", "[tensorboard, ./told.py]")
    assert weights(plain) == weights(watched) and weights(plain)
    assert (plain.path / "log.jsonl").read_bytes() == (watched.path / "log.jsonl").read_bytes()
    assert "trackers" not in plain.manifest
    assert [one["name"] for one in watched.manifest["trackers"]] == ["tensorboard", "./told.py"]


def test_a_tracker_gets_the_log_and_the_verdict_in_the_same_place(desk):
    run = trained(desk, "run", "[./told.py]")
    evaluate(run.path, recipe=desk / "recipe.yaml")
    found = told(desk)
    assert [one["start"] for one in found if "start" in one] == [None, "first"]  # evaluating goes on where training was
    assert [one["ending"] for one in found if "ending" in one] == ["finished", "finished"]
    steps = [(one["step"], one["numbers"]["fit/loss"]) for one in found if "fit/loss" in one.get("numbers", {})]
    logged = [(one["step"], one["loss"]) for one in run.records() if one["kind"] == "step" and one["phase"] == "fit"]
    assert steps == logged and len(steps) == 6
    assert any("refit/loss" in one.get("numbers", {}) for one in found)
    judged = next(one for one in found if one.get("tags"))
    assert judged["tags"]["verdict"] == run.report["verdict"]["decision"]
    assert judged["numbers"]["test/accuracy"] == run.report["metrics"]["accuracy"]["value"]
    assert found[0]["parameters"]["train.batch_size"] == 8 and found[0]["parameters"]["technique.rank"] == 2
    assert "red card" not in (desk / "told" / "told.jsonl").read_text()  # no text of the rows


@pytest.mark.parametrize("fails", ["start", "log", "finish"])
def test_a_tracker_that_fails_is_survived_and_named_once(desk, plain, fails):
    heard = Heard()
    run = trained(desk, "run", f"[{{name: ./told.py, fails: {fails}}}, tensorboard]", heard)
    notes = [said for said in heard.said if "tracker './told.py' failed" in said]
    assert len(notes) == 1 and "the server is gone" in notes[0] and "goes on" in notes[0]
    first, second = run.manifest["trackers"]
    assert "the server is gone" in first["error"] and "error" not in second
    assert weights(run) == weights(plain)


def test_a_tracker_that_hangs_holds_the_end_up_for_a_while_only(desk):
    run = trained(desk, "run")
    recipe = load_recipe(desk / "recipe.yaml", ["trackers=[{name: ./told.py, fails: hang}]"])
    begun = time.monotonic()
    with mirrored(run, recipe, desk, wait_s=0.3) as watched:
        watched.tell({"kind": "step", "phase": "fit", "step": 1, "loss": 1.0})
    assert time.monotonic() - begun < 5
    assert "did not finish" in run.manifest["trackers"][0]["error"]


def test_a_run_that_was_stopped_goes_on_in_the_same_place(desk, plain, monkeypatch):
    from whet.stages import phase

    saved = phase._save

    def stop(folder, training, *args):
        saved(folder, training, *args)
        if training.step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(phase, "_save", stop)
    with pytest.raises(phase.Interrupted):
        trained(desk, "run", "[./told.py]")
    monkeypatch.setattr(phase, "_save", saved)
    run = resume(desk / "run", recipe=desk / "recipe.yaml")
    found = told(desk)
    assert [one["start"] for one in found if "start" in one] == [None, "first"]
    assert [one["ending"] for one in found if "ending" in one] == ["interrupted", "finished"]
    assert [one["step"] for one in found if "fit/loss" in one.get("numbers", {})] == [1, 2, 3, 4, 5, 6]
    assert weights(run) == weights(plain)


def test_a_key_of_the_environment_is_left_out_of_what_is_said(desk, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "hunter22hunter")
    (desk / "leaks.py").write_text(TRACKER.replace("the server is gone", "no entry with hunter22hunter"))
    run = trained(desk, "run", "[{name: ./leaks.py, fails: start}]")
    assert run.manifest["trackers"][0]["error"] == "OSError: no entry with [MLFLOW_TRACKING_PASSWORD]"


def test_one_tracker_needs_no_list(desk):
    alone, listed = (load_recipe(desk / "recipe.yaml", [f"trackers={value}"]) for value in ("tensorboard", "[tensorboard]"))
    assert alone.trackers == listed.trackers and [one.name for one in alone.trackers] == ["tensorboard"]


def test_a_record_gives_its_numbers_only():
    record = {
        "kind": "validation",
        "phase": "fit",
        "step": 2,
        "loss": 1.0,
        "metric": "bleu",
        "score": 3.0,
        "text": TEXT,
        "bad": float("nan"),
    }
    found = measured(record)
    assert found.step == 2 and found.numbers == {"fit/validation_loss": 1.0, "fit/validation_bleu": 3.0} and not found.tags
    assert measured({"kind": "note", "text": TEXT}) is None


@pytest.mark.parametrize(
    ("trackers", "word"),
    [
        ("[tensorbord]", "tensorboard"),
        ("[{name: mlflow, url: x}]", "uri"),
        ("[{name: mlflow, uri: 'http://a:b@c'}]", "MLFLOW_TRACKING_PASSWORD"),
        ("[./absent.py]", "absent.py"),
        ("[lora]", "trackers"),
        ("3", "trackers"),
        ("[{project: x}]", "name"),
    ],
)
def test_a_wrong_choice_is_named_before_anything_is_done(desk, trackers, word):
    from whet.errors import RecipeError

    with pytest.raises(RecipeError, match=word):
        trained(desk, "run", trackers)
    assert not (desk / "run").exists()


def test_the_run_that_is_mirrored_is_the_run(desk):
    run = trained(desk, "run")
    with mirrored(run, load_recipe(desk / "recipe.yaml", ["trackers=[./told.py]"]), desk) as watched:
        assert watched == run and isinstance(watched, Run)
