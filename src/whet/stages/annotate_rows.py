"""Which rows are annotated, and what is asked about them: from a recipe, a data file, or the log of production."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from whet.annotation.answers import Guess
from whet.annotation.items import Item, items_of, key_of, labels_of, shown, spelt_alike
from whet.annotation.kinds import KINDS, Kind
from whet.data import names
from whet.data.columns import Column, look
from whet.data.guess import FIELDS, Purpose, guess
from whet.data.mapping import check_columns
from whet.data.notices import counted, grouped
from whet.data.profile import choose, draw
from whet.data.read import read_files
from whet.data.rows import RawRow, Reject
from whet.data.shapes import several
from whet.display import brief
from whet.errors import DataError, RecipeError
from whet.files import file_hash
from whet.recipe_data import Data
from whet.recipe_file import build_recipe, load_recipe
from whet.run import MANIFEST
from whet.stages.build import build_objective
from whet.stages.prepare import located
from whet.store.log import Item as LoggedItem
from whet.store.log import Logged, read_requests, texts_of

PURPOSES: Mapping[Kind, Purpose] = {
    "label": "classify", "labels": "classify", "rating": "classify", "spans": "tokens", "text": "sft", "preference": "sft"
}  # fmt: skip
NEEDED: Mapping[Kind, tuple[str, ...]] = {
    "label": ("text",), "labels": ("text",), "rating": ("text",), "spans": ("text",), "preference": ("chosen", "rejected"),
    "text": (),
}  # fmt: skip
"""Columns without which nothing can be shown."""
PRODUCTION = "production"
"""Who is said to have answered a logged request."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What is to be annotated."""

    title: str
    store: Path
    """Where its annotations are kept unless another file is named."""
    folder: Path
    """Where guidelines are looked for."""
    columns: Data
    kind: Kind
    items: list[Item]
    labels: tuple[str, ...]
    """Labels that stand in the files."""
    sources: Mapping[str, str]
    """The files and their hashes."""
    columns_said: tuple[str, ...] = ()
    """Which column is what, one sentence each, for who starts the page."""
    notices: tuple[str, ...] = ()
    """What annotators should know, too."""
    guesses: tuple[Guess, ...] = ()
    """What the log says that production has answered."""


def is_recipe(target: Path) -> bool:
    """Whether this names a recipe rather than rows."""
    return target.suffix.lower() in {".yaml", ".yml"}


def store_of(target: Path) -> Path:
    """Return where annotations of a recipe, a file or a log are kept."""
    place = target.with_suffix("") if is_recipe(target) else target
    return place.with_name(f"{place.name}.annotations.sqlite")


def find_rows(
    target: Path | None, *, kind: Kind | None, labels: Sequence[str] = (), sets: Sequence[str] = (), log: Path | None = None
) -> Rows:
    """Return the rows of a recipe's `data.path`, of a file, or of a log; `labels` are those that the user has named.

    With a log, a recipe or file only says which columns the rows will have. Raises DataError, RecipeError, ServerError.
    """
    if target is None and log is None:
        raise DataError("nothing to annotate: name a recipe or a data file, or a request log with --log FILE.")
    notices: list[str] = []
    said: list[str] = []
    if target is None:
        columns, found = Data(path=(str(log),)), kind
        files: list[RawRow | Reject] = []
    else:
        if target.is_fifo():
            raise DataError(f"{target}: a pipe, which can be read only once. Write it to a file, and annotate that one.")
        if (target / MANIFEST).is_file():
            raise DataError(
                f"{target}: a run, which has no rows of its own to label. Name the recipe or the file that it was made from: whet annotate "
                "RECIPE|FILE. What a served run was asked is annotated with --log FILE."
            )
        data, wanted = _section(target, sets)
        files = list(read_files([Path(name) for name in data.path], notices))
        columns, found = _columns(data, files, kind or wanted, labels, said)
    if log is not None:
        return _from_log(log, target, columns, found if kind is None and target is None else kind or found, notices)
    assert target is not None
    assert found is not None
    items, rejects = items_of(files, columns, found)
    if not items:
        first = rejects[0].sentence() if rejects else "The files have no rows."
        raise DataError(f"{target}: no row can be shown. {first}")
    if rejects:
        notices.append(f"{counted(len(rejects), 'row')} cannot be shown. The first: {rejects[0].sentence()}")
    if columns.clean == "auto":
        items, respelt = spelt_alike(items, found, labels, columns.label_synonyms)
        notices += _spellings(respelt)
    sources = {name: file_hash(Path(name)) for name in dict.fromkeys(row.file for row in files)}
    return Rows(
        title=target.stem, store=store_of(target), folder=target.parent, columns=columns, kind=found, items=items,
        labels=labels_of(items, found), sources=sources, columns_said=tuple(said), notices=grouped(notices, sources),
    )  # fmt: skip


