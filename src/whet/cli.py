"""The command line: parses, calls a verb, prints. What a person reads goes to standard error, what a program reads to standard output."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from whet import __version__
from whet.display import finite, plain, quoted
from whet.errors import DataError, Interrupted, Refused, WhetError

GONE = 141
"""Exit code where the reader of standard output has gone, as of every program that SIGPIPE ends."""
_ANSWERED: set[bool] = set()
"""Whether this command has written its JSON object."""

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
        _print(__version__)
        raise typer.Exit


Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a line of the recipe; may be given several times.")
]
JudgedSets = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of evaluate, such as evaluate.metric=macro_f1."),
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
PluginSets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method or format; may be given several times.")
]
IgnoreGate = Annotated[bool, typer.Option("--ignore-gate", help="Go on although the run's gate has refused it.")]
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

        _print(json.dumps(recipe_schema(), indent=2))
        return
    if not files:
        raise typer.BadParameter("name at least one data file, or --schema")
    from whet.stages.new import new as write_recipe

    path, seen = write_recipe(files, out=out, narrator=_narrator())
    _say(f"Wrote {path}. Train with: whet train {quoted(path)}")
    _answer(
        as_json,
        {"run": None, "recipe": str(path), "objective": seen.objective, "rows": seen.num_rows, "columns": dict(seen.columns)},
    )


@app.command()
def prepare(recipe: Recipe, out: Out = None, sets: Sets = [], as_json: Json = False) -> None:
    """Read, clean, deduplicate and split the data, and account for every row. Trains nothing."""
    from whet.data.accounting import ACCOUNTING
    from whet.recipe_file import load_recipe
    from whet.stages.prepare import prepare_run

    run = prepare_run(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=_narrator())
    _say(f"Prepared: {run.path}")
    _answer(as_json, {"run": str(run.path), "rows": json.loads((run.path / ACCOUNTING).read_text(encoding="utf-8"))["sources"]})


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
    _say(f"Trained: {run.path}. Judge it with: whet evaluate {quoted(run.path)}")
    _answer(as_json, {"run": str(run.path), "actual": run.manifest["actual"]})


@app.command()
def evaluate(
    run: RunPath,
    test: Test = [],
    keep_learnt: Annotated[
        bool, typer.Option("--keep-learnt", help="Score rows of the file that were learnt from too; this flatters the model.")
    ] = False,
    sets: JudgedSets = [],
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Judge a trained run against the untuned model on rows it never saw, with intervals, and write the report."""
    from whet.stages.evaluate import evaluate as judge

    _judged(judge(run, test=test, sets=sets, recipe=recipe, keep_learnt=keep_learnt, narrator=_narrator()), as_json)


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
    input_form: Annotated[
        str | None, typer.Option("--input-format", help="csv, tsv, json, jsonl or text; default: by what is in the file.")
    ] = None,
    abstain_below: Annotated[
        float, typer.Option("--abstain-below", min=0.0, max=1.0, help="Give no answer below this confidence.")
    ] = 0.0,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Answer the rows of a file, each with its confidence."""
    from whet.stages.gate import objection
    from whet.stages.predict import load, predict_file
    from whet.stages.write_predictions import COUNTED, SUFFIXES, choose_format, count, from_stdin, write_predictions

    if input_form is not None and input_form not in SUFFIXES:
        raise typer.BadParameter(f"allowed: {', '.join(SUFFIXES)}", param_hint="--input-format")
    chosen = choose_format(form, out, file)
    predictor, notices = load(run, recipe), list[str]()
    if why := objection(predictor.tuned.run):
        _say(f"Warning: {why}")
    with from_stdin(file) as place:
        rows = predict_file(predictor, place, abstain_below, notices, input_form and SUFFIXES[input_form])
        told = len(notices)
        for notice in notices:
            _say(f"Note: {notice}")
        found = None
        if as_json and out is None:
            counts = dict.fromkeys(COUNTED, 0)
            found = list(count(rows, counts))
        else:
            counts = write_predictions(out, rows, chosen)
    for notice in notices[told:]:
        _say(f"Note: {notice}")
    _say(
        f"{counts['rows'] - counts['errors']:,} answered, {counts['abstained']:,} abstained, {counts['errors']:,} could not be asked."
    )
    values = {"run": str(run), "rows": counts["rows"], "out": out and str(out), "counts": counts, "predictions": found}
    _answer(as_json, values)


@app.command()
def chat(
    run: RunPath,
    message: Annotated[
        str | None, typer.Argument(metavar="[MESSAGE]", help="One message to answer; default: the lines of standard input.")
    ] = None,
    temperature: Annotated[float, typer.Option(min=0.0, max=2.0, help="0 always gives the likeliest answer.")] = 0.0,
    system: Annotated[str | None, typer.Option(help="A system message.")] = None,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Talk to a trained run: one line in, one answer out; an empty line or Ctrl-D ends it."""
    from whet.stages.chat import converse

    show = _print if not as_json else _say
    turns = converse(run, temperature=temperature, system=system, recipe=recipe, show=show, message=message)
    _answer(as_json, {"run": str(run), "messages": turns})


