"""What a user can get wrong, through the real command line: the exit code, a message without a traceback, and nothing left behind."""

import csv
import errno
import io
import json
import os
import random
import re
import resource
import shutil
import signal
import string
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from rich.text import Text
from safetensors.torch import load_file, save_file
from typer.main import get_command

from whet import cli
from whet.cli.app import ELSEWHERE
from whet.data.read import read_files
from whet.engine import checkpoint
from whet.files import file_hash
from whet.run import Run
from whet.stages.narrate import Terminal
from whet.testing.tiny import ANSWERS, LABELS, OPENINGS, THINGS

PLUGIN = '''from typing import ClassVar

from whet.plugins import plugin


@plugin
class {name}:
    """Half of the rate, always."""

    gain: float = 0.5
    """Share of the rate."""

    def factor(self, step: int, num_steps: int, num_warmup: int) -> float:
        return self.gain
'''


def rows():
    """84 texts of three classes, which a tiny model can tell apart."""
    colours = ("red", "blue", "green", "old", "new", "big", "small")
    return [
        (opening.format(f"{colour} {thing}"), label)
        for colour in colours
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]


def table(header, lines):
    return "\n".join([header, *lines]) + "\n"


def objects(records):
    return "".join(json.dumps(record) + "\n" for record in records)


def write_files(folder):
    """Write every good and bad file that the cases name."""
    good = [f"{text},{label}" for text, label in rows()]
    lines = [json.dumps({"text": text, "label": label}) for text, label in rows()]
    noise = random.Random(0)
    wordy = " ".join("".join(noise.choices(string.ascii_lowercase, k=500)) for _ in range(10_000))
    texts = {
        "good.csv": table("text,label", good),
        "empty.csv": "",
        "blank.csv": "  \n\n \n",
        "one_row.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n',
        "rows_of_json.jsonl": '{"prompt": "a", "chosen": "b", "rejected": "c"}\n' * 3,
        "oneclass.csv": table("text,label", ["hello,a", "bye,a", "hi,a"]),
        "unlabelled.csv": table("text,label", [f"hello {number}," for number in range(40)]),
        "rare.csv": table("text,label", [*good, "something odd,rare"]),
        "bad.jsonl": "\n".join([*lines[:6], '{"text": broken', *lines[6:]]) + "\n",
        "huge.csv": table("text,label", [*good, f"{wordy},billing"]),
        "long.csv": table("text,label", [*good, f"{'lost card ' * 500},billing"]),
        "other.csv": table("title,body", ["a,b", "c,d"]),
        "nul.csv": "text\nmy card\0is lost\nwhere is it\n",
        "chat.jsonl": objects(
            {"prompt": text, "response": ANSWERS[n % 4].format("card")} for n, (text, _) in enumerate(rows()[:40])
        ),
        "cut.jsonl": objects({"prompt": "why " * 100 + str(number), "response": "yes"} for number in range(30)),
        "classify.yaml": recipe("bert", "good.csv, text: text, label: label", "classify", "{name: lora, rank: 2}"),
        "write.yaml": recipe("llama", "chat.jsonl, prompt: prompt, response: response", "sft", "full"),
        "typo.yaml": "model: bert\ndata: {path: good.csv}\nobjectve: classify\n",
        "type.yaml": "model: bert\ndata: {path: good.csv}\nobjective: classify\ntrain:\n  epochs: many\n",
        "range.yaml": "model: bert\ndata: {path: good.csv}\nobjective: classify\ntechnique:\n  name: lora\n  rank: 0\n",
        "tab.yaml": "model: bert\ndata: {path: good.csv}\nobjective: classify\n\ttrain: 3\n",
        "control.yaml": "model: bert\x00\n",
        "itself.yaml": "&all\nmodel: bert\ndata: *all\nobjective: classify\n",
        "deep.yaml": "model: " + "[" * 1200 + "\n",
        "twice.yaml": "model: bert\nmodel: llama\n",
        "list.yaml": "- model\n- data\n",
        "mine.py": PLUGIN.format(name="Mine"),
        "broken.py": "rate = 1\ndef factor(:\n",
        "raises.py": "rate = 1\nraise ValueError('no rate')\n",
        "two.py": PLUGIN.format(name="One") + PLUGIN.format(name="Two"),
        "file": "a file\n",
        "notes/readme.log": "not a run\n",
    }
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    (folder / "binary.csv").write_bytes(noise.randbytes(3000))
    (folder.parent / "outside.py").write_text(PLUGIN.format(name="Outside"))
    for name, harm in HARMS.items():
        shutil.copytree(folder / "bert", folder / name)
        harm(folder / name)


def recipe(model, data, objective, technique):
    return (
        f"model: {model}\ndata: {{path: {data}}}\nobjective: {objective}\ntechnique: {technique}\n"
        "train: {max_steps: 3, batch_size: 8, precision: fp32}\nevaluate: {resamples: 100, max_new_tokens: 4, max_generated: 2}\n"
    )


def without_layer(folder):
    tensors = {name: tensor for name, tensor in load_file(folder / "model.safetensors").items() if "layer.1." not in name}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def not_a_number(folder):
    tensors = {name: tensor * float("nan") for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def few_tokens(folder):
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if "word_embeddings" in name)
    tensors[name] = tensors[name][:20].clone()
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    change(folder, vocab_size=20)


def change(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | values))


HARMS = {
    "no-tokenizer": lambda folder: [file.unlink() for file in folder.glob("*token*")],
    "no-config": lambda folder: (folder / "config.json").unlink(),
    "no-weights": lambda folder: (folder / "model.safetensors").unlink(),
    "torn-weights": lambda folder: os.truncate(folder / "model.safetensors", 5000),
    "torn-config": lambda folder: (folder / "config.json").write_text("{broken"),
    "torn-tokenizer": lambda folder: (folder / "tokenizer.json").write_text("{broken"),
    "fewer-weights": without_layer,
    "fewer-tokens": few_tokens,
    "nan-weights": not_a_number,
    "own-code": lambda folder: change(folder, model_type="weird", auto_map={"AutoConfig": "x.Y"}),
    "unknown-kind": lambda folder: change(folder, model_type="nosuch"),
    "two-sided": lambda folder: change(folder, model_type="t5", classifier_dropout=0.0),
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory, tiny_folder):
    """A folder with good and bad files, a finished run of each kind, and one of preparation; no case may leave anything in it."""
    folder = tmp_path_factory.mktemp("mistakes") / "desk"
    folder.mkdir()
    for architecture in ("bert", "llama", "t5"):
        shutil.copytree(tiny_folder(architecture), folder / architecture)
    write_files(folder)
    assert call(folder, "train classify.yaml --out classified").code == 0
    assert call(folder, "evaluate classified").code == 0
    assert call(folder, "train write.yaml --out written").code == 0
    assert call(folder, "prepare classify.yaml --out prepared").code == 0
    return folder


def call(folder, line, stdin=b""):
    """Run the command line in this process. Returns its exit code and what it wrote; an exception that is no exit passes.

    `stdin` None is a standard input that was closed.
    """
    out, err, kept = io.StringIO(), io.StringIO(), (sys.argv, sys.stdin, sys.stdout, sys.stderr, Path.cwd())
    sys.argv = ["whet", *(line.split() if isinstance(line, str) else line)]
    sys.stdin = None if stdin is None else io.TextIOWrapper(io.BytesIO(stdin))
    sys.stdout, sys.stderr = out, err
    os.chdir(folder)
    try:
        cli.main()
        code = 0
    except SystemExit as leaving:
        code = leaving.code
    finally:
        sys.argv, sys.stdin, sys.stdout, sys.stderr, place = kept
        os.chdir(place)
    return SimpleNamespace(code=code or 0, out=out.getvalue(), err=out_of_box(err.getvalue()))


def out_of_box(text):
    """Undo the frame and the line breaks that the usage message puts around its words."""
    return re.sub(r"\s+", " ", re.sub(r"[│╭╮╰╯─]", " ", text))


def inventory(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if "__pycache__" not in path.parts)


