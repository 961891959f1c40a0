"""`whet registry`: list, show, add, promote, rollback."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import IgnoreGate, Json, RunPath
from whet.cli.say import answer, console, say

registry_app = typer.Typer(
    no_args_is_help=True, help="Keep runs under names: versions, aliases such as champion, and who changed what and why."
)
app.add_typer(registry_app, name="registry")
RegistryFolder = Annotated[Path, typer.Option("--registry", metavar="DIR", help="The registry's folder.")]
ModelName = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model in the registry.")]
AliasOf = Annotated[str, typer.Option("--alias", help="The alias to move.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept in the history.")]
Who = Annotated[str | None, typer.Option("--who", metavar="PERSON", help="Who decides; default: the user of this machine.")]


@registry_app.command("list")
def registry_list(registry: RegistryFolder = Path("registry"), as_json: Json = False) -> None:
    """List every name with its versions and where its aliases point."""
    from whet.report import shown
    from whet.stages.registry import show as look

    found = look(None, registry)
    if not registry.exists():
        say(f"{registry}: there is no such folder, so no model is registered there. Name another one with --registry DIR.")
    answer(as_json, {"run": None, **found}) if as_json else shown.registered(found["models"], console())


@registry_app.command("show")
def registry_show(name: ModelName, registry: RegistryFolder = Path("registry"), as_json: Json = False) -> None:
    """Show one name: its versions, its aliases, and its history."""
    from whet.report import shown
    from whet.stages.registry import show as look

    found = look(name, registry)
    answer(as_json, {"run": None, **found}) if as_json else shown.registered([found], console(), history=True)


@registry_app.command("add")
def registry_add(
    name: ModelName,
    run: RunPath,
    alias: AliasOf = "challenger",
    why: Why = "",
    who: Who = None,
    ignore_gate: IgnoreGate = False,
    registry: RegistryFolder = Path("registry"),
    as_json: Json = False,
) -> None:
    """Register a run as the next version of a name. The first one becomes its champion too."""
    from whet.stages.registry import add

    made = add(name, run, registry=registry, alias=alias, why=why, who=who, ignore_gate=ignore_gate)
    say(f"{name}: {run} is version {made['version']} ({', '.join(made['aliases'])}).")
    answer(as_json, made)


@registry_app.command("promote")
def registry_promote(
    name: ModelName,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="Its number, or an alias such as challenger.")],
    alias: AliasOf = "champion",
    why: Why = "",
    who: Who = None,
    ignore_gate: IgnoreGate = False,
    registry: RegistryFolder = Path("registry"),
    as_json: Json = False,
) -> None:
    """Let an alias, champion unless you say otherwise, point to a version."""
    from whet.stages.registry import promote

    made = promote(name, version, registry=registry, alias=alias, why=why, who=who, ignore_gate=ignore_gate)
    say(f"{name}@{alias} is version {made['version']} now. Go back with: whet registry rollback {name}")
    answer(as_json, made)


@registry_app.command("rollback")
def registry_rollback(
    name: ModelName,
    alias: AliasOf = "champion",
    why: Why = "",
    who: Who = None,
    registry: RegistryFolder = Path("registry"),
    as_json: Json = False,
) -> None:
    """Let an alias point to the version that it was at before."""
    from whet.stages.registry import rollback

    made = rollback(name, registry=registry, alias=alias, why=why, who=who)
    say(f"{name}@{alias} is version {made['version']} again.")
    answer(as_json, made)
