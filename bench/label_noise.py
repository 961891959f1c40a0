"""Wrong labels planted into real rows: how many of the most suspicious ones are planted, by suspicion and by the loss of trained runs.

    python bench/label_noise.py train.csv --text text --label category
    python bench/label_noise.py train.csv --text text --label category --train --runs 2

A seeded tenth of the labels is replaced by another one. With `--train`, runs learn from the flipped file (with different seeds, one epoch), and rows
are also ordered as by `whet annotate --order loss`. Writes bench/results/label_noise.json.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from whet.annotation.items import items_of
from whet.annotation.kinds import Job
from whet.annotation.suggest import Embed
from whet.data.read import read_files
from whet.engine.label_noise import find_label_noise
from whet.recipe_data import Data
from whet.recipe_file import build_recipe
from whet.stages.annotate_models import load_embedder, load_models
from whet.stages.train import train

SHARE = 0.1
CHUNK = 256


def main() -> None:
    """Measure, print and write."""
    asked = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    asked.add_argument("file", type=Path)
    asked.add_argument("--text", default="text")
    asked.add_argument("--label", default="label")
    asked.add_argument("--seed", type=int, default=0)
    asked.add_argument("--train", action="store_true")
    asked.add_argument("--runs", type=int, default=1, help="Runs that learn; a row's loss is the least of theirs.")
    asked.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "label_noise.json")
    options = asked.parse_args()
    with options.file.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    texts, labels = [row[options.text] for row in rows], [row[options.label] for row in rows]
    flipped, wrong = planted(labels, options.seed)
    found = find_label_noise(embedded(load_embedder()[1], texts), flipped)
    result: dict[str, Any] = {
        "file": options.file.name, "rows": len(rows), "flipped": len(wrong), "seed": options.seed,
        "suspicion": {
            "precision_at_flipped": precision(found.ranking, wrong), "said_wrong": found.num_wrong,
            "precision_of_said": len(wrong & set(found.suspects)) / max(1, found.num_wrong), "estimated_fraction": found.fraction,
        },
    }  # fmt: skip
    print(json.dumps(result, indent=1), flush=True)
    if options.train:
        seeds = [options.seed + number for number in range(options.runs)]
        result["loss"] = {"runs": len(seeds), "precision_at_flipped": precision(by_loss(texts, flipped, seeds), wrong)}
        print(json.dumps(result["loss"]))
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def planted(labels: Sequence[str], seed: int) -> tuple[list[str], set[int]]:
    """Return the labels with a tenth replaced by another one, and where."""
    draw, classes, flipped = random.Random(seed), sorted(set(labels)), list(labels)
    places = draw.sample(range(len(labels)), round(SHARE * len(labels)))
    for place in places:
        flipped[place] = draw.choice([name for name in classes if name != labels[place]])
    return flipped, set(places)


def precision(ranking: Sequence[int], wrong: set[int]) -> float:
    """Return how many of the first rows, as many as were planted, are planted."""
    return len(wrong & set(ranking[: len(wrong)])) / len(wrong)


def embedded(embed: Embed, texts: Sequence[str]) -> Any:
    """Return the texts as vectors. [N, D]"""
    import torch

    found = [embed(texts[begin : begin + CHUNK]) for begin in range(0, len(texts), CHUNK)]
    return torch.cat(found)


def by_loss(texts: Sequence[str], labels: Sequence[str], seeds: Sequence[int]) -> list[int]:
    """Return the rows by their least loss in all runs, the largest first: loss stays high where every run finds it so."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place, "rows.csv")
        with file.open("w", encoding="utf-8", newline="") as lines:
            csv.writer(lines).writerows([("text", "label"), *zip(texts, labels, strict=True)])
        runs = []
        for number in seeds:
            values = {
                "model": "builtin:minilm", "data": {"path": str(file), "text": "text", "label": "label"}, "objective": "classify",
                "train": {"seed": number, "epochs": 1},
            }  # fmt: skip
            runs.append(train(build_recipe(values, "bench"), out=Path(place, f"run{number}")).path)
        return by_loss_of(runs, file, sorted(set(labels)))


def by_loss_of(runs: Sequence[Path], file: Path, labels: Sequence[str]) -> list[int]:
    """Return the rows of a file by what runs find their least loss."""
    columns = Data(path=(str(file),), text="text", label="label")
    items, _ = items_of(list(read_files([file])), columns, "label")
    models = load_models(runs, Job(kind="label", labels=tuple(labels)), None, print)
    losses: dict[str, float] = {}
    for model in models:
        for guess in model.guess(items):
            if guess.loss is not None:
                losses[guess.key] = min(losses.get(guess.key, float("inf")), guess.loss)
    by_line = {where.line: item.key for item in items for where in item.places}
    lines_of = [by_line.get(line, "") for line in sorted(by_line)]
    return sorted(range(len(lines_of)), key=lambda row: -losses.get(lines_of[row], 0.0))


if __name__ == "__main__":
    main()
