"""The result as a picture: for each work a bar for each trainer, from 0, each measurement as a dot, and the machine's limit as a line."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from bench.train.figures import OURS
from bench.train.works import GPU_WORKS, WORKS

SHAPES = {
    "m15": "15M Llama",
    "m135": "135M Llama",
    "q05": "0.5B Qwen 2",
    "encoder22": "22M encoder",
    "l1": "1B Llama",
    "l3": "3B Llama",
}
MODES = {"lora": "LoRA", "full": "all weights"}
WIDTH, LEFT, RIGHT, BAR, GAP, HEAD = 820, 170, 90, 20, 6, 46
OURS_FILL, THEIRS_FILL, INK, FAINT, PAPER = "#0b5fa5", "#9aa4ad", "#1b1f23", "#d5dadf", "#ffffff"


def draw(result: Mapping[str, Any]) -> str:
    """Return the SVG. Every number in it also stands in the text beside it, for who does not see it."""
    parts, top = [], 8.0
    for work, rates in result.get("tokens_per_s", {}).items():
        panel, height = _panel(result, work, rates, top)
        parts += panel
        top += height
    said = "; ".join(_sentence(result, work, rates) for work, rates in result.get("tokens_per_s", {}).items())
    machine = result["machine"]["processor"]
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {top:.0f}" role="img" aria-labelledby="title desc" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{INK}">'
    )
    title = f'<title id="title">Training speed of whet and its peers, in tokens per second, on {escape(machine)}</title>'
    desc = f'<desc id="desc">{escape(said)}</desc><rect width="{WIDTH}" height="{top:.0f}" fill="{PAPER}"/>'
    return "\n".join([head, title, desc, *parts, "</svg>"]) + "\n"


def named(name: str) -> str:
    """Return what a work is called to people."""
    work = (WORKS | GPU_WORKS)[name]
    said = [SHAPES[work.shape], MODES[work.mode]]
    if work.frozen_precision == "int8":
        said.append("whet in int8")
    if work.order == "grouped" and not work.gpu:
        said.append("rows grouped by length")
    return ", ".join(said)


def ticks(largest: float) -> list[float]:
    """Return round numbers from 0 that reach at least `largest`: steps of 1, 2 or 5 times a power of ten, six at most."""
    power = 10.0 ** math.floor(math.log10(largest / 6))
    step = next(times * power for times in (1, 2, 5, 10) if times * power * 6 >= largest)
    return [number * step for number in range(math.ceil(largest / step) + 1)]


def _panel(result: Mapping[str, Any], work: str, rates: Mapping[str, float], top: float) -> tuple[list[str], float]:
    limit = result.get("limit", {}).get(work, {}).get("tokens_per_s")
    dots = {peer: [row["tokens_per_s"] for row in result["rows"] if (row["work"], row["peer"]) == (work, peer)] for peer in rates}
    marks = ticks(max([*rates.values(), *(value for some in dots.values() for value in some), limit or 0.0]))
    scale = (WIDTH - LEFT - RIGHT) / marks[-1]
    order = sorted(rates, key=lambda peer: (peer != OURS, -rates[peer]))
    bottom = top + HEAD + len(order) * (BAR + GAP)
    parts = [f'<text x="{LEFT}" y="{top + 18:.0f}" font-weight="600">{escape(named(work))}, bf16, tokens/s</text>']
    for mark in marks:
        x = LEFT + mark * scale
        parts.append(f'<line x1="{x:.1f}" y1="{top + HEAD - 4:.0f}" x2="{x:.1f}" y2="{bottom:.0f}" stroke="{FAINT}"/>')
        parts.append(f'<text x="{x:.1f}" y="{top + HEAD - 9:.0f}" text-anchor="middle" font-size="11">{mark:,.0f}</text>')
    for place, peer in enumerate(order):
        parts += _bar(result, peer, rates[peer], dots[peer], scale, top + HEAD + place * (BAR + GAP))
    if limit:
        x = LEFT + limit * scale
        parts.append(
            f'<line x1="{x:.1f}" y1="{top + HEAD - 4:.0f}" x2="{x:.1f}" y2="{bottom:.0f}" stroke="{INK}" stroke-dasharray="5 3"/>'
        )
        parts.append(f'<text x="{x + 4:.1f}" y="{bottom - 8:.0f}" font-size="11">limit {limit:,.0f}</text>')
    return parts, bottom - top + 22


def _bar(result: Mapping[str, Any], peer: str, rate: float, dots: Sequence[float], scale: float, y: float) -> list[str]:
    name = "whet" if peer == OURS else result["peers"][peer]["title"]
    fill, middle = OURS_FILL if peer == OURS else THEIRS_FILL, y + BAR / 2
    parts = [
        f'<text x="{LEFT - 8}" y="{middle + 4.5:.1f}" text-anchor="end">{escape(name)}</text>',
        f'<rect x="{LEFT}" y="{y:.1f}" width="{rate * scale:.1f}" height="{BAR}" fill="{fill}"/>',
        f'<text x="{LEFT + max([rate, *dots]) * scale + 8:.1f}" y="{middle + 4.5:.1f}" font-weight="600">{rate:,.0f}</text>',
    ]
    dot = '<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{paper}" stroke="{ink}"/>'
    return parts + [dot.format(x=LEFT + value * scale, y=middle, paper=PAPER, ink=INK) for value in dots]


def _sentence(result: Mapping[str, Any], work: str, rates: Mapping[str, float]) -> str:
    names = {peer: "whet" if peer == OURS else result["peers"][peer]["title"] for peer in rates}
    listed = ", ".join(f"{names[peer]} {rates[peer]:,.0f}" for peer in sorted(rates, key=lambda peer: -rates[peer]))
    return f"{named(work)}: {listed}"
