"""What was measured so far, one JSON line each, so that a benchmark can be stopped and gone on with. The newest of a round counts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.train.figures import Timing


@dataclass(frozen=True, kw_only=True)
class Failure:
    """A peer that could not be measured, and why."""

    work: str
    peer: str
    machine: str
    key: str
    reason: str
    at: str


@dataclass(frozen=True)
class Store:
    """Two files in a folder."""

    folder: Path

    def add(self, timing: Timing) -> None:
        self._append("timings.jsonl", asdict(timing))

    def fail(self, work: str, peer: str, machine: str, key: str, reason: str) -> None:
        at = datetime.now(UTC).isoformat(timespec="seconds")
        failure = Failure(work=work, peer=peer, machine=machine, key=key, reason=reason, at=at)
        self._append("failures.jsonl", asdict(failure))

    def timings(self, machine: str) -> list[Timing]:
        """Return what was measured on this machine, oldest first."""
        return [found for record in self._read("timings.jsonl") if (found := Timing(**record)).machine == machine]

    def failures(self, machine: str) -> list[Failure]:
        return [found for record in self._read("failures.jsonl") if (found := Failure(**record)).machine == machine]

    def _append(self, name: str, record: dict[str, Any]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def _read(self, name: str) -> Iterator[dict[str, Any]]:
        path = self.folder / name
        if path.is_file():
            for line in path.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)