@app.command()
def serve(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of trained runs; they may be of different kinds.")],
    names: Annotated[
        list[str],
        typer.Option(
            "--name", metavar="NAME", help="What clients call a run; once for each, in order. Default: its folder's name."
        ),
    ] = [],
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs an API key.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8000,
    api_key_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with an API key on each line; default: the variable WHET_API_KEY.")
    ] = None,
    engine: Annotated[str, typer.Option(help="What writes texts; see: whet show plugins.")] = "torch",
    precision: Annotated[
        str, typer.Option(metavar="fp32|run", help="fp32: answers do not depend on each other; run: as the run was trained.")
    ] = "fp32",
    log: Annotated[Path, typer.Option(metavar="FILE", help="The request log.")] = Path("runs/requests.sqlite"),
    no_log: Annotated[bool, typer.Option("--no-log", help="Keep no request log.")] = False,
    log_text: Annotated[
        bool, typer.Option("--log-text", help="Keep texts too; mail addresses, numbers and keys are masked.")
    ] = False,
    log_days: Annotated[float, typer.Option(min=0.0, help="Days after which a logged request goes.")] = 90.0,
    log_mib: Annotated[float, typer.Option(min=1.0, help="Size in MiB above which the oldest logged requests go.")] = 1024.0,
    max_requests: Annotated[int, typer.Option(min=1, help="Requests taken at a time; more are answered with 429.")] = 64,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest text, whatever is asked.")] = 4096,
    grace: Annotated[
        float, typer.Option(min=0.0, help="Seconds that what runs may take to end when the server is stopped.")
    ] = 30.0,
    abstain_below: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Give no label below this confidence, where a request says nothing of it.")
    ] = 0.0,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Serve trained runs behind OpenAI's API, with a page to try them, until stopped by Ctrl-C or SIGTERM."""
    if precision not in {"fp32", "run"}:
        raise typer.BadParameter("allowed: fp32, run", param_hint="--precision")
    from whet.stages import serve as stage

    options = stage.Options(
        host=host,
        port=port,
        api_key_file=api_key_file,
        engine=engine,
        precision="run" if precision == "run" else "fp32",
        log=None if no_log else log,
        log_text=log_text,
        log_days=log_days,
        log_mib=log_mib,
        max_requests=max_requests,
        max_new_tokens=max_new_tokens,
        grace_s=grace,
        abstain_below=abstain_below,
    )

    def on_ready(serving: stage.Serving) -> None:
        _say(f"Serving {', '.join(serving.references)} at {serving.url}/v1 (a page to try it: {serving.url}). Stop with Ctrl-C.")
        _answer(as_json, serving.summary())
        sys.stdout.flush()

    stage.serve(runs, names=names, options=options, recipe=recipe, say=_say, on_ready=on_ready)
    _say("Stopped.")


