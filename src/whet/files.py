"""Files and folders that are found beside a recipe, and written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from whet.errors import RunError


def beside(name: str, folder: Path | None) -> str:
    """Return where a file or folder lies that a recipe in `folder` names: from the current folder, or else beside the recipe."""
    if folder is None:
        return name
    try:
        found = not _is_there(expanded(name)) and _is_there(folder / name)
    except (OSError, ValueError, NotImplementedError):  # no name of a file at all; whoever opens it says so
        return name
    return str(folder / name) if found else name


def expanded(name: str | Path) -> Path:
    """Return a path with its `~` as the home that it stands for; one of a user whom nobody knows is a name like any other."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def is_pattern(path: Path) -> bool:
    """Whether a path stands for those that fit it, such as exports/*.csv."""
    return any(mark in str(path) for mark in "*?[")


def _is_there(path: Path) -> bool:
    """Whether there is such a file or folder, or one that fits a pattern."""
    if path.exists() or not is_pattern(path):
        return path.exists()
    anchor = Path(path.anchor)
    return any(True for _ in anchor.glob(str(path.relative_to(anchor))))


@contextmanager
def naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Let an OSError that names no file, as of a write to a full disk, or that names `partial`, name this one."""
    try:
        yield
    except OSError as error:
        if error.filename in {None, str(partial)}:
            error.filename = str(path)
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file so that a reader, or a crash, sees the old one or the new one."""
    write_together({path: text})


def write_together(texts: Mapping[Path, str]) -> None:
    """Write text files that belong together: none of them takes its name before all are on the disk."""
    partials = {path: path.with_name(f".{path.name}.{os.getpid()}.partial") for path in texts}
    try:
        for path, text in texts.items():
            with naming(path, partials[path]), partials[path].open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
        for path, partial in partials.items():
            partial.replace(path)
        for folder in {path.parent for path in texts}:
            sync_folder(folder)
    finally:
        for partial in partials.values():
            partial.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file whole."""
    write_whole(path, json_text(value))


def json_text(value: Any) -> str:
    """Return what a JSON file holds."""
    return json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def write_lines(path: Path, records: Iterator[Mapping[str, Any]]) -> None:
    """Write a JSONL file whole."""
    write_chunks(path, (f"{_line(record)}\n".encode() for record in records))


def write_chunks(path: Path, chunks: Iterable[bytes]) -> None:
    """Write a file whole, of pieces that need not be in memory together."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with naming(path, partial):  # `chunks` may be read from files, which name themselves
            with partial.open("wb") as file:
                for chunk in chunks:
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        sync_folder(path.parent)
    finally:
        partial.unlink(missing_ok=True)


def lines_text(records: Iterable[Mapping[str, Any]]) -> str:
    """Return what a JSONL file holds."""
    return "".join(_line(record) + "\n" for record in records)


_line = json.JSONEncoder(ensure_ascii=False, allow_nan=False).encode


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Read a JSONL file."""
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]


@contextmanager
def whole_folder(path: Path, *, replace: bool = True) -> Iterator[Path]:
    """Give an empty folder to fill; it takes the name `path` once the block has ended well, else it is gone.

    Every file is fsynced before the rename. A folder already at `path` is replaced; without `replace` it stays, and RunError is raised.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    aside = path.with_name(f".{path.name}.{os.getpid()}.before")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        for inner in partial.rglob("*"):
            if inner.is_file():
                sync_file(inner)
        sync_folder(partial)
        if path.exists() and not replace:
            raise RunError(f"{path}: was made by another process meanwhile. Name another one with --out.")
        if path.exists():
            path.rename(aside)
        try:
            partial.rename(path)
        except OSError:
            if aside.exists():
                aside.rename(path)
            raise
        sync_folder(path.parent)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if path.exists():
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def unnamed_file() -> Iterator[Path]:
    """Give where a new, empty file of the system's temporary folder can be opened, until the end of the block, by child processes too.

    It has no name in any folder, so that nothing of it is left whatever ends this process. Only where the system has no /proc it has one.
    """
    if Path("/proc/self/fd").is_dir():
        with tempfile.TemporaryFile() as file:
            yield Path(f"/proc/{os.getpid()}/fd/{file.fileno()}")
    else:
        with tempfile.NamedTemporaryFile() as named:
            yield Path(named.name)


def cache_folder(name: str) -> Path:
    """Return the folder of that name in the user's cache for whet, made where it is missing. What lies there may be deleted at any time.

    Raises OSError.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    folder = (Path(base) if Path(base).is_absolute() else _home() / ".cache") / "whet" / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _home() -> Path:
    """Return the user's home. Raises OSError where there is none, as of a container's user without a name."""
    try:
        return Path.home()
    except RuntimeError:
        raise OSError(errno.ENOENT, "this user has no home folder; name a folder for what is kept by XDG_CACHE_HOME") from None


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Make the names in a folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        with naming(folder):
            os.fsync(handle)
    finally:
        os.close(handle)


def sync_file(path: Path) -> None:
    """Make a file's bytes survive a power cut."""
    with naming(path), path.open("rb") as file:
        os.fsync(file.fileno())


def held_alone(path: Path) -> TextIO | None:
    """Return the open file beside it that one process holds while it is open, or None where another one does. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return hold_lock(path.with_name(f"{path.name}.lock"))


def hold_lock(lock: Path) -> TextIO | None:
    """Return this file, open: one process holds it while it is open. None where another one does. Raises OSError."""
    while True:
        file = lock.open("a")  # not "w": what a link of this name leads to stays
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
        if lock.exists() and os.path.samestat(os.fstat(file.fileno()), lock.stat()):
            return file
        file.close()  # whoever held it has deleted it since it was opened: another process may hold the file of that name by now
