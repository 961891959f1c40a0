"""Annotations out to training and other tools, and in from them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args

from whet.annotation import argilla, label_studio, rows_out
from whet.annotation.consensus import judge
from whet.annotation.exchange import Finder, Incoming, Taken, records, take
from whet.annotation.kinds import Job
from whet.annotation.sessions import is_name
from whet.annotation.store import Store
from whet.data.mapping import check_columns, required
from whet.data.notices import counted
from whet.data.read import read_files
from whet.data.rows import RawRow
from whet.data.write import check_place
from whet.errors import DataError
from whet.files import lines_text, write_together
from whet.stages.annotate_rows import store_of

Form = Literal["jsonl", "csv", "label-studio", "argilla"]
FORMS: tuple[Form, ...] = get_args(Form)
LEFT = {
    "flagged": "flagged", "disputed": "answered differently, and not settled yet", "open": "not answered yet",
    "no label": "with no label at all", "neither better": "where neither answer is better",
}  # fmt: skip


def export(
    target: Path, out: Path, *, form: str | None = None, store: Path | None = None, only_annotated: bool = False
) -> dict[str, Any]:
    """Write the annotations of a recipe, file or log, and return what was written and left out. Raises DataError.

    jsonl and csv hold the rows with the answer they leave with, and beside them NAME.history.jsonl every change; label-studio and
    argilla hold every person's answer.
    """
    chosen, place = _form(form, out), _place(target, store)
    check_place(out, {str(target): "what was annotated"})
    with Store(place, writes=False) as held:
        job = _job(held)
        if chosen in {"label-studio", "argilla"}:
            texts, written = _other(chosen, held, job, out)
        else:
            texts, written = _own(chosen, held, job, out, only_annotated)
        kept = {str(place): "annotations", str(target): "what was annotated"}
        kept |= {row.file: "the rows that were annotated" for item in held.items() for row in item.places}
    for file in texts:
        check_place(file, kept)
    write_together(texts)
    return {"run": None, "out": str(out), "format": chosen, **written}


def import_from(
    target: Path,
    file: Path,
    *,
    form: str | None = None,
    store: Path | None = None,
    annotator: str = "imported",
    replace: bool = False,
) -> dict[str, Any]:
    """Take over answers that were given elsewhere, and return what became of them. Raises DataError.

    An answer that is here already stays where it differs, unless `replace`; the history keeps both.
    """
    if not is_name(annotator):
        raise DataError("--annotator: a name has 1 to 64 characters, on one line.")
    place, taken = _place(target, store), Taken()
    if not place.is_file():
        raise DataError(f"{place}: there are no rows yet to bring answers to. Begin with: whet annotate {target}")
    with Store(place) as held:
        job = _job(held)
        take(held, job, list(_incoming(held, job, file, form, annotator, taken)), str(file), taken, replace=replace)
    if taken.wrong and not taken.new + taken.same + taken.kept + taken.replaced:
        raise DataError(
            f"{file}: {counted(taken.wrong, 'answer')}, and none that '{job.kind}' allows. The first: {taken.first_wrong}"
        )
    return {
        "run": None, "store": str(place), "new": taken.new, "same": taken.same, "kept": taken.kept, "replaced": taken.replaced,
        "unknown_rows": taken.unknown, "wrong": taken.wrong, "first_wrong": taken.first_wrong or None,
    }  # fmt: skip


def agreement(target: Path, *, store: Path | None = None) -> dict[str, Any]:
    """Return how far annotators agree. Raises DataError."""
    with Store(_place(target, store), writes=False) as held:
        items = {item.key: item for item in held.items()}
        return {"run": None, "store": str(held.path), **judge(_job(held), items, held.answers())}


def told(exported: dict[str, Any]) -> str:
    """Return what was written and left out, as a sentence."""
    left = [f"{number:,} {LEFT[why]}" for why, number in exported.get("left_out", {}).items()]
    how = exported.get("used", {})
    own = how.get(rows_out.FILE, 0)
    said = f"{counted(exported['rows'], 'row')}"
    said += f", {exported['rows'] - own:,} labelled here and {own:,} as the file had them" if own else ""
    return f"Wrote {exported['out']}: {said}." + (f" Left out: {', '.join(left)}." if left else "")


def _own(form: Form, held: Store, job: Job, out: Path, only_annotated: bool) -> tuple[dict[Path, str], dict[str, Any]]:
    columns = held.columns
    found = rows_out.collect(held, job, columns, only_annotated=only_annotated)
    if not found.rows:
        left = ", ".join(f"{number:,} {LEFT[why]}" for why, number in found.left_out.items())
        raise DataError(f"{held.path}: no row has an answer to be written ({left}). Label some first: whet annotate FILE")
    history = out.with_name(f"{out.stem}.history.jsonl")
    text = rows_out.as_csv(found.rows, job, columns) if form == "csv" else rows_out.as_jsonl(found.rows)
    texts = {out: text, history: lines_text(rows_out.history_lines(held, held.history()))}
    written = {"rows": len(found.rows), "history": str(history), "used": dict(found.used), "left_out": dict(found.left_out)}
    return texts, written


def _other(form: Form, held: Store, job: Job, out: Path) -> tuple[dict[Path, str], dict[str, Any]]:
    found = records(held)
    made = label_studio.tasks(found, job) if form == "label-studio" else argilla.to_records(found, job)
    texts = {out: json.dumps(made, indent=1, allow_nan=False) + "\n"}
    written: dict[str, Any] = {"rows": len(made)}
    if form == "label-studio":
        config = out.with_name(f"{out.stem}.config.xml")
        texts[config] = label_studio.config(job)
        written["config"] = str(config)
    return texts, written


def _incoming(held: Store, job: Job, file: Path, form: str | None, annotator: str, taken: Taken) -> Iterator[Incoming]:
    chosen, document = _recognised(file, form)
    if chosen in {"csv", "jsonl"}:
        columns, rows = held.columns, [row for row in read_files([file]) if isinstance(row, RawRow)]
        check_columns(required(columns), rows)
        yield from rows_out.read_rows(rows, job, columns, {item.key: item for item in held.items()}, annotator, taken)
        return
    finder = Finder(held.items(gone=True))
    read = label_studio.read_tasks if chosen == "label-studio" else argilla.read_records
    yield from read(document, job, finder, taken, str(file))


def _recognised(file: Path, form: str | None) -> tuple[Form, object]:
    """Return what a file is, and what it holds where that is JSON of another tool."""
    if form is not None and form not in FORMS:
        raise DataError(f"--format {form}: allowed are {', '.join(FORMS)}.")
    if not file.is_file():
        raise DataError(f"{file}: there is no such file. Give the path from the folder that you are in.")
    if form in {"csv", "jsonl"} or (form is None and file.suffix.lower() != ".json"):
        return ("csv" if form == "csv" or file.suffix.lower() in {".csv", ".tsv"} else "jsonl"), None
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
        found = json.loads(json.dumps(found, ensure_ascii=False).encode("utf-8", "replace"))  # no half of a character
    except (ValueError, RecursionError, OSError) as error:
        raise DataError(f"{file}: is no JSON ({error}). Export it again.") from None
    first = found[0] if isinstance(found, list) and found and isinstance(found[0], dict) else {}
    if form == "label-studio" or (form is None and "data" in first):
        return "label-studio", found
    if form == "argilla" or "fields" in first:
        return "argilla", found
    raise DataError(
        f"{file}: is neither an export of Label Studio (tasks with data and annotations) nor of Argilla (records with fields and "
        "responses). Say what it is with --format."
    )


def _form(form: str | None, out: Path) -> Form:
    found = form or {".csv": "csv", ".jsonl": "jsonl", ".ndjson": "jsonl"}.get(out.suffix.lower())
    for one in FORMS:
        if found == one:
            return one
    raise DataError(f"{form or out}: say what to write with --format: {', '.join(FORMS)}; or let the name end in .jsonl or .csv.")


def _place(target: Path, store: Path | None) -> Path:
    """Return the file of annotations of a target, which may be that file itself."""
    if store is not None:
        return store
    return target if target.suffix == ".sqlite" and store_of(target).exists() is False else store_of(target)


def _job(held: Store) -> Job:
    job = held.job
    if job is None:
        raise DataError(f"{held.path}: holds no annotations yet. Begin with: whet annotate FILE")
    return job