@app.command()
def compress(
    run: RunPath,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="int8, int4, dynamic_int8, magnitude or wanda.")],
    out: Out = None,
    sets: PluginSets = [],
    ignore_gate: IgnoreGate = False,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Make a trained run smaller, as a run of its own, and say whether it was worth it: size, latency and quality, before and after."""
    from whet.stages.compress import COMPRESSION
    from whet.stages.compress import compress as make_smaller

    made = make_smaller(run, method, sets=sets, out=out, recipe=recipe, ignore_gate=ignore_gate, narrator=_narrator())
    found = json.loads((made.path / COMPRESSION).read_text(encoding="utf-8"))
    _say(found["sentence"])
    _say(f"Compressed: {made.path}. Use it: whet predict {quoted(made.path)} FILE")
    _answer(as_json, {"run": str(made.path), **found})


@app.command()
def export(
    run: RunPath,
    form: Annotated[str, typer.Argument(metavar="FORMAT", help="adapter, merged, gguf or onnx.")],
    out: Out = None,
    sets: PluginSets = [],
    ignore_gate: IgnoreGate = False,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Write a trained run in a format that other programs read, and check it there on the run's own test rows."""
    from whet.stages.export import export as write_format

    made = write_format(run, form, sets=sets, out=out, recipe=recipe, ignore_gate=ignore_gate, narrator=_narrator())
    _say(f"Exported: {made.path}")
    _answer(as_json, {"run": str(made.path), "format": form, "check": made.manifest["check"]})


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
        run = stage.resume(resume, recipe=recipe, narrator=_narrator())
    else:
        assert recipe is not None
        run = stage.search(load_recipe(recipe, sets), folder=recipe.parent, out=out, narrator=_narrator())
    found = stage.result_of(run)
    _say(found["sentence"])
    _say(
        f"The best recipe: {run.path / stage.BEST}. Trained: {found['child']}. Use it: whet predict {quoted(found['child'])} FILE"
    )
    _answer(as_json, {"run": str(run.path), **found})


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


@app.command()
def monitor(
    run: Annotated[str, typer.Argument(metavar="RUN|NAME", help="A served run's folder, or a registered NAME, NAME@ALIAS.")],
    log: Annotated[Path, typer.Option("--log", metavar="FILE", help="The request log that whet serve writes.")] = Path(
        "runs/requests.sqlite"
    ),
    since: Annotated[
        str | None, typer.Option(metavar="TIME", help="2026-01-31, 2026-01-31T12:00 (UTC), or ago: 24h, 7d.")
    ] = None,
    until: Annotated[str | None, typer.Option(metavar="TIME", help="As --since; default: now.")] = None,
    check: Annotated[list[str], typer.Option("--check", metavar="NAME", help="Only this check of drift; default: all.")] = [],
    level: Annotated[float, typer.Option(min=0.0001, max=0.5, help="Chance of any false alarm of drift or quality.")] = 0.05,
    smallest_drop: Annotated[float, typer.Option(min=0.0, max=1.0, help="Least fall of quality that matters.")] = 0.02,
    max_p95: Annotated[float | None, typer.Option(min=0.0, metavar="SECONDS", help="What 95 % of requests may take.")] = None,
    webhook: Annotated[list[str], typer.Option("--webhook", metavar="URL", help="Where alarms are posted as JSON.")] = [],
    apprise: Annotated[list[str], typer.Option("--apprise", metavar="URL", help="Where apprise tells of alarms.")] = [],
    fail_on_alarm: Annotated[bool, typer.Option("--fail-on-alarm", help="Exit with 3 where there is an alarm.")] = False,
    out: Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Default: RUN/monitoring/TIME.")] = None,
    registry: Annotated[Path, typer.Option("--registry", metavar="DIR", help="The registry's folder.")] = Path("registry"),
    as_json: Json = False,
) -> None:
    """Compare what a served run was asked and answered with its test rows: quality, drift, latency, and one verdict."""
    from whet.report.monitor import Settings
    from whet.stages.monitor import Alerts
    from whet.stages.monitor import monitor as look

    folder, found = look(
        run,
        log=log,
        since=since,
        until=until,
        checks=check,
        settings=Settings(level, smallest_drop, max_p95),
        alerts=Alerts(webhook, apprise),
        registry=registry,
        out=out,
        say=_say,
    )
    _say(found["verdict"]["sentence"])
    _say(f"More, with charts: {folder / 'monitor.html'}")
    _answer(as_json, {**found, "report": str(folder / "monitor.html")})
    if fail_on_alarm and found["alarms"]:
        raise Refused("\n".join(found["alarms"]))


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
    _answer(as_json, {"run": None, **found}) if as_json else shown.registered(found["models"], _console())


