"""The short form of a report, for a terminal of any width."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from whet.report.wording import baseline_title, difference, interval, percent, shown, wording

STYLES = {"better": "bold green", "same": "bold", "worse": "bold red", None: "bold"}
GATE_STYLES = {"pass": "green", "fail": "bold red", "undecided": "yellow", "skipped": "dim"}
FEW_CHECKS = 8
WIDTH = 7
"""Columns of a value."""
NARROW = 60
"""Columns below which intervals and baselines but the best are left out."""
ON_THE_PAGE = {"weighted_f1", "weighted_precision", "weighted_recall", "macro_precision", "macro_recall"}
"""Metrics left to the page, since what stands here anyway says nearly the same."""
MOST_CLASSES = 5
"""Classes shown, the weakest first."""


def show_report(report: Mapping[str, Any], console: Console, page: str = "") -> None:
    """Print the verdict, the scores with their intervals, and what else to know; `page` is where the full report lies."""
    verdict = report["verdict"]
    console.print(Text(verdict["sentence"], style=STYLES[verdict["decision"]]))
    console.print()
    if "tasks" in report:
        _show_tasks(report["tasks"], console, page)
        return
    console.print(_scores(report, narrow=console.width < NARROW))
    weakest = _weakest_classes(report)
    if weakest is not None:
        console.print()
        console.print(weakest)
    lowest = _lowest_slice(report)
    if lowest:
        console.print(Padding(Text(lowest), (1, 0, 0, 0)))
    if report.get("gate"):
        console.print()
        console.print(_gate(report["gate"]))
    if report.get("continual"):
        console.print(Padding(Text(report["continual"]["sentence"]), (1, 0, 0, 0)))
    for hint in report.get("hints") or ():
        console.print(Padding(Text(f"! {hint}", style="yellow"), (1, 0, 0, 0)))
    if page:
        console.print()
        console.print(Text(f"More, with charts: {page}", style="dim"), soft_wrap=True)


def _show_tasks(tasks: Mapping[str, Mapping[str, Any]], console: Console, page: str) -> None:
    """Print each task's report under its name, and whether sharing helped it."""
    for name, report in tasks.items():
        console.print(Text(name, style="bold underline"))
        if sharing := report.get("sharing"):
            console.print(Text(sharing["sentence"], style=STYLES[sharing["decision"]]))
        show_report(report, console)
        console.print()
    if page:
        console.print(Text(f"More, with charts: {page}", style="dim"), soft_wrap=True)


def show_challenge(found: Mapping[str, Any], console: Console, page: str = "") -> None:
    """Print whether a challenger may take over, both models' scores on the old and the new test rows, and what decided it."""
    style = "bold green" if found["passed"] else "bold red"
    console.print(Text(found["sentence"], style=style))
    console.print()
    metric = found["metric"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column(wording(metric).title)
    for head in ("Champion", "Challenger", "Difference", "Rows"):
        table.add_column(head, justify="right" if head == "Rows" else "left")
    for which, held in found["sets"].items():
        one = held["metrics"][metric]
        cells = [_cell(metric, one[who], narrow=console.width < NARROW) for who in ("champion", "challenger")]
        table.add_row(f"{which.capitalize()} test rows", *cells, difference(metric, one["difference"]), f"{held['n']:,}")
    console.print(table)
    console.print()
    for ruling in found["gate"]["rulings"]:
        console.print(Text(ruling["sentence"], style=GATE_STYLES[ruling["decision"]]))
    if page:
        console.print(Text(f"More, with charts: {page}", style="dim"), soft_wrap=True)


def _gate(gate: Mapping[str, Any]) -> Text:
    """What the gate decided, and each of its checks; those that passed only where there are few."""
    lines = [Text(gate["sentence"], style=GATE_STYLES[gate["decision"]])]
    told = [one for one in gate["rulings"] if one["decision"] in {"fail", "undecided"} or len(gate["rulings"]) <= FEW_CHECKS]
    lines += [Text(f"  {one['sentence']}", style=GATE_STYLES[one["decision"]]) for one in told]
    return Text("\n").join(lines)


def _scores(report: Mapping[str, Any], *, narrow: bool) -> Table:
    best = report["verdict"]["baseline"]
    names = [name for name in report["baselines"] if not narrow or name == best]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("")
    for head in ("Tuned", *(baseline_title(name) for name in names)):
        table.add_column(head, justify="right" if narrow else "left")
    if not narrow:
        table.add_column("Rows", justify="right")
    for metric, tuned in report["metrics"].items():
        if metric in ON_THE_PAGE and metric != report["metric"]:
            continue
        others = [report["baselines"][name]["metrics"].get(metric) for name in names]
        cells = [_cell(metric, score, narrow=narrow) for score in (tuned, *others)]
        cells[0].stylize("bold", 0, WIDTH)
        table.add_row(Text(wording(metric).title), *cells, *([] if narrow else [f"{tuned['n']:,}"]))
    return table


def _cell(metric: str, score: Mapping[str, Any] | None, *, narrow: bool) -> Text:
    value = "–" if score is None else shown(metric, score["value"])
    reach = "" if narrow or score is None else interval(metric, score["low"], score["high"]).removesuffix(" %")
    return Text.assemble(value.rjust(WIDTH), *([(f"  {reach}", "dim")] if reach else []))


def _weakest_classes(report: Mapping[str, Any]) -> Table | None:
    """Precision and recall of the classes with the lowest F1; None where no class that occurs has an error."""
    scores = [(name, one) for name, one in (report.get("per_class") or {}).items() if one["n"] and one["f1"] != 1]
    if not scores:
        return None
    scores.sort(key=lambda item: (item[1]["f1"] or 0.0, item[0]))
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("Weakest classes" if len(scores) > MOST_CLASSES else "Class", overflow="fold")
    for head in ("Precision", "Recall", "Rows"):
        table.add_column(head, justify="right")
    for name, one in scores[:MOST_CLASSES]:
        shares = ("–" if one[key] is None else f"{percent(one[key])} %" for key in ("precision", "recall"))
        table.add_row(Text(name), *shares, f"{one['n']:,}")
    return table


def _lowest_slice(report: Mapping[str, Any]) -> str:
    """Which slice is the weakest, where there are slices and the verdict has not named one."""
    metric = report["metric"]
    found = [
        (entry["metrics"][metric]["value"], column, value, entry["n"])
        for column, values in (report.get("slices") or {}).items()
        for value, entry in values.items()
        if metric in entry["metrics"] and entry["metrics"][metric]["value"] is not None
    ]
    if not found or report["verdict"].get("weakest_slice"):
        return ""
    low, high = min(found), max(found)
    if shown(metric, low[0]) == shown(metric, high[0]):
        return ""  # all alike, so none is weak
    worst, column, value, n = low if report["higher_is_better"][metric] else high
    return f"No slice is clearly below the rest; the weakest is {column} '{value}' with {shown(metric, worst)} ({n:,} rows)."