TRAIN = "train classify.yaml --out new --set"
WRITE = "train write.yaml --out new --set"
DISTILL = f"{WRITE} objective.name=distill --set"
MISTAKES = {
    # plan and trackers
    "plan, no recipe": ("plan nosuch.yaml", 1, "nosuch.yaml", "whet new"),
    "plan, an unknown key": ("plan classify.yaml --set train.epoch=3", 1, "train.epoch", "did you mean 'train.epochs'"),
    "plan, no size": ("plan classify.yaml --device-memory much", 1, "--device-memory much", "16GiB", "h100"),
    "plan, a file is there": ("plan classify.yaml --no-probe --out good.csv", 1, "good.csv", "nothing is written over"),
    "plan, too small": ("plan classify.yaml --device-memory 100MiB", 3, "It does not fit", "100", "What to do"),
    "plan, a price below 0": ("plan classify.yaml --price-per-hour -1", 2, "--price-per-hour"),
    "plan, nothing to learn": ("plan write.yaml --set data.path=cut.jsonl --set train.max_length=20", 3, "train.max_length"),
    "a tracker that is none": (
        "train classify.yaml --out new --set trackers=[tensorbord]",
        1,
        "trackers",
        "Did you mean 'tensorboard'",
    ),
    "a tracker's setting": ([*TRAIN.split(), "trackers=[{name: mlflow, url: x}]"], 1, "url", "did you mean 'uri'"),
    "a password": ([*TRAIN.split(), "trackers=[{name: mlflow, uri: 'http://a:b@c'}]"], 1, "MLFLOW_TRACKING_PASSWORD"),
    "a tracker's key": ([*TRAIN.split(), "trackers=[{name: wandb, api_key: x1}]"], 1, "unknown key 'api_key'"),
    "a tracker's mode": ([*TRAIN.split(), "trackers=[{name: wandb, mode: shared}]"], 1, "offline"),
    # files
    "missing file": ("auto missing.csv", 1, "missing.csv", "no such file"),
    "missing file, new": ("new missing.csv --out made.yaml", 1, "missing.csv", "no such file"),
    "empty file": ("auto empty.csv", 1, "empty.csv", "empty"),
    "blank file": ("auto blank.csv", 1, "blank.csv", "white space"),
    "binary file": ("auto binary.csv", 1, "binary.csv", "not text", "csv, tsv, xlsx, json"),
    "folder without data": ("auto notes", 1, "notes", "without data files"),
    "recipe as data": ("auto classify.yaml", 1, "classify.yaml", "looks like a recipe", "whet train"),
    "rows of json as recipe": (
        "train rows_of_json.jsonl",
        1,
        "rows_of_json.jsonl",
        "looks like a data file",
        "whet auto rows_of_json.jsonl",
    ),
    "one row of json as recipe": ("train one_row.jsonl", 1, "one_row.jsonl", "looks like a data file"),
    "data as recipe": ("train good.csv", 1, "good.csv", "looks like a data file", "whet auto good.csv"),
    "one class only": ("auto oneclass.csv", 1, "oneclass.csv", "'label'", "one class only", "at least two"),
    "all labels missing": (f"{TRAIN} data.path=unlabelled.csv", 1, "unlabelled.csv:2", "'label'", "empty", "Fill it in"),
    "wrong text column": (f"{TRAIN} data.text=nosuch", 1, "good.csv", "'nosuch'", "data.text", "text, label"),
    "wrong label column": (f"{TRAIN} data.label=nosuch", 1, "good.csv", "'nosuch'", "data.label", "text, label"),
    "wrong slice": (f"{TRAIN} data.slices=[nosuch]", 1, "'nosuch'", "data.slices", "text, label"),
    "no path": (f"{TRAIN} data.path=[]", 1, "'data.path' is missing"),
    "malformed JSON, strict": (
        "prepare classify.yaml --out new --set data.path=bad.jsonl --set data.strict=true",
        1,
        "bad.jsonl:7",
    ),
    "too many bad rows": (
        "prepare classify.yaml --out new --set data.path=bad.jsonl --set data.max_reject_fraction=0.001",
        1,
        "bad.jsonl:7",
        "max_reject_fraction",
    ),
    "missing test file": (f"{TRAIN} data.test=nosuch.csv", 1, "nosuch.csv", "no such file"),
    "test rows in training": (f"{TRAIN} data.test=good.csv", 3, "84 of 84", "test file", "different files"),
    "every answer cut away": (
        f"{WRITE} data.path=cut.jsonl --set train.max_length=8",
        3,
        "No train row has a token to learn",
        "max_length",
    ),
    # models
    "unknown model": (f"{TRAIN} model=nosuch/model", 1, "nosuch/model", "spelling", "builtin:minilm"),
    "unknown built-in": (f"{TRAIN} model=builtin:nosuch", 1, "builtin:nosuch", "builtin:minilm"),
    "missing model folder": (f"{TRAIN} model=./nosuch", 1, "./nosuch", "no such model folder"),
    "model without tokenizer": (f"{TRAIN} model=no-tokenizer", 1, "no-tokenizer", "no tokenizer", "tokenizer.json"),
    "model without config": (f"{TRAIN} model=no-config", 1, "no-config", "no config.json"),
    "model without weights": (f"{TRAIN} model=no-weights", 1, "no-weights", "no .safetensors"),
    "torn weights": (f"{TRAIN} model=torn-weights", 1, "torn-weights"),
    "torn config": (f"{TRAIN} model=torn-config", 1, "torn-config", "config"),
    "torn tokenizer": (f"{TRAIN} model=torn-tokenizer", 1, "torn-tokenizer"),
    "weights missing": (f"{TRAIN} model=fewer-weights", 1, "fewer-weights", "layer.1", "random"),
    "tokenizer of another model": (f"{TRAIN} model=fewer-tokens", 1, "fewer-tokens", "tokenizer", "20"),
    "weights not finite": (f"{TRAIN} model=nan-weights", 1, "nan-weights", "not finite"),
    "model with code": (f"{TRAIN} model=own-code", 1, "own-code", "never run"),
    "unknown architecture": (f"{TRAIN} model=unknown-kind", 1, "unknown-kind", "nosuch"),
    "encoder-decoder": (f"{TRAIN} model=two-sided", 1, "two-sided"),
    "sft on an encoder": (f"{WRITE} model=bert", 1, "'sft'", "encoder", "decoder"),
    "sft on an encoder-decoder": (f"{WRITE} model=t5", 1, "'sft'", "encoder-decoder", "'seq2seq'"),
    "seq2seq on a decoder": (f"{WRITE} objective=seq2seq", 1, "'seq2seq'", "llama is a decoder", "'sft'"),
    "seq2seq on an encoder": (f"{WRITE} objective=seq2seq --set model=bert", 1, "'seq2seq'", "bert is an encoder", "'classify'"),
    "seq2seq with a typo": (f"{WRITE} objective=seq2seq --set objective.prefx=a", 1, "'prefx'", "did you mean 'prefix'"),
    "masked on an encoder-decoder": (f"{WRITE} model=t5 --set objective=masked", 1, "encoder-decoder", "no masked-language head"),
    "biases of an encoder-decoder without any": (
        f"{WRITE} model=t5 --set objective=seq2seq --set technique=bitfit",
        1,
        "t5 (t5) has no biases",
        "'lora'",
    ),
    "distill without a teacher": (
        f"{WRITE} objective=distill",
        1,
        "'teacher' is missing",
        "Folder of a finished run, or a base model",
    ),
    "a teacher that is not there": (
        f"{DISTILL} objective.teacher=./none",
        1,
        "objective.teacher",
        "./none",
        "no such model folder",
    ),
    "a teacher that classifies": (f"{DISTILL} objective.teacher=classified", 1, "'classified'", "a run of 'classify'", "decoder"),
    "a teacher of another family": (f"{DISTILL} objective.teacher=t5", 1, "'t5'", "encoder-decoder", "decoder"),
    "a teacher that is a run of data": (f"{DISTILL} objective.teacher=prepared", 1, "objective.teacher", "no trained model here"),
    "distill with too much of a teacher": (f"{DISTILL} objective.teacher=llama --set objective.alpha=2", 1, "'alpha' is 2", "1"),
    "head on a decoder that writes": (f"{WRITE} technique=head", 1, "'head'", "'lora' or 'full'"),
    # recipe
    "missing recipe": ("train nosuch.yaml", 1, "nosuch.yaml", "no such recipe", "whet new"),
    "recipe is a folder": ("train notes", 1, "notes", "YAML text file"),
    "recipe is binary": ("train binary.csv", 1, "binary.csv", "UTF-8"),
    "unknown key": ("train typo.yaml", 1, "typo.yaml:3", "'objectve'", "did you mean 'objective'"),
    "wrong type": ("train type.yaml", 1, "type.yaml:5", "train.epochs", "'many'", "number"),
    "setting out of range": ("train range.yaml", 1, "range.yaml:6", "'rank' is 0", "greater than or equal to 1"),
    "tab": ("train tab.yaml", 1, "tab.yaml:4", "not valid YAML"),
    "control character": ("train control.yaml", 1, "control.yaml", "not valid YAML"),
    "recipe that holds itself": ("train itself.yaml", 1, "itself.yaml", "holds itself"),
    "deep recipe": ("train deep.yaml", 1, "deep.yaml", "nested too deeply"),
    "key twice": ("train twice.yaml", 1, "twice.yaml:2", "duplicate key"),
    "no mapping": ("train list.yaml", 1, "list.yaml:1", "model, data and objective"),
    "--set without value": (f"{TRAIN} train.epochs", 1, "--set train.epochs", "key=value"),
    "--set without key": (f"{TRAIN} =3", 1, "--set =3", "key=value"),
    "--set unknown": (f"{TRAIN} train.epoch=3", 1, "train.epoch", "did you mean 'train.epochs'"),
    "a key without its section": (f"{TRAIN} seed=3", 1, "unknown key 'seed'", "one of ", "'train.seed'"),
    "--set not YAML": (f"{TRAIN} train.epochs=[1", 1, "train.epochs=[1", "not valid YAML"),
    "--set control character": ([*TRAIN.split(), "train.epochs=\x01"], 1, "train.epochs", "not valid YAML"),
    "--set wrong type": (f"{TRAIN} train.learning_rate=fast", 1, "train.learning_rate", "'fast'", "number"),
    "--set out of range": (f"{TRAIN} train.learning_rate=-1", 1, "train.learning_rate", "greater than 0"),
    "--set not finite": (f"{TRAIN} train.learning_rate=.inf", 1, "train.learning_rate", "finite"),
    "endless epochs": (f"{TRAIN} train.epochs=.inf", 1, "train.epochs", "finite"),
    "checkpoint never": (f"{TRAIN} train.checkpoint.every=0", 1, "train.checkpoint.every", "1"),
    "too long": (f"{TRAIN} train.max_length=1000", 1, "train.max_length is 1000", "128"),
    "shares": (f"{TRAIN} data.split.train=0.9", 1, "data.split", "add up to 1"),
    "name with a path": (f"{TRAIN} name=../x", 1, "'name'", "letters"),
    # plugins
    "unknown objective": (f"{TRAIN} objective=clasify", 1, "--set objective", "'clasify'", "Did you mean 'classify'"),
    "unknown technique": (f"{TRAIN} technique=lra", 1, "--set technique", "'lra'", "lora"),
    "unknown schedule": (f"{TRAIN} train.schedule=nosuch", 1, "--set train.schedule", "cosine"),
    "unknown optimiser": (f"{TRAIN} train.optimiser=loin", 1, "--set train.optimiser", "'loin'", "Did you mean 'lion'", "muon"),
    "optimiser setting of another": (
        f"{TRAIN} train.optimiser=lion --set train.optimiser.epsilon=1e-8",
        1,
        "train.optimiser",
        "'epsilon'",
        "beta2",
    ),
    "lion out of range": (
        f"{TRAIN} train.optimiser=lion --set train.optimiser.beta2=1",
        1,
        "optimiser.beta2",
        "'beta2' is 1",
        "less than 1",
    ),
    "muon without iterations": (
        f"{TRAIN} train.optimiser=muon --set train.optimiser.iterations=0",
        1,
        "'iterations' is 0",
        "greater than or equal to 1",
    ),
    "muon of no scale": (
        f"{TRAIN} train.optimiser=muon --set train.optimiser.scale=rms",
        1,
        "'scale' is 'rms'",
        "'adamw' or 'original'",
    ),
    "adafactor that forgets faster than it learns": (
        f"{TRAIN} train.optimiser=adafactor --set train.optimiser.decay_power=2",
        1,
        "'decay_power' is 2",
        "less than or equal to 1",
    ),
    "8 bits of too little": (f"{TRAIN} train.optimiser=adamw_8bit --set train.optimiser.smallest=1", 1, "'smallest' is 1", "256"),
    "wsd that falls too long": (
        f"{TRAIN} train.schedule=wsd --set train.schedule.decay=1.5",
        1,
        "'decay' is 1.5",
        "less than or equal to 1",
    ),
    "wsd of no shape": (
        f"{TRAIN} train.schedule=wsd --set train.schedule.shape=cosine",
        1,
        "'shape' is 'cosine'",
        "'linear' or '1-sqrt'",
    ),
    "unknown optimiser setting": (f"{TRAIN} train.optimiser.nosuch=3", 1, "train.optimiser.nosuch", "'nosuch'", "Allowed"),
    "unknown setting": (f"{TRAIN} technique.nosuch=1", 1, "--set technique.nosuch", "unknown key 'nosuch'", "rank"),
    "unknown metric": (f"{TRAIN} evaluate.metric=acuracy", 1, "--set evaluate.metric", "'acuracy'", "accuracy"),
    "contrast of no kind": (
        f"{TRAIN} objective=contrastive --set objective.loss_type=triplet",
        1,
        "loss_type",
        "'supervised' or 'cosine'",
    ),
    "group of one": (f"{TRAIN} objective=contrastive --set objective.group=1", 1, "group", "greater than or equal to 2"),
    "contrast without a head": (f"{TRAIN} objective=contrastive --set technique=head", 1, "technique 'head'", "has none", "lora"),
    "contrast of numbers": (
        f"{TRAIN} objective=contrastive --set data.label=text --set data.text=label",
        1,
        "one training row",
        "classify",
    ),
    "few shots of a classifier": (
        f"{TRAIN} evaluate.few_shot.examples=3",
        1,
        "evaluate.few_shot.examples",
        "nearest neighbours",
        "sft",
    ),
    "unknown cleaner": (f"{TRAIN} data.clean=[nosuch]", 1, "data.clean", "'nosuch'", "spaces"),
    "gate against no baseline": (
        [*TRAIN.split(), "gate=[{metric: accuracy, max_loss: 0.1, baseline: nearest_neighbour}]"],
        1,
        "gate",
        "no baseline is called 'nearest_neighbour'",
        "Did you mean 'nearest_neighbours'",
        "majority_class",
    ),
    "prefix longer than the context": (
        f"{TRAIN} technique=prefix --set technique.length=600",
        1,
        "length 600 leaves 0",
        "context of 128 tokens",
        "1 to 120",
    ),
    "prompt that leaves one token": (f"{TRAIN} technique=prompt --set technique.length=127", 1, "leaves 1 of", "1 to 120"),
    "targets that match nothing": (f"{TRAIN} technique.targets=nosuch", 1, "nosuch", "query"),
    "own file missing": (f"{TRAIN} train.schedule=./nosuch.py", 1, "./nosuch.py", "not there"),
    "own file outside": (f"{TRAIN} train.schedule=../outside.py", 1, "../outside.py", "outside the recipe's folder"),
    "own file with a syntax error": (f"{TRAIN} train.schedule=./broken.py", 1, "broken.py", "SyntaxError", "line 2"),
    "own file that raises": (f"{TRAIN} train.schedule=./raises.py", 1, "raises.py:2", "no rate"),
    "own file with two plugins": (f"{TRAIN} train.schedule=./two.py", 1, "two.py", "2 classes", "exactly one"),
    "own file of another kind": (f"{TRAIN} technique=./mine.py", 1, "./mine.py", "no plugin of kind 'techniques'", "attach"),
    # places
    "file in place of the run": ("train classify.yaml --out file", 1, "file", "a file stands where"),
    "run that exists": ("train classify.yaml --out classified", 1, "classified", "exists", "--resume classified"),
    "folder that exists": ("train classify.yaml --out notes", 1, "notes", "exists", "--out"),
    "file above the run": ("train classify.yaml --out file/new", 1, "file/new", "not a folder"),
    "no folder can be made": ("train classify.yaml --out /proc/none/new", 1, "/proc"),
    "recipe that exists": ("new good.csv --out classify.yaml", 1, "classify.yaml", "not overwritten"),
    "recipe in no folder": ("new good.csv --out nosuch/made.yaml", 1, "nosuch", "does not exist"),
    # runs
    "evaluate nothing": ("evaluate nosuch", 1, "nosuch", "no such run"),
    "evaluate a folder": ("evaluate notes", 1, "notes", "manifest.json"),
    "evaluate a file": ("evaluate file", 1, "file", "not a run"),
    "evaluate prepared data": ("evaluate prepared", 1, "prepared", "no model", "whet train"),
    "evaluate on nothing": ("evaluate classified --test nosuch.csv", 1, "nosuch.csv", "no such file"),
    "evaluate on other columns": ("evaluate classified --test other.csv", 1, "other.csv"),
    "show nothing": ("show nosuch", 1, "nosuch", "no such run"),
    "show a folder": ("show notes", 1, "notes", "not a run"),
    "chat with nothing": ("chat nosuch", 1, "nosuch", "no such run"),
    "chat with data": ("chat prepared", 1, "prepared", "no model"),
    "predict with nothing": ("predict nosuch good.csv", 1, "nosuch", "no such run"),
    "predict without a column": ("predict classified other.csv", 1, "other.csv", "'text'", "title, body"),
    "predict in no format": ("predict classified good.csv --format xml", 1, "'xml'", "csv, jsonl"),
    "predict to no format": ("predict classified good.csv --out made.xml", 1, "made.xml", "--format"),
    "predict to no folder": ("predict classified good.csv --out nosuch/made.csv", 1, "nosuch/made.csv", "no folder"),
    "predict to a folder": ("predict classified good.csv --out notes", 1, "notes", "is a folder"),
    "predict over the question": ("predict classified good.csv --out good.csv", 1, "good.csv", "not written over"),
    "predict an empty file": ("predict classified empty.csv", 1, "empty.csv", "empty"),
    "predict nothing piped in": ("predict classified -", 1, "empty"),
    "resume nothing": ("train --resume nosuch", 1, "nosuch", "no such run"),
    "resume prepared data": ("train --resume prepared", 1, "prepared", "'prepare'", "cannot be resumed"),
    # runs to go on from
    "no such parent": (f"{TRAIN} parents=[nosuch]", 1, "--set parents: nosuch", "no such run"),
    "a parent without a model": (f"{TRAIN} parents=[prepared]", 1, "'prepare'", "no model to go on from"),
    "a parent of another model": (f"{TRAIN} parents=[written]", 1, "written was trained on", "llama", "write model:"),
    "a parent twice": (f"{TRAIN} parents=[classified,classified]", 1, "classified stands twice", "once"),
    "the parent's own rows": (
        f"{TRAIN} parents=[classified] --set data.split.seed=5",
        3,
        "new training rows",
        "classified",
        "at most 20%",
    ),
    "continual without parents": (f"{TRAIN} continual.replay=0.1", 1, "'continual'", "beside `parents`"),
    "replay below nothing": (f"{TRAIN} parents=[classified] --set continual.replay=-1", 1, "continual.replay", "0"),
    "ewc below nothing": (f"{TRAIN} parents=[classified] --set continual.ewc=-1", 1, "continual.ewc", "0"),
    "ewc and merge": (
        f"{TRAIN} parents=[classified] --set continual.ewc=1 --set continual.merge=ties",
        1,
        "continual",
        "either ewc or merge",
    ),
    "replay as a word": (f"{TRAIN} parents=[classified] --set continual.replay=some", 1, "continual.replay", "number"),
    "unknown continual key": (
        f"{TRAIN} parents=[classified] --set continual.repaly=1",
        1,
        "continual.repaly",
        "continual.replay",
    ),
    "prepared data are not resumed": ("train classify.yaml --out prepared", 1, "prepared: this folder exists", "--out"),
    # the other verbs
    "prepare, no recipe": ("prepare nosuch.yaml", 1, "nosuch.yaml", "no such recipe", "whet new"),
    "prepare, a typo": ("prepare typo.yaml --out new", 1, "typo.yaml:3", "did you mean 'objective'"),
    "prepare, an empty file": ("prepare classify.yaml --out new --set data.path=empty.csv", 1, "empty.csv", "empty"),
    "prepare, a folder that exists": ("prepare classify.yaml --out notes", 1, "notes", "exists", "--out"),
    "new, a binary file": ("new binary.csv --out new", 1, "binary.csv", "not text"),
    "show, a file": ("show good.csv", 1, "good.csv", "not a run"),
    "show, two runs": ("show classified written", 2, "written"),
    "show, an unknown option": ("show --jsn", 2, "--jsn", "--json"),
    "chat, no run": ("chat", 2, "RUN"),
    "chat, a folder": ("chat notes hello", 1, "notes", "manifest.json"),
    "chat, too cold": ("chat written hello --temperature -1", 2, "--temperature"),
    "search, no recipe": ("search nosuch.yaml", 1, "nosuch.yaml", "no such recipe"),
    "search, nothing named": ("search", 2, "--resume"),
    "search, no space": ("search classify.yaml --out new", 1, "search", "space"),
    "search, an unknown key": (
        ["search", "classify.yaml", "--out", "new", "--set", "search={space: {train.learning_rat: [1, 2]}}"],
        1,
        "train.learning_rat",
        "did you mean 'train.learning_rate'",
    ),
    "search, resume a training": ("search --resume classified", 1, "classified", "not a search", "whet train --resume"),
    "search, a sampler": (
        ["search", "classify.yaml", "--out", "new", "--set", "search={space: {technique.rank: [1, 2]}, sampler: tpee}"],
        1,
        "'tpee'",
        "Did you mean 'tpe'",
    ),
    "compress, no run": ("compress nosuch int8", 1, "nosuch", "no such run"),
    "compress, no method": ("compress classified", 2, "METHOD"),
    "compress, an unknown method": ("compress classified int9 --out new", 1, "'int9'", "int8"),
    "compress, prepared data": ("compress prepared int8 --out new", 1, "prepared", "no model"),
    "compress, a folder that exists": ("compress classified int8 --out notes", 1, "notes", "exists"),
    "compress, all of it": ("compress classified magnitude --out new --set sparsity=1.5", 1, "'sparsity' is 1.5", "less than 1"),
    "export, no run": ("export nosuch merged", 1, "nosuch", "no such run"),
    "export, no format": ("export classified", 2, "FORMAT"),
    "export, an unknown format": ("export classified ggfu --out new", 1, "'ggfu'", "Did you mean 'gguf'"),
    "export, prepared data": ("export prepared merged --out new", 1, "prepared", "no model"),
    "export, a folder that exists": ("export classified merged --out notes", 1, "notes", "exists"),
    "export, a setting": ("export classified merged --out new --set dtype=fp8", 1, "'dtype' is 'fp8'", "fp32"),
    "deploy, no run": ("deploy nosuch docker", 1, "nosuch", "no such run"),
    "deploy, no target": ("deploy classified", 2, "TARGET"),
    "deploy, an unknown target": ("deploy classified dockr --out new", 1, "'dockr'", "Did you mean 'docker'"),
    "deploy, a folder that exists": ("deploy classified docker --out notes", 1, "notes", "exists"),
    "deploy, a port": ("deploy classified docker --out new --set port=99999", 1, "'port' is 99999", "65535"),
    "serve, no run": ("serve nosuch --no-log", 1, "nosuch", "no such run"),
    "serve, a folder": ("serve notes --no-log", 1, "notes", "not a run"),
    "serve, for others without a key": ("serve classified --no-log --host 0.0.0.0", 1, "0.0.0.0", "API key", "127.0.0.1"),
    "serve, an unknown engine": ("serve classified --no-log --engine trch", 1, "'trch'", "Did you mean 'torch'"),
    "serve, a port": ("serve classified --port 99999", 2, "--port", "65535"),
    "monitor, no run": ("monitor nosuch", 1, "nosuch", "no such run"),
    "monitor, no log": ("monitor classified --log none.sqlite", 1, "none.sqlite", "no such request log"),
    "monitor, another file": ("monitor classified --log good.csv", 1, "good.csv", "is no request log"),
    "monitor, no name": ("monitor m@champion", 1, "no model 'm'"),
    "monitor, a level": ("monitor classified --level 7", 2, "--level"),
    "retrain, nothing new": ("retrain classified", 1, "no new rows", "--log FILE"),
    "retrain, no run": ("retrain nosuch good.csv", 1, "nosuch", "no such run"),
    "retrain, no file": ("retrain classified nosuch.csv --out new", 1, "nosuch.csv"),
    "retrain, other columns": ("retrain classified other.csv --out new", 1, "other.csv", "'text'"),
    "retrain, resume a training": ("retrain --resume classified", 1, "not begun by `whet retrain`"),
    "registry, no run": ("registry add m nosuch", 1, "nosuch", "no such run"),
    "registry, a name": ("registry add 2m classified", 1, "'2m' cannot be the name"),
    "registry, no model": ("registry add m prepared", 1, "prepared", "no trained model"),
    "registry, promote nothing": ("registry promote m 1", 1, "no model 'm'", "whet registry add m RUN"),
    "registry, a file": ("registry list --registry file", 1, "file", "is a file"),
    "annotate, no file": ("annotate nosuch.csv", 1, "nosuch.csv"),
    "annotate, nothing named": ("annotate page", 2, "FILE", "--log"),
    "annotate, an empty file": ("annotate empty.csv", 1, "empty.csv", "empty"),
    "annotate, a binary file": ("annotate binary.csv", 1, "binary.csv"),
    "annotate, a run": ("annotate classified", 1, "classified", "a run, which has no rows of its own", "RECIPE|FILE"),
    "annotate, no recipe": ("annotate nosuch.yaml", 1, "nosuch.yaml"),
    "auto, nothing named": ("auto", 2, "FILE"),
    # usage
    "no arguments": ("train", 2, "recipe", "--resume"),
    "resume and set": ("train --resume classified --set train.epochs=3", 2, "--resume", "--set"),
    "resume and out": ("train --resume classified --out new", 2, "--resume", "--out"),
    "unknown command": ("frobnicate", 2, "frobnicate"),
    "a name from elsewhere": ("finetune classify.yaml", 2, "finetune", "Here that is 'train'", "whet train --help"),
    "a name from elsewhere, as others write it": ("Fine_Tune classify.yaml", 2, "Fine_Tune", "Here that is 'train'"),
    "unknown option": ("train classify.yaml --nosuch", 2, "--nosuch"),
    "two recipes": ("train classify.yaml write.yaml", 2, "write.yaml"),
    "no files": ("new", 2, "--schema"),
    "no run": ("evaluate", 2, "RUN"),
    "threshold above 1": ("predict classified good.csv --abstain-below 2", 2, "--abstain-below", "1"),
}