@registry_app.command("show")
def registry_show(name: ModelName, registry: RegistryFolder = Path("registry"), as_json: Json = False) -> None:
    """Show one name: its versions, its aliases, and its history."""
    from whet.report import shown
    from whet.stages.registry import show as look

    found = look(name, registry)
    _answer(as_json, {"run": None, **found}) if as_json else shown.registered([found], _console(), history=True)


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
    _say(f"{name}: {run} is version {made['version']} ({', '.join(made['aliases'])}).")
    _answer(as_json, made)


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
    _say(f"{name}@{alias} is version {made['version']} now. Go back with: whet registry rollback {name}")
    _answer(as_json, made)


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
    _say(f"{name}@{alias} is version {made['version']} again.")
    _answer(as_json, made)


def main() -> None:
    """Run the command line and exit with an honest code.

    0 done, 1 the user can mend it, 2 usage, 3 refused, 130 interrupted, 141 the reader of what is written has gone.
    """
    _ANSWERED.clear()
    _speak_utf8()
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        signal.signal(kind, signal.default_int_handler)  # whoever stops us, what is half-written goes
    before, sys.unraisablehook = sys.unraisablehook, _again
    try:
        code = _flushed(_run())
    finally:
        sys.unraisablehook = before
    sys.exit(code)


def _run() -> int:
    """Run the command line; return its exit code, and say what went wrong."""
    try:
        app()
    except SystemExit as leaving:
        return _left(leaving)
    except BrokenPipeError:
        return GONE
    except Exception as error:
        found = _explained(error)
        if found is None:
            raise
        code, message = found
        _say(f"whet: {message}")
        _fail(type(error).__name__, message, code)
        return code
    return 0


def _left(leaving: SystemExit) -> int:
    """Return the exit code that the parser of the command line has chosen, and say what it has not said."""
    code, cause = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None), leaving.__context__
    if code == Interrupted.exit_code:
        _say("whet: interrupted. Nothing half-written was left.")
        _fail("Interrupted", "interrupted", code)
    elif isinstance(cause, OSError) and cause.errno == errno.EPIPE:
        return GONE
    elif code:
        _fail("UsageError", str(cause and getattr(cause, "message", cause)), code)
    return code


def _explained(error: Exception) -> tuple[int, str] | None:
    """Return the exit code and the sentence for what the user can mend; none for a fault of whet's own."""
    if isinstance(error, WhetError):
        return error.exit_code, str(error)
    place = _own_place(error)
    if place:
        return 1, f"{place}: {type(error).__name__}: {error}. This file is your own plugin; mend it there."
    if isinstance(error, UnicodeEncodeError):
        return 1, f"{error.object[:80]!r}: holds characters that are no Unicode text. Mend them, or rename the file."
    if isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in ("allocate memory", "out of memory"))
    ):
        return 1, (
            "out of memory. Take a smaller model, shorter rows (--set train.max_length=256), "
            "or fewer tokens at a time (--set train.max_tokens=1024)."
        )
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return 1, f"{where}{error.strerror or error}. Nothing half-written was left; mend that and run the command again."
    return None