def _spellings(respelt: Mapping[str, str]) -> list[str]:
    """Return what is said of spellings that became one; nothing where there are none."""
    if not respelt:
        return []
    shown = ", ".join(f"'{brief(spelling)}' is '{brief(name)}'" for spelling, name in list(respelt.items())[:5])
    more = f", and {len(respelt) - 5:,} more" if len(respelt) > 5 else ""
    return [
        f"{counted(len(respelt), 'spelling')} of labels shown as one with the most frequent, as training reads them: {shown}{more}. Labels "
        "that are to stay apart are named: --labels 'ONE,OTHER'."
    ]


def _section(target: Path, sets: Sequence[str]) -> tuple[Data, Kind | None]:
    """Return the recipe's data, or those of a file, and what the recipe's objective asks for."""
    if not is_recipe(target):
        values = {"model": "builtin:minilm", "data": {"path": str(target)}, "objective": "pretrain"}
        return build_recipe(values, str(target), sets).data, None
    recipe = load_recipe(target, sets)
    if recipe.tasks is not None:
        raise RecipeError(f"{target}: has several tasks, and one is annotated at a time. Name the data file of one of them.")
    needs = set(build_objective(recipe.objective, target.parent).needs)
    return located(recipe.data, target.parent), _kind_of(needs)


def _kind_of(needs: set[str]) -> Kind | None:
    """Return what is asked about rows of an objective; none where it learns from plain text."""
    if {"chosen", "rejected"} <= needs:
        return "preference"
    if {"messages", "response", "prompt"} & needs:
        return "text"
    kinds: Mapping[str, Kind] = {"token_labels": "spans", "labels": "labels", "value": "rating", "label": "label"}
    return next((kind for need, kind in kinds.items() if need in needs), None)


def _columns(
    data: Data, rows: Sequence[RawRow | Reject], kind: Kind | None, labels: Sequence[str], said: list[str]
) -> tuple[Data, Kind]:
    """Return the columns with every guess filled in, and what is asked."""
    kept, _, _, _ = draw(rows)
    if not kept:
        first = next((row.sentence() for row in rows if isinstance(row, Reject)), "The files have no rows.")
        raise DataError(f"{', '.join(data.path)}: no row could be read. {first}")
    columns = look(kept)
    given = {key: name for key in FIELDS if (name := getattr(data, key)) is not None}
    check_columns(given, rows)
    found = kind or _fitting(columns, given, labels)
    made = guess(columns, given, PURPOSES[found])
    key = next((key for key in ("label", "labels") if key in made.columns and key not in given), None)
    if key is not None and labels and not _is_label(columns[made.columns[key]], labels):
        del made.columns[key]  # a column of few values, such as a channel, that has nothing to do with these labels
    if found in {"label", "labels", "rating"} and not {"label", "labels"} & set(made.columns):
        empty = [name for name in columns if names.plain(name) in {*names.LABEL, *names.LABELS} and not columns[name].num_filled]
        made.columns |= {"labels" if found == "labels" else "label": empty[0]} if empty else {}
    elif found == "labels" and "label" in made.columns:
        made.columns["labels"] = made.columns.pop("label")
    elif found in {"label", "rating"} and "labels" in made.columns:
        made.columns["label"] = made.columns.pop("labels")
    final = data.model_copy(update={**dict.fromkeys(FIELDS), **made.columns})
    lacking = [key for key in NEEDED[found] if getattr(final, key) is None]
    if found == "text" and final.messages is None and final.prompt is None:
        lacking = ["prompt"]
    if lacking:
        raise DataError(
            f"{', '.join(data.path)}: no column could be recognised as data.{lacking[0]}, which is needed to ask for '{found}'. Columns: "
            f"{', '.join(columns)}. Name it: --set data.{lacking[0]}=COLUMN; or ask for something else: --kind {'|'.join(KINDS)}"
        )
    said.extend(f"data.{key} is '{made.columns[key]}'." for key in FIELDS if key in made.columns and key not in given)
    return final, found


def _fitting(columns: Mapping[str, Column], given: Mapping[str, str], labels: Sequence[str]) -> Kind:
    """Return what these columns suggest to ask."""
    if labels:
        return "labels" if "labels" in given else "label"
    if given:
        told: Mapping[str, Kind] = {
            "rejected": "preference", "token_labels": "spans", "labels": "labels", "label": "label", "messages": "text",
            "response": "text", "prompt": "text",
        }  # fmt: skip
        for key, kind in told.items():
            if key in given:
                return kind
    try:
        objective, made = choose(columns)
    except DataError:  # a label column that is empty still: that is what annotating is for
        return "label"
    if made.shape == "text and number":
        return "rating"
    kinds: Mapping[str | None, Kind] = {"sft": "text", "dpo": "preference", "reward": "preference", "tokens": "spans"}
    return "labels" if objective == "classify" and "labels" in made.columns else kinds.get(objective, "label")


