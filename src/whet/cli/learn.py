"""Verbs that train, and what it will take: plan, train, search, auto, retrain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import Json, Out, Own, Recipe, Sets, Test
from whet.cli.say import answer, console, follower, judged, narrator, say
from whet.display import quoted
from whet.errors import Refused


@app.command()
def plan(
    recipe: Recipe,
    sets: Sets = [],
    device_memory: Annotated[
        str | None,
        typer.Option(
            "--device-memory", metavar="SIZE", help="Plan for another machine's accelerator: 16GiB, or A100, H100, L4, ..."
        ),
    ] = None,
    probe: Annotated[
        bool, typer.Option("--probe/--no-probe", help="Try three steps, for time and measured memory; else only the formula.")
    ] = True,
    price_per_hour: Annotated[
        float | None, typer.Option("--price-per-hour", metavar="NUMBER", min=0.0, help="What an hour of the machine costs.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="Write the plan as JSON; else nothing is left.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say before training what it takes: memory by part, time, disk, money; what fits here, what would, and what to do. Exits 3 where it does not fit."""
    from whet.recipe_file import load_recipe
    from whet.report.plan import show_plan
    from whet.stages.plan import plan as look

    found = look(
        load_recipe(recipe, sets),
        folder=recipe.parent,
        device_memory=device_memory,
        probe=probe,
        price_per_hour=price_per_hour,
        out=out,
        narrator=narrator(),
    )
    if as_json:
        say(found["sentence"])
    else:
        show_plan(found, console())
    answer(as_json, found)
    if not found["fits"]:
        raise Refused(
            "\n".join([found["sentence"], *(f"What to do: {one['advice']} ({one['why']})." for one in found["advice"])])
        )


def _one_of(recipe: Path | None, resume: Path | None, what: str, *, changed: bool) -> None:
    """Raise a usage error unless there is a recipe to begin by, or a run to go on with as it was begun."""
    if resume is not None and changed:
        raise typer.BadParameter(f"--resume goes on with a {what} as it was begun; it takes no --set and no --out")
    if resume is None and recipe is None:
        raise typer.BadParameter(f"name a recipe, or a {what} with --resume")


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A recipe; make one with: whet new FILE")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run that was stopped.")] = None,
    out: Out = None,
    sets: Sets = [],
    as_json: Json = False,
) -> None:
    """Train by a recipe, or go on with a run that was stopped, to the same bytes as if it had not been. On several devices: torchrun
    --nproc-per-node 2 -m whet train RECIPE."""
    _one_of(recipe, resume, "run", changed=bool(sets) or out is not None)
    from whet.engine.parallel import joined
    from whet.recipe_file import load_recipe
    from whet.stages import train as stage

    if follower():
        stage.follow_all()
        return
    with joined():  # a mistake in the recipe is told once the others are there, who would wait for this process otherwise
        if resume is not None:
            run = stage.resume(resume, recipe=recipe, narrator=narrator())
        else:
            assert recipe is not None
            run = stage.train(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=narrator())
    say(f"Trained: {run.path}. Judge it with: whet evaluate {quoted(run.path)}")
    answer(as_json, {"run": str(run.path), "actual": run.manifest["actual"]})


@app.command()
def search(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A recipe with a `search:` section.")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a search that was stopped.")] = None,
    out: Out = None,
    sets: Sets = [],
    as_json: Json = False,
) -> None:
    """Look for better settings than the recipe's own on the validation rows; the best is trained and judged once, as a run beside."""
    _one_of(recipe, resume, "search", changed=bool(sets) or out is not None)
    from whet.recipe_file import load_recipe
    from whet.stages import search as stage

    if resume is not None:
        run = stage.resume(resume, recipe=recipe, narrator=narrator())
    else:
        assert recipe is not None
        run = stage.search(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=narrator())
    found = stage.result_of(run)
    say(found["sentence"])
    say(
        f"The best recipe: {run.path / stage.BEST}. Trained: {found['child']}. Use it: whet predict {quoted(found['child'])} FILE"
    )
    answer(as_json, {"run": str(run.path), **found})


