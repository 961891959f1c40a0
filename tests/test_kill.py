"""Killed and resumed, a run ends in the same bytes as if it had never been stopped."""

import contextlib
import hashlib
import io
import json
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
import torch

from whet import cli
from whet.recipe_file import build_recipe
from whet.run import Run
from whet.stages import train as training
from whet.testing.tiny import ANSWERS, tiny_texts

# No validation improves on the first by 10 nats, so "classify" stops after three, at step 12, and its best step is the 4th.
RECIPES = {
    "write": """
model: {llama}
data: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: full
train: {{max_steps: 12, batch_size: 4, precision: fp32, validate_every: 4, checkpoint: {{every: 3, keep: 1}}, early_stopping: false}}
""",
    "classify": """
model: {bert}
data: {{path: {folder}/labelled.csv, text: text, label: label}}
objective: classify
technique: {{name: lora, rank: 2}}
train:
  {{max_steps: 24, batch_size: 4, precision: fp32, validate_every: 4, refit: true, checkpoint: {{every: 3}},
    early_stopping: {{patience: 2, min_improvement: 10}}}}
""",
    "prefix": """
model: {llama}
data: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: {{name: prefix, length: 4}}
train: {{max_steps: 6, batch_size: 4, precision: fp32, validate_every: 3, checkpoint: {{every: 2}}, early_stopping: false}}
""",
    "stories": """
model: {stories}
data: {{path: {folder}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: full
train: {{max_steps: 12, batch_size: 4, precision: bf16, validate_every: 6, checkpoint: {{every: 2}}}}
""",
}


