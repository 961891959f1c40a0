"""optuna, where it is installed; and a study as one file of JSON lines, whole after every kill."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from whet.errors import RunError, installing

if TYPE_CHECKING:
    from optuna.study import Study

STUDY_NAME = "search"


def optuna() -> Any:
    """Return the module, quiet. Raises RunError where it is not installed."""
    try:
        import optuna as module
    except ModuleNotFoundError as error:
        raise RunError(f"searching needs {error.name}, which is not installed. Run: {installing('search')}") from None
    module.logging.set_verbosity(module.logging.ERROR)
    return module


def open_study(file: Path, higher_is_better: bool) -> Study:
    """Return the study in a file, a new one where there is none. What a killed process left of a line or a lock goes. Raises RunError."""
    module = optuna()
    _mend(file)
    direction = "maximize" if higher_is_better else "minimize"
    try:
        storage = module.storages.JournalStorage(module.storages.journal.JournalFileBackend(str(file)))
        found: Study = module.create_study(storage=storage, study_name=STUDY_NAME, direction=direction, load_if_exists=True)
    except OSError:
        raise
    except Exception as error:  # optuna replays the lines unchecked, so a damaged one may raise anything
        raise RunError(
            f"{file}: damaged ({type(error).__name__}). Restore it from a backup, or delete it to try every setting anew."
        ) from None
    return found


def _mend(file: Path) -> None:
    """Cut a torn last line off, and break a lock that nobody holds: the run is locked, so no other search is at work."""
    file.with_name(file.name + ".lock").unlink(missing_ok=True)
    if file.exists():
        text = file.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole != len(text):
            os.truncate(file, whole)