def test_names_from_elsewhere_are_no_verbs_here_and_lead_to_one():
    words = [word for named in ELSEWHERE.values() for word in named.split()]
    verbs = set(get_command(cli.app).commands)
    assert set(ELSEWHERE) == verbs and not verbs & set(words) and len(words) == len(set(words))


def test_each_verb_has_at_least_five_mistakes():
    first = [line.split()[0] if isinstance(line, str) else line[0] for line, *_ in MISTAKES.values()]
    few = {verb: first.count(verb) for verb in get_command(cli.app).commands if first.count(verb) < 5}
    assert not few


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_and_leaves_nothing_behind(desk, mistake, monkeypatch):
    monkeypatch.setattr("whet.models.load._hub_is_found", lambda: False)
    line, code, *words = MISTAKES[mistake]
    before = inventory(desk)
    said = call(desk, line)
    assert said.code == code, said.err
    assert said.out == "" and "Traceback" not in said.err
    for word in words:
        assert word in said.err, f"{word!r} is not in: {said.err}"
    assert inventory(desk) == before


@pytest.mark.parametrize(
    ("line", "word"),
    [
        (f"{TRAIN} data.path=rare.csv", "rare: a single training row"),
        (f"{TRAIN} data.path=long.csv", "longer than 128 tokens"),
        pytest.param(f"{TRAIN} data.path=huge.csv", "longer than 128 tokens", marks=pytest.mark.slow),
        (f"{TRAIN} train.schedule=./mine.py", "Trained"),
        (f"{TRAIN} data.slices=label", "Trained"),
        (f"{TRAIN} train.optimiser.beta2=0.9", "Trained"),
        *((f"{TRAIN} train.optimiser={name}", "Trained") for name in ("adafactor", "adamw_8bit", "lion", "muon")),
        (f"{TRAIN} train.schedule=wsd --set train.schedule.shape=1-sqrt", "Trained"),
        ("new oneclass.csv --out new", "at least two"),
    ],
)
def test_what_can_be_trained_is_trained_with_a_warning(desk, line, word):
    said = call(desk, line)
    new = desk / "new"
    shutil.rmtree(new) if new.is_dir() else new.unlink()
    assert said.code == 0 and word in said.err, said.err


