"""The confusion matrix as a picture: with labels and counts for few classes, compact for many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from markupsafe import Markup

from whet.report.svg import element, picture
from whet.report.wording import shown, wording

MOST_LABELLED = 20
WIDE_CELL, NARROW_CELL = 40, 31
MOST_WIDE = 12
"""Classes up to which cells are wide; more would shrink the labels."""
LONGEST_LABEL = 24
AXIS_NAME, NAME_LINE = 78, 14
"""Width that the name of an axis needs, and the height of its line."""
DARK = 0.7
"""Shade from which the count is written in the light colour."""


def heat_map(confusion: Mapping[str, Any]) -> Markup:
    """The matrix: labelled up to 20 classes, compact above. Rows are true classes, shaded by their share of the row."""
    labels, counts = confusion["labels"], confusion["counts"]
    return _labelled(labels, counts) if len(labels) <= MOST_LABELLED else _compact(labels, counts)


def _labelled(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    longest = min(max(len(label) for label in labels), LONGEST_LABEL)
    left, top = max(20 + 6.6 * longest, AXIS_NAME), NAME_LINE + 22 + 4.8 * longest
    cell = WIDE_CELL if len(labels) <= MOST_WIDE else NARROW_CELL
    side = cell * len(labels)
    marks: list[str] = [
        element("text", "true class", class_="axis-name", x=left - 10, y=top - 8, text_anchor="end"),
        element("text", "predicted class", class_="axis-name", x=left, y="12"),
    ]
    for i, label in enumerate(labels):
        total, y = sum(counts[i]), top + cell * i
        marks.append(element("text", _short(label), x=left - 10, y=y + cell / 2 + 4, text_anchor="end"))
        x = left + cell * i + cell / 2
        marks.append(element("text", _short(label), x=x, y=top - 8, transform=f"rotate(-38 {x:.0f} {top - 8:.0f})"))
        marks += [_cell((labels[i], labels[j]), n, total, (left + cell * j, y, cell)) for j, n in enumerate(counts[i])]
    width, height = left + max(side + 4.8 * longest, AXIS_NAME + 20), top + side + 2
    return picture(
        "Confusion matrix",
        _words(labels, counts),
        marks,
        class_="heat",
        viewBox=f"0 0 {width:.0f} {height:.0f}",
        width=f"{width:.0f}",
        height=f"{height:.0f}",
    )


def _cell(pair: tuple[str, str], n: int, total: int, box: tuple[float, float, float]) -> Markup:
    """One cell; `pair` is true and predicted class, `box` is left, top and side."""
    left, top, side = box
    place = {"x": left + 1, "y": top + 1, "width": side - 2, "height": side - 2, "rx": "4"}
    if not n:
        return element("rect", class_="none", **place)
    is_right = pair[0] == pair[1]
    share = n / total
    shade = 0.12 + 0.88 * (share if is_right else min(1.0, 2 * share) ** 0.6)
    hint = element("title", f"{pair[0]} {'found' if is_right else f'taken for {pair[1]}'}: {n:,} of {total:,}")
    fill = element("rect", class_="hit" if is_right else "miss", fill_opacity=shade, **place)
    ink = "on-dark" if shade > DARK else "on-light"
    return element(
        "g", hint, fill, element("text", f"{n:,}", class_=ink, x=left + side / 2, y=top + side / 2 + 4, text_anchor="middle")
    )


def _compact(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    size = len(labels)
    marks: list[str] = [element("rect", class_="none", x="0", y="0", width=size, height=size)]
    for i, row in enumerate(counts):
        total = sum(row)
        for j, n in enumerate(row):
            if n:
                kind, share = ("hit", n / total) if i == j else ("miss", min(1.0, 4 * n / total))
                words = f"{labels[i]} → {labels[j]}: {n:,} of {total:,}"
                place = {"x": j, "y": i, "width": "1", "height": "1"}
                marks.append(element("rect", element("title", words), class_=kind, fill_opacity=0.25 + 0.75 * share, **place))
    return picture("Confusion matrix", _words(labels, counts), marks, class_="heat compact", viewBox=f"0 0 {size} {size}")


def stage_map(continual: Mapping[str, Any]) -> Markup:
    """The score of every stage's model (rows) on every stage's test rows (columns); darker is better."""
    stages, metric = [_name(one) for one in continual["stages"]], continual["metric"]
    tests = [_name(one["name"]) for one in continual["tests"]]
    values = [[cell["value"] for cell in row] for row in continual["matrix"]]
    known = [value for row in values for value in row if value is not None] or [0.0]
    share, sign = wording(metric).share, -1 if continual["lower_is_better"] else 1
    low, high = (0.0, 1.0) if share else (min(known), max(known))
    longest = min(max(map(len, (*stages, *tests))), LONGEST_LABEL)
    left, top, wide, tall = max(20 + 6.6 * longest, AXIS_NAME + 20), NAME_LINE + 22 + 4.8 * longest, 76, 40
    marks: list[str] = [
        element("text", "model after", class_="axis-name", x=left - 10, y=top - 8, text_anchor="end"),
        element("text", "test rows of", class_="axis-name", x=left, y="12"),
    ]
    for j, name in enumerate(tests):
        x = left + wide * j + wide / 2
        marks.append(element("text", _short(name), x=x, y=top - 8, transform=f"rotate(-38 {x:.0f} {top - 8:.0f})"))
    for i, name in enumerate(stages):
        y = top + tall * i
        marks.append(element("text", _short(name), x=left - 10, y=y + tall / 2 + 4, text_anchor="end"))
        for j, value in enumerate(values[i]):
            part = 0.0 if value is None or high == low else (value - low) / (high - low)
            shade = 0.12 + 0.88 * (part if sign > 0 else 1 - part)
            hint = element("title", f"{tests[j]} after {name}: {shown(metric, value)}, {continual['tests'][j]['n']:,} rows")
            place = {"x": left + wide * j + 1, "y": y + 1, "width": wide - 2, "height": tall - 2, "rx": "4"}
            fill = element("rect", class_="hit", fill_opacity=shade, **place)
            ink = "on-dark" if shade > DARK else "on-light"
            x = left + wide * j + wide / 2
            marks.append(
                element(
                    "g",
                    hint,
                    fill,
                    element("text", shown(metric, value), class_=ink, x=x, y=y + tall / 2 + 4, text_anchor="middle"),
                )
            )
    width, height = left + max(wide * len(tests) + 4.8 * longest, AXIS_NAME + 20), top + tall * len(stages) + 2
    words = "; ".join(
        f"after {name}: " + ", ".join(f"{test} {shown(metric, value)}" for test, value in zip(tests, row, strict=True))
        for name, row in zip(stages, values, strict=True)
    )
    size = {"viewBox": f"0 0 {width:.0f} {height:.0f}", "width": f"{width:.0f}", "height": f"{height:.0f}"}
    return picture("Every stage on every stage's test rows", words, marks, class_="heat", **size)


def _name(run: str) -> str:
    return PurePath(run).name


def _words(labels: Sequence[str], counts: Sequence[Sequence[int]]) -> str:
    total = sum(map(sum, counts))
    right = sum(row[place] for place, row in enumerate(counts))
    return f"{len(labels)} classes; {right:,} of {total:,} rows lie on the diagonal, where prediction and truth agree."


def _short(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else label[: LONGEST_LABEL - 1] + "…"
