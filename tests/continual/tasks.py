"""Rows of two tasks for tiny models, and recipes that learn one after the other."""

from __future__ import annotations

import csv

from whet.recipe_file import build_recipe
from whet.testing.tiny import OPENINGS

COLOURS = ("red", "blue", "green", "old", "new", "big", "small", "lost")
TASKS = {"first": {"card": "billing", "parcel": "delivery"}, "second": {"ticket": "travel", "we": "other"}}


def write_task(folder, name, header="text,label"):
    """Write 64 rows of two classes, told apart by one word. Returns the file."""
    path = folder / f"{name}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        for colour in COLOURS:
            for thing, label in TASKS[name].items():
                writer.writerows([opening.format(f"{colour} {thing}"), label] for opening in OPENINGS)
    return path


def make_recipe(model, path, parents=(), technique="full", train=None, **more):
    quick = {"max_steps": 8, "batch_size": 8, "precision": "fp32", "learning_rate": 0.01, "refit": False}
    values = {
        "model": str(model),
        "parents": [str(one) for one in parents],
        "data": {"path": str(path), "text": "text", "label": "label"},
        "objective": "classify",
        "technique": technique,
        "train": quick | (train or {}),
        "evaluate": {"resamples": 100},
    }
    return build_recipe(values | more, "test")
