"""`whet prepare` of very many rows: the most memory of all its processes together, disk, and time.

    python -m bench.data --scale ROWS [ROWS ...] [--work FOLDER] [--out bench/results/data.json]

Rows of about 100 characters are drawn: 2 % equal to an earlier one, 3 % with one word changed; of these nine in ten keep its label. Each size is a
process of its own, watched from outside twice a second. What is found is added to the results under "scale".
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CLASSES = "abcdefgh"
WORDS, WIDTH = 20_000, 16
BLOCK = 100_000
EVERY_S = 0.5


@dataclass(frozen=True)
class Drawn:
    """Rows as the numbers of their words, with what each was made of (-1: of nothing)."""

    words: list[str]
    rows: NDArray[np.uint16]
    labels: NDArray[np.uint8]
    copy_of: NDArray[np.int64]
    changed: NDArray[np.bool_]
    """Whether a word differs."""

    def text(self, row: int) -> str:
        return " ".join(self.words[word] for word in self.rows[row].tolist())


def draw(number: int, seed: int = 0) -> Drawn:
    """Return rows, the same for the same seed."""
    drawn = np.random.default_rng(seed)
    letters = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz", np.uint8)
    words = [drawn.choice(letters, size).tobytes().decode() for size in drawn.integers(2, 10, WORDS)]
    rows = drawn.integers(0, WORDS, (number, WIDTH), dtype=np.uint16)
    labels = drawn.integers(0, len(CLASSES), number, dtype=np.uint8)
    chance, copy_of = drawn.random(number), np.full(number, -1)
    changed = (chance >= 0.02) & (chance < 0.05)
    for row in np.flatnonzero(chance < 0.05).tolist():
        if row:
            copy_of[row] = other = int(drawn.integers(row))
            rows[row] = rows[other]
            if changed[row]:
                rows[row, drawn.integers(WIDTH)] = drawn.integers(WORDS)
            if drawn.random() < 0.9:
                labels[row] = labels[other]
    return Drawn(words, rows, labels, copy_of, changed)


def write(drawn: Drawn, path: Path) -> int:
    """Write the rows as csv; return the characters of their texts."""
    characters = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("text,label\n")
        for begin in range(0, len(drawn.rows), BLOCK):
            texts = [" ".join([drawn.words[word] for word in row]) for row in drawn.rows[begin : begin + BLOCK].tolist()]
            labels = drawn.labels[begin : begin + BLOCK].tolist()
            characters += sum(map(len, texts))
            file.writelines(f"{text},{CLASSES[label]}\n" for text, label in zip(texts, labels, strict=True))
    return characters


def memory_of(process: int) -> tuple[int, int]:
    """Return the resident bytes of a process and all that it has begun: summed, and with shared pages counted once."""
    every = {int(one.name): _parent(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()}
    ours, new = {process}, {process}
    while new:
        new = {one for one, parent in every.items() if parent in new} - ours
        ours |= new
    resident = proportional = 0
    for one in ours:
        try:
            lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        found = {line.partition(":")[0]: line.split()[1] for line in lines[1:]}
        resident += int(found.get("Rss", 0)) << 10
        proportional += int(found.get("Pss", 0)) << 10
    return resident, proportional


def _parent(process: str) -> int:
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def disk_of(folder: Path, process: int) -> int:
    """Return the bytes that files below a folder take, and those without a name that a process has open."""
    total = 0
    for file in [*folder.rglob("*"), *Path(f"/proc/{process}/fd").glob("*")]:
        try:
            found = file.stat()
        except OSError:  # it is gone meanwhile
            continue
        if stat.S_ISREG(found.st_mode) and (found.st_nlink == 0 or file.is_relative_to(folder)):
            total += found.st_blocks * 512
    return total


def measure(number: int, folder: Path) -> dict[str, object]:
    """Draw the rows, prepare them in a process of its own, and hold what was found against what was planted."""
    drawn = draw(number)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    characters = write(drawn, folder / "rows.csv")
    command = [sys.executable, str(Path(__file__).with_name("of_whet.py")), str(folder / "rows.csv"), str(folder / "run")]
    place = os.environ | {"XDG_CACHE_HOME": str(folder / "cache"), "TMPDIR": str(folder)}
    most = [0, 0, 0]
    load = os.getloadavg()[0]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=place) as process:
        looks = 0
        while process.poll() is None:
            if looks % 20 == 0:
                most[2] = max(most[2], disk_of(folder, process.pid))
            looks += 1
            resident, proportional = memory_of(process.pid)
            most[0], most[1] = max(most[0], resident), max(most[1], proportional)
            time.sleep(EVERY_S)
        assert process.stdout is not None
        said = json.loads(process.stdout.read().splitlines()[-1])
    assert said["kept"] + said["dropped"] == number, "a row is missing"
    found = {
        "rows": number,
        "mean_characters": characters / number,
        "seconds": said["seconds"],
        "processor_s": said["processor_s"],
        "rows_per_second": number / said["seconds"],
        "peak_gib": most[1] / 2**30,
        "peak_summed_gib": most[0] / 2**30,
        "disk_gib": most[2] / 2**30,
        "file_gib": (folder / "rows.csv").stat().st_size / 2**30,
        "load_before": load,
        "kept": said["kept"],
        "dropped": said["dropped"],
        "planted": planted(drawn, folder / "run" / "rejects.jsonl"),
        "n": 1,
    }
    shutil.rmtree(folder)
    return found


def planted(drawn: Drawn, rejects: Path) -> dict[str, object]:
    """Return how many planted copies with the label of what they were made of were found, where that one stays."""
    kinds: dict[int, str] = {}
    with rejects.open(encoding="utf-8") as file:
        for line in file:
            reject = json.loads(line)
            kinds[reject["line"] - 2] = reject["kind"]
    same = np.flatnonzero((drawn.copy_of >= 0) & (drawn.labels == drawn.labels[np.maximum(drawn.copy_of, 0)]))
    exact = [row for row in same.tolist() if not drawn.changed[row]]
    near = [
        row
        for row in same.tolist()
        if drawn.changed[row] and int(drawn.copy_of[row]) not in kinds and _similarity(drawn, row) >= 0.8
    ]
    return {
        "exact": len(exact),
        "exact_recall": sum(kinds.get(row) in {"duplicate", "near duplicate"} for row in exact) / max(1, len(exact)),
        "near": len(near),
        "near_recall": sum(kinds.get(row) in {"duplicate", "near duplicate"} for row in near) / max(1, len(near)),
    }


def _similarity(drawn: Drawn, row: int) -> float:
    texts = drawn.text(row), drawn.text(int(drawn.copy_of[row]))
    one, other = ({text[place : place + 5] for place in range(len(text) - 4)} for text in texts)
    return len(one & other) / len(one | other)
