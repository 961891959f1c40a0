"""Verbs that make a trained run ready to go elsewhere: compress, export, deploy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import IgnoreGate, Json, Out, Own, PluginSets, RunPath, one_of
from whet.cli.say import answer, narrator, say
from whet.display import quoted


@app.command()
def compress(
    run: RunPath,
    method: Annotated[str, typer.Argument(metavar="METHOD", help=one_of("compressors"))],
    out: Out = None,
    sets: PluginSets = [],
    ignore_gate: IgnoreGate = False,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Make a trained run smaller, as a run of its own, and say whether it was worth it: size, latency and quality, before and after."""
    from whet.stages.compress import COMPRESSION
    from whet.stages.compress import compress as make_smaller

    made = make_smaller(run, method, sets=sets, out=out, recipe=recipe, ignore_gate=ignore_gate, narrator=narrator())
    found = json.loads((made.path / COMPRESSION).read_text(encoding="utf-8"))
    say(found["sentence"])
    say(f"Compressed: {made.path}. Use it: whet predict {quoted(made.path)} FILE")
    answer(as_json, {"run": str(made.path), **found})


@app.command()
def export(
    run: RunPath,
    form: Annotated[str, typer.Argument(metavar="FORMAT", help=one_of("exporters"))],
    out: Out = None,
    sets: PluginSets = [],
    ignore_gate: IgnoreGate = False,
    task: Annotated[str | None, typer.Option(metavar="NAME", help="Of a run of several tasks, the one to write.")] = None,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Write a trained run in a format that other programs read, and check it there on the run's own test rows."""
    from whet.stages.export import export as write_format

    made = write_format(run, form, sets=sets, out=out, recipe=recipe, task=task, ignore_gate=ignore_gate, narrator=narrator())
    say(f"Exported: {made.path}")
    answer(as_json, {"run": str(made.path), "format": form, "check": made.manifest["check"]})


@app.command()
def deploy(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or a registered NAME, NAME@ALIAS or NAME@VERSION.")],
    target: Annotated[str, typer.Argument(metavar="TARGET", help=one_of("targets"))],
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Folder of the bundle; default bundles/NAME-TARGET.")
    ] = None,
    sets: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting of the target; may be given several times.")
    ] = [],
    ignore_gate: IgnoreGate = False,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Bundle a trained run with everything that a place needs to serve it: model, packages, image or unit, limits, probes."""
    from whet.stages.deploy import BUNDLE
    from whet.stages.deploy import deploy as make_bundle

    made = make_bundle(run, target, sets=sets, out=out, recipe=recipe, ignore_gate=ignore_gate, narrator=narrator())
    found = json.loads((made / BUNDLE).read_text(encoding="utf-8"))
    size = sum(file["bytes"] for file in found["files"].values()) / 2**20
    say(f"Bundled: {made} ({size:,.0f} MiB). What to type now stands in {made / 'README.md'}.")
    named = {key: found[key] for key in ("target", "endpoint", "model_sha256", "memory_mib", "entry", "expected")}
    answer(as_json, {"run": run, "bundle": str(made), **named})
