"""Speed of duplicates and of the whole default pipeline, and how many planted near duplicates are found.

    python -m bench.data --datatrove PYTHON [--rows 150000] [--shared-rows 50000] [--rounds 3] [--out bench/results/data.json]

    python -m bench.data --scale ROWS [ROWS ...]    memory, disk and time of very many rows: see scale.py

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
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.data import scale
from whet.data.deduplicate import without_duplicates
from whet.data.near import find_near
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


def of(python: str, script: str, *arguments: object) -> dict[str, float]:
    """Return what a script beside this one prints last, run by an interpreter in a process of its own."""
    command = [python, str(Path(__file__).with_name(script)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def with_interval(values: Sequence[float], seed: int = 0) -> dict[str, object]:
    """Return the median of the rounds with its 95 % interval by the bootstrap; with few rounds that is little more than their range."""
    drawn = random.Random(seed)
    medians = sorted(statistics.median(drawn.choices(values, k=len(values))) for _ in range(2000))
    return {"median": statistics.median(values), "low": medians[49], "high": medians[1949], "n": len(values)}


def machine() -> dict[str, object]:
    """Return what was measured on."""
    names = [
        line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")
    ]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": names[0] if names else platform.machine(),
        "cores": os.cpu_count(),
        "memory_bytes": memory,
        "python": platform.python_version(),
        "load_before": os.getloadavg()[0],
    }


def commit() -> str:
    """Return which state of the project was measured."""
    done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def measure(rows: Rows, num_shared: int, python: str | None, rounds: int, folder: Path) -> dict[str, object]:
    """Measure in turn: ours, datatrove's, the whole of `whet prepare`, so many times."""
    source = folder / "rows"
    source.mkdir()
    for part in range(2):
        lines = (
            json.dumps({"id": str(place), "text": text})
            for place, text in enumerate(rows.texts[:num_shared])
            if place % 2 == part
        )
        (source / f"{part}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "rows.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *((text, CLASSES[at % 8]) for at, text in enumerate(rows.texts))])
    size, where, num_shared = len(rows.texts), machine(), min(num_shared, len(rows.texts))
    duplicates, peers, prepared = [], [], []
    for number in range(rounds):
        duplicates.append(seconds(lambda: ours(source)))
        if python is not None:
            peers.append(of(python, "of_datatrove.py", source, folder / "work", os.cpu_count() or 1)["seconds"])
        prepared.append(of(sys.executable, "of_whet.py", folder / "rows.csv", folder / f"run{number}"))
        assert prepared[-1]["kept"] + prepared[-1]["dropped"] == size, "a row is missing"
    times = {"whet duplicates": duplicates, "datatrove duplicates": peers, "whet prepare": [one["seconds"] for one in prepared]}
    sizes = {"whet duplicates": num_shared, "datatrove duplicates": num_shared, "whet prepare": size}
    return {
        "commit": commit(),
        "machine": where,
        "rows": sizes,
        "mean_characters": statistics.mean(map(len, rows.texts)),
        "seconds": times,
        "rows_per_second": {name: with_interval([sizes[name] / one for one in some]) for name, some in times.items() if some},
        "times_datatrove": with_interval([peer / own for peer, own in zip(peers, duplicates, strict=True)]) if peers else None,
        "prepare": {
            "processor_s": [one["processor_s"] for one in prepared],
            "max_rss_bytes": max(one["max_rss_bytes"] for one in prepared),
        },
        "near_duplicates": found_and_right(rows),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--datatrove", metavar="PYTHON")
    parser.add_argument("--rows", type=int, default=150_000)
    parser.add_argument(
        "--shared-rows", type=int, default=50_000, help="the first rows, on which duplicates are looked for beside datatrove"
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/results/data.json"))
    parser.add_argument("--scale", type=int, nargs="+", metavar="ROWS", help="measure these sizes alone (see scale.py)")
    parser.add_argument("--work", type=Path, help="where --scale works; some 12 times the file's size is needed there")
    asked = parser.parse_args(arguments)
    if asked.scale:
        for number in asked.scale:
            with tempfile.TemporaryDirectory(dir=asked.work) as folder:
                one = {"commit": commit(), "machine": machine(), **scale.measure(number, Path(folder) / "work")}
            known = json.loads(asked.out.read_text(encoding="utf-8")) if asked.out.exists() else {}
            rest = [other for other in known.get("scale", []) if other["rows"] != number]
            known["scale"] = sorted([*rest, one], key=lambda other: int(other["rows"]))
            asked.out.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
            print(json.dumps(one, indent=1), flush=True)
        return
    with tempfile.TemporaryDirectory() as folder:
        found = measure(draw(asked.rows), asked.shared_rows, asked.datatrove, asked.rounds, Path(folder))
    if asked.out.exists() and "scale" in (known := json.loads(asked.out.read_text(encoding="utf-8"))):
        found["scale"] = known["scale"]
    asked.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
