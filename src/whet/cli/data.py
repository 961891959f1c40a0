"""Verbs that look at data: new, prepare."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import Json, Out, Recipe, Sets
from whet.cli.say import answer, narrator, say, show_text
from whet.display import quoted


@app.command()
def new(
    files: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE...", help="Data file or files; or an SQLite database, or an address: https://..."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the recipe goes.")] = Path("recipe.yaml"),
    model: Annotated[
        str | None,
        typer.Option("--model", help="builtin:minilm, builtin:seedling, a Hugging Face id or a folder; default: chosen."),
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of recipes instead.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a file and write the recipe that fits it, with the reason for every guess."""
    if schema:
        from whet.recipe import schema as recipe_schema

        show_text(json.dumps(recipe_schema(), indent=2))
        return
    if not files:
        raise typer.BadParameter("name at least one data file, or --schema")
    from whet.stages.new import new as write_recipe
    from whet.stages.new_source import is_address

    path, seen = write_recipe(
        [file if is_address(file) else Path(file) for file in files], out=out, model=model, narrator=narrator()
    )
    say(f"Wrote {path}. Train with: whet train {quoted(path)}")
    answer(
        as_json,
        {"run": None, "recipe": str(path), "objective": seen.objective, "rows": seen.num_rows, "columns": dict(seen.columns)},
    )


@app.command()
def prepare(
    recipe: Recipe,
    out: Out = None,
    sets: Sets = [],
    fresh: Annotated[bool, typer.Option("--fresh", help="Collect the rows of data.sources anew.")] = False,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show what each cleaner would change or drop, before and after. Writes nothing.")
    ] = False,
    profile: Annotated[
        bool, typer.Option("--profile", help="Also write a page of what the rows are, and what to answer before training.")
    ] = False,
    examples: Annotated[int, typer.Option("--examples", min=0, help="Changes of each cleaner that a preview shows.")] = 3,
    as_json: Json = False,
) -> None:
    """Read, clean, deduplicate and split the data, and account for every row. Trains nothing."""
    from whet.data.accounting import ACCOUNTING
    from whet.recipe_file import load_recipe
    from whet.stages.prepare import prepare_run

    if preview and profile:
        raise typer.BadParameter("--preview writes nothing, and --profile writes a page; ask for one of them")
    if preview:
        from whet.stages.preview import preview as look

        found = look(load_recipe(recipe, sets), recipe.parent, narrator(), examples)
        answer(as_json, {"run": None, "preview": {name: one.record() for name, one in found.items()}})
        return

    loaded = load_recipe(recipe, sets)
    run = prepare_run(loaded, folder=recipe.parent, out=out, narrator=narrator(), fresh=fresh)
    say(f"Prepared: {run.path}")
    page = {}
    if profile:
        from whet.stages.profile import profile_run

        page = {"profile": str(profile_run(run, loaded, recipe, narrator()))}
        say(f"Profile: {page['profile']}")
    rows = json.loads((run.path / ACCOUNTING).read_text(encoding="utf-8"))["sources"]
    answer(as_json, {"run": str(run.path), "rows": rows, **page})
