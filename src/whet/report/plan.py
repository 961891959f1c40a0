"""A plan on the terminal: the sentence first, memory by part as bars, what fits, what to do. And a run's plan against what it took."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

GIB = 2**30
BAR = 32
"""Characters of the longest bar."""


def show_plan(found: Mapping[str, Any], console: Console) -> None:
    """Print a plan; `found` is what the stage returned."""
    memory, facts = found["memory"], found["facts"]
    console.print(Text(found["sentence"], style="bold green" if found["fits"] else "bold red"))
    console.print()
    console.print(Text(f"Memory during {memory['moment']}, of {size(memory['limit_bytes'])} that are free", style="bold"))
    console.print(bars(memory["parts"], memory["bytes"]))
    if memory["measured_bytes"]:
        console.print(
            Text(
                f"Measured in three steps, the first with the longest rows: {size(memory['measured_bytes'])}; the formula says "
                f"{size(memory['step_bytes'])} for a step."
            )
        )
    steps = (
        f"{facts['steps']:,} steps of {facts['batch_size']} rows" if facts["steps"] else f"steps of {facts['batch_size']} rows"
    )
    rank = f" at rank {facts['rank']}" if facts["rank"] else ""
    console.print(
        Text(
            f"{facts['rows']:,} rows of {facts['mean_tokens']:g} tokens (longest {facts['longest_tokens']:,}), {steps}, {facts['precision']}; "
            f"{facts['learning']:,} of {facts['parameters']:,} parameters learn ({facts['technique']}{rank})."
        )
    )
    if found["seconds"]:
        console.print(Text("The short end of the time is early stopping at its soonest, the long end is every planned step."))
    if found["disk"]:
        disk = found["disk"]
        console.print(
            Text(
                f"Disk: {size(disk['bytes'])} ({disk['checkpoints']} checkpoints of {size(disk['checkpoint_bytes'])}, and the model)"
            )
        )
    if found["money"]:
        money = found["money"]
        console.print(Text(f"Money: {money['low']:,.2f} to {money['high']:,.2f} at {money['per_hour']:g} an hour"))
    console.print()
    console.print(_fitting("This model, by technique", "technique", found["techniques"]))
    console.print()
    if found["models"]:
        console.print(_fitting("Other models, each with the richest of full, lora, qlora that fits", "model", found["models"]))
        console.print()
    for one in found["advice"]:
        console.print(Text.assemble(("Advice: ", "bold"), f"{one['advice']} ({one['why']})."), soft_wrap=True)


def bars(parts: Mapping[str, int], total: int) -> Table:
    """Return one bar for each part of the memory, the largest first."""
    table = Table(box=None, pad_edge=False, show_header=False)
    largest = max(parts.values(), default=1)
    for name, value in sorted(parts.items(), key=lambda item: -item[1]):
        table.add_row(Text(name), Text("█" * max(1, round(BAR * value / largest)), style="cyan"), Text(size(value)))
    table.add_row(Text("together", style="bold"), "", Text(size(total), style="bold"))
    return table


def size(value: float) -> str:
    """Return bytes in words: '1.4 GiB', '35 MiB'."""
    return f"{value / GIB:,.1f} GiB" if value >= 0.95 * GIB else f"{value / 2**20:,.0f} MiB"


def plan_against_actual(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return what was planned and what it took, in words, by what is compared; nothing where a run says neither."""
    plan, actual = manifest.get("plan", {}), manifest.get("actual", {})
    found: dict[str, str] = {}
    planned, peak = plan.get("memory"), actual.get("peak_accelerator_bytes") or actual.get("peak_memory_bytes")
    if isinstance(planned, Mapping) and isinstance(peak, int):
        share = f"{100 * planned['bytes'] / peak:.0f} % of it" if peak else ""
        found["memory"] = f"{size(planned['bytes'])} planned, {size(peak)} at the peak (planned: {share})"
    seconds, took = plan.get("seconds"), actual.get("train_s")
    if isinstance(seconds, Mapping) and took:
        found["time"] = f"{seconds['low']:,.0f} to {seconds['high']:,.0f} s foreseen after the first steps, {took:,.0f} s taken"
    return found


def _fitting(title: str, name: str, rows: Any) -> Table:
    table = Table(box=None, pad_edge=False, title=title, title_justify="left", title_style="bold")
    for heading in (
        name,
        "parameters" if name == "model" else "learning",
        *(("with",) if name == "model" else ()),
        "memory",
        "fits",
    ):
        table.add_column(heading, justify="right" if heading in {"parameters", "learning", "memory"} else "left")
    for row in rows:
        count = row["parameters"] if name == "model" else row["learning"]
        chosen = " (the recipe's)" if row.get("chosen") else ""
        more = (row["technique"],) if name == "model" else ()
        cells = (f"{row[name]}{chosen}", f"{count / 1e6:,.1f} M", *more, size(row["bytes"]), "yes" if row["fits"] else "no")
        table.add_row(*(Text(cell) for cell in cells), style="" if row["fits"] else "dim")
    return table
