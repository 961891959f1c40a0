"""A first run and the rows of a second task, tiny."""

from __future__ import annotations

import pytest
from tasks import TASKS, make_recipe, write_task

import whet


@pytest.fixture(scope="session")
def desk(tmp_path_factory, tiny_folder):
    """A folder with the rows of both tasks, and a run of the first for each of two techniques."""
    folder = tmp_path_factory.mktemp("continual")
    for name in TASKS:
        write_task(folder, name)
    model = tiny_folder("bert")
    whet.train(make_recipe(model, folder / "first.csv", train={"max_steps": 24}), out=folder / "first")
    technique = {"name": "lora", "rank": 2}
    whet.train(make_recipe(model, folder / "first.csv", technique=technique, train={"max_steps": 24}), out=folder / "lora")
    return folder
