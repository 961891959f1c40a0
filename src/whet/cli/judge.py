"""Verbs that look at what was made: evaluate, show, monitor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet.cli.app import app
from whet.cli.options import Json, JudgedSets, Own, RunPath, Test
from whet.cli.say import answer, console, judged, narrator, say
from whet.errors import Refused


@app.command()
def evaluate(
    run: RunPath,
    test: Test = [],
    keep_learnt: Annotated[
        bool, typer.Option("--keep-learnt", help="Score rows of the file that were learnt from too; this flatters the model.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a run of several tasks, the one that the rows of --test are for.")
    ] = None,
    sets: JudgedSets = [],
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Judge a trained run against the untuned model on rows it never saw, with intervals, and write the report."""
    from whet.stages.evaluate import evaluate as judge

    judged(judge(run, test=test, sets=sets, recipe=recipe, keep_learnt=keep_learnt, task=task, narrator=narrator()), as_json)


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
        answer(as_json, {"run": None, "plugins": found}) if as_json else shown.plugins(found, console())
    elif what == "machine":
        seen = stage.show_machine()
        answer(as_json, {"run": None, **seen}) if as_json else shown.machine(seen, console())
    elif what is None:
        runs = stage.show_runs()
        answer(as_json, {"run": None, "runs": runs}) if as_json else shown.runs(runs, console())
    else:
        run = stage.show_run(Path(what))
        answer(as_json, run) if as_json else shown.run(run, console())


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
        say=say,
    )
    say(found["verdict"]["sentence"])
    say(f"More, with charts: {folder / 'monitor.html'}")
    answer(as_json, {**found, "report": str(folder / "monitor.html")})
    if fail_on_alarm and found["alarms"]:
        raise Refused("\n".join(found["alarms"]))