def test_an_optimiser_that_is_not_installed_is_said_before_anything_is_read(desk, monkeypatch):
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    before = inventory(desk)
    said = call(desk, f"{TRAIN} train.optimiser=adamw_8bit")
    assert said.code == 1 and "Traceback" not in said.err and "Reading" not in said.err
    for word in ("--set train.optimiser", "bitsandbytes", "pip install 'whet[qlora]'"):
        assert word in said.err, said.err
    assert inventory(desk) == before


def test_an_optimiser_that_cannot_work_here_leaves_no_run(desk, monkeypatch):
    from whet.models.quantised import kernels

    def lacking(*_, **__):
        raise NotImplementedError("no kernel for this device")

    monkeypatch.setattr(kernels(), "optimizer_update_8bit_blockwise", lacking)
    before = inventory(desk)
    said = call(desk, f"{TRAIN} train.optimiser=adamw_8bit")
    assert said.code == 1 and "Traceback" not in said.err
    assert "no 8-bit optimiser for 'cpu': no kernel for this device" in said.err and "adafactor" in said.err
    assert inventory(desk) == before


def test_a_malformed_row_is_listed_with_its_line(desk, tmp_path):
    assert call(desk, f"prepare classify.yaml --set data.path=bad.jsonl --out {tmp_path / 'run'}").code == 0
    rejects = [json.loads(line) for line in (tmp_path / "run" / "rejects.jsonl").read_text().splitlines()]
    (reject,) = [one for one in rejects if one["kind"] == "unusable"]  # the rows are nearly alike
    assert (reject["file"], reject["line"]) == ("bad.jsonl", 7)


