"""`whet registry`: runs under names, each gate respected; and what a NAME or a RUN on the command line stands for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whet.display import listed
from whet.errors import RunError
from whet.registry import CHALLENGER, CHAMPION, FOLDER, Registry, as_record, is_reference
from whet.run import open_run
from whet.stages.gate import objection, stored_gate


def resolve(reference: str, registry: Path = FOLDER) -> Path:
    """Return the folder of the run that a reference names: a registered NAME, NAME@ALIAS or NAME@VERSION, or a path. Raises RunError."""
    held = Registry(registry)
    if is_reference(reference, registry):
        return held.resolve(reference)
    if not Path(reference).exists() and "/" not in reference and (known := sorted(held.models())):
        raise RunError(
            f"{reference}: there is no such run, nor a model of that name in {registry}/, which has {listed(known)}. Name one of them, "
            "or the folder of a run."
        )
    return Path(reference)


def show(name: str | None, registry: Path = FOLDER) -> dict[str, Any]:
    """Return one name with its versions, aliases and history, or all of them. Raises RunError."""
    held = Registry(registry)
    if name is not None:
        return dict(as_record(name, held.model(name), held))
    return {"models": [dict(as_record(known, model, held)) for known, model in sorted(held.models().items())]}


def add(
    name: str,
    run: Path,
    *,
    registry: Path = FOLDER,
    alias: str | None = CHALLENGER,
    why: str = "",
    who: str | None = None,
    ignore_gate: bool = False,
) -> dict[str, Any]:
    """Register a run as the next version of a name. Returns the version. Raises RunError, Refused where its gate objects."""
    opened = open_run(run)
    against, judged = objection(opened), stored_gate(opened) is not None
    held = Registry(registry)
    made = held.add(
        name, run, objection=against, ignore_gate=ignore_gate, has_gate=judged, alias=alias, why=why, who=who
    )  # fmt: skip
    return _answer(held, name, made.version)


def promote(
    name: str,
    which: str,
    *,
    registry: Path = FOLDER,
    alias: str = CHAMPION,
    why: str = "",
    who: str | None = None,
    ignore_gate: bool = False,
    instead_of: int | None = None,
) -> dict[str, Any]:
    """Let an alias point to a version. Returns the version. Raises RunError, Refused where its run's gate objects by now.

    `instead_of` is the version that the alias must still be at by then.
    """
    held = Registry(registry)
    against = objection(open_run(held.resolve(f"{name}@{which}")))
    found = held.promote(name, which, alias=alias, objection=against, ignore_gate=ignore_gate, why=why, who=who, instead_of=instead_of)  # fmt: skip
    return _answer(held, name, found.version)


def rollback(
    name: str, *, registry: Path = FOLDER, alias: str = CHAMPION, why: str = "", who: str | None = None
) -> dict[str, Any]:
    """Let an alias point to the version that it was at before. Returns that version. Raises RunError."""
    held = Registry(registry)
    return _answer(held, name, held.rollback(name, alias=alias, why=why, who=who).version)


def _answer(held: Registry, name: str, number: int) -> dict[str, Any]:
    record = as_record(name, held.model(name), held)
    version = next(one for one in record["versions"] if one["version"] == number)
    return {"name": name, **version, "all_aliases": record["aliases"]}
