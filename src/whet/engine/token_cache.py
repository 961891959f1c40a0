"""Rows that were tokenised once, in files named by the hash of all that decides them, and mapped into memory when they are read again."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Hashable, Mapping, Sequence
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
from whet.files import cache_folder, sync_file
from whet.types import Row, Unit

FORMAT = "whet tokens 2"
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
        vectors = {name[8:]: tensor[place] for name, tensor in self.tensors.items() if name.startswith("vectors.")}
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
        return Row(row_id, ids, tokens, numbers["scalars"], vectors, weights=numbers["weights"], source=source)

    def rows(self, ids: Sequence[int]) -> list[Row]:
        """Return all rows, in their order, under these ids; of wide ones nothing is copied."""
        lengths = self.tensors["lengths"].tolist()
        of_tokens = {
            name: list(torch.split(self.tensors[name].float(), lengths)) for name in self.tensors if name.startswith("tokens.")
        }
        numbers = {name: self.tensors[name].tolist() for name in self.tensors if name.partition(".")[0] in {"scalars", "weights"}}
        vectors = {name: self.tensors[name].unbind() for name in self.tensors if name.startswith("vectors.")}
        sources = None
        if "source" in self.tensors:
            sources = torch.split(self.tensors["source"].long(), self.tensors["source_starts"].diff().tolist())
        return [
            Row(
                row_id,
                tokens,
                _named("tokens.", of_tokens, place),
                _named("scalars.", numbers, place),
                _named("vectors.", vectors, place),
                weights=_named("weights.", numbers, place),
                source=None if sources is None else sources[place],
            )
            for place, (row_id, tokens) in enumerate(zip(ids, torch.split(self.tensors["ids"].long(), lengths), strict=True))
        ]


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


def place_of(key: str) -> Path:
    """Return where what a key decides is kept."""
    return cache_folder("tokens") / key[:2] / f"{key}.safetensors"


def stored_bytes(units: Sequence[Unit], *, wide: bool = False) -> int:
    """Return about how many bytes units take, when they are kept."""
    of_id, of_number = (8, 4) if wide else (2, 1)
    return sum(row.num_tokens * of_id + len(row.ids) * len(row.tokens) * of_number + 40 for unit in units for row in unit)


def fits(units: Sequence[Unit]) -> bool:
    """Whether such units can be kept: single rows of one form that hold tokens and numbers, and nothing that is scored later."""
    rows = [row for unit in units for row in unit]
    single = len(rows) == len(units) and all(row.example is None and not row.task for row in rows)
    usual = all(row.ids.dtype == torch.int64 and all(one.dtype == torch.float32 for one in row.tokens.values()) for row in rows)
    return single and usual and len({_form(row) for row in rows}) <= 1


def keep(
    file: Path, units: Sequence[Unit], noted: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], *, wide: bool = False
) -> None:
    """Write units, which fit, with some arrays and facts; the file takes its name once it is whole. Raises TrainingError.

    `wide` numbers are kept as rows have them, so that a row lies in the file itself; else in as few bytes as they need.
    """
    ids, flags = (_plain, _plain) if wide else (_small, _flags)
    rows = [unit[0] for unit in units]
    found: dict[str, Tensor] = {f"noted.{name}": torch.from_numpy(np.ascontiguousarray(value)) for name, value in noted.items()}
    found["lengths"] = torch.tensor([len(row.ids) for row in rows], dtype=torch.int32)
    found["starts"] = _starts([len(row.ids) for row in rows])
    found["ids"] = ids(_joined([row.ids for row in rows]))
    first = rows[0] if rows else None
    for name in first.tokens if first else ():
        found[f"tokens.{name}"] = flags(_joined([row.tokens[name] for row in rows]))
    for kind in ("scalars", "weights") if first else ():
        for name in getattr(first, kind):
            found[f"{kind}.{name}"] = torch.tensor([getattr(row, kind)[name] for row in rows], dtype=torch.float64)
    for name in first.vectors if first else ():
        found[f"vectors.{name}"] = torch.stack([row.vectors[name] for row in rows])
    if first is not None and first.source is not None:
        sources = [row.source for row in rows if row.source is not None]
        found["source"], found["source_starts"] = ids(_joined(sources)), _starts([len(one) for one in sources])
    partial, about = file.with_name(f".{file.name}.{os.getpid()}.partial"), json.dumps({**facts, "order": list(found)})
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        save_file(found, partial, {"format": FORMAT, "facts": about, "digest": _digest(found, about)})
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
            facts = json.loads(about["facts"])
            found = {name: opened.get_tensor(name) for name in facts.pop("order")}  # a row's fields come in the order they had
        if about.get("digest") != _digest(found, about["facts"]):
            return None
        os.utime(file)  # when it was last of use
        return Tokenised(found, facts)
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _digest(tensors: Mapping[str, Tensor], facts: str) -> str:
    """Return 128 bits of what is held, by which altered bytes are noticed."""
    found = xxhash.xxh3_128(facts.encode())
    for name in sorted(tensors):
        found.update(f"{name} {tensors[name].dtype} {tuple(tensors[name].shape)} ".encode())
        found.update(np.ascontiguousarray(tensors[name].numpy()).data)
    return str(found.hexdigest())


def _form(row: Row) -> Hashable:
    """Return what all rows of a file share."""
    vectors = tuple((name, value.dtype, tuple(value.shape)) for name, value in row.vectors.items())
    return tuple(row.tokens), tuple(row.scalars), vectors, tuple(row.weights), row.source is None


def _named(kind: str, columns: Mapping[str, Sequence[Any]], place: int) -> dict[str, Any]:
    """Return what the columns of a kind have at a place, by name."""
    return {name.removeprefix(kind): column[place] for name, column in columns.items() if name.startswith(kind)}


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(tensors)) if tensors else torch.zeros(0, dtype=torch.int64)


def _starts(lengths: Sequence[int]) -> Tensor:
    return torch.tensor([0, *np.cumsum(lengths).tolist()] if lengths else [0], dtype=torch.int64)


def _plain(values: Tensor) -> Tensor:
    return values


def _small(ids: Tensor) -> Tensor:
    most = int(ids.max()) if len(ids) else 0
    return ids.to(next(kind for kind, limit in WORDS if most < limit))


def _flags(values: Tensor) -> Tensor:
    """Return numbers that are all 0 or 1 in a byte each; others as they are."""
    small = values.to(torch.uint8)
    return small if bool((small == values).all()) else values