def test_a_place_that_may_not_be_written_is_named(desk, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
    said = call(desk, f"train classify.yaml --out {tmp_path / 'locked' / 'new'}")
    assert said.code == 1 and "write to" in said.err


def test_nul_bytes_to_predict_do_not_stop_the_other_rows(desk):
    said = call(desk, "predict classified nul.csv --json")
    assert said.code in {0, 1} and "Traceback" not in said.err
    if said.code == 0:
        assert json.loads(said.out)["rows"] == 2


# A run that was damaged, or is in use

UNFINISHED = {
    "altered data": ("data/train.jsonl", lambda text: text.replace("card", "cart", 1), "altered"),
    "torn data": ("data/train.jsonl", lambda text: text[: len(text) // 2], "damaged"),
    "no accounting": ("data/accounting.json", None, "accounting.json"),
    "torn accounting": ("data/accounting.json", lambda text: text[:20], "damaged"),
    "empty manifest": ("manifest.json", lambda text: "", "manifest.json: damaged"),
    "manifest of another kind": ("manifest.json", lambda text: "[]", "manifest.json: damaged"),
    "manifest without a plan": (
        "manifest.json",
        lambda text: text.replace('"plan"', '"plans"'),
        "manifest.json: damaged (it has no plan",
    ),
    "another base model": (
        "manifest.json",
        lambda text: re.sub(r'("base": \{[^}]*"sha256": ")\w', r"\1_", text),
        "other weights",
    ),
    "no recipe": ("recipe.yaml", None, "recipe.yaml"),
    "shorter log": ("log.jsonl", lambda text: text[:10], "log.jsonl: is shorter"),
}


@pytest.mark.parametrize("harm", UNFINISHED)
def test_a_damaged_run_is_not_resumed(desk, tmp_path, harm):
    name, alter, word = UNFINISHED[harm]
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    shutil.rmtree(run / "model")
    file = run / name
    file.unlink() if alter is None else file.write_text(alter(file.read_text()))
    before = inventory(run)
    said = call(desk, f"train --resume {run}")
    assert said.code == 1 and word in said.err, said.err
    assert inventory(run) == before


DAMAGED = {
    "manifest": ("manifest.json", "{", "manifest.json: damaged"),
    "card": ("model/policy.json", "{}", "policy.json: damaged"),
    "adapter": ("model/adapter_model.safetensors", "{", "adapter_model.safetensors: not a whole"),
    "missing adapter": ("model/adapter_model.safetensors", None, "adapter_model.safetensors"),
    "missing head": ("model/heads.safetensors", None, "head is missing"),
    "recipe": ("recipe.yaml", "{", "recipe.yaml: was altered"),
}


@pytest.mark.parametrize("harm", DAMAGED)
@pytest.mark.parametrize("verb", ["evaluate {}", "predict {} good.csv", "chat {}"])
def test_a_damaged_run_says_which_file(desk, tmp_path, harm, verb):
    name, text, word = DAMAGED[harm]
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    (run / name).unlink() if text is None else (run / name).write_text(text)
    said = call(desk, verb.format(run), b"hello\n")
    assert said.code == 1 and word in said.err and said.out == "", said.err


def test_one_damaged_run_does_not_hide_the_others(desk, tmp_path):
    for name in ("good", "bad"):
        shutil.copytree(desk / "classified", tmp_path / "runs" / name)
    (tmp_path / "runs" / "bad" / "manifest.json").write_text("{")
    said = call(tmp_path, "show --json")
    verdicts = {Path(one["run"]).name: one["verdict"] for one in json.loads(said.out)["runs"]}
    assert "damaged" in verdicts["bad"] and "damaged" not in verdicts["good"]


def test_a_damaged_model_is_made_again_from_the_last_checkpoint(desk, tmp_path):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    whole = (run / "model" / "adapter_model.safetensors").read_bytes()
    (run / "model" / "adapter_model.safetensors").write_bytes(b"")
    (run / "model" / "policy.json").write_text("{}")
    assert call(desk, f"train --resume {run}").code == 0
    assert (run / "model" / "adapter_model.safetensors").read_bytes() == whole


@pytest.mark.parametrize("verb", ["train --resume {}", "evaluate {}"])
def test_two_processes_do_not_work_on_one_run(desk, tmp_path, verb):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    with Run(run).lock():
        said = call(desk, verb.format(run))
    assert said.code == 1 and "another process" in said.err


def test_an_unfinished_run_says_how_to_go_on(desk, tmp_path):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    shutil.rmtree(run / "model")
    for verb in (f"evaluate {run}", f"predict {run} good.csv", f"chat {run}"):
        said = call(desk, verb)
        assert said.code == 1 and f"whet train --resume {run}" in said.err
    assert call(desk, f"show {run}").code == 0


def test_a_run_that_another_process_made_meanwhile_is_not_written_over(desk, tmp_path, monkeypatch):
    rename = Path.rename

    def late(self, target):
        if Path(target).name == "new":
            (Path(target) / "theirs").mkdir(parents=True)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    said = call(desk, f"train classify.yaml --out {tmp_path / 'new'}")
    assert said.code == 1 and "another process" in said.err
    assert inventory(tmp_path) == ["new", "new/theirs"]


# Interrupted, out of memory, out of disk


def interrupt(*args, **kwargs):
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    "place", ["whet.stages.train.prepare_data", "whet.stages.train.build_job", "whet.stages.train.write_run"]
)
def test_interrupted_before_the_run_exists_nothing_is_left(desk, tmp_path, monkeypatch, place):
    monkeypatch.setattr(place, interrupt)
    said = call(desk, f"train classify.yaml --out {tmp_path / 'runs' / 'new'}")
    assert said.code == 130 and "interrupted" in said.err
    assert inventory(tmp_path) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_before_the_verb_has_begun_no_traceback_is_shown(number):
    stopped = f"""
import os, signal
from whet.cli import ending
ending.app = lambda: os.kill(os.getpid(), {int(number)})
ending.main()
"""
    ended = subprocess.run([sys.executable, "-c", stopped, "show", "--json"], capture_output=True, text=True, timeout=120)
    assert (ended.returncode, ended.stderr) == (130, "whet: interrupted. Nothing half-written was left.\n")
    assert json.loads(ended.stdout)["error"]["exit_code"] == 130


def test_interrupted_between_the_steps_the_run_can_be_resumed(desk, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("whet.stages.train.save_policy", interrupt)
        said = call(desk, f"train classify.yaml --out {tmp_path / 'new'}")
    assert said.code == 130 and f"whet train --resume {tmp_path / 'new'}" in said.err
    assert call(desk, f"train --resume {tmp_path / 'new'}").code == 0
    assert weights(tmp_path / "new") == weights(desk / "classified")


def test_interrupted_while_judging_the_model_stays(desk, tmp_path, monkeypatch):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    monkeypatch.setattr("whet.stages.evaluate.build_report", interrupt)
    said = call(desk, f"evaluate {run}")
    assert said.code == 130 and f"whet evaluate {run}" in said.err


def weights(run):
    return {file.name: file.read_bytes() for file in sorted((run / "model").glob("*.safetensors"))}


def full(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("steps_before", [0, 1, 2])
def test_a_full_disk_at_a_checkpoint_leaves_the_one_before_and_the_way_to_go_on(desk, tmp_path, monkeypatch, steps_before):
    saved, write = [], checkpoint.save_tensors

    def fill(tensors, path):
        write(tensors, path)
        saved.append(path)
        if len(saved) > steps_before:
            full()

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_tensors", fill)
        said = call(desk, f"{TRAIN} train.checkpoint.every=1 --out {tmp_path / 'new'}")
    run = tmp_path / "new"
    assert said.code == 1 and "disk is full" in said.err and f"whet train --resume {run}" in said.err
    assert not [path for path in run.rglob("*") if path.suffix in {".partial", ".before"}]
    found, damaged = checkpoint.load_latest(run / "checkpoints" / "fit")
    assert damaged == [] and (found.step if found else 0) == steps_before
    assert call(desk, f"train --resume {run}").code == 0
    plain = tmp_path / "plain"
    assert call(desk, f"{TRAIN} train.checkpoint.every=1 --out {plain}").code == 0
    assert weights(run) == weights(plain) and (run / "log.jsonl").read_bytes() == (plain / "log.jsonl").read_bytes()


@pytest.mark.parametrize("place", ["whet.data.dataset.write_json", "whet.run.write_json"])
def test_a_full_disk_before_training_leaves_nothing(desk, tmp_path, monkeypatch, place):
    monkeypatch.setattr(place, full)
    said = call(desk, f"train classify.yaml --out {tmp_path / 'new'}")
    assert said.code == 1 and "No space left on device" in said.err
    assert inventory(tmp_path) == []


def test_a_disk_that_is_really_full(desk, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    step = sum(file.stat().st_size for file in next((desk / "written" / "checkpoints" / "fit").glob("step-*")).iterdir())
    if os.system(f"mount -t tmpfs -o size={int(2.3 * step)} tmpfs {disk} 2>/dev/null"):
        pytest.skip("no file system can be mounted here")
    try:
        said = call(desk, f"{WRITE} train.checkpoint.every=1 --out {disk / 'new'}")
        assert said.code == 1 and "disk is full" in said.err and "Traceback" not in said.err, said.err
        assert checkpoint.load_latest(disk / "new" / "checkpoints" / "fit")[0] is not None
        os.system(f"mount -o remount,size=20m {disk}")
        assert call(desk, f"train --resume {disk / 'new'}").code == 0
        assert weights(disk / "new") == weights(desk / "written")
    finally:
        os.system(f"umount {disk}")


@pytest.mark.slow
@pytest.mark.parametrize("line", ["export classified merged", "compress classified int8"])
@pytest.mark.filterwarnings("ignore")
def test_a_file_that_cannot_grow_is_said_without_a_traceback(desk, tmp_path, line):
    command = [sys.executable, "-m", "whet", *line.split(), "--out", str(tmp_path / "new")]
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (12 * 1024, 12 * 1024))}
    done = subprocess.run(command, cwd=desk, capture_output=True, text=True, timeout=300, **limit)
    assert done.returncode == 1 and "File too large" in done.stderr and "Traceback" not in done.stderr, done.stderr[-500:]
    assert inventory(tmp_path) == []


def test_too_little_memory_is_said_without_a_traceback(desk, tmp_path):
    said = call(desk, f"{TRAIN} technique.rank=2000000000 --out {tmp_path / 'new'}")
    assert said.code == 1 and "out of memory" in said.err
    assert inventory(tmp_path) == []


def test_a_loss_that_is_not_finite_names_the_rows(desk, tmp_path):
    said = call(desk, f"{TRAIN} train.learning_rate=1e9 --set train.clip=1e9 --set train.max_steps=9 --out {tmp_path / 'new'}")
    assert said.code == 1 and re.search(r"Step \d+: the loss is not a finite number.*good\.csv:\d+", said.err), said.err


def test_what_a_killed_process_left_is_swept_away_by_the_next(desk, tmp_path):
    stale, alive = tmp_path / ".old.1.partial", tmp_path / ".other.2.partial"
    for folder in (stale, alive):
        folder.mkdir()
        (folder / "manifest.json").write_text("{}")
        (folder / ".lock").touch()
    (tmp_path / ".theirs.3.partial").mkdir()
    with Run(alive).lock():
        assert call(desk, f"prepare classify.yaml --out {tmp_path / 'new'}").code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"new", ".other.2.partial", ".theirs.3.partial"}


@pytest.mark.parametrize("code", ["0", "", "'bye'", "130"])
def test_a_plugin_that_ends_the_program_is_no_success(desk, tmp_path, code):
    for name in ("bert", "good.csv", "classify.yaml"):
        os.symlink(desk / name, tmp_path / name)
    (tmp_path / "leaves.py").write_text(PLUGIN.format(name="Leaves").replace("return self.gain", f"raise SystemExit({code})"))
    said = call(tmp_path, "train classify.yaml --out new --json --set train.schedule=./leaves.py")
    assert said.code == 1 and "leaves.py:14: ended the program" in said.err and "Traceback" not in said.err, said.err
    assert json.loads(said.out)["error"]["exit_code"] == 1


# Programs: one JSON object, and standard input without a terminal


@pytest.mark.parametrize(
    ("line", "stdin"),
    [
        ("new good.csv --out {0}/made.yaml", b""),
        ("prepare classify.yaml --out {0}/new", b""),
        ("train classify.yaml --out {0}/new", b""),
        ("plan classify.yaml --price-per-hour 2", b""),
        ("plan write.yaml --device-memory A100", b""),
        ("train --resume classified", b""),
        ("evaluate written", b""),
        ("predict classified good.csv", b""),
        ("predict classified good.csv --out {0}/made.csv", b""),
        ("predict classified -", b"text\nmy card is lost\n"),
        ("chat written", b"hello\n"),
        ("chat classified", b"where is my card\n"),
        ("show", b""),
        ("show classified", b""),
        ("show written", b""),
        ("show plugins", b""),
        ("show machine", b""),
        ("auto good.csv --model bert --set train.max_steps=2 --set evaluate.resamples=100 --out {0}/new", b""),
    ],
)
def test_json_is_one_object_on_standard_output_and_nothing_else(desk, tmp_path, line, stdin):
    said = call(desk, f"{line} --json".format(tmp_path), stdin)
    assert said.code == 0, said.err
    assert said.out.count("\n") == 1
    answer = json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert isinstance(answer, dict) and "run" in answer
    if answer["run"] is not None:
        assert (desk / answer["run"] / "manifest.json").is_file()
    if line.startswith("new"):
        assert answer["run"] is None and (tmp_path / "made.yaml").is_file()


def test_without_json_only_what_was_asked_for_goes_to_standard_output(desk, tmp_path):
    for line in (
        "evaluate written",
        f"prepare classify.yaml --out {tmp_path / 'new'}",
        "show classified",
        "train --resume classified",
    ):
        said = call(desk, line)
        assert said.code == 0 and said.out == "" and said.err


def test_chat_reads_lines_and_ends_with_the_input(desk):
    said = call(desk, "chat written", "hello\nwho are you? ü\n".encode())
    assert said.code == 0 and "you:" not in said.err and said.out.count("\n") >= 2
    assert call(desk, "chat classified", b"").code == 0
    assert call(desk, "chat classified", b"\xff\xfe not utf-8\n").code == 0


def test_a_conversation_longer_than_the_model_reads_loses_its_oldest_turns_and_says_so(desk):
    said = call(desk, "chat written --system calm", b"one line\n" * 8)
    assert said.code == 0 and said.out.count("\n") >= 8
    assert "Note: the conversation is longer than the model reads; its first 2 turns are left out." in said.err
    said = call(desk, "chat written", b"word " * 400 + b"\n")
    assert said.code == 0 and "Note: this message is longer than the model reads; its beginning is cut." in said.err


def test_predict_reads_standard_input(desk):
    said = call(
        desk, "predict classified --format jsonl", b'{"text": "my card is lost"}\n{"text": ""}\n{"text": "where is it"}\n'
    )
    found = [json.loads(line) for line in said.out.splitlines()]
    assert said.code == 0 and len(found) == 3
    assert [bool(one["error"]) for one in found] == [False, True, False]


def test_a_closed_standard_input_is_no_traceback(desk):
    said = call(desk, "predict classified", None)
    assert said.code == 1 and "standard input is closed" in said.err
    assert call(desk, "chat classified", None).code == 0


@pytest.mark.parametrize("verb", ["", "new", "prepare", "plan", "train", "evaluate", "predict", "chat", "show", "auto"])
def test_every_verb_has_help(tmp_path, verb):
    said = call(tmp_path, f"{verb} --help")
    assert said.code == 0 and "Usage: whet" in out_of_box(said.out)


# What an adversary found


def altered(folder, name, values):
    """Change keys of a JSON file."""
    file = folder / name
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_only_files_that_were_hashed_are_loaded_again(desk, tmp_path):
    shutil.copy(desk / "mine.py", tmp_path / "mine.py")
    text = (desk / "classify.yaml").read_text().replace("model: bert", f"model: {desk / 'bert'}")
    text = text.replace("path: good.csv", f"path: {desk / 'good.csv'}").replace(
        "max_steps: 3", "max_steps: 3, schedule: ./mine.py"
    )
    (tmp_path / "r.yaml").write_text(text)
    assert call(tmp_path, "train r.yaml --out run").code == 0
    (tmp_path / "evil.py").write_text(
        f"from pathlib import Path\nPath({str(tmp_path / 'loaded')!r}).touch()\n" + PLUGIN.format(name="Evil")
    )
    shutil.rmtree(tmp_path / "run" / "model")
    recipe = tmp_path / "run" / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("mine.py", "evil.py"))
    said = call(tmp_path, "train r.yaml --resume run")
    assert said.code == 1 and "recipe.yaml: was altered" in said.err
    altered(tmp_path / "run", "manifest.json", {"recipe_sha256": file_hash(recipe)})
    said = call(tmp_path, "train r.yaml --resume run")
    assert said.code == 1 and "evil.py: not a file that the run was made with" in said.err
    assert not (tmp_path / "loaded").exists()


def test_an_altered_recipe_of_a_run_is_noticed(desk, tmp_path):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    text = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(text.replace("resamples: 100", "resamples: 101"))
    for verb in ("train --resume {}", "evaluate {}", "predict {} good.csv", "show {}"):
        said = call(desk, verb.format(run))
        assert said.code == 1 and "recipe.yaml: was altered" in said.err


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json"])
def test_an_altered_base_is_noticed_whatever_of_it_changed(desk, tmp_path, name):
    shutil.copytree(desk / "bert", tmp_path / "base")
    said = call(desk, f"{TRAIN} model={tmp_path / 'base'} --out {tmp_path / 'run'}")
    assert said.code == 0, said.err
    file = tmp_path / "base" / name
    file.write_text(file.read_text() + " ")
    said = call(desk, f"predict {tmp_path / 'run'} good.csv")
    assert said.code == 1 and "another configuration" in said.err


def test_predictions_keep_every_column_and_every_row(desk):
    lines = ['{"text": broken', '{"text": "my card", "id": 1, "score": NaN}', '{"text": "where is it", "customer": "K-17"}']
    said = call(desk, "predict classified - --format csv", "\n".join(lines).encode())
    found = list(csv.DictReader(said.out.splitlines()))
    assert [row["customer"] for row in found] == ["", "", "K-17"] and [row["id"] for row in found] == ["", "1", ""]
    assert found[0]["error"] and found[1]["prediction"]
    said = call(desk, "predict classified - --json", "\n".join(lines).encode())
    answer = json.loads(said.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert answer["predictions"][1]["score"] is None
    said = call(desk, "predict classified - --format csv", b"text,prediction,error\nmy card,MINE,KEPT\nwhere is it,MINE,KEPT\n")
    found = list(csv.DictReader(said.out.splitlines()))
    assert {row["prediction"] for row in found} == {"MINE"} and {row["error"] for row in found} == {"KEPT"}
    assert all(row["whet_prediction"] in LABELS for row in found) and "'whet_prediction'" in said.err


def test_predictions_are_written_through_links_and_into_pipes(desk, tmp_path):
    (tmp_path / "target.csv").write_text("old\n")
    (tmp_path / "link.csv").symlink_to("target.csv")
    assert call(desk, f"predict classified good.csv --out {tmp_path / 'link.csv'}").code == 0
    assert (tmp_path / "link.csv").is_symlink() and "prediction" in (tmp_path / "target.csv").read_text()
    os.mkfifo(tmp_path / "pipe.csv")
    reader = os.open(tmp_path / "pipe.csv", os.O_RDONLY | os.O_NONBLOCK)
    assert call(desk, f"predict classified good.csv --out {tmp_path / 'pipe.csv'}").code == 0
    assert (tmp_path / "pipe.csv").is_fifo() and b"prediction" in os.read(reader, 1 << 16)
    os.close(reader)
    gone = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    ).stdout.decode()
    (tmp_path / f".made.csv.{gone.strip()}.partial").touch()
    (tmp_path / f".made.csv.{os.getppid()}.partial").touch()  # somebody else's, who is at work
    assert call(desk, f"predict classified good.csv --out {tmp_path / 'made.csv'}").code == 0
    assert [path.name for path in tmp_path.glob(".made.csv.*")] == [f".made.csv.{os.getppid()}.partial"]


def test_rows_come_from_pipes_and_devices_are_named(desk, tmp_path):
    os.mkfifo(tmp_path / "rows.csv")
    writer = threading.Thread(target=(tmp_path / "rows.csv").write_text, args=("text\nmy card is lost\n",))
    writer.start()
    said = call(desk, f"predict classified {tmp_path / 'rows.csv'} --json")
    writer.join()
    assert said.code == 0 and json.loads(said.out)["rows"] == 1
    assert "a device" in call(desk, "predict classified /dev/null").err
    assert "a pipe" in call(desk, f"auto {tmp_path / 'rows.csv'}").err
    assert "a pipe" in call(desk, f"train {tmp_path / 'rows.csv'}").err


def test_standard_input_is_called_so_and_its_header_is_none_of_its_rows(desk):
    assert "standard input: " in call(desk, "predict classified -", b"\x00" * 5000).err
    assert json.loads(call(desk, "predict classified - --json", b"text\nhello\n").out)["rows"] == 1


def test_scores_that_are_not_finite_are_never_an_answer(desk, tmp_path):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    heads = load_file(run / "model" / "heads.safetensors")
    for factor, verbs, word in (
        (float("nan"), ("evaluate {}", "predict {} good.csv", "chat {}"), "not finite"),
        (3e38, ("evaluate {}", "chat {}"), "not finite numbers"),
    ):
        spoilt = {name: torch.full_like(tensor, factor) for name, tensor in heads.items()}
        save_file(spoilt, run / "model" / "heads.safetensors")
        for verb in verbs:
            said = call(desk, verb.format(run), b"hello\n")
            assert said.code == 1 and word in said.err and said.out == "", said
    found = json.loads(call(desk, f"predict {run} good.csv --json --abstain-below 0.5").out)["predictions"]
    assert all(row["prediction"] is None and "not finite" in row["error"] for row in found)


BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("end", "word"),
    [
        (f"a0: &a0 [{', '.join('x' * 10)}]\n{BOMB}", "aliases"),
        ("name: 2024-13-45\n", "month"),
        ("name: !!int abc\n", "in quotes"),
        (f"name: {'9' * 5000}\n", "in quotes"),
    ],
)
def test_no_recipe_is_read_for_ever_or_ends_in_a_traceback(desk, tmp_path, end, word):
    (tmp_path / "r.yaml").write_text((desk / "classify.yaml").read_text() + end)
    said = call(desk, f"train {tmp_path / 'r.yaml'}")
    assert said.code == 1 and "r.yaml" in said.err and word in said.err, said.err


