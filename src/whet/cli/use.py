"""Verbs that answer: predict, chat, serve."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import IgnoreGate, Json, Own, RunPath
from whet.cli.say import answer, say, show_text


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
    task: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Only this task of a run of several; default: all of them, each with columns of its own."
        ),
    ] = None,
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Answer the rows of a file, each with its confidence."""
    from whet.stages.gate import objection
    from whet.stages.predict import load_tasks, predict_tasks
    from whet.stages.write_predictions import COUNTED, SUFFIXES, choose_format, count, from_stdin, write_predictions

    if input_form is not None and input_form not in SUFFIXES:
        raise typer.BadParameter(f"allowed: {', '.join(SUFFIXES)}", param_hint="--input-format")
    chosen = choose_format(form, out, file)
    predictors, notices = load_tasks(run, recipe, task), list[str]()
    if why := objection(next(iter(predictors.values())).tuned.run):
        say(f"Warning: {why}")
    with from_stdin(file) as place:
        rows = predict_tasks(predictors, place, abstain_below, notices, input_form and SUFFIXES[input_form])
        told = len(notices)
        for notice in notices:
            say(f"Note: {notice}")
        found = None
        if as_json and out is None:
            counts = dict.fromkeys(COUNTED, 0)
            found = list(count(rows, counts))
        else:
            counts = write_predictions(out, rows, chosen)
    for notice in notices[told:]:
        say(f"Note: {notice}")
    say(
        f"{counts['rows'] - counts['errors']:,} asked, of which {counts['abstained']:,} abstained; {counts['errors']:,} could not be asked."
    )
    values = {"run": str(run), "rows": counts["rows"], "out": out and str(out), "counts": counts, "predictions": found}
    answer(as_json, values)


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

    show = show_text if not as_json else say
    turns = converse(run, temperature=temperature, system=system, recipe=recipe, show=show, message=message, say=say)
    answer(as_json, {"run": str(run), "messages": turns})


@app.command()
def serve(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...",
            help="Trained runs, of different kinds if you like: folders, or registered NAME, NAME@ALIAS, which are followed when they move.",
        ),
    ],
    names: Annotated[
        list[str],
        typer.Option(
            "--name", metavar="NAME", help="What clients call a run; once for each, in order. Default: its folder's name."
        ),
    ] = [],
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; any but this machine's own needs an API key. Default: 127.0.0.1.")
    ] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes any free one. Default: 8000.")] = None,
    contract: Annotated[
        str | None,
        typer.Option(
            metavar="PROVIDER",
            help="Be what a provider's network asks for, with its port and routes besides: sagemaker, vertex or azureml.",
        ),
    ] = None,
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
    registry: Annotated[Path, typer.Option("--registry", metavar="DIR", help="The registry's folder.")] = Path("registry"),
    follow: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="SECONDS", help="How often to look where a registered name's alias points; 0: only at SIGHUP."
        ),
    ] = 2.0,
    ignore_gate: IgnoreGate = False,
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
        contract=contract,
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
        registry=registry,
        follow_s=follow,
        ignore_gate=ignore_gate,
    )

    def on_ready(serving: stage.Serving) -> None:
        say(f"Serving {', '.join(serving.models)} at {serving.url}/v1 (a page to try it: {serving.url}). Stop with Ctrl-C.")
        answer(as_json, serving.summary())
        sys.stdout.flush()

    stage.serve(runs, names=names, options=options, recipe=recipe, say=say, on_ready=on_ready)
    say("Stopped.")