def _own_place(error: BaseException) -> str:
    """Return the last line of a plugin file of the user's own that an error went through, if it did."""
    place, step = "", error.__traceback__
    while step is not None:
        if str(step.tb_frame.f_globals.get("__name__")).startswith("whet_user_"):
            place = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return place


def _flushed(code: int) -> int:
    """Write out what is still to be written, and return the exit code."""
    if sys.stdout is None:
        return code
    try:
        sys.stdout.flush()
    except OSError as error:
        if not isinstance(error, BrokenPipeError):
            _say(f"whet: standard output: {error.strerror}. The answer is not whole; mend that and run the command again.")
            code = code or 1
        code = code or GONE
    if code in {1, GONE} and isinstance(sys.stdout, io.TextIOWrapper):
        with suppress(OSError, ValueError):
            sys.stdout.flush()
            return code
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the interpreter flushes once more
    return code


def _again(swallowed: sys.UnraisableHookArgs) -> None:
    """Interrupt again where an interrupt came at a place that swallows it, such as within an import."""
    if isinstance(swallowed.exc_value, KeyboardInterrupt):
        signal.setitimer(signal.ITIMER_REAL, 0.01)
    else:
        sys.__unraisablehook__(swallowed)


def _judged(run: Any, as_json: bool) -> None:
    from whet.report.terminal import show_report

    report = run.report
    if as_json:
        values = {
            "run": str(run.path),
            "n": report["n"],
            "verdict": report["verdict"],
            "metrics": report["metrics"],
            "hints": report["hints"],
            "report": str(run.results / "report.html"),
        }
        values |= {"gate": report["gate"]} if "gate" in report else {}
        _answer(True, values)
        _say(report["verdict"]["sentence"])
    else:
        show_report(report, _console(), page=str(run.results / "report.html"))
        if report.get("gate", {}).get("decision", "pass") == "pass":
            _say(f"Use it: whet predict {quoted(run.path)} FILE")
    if report.get("gate", {}).get("decision", "pass") != "pass":
        from whet.report.gate import refusals

        raise Refused(
            "\n".join([report["gate"]["sentence"], *refusals(report["gate"])]) if as_json else report["gate"]["sentence"]
        )


def _console() -> Any:
    from whet.stages.narrate import Terminal

    return Terminal(stderr=True)


def _narrator() -> Any:
    from whet.stages.narrate import Narrator

    return Narrator(_console())


def _speak_utf8() -> None:
    """Read and write UTF-8, whatever the terminal's own encoding, so that no text of the user's can stop a command."""
    if sys.stderr is None:  # closed: what is said to it must not go to standard output instead
        sys.stderr = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="replace" if stream is sys.stdin else "backslashreplace")


def _say(text: str) -> None:
    with suppress(OSError):  # whoever cannot be told is not told
        print(plain(text), file=sys.stderr)


def _print(text: str) -> None:
    """Write to standard output; to a terminal nothing that it would act on."""
    if sys.stdout is None:
        raise DataError("standard output is closed, so the answer cannot be written. Open it, or leave out what closes it.")
    print(plain(text) if sys.stdout.isatty() else text)


def _answer(as_json: bool, values: dict[str, Any]) -> None:
    if as_json:
        _ANSWERED.add(True)
        _print(json.dumps(finite(values), ensure_ascii=False, allow_nan=False))


def _fail(kind: str, message: str, code: int) -> None:
    """Answer a program, where there is no other answer, with what went wrong."""
    if "--json" in sys.argv[1:] and not _ANSWERED and sys.stdout is not None:
        _answer(True, {"run": None, "error": {"kind": kind, "message": message, "exit_code": code}})