def test_names_that_no_file_can_have(desk):
    assert "cannot be the name of a file" in call(desk, [*TRAIN.split(), 'train.schedule="./a\\0.py"']).err
    assert "in quotes" in call(desk, [*TRAIN.split(), f"train.seed={'9' * 5000}"]).err
    bad = b"bad\xff.csv".decode("utf-8", "surrogateescape")
    for line in (["predict", "classified", bad], ["new", bad], ["predict", "classified", "good.csv", "--out", bad]):
        said = call(desk, line)
        assert said.code == 1 and "UTF-8" in said.err, said.err


@pytest.mark.parametrize(
    ("template", "word"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", "not done after"),
        ("{% for i in range(10**9) %}x{% endfor %}", "OverflowError"),
        ("{{ 1/0 }}", "ZeroDivisionError"),
        ("{{ 'a' + 1 }}", "TypeError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "RecursionError"),
        ("{{ 'a' * 10**7 }}", "writes more than"),
    ],
)
def test_a_chat_template_is_held_to_a_limit(desk, tmp_path, monkeypatch, template, word):
    monkeypatch.setattr("whet.models.template.SECONDS", 0.2 if word == "not done after" else 60.0)
    shutil.copytree(desk / "llama", tmp_path / "model")
    (tmp_path / "model" / "chat_template.jinja").write_text(template)
    said = call(desk, f"{WRITE} model={tmp_path / 'model'} --out {tmp_path / 'new'}")
    assert said.code == 1 and word in said.err and "chat template" in said.err, said.err


def test_a_recipe_that_was_made_can_be_read_and_no_label_acts_on_the_terminal(desk, tmp_path):
    labels = ("a\x1bb", "c\x01d", "e\x7ff\x9b")
    (tmp_path / "rows.jsonl").write_text(objects({"text": f"my card {n}", "label": labels[n % 3]} for n in range(60)))
    said = call(tmp_path, "new rows.jsonl --out r.yaml")
    assert said.code == 0 and "\\x1b" in said.err and not set("\x1b\x01\x7f\x9b") & set(said.err)
    said = call(tmp_path, "prepare r.yaml --out made")
    assert said.code == 0, said.err
    stream = io.StringIO()
    Terminal(file=stream, force_terminal=True, no_color=True).print(Text("label a\x1b]0;name\x07b"))
    assert "\x1b]0" not in stream.getvalue() and "\x07" not in stream.getvalue()


def test_an_evaluation_that_cannot_be_written_leaves_the_old_one(desk, tmp_path, monkeypatch):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    names = ("predictions.jsonl", "report.json", "report.html")
    before = {name: (run / name).read_bytes() for name in names}
    sync, calls = os.fsync, []

    def fill(handle):
        calls.append(handle)
        full() if len(calls) == 4 else sync(handle)  # the manifest and its folder come first

    monkeypatch.setattr(os, "fsync", fill)
    said = call(desk, f"evaluate {run} --set evaluate.resamples=200")
    assert said.code == 1 and "No space left" in said.err and "whet: : " not in said.err
    assert {name: (run / name).read_bytes() for name in names} == before


@pytest.mark.parametrize(("line", "code"), [("evaluate nosuch", 1), ("train", 2), ("train --out classified classify.yaml", 1)])
def test_an_error_is_one_json_object_too(desk, line, code):
    said = call(desk, f"{line} --json")
    answer = json.loads(said.out)
    assert said.code == code and said.out.count("\n") == 1
    assert answer["run"] is None and answer["error"]["exit_code"] == code and answer["error"]["message"]


def test_many_columns_are_not_all_listed(desk, tmp_path):
    names = ["title", *(f"c{n}" for n in range(20_000))]
    (tmp_path / "wide.csv").write_text(",".join(names) + "\n" + ",".join("x" for _ in names) + "\n")
    said = call(desk, f"prepare classify.yaml --set data.path={tmp_path / 'wide.csv'} --out {tmp_path / 'new'}")
    assert said.code == 1 and "19,991 more" in said.err and len(said.err) < 1000


@pytest.mark.parametrize("nested", [400, 900])
def test_a_row_that_is_nested_deeply_is_rejected_alone(desk, nested):
    rows = f'{{"text": "a", "x": {"[" * nested}{"]" * nested}}}\n{{"text": "b"}}\n'
    found = json.loads(call(desk, "predict classified - --json", rows.encode()).out)["predictions"]
    assert "nested deeper" in found[0]["error"] and found[1]["prediction"]


def test_texts_that_are_cut_are_counted(desk):
    said = call(desk, "predict classified -", f"text\nhello\n{'lost card ' * 500}\n".encode())
    assert said.code == 0 and "1 text is longer than" in said.err


HARMED = {
    "report is a list": ("report.json", lambda text: "[]", "show {}", "report.json: damaged"),
    "report is empty": ("report.json", lambda text: "{}", "show {}", "it has no"),
    "report is deep": ("report.json", lambda text: "[" * 100_000, "show {}", "report.json: damaged"),
    "decisions": ("manifest.json", lambda text: changed(text, decisions=[{"a": 1}]), "show {}", "decisions"),
    "plan": ("manifest.json", lambda text: changed(text, plan={"num_steps": "x"}), "show {}", "manifest.json: damaged"),
    "base": ("manifest.json", lambda text: changed(text, base="x"), "evaluate {}", "manifest.json: damaged"),
    "phases": ("manifest.json", lambda text: changed(text, phases={"fit": {}}), "show {}", "phases.fit"),
    "actual": ("manifest.json", lambda text: changed(text, actual={}), "evaluate {}", "train_s"),
    "not finite": ("manifest.json", lambda text: changed(text, actual={"train_s": float("nan")}), "show {}", "NaN"),
    "log of numbers": ("log.jsonl", lambda text: "3\n", "evaluate {}", "log.jsonl: damaged"),
    "fewer classes": ("model/policy.json", lambda text: changed(text, classes=["a"]), "predict {} good.csv", "classes"),
    "classes of numbers": (
        "model/policy.json",
        lambda text: changed(text, classes=[1, 2, 3]),
        "evaluate {}",
        "policy.json: damaged",
    ),
    "length": ("model/policy.json", lambda text: changed(text, max_length=-5), "evaluate {}", "policy.json: damaged"),
    "long length": ("model/policy.json", lambda text: changed(text, max_length=10**6), "evaluate {}", "policy.json: damaged"),
    "technique": ("model/policy.json", lambda text: changed(text, technique=3), "chat {}", "policy.json: damaged"),
}


def changed(text, **values):
    return json.dumps(json.loads(text) | values)


@pytest.mark.parametrize("harm", HARMED)
def test_a_malformed_file_of_a_run_is_named(desk, tmp_path, harm):
    name, alter, verb, word = HARMED[harm]
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    (run / name).write_text(alter((run / name).read_text()))
    said = call(desk, verb.format(run), b"hello\n")
    assert said.code == 1 and word in said.err, said.err


@pytest.mark.parametrize(
    "alter",
    [
        lambda heads: {f"a.b.{name}": tensor for name, tensor in heads.items()},
        lambda heads: {"nodot": torch.zeros(2)},
        lambda heads: {name: tensor.flatten() for name, tensor in heads.items()},
        lambda heads: {name: torch.zeros(3, 7) if tensor.ndim == 2 else tensor for name, tensor in heads.items()},
    ],
)
def test_a_head_that_does_not_fit_is_named(desk, tmp_path, alter):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    heads = load_file(run / "model" / "heads.safetensors")
    save_file(alter(heads), run / "model" / "heads.safetensors")
    said = call(desk, f"predict {run} good.csv")
    assert said.code == 1 and "heads.safetensors" in said.err and "is no head" in said.err, said.err


@pytest.mark.parametrize("harm", ["state", "shape", "name"])
def test_a_checkpoint_of_another_run_is_not_restored(desk, tmp_path, harm):
    run = Path(shutil.copytree(desk / "classified", tmp_path / "run"))
    shutil.rmtree(run / "model")
    if harm == "name":
        (run / "checkpoints" / "fit" / "step-\u00b2").mkdir()
        assert call(desk, f"train --resume {run}").code == 0
        return
    place = max((run / "checkpoints" / "fit").glob("step-*"))
    if harm == "state":
        (place / "state.json").write_text("{}")
    else:
        tensors = load_file(place / "tensors.safetensors")
        name = next(name for name in sorted(tensors) if name.startswith("model/"))
        save_file(tensors | {name: torch.ones(1)}, place / "tensors.safetensors")
    (place / "hashes.json").write_text(
        json.dumps({name: file_hash(place / name) for name in ("tensors.safetensors", "state.json")})
    )
    said = call(desk, f"train --resume {run}")
    assert said.code == 1 and "is not a checkpoint of this run" in said.err, said.err


MODELS = {
    "quantised": ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}, {}, "quantised"),
    "layers": ({"num_hidden_layers": 100_000}, {}, "100,000 layers"),
    "context": ({"max_position_embeddings": -1}, {}, "max_position_embeddings"),
    "length": ({}, {"model_max_length": "x"}, "model_max_length"),
}


