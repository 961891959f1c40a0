"""Several processes that learn as one, through gloo, as torchrun starts them: they end where one ends; whoever stops, all stop; a checkpoint
goes on with any number of them."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import signal
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
import torch

from whet import cli
from whet.engine.int8_products import why_not
from whet.models.tensors import load_tensors
from whet.run import Run
from whet.testing.tiny import ANSWERS, tiny_texts

pytestmark = pytest.mark.slow

RECIPES = {
    "classify": """
model: {bert}
data: {{path: {rows}/labelled.csv, text: text, label: label}}
objective: classify
technique: {{name: lora, rank: 2}}
train:
  {{max_steps: 6, batch_size: 5, max_tokens: 24, precision: fp32, learning_rate: 0.003, validate_every: 3, checkpoint: {{every: 2}},
    refit: true, early_stopping: {{patience: 2, metric: accuracy}}}}
""",
    "sft": """
model: {llama}
data: {{path: {rows}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: full
train: {{max_steps: 6, batch_size: 5, max_tokens: 40, precision: fp32, learning_rate: 0.002, validate_every: 3, checkpoint: {{every: 2}}, early_stopping: false}}
""",
    "dpo": """
model: {llama}
data: {{path: {rows}/pairs.jsonl, prompt: prompt, chosen: chosen, rejected: rejected}}
objective: dpo
technique: {{name: lora, rank: 2}}
train: {{max_steps: 6, batch_size: 3, max_tokens: 80, precision: fp32, learning_rate: 0.003, validate_every: 3, checkpoint: {{every: 2}}, early_stopping: false}}
""",
}


def command(line, told, environment, log):
    """Run the command line in this process as one of several; it may get a signal once it has logged a step, or would have."""
    torch.set_num_threads(1)
    os.environ.update(environment)
    if log is not None:
        step, number = log
        write = Run.log

        def logged(run, record):
            write(run, record)
            if record["kind"] == "step" and record["step"] == step:
                os.kill(os.getpid(), number)

        Run.log = logged
    with Path(told).open("w", encoding="utf-8") as file:
        sys.argv, sys.stderr, sys.stdin = ["whet", *line], file, io.StringIO()
        cli.main()


@pytest.fixture(scope="session")
def processes():
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["whet.stages.train", "whet.testing.tiny"])
    return context


@pytest.fixture
def together(processes, tmp_path):
    """Run a command in so many processes. `at`: process to (step, signal). Returns exit codes (minus the signal where one ended it) and what each said."""

    def run(number, *line, at=None):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        started, told = [], []
        for rank in range(number):
            environment = {
                "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(number), "LOCAL_WORLD_SIZE": str(number),
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
            } if number > 1 else {}  # fmt: skip
            told.append(tmp_path / f"told-{rank}.txt")
            arguments = ([str(word) for word in line], str(told[-1]), environment, (at or {}).get(rank))
            started.append(processes.Process(target=command, args=arguments))
            started[-1].start()
        for process in started:
            process.join(900)
            with suppress(ProcessLookupError):
                if process.exitcode is None:
                    os.kill(process.pid, signal.SIGKILL)
        return [process.exitcode for process in started], [file.read_text(encoding="utf-8") for file in told]

    return run


@pytest.fixture(scope="session")
def rows(tmp_path_factory):
    """A folder with rows of every kind that these tests learn from."""
    folder = tmp_path_factory.mktemp("rows")
    texts = tiny_texts("red", "blue", "green")
    (folder / "labelled.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in texts))
    chat, pairs = [], []
    for index, (text, _) in enumerate(texts):
        good, bad = ANSWERS[index % 4].format("card"), ANSWERS[(index + 1) % 4].format("card") + " or not"
        chat.append({"prompt": text, "response": good})
        pairs.append({"prompt": text, "chosen": good, "rejected": bad})
    for name, records in (("chat", chat), ("pairs", pairs)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


@pytest.fixture
def recipe(rows, tiny_folder, tmp_path):
    def write(name):
        file = tmp_path / f"{name}.yaml"
        file.write_text(
            {**RECIPES, **SLOW, **ROUNDED}[name].format(
                rows=rows,
                llama=tiny_folder("llama"),
                bert=tiny_folder("bert"),
                t5=tiny_folder("t5"),
                masked=tiny_folder("masked-bert"),
            )
        )
        return file

    return write


def logged(run, key="loss", kind="step"):
    records = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [record[key] for record in records if record["kind"] == kind]


def weights(run):
    return {
        name: tensor for file in sorted((run / "model").rglob("*.safetensors")) for name, tensor in load_tensors(file).items()
    }


def apart(left, right):
    """Largest difference of the weights of two runs, over the largest weight."""
    ours, theirs = weights(left), weights(right)
    assert ours.keys() == theirs.keys() and ours
    largest = max(float(tensor.abs().max()) for tensor in ours.values())
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours) / largest


def bytes_of(run):
    files = [run / "log.jsonl", *(run / "model").rglob("*"), *(run / "checkpoints").rglob("*")]
    return {str(file.relative_to(run)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files if file.is_file()}


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", RECIPES)
def test_two_devices_end_where_one_ends(name, way, recipe, together, tmp_path):
    file = recipe(name)
    codes, said = together(1, "train", file, "--out", tmp_path / "one")
    assert codes == [0], said
    codes, said = together(2, "train", file, "--out", tmp_path / "two", "--set", f"train.parallel={way}")
    assert codes == [0, 0], said
    assert "Training on 2 devices" in said[0] and said[1] == ""
    for key in ("loss", "grad_norm"):
        assert logged(tmp_path / "two", key) == pytest.approx(logged(tmp_path / "one", key), rel=1e-5, abs=1e-6)
    assert logged(tmp_path / "two", kind="validation") == pytest.approx(logged(tmp_path / "one", kind="validation"), rel=1e-5)
    assert logged(tmp_path / "two", "rows") == logged(tmp_path / "one", "rows")
    assert logged(tmp_path / "two", "tokens") == logged(tmp_path / "one", "tokens")
    assert min(logged(tmp_path / "one", "grad_norm")) > 1e-3, "nothing was learnt"
    assert apart(tmp_path / "two", tmp_path / "one") < 1e-5


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_stopped_and_gone_on_with_two_devices_ends_in_the_same_bytes(way, recipe, together, tmp_path):
    file, sets = recipe("sft"), ("--set", f"train.parallel={way}")
    codes, said = together(2, "train", file, "--out", tmp_path / "whole", *sets)
    assert codes == [0, 0], said
    # only one of them gets the signal, the one that does not write: all stop after the same step, saved once
    codes, said = together(2, "train", file, "--out", tmp_path / "run", *sets, at={1: (3, signal.SIGTERM)})
    assert codes == [130, 130] and "after step 3; everything is saved" in said[0] and said[1] == ""
    codes, said = together(2, "train", "--resume", tmp_path / "run")
    assert codes == [0, 0] and "Going on after step 3." in said[0], said
    made = {name: hashed for name, hashed in bytes_of(tmp_path / "run").items() if "step-3/" not in name}
    assert made == bytes_of(tmp_path / "whole")


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_checkpoint_goes_on_with_another_number_of_devices(way, before, after, recipe, together, tmp_path):
    file, sets = recipe("sft"), ("--set", f"train.parallel={way}")
    codes, said = together(1, "train", file, "--out", tmp_path / "whole", *sets)
    assert codes == [0], said
    codes, said = together(before, "train", file, "--out", tmp_path / "run", *sets, at={0: (3, signal.SIGUSR1)})
    assert codes == [130] * before, said
    codes, said = together(after, "train", "--resume", tmp_path / "run")
    assert codes == [0] * after and "Going on after step 3." in said[0], said
    assert logged(tmp_path / "run") == pytest.approx(logged(tmp_path / "whole"), rel=1e-5, abs=1e-6)
    assert apart(tmp_path / "run", tmp_path / "whole") < 1e-5


ROUNDED = {
    "int8": """
model: {llama}
data: {{path: {rows}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: {{name: lora, rank: 2}}
train: {{max_steps: 6, batch_size: 5, max_tokens: 40, precision: bf16, frozen_precision: int8, learning_rate: 0.003, validate_every: 3, checkpoint: {{every: 2}}, early_stopping: false}}
""",
}
IN_8_BITS = pytest.param(
    1, "int8", marks=pytest.mark.skipif(why_not() is not None, reason=f"no products in int8 here: {why_not()}")
)


@pytest.mark.parametrize(("dead", "kind"), [(0, "sft"), (1, "sft"), IN_8_BITS])
def test_one_that_is_killed_ends_the_other_and_the_run_goes_on_to_the_same_bytes(dead, kind, recipe, together, tmp_path):
    file = recipe(kind)
    codes, said = together(2, "train", file, "--out", tmp_path / "whole")
    assert codes == [0, 0], said
    begun = time.monotonic()
    codes, said = together(2, "train", file, "--out", tmp_path / "run", at={dead: (4, signal.SIGKILL)})
    assert codes[dead] == -signal.SIGKILL and codes[1 - dead] == 1, (codes, said)
    assert time.monotonic() - begun < 600, "the other has waited"
    if dead == 1:
        assert "another process of this run has ended" in said[0] and "whet train --resume" in said[0]
    assert "Traceback" not in "".join(said)
    codes, said = together(2, "train", "--resume", tmp_path / "run")
    assert codes == [0, 0], said
    assert bytes_of(tmp_path / "run") == bytes_of(tmp_path / "whole")


SPOILT = '''"""Likelihood, but for one answer."""
from whet.objectives import sft
from whet.plugins import plugin


@plugin
class Spoilt(sft.Sft):
    """The loss of one row is no number."""

    def loss(self, policy, batch, state):
        terms, measured = super().loss(policy, batch, state)
        return {name: term * (float("nan") if {row} in batch.row_ids else 1.0) for name, term in terms.items()}, measured
'''


@pytest.mark.parametrize("way", ["ddp", "fsdp"])
def test_a_loss_that_is_no_number_on_one_device_stops_all_before_the_update(way, recipe, together, tmp_path):
    file = recipe("sft")
    (tmp_path / "spoilt.py").write_text(SPOILT.replace("{row}", "11"))
    file.write_text(file.read_text().replace("objective: sft", "objective: ./spoilt.py"))
    run = tmp_path / "run"
    codes, said = together(2, "train", file, "--out", run, "--set", f"train.parallel={way}", "--set", "train.max_steps=40")
    assert codes == [1, 1] and said[1] == "", said
    assert "the loss is not a finite number, so the update was not made" in said[0] and "chat.jsonl:12" in said[0]
    assert "Traceback" not in said[0]
    for kept in (run / "checkpoints" / "fit").glob("step-*/tensors.safetensors"):
        assert all(bool(torch.isfinite(tensor).all()) for tensor in load_tensors(kept).values())


def test_what_cannot_be_shared_is_refused_in_a_sentence(recipe, together, tmp_path):
    sets = ("--set", "train.parallel=fsdp", "--set", "train.optimiser=muon")
    codes, said = together(2, "train", recipe("sft"), "--out", tmp_path / "run", *sets)
    assert codes == [1, 1] and said[1] == "", said
    assert "optimiser 'muon' looks at whole matrices" in said[0] and "Set it to ddp" in said[0]
    codes, said = together(2, "train", recipe("prompt"), "--out", tmp_path / "again", "--set", "train.parallel=fsdp")
    assert codes == [1, 1] and "cannot be computed again" in said[0] and said[1] == "", said
    codes, said = together(2, "train", tmp_path / "nothing.yaml", "--out", tmp_path / "none")
    assert codes == [1, 1] and said[1] == "" and "nothing.yaml" in said[0], said


def test_other_verbs_are_for_one_process(together, tmp_path):
    codes, said = together(2, "evaluate", tmp_path / "run")
    assert codes == [2, 2] and "without torchrun" in said[0] and said[1] == ""


SLOW = {
    "grpo": """
model: {llama}
data: {{path: {rows}/chat.jsonl, prompt: prompt, response: response}}
objective: {{name: grpo, group: 3, max_new_tokens: 6, updates: 2, reward: {{name: regex, pattern: "[aeiou]"}}}}
technique: {{name: lora, rank: 2}}
train: {{max_steps: 4, batch_size: 3, max_tokens: 90, precision: fp32, learning_rate: 0.003, validate_every: 2, early_stopping: false}}
""",
    "seq2seq": """
model: {t5}
data: {{path: {rows}/chat.jsonl, prompt: prompt, response: response}}
objective: seq2seq
technique: full
train: {{max_steps: 4, batch_size: 5, max_tokens: 60, precision: fp32, learning_rate: 0.002, validate_every: 2, early_stopping: false}}
""",
    "masked": """
model: {masked}
data: {{path: {rows}/labelled.csv, text: text}}
objective: masked
technique: full
train:
  {{max_steps: 4, batch_size: 5, max_tokens: 24, precision: fp32, learning_rate: 0.002, validate_every: 2, early_stopping: false,
    optimiser: {{name: adamw, epsilon: 0.001}}}}
""",
    "prompt": """
model: {llama}
data: {{path: {rows}/chat.jsonl, prompt: prompt, response: response}}
objective: sft
technique: {{name: prompt, length: 3}}
train:
  {{max_steps: 4, batch_size: 5, max_tokens: 40, precision: fp32, learning_rate: 0.01, validate_every: 2, early_stopping: false,
    gradient_checkpointing: true, optimiser: lion}}
""",
}


@pytest.mark.parametrize(
    ("name", "way"), [(name, way) for name in SLOW for way in ("ddp", "fsdp") if (name, way) != ("prompt", "fsdp")]
)
def test_two_devices_end_where_one_ends_with_other_kinds(name, way, recipe, together, tmp_path):
    file = recipe(name)
    codes, said = together(1, "train", file, "--out", tmp_path / "one")
    assert codes == [0], said
    codes, said = together(2, "train", file, "--out", tmp_path / "two", "--set", f"train.parallel={way}")
    assert codes == [0, 0], said
    assert logged(tmp_path / "two") == pytest.approx(logged(tmp_path / "one"), rel=1e-5, abs=1e-6)
    assert apart(tmp_path / "two", tmp_path / "one") < 1e-5