def _is_label(column: Column, labels: Sequence[str]) -> bool:
    values = {part for value in column.counts for part in several(value)} | set(column.counts)
    return names.plain(column.name) in {*names.LABEL, *names.LABELS} or bool(values & set(labels))


def _from_log(log: Path, target: Path | None, columns: Data, kind: Kind | None, notices: list[str]) -> Rows:
    """Return the inputs that the log kept, with what production answered as guesses, and feedback as what is said already."""
    taken = [(logged, number) for logged in read_requests(log) for number in range(len(logged.items)) if logged.status == 200]
    kept = [(logged, number) for logged, number in taken if logged.items[number].input is not None]
    if not kept:
        why = f"{counted(len(taken), 'answered input')}, and no text of any" if taken else "no answered request"
        raise DataError(
            f"{log}: holds {why}. Start the server with: whet serve RUN --log-text; texts are kept from then on, masked."
        )
    found = kind or _kind_of_log(kept)
    columns = _named(columns, found)
    rows = [_logged_row(log, place, logged, number, columns, found) for place, (logged, number) in enumerate(kept, 1)]
    items, rejects = items_of(rows, columns, found)
    if rejects:
        notices.append(f"{counted(len(rejects), 'row')} cannot be shown. The first: {rejects[0].sentence()}")
    guesses, labels = dict[str, Guess](), set(labels_of(items, found))
    for row, (logged, number) in zip(rows, kept, strict=True):
        item = logged.items[number]
        content = shown(row, columns, found)
        value: Any = item.output if found == "text" else item.label
        if isinstance(content, Reject) or value is None or found in {"spans", "preference"}:
            continue
        labels |= {value} if found == "label" else set(value) if found == "labels" else set()
        value = round(value) if found == "rating" else value
        guesses[key_of(content)] = Guess(key_of(content), PRODUCTION, value, item.confidence)
    if len(taken) > len(kept):
        notices.append(f"{counted(len(taken) - len(kept), 'logged input')} left out, whose text the server did not keep.")
    return Rows(
        title=f"{target.stem if target else log.stem}: production", store=store_of(log), folder=(target or log).parent,
        columns=columns, kind=found, items=items, labels=tuple(sorted(map(str, labels))), sources={str(log): "a log, which grows"},
        notices=tuple(notices), guesses=tuple(guesses.values()),
    )  # fmt: skip


def _kind_of_log(kept: Sequence[tuple[Logged, int]]) -> Kind:
    """Return what production answers, so that it can be put right."""
    answers = [logged.items[number].label for logged, number in kept]
    first = next((one for one in answers if one is not None), None)
    if isinstance(first, list):
        return "labels"
    if isinstance(first, int | float) and not isinstance(first, bool):
        return "rating"
    return "label" if isinstance(first, str) else "text"


def _named(columns: Data, kind: Kind) -> Data:
    """Return the columns that rows of the log get: the recipe's, and the usual ones where it names none."""
    if kind == "text":
        usual = {} if columns.messages or columns.prompt else {"prompt": "prompt", "response": columns.response or "response"}
        return columns.model_copy(update=usual)
    label = "labels" if kind == "labels" else "label"
    return columns.model_copy(update={"text": columns.text or "text", label: getattr(columns, label) or label})


def _logged_row(log: Path, place: int, logged: Logged, number: int, columns: Data, kind: Kind) -> RawRow:
    item = logged.items[number]
    assert item.input is not None
    fields: dict[str, object] = dict(item.tags)
    truth = _truth(item)
    if kind == "text":
        answer = truth if isinstance(truth, str) else item.output or ""
        if columns.messages is not None:
            fields[columns.messages] = [{"role": "user", "content": item.input}, {"role": "assistant", "content": answer}]
        else:
            fields[columns.prompt or "prompt"], fields[columns.response or "response"] = item.input, answer
        return RawRow(str(log), place, fields)
    text, pair = texts_of(item.input)
    fields[columns.text or "text"] = text if columns.text_pair else item.input
    if columns.text_pair:
        fields[columns.text_pair] = pair
    if truth is not None:
        fields[columns.labels or columns.label or "label"] = truth
    return RawRow(str(log), place, fields)


def _truth(item: LoggedItem) -> Any:
    """Return what somebody judged the answer to be; None where nobody has, or only that it was wrong."""
    if item.truth_kind != "right":
        return item.truth
    said = item.label if item.label is not None else item.output
    return said if item.truth else None