@pytest.mark.parametrize("harm", MODELS)
def test_a_model_folder_that_contradicts_itself_is_refused_in_words(desk, tmp_path, harm):
    config, tokenizer, word = MODELS[harm]
    folder = Path(shutil.copytree(desk / "llama", tmp_path / "model"))
    altered(folder, "config.json", config)
    altered(folder, "tokenizer_config.json", tokenizer)
    said = call(desk, f"{WRITE} model={folder} --out {tmp_path / 'new'}")
    assert said.code == 1 and word in said.err, said.err


def test_an_index_never_leads_out_of_the_models_folder(desk, tmp_path):
    folder = Path(shutil.copytree(desk / "llama", tmp_path / "model"))
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": "../../a.safetensors"}}))
    said = call(desk, f"{WRITE} model={folder} --out {tmp_path / 'new'}")
    assert said.code == 1 and "outside the model's folder" in said.err, said.err


@pytest.mark.parametrize(
    ("body", "word"), [("raise ValueError('boom')", "boom.py:14: ValueError: boom"), ("return 'x'", "gave 'x'")]
)
def test_a_plugin_that_fails_in_training_is_named(desk, tmp_path, body, word):
    made = desk / "boom.py"
    made.write_text(PLUGIN.format(name="Boom").replace("return self.gain", body))
    said = call(desk, f"{TRAIN} train.schedule=./boom.py --out {tmp_path / 'new'}")
    made.unlink()
    assert said.code == 1 and word in said.err, said.err


