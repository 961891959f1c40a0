"""Measures `data.streaming` on text that it writes: python bench/streaming.py FOLDER --gib 5 --out bench/results/streaming.json.

A run that streams is begun with nothing kept, and killed with SIGKILL behind its first checkpoint; it goes on, and is held against one that nobody
killed. Its memory is compared with that of the same run on a text of 4 MiB, also streamed. Apart from that, all of a text of 12 MiB is read
without learning, and gone on with in the second epoch.

Words come from a made-up vocabulary by Zipf's law, in paragraphs of some hundred words, one on each line; one line in fifty is an exact copy
of an earlier one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from whet.data.sampled import sampled
from whet.engine.machine import processor_name
from whet.models.load import load_policy
from whet.plugins import build
from whet.recipe_file import load_recipe
from whet.stages.streaming import open_stream
from whet.testing.steps import tiny_plan
from whet.types import Cursor

RECIPE = """
model: builtin:seedling
data: {{path: {text}, streaming: true}}
objective: pretrain
technique: lora
train: {{max_steps: {steps}, batch_size: 8, validate_every: 1000, checkpoint: {{every: 1}}, early_stopping: false}}
"""

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in ("a", "e", "i", "o", "u", "an", "er", "il")]


def vocabulary(draw: np.random.Generator, number: int = 20_000) -> list[str]:
    """Return made-up words, the short ones first."""
    return ["".join(draw.choice(SYLLABLES, size=1 + min(4, rank.bit_length() // 3))) for rank in range(number)]


def write(path: Path, size: int, seed: int) -> int:
    """Write lines until the file has so many bytes. Returns the number of lines."""
    draw = np.random.default_rng(seed)
    words = np.array(vocabulary(draw), dtype=object)
    chances = 1 / np.arange(1, len(words) + 1)
    chances /= chances.sum()
    written = lines = 0
    kept: list[str] = []
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            drawn = words[draw.choice(len(words), size=200_000, p=chances)]
            ends = np.cumsum(draw.integers(40, 260, size=2_000))
            texts = [
                " ".join(drawn[begin:end]) + "." for begin, end in zip([0, *ends[:-1]], ends, strict=True) if end < len(drawn)
            ]
            texts += [kept[place] for place in draw.integers(0, len(kept), size=len(texts) // 50)] if kept else []
            kept = (kept + texts[:20])[-2_000:]
            block = "\n".join(texts) + "\n"
            file.write(block)
            written, lines = written + len(block), lines + len(texts)
    return lines


def run(folder: Path, name: str, text: Path, steps: int, kill_at: int | None = None) -> dict[str, Any]:
    """Train, or go on where there is such a run; return when its first new step was done, and the most memory that it took."""
    place, recipe = folder / "runs" / name, folder / f"{name}.yaml"
    recipe.write_text(RECIPE.format(text=text, steps=steps), encoding="utf-8")
    before = num_lines(place / "log.jsonl")
    command = [sys.executable, "-m", "whet", "train", *(["--resume", place] if place.exists() else [recipe, "--out", place])]
    begun, first_s, peak = time.monotonic(), None, 0
    with (folder / f"{name}.out").open("a") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        while process.poll() is None:
            peak = max(peak, peak_bytes(process.pid))
            lines = num_lines(place / "log.jsonl")
            if first_s is None and lines > before:
                first_s = time.monotonic() - begun
            if kill_at is not None and (place / "checkpoints" / "fit" / f"step-{kill_at}").exists() and lines > kill_at:
                process.kill()
            time.sleep(0.05)
    if process.returncode not in ({0} if kill_at is None else {-9}):
        raise SystemExit(f"{name}: ended with {process.returncode}; see {said.name}")
    return {
        "first_step_s": round(first_s or 0.0, 1),
        "peak_gib": round(peak / 2**30, 3),
        "wall_s": round(time.monotonic() - begun, 1),
    }


def num_lines(path: Path) -> int:
    """Return the whole lines of a file that may not be there yet."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def peak_bytes(process: int) -> int:
    """Return the most memory that a process has had in use so far, with what it has mapped."""
    try:
        held = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((1024 * int(line.split()[1]) for line in held.splitlines() if line.startswith("VmHWM")), 0)


def kept_files(cache: Path) -> dict[Path, int]:
    """Return the files of tokens by their inode, which another writing changes."""
    return {file: file.stat().st_ino for file in cache.rglob("*.safetensors")}


def learnt(place: Path) -> str:
    """Return the SHA-256 of a run's log and weights."""
    files = [place / "log.jsonl", *sorted((place / "model").rglob("*.safetensors"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def whole_epoch(folder: Path, text: Path) -> dict[str, Any]:
    """Return the seconds of reading a whole text without learning, and of going on in its second epoch."""
    recipe = folder / "epoch.yaml"
    recipe.write_text(RECIPE.format(text=text, steps=10), encoding="utf-8")
    read, objective, policy = load_recipe(recipe), build("objectives", "pretrain", {}), load_policy("builtin:seedling")
    data = sampled(read.data, objective.needs, None)
    assert data.stream is not None
    read = read.model_copy(update={"train": read.train.model_copy(update={"seed": 0})})
    plan, seconds, counts = tiny_plan(policy, batch_size=8), {}, {}
    for what, cursor in (("tokenise_s", Cursor()), ("go_on_s", Cursor(1, 0))):
        stream = open_stream(read, data.stream, data.columns, objective, policy, policy.context, 1, None, {})
        begun = time.monotonic()
        for step in stream.steps(plan, cursor):
            if step.after.epoch == 1:
                break
        seconds[what], counts = round(time.monotonic() - begun, 2), dict(stream.counts)
    return {"mib": round(text.stat().st_size / 2**20, 1), **seconds, "counts": counts}


def main() -> None:
    """Write what is missing, measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--gib", type=float, default=5.0)
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--out", type=Path, default=Path("bench/results/streaming.json"))
    asked = parser.parse_args()
    folder: Path = asked.folder.resolve()
    for name, gib in (("big", asked.gib), ("middle", 12 / 1024), ("little", 4 / 1024)):
        file = folder / f"{name}.txt"
        if not file.exists():
            print(f"Writing {file} ...", flush=True)
            write(file, int(gib * 2**30), seed=0)
    for name in ("runs", "cache"):
        shutil.rmtree(folder / name, ignore_errors=True)
    cache = folder / "cache"
    os.environ["XDG_CACHE_HOME"] = str(cache)
    found: dict[str, Any] = {"little": run(folder, "little", folder / "little.txt", asked.steps)}
    found["killed"] = run(folder, "killed", folder / "big.txt", asked.steps, kill_at=asked.steps // 2)
    before = kept_files(cache)
    found["resumed"] = run(folder, "killed", folder / "big.txt", asked.steps)
    after = kept_files(cache)
    found["resumed"]["written_again"] = sum(after.get(file) != inode for file, inode in before.items())
    found["resumed"]["files_before"], found["resumed"]["files_after"] = len(before), len(after)
    found["whole"] = run(folder, "whole", folder / "big.txt", asked.steps)
    found["same_bytes"] = learnt(folder / "runs" / "killed") == learnt(folder / "runs" / "whole")
    found["epoch"] = whole_epoch(folder, folder / "middle.txt")
    found["data_gib"] = round(
        max(found[name]["peak_gib"] for name in ("killed", "resumed", "whole")) - found["little"]["peak_gib"], 3
    )
    machine = {
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
    result = {"machine": machine, "bytes": (folder / "big.txt").stat().st_size, **found}
    asked.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
