"""A run: the directory that is the only thing passed between verbs.

`recipe.yaml` resolved, `manifest.json`, `log.jsonl`, `data/`, `rejects.jsonl`, `splits.json`, `checkpoints/`, `model/`,
`predictions.jsonl`, `report.json`, `report.html`.
"""

from __future__ import annotations

import datetime
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.errors import RunError
from whet.files import read_lines, sync_file, sync_folder, write_json

MANIFEST, LOG, LOCK = "manifest.json", "log.jsonl", ".lock"
RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory. It exists under its name only once its data are prepared."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def manifest(self) -> dict[str, Any]:
        loaded: dict[str, Any] = json.loads((self.path / MANIFEST).read_text(encoding="utf-8"))
        return loaded

    @property
    def model(self) -> Path:
        return self.path / "model"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def report(self) -> dict[str, Any]:
        """The report, or RunError where the run has not been evaluated."""
        file = self.path / "report.json"
        if not file.is_file():
            raise RunError(f"{self.path}: not evaluated yet. Run: whet evaluate {self.path}")
        try:
            loaded: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise RunError(f"{file}: damaged ({error}). Write it again with: whet evaluate {self.path}") from None
        return loaded

    def note(self, **values: Any) -> None:
        """Add to the manifest."""
        write_json(self.path / MANIFEST, self.manifest | values)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append to the log. What it holds depends on recipe and data only, so a resumed run writes the same bytes."""
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def log_size(self) -> int:
        """Return the log's bytes, which are on the disk by then; a checkpoint keeps it, so that resuming cuts off what came after."""
        file = self.path / LOG
        if not file.exists():
            return 0
        sync_file(file)
        return file.stat().st_size

    def cut_log(self, size: int) -> None:
        """Cut the log to what it was at a checkpoint. Raises RunError where it has become shorter than that."""
        file = self.path / LOG
        if size > self.log_size():
            raise RunError(f"{file}: is shorter than when the run was stopped. Restore it from a backup, or begin a new run.")
        if file.exists():
            os.truncate(file, size)

    def sweep(self) -> None:
        """Delete what a killed process left half-written. Call it with the lock held."""
        for leftover in [*self.path.rglob(".*.partial"), *self.path.rglob(".*.before")]:
            shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)

    def records(self) -> list[dict[str, Any]]:
        """Return what was logged. Raises RunError where the log is damaged."""
        file = self.path / LOG
        try:
            return read_lines(file) if file.exists() else []
        except ValueError as error:
            raise RunError(f"{file}: damaged ({error}). Restore it from a backup, or train again.") from None

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process. Raises RunError where another one is at work on it."""
        with (self.path / LOCK).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise RunError(f"{self.path}: another process is at work on this run. Wait for it, or stop it first.") from None
            yield


def open_run(path: Path) -> Run:
    """Return the run at `path`. Raises RunError that says what is there instead."""
    if not path.exists():
        known = sorted(inner.name for inner in RUNS.glob("*/") if (inner / MANIFEST).is_file())[-5:]
        hint = f" The latest under runs/: {', '.join(known)}." if known else ""
        raise RunError(f"{path}: there is no such run.{hint} Name a folder that `whet train` or `whet auto` wrote.")
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path}: not a run (it has no {MANIFEST}). Name a folder that `whet train` or `whet auto` wrote.")
    try:
        manifest = json.loads((path / MANIFEST).read_text(encoding="utf-8"))
        damage = _missing(manifest)
    except (ValueError, RecursionError) as error:
        damage = str(error)
    if damage:
        raise RunError(f"{path / MANIFEST}: damaged ({damage}). Restore it from a backup, or train again.")
    return Run(path)


def _missing(manifest: Any) -> str:
    """Return what a manifest lacks, in words; nothing where it is whole."""
    if not isinstance(manifest, dict) or not isinstance(manifest.get("kind"), str):
        return "it says no kind"
    needed = ("data_sha256", "base", "plan", "phases", "actual") if manifest["kind"] == "train" else ("data_sha256",)
    absent = [key for key in needed if key not in manifest]
    return f"it has no {', '.join(absent)}" if absent else ""


def free_path(out: Path | None, name: str) -> Path:
    """Return the folder of a new run, checked to be free. Raises RunError."""
    if out is None:
        stem = RUNS / f"{datetime.date.today().isoformat()}-{name}"
        candidates = [stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000))]
        out = next(path for path in candidates if not path.exists())
    if out.is_dir():
        resume = f", or go on with the run in it: whet train --resume {out}" if (out / MANIFEST).is_file() else ""
        raise RunError(f"{out}: this folder exists, and nothing is written over. Name another one with --out{resume}")
    if out.exists() or out.is_symlink():
        raise RunError(f"{out}: a file stands where the run's folder should be. Name another place with --out.")
    parent = next(above for above in out.absolute().parents if above.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(f"{out}: cannot be made, {parent} is not a folder you may write to. Name another place with --out.")
    return out


@contextmanager
def new_run(path: Path, manifest: Mapping[str, Any]) -> Iterator[Run]:
    """Give a run to fill; it takes its name once the block has ended well, else nothing is left. Raises RunError.

    What an earlier process left beside it when it was killed goes too.
    """
    made = [above for above in (path.parent, *path.parent.parents) if not above.exists()]
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in path.parent.glob(".*.partial"):
        if (leftover / LOCK).is_file() and _is_abandoned(Run(leftover)):
            shutil.rmtree(leftover, ignore_errors=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with Run(partial).lock():
            write_json(partial / MANIFEST, manifest)
            yield Run(partial)
            _take_name(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        for folder in made:
            with suppress(OSError):  # not empty, where all went well
                folder.rmdir()


def _take_name(partial: Path, path: Path) -> None:
    try:
        partial.rename(path)
    except OSError as error:
        if error.errno not in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR}:
            raise
        raise RunError(f"{path}: was made by another process meanwhile. Name another one with --out.") from None
    sync_folder(path.parent)


def _is_abandoned(run: Run) -> bool:
    """Whether nobody is at work on it: the lock of a process that was killed is free."""
    try:
        with run.lock():
            return True
    except (RunError, OSError):
        return False
