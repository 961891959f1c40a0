"""Speed of duplicates and of the whole default pipeline, and how many planted near duplicates are found.

    python -m bench.data --datatrove PYTHON [--rows 40000] [--rounds 2] [--out bench/results/data.json]

PYTHON is the interpreter of an environment with datatrove (see of_datatrove.py). Rows of about 100 characters are drawn: some are equal to an
earlier one, some differ from one in a word. Both read the same jsonl files and look for the same thing by their own rules: datatrove by
5-grams of words, whet by 5-grams of characters, verified. Ours writes nothing here; the pipeline's row is `whet prepare` from a csv file.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import platform
import random
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from whet.data.deduplicate import without_duplicates
from whet.data.near import find_near
from whet.recipe_file import build_recipe
from whet.stages.prepare import prepare_run
from whet.types import Example

CLASSES = "abcdefgh"
SIMILARITY = 0.8


@dataclass(frozen=True)
class Rows:
    """Drawn texts, and of those that were made of an earlier one by changing a word, which one."""

    texts: list[str]
    made_of: dict[int, int]


def draw(number: int, seed: int = 0) -> Rows:
    """Return texts of about 100 characters: 2 % equal to an earlier one, 3 % with one word changed."""
    drawn = random.Random(seed)
    words = ["".join(drawn.choices("abcdefghijklmnopqrstuvwxyz", k=drawn.randint(2, 9))) for _ in range(20_000)]
    texts: list[str] = []
    made_of: dict[int, int] = {}
    for place in range(number):
        chance = drawn.random()
        other = drawn.randrange(place) if place else 0
        if chance < 0.02 and place:
            texts.append(texts[other])
        elif chance < 0.05 and place:
            some = texts[other].split()
            some[drawn.randrange(len(some))] = drawn.choice(words)
            made_of[place] = other
            texts.append(" ".join(some))
        else:
            texts.append(" ".join(drawn.choices(words, k=16)))
    return Rows(texts, made_of)


def similarity(one: str, other: str) -> float:
    """Return the Jaccard similarity of the 5-grams, written here anew: lower-case letters and single spaces are all that is drawn."""
    sets = [{text[place : place + 5] for place in range(len(text) - 4)} for text in (one, other)]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def ours(folder: Path) -> tuple[list[Example], object]:
    """Read the files, and look for exact and near duplicates."""
    texts = [json.loads(line)["text"] for file in sorted(folder.glob("*.jsonl")) for line in file.open(encoding="utf-8")]
    kept, _ = without_duplicates(Example(id=number, text=text) for number, text in enumerate(texts))
    return kept, find_near((one.text or "" for one in kept), SIMILARITY)


def found_and_right(rows: Rows) -> dict[str, float]:
    """Return which share of planted near duplicates is found, and which share of what is found is near by the definition."""
    near = find_near(rows.texts, SIMILARITY)
    planted = [  # a row is compared with those that stay, so one made of a copy says nothing
        one
        for one, other in rows.made_of.items()
        if other not in near.copies and similarity(rows.texts[one], rows.texts[other]) >= SIMILARITY
    ]
    right = [like for like in near.copies.values() if similarity(rows.texts[like.row], rows.texts[like.other]) >= SIMILARITY]
    recall = sum(one in near.copies for one in planted) / len(planted)
    return {"planted": len(planted), "recall": recall, "found": len(near.copies), "precision": len(right) / len(near.copies)}


def seconds(work: Callable[[], object]) -> float:
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def of_datatrove(python: str, folder: Path, work: Path) -> float:
    script = Path(__file__).with_name("of_datatrove.py")
    command = [python, str(script), str(folder), str(work), str(os.cpu_count() or 1)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"])


def pipeline(file: Path, out: Path) -> float:
    data = {"path": str(file), "text": "text", "label": "label"}
    recipe = build_recipe({"model": "builtin:minilm", "data": data, "objective": "classify"}, "bench")
    return seconds(lambda: prepare_run(recipe, out=out))


def measure(rows: Rows, python: str | None, rounds: int, folder: Path) -> dict[str, object]:
    """Measure in turn: ours, datatrove's, the whole pipeline, so many times; medians."""
    source = folder / "rows"
    source.mkdir()
    for part in range(2):
        lines = (json.dumps({"id": str(place), "text": text}) for place, text in enumerate(rows.texts) if place % 2 == part)
        (source / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, CLASSES[at % 8]) for at, text in enumerate(rows.texts))])
    times: dict[str, list[float]] = {"whet duplicates": [], "datatrove duplicates": [], "whet pipeline": []}
    for number in range(rounds):
        times["whet duplicates"].append(seconds(lambda: ours(source)))
        if python is not None:
            times["datatrove duplicates"].append(of_datatrove(python, source, folder / "work"))
        times["whet pipeline"].append(pipeline(folder / "rows.csv", folder / f"run{number}"))
    medians = {name: statistics.median(some) for name, some in times.items() if some}
    return {
        "rows": len(rows.texts),
        "seconds": times,
        "rows_per_second": {name: len(rows.texts) / median for name, median in medians.items()},
        "times_datatrove": medians["datatrove duplicates"] / medians["whet duplicates"] if python is not None else None,
        "near_duplicates": found_and_right(rows),
        "max_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count()},
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datatrove", metavar="PYTHON")
    parser.add_argument("--rows", type=int, default=40_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("bench/results/data.json"))
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = measure(draw(asked.rows), asked.datatrove, asked.rounds, Path(folder))
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
