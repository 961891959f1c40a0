"""The command line: parses, calls a verb, prints. What a person reads goes to standard error, what a program reads to standard output."""

from __future__ import annotations

import io
import json
import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from whet import __version__
from whet.errors import Interrupted, WhetError

app = typer.Typer(
    name="whet",
    help="Turns a general pre-trained language model into a specialist, and keeps it one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def whet(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Turns a general pre-trained language model into a specialist, and keeps it one."""
    if version:
        print(__version__)
        raise typer.Exit


Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a line of the recipe; may be given several times.")
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, for programs.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the new run; default runs/DATE-NAME.")]
Test = Annotated[
    list[Path], typer.Option("--test", metavar="FILE", help="File to judge on; never changed and never learnt from.")
]
Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe; make one with: whet new FILE")]
Own = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="RECIPE", help="Only for a run that uses plugin files of your own: the recipe beside them."),
]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]


@app.command()
def new(
    files: Annotated[list[Path] | None, typer.Argument(metavar="FILE...", help="Data file or files.")] = None,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the recipe goes.")] = Path("recipe.yaml"),
    schema: Annotated[bool, typer.Option("--schema", help="Print the JSON Schema of recipes instead.")] = False,
    as_json: Json = False,
) -> None:
    """Look at a file and write the recipe that fits it, with the reason for every guess."""
    if schema:
        from whet.recipe import schema as recipe_schema

        print(json.dumps(recipe_schema(), indent=2))
        return
    if not files:
        raise typer.BadParameter("name at least one data file, or --schema")
    from whet.stages.new import new as write_recipe

    path, seen = write_recipe(files, out=out, narrator=_narrator())
    _say(f"Wrote {path}. Train with: whet train {path}")
    _answer(
        as_json,
        {"run": None, "recipe": str(path), "objective": seen.objective, "rows": seen.num_rows, "columns": dict(seen.columns)},
    )


@app.command()
def prepare(recipe: Recipe, out: Out = None, sets: Sets = [], as_json: Json = False) -> None:
    """Read, clean, deduplicate and split the data, and account for every row. Trains nothing."""
    from whet.recipe_file import load_recipe
    from whet.stages.prepare import prepare_run

    run = prepare_run(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=_narrator())
    _say(f"Prepared: {run.path}")
    _answer(as_json, {"run": str(run.path), "rows": _accounting(run.path)})


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
        run = stage.resume(resume, recipe=recipe, narrator=_narrator())
    else:
        assert recipe is not None
        run = stage.train(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=_narrator())
    _say(f"Trained: {run.path}. Judge it with: whet evaluate {run.path}")
    _answer(as_json, {"run": str(run.path), "actual": run.manifest["actual"]})


@app.command()
def evaluate(run: RunPath, test: Test = [], recipe: Own = None, as_json: Json = False) -> None:
    """Judge a trained run against the untuned model on rows it never saw, with intervals, and write the report."""
    from whet.stages.evaluate import evaluate as judge

    _judged(judge(run, test=test, recipe=recipe, narrator=_narrator()), as_json)


@app.command()
def predict(
    run: RunPath,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="Rows to answer: csv, jsonl or any file that training reads; - for standard input."),
    ] = Path("-"),
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="Where the answers go; its ending (.csv or .jsonl) sets the format."),
    ] = None,
    form: Annotated[str | None, typer.Option("--format", help="csv or jsonl; default: as the file that comes in.")] = None,
    abstain_below: Annotated[
        float, typer.Option("--abstain-below", min=0.0, max=1.0, help="Give no answer below this confidence.")
    ] = 0.0,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Answer the rows of a file, each with its confidence."""
    from whet.stages.predict import load, predict_file
    from whet.stages.write_predictions import choose_format, from_stdin, write_predictions

    chosen = choose_format(form, out, file)
    predictor, notices = load(run, recipe), list[str]()
    with from_stdin(file) as place:
        rows = predict_file(predictor, place, abstain_below, notices)
        if as_json:
            found = list(rows)
            counts = write_predictions(out, found, chosen) if out is not None else None
            _answer(
                True,
                {
                    "run": str(run),
                    "rows": len(found),
                    "out": out and str(out),
                    "counts": counts,
                    "predictions": None if out else found,
                },
            )
        else:
            counts = write_predictions(out, rows, chosen)
            _say(
                f"{counts['rows'] - counts['errors']:,} answered, {counts['abstained']:,} abstained, {counts['errors']:,} could not be asked."
            )
    for notice in notices:
        _say(f"Note: {notice}")


@app.command()
def chat(
    run: RunPath,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 always gives the likeliest answer.")] = 0.0,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Talk to a trained run: one line in, one answer out; an empty line or Ctrl-D ends it."""
    from whet.stages.chat import converse

    turns = converse(run, temperature=temperature, system=system, recipe=recipe, show=print if not as_json else _say)
    _answer(as_json, {"run": str(run), "messages": turns})