@pytest.fixture(scope="module")
def processes():
    """Processes that begin with everything imported, and without the threads of this one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["whet.stages.train", "whet.stages.evaluate", "whet.testing.tiny"])
    first = context.Process(target=os.getpid)  # the imports come with the first one; they are no part of how long a run takes
    first.start()
    first.join()
    return context


@pytest.fixture(scope="module")
def recipes(tmp_path_factory, tiny_folder):
    folder = tmp_path_factory.mktemp("killed")
    texts = tiny_texts("red", "blue", "green")
    (folder / "labelled.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    lines = [json.dumps({"prompt": text, "response": ANSWERS[index % 4].format("card")}) for index, (text, _) in enumerate(texts)]
    (folder / "chat.jsonl").write_text("\n".join(lines) + "\n")
    stories = Path(__file__).resolve().parents[2] / "shared" / "models" / "stories260K"
    for name, text in RECIPES.items():
        if name != "stories" or stories.is_dir():
            places = {"llama": tiny_folder("llama"), "bert": tiny_folder("bert"), "stories": stories, "folder": folder}
            (folder / f"{name}.yaml").write_text(text.format(**places))
    return folder


def at_step(phase, step, number=signal.SIGKILL):
    """A process that gets a signal once it has logged this step of this phase."""
    return ("log", (phase, step), int(number))


def at_sync(count, number=signal.SIGKILL):
    """A process that gets a signal instead of its n-th fsync: anywhere in the writing of a checkpoint, of the model, of the run."""
    return ("sync", count, int(number))


def at_time(seconds, number=signal.SIGKILL):
    """A process that gets a signal from outside after so long, wherever it is then."""
    return ("time", seconds, int(number))


def command(line, when, told):
    """Run the command line in this process, which may end itself. What it said goes to the file `told`."""
    torch.set_num_threads(1)
    kind, where, number = when or ("", None, 0)
    log, sync, synced = Run.log, os.fsync, []

    def logged(run, record):
        log(run, record)
        if kind == "log" and record["kind"] == "step" and (record["phase"], record["step"]) == where:
            os.kill(os.getpid(), number)

    def counted(handle):
        synced.append(handle)
        if kind == "sync" and len(synced) == where:
            os.kill(os.getpid(), number)
        sync(handle)

    Run.log, os.fsync = logged, counted
    with Path(told).open("w", encoding="utf-8") as file:
        sys.argv, sys.stderr, sys.stdin = ["whet", *line], file, io.StringIO()
        try:
            cli.main()
        finally:
            file.write(f"\n{len(synced)}")


@pytest.fixture
def whet(processes, tmp_path):
    """Run the command line in a process of its own. Returns its exit code (minus the signal where one ended it) and what it said."""

    def run(*line, when=None):
        told = tmp_path / "told.txt"
        told.write_text("")  # where it ends before it could say anything
        process = processes.Process(target=command, args=([str(word) for word in line], when, str(told)))
        process.start()
        if when is not None and when[0] == "time":
            process.join(when[1])
            if process.is_alive():
                with contextlib.suppress(ProcessLookupError):  # it has ended by itself since
                    os.kill(process.pid, when[2])
        process.join(300)
        assert process.exitcode is not None, "the process does not end"
        return process.exitcode, told.read_text(encoding="utf-8")

    return run


def end(run):
    """SHA-256 of what a run ends in: its log, its model, and all checkpoints that were kept."""
    files = [run / "log.jsonl", *sorted((run / "model").rglob("*")), *sorted((run / "checkpoints").rglob("*"))]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


@pytest.fixture(scope="module")
def ended():
    """What each recipe ends in when nothing stops it, in how many fsyncs and seconds; filled by `undisturbed`."""
    return {}


def undisturbed(name, recipes, whet, tmp_path, ended):
    if name not in ended:
        begun = time.monotonic()
        code, said = whet("train", recipes / f"{name}.yaml", "--out", tmp_path / "undisturbed")
        assert code == 0, said
        ended[name] = (end(tmp_path / "undisturbed"), int(said.rpartition("\n")[2]), time.monotonic() - begun)
        assert any(file.endswith(".safetensors") for file in ended[name][0])
    return ended[name][0]


def killed(name, kills, recipes, whet, run):
    """Begin a run, kill it at each of these places, and go on until it ends."""
    line = ["train", recipes / f"{name}.yaml", "--out", run]
    for when in kills:
        code, said = whet(*line, when=when)
        assert code == -signal.SIGKILL, said
        line = ["train", "--resume", run] if run.exists() else line
    code, said = whet(*line)
    assert code == 0, said
    assert not [path for path in run.rglob("*") if path.suffix in {".partial", ".before"}]
    return end(run)


CASES = {
    "before the first checkpoint": ("write", [at_step("fit", 2)]),
    "twice": ("write", [at_step("fit", 5), at_step("fit", 10)]),
    "at the last step": ("write", [at_step("fit", 12)]),
    "with LoRA": ("classify", [at_step("fit", 4)]),
    "with a prefix": ("prefix", [at_step("fit", 1), at_step("fit", 5)]),
    "between the best step and the early stop": ("classify", [at_step("fit", 7), at_step("fit", 9)]),
    "in the second phase": ("classify", [at_step("fit", 5), at_step("refit", 4)]),
    "at the first step of the second phase": ("classify", [at_step("refit", 1), at_step("refit", 1)]),
}


QUICK = {"twice"}


@pytest.mark.parametrize("case", [pytest.param(case, marks=() if case in QUICK else pytest.mark.slow) for case in CASES])
def test_a_killed_run_ends_in_the_same_bytes(case, recipes, whet, tmp_path, ended):
    name, kills = CASES[case]
    expected = undisturbed(name, recipes, whet, tmp_path, ended)
    assert killed(name, kills, recipes, whet, tmp_path / "killed") == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("seed", [0, 1])
def test_killed_at_five_random_steps_a_run_ends_in_the_same_bytes(name, seed, recipes, whet, tmp_path, ended):
    if not (recipes / f"{name}.yaml").is_file():
        pytest.skip("needs the model stories260K, which does not come with this project")
    expected = undisturbed(name, recipes, whet, tmp_path, ended)
    steps = sorted(random.Random(seed).sample(range(1, last_step(expected) + 1), 5))
    assert killed(name, [at_step("fit", step) for step in steps], recipes, whet, tmp_path / "killed") == expected


def last_step(expected):
    """The steps of the first phase that were trained; early stopping may end it before what was planned."""
    return max(int(file.split("/")[2].removeprefix("step-")) for file in expected if file.startswith("checkpoints/fit/"))


def test_the_run_with_two_phases_really_stops_early(recipes, whet, tmp_path):
    assert whet("train", recipes / "classify.yaml", "--out", tmp_path / "run")[0] == 0
    phases = Run(tmp_path / "run").manifest["phases"]
    assert (phases["fit"]["stopped_early"], phases["fit"]["best_step"], phases["fit"]["steps"]) == (True, 4, 12)
    assert phases["refit"]["steps"] == 5  # the same share of an epoch: 4 steps of 25 rows are 5 of 31


@pytest.mark.parametrize("share", [pytest.param(0.1, marks=pytest.mark.slow), 0.5, pytest.param(0.9, marks=pytest.mark.slow)])
def test_killed_in_the_middle_of_writing_a_run_ends_in_the_same_bytes(share, recipes, whet, tmp_path, ended):
    expected = undisturbed("write", recipes, whet, tmp_path, ended)
    place = at_sync(1 + int(share * ended["write"][1]))
    assert killed("write", [place], recipes, whet, tmp_path / "killed") == expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["write", "classify"])
def test_killed_at_any_write_a_run_ends_in_the_same_bytes(name, recipes, whet, tmp_path, ended):
    expected = undisturbed(name, recipes, whet, tmp_path, ended)
    for count in range(1, ended[name][1] + 1, 3):
        run = tmp_path / f"killed-{count}"
        assert killed(name, [at_sync(count)], recipes, whet, run) == expected, f"killed at write {count}"
        assert [path.name for path in tmp_path.glob(".*")] == []
        shutil.rmtree(run)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_killed_at_a_random_moment_a_run_ends_in_the_same_bytes(seed, recipes, whet, tmp_path, ended):
    anywhere(seed, recipes, whet, tmp_path, ended)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(200))
def test_two_hundred_times_killed_at_a_random_moment_a_run_ends_in_the_same_bytes(seed, recipes, whet, tmp_path, ended):
    anywhere(seed, recipes, whet, tmp_path, ended)


def anywhere(seed, recipes, whet, tmp_path, ended):
    """Kill a run at a drawn step, at a drawn write, or after a drawn time, wherever it is then; go on, and compare. Every third is killed twice."""
    draw = random.Random(seed)
    name = draw.choice(["write", "classify", "prefix"])
    expected = undisturbed(name, recipes, whet, tmp_path, ended)
    run, num_kills = tmp_path / "killed", 0
    line = ["train", recipes / f"{name}.yaml", "--out", run]
    while num_kills < 1 + (seed % 3 == 0):
        when = draw.choice(
            [
                at_step("fit", draw.randint(1, last_step(expected))),
                at_sync(draw.randint(1, ended[name][1])),
                at_time(draw.uniform(0, ended[name][2])),
            ]
        )
        code, said = whet(*line, when=when)
        assert code in {0, -signal.SIGKILL}, said
        if code == 0:  # the place lies behind what was left to do; the next draw is of a run of its own
            assert end(run) == expected, f"{name}, killed {num_kills} times"
            shutil.rmtree(run)
            line = ["train", recipes / f"{name}.yaml", "--out", run]
            continue
        num_kills += 1
        line = ["train", "--resume", run] if run.exists() else line
    code, said = whet(*line)
    assert code == 0, said
    assert end(run) == expected, f"{name}, killed {num_kills} times"
    assert not [path for path in run.rglob("*") if path.suffix in {".partial", ".before"}]
    assert [path.name for path in tmp_path.glob(".*")] == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
@pytest.mark.parametrize("seed", range(4))
def test_asked_to_stop_at_a_random_moment_a_run_is_saved_and_goes_on_to_the_same_end(
    seed, number, recipes, whet, tmp_path, ended
):
    expected = undisturbed("write", recipes, whet, tmp_path, ended)
    draw = random.Random(f"{seed} {number}")
    run, line = tmp_path / "stopped", ["train", recipes / "write.yaml", "--out", tmp_path / "stopped"]
    for _ in range(3):
        place = draw.choice(
            [at_step("fit", draw.randint(1, 11), number), at_time(draw.uniform(0.3, 1) * ended["write"][2], number)]
        )
        code, said = whet(*line, when=place)
        assert code in {0, 130} or (code == -number and place[0] == "time" and not said), said  # before the program has begun
        line = ["train", "--resume", run] if run.exists() else line
        if code == 0:
            break
    code, said = whet(*line)
    assert code == 0, said
    found = end(run)
    extra = {file for file in found if file.startswith("checkpoints/") and file not in expected}  # those that a stop has made
    assert {file: hashed for file, hashed in found.items() if file not in extra} == expected
    assert len({file.split("/")[2] for file in extra}) <= 1, "retention keeps the last ones only"


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, *(pytest.param(number, marks=pytest.mark.slow) for number in (signal.SIGINT, signal.SIGUSR1))]
)
def test_a_stopped_run_exits_130_and_can_be_resumed(number, recipes, whet, tmp_path, ended):
    expected = undisturbed("write", recipes, whet, tmp_path, ended)
    run = tmp_path / "stopped"
    code, said = whet("train", recipes / "write.yaml", "--out", run, when=at_step("fit", 5, number))
    assert code == 130 and "after step 5" in said and f"whet train --resume {run}" in said
    before = Run(run).manifest["actual"]["train_s"]
    code, said = whet("train", "--resume", run)
    assert code == 0 and "Going on after step 5." in said
    assert Run(run).manifest["actual"]["train_s"] > before > 0
    # the checkpoint of step 5 is one that the undisturbed run did not make; everything else is the same
    assert {file: hashed for file, hashed in end(run).items() if "step-5/" not in file} == expected


@pytest.mark.slow
def test_a_stop_at_the_end_of_the_first_phase_does_not_begin_the_second(recipes, whet, tmp_path, ended):
    expected = undisturbed("classify", recipes, whet, tmp_path, ended)
    last = last_step(expected)
    run = tmp_path / "stopped"
    code, said = whet("train", recipes / "classify.yaml", "--out", run, when=at_step("fit", last, signal.SIGTERM))
    assert code == 130, said
    assert not (run / "checkpoints" / "refit").exists()
    assert whet("train", "--resume", run)[0] == 0
    assert end(run) == expected


def test_stopped_while_the_data_are_written_nothing_is_left(recipes, whet, tmp_path):
    code, said = whet("train", recipes / "write.yaml", "--out", tmp_path / "runs" / "new", when=at_sync(3, signal.SIGTERM))
    assert code == 130 and "Nothing half-written" in said
    assert {path.name for path in tmp_path.iterdir()} == {"told.txt"}


@pytest.mark.parametrize("name", [pytest.param("write", marks=pytest.mark.slow), "classify"])
def test_the_same_recipe_and_seed_give_the_same_bytes(name, recipes, whet, tmp_path, ended):
    expected = undisturbed(name, recipes, whet, tmp_path, ended)
    assert whet("train", recipes / f"{name}.yaml", "--out", tmp_path / "again")[0] == 0
    assert end(tmp_path / "again") == expected
    code, said = whet("train", recipes / f"{name}.yaml", "--out", tmp_path / "other", "--set", "train.seed=1")
    assert code == 0, said
    assert end(tmp_path / "other") != expected


def test_killed_after_its_last_step_a_run_that_only_scores_ends_in_the_same_bytes(tmp_path, monkeypatch):
    """What is left to do is to fit the temperature: in bf16, where a product that is laid out for learning rounds otherwise than one that is not."""
    monkeypatch.chdir(tmp_path)
    lines = [f"question number {place} about {'cards' if place % 2 else 'loans'},{place % 2}\n" for place in range(80)]
    Path("rows.csv").write_text("text,label\n" + "".join(lines), encoding="utf-8")
    train = {"max_steps": 3, "checkpoint": {"every": 1}, "precision": "bf16", "refit": False, "batch_size": 8}
    values = {
        "model": "builtin:minilm",
        "objective": "classify",
        "technique": "lora",
        "data": {"path": "rows.csv", "text": "text", "label": "label"},
        "train": train,
    }
    whole = training.train(build_recipe(values, "here"), out=tmp_path / "whole")
    shutil.copytree(whole.path, tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "model")
    training.resume(tmp_path / "killed")
    for name in ("adapter_model.safetensors", "heads.safetensors"):
        assert (tmp_path / "killed" / "model" / name).read_bytes() == (whole.model / name).read_bytes()
