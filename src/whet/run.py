"""A run: the directory that is the only thing passed between verbs.

`recipe.yaml` resolved, `manifest.json`, `log.jsonl`, `data/`, `rejects.jsonl`, `splits.json`, `checkpoints/`, `model/`,
`predictions.jsonl`, `report.json`, `report.html`; `evaluations/NAME/` with the last three for each further file it was judged on.
"""

from __future__ import annotations

import datetime
import errno
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pydantic
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from whet.display import quoted
from whet.errors import RunError
from whet.files import file_hash, hold_lock, read_lines, sync_file, sync_folder, write_json

MANIFEST, LOG, LOCK, RECIPE = "manifest.json", "log.jsonl", ".lock", "recipe.yaml"
RUNS, EVALUATIONS = Path("runs"), "evaluations"


@dataclass(frozen=True, slots=True)
class Run:
    """A run directory. It exists under its name only once its data are prepared."""

    path: Path
    evaluation: str | None = None
    """The further evaluation that `report` is of; none: the run's own test rows."""
    mirror: Callable[[Mapping[str, Any]], None] | None = field(default=None, compare=False, repr=False)
    """Who is told of each record of the log once it is written."""
    owned: bool = field(default=True, compare=False, repr=False)
    """This process writes it; of several that train together only the first does, and what the others would write is not written."""

    @property
    def results(self) -> Path:
        """Where the report, its page and the predictions lie."""
        return self.path if self.evaluation is None else self.path / EVALUATIONS / self.evaluation

    def evaluations(self) -> list[Run]:
        """Return the run once for each further file that it was judged on, by name."""
        folders = sorted((self.path / EVALUATIONS).glob("*/report.json"))
        return [Run(self.path, file.parent.name) for file in folders if file.parent.name[0] != "."]

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
        file = self.results / "report.json"
        if not file.is_file():
            raise RunError(f"{self.path}: not evaluated yet. Run: whet evaluate {quoted(self.path)}")
        loaded, damage = _read(file, _Report)
        if damage:
            raise RunError(f"{file}: damaged ({damage}). Write it again with: whet evaluate {quoted(self.path)}")
        return loaded

    def note(self, **values: Any) -> None:
        """Add to the manifest."""
        if not self.owned:
            return
        write_json(self.path / MANIFEST, self.manifest | values)

    def log(self, record: Mapping[str, Any]) -> None:
        """Append to the log. What it holds depends on recipe and data only, so a resumed run writes the same bytes."""
        if not self.owned:
            return
        with (self.path / LOG).open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        self.tell(record)

    def tell(self, record: Mapping[str, Any]) -> None:
        """Tell who mirrors the run, if anyone, of a record."""
        if self.mirror is not None:
            self.mirror(record)

    def log_size(self) -> int:
        """Return the log's bytes, which are on the disk by then; a checkpoint keeps it, so that resuming cuts off what came after."""
        file = self.path / LOG
        if not file.exists():
            return 0
        sync_file(file)
        return file.stat().st_size

    def cut_log(self, size: int) -> None:
        """Cut the log to what it was at a checkpoint. Raises RunError where it has become shorter than that."""
        if not self.owned:
            return
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
            found = read_lines(file) if file.exists() else []
            for number, record in enumerate(found, 1):
                wrong = _log_fault(record)
                if wrong:
                    raise ValueError(f"line {number}: {wrong}")
        except (ValueError, RecursionError, OSError) as error:
            raise RunError(f"{file}: damaged ({error}). Restore it from a backup, or train again.") from None
        return found

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one process. Raises RunError where another one is at work on it."""
        lock = hold_lock(self.path / LOCK)
        if lock is None:
            raise RunError(f"{self.path}: another process is at work on this run. Wait for it, or stop it first.")
        with lock:
            yield


class _Part(BaseModel):
    """What a file of a run must hold for the verbs that read it; it may hold more."""

    model_config = ConfigDict(strict=True)


class _Base(_Part):
    name: str
    sha256: str
    parameters: int
    kind: str


class _Plan(_Part):
    num_steps: Annotated[int, Field(ge=1)]
    batch_size: int
    learning_rate: FiniteFloat
    precision: str


class _Phase(_Part):
    steps: int
    best_step: int
    best_loss: FiniteFloat | None
    stopped_early: bool
    log_bytes: int


class _Decision(_Part):
    key: str
    value: Any
    reason: str


class _Manifest(_Part):
    kind: str
    data_sha256: str
    recipe_sha256: str
    plugins: dict[str, str] = {}
    decisions: list[_Decision] = []
    preflight: list[dict[str, Any]] = []
    machine: dict[str, Any] = {}


class _Trained(_Manifest):
    base: _Base
    plan: _Plan
    phases: dict[str, _Phase]
    actual: dict[str, Any]


class _Score(_Part):
    value: FiniteFloat | None
    low: FiniteFloat | None
    high: FiniteFloat | None
    n: int


class _Scores(_Part):
    metrics: dict[str, _Score]


class _Verdict(_Part):
    sentence: str
    decision: str | None
    baseline: str | None


class _Report(_Scores):
    metric: str
    n: int
    verdict: _Verdict
    baselines: dict[str, _Scores]
    higher_is_better: dict[str, bool]
    slices: dict[str, dict[str, Any]] | None = None
    hints: list[str] | None = None


def _read(file: Path, shape: type[_Part]) -> tuple[dict[str, Any], str]:
    """Return a JSON file of a run, and what is wrong with it, in words; nothing where it is as it should be."""
    try:
        loaded = json.loads(file.read_text(encoding="utf-8"), parse_constant=_no_number)
        if not isinstance(loaded, dict):
            return {}, "it holds no object"
        shape.model_validate(loaded)
    except pydantic.ValidationError as error:
        missing = [".".join(map(str, one["loc"])) for one in error.errors() if one["type"] == "missing"]
        first = error.errors()[0]
        return {}, f"it has no {', '.join(missing)}" if missing else f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    except (OSError, ValueError, RecursionError) as error:
        return {}, getattr(error, "strerror", None) or str(error)
    return loaded, ""


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _log_fault(record: Any) -> str:
    """Return what is wrong with a line of the log; nothing where it is as it should be."""
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return "it says no kind"
    if record["kind"] not in {"step", "validation"}:
        return ""
    loss = record.get("loss")
    if not isinstance(loss, int | float) or not math.isfinite(loss):
        return "its loss is no number"
    whole = isinstance(record.get("step"), int) and isinstance(record.get("phase"), str)
    return "" if whole else "it says no phase or no step"


def open_run(path: Path) -> Run:
    """Return the run at `path`, its manifest and recipe as they were written. Raises RunError that says what is there instead."""
    try:
        there = path.exists()
    except ValueError as error:
        raise RunError(f"{str(path)!r}: cannot be the name of a run: {error}.") from None
    if not there:
        held = [inner for inner in RUNS.glob("*/") if (inner / MANIFEST).is_file()]
        known = [inner.name for inner in sorted(held, key=lambda inner: (inner / MANIFEST).stat().st_mtime)[-5:]]
        hint = f" The latest under runs/: {', '.join(known)}." if known else ""
        raise RunError(f"{path}: there is no such run.{hint} Name a folder that `whet train` or `whet auto` wrote.")
    if not (path / MANIFEST).is_file():
        raise RunError(f"{path}: not a run (it has no {MANIFEST}). Name a folder that `whet train` or `whet auto` wrote.")
    run, damage = Run(path), _manifest_fault(path / MANIFEST)
    if damage:
        raise RunError(f"{path / MANIFEST}: damaged ({damage}). Restore it from a backup, or train again.")
    stored = path / RECIPE
    if not stored.is_file():
        raise RunError(f"{stored}: this file is missing; the run is not complete. Restore it from a backup, or train again.")
    if file_hash(stored) != run.manifest["recipe_sha256"]:
        raise RunError(
            f"{stored}: was altered after the run began, so what the run says of itself would not be true. Restore it from a backup; "
            "for other settings begin a new run from a recipe of your own."
        )
    return run


def _manifest_fault(file: Path) -> str:
    """Return what is wrong with a manifest, in words; nothing where it is whole."""
    loaded, damage = _read(file, _Part)
    if damage or not isinstance(loaded.get("kind"), str):
        return damage or "it says no kind"
    damage = _read(file, _Trained if loaded["kind"] == "train" else _Manifest)[1]
    if damage or loaded["kind"] != "train":
        return damage
    seconds = loaded["actual"].get("train_s")
    return "" if isinstance(seconds, int | float) else "it has no actual.train_s"


def free_path(out: Path | None, name: str) -> Path:
    """Return the folder of a new run, checked to be free. Raises RunError."""
    if out is None:
        stem = RUNS / f"{datetime.date.today().isoformat()}-{name}"
        candidates = [stem, *(stem.with_name(f"{stem.name}-{number}") for number in range(2, 1000))]
        out = next(path for path in candidates if not path.exists())
    if out.is_dir():
        raise RunError(f"{out}: this folder exists, and nothing is written over. Name another one with --out{_resuming(out)}")
    if out.exists() or out.is_symlink():
        raise RunError(f"{out}: a file stands where the run's folder should be. Name another place with --out.")
    parent = next(above for above in out.absolute().parents if above.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise RunError(f"{out}: cannot be made, {parent} is not a folder you may write to. Name another place with --out.")
    return out


def _resuming(out: Path) -> str:
    """Return how to go on with the run in a folder; nothing where it holds none that can be resumed."""
    try:
        manifest = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        kind = "retrain" if "retrain" in manifest else manifest["kind"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return ""
    return f", or go on with the run in it: whet {kind} --resume {quoted(out)}" if kind in {"train", "search", "retrain"} else ""


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
            if (partial / RECIPE).is_file():
                Run(partial).note(recipe_sha256=file_hash(partial / RECIPE))
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