@app.command()
def show(
    what: Annotated[
        str | None,
        typer.Argument(metavar="[RUN|plugins|machine]", help="A run's folder, 'plugins', or 'machine'; nothing: all runs."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show a run and why it was trained as it was; all runs; every plugin with its settings; or this machine."""
    from whet.report import shown
    from whet.stages import show as stage

    if what == "plugins":
        found = stage.show_plugins()
        _answer(as_json, {"run": None, "plugins": found}) if as_json else shown.plugins(found, _console())
    elif what == "machine":
        seen = stage.show_machine()
        _answer(as_json, {"run": None, **seen}) if as_json else shown.machine(seen, _console())
    elif what is None:
        runs = stage.show_runs()
        _answer(as_json, {"run": None, "runs": runs}) if as_json else shown.runs(runs, _console())
    else:
        run = stage.show_run(Path(what))
        _answer(as_json, run) if as_json else shown.run(run, _console())


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

    _judged(all_of_it(files, test=test, out=out, model=model, sets=sets, narrator=_narrator()), as_json)


def main() -> None:
    """Run the command line and exit with an honest code: 0 done, 1 the user can mend it, 2 usage, 3 refused, 130 interrupted."""
    _speak_utf8()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops us, what is half-written goes
    try:
        app()
    except SystemExit as leaving:
        if leaving.code == Interrupted.exit_code:
            _say("whet: interrupted. Nothing half-written was left.")
        raise
    except WhetError as error:
        _say(f"whet: {error}")
        sys.exit(error.exit_code)
    except UnicodeEncodeError as error:
        _say(f"whet: {error.object[:80]!r}: holds characters that are no Unicode text. Mend them, or rename the file.")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not (isinstance(error, MemoryError) or "allocate memory" in str(error) or "out of memory" in str(error)):
            raise
        _say(
            "whet: out of memory. Take a smaller model, shorter rows (--set train.max_length=256), "
            "or fewer tokens at a time (--set train.max_tokens=1024)."
        )
        sys.exit(1)
    except OSError as error:
        _say(
            f"whet: {error.filename or ''}: {error.strerror or error}. Nothing half-written was left; mend that and run the command again."
        )
        sys.exit(1)


def _judged(run: Any, as_json: bool) -> None:
    from whet.report.terminal import show_report

    report = run.report
    if as_json:
        values = {
            "run": str(run.path),
            "n": report["n"],
            "verdict": report["verdict"],
            "metrics": report["metrics"],
            "report": str(run.path / "report.html"),
        }
        _answer(True, values)
        _say(report["verdict"]["sentence"])
    else:
        show_report(report, _console(), page=str(run.path / "report.html"))
        _say(f"Use it: whet predict {run.path} FILE")


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def _narrator() -> Any:
    from whet.stages.narrate import Narrator

    return Narrator(_console())


def _speak_utf8() -> None:
    """Read and write UTF-8, whatever the terminal's own encoding, so that no text of the user's can stop a command."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace" if stream is sys.stdin else "backslashreplace")


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _answer(as_json: bool, values: dict[str, Any]) -> None:
    if as_json:
        print(json.dumps(values, ensure_ascii=False))


def _accounting(run: Path) -> Any:
    return json.loads((run / "data" / "accounting.json").read_text(encoding="utf-8"))["sources"]
