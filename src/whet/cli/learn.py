"""Verbs that train: train, search, auto."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import Json, Out, Sets, Test
from whet.cli.say import answer, judged, narrator, say
from whet.display import quoted


@app.command()
def train(
    recipe: Annotated[Path | None, typer.Argument(metavar="RECIPE", help="A recipe; make one with: whet new FILE")] = None,
    resume: Annotated[Path | None, typer.Option("--resume", metavar="RUN", help="Go on with a run that was stopped.")] = None,
    out: Out = None,
    sets: Sets = [],
    as_json: Json = False,
) -> None:
    """Train by a recipe, or go on with a run that was stopped, to the same bytes as if it had not been."""
    if resume is not None and (sets or out is not None):
        raise typer.BadParameter("--resume goes on with a run as it was begun; it takes no --set and no --out")
    if resume is None and recipe is None:
        raise typer.BadParameter("name a recipe, or a run with --resume")
    from whet.recipe_file import load_recipe
    from whet.stages import train as stage

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
    if resume is not None and (sets or out is not None):
        raise typer.BadParameter("--resume goes on with a search as it was begun; it takes no --set and no --out")
    if resume is None and recipe is None:
        raise typer.BadParameter("name a recipe, or a search with --resume")
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
        list[Path], typer.Argument(metavar="FILE...", help="Data file or files: csv, tsv, json, jsonl, parquet, txt.")
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