@app.command()
def auto(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Data files, folders or patterns: csv, xlsx, json, parquet, txt, md, pdf, zip, ..."
        ),
    ],
    test: Test = [],
    model: Annotated[
        str | None,
        typer.Option("--model", help="builtin:minilm, builtin:seedling, a Hugging Face id or a folder; default: chosen."),
    ] = None,
    out: Out = None,
    sets: Sets = [],
    as_json: Json = False,
) -> None:
    """From a file to a judged specialist in one command: look, clean, split, choose, train, compare, report."""
    from whet.stages.auto import auto as all_of_it

    judged(all_of_it(files, test=test, out=out, model=model, sets=sets, narrator=narrator()), as_json)


@app.command()
def retrain(
    reference: Annotated[
        str | None,
        typer.Argument(metavar="NAME|RUN", help="A registered NAME (its champion), NAME@ALIAS, or the folder of a trained run."),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Argument(metavar="[FILE...]", help="New labelled rows, with the columns of the champion's recipe."),
    ] = None,
    log: Annotated[
        Path | None,
        typer.Option("--log", metavar="FILE", help="A request log whose feedback is learnt from (whet serve --log-text)."),
    ] = None,
    promote: Annotated[
        str,
        typer.Option(
            metavar="never|if-passed|if-better",
            help="When the challenger becomes champion: where the gate passes, or where it is certainly better on the new rows too.",
        ),
    ] = "never",
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="How much worse than the champion it may be, in the metric's unit: 0.01 is a point. Default: by the rows.",
        ),
    ] = None,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="base|champion",
            help="base: anew, on all old and new rows; champion: on from its weights, with new rows and a draw of the old ones.",
        ),
    ] = "base",
    why: Annotated[str, typer.Option("--why", metavar="TEXT", help="The reason, kept in the registry's history.")] = "",
    resume: Annotated[
        Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a retraining that was stopped.")
    ] = None,
    out: Out = None,
    sets: Sets = [],
    registry: Annotated[Path, typer.Option("--registry", metavar="DIR", help="The registry's folder.")] = Path("registry"),
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Train a challenger with new labelled rows, compare it with its champion on old and new test rows, and register it."""
    from whet.report.terminal import show_challenge
    from whet.stages import retrain as stage

    if promote not in stage.PROMOTE:
        raise typer.BadParameter(f"allowed: {', '.join(stage.PROMOTE)}", param_hint="--promote")
    if start not in stage.STARTS:
        raise typer.BadParameter(f"allowed: {', '.join(stage.STARTS)}", param_hint="--from")
    if resume is not None and (reference is not None or log is not None or sets or out is not None):
        raise typer.BadParameter("--resume goes on with a retraining as it was begun; it takes nothing else")
    if resume is None and reference is None:
        raise typer.BadParameter("name a registered model or a run, or a retraining with --resume")
    if resume is not None:
        run = stage.resume(resume, recipe=recipe, narrator=narrator())
    else:
        assert reference is not None
        chosen = next(rule for rule in stage.PROMOTE if rule == promote)
        run = stage.retrain(
            reference,
            files or [],
            log=log,
            promote=chosen,
            tolerance=tolerance,
            start="champion" if start == "champion" else "base",
            sets=sets,
            registry=registry,
            why=why,
            out=out,
            recipe=recipe,
            narrator=narrator(),
        )
    found = stage.result_of(run)
    show_challenge(found, console(), page=str(run.path / stage.PAGE))
    answer(as_json, {"run": str(run.path), **found, "report": str(run.path / stage.PAGE)})
    for line in stage.ending(found):
        say(line)
    if not found["passed"]:
        raise Refused(stage.refusal(found))
