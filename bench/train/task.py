"""What a driver is asked, and what it answers: two JSON files. Imports nothing but the standard library."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Task:
    """Train so many steps, as fast as you can."""

    work: str
    mode: str
    model: str
    """Folder of the network and its tokenizer, as `save_pretrained` writes them."""
    start: str | None
    """Folder of the adapter's first values, in PEFT's format; none where all weights learn."""
    rows: str
    """File of the steps' rows."""
    scratch: str
    """Folder that may be written into; it is thrown away."""
    learning_rate: float
    rank: int
    alpha: int
    gpu: bool = False
    """On a CUDA device; else on the processor."""
    settings: dict[str, Any] = field(default_factory=dict)
    """What is chosen for this trainer, such as the precision of its frozen weights."""

    def steps(self) -> list[list[dict[str, Any]]]:
        """Return the rows of each step: ids, supervised_from, label."""
        found: list[list[dict[str, Any]]] = json.loads(Path(self.rows).read_text())
        return found


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a driver saw, step by step."""

    seconds: list[float]
    foreign_s: list[float]
    """Seconds of the processors that others took meanwhile."""
    losses: list[float]
    peak_bytes: int
    versions: dict[str, str]


def text_of(ids: list[int]) -> str:
    """Return the text whose tokens these are, none of them a special one."""
    return " ".join(f"w{token}" for token in ids)


def write(place: Path, what: Task | Measured) -> None:
    place.write_text(json.dumps(asdict(what)))


def drive(train: Callable[[Task], Measured]) -> None:
    """Read the task that the command line names, train, and write what was measured to the second file."""
    task, answer = map(Path, sys.argv[1:3])
    write(answer, train(Task(**json.loads(task.read_text()))))
