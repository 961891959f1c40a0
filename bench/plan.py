"""Holds the memory that `whet plan` foresees against the peak of real runs, each in a process of its own.

    python bench/plan.py [--only WORD ...] [--steps 40] [--out bench/results/plan.json]

Prints a table as Markdown: estimate, measured peak of the whole training process (VmHWM), their ratio; the ratio of what is beyond the
program and its rows, which are measured and not estimated; and the seconds that were foreseen after the first steps beside those that
training took. The models are the built-in ones, some of random weights that are made here, and
stories260K where ../shared has it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
STORIES = ROOT.parent / "shared" / "models" / "stories260K"
GIB = 2**30
LABELS = "{{path: {root}/examples/tickets/tickets.csv, text: message, label: intent}}"
ANSWERS = "{{path: {root}/examples/tickets/tickets.csv, prompt: message, response: answer}}"
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "minilm lora": ("builtin:minilm", LABELS, "classify", {"technique": "lora"}),
    "minilm lora, 64 rows, fp32": (
        "builtin:minilm", LABELS, "classify", {"technique": "lora", "train.batch_size": 64, "train.precision": "fp32"},
    ),
    "minilm full": ("builtin:minilm", LABELS, "classify", {"technique": "full"}),
    "minilm full, 128 rows, fp32": (
        "builtin:minilm", LABELS, "classify", {"technique": "full", "train.batch_size": 128, "train.precision": "fp32"},
    ),
    "minilm head": ("builtin:minilm", LABELS, "classify", {"technique": "head"}),
    "minilm prefix": ("builtin:minilm", LABELS, "classify", {"technique": "prefix"}),
    "minilm qlora": ("builtin:minilm", LABELS, "classify", {"technique": "qlora"}),
    "seedling full": ("builtin:seedling", ANSWERS, "sft", {"technique": "full"}),
    "seedling full, 128 rows, 16384 tokens": (
        "builtin:seedling", ANSWERS, "sft", {"technique": "full", "train.batch_size": 128, "train.max_tokens": 16384},
    ),
    "seedling lora, 64 rows, fp32": (
        "builtin:seedling", ANSWERS, "sft", {"technique": "lora", "train.batch_size": 64, "train.precision": "fp32"},
    ),
    "seedling classify lora": ("builtin:seedling", LABELS, "classify", {"technique": "lora"}),
    "stories260K full": (str(STORIES), ANSWERS, "sft", {"technique": "full"}),
    "stories260K lora, 128 rows": (str(STORIES), ANSWERS, "sft", {"technique": "lora", "train.batch_size": 128}),
    "tiny bert full": ("tiny", LABELS, "classify", {"technique": "full"}),
    "bert 4 x 512, lora": ("made:bert", LABELS, "classify", {"technique": "lora"}),
    "modernbert 4 x 384, full": ("made:modernbert", LABELS, "classify", {"technique": "full"}),
}  # fmt: skip

MADE = {
    name: f"""
import sys
from pathlib import Path
from transformers import {config}, {network}
from whet.testing.tiny import random_network, tiny_tokenizer
folder, tokenizer = Path(sys.argv[1]), tiny_tokenizer("bert")
sizes = dict(vocab_size=len(tokenizer), hidden_size={width}, intermediate_size={inner}, num_hidden_layers=4, num_attention_heads=8)
random_network({network}, {config}(**sizes, max_position_embeddings=512, {more})).save_pretrained(folder)
tokenizer.save_pretrained(folder)
"""
    for name, config, network, width, inner, more in (
        ("made:bert", "BertConfig", "BertModel", 512, 2048, ""),
        ("made:modernbert", "ModernBertConfig", "ModernBertModel", 384, 768, "pad_token_id=0, cls_token_id=1, sep_token_id=2"),
    )
}
"""Encoders of random weights: what they take in memory does not depend on those."""


def main() -> None:
    """Run the cases one after the other and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], help="cases whose name holds one of these words")
    parser.add_argument("--out", type=Path, help="keep the parts of each estimate and what was measured; what is there stays")
    parser.add_argument(
        "--steps", type=int, default=40, help="steps of each run; in few steps pieces of the heap have not added up yet"
    )
    asked = parser.parse_args()
    print("| run | estimate | measured peak | estimate / measured | without the program | seconds foreseen | taken |")
    print("|---|---|---|---|---|---|---|")
    ratios = []
    for name, (model, rows, objective, sets) in CASES.items():
        if not any(word in name for word in asked.only) or (model == str(STORIES) and not STORIES.is_dir()):
            continue
        manifest = run(
            model,
            rows.format(root=ROOT),
            objective,
            {**sets, "train.max_steps": asked.steps, "train.validate_every": asked.steps},
        )
        planned, peak = manifest["plan"]["memory"]["bytes"], manifest["actual"]["peak_memory_bytes"]
        program = manifest["plan"]["memory"]["parts"]["program and rows"]
        seconds = manifest["plan"].get("seconds", {"low": float("nan"), "high": float("nan")})
        ratios.append(planned / peak)
        keep(asked.out, name, {"estimate": manifest["plan"]["memory"], "peak_bytes": peak})
        cells = (
            f"{planned / GIB:.2f} GiB",
            f"{peak / GIB:.2f} GiB",
            f"{planned / peak:.2f}",
            f"{(planned - program) / (peak - program):.2f}",
        )
        times = (f"{seconds['low']:.0f} to {seconds['high']:.0f}", f"{manifest['actual']['train_s']:.0f}")
        print(f"| {' | '.join((name, *cells, *times))} |", flush=True)
    if ratios:
        print(f"\n{len(ratios)} runs; estimate / measured from {min(ratios):.2f} to {max(ratios):.2f}", file=sys.stderr)


def keep(file: Path | None, name: str, found: dict[str, Any]) -> None:
    """Write what was found of a case beside what is there of others."""
    if file is not None:
        known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        file.write_text(json.dumps({**known, name: found}, indent=2) + "\n", encoding="utf-8")


def run(model: str, data: str, objective: str, sets: dict[str, Any]) -> dict[str, Any]:
    """Train once in a process of its own. Returns the run's manifest."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        if model == "tiny":
            make = (
                "import sys; from pathlib import Path; from whet.testing import write_tiny; write_tiny(Path(sys.argv[1]), 'bert')"
            )
            subprocess.run([sys.executable, "-W", "ignore", "-c", make, str(folder / "tiny")], check=True)
            model = str(folder / "tiny")
        elif model.startswith("made:"):
            subprocess.run([sys.executable, "-W", "ignore", "-c", MADE[model], str(folder / "made")], check=True)
            model = str(folder / "made")
        (folder / "recipe.yaml").write_text(f"model: {model}\ndata: {data}\nobjective: {objective}\n")
        given = [word for key, value in sets.items() for word in ("--set", f"{key}={value}")]
        command = [sys.executable, "-W", "ignore", "-m", "whet", "train", "recipe.yaml", "--out", "run", *given]
        done = subprocess.run(
            command, cwd=folder, env={**os.environ, "HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
        manifest: dict[str, Any] = json.loads((folder / "run" / "manifest.json").read_text())
        return manifest


if __name__ == "__main__":
    main()
