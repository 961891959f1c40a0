"""Data too large for memory: which are, and the folder where their rows lie while they are prepared, kept after a kill."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from whet.data.find import find_files
from whet.data.marks import Compared
from whet.data.shelves import KEPT, Shelving
from whet.data.unpacked_size import unpacked_size
from whet.errors import DataError, Interrupted, WhetError
from whet.files import cache_folder, held_alone
from whet.recipe import Recipe
from whet.recipe_data import SOURCES, Data
from whet.stages.narrate import Narrator

LARGE = 64 << 20
"""Bytes of files from which on rows lie on the disk; in memory these would take some 25 times as much."""
DISK = 11
"""Bytes on the disk for each byte of the files, as measured on rows of 100 characters (10), and some more; short rows take more."""
LONG = 2 << 30
"""Bytes that take so long to compare that it is told: some seconds, or a minute from a slow disk."""
OLD = 14 * 24 * 3600
"""Seconds after which what a killed process has left is deleted."""


def num_bytes(data: Data) -> int:
    """Return the bytes of a section's files, as they are unpacked, roughly."""
    return sum(unpacked_size(file) for key in SOURCES for name in getattr(data, key) for file in find_files(Path(name), []))


def is_large(data: Data) -> bool:
    """Whether the files' rows should not be held in memory."""
    return num_bytes(data) >= LARGE


def keeps_on_disk(recipe: Recipe, data: Data, narrator: Narrator) -> bool:
    """Whether rows can be prepared on the disk; says why not."""
    reasons = {
        "tasks": recipe.tasks is not None,
        "data.streaming": recipe.data.streaming,
        "data.augment": data.augment is not None,
        "parents": bool(recipe.parents),
    }
    asked = [name for name, wanted in reasons.items() if wanted]
    if asked and not recipe.data.streaming:
        narrator.say(f"Note: the files are large, and {', '.join(asked)} needs all rows in memory: some 25 times their size.")
    return not asked


@contextmanager
def shelved(data: Data, needs: tuple[str, ...], narrator: Narrator) -> Iterator[Shelving]:
    """Give where rows are made. After an interruption what was made stays, and the next call with the same data goes on; else it goes.

    Raises DataError where the disk is full, or another process prepares the same data; Interrupted where the user stops it.
    """
    base = _base()
    asked = [data.model_dump(mode="json"), needs, [str(Path(name).resolve()) for key in SOURCES for name in getattr(data, key)]]
    folder = base / hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).hexdigest()[:32]
    lock = held_alone(folder)
    if lock is None:
        raise DataError(f"{', '.join(data.path)}: another process prepares the same data. Wait for it, or stop it first.")
    with lock:
        _sweep(base)
        folder.mkdir(exist_ok=True)
        for left in folder.iterdir():
            if left.suffix not in KEPT or not left.is_file():
                shutil.rmtree(left) if left.is_dir() else left.unlink()
        needed, free = DISK * num_bytes(data), shutil.disk_usage(folder).free
        narrator.say(
            f"Rows lie on the disk while they are prepared ({folder}): about {needed / 2**30:.1f} GiB, of {free / 2**30:.1f} GiB that are free."
        )
        with narrator.bar("Rows made", 100) as bar:
            shelving = Shelving(
                folder,
                lambda done, total: bar.advance(round(100 * done / max(1, total)), "per cent"),
                compared=compared_aloud(narrator),
            )
            try:
                yield shelving
            except KeyboardInterrupt:
                raise Interrupted("Stopped; the rows that were made are kept. To go on, give the same command again.") from None
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
                raise DataError(_full(Path(error.filename or folder), folder)) from None
            except WhetError:
                _clear(folder)
                raise
        if shelving.num_kept:
            narrator.say(f"{shelving.num_kept:,} rows were made before an interruption, and were not made again.")
        _clear(folder)


def compared_aloud(narrator: Narrator) -> Compared:
    """Return what says, at each tenth, how much is compared of files that were read before an interruption, where these are large."""
    said = -1

    def told(done: int, total: int) -> None:
        nonlocal said
        tenth = 10 * done // max(1, total)
        if total >= LONG and tenth != said:
            said = tenth
            narrator.say(
                f"Comparing the files with what was read of them before an interruption: {done / 2**30:.1f} of {total / 2**30:.1f} GiB."
            )

    return told


def _base() -> Path:
    """Return the folder of all folders where rows are made. Raises DataError where there can be none."""
    try:
        folder = cache_folder("prepare")
        found = folder.stat()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise DataError(
            f"{where}{error.strerror}. Rows of large files lie there while they are prepared; name another folder by XDG_CACHE_HOME."
        ) from None
    if found.st_uid != os.getuid() or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(
            f"{folder}: others may write there, and what lies there is read as whet's own. Make it yours alone (chmod 700), or name another folder "
            "by XDG_CACHE_HOME."
        )
    return folder


def _full(place: Path, folder: Path) -> str:
    """Return what is said where a disk is full. `folder` is where rows are made."""
    if place.is_relative_to(folder):
        return (
            f"{place}: the disk is full. Make room, or name a folder on another disk by XDG_CACHE_HOME; with the same "
            "folder the same command goes on where it stopped."
        )
    return f"{place}: the disk is full. Make room there; the same command then goes on where it stopped."


def _clear(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):  # what cannot be deleted now is when it is old
        folder.with_name(f"{folder.name}.lock").unlink(missing_ok=True)


def _sweep(base: Path) -> None:
    """Delete what was left long ago by processes that were killed."""
    for folder in base.iterdir():
        with suppress(FileNotFoundError):  # another process, at work beside this one, has just deleted it
            if folder.is_dir() and time.time() - folder.stat().st_mtime > OLD and (held := held_alone(folder)) is not None:
                with held:
                    _clear(folder)
