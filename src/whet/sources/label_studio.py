"""Rows of Label Studio's exports."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import Any

from whet.collect.exports import Exports, Paths, Span, longest_text, pages, settled, tags
from whet.collect.page import Mark, Page
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.table import Reading
from whet.plugins import plugin

VALUES = {
    "choices": "choices", "taxonomy": "taxonomy", "rating": "rating", "number": "number", "textarea": "text",
    "pairwise": "selected", "datetime": "datetime",
}  # fmt: skip
"""Where an answer stands, by the type of its control."""
LISTS = frozenset({"choices", "taxonomy"})
"""Controls that may give several labels."""
OWN = frozenset({"id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time"})
"""What the format JSON-MIN adds to a task's data and answers."""
ASIDE = "whet"
"""What whet itself writes into the data of tasks that it exports."""


@plugin
class LabelStudio(Exports):
    """Tasks labelled in Label Studio: a column for each field and each control; of several people the majority counts."""

    path: Paths
    """The export, in the format JSON or JSON-MIN; one or several files."""

    @classmethod
    def recognises(cls, record: Mapping[str, object]) -> bool:
        """Whether it is a task with its annotations, or a task and one annotation in short."""
        whole = isinstance(record.get("data"), Mapping) and isinstance(record.get("annotations"), list)
        return whole or {"annotation_id", "annotator", "lead_time"} <= record.keys()

    def collect(self, after: Mark | None) -> Iterator[Page]:
        """Yield a row for each task. Raises DataError where a file is missing or broken."""
        files = self.files()
        several = {
            name
            for row in read_files(files)
            if isinstance(row, RawRow)
            for answers in _given(row.fields)
            for name, value in answers.items()
            if isinstance(value, tuple) and len(value) > 1
        }
        yield from pages(files, after, partial(_row, several), Reading())


def _row(several: Collection[str], row: RawRow) -> RawRow | Reject:
    """Return the task as a row. A control in `several` gives lists; the export does not say which ones may."""
    if not LabelStudio.recognises(row.fields):
        return Reject(
            row.file, row.line, "is no task of Label Studio (no 'data' and 'annotations')", "Export as JSON or JSON-MIN."
        )
    said: dict[str, list[object]] = {}
    for answers in _given(row.fields):
        for name, value in answers.items():
            plain = value if not isinstance(value, tuple) else sorted(value) if name in several else value[0]
            said.setdefault(name, []).append(plain)
    return settled(row, _shown(row.fields, said), said)


def _shown(record: Mapping[str, Any], said: Collection[str]) -> dict[str, object]:
    data = record.get("data")
    if isinstance(data, Mapping) and "annotations" in record:
        return {name: value for name, value in data.items() if name != ASIDE}
    return {name: value for name, value in record.items() if name not in OWN and name not in said}


def _given(record: Mapping[str, Any]) -> list[dict[str, object]]:
    """Return what each person said, by the names of the controls; of a task with a ground truth, that alone. Labels are tuples."""
    annotations = record.get("annotations")
    if not isinstance(annotations, list) or not isinstance(record.get("data"), Mapping):
        return [_short(record)]
    kept = [one for one in annotations if isinstance(one, Mapping) and not one.get("was_cancelled")]
    kept = [one for one in kept if one.get("ground_truth") is True] or kept
    return [_answers(one.get("result"), record["data"]) for one in kept]


def _answers(results: object, task: Mapping[str, Any]) -> dict[str, object]:
    found: dict[str, object] = {}
    spans: dict[str, list[Span]] = {}
    texts: dict[str, str] = {}
    for one in results if isinstance(results, list) else ():
        value = one.get("value") if isinstance(one, Mapping) else None
        if not isinstance(value, Mapping):
            continue
        name, kind = str(one.get("from_name")), str(one.get("type"))
        if (span := _span(value)) is not None:
            spans.setdefault(name, []).append(span)
            texts[name] = _text(one, task)
        elif value.get(VALUES.get(kind, "")) is not None:
            found[name] = _labels(value[VALUES[kind]]) if kind in LISTS else _single(value[VALUES[kind]])
    return found | {name: tags(texts[name], all_of) for name, all_of in spans.items()}


def _short(record: Mapping[str, Any]) -> dict[str, object]:
    """Return the answers of JSON-MIN, which stand beside the task's own data: those of a form that only answers have."""
    shown = {name: value for name, value in record.items() if name not in OWN and isinstance(value, str)}
    found: dict[str, object] = {}
    for name, value in record.items():
        if isinstance(value, Mapping) and isinstance(value.get("choices"), list):
            found[name] = _labels(value["choices"])
        elif isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
            spans = [span for one in value if (span := _span(one)) is not None]
            inner = next((kind for kind in VALUES.values() if kind in value[0]), None)
            if len(spans) == len(value):
                found[name] = tags(longest_text(shown), spans)
            elif inner is not None:
                found[name] = _labels(value[0][inner]) if inner in LISTS else _single(value[0][inner])
    return found


def _span(value: Mapping[str, Any]) -> Span | None:
    start, end, kinds = value.get("start"), value.get("end"), value.get("labels") or value.get("hypertextlabels")
    if isinstance(start, int) and isinstance(end, int) and isinstance(kinds, list) and kinds:
        return start, end, str(kinds[0])
    return None


def _labels(value: object) -> tuple[str, ...]:
    """Return the labels of a choice, or of a taxonomy, whose labels are paths."""
    values = value if isinstance(value, list) else [value]
    return tuple(" / ".join(map(str, one)) if isinstance(one, list) else str(one) for one in values) or ("",)


def _single(value: object) -> object:
    return "\n".join(map(str, value)) if isinstance(value, list) else value


def _text(result: Mapping[str, Any], task: Mapping[str, Any]) -> str:
    """Return the text that a span counts characters of: that of the object's own name, else the longest of the task."""
    own = task.get(str(result.get("to_name")))
    return own if isinstance(own, str) else longest_text({name: value for name, value in task.items() if name != "source"})
