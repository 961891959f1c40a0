"""What `whet show` prints: a run and its reasons, all runs, the plugins, the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from whet.report.plan import plan_against_actual
from whet.report.terminal import show_report


def run(found: Mapping[str, Any], console: Console) -> None:
    """Print a run: what it is, why each `auto` became what it is, how training went, how it was judged."""
    manifest = found["manifest"]
    base, plan, actual = manifest.get("base", {}), manifest.get("plan", {}), manifest.get("actual", {})
    console.print(Text(f"{found['run']}  ({manifest.get('kind')})", style="bold"))
    if base:
        learning = manifest.get("trainable_parameters")
        share = f", {learning:,} learning" if learning else ""
        console.print(Text(f"Base model {base['name']}: {base['parameters']:,} parameters{share}"))
    if plan:
        console.print(
            Text(
                f"Plan: {plan['num_steps']:,} steps of {plan['batch_size']} rows, rate {plan['learning_rate']:g}, {plan['precision']}"
            )
        )
    for name, phase in manifest.get("phases", {}).items():
        early = ", stopped early" if phase["stopped_early"] else ""
        console.print(Text(f"Phase {name}: {phase['steps']:,} steps{early}; best at step {phase['best_step']:,}"))
    if actual.get("train_s") and isinstance(actual.get("tokens", 0), int):
        console.print(Text(f"Took {actual['train_s']:,.0f} s to train, {actual.get('tokens', 0):,} tokens"))
    for name, words in plan_against_actual(manifest).items():
        console.print(Text(f"{name.capitalize()}: {words}"))
    if manifest.get("decisions"):
        table = Table(
            "setting", "became", "because", title="What was left to whet", title_justify="left", box=None, pad_edge=False
        )
        for decision in manifest["decisions"]:
            table.add_row(Text(decision["key"]), Text(str(decision["value"])), Text(decision["reason"]))
        console.print(table)
    if found["report"] is not None:
        console.print()
        show_report(found["report"], console, page=f"{found['run']}/report.html")
    for one in found["evaluations"]:
        console.print()
        console.print(Text.assemble(("Also judged on ", "bold"), f"{', '.join(one['test'] or [one['name']])}: {one['verdict']}"))
        console.print(Text(f"More, with charts: {one['report']}", style="dim"), soft_wrap=True)


def runs(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print one line per run."""
    if not found:
        console.print(Text("No runs under runs/ yet. Begin with: whet auto FILE"))
        return
    table = Table(box=None, pad_edge=False)
    longest = max(len(one["run"]) for one in found)  # a name is there to be copied, so it is the last to be broken
    table.add_column("run", overflow="fold", min_width=longest if longest + 24 <= console.width else None)
    table.add_column("model", overflow="fold")
    table.add_column("verdict")
    for one in found:
        table.add_row(Text(one["run"]), Text(str(one["model"] or "")), Text(one["verdict"]))
    console.print(table)


def plugins(found: Sequence[Mapping[str, Any]], console: Console) -> None:
    """Print each plugin by kind, with its settings and their defaults."""
    for kind in dict.fromkeys(one["kind"] for one in found):
        console.print(Text(kind, style="bold"))
        for one in (one for one in found if one["kind"] == kind):
            settings = ", ".join(f"{name}={setting.get('default', 'required')}" for name, setting in one["settings"].items())
            console.print(Text(f"  {one['name']}: {one['summary']}" + (f" [{settings}]" if settings else "")))


def machine(seen: Mapping[str, Any], console: Console) -> None:
    """Print what this machine computes with."""
    for key, value in {**seen["machine"], "precision": seen["precision"], "frozen_precision": seen["frozen_precision"]}.items():
        console.print(Text(f"{key}: {value}"))
    for name, version in seen["versions"].items():
        if name not in seen["machine"]:  # torch's is said above
            console.print(Text(f"{name}: {version or 'not installed'}"))
    for name, there in seen["models"].items():
        console.print(Text(f"{name}: {'ready' if there else 'not installed'}"))


def registered(found: Sequence[Mapping[str, Any]], console: Console, *, history: bool = False) -> None:
    """Print one line per version of each registered name, and if asked what was changed."""
    if not found:
        console.print(Text("No model is registered yet. Begin with: whet registry add NAME RUN"))
    for one in found:
        table = Table("version", "is", "run", "gate", "added", title=one["name"], title_justify="left", box=None, pad_edge=False)
        for version in one["versions"]:
            cells = (str(version["version"]), ", ".join(version["aliases"]), version["run"], version["gate"], version["added"])
            table.add_row(*(Text(cell, overflow="fold") for cell in cells))
        console.print(table)
        for change in one["history"] if history else ():
            where = f" {change['alias']}: {change['before'] or 'nothing'} -> {change['version']}" if change["alias"] else ""
            what = where or f" version {change['version']}"
            why = f": {change['why']}" if change["why"] else ""
            ignored = f" (its gate was ignored: {change['objection']})" if change["objection"] else ""
            console.print(Text(f"{change['when']} {change['who']} {change['action']}{what}{why}{ignored}"), soft_wrap=True)