def test_closed_and_broken_streams(desk, monkeypatch):
    class Gone(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr("whet.cli.say._speak_utf8", lambda: setattr(sys, "stdout", Gone()))
    assert call(desk, "predict classified good.csv").code == cli.GONE
    monkeypatch.setattr("whet.cli.say._speak_utf8", lambda: setattr(sys, "stdout", None))
    said = call(desk, "predict classified good.csv")
    assert said.code == 1 and "standard output is closed" in said.err


def test_an_interrupt_that_an_import_swallowed_comes_again(desk, monkeypatch):
    class Swallowing:
        def __del__(self):
            raise KeyboardInterrupt

    def work(*args, **kwargs):
        Swallowing()
        time.sleep(5)

    monkeypatch.setattr("whet.stages.show.show_runs", work)
    begun = time.monotonic()
    assert call(desk, "show").code == 130 and time.monotonic() - begun < 3


def test_a_name_that_stands_twice_is_a_header(desk, tmp_path):
    (tmp_path / "twice.csv").write_text("text,text\nhello,one\nbye,two\n")
    notices = []
    found = list(read_files([tmp_path / "twice.csv"], notices))
    assert [list(row.fields) for row in found] == [["text", "text_2"]] * 2 and "renamed" in notices[0]


def test_a_command_to_paste_is_quoted(desk, tmp_path):
    said = call(desk, ["train", "classify.yaml", "--out", str(tmp_path / "my run")])
    assert said.code == 0 and f"whet evaluate '{tmp_path / 'my run'}'" in said.err
