"""Rows that were tokenised once, in files named by the hash of all that decides them, and mapped into memory when they are read again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xxhash
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from whet.errors import TrainingError
from whet.files import sync_file
from whet.types import Row, Unit

FORMAT = "whet tokens 1"
WORDS = ((torch.uint8, 1 << 8), (torch.uint16, 1 << 16), (torch.int32, 1 << 31))
"""In what ids are kept: the first type that holds the largest."""
UNUSED_DAYS = 30


@dataclass(frozen=True, slots=True)
class Tokenised:
    """The rows of one piece of data. Their tensors lie in the file until a row is asked for."""

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]
    """What was noted with them."""

    @property
    def num_rows(self) -> int:
        return len(self.tensors["lengths"])

    def numbers(self, name: str) -> NDArray[Any]:
        """Return one of the arrays that were noted with them."""
        return self.tensors[f"noted.{name}"].numpy()

    def row(self, place: int, row_id: int) -> Row:
        """Return one row, under an id."""
        begin, end = int(self.tensors["starts"][place]), int(self.tensors["starts"][place + 1])
        tokens = {name[7:]: tensor[begin:end].float() for name, tensor in self.tensors.items() if name.startswith("tokens.")}
        numbers: dict[str, dict[str, float]] = {"scalars": {}, "weights": {}}
        for name, tensor in self.tensors.items():
            kind, _, key = name.partition(".")
            if kind in numbers:
                numbers[kind][key] = float(tensor[place])
        source = None
        if "source" in self.tensors:
            first, last = int(self.tensors["source_starts"][place]), int(self.tensors["source_starts"][place + 1])
            source = self.tensors["source"][first:last].long()
        ids = self.tensors["ids"][begin:end].long()
        return Row(row_id, ids, tokens, numbers["scalars"], weights=numbers["weights"], source=source)


def make_room(folder: Path, needed: int) -> int:
    """Return the bytes that are free where tokens are kept, after removing what no run needs any more.

    Tokens that were of no use for a month are removed; others that were of none for a day only where `needed` bytes are not free, the
    longest unused first. What is removed is made again where a run asks for it.
    """
    used: list[tuple[float, Path]] = []
    for file in folder.rglob("*.safetensors"):
        with suppress(FileNotFoundError):  # another run makes room too
            used.append((file.stat().st_mtime, file))
    for when, file in sorted(used):
        days = (time.time() - when) / 86_400
        if days > UNUSED_DAYS or (days > 1 and shutil.disk_usage(folder).free < needed):
            file.unlink(missing_ok=True)
    return shutil.disk_usage(folder).free


def stored_bytes(units: Sequence[Unit]) -> int:
    """Return about how many bytes units take, when they are kept."""
    return sum(
        len(row.ids) * (2 + len(row.tokens)) + 2 * (0 if row.source is None else len(row.source)) + 40
        for unit in units
        for row in unit
    )


def fits(units: Sequence[Unit]) -> bool:
    """Whether such units can be kept: single rows that hold tokens and numbers, and nothing that is scored later."""
    return all(len(unit) == 1 and unit[0].example is None and not unit[0].vectors for unit in units)


def keep(file: Path, units: Sequence[Unit], noted: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write units, which fit, with some arrays and facts; the file takes its name once it is whole."""
    rows = [unit[0] for unit in units]
    found: dict[str, Tensor] = {f"noted.{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in noted.items()}
    found["lengths"] = torch.tensor([len(row.ids) for row in rows], dtype=torch.int32)
    found["starts"] = _starts([len(row.ids) for row in rows])
    found["ids"] = _small(_joined([row.ids for row in rows]))
    first = rows[0] if rows else None
    for name in first.tokens if first else ():
        found[f"tokens.{name}"] = _flags(_joined([row.tokens[name] for row in rows]))
    for kind in ("scalars", "weights") if first else ():
        for name in getattr(first, kind):
            found[f"{kind}.{name}"] = torch.tensor([getattr(row, kind)[name] for row in rows], dtype=torch.float64)
    if first is not None and first.source is not None:
        sources = [row.source for row in rows if row.source is not None]
        found["source"], found["source_starts"] = _small(_joined(sources)), _starts([len(one) for one in sources])
    partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_file(found, partial, {"format": FORMAT, "facts": json.dumps(facts), "digest": _digest(found, json.dumps(facts))})
        sync_file(partial)
        partial.replace(file)
    except (OSError, SafetensorError) as error:
        raise TrainingError(
            f"{file.parent.parent}: tokens could not be kept: {getattr(error, 'strerror', None) or error}. Make room or mend it, or name a "
            "folder elsewhere by XDG_CACHE_HOME, and go on with: whet train --resume"
        ) from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def kept(file: Path) -> Tokenised | None:
    """Return what a file holds, mapped into memory; none where there is no such file, or it is torn or was altered."""
    try:
        with safe_open(file, "pt") as opened:
            about = opened.metadata() or {}
            if about.get("format") != FORMAT:
                return None
            found = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
        if about.get("digest") != _digest(found, about["facts"]):
            return None
        os.utime(file)  # when it was last of use
        return Tokenised(found, json.loads(about["facts"]))
    except (OSError, SafetensorError, ValueError, KeyError):
        return None


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return 128 bits of what is held, by which altered bytes are noticed."""
    found = xxhash.xxh3_128(facts.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)} ".encode())
        found.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return str(found.hexdigest())


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if tensors else torch.zeros(0, dtype=torch.int64)


def _starts(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths).tolist()] if lengths else [0], dtype=torch.int64)


def _small(ids: Tensor) -> Tensor:
    most = int(ids.max()) if len(ids) else 0
    return ids.to(next(kind for kind, limit in WORDS if most < limit))


def _flags(values: Tensor) -> Tensor:
    """Return numbers that are all 0 or 1 in a byte each; others as they are."""
    small = values.to(torch.uint8)
    return small if bool((small == values).all()) else values
