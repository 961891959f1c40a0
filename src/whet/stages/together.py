"""A run on several devices: the first process makes it and writes it, and the others follow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from whet.engine.parallel import from_first, joined, leads, wait
from whet.run import Run

T = TypeVar("T")


def led(work: Callable[[], Run], follow: Callable[[Path, Path | None], None]) -> Run:
    """Do the work in the first process, and let the others follow each run that it announces. All return the last one."""
    with joined():
        if leads():
            run = work()
            from_first((None, run.path))
            return run
        while True:
            path, more = from_first((None, Path()))
            if path is None:
                return Run(more)
            follow(path, more)


def announce(path: Path, folder: Path | None) -> None:
    """Let the other processes follow a run that is there; `folder` is where the user's plugin files lie."""
    from_first((path, folder))


def in_turn(make: Callable[[], T]) -> T:
    """Let the first process make something and leave it behind, and then the others, who find it."""
    if leads():
        made = make()
        wait()
        return made
    wait()
    return make()
