"""Every data file that others have published in ../shared/data is understood by `new` and read by `prepare` without a hint, to the last row."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from whet.data.accounting import ACCOUNTING
from whet.data.read import read_files
from whet.data.rows import INTENDED, Reject
from whet.errors import DataError
from whet.recipe_file import load_recipe
from whet.stages.new import new
from whet.stages.prepare import prepare_run

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CONFIGURATION = {"config.json", "tokenizer_config.json", "mbu_reproduction_cases.json", "INDEX.md", "expected.json"}
"""No data: settings, results and pages."""
FILES = sorted(
    path for path in SHARED.rglob("*") if path.is_file() and "_licence" not in path.parts and path.name not in CONFIGURATION
)
PRINTED = {"SMSSpamCollection": 5574, "names.txt": 32_033}
"""Rows by the index of the folder."""
FEWEST = 3
"""Rows that can be divided into three parts."""


def independent_count(path: Path) -> int | None:
    """Rows as Python's own csv and json count them; none where a text may be divided in several ways."""
    if path.suffix == ".csv":
        with path.open(encoding="utf-8", newline="") as file:
            return sum(1 for row in csv.reader(file) if row) - 1
    if path.suffix == ".jsonl":
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        return sum(max(1, len(line.get("instances", []))) for line in lines)
    if path.suffix == ".json":
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, list):
            return len(value)
        lists = [inner for inner in value.values() if isinstance(inner, list) and not isinstance(inner[0], int)]
        return sum(map(len, lists)) if lists else 1
    return PRINTED.get(path.name)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FILES, reason="needs ../shared/data, which does not come with this project"),
]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHARED)))
def test_a_published_file_is_understood_and_every_row_accounted_for(path, tmp_path):
    found = list(read_files([path]))
    expected = independent_count(path)
    assert expected is None or len(found) == expected
    recipe, seen = new([path], out=tmp_path / "recipe.yaml")
    assert seen.objective is not None and seen.num_rows + seen.num_rejects == len(found)
    try:
        run = prepare_run(load_recipe(recipe), folder=tmp_path, out=tmp_path / "run")
    except DataError as error:
        assert "too few" in str(error) or "no assistant's turn" in str(error), error
        assert len(found) < FEWEST, "only a file with too few rows to divide may be refused"
        return
    said = json.loads((run.path / ACCOUNTING).read_text())["sources"]["path"]
    assert said["rows"] == len(found) == sum(said["used"].values()) + sum(said["dropped"].values())
    rejects = [Reject(**json.loads(line)) for line in (run.path / "rejects.jsonl").read_text().splitlines()]
    assert len(rejects) == sum(said["dropped"].values())
    assert not [reject for reject in rejects if reject.kind not in INTENDED], "a row that cannot be used"
