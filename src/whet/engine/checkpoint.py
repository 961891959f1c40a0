"""Checkpoints that are whole or absent: written aside, fsynced, hashed, and renamed last. Safetensors and JSON only."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from whet.files import file_hash, whole_folder
from whet.models.tensors import load_tensors, save_tensors

TENSORS, STATE, HASHES = "tensors.safetensors", "state.json", "hashes.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One saved step: all tensors by name, and everything else that decides the future."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, Any]


def save(folder: Path, step: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> None:
    """Write checkpoint `step-N` into `folder`. Later ones, which a resumed run found damaged, go: they would outlive good ones."""
    with whole_folder(folder / f"step-{step}") as partial:
        save_tensors(tensors, partial / TENSORS)
        (partial / STATE).write_text(json.dumps(state, allow_nan=False))
        hashes = {name: file_hash(partial / name) for name in (TENSORS, STATE)}
        (partial / HASHES).write_text(json.dumps(hashes))
    for later in steps(folder):
        if later > step:
            shutil.rmtree(folder / f"step-{later}")


def load(folder: Path, step: int) -> Checkpoint | None:
    """Return a checkpoint whose hashes hold, else None."""
    place = folder / f"step-{step}"
    try:
        hashes = json.loads((place / HASHES).read_text())
        if not isinstance(hashes, dict) or any(file_hash(place / name) != hashes.get(name) for name in (TENSORS, STATE)):
            return None
        return Checkpoint(step, load_tensors(place / TENSORS), json.loads((place / STATE).read_text()))
    except (OSError, ValueError):
        return None


def load_latest(folder: Path) -> tuple[Checkpoint | None, list[int]]:
    """Return the latest good checkpoint, and the steps of later ones that are torn or altered."""
    damaged: list[int] = []
    for step in sorted(steps(folder), reverse=True):
        found = load(folder, step)
        if found is not None:
            return found, damaged
        damaged.append(step)
    return None, damaged


def steps(folder: Path) -> list[int]:
    """Return the steps that have a checkpoint, damaged ones too."""
    return sorted(
        int(place.name.removeprefix("step-")) for place in folder.glob("step-*") if re.fullmatch("[0-9]{1,18}", place.name[5:])
    )


def retain(folder: Path, keep: int, best: int | None) -> None:
    """Delete all but the last `keep` checkpoints and the best one."""
    for step in steps(folder)[:-keep]:
        if step != best:
            shutil.rmtree(folder / f"step-{step}")
