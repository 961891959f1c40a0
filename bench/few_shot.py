"""Few rows of each class: `contrastive` against plain `classify`, both with their automatic settings, paired on the same test rows.

    python bench/few_shot.py FOLDER --rows 8 --seeds 0 1 2 [--test-rows 1000] [--out few_shot]

FOLDER holds train.csv and test.csv with a text and a label in each row, such as banking77
(https://github.com/PolyAI-LDN/task-specific-datasets). For each seed, so many rows of each class of train.csv are drawn for training and
two others for validation; test rows are a draw that is the same for all seeds, and are scored once, after everything is chosen.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from whet.recipe_file import load_recipe
from whet.stages.evaluate import evaluate
from whet.stages.train import train
from whet.stats import bootstrap, mean, paired, stack

VALIDATION_ROWS = 2
"""Of each class, to stop by."""
OBJECTIVES = ("classify", "contrastive")


def read(file: Path) -> list[tuple[str, str]]:
    """Return text and label of each row; the label is the last column."""
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.reader(opened))[1:]
    return [(row[0], row[-1]) for row in rows]


def write(file: Path, rows: Sequence[tuple[str, str]]) -> None:
    with file.open("w", encoding="utf-8", newline="") as opened:
        csv.writer(opened).writerows([("text", "label"), *rows])


def draw(rows: Sequence[tuple[str, str]], per_class: int, seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return rows to learn from and rows to stop by, so many of each class."""
    generator, members = random.Random(seed), dict[str, list[tuple[str, str]]]()
    for row in dict.fromkeys(rows):
        members.setdefault(row[1], []).append(row)
    chosen = [generator.sample(members[label], per_class + VALIDATION_ROWS) for label in sorted(members)]
    return [row for some in chosen for row in some[:per_class]], [row for some in chosen for row in some[per_class:]]


@dataclass(frozen=True)
class Judged:
    """One model on the test rows."""

    right: dict[int, float]
    """1 where it was right, by row."""
    baselines: dict[str, float]
    """Accuracy of what it is compared with."""
    best_step: int
    train_s: float

    @property
    def accuracy(self) -> float:
        return sum(self.right.values()) / len(self.right)


def run(objective: str, folder: Path, seed: int) -> Judged:
    """Train and judge one model; return which test rows it and the baselines had right."""
    sets = [f"train.seed={seed}", "evaluate.resamples=100"]
    recipe = folder / f"{objective}.yaml"
    data = "{path: train.csv, validation: validation.csv, test: test.csv, text: text, label: label}"
    recipe.write_text(f"model: builtin:minilm\ndata: {data}\nobjective: {objective}\n", encoding="utf-8")
    begun = time.monotonic()
    made = train(load_recipe(recipe, sets), folder=folder, out=folder / objective)
    trained = time.monotonic()
    evaluate(made.path)
    lines = (made.path / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    right = {one["id"]: float(one["label"] == one["prediction"]) for one in map(json.loads, lines)}
    baselines = {name: one["metrics"]["accuracy"]["value"] for name, one in made.report["baselines"].items()}
    return Judged(right, baselines, made.manifest["phases"]["fit"]["best_step"], round(trained - begun, 1))


def compared(found: Mapping[str, Sequence[Judged]]) -> dict[str, object]:
    """Return the accuracy of each objective, mean over the seeds, and their difference, with intervals over test rows."""
    scores = {}
    for name, models in found.items():
        of_rows = np.mean([[one.right[row] for row in sorted(one.right)] for one in models], axis=0)
        scores[name] = stack([[value] for value in of_rows])
    told = {name: bootstrap(mean, values) for name, values in scores.items()}
    told["difference"] = paired(mean, scores["contrastive"], scores["classify"])
    return {name: {"value": one.value, "low": one.low, "high": one.high, "n": one.n} for name, one in told.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=8, help="training rows of each class")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--test-rows", type=int, default=1000)
    parser.add_argument("--out", type=Path, default=Path("few_shot"))
    asked = parser.parse_args()
    rows, held_out = read(asked.folder / "train.csv"), read(asked.folder / "test.csv")
    test = random.Random(0).sample(held_out, min(asked.test_rows, len(held_out)))
    found: dict[str, list[Judged]] = {name: [] for name in OBJECTIVES}
    for seed in asked.seeds:
        folder = asked.out / f"seed-{seed}"
        folder.mkdir(parents=True)
        learnt, stopped_by = draw([row for row in rows if row not in set(test)], asked.rows, seed)
        for name, some in (("train", learnt), ("validation", stopped_by), ("test", test)):
            write(folder / f"{name}.csv", some)
        for name in OBJECTIVES:
            found[name].append(run(name, folder, seed))
            one = found[name][-1]
            print(
                f"seed {seed}, {name}: {one.accuracy:.4f}, best step {one.best_step}, {one.train_s} s, {one.baselines}",
                flush=True,
            )
        print(json.dumps(compared(found)), flush=True)


if __name__ == "__main__":
    main()
