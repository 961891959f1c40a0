"""Which files a path means: a file, a pipe, a folder, or a pattern such as exports/**/*.csv."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from whet.data.conll import SUFFIXES as CONLL
from whet.data.encoding import KINDS
from whet.data.notices import counted
from whet.data.unpack import suffix_of
from whet.display import brief, listed, name_fault
from whet.errors import DataError
from whet.files import is_pattern

TABLES = (
    frozenset(
        {".csv", ".tsv", ".tab", ".json", ".jsonl", ".ndjson", ".parquet", ".arrow", ".feather", ".xlsx", ".xlsm", ".txt", ""}
    )
    | CONLL
)
"""Endings of files with rows."""
DOCUMENTS = frozenset({".md", ".markdown", ".html", ".htm", ".pdf", ".docx"})
"""Endings of files that are texts; they may lie in one folder."""
SUFFIXES = TABLES | DOCUMENTS | {".zip"}
SPLIT_STEM = re.compile(r"(?:^|[_\-.])(?:train|test|val|valid|validation|dev|eval)(?:[_\-.]|$|set)", re.IGNORECASE)
ABOUT = re.compile(
    r"(?:read[ _-]?me|licen[cs]e)(?:[._-]\w+)?|copying|notice|change[ _-]?log|authors|contributing|citation", re.IGNORECASE
)
"""Names of text files that tell of the files beside them."""
SHOWN = 8
T = TypeVar("T")


def find_files(path: Path, notices: list[str]) -> list[Path]:
    """Return the file, the files of a folder, or those of a pattern. Raises DataError where there is nothing to read."""
    fault = name_fault(path)
    if fault:
        raise DataError(f"{str(path)!r}: {fault} Rename the file.")
    if path.is_file() or path.is_fifo():
        return [path]
    if path.is_dir():
        files = belonging([file for file in path.iterdir() if file.is_file()], str(path), lambda file: file.name)
        left = sorted(
            other.name for other in path.iterdir() if other.is_file() and other not in files and other.name[0] not in "._"
        )
        beside = f", and {listed(left, SHOWN)} left out" if left else ""
        notices.append(
            f"{path}: a folder; {counted(len(files), 'file')} of it {'was' if len(files) == 1 else 'were'} read{beside}."
        )
        return files
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: a link that leads to nothing ({path.readlink()}). Give the file that it should lead to.")
    if path.exists():
        raise DataError(f"{path}: a device or a socket, which has no rows. Give a file, a folder, or a pipe.")
    if is_pattern(path):
        files = _fitting(path)
        if not files:
            raise DataError(
                f"{path}: a pattern that no file fits. * stands for any name, ** for any folders; you are in {Path.cwd()}."
            )
        notices.append(f"{path}: a pattern; {len(files)} files fit it and were read.")
        return files
    near = _like(path) if path.parent.is_dir() else []
    hint = f" Files there: {', '.join(near[:SHOWN])}{', ...' if len(near) > SHOWN else ''}." if near else ""
    raise DataError(f"{path}: there is no such file.{hint} Give the path from the folder that you are in.")


def _like(path: Path) -> list[str]:
    """Return the names of the files that lie where a file was looked for: those like its name first, no hidden ones."""
    names = sorted(other.name for other in path.parent.glob("*") if other.is_file() and other.name[0] != ".")
    close = difflib.get_close_matches(path.name, names, n=SHOWN)
    return [*close, *(name for name in names if name not in close)]


def _fitting(pattern: Path) -> list[Path]:
    anchor = Path(pattern.anchor)
    try:
        return sorted(file for file in anchor.glob(str(pattern.relative_to(anchor))) if file.is_file())
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"{pattern}: not a pattern of files: {error}. ** stands alone between two slashes.") from None


def belonging(found: Sequence[T], where: str, name_of: Callable[[T], str]) -> list[T]:
    """Return the files of a folder or an archive that have rows, in order of their names; `where` is what it is called.

    Beside files with rows, documents such as a README are no data. Raises DataError where there are none, or they may not belong together.
    """
    named = {
        name: one for one in found if (name := name_of(one)) and suffix_of(name) in SUFFIXES and Path(name).name[0] not in "._"
    }
    kinds = {name: suffix_of(name) for name in named}
    tables = {name for name, kind in kinds.items() if kind not in DOCUMENTS}
    tables = {name for name in tables if kinds[name] not in {".txt", ""} or not ABOUT.fullmatch(Path(name).stem)} or tables
    names = sorted(tables or named)
    if not names:
        raise DataError(f"{where}: without data files. Give a file, or a folder, an archive or a pattern with files of: {KINDS}.")
    if len({kinds[name] for name in tables}) > 1 or (
        len(names) > 1 and any(SPLIT_STEM.search(Path(name).stem) for name in names)
    ):
        shown = ", ".join(map(brief, names[:SHOWN])) + (f" and {len(names) - SHOWN:,} more" if len(names) > SHOWN else "")
        raise DataError(
            f"{where}: holds files that may not belong together ({shown}). Name the ones to learn from in data.path, "
            "and those to test on in data.test."
        )
    return [named[name] for name in names]
