"""The final mapping of columns: the user's own names, checked against the files, and guesses for the rest."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from whet.data.columns import look
from whet.data.guess import FIELDS, Purpose, guess
from whet.data.profile import draw
from whet.data.raw import RawRows
from whet.data.rows import RawRow, Read, Reject
from whet.display import brief, listed, places
from whet.errors import DataError
from whet.recipe_data import Data

OPTIONAL = frozenset({"input", "system", "text_pair"})


def purpose_of(needs: Sequence[str]) -> Purpose:
    """Return which guesses serve an objective with these needs."""
    if {"messages", "prompt", "chosen", "rejected", "response"} & set(needs):
        return "sft"
    if "token_labels" in needs:
        return "tokens"
    return "classify" if {"label", "labels", "value"} & set(needs) else "pretrain"


def resolve(data: Data, needs: tuple[str, ...], rows: Read, notices: list[str]) -> Data:
    """Return `data` with a column for all that is needed. Raises DataError where a name is wrong or a guess impossible.

    `rows` are those of `data.path`; the reason for each guess goes to `notices`.
    """
    kept, files, _, num_rejects = draw(rows)
    where = places(files) or ", ".join(data.path)
    if not kept:
        worst = next((row.sentence() for row in rows if isinstance(row, Reject)), "the file has no rows")
        raise DataError(f"{where}: no row could be read ({num_rejects} rejected). The first: {worst}")
    given = {key: name for key in FIELDS if (name := getattr(data, key)) is not None}
    placing = {"time": data.time, "part": data.part} | {f"group ({name})": name for name in data.group}
    placed = {key: name for key, name in placing.items() if name is not None}
    check_columns({**given, **placed, **{f"slices ({name})": name for name in data.slices}}, rows)
    columns = {name: column for name, column in look(kept).items() if name not in {*placed.values()} - {*given.values()}}
    made = guess(columns, given, purpose_of(needs))
    final = data.model_copy(update=made.columns)
    for key in _lacking(final, needs):
        names = listed(columns)
        free = [name for name in columns if name not in made.columns.values()] or list(columns)
        like = next((name for name in free if not columns[name].is_about), free[0])
        raise DataError(
            f"{where}: no column could be recognised as data.{key} among: {names}. Name it, for example: --set data.{key}={like}"
        )
    notices.extend(made.reasons)
    unused = [name for name in columns if columns[name].says_part and name not in {*made.columns.values(), *final.slices}]
    notices.extend(
        f"Column '{name}' is not used: rows are divided by data.split. To follow what it says, name it as data.part."
        for name in unused
    )
    return final


def _columns_of(rows: Read) -> Mapping[str, Mapping[str, None]]:
    """Return the columns that any row of each file has, in the order in which they come."""
    if isinstance(rows, RawRows):
        return rows.columns
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        if isinstance(row, RawRow):
            found.setdefault(row.file, {}).update(dict.fromkeys(row.fields))
    return found


def check_columns(named: Mapping[str, str], rows: Read) -> None:
    """Raise DataError where a file of these rows has no column of a name. `named` maps keys of `data` to columns."""
    for file, columns in _columns_of(rows).items():
        for key, name in named.items():
            if name not in columns:
                near, outer = _nearest(name, list(columns)), name.partition(".")[0]
                hint = f" Did you mean '{near}'?" if near else ""
                if outer in columns:
                    hint = (
                        f" What stands within '{brief(outer)}' is no column: write it at the top of each row, beside the others."
                    )
                raise DataError(
                    f"{file}: there is no column '{brief(name)}', which data.{key} names.{hint} Columns found: {listed(columns)}."
                )


def required(final: Data) -> dict[str, str]:
    """Return the columns that every file must have."""
    return {key: name for key in FIELDS if key not in OPTIONAL and (name := getattr(final, key)) is not None}


def _nearest(name: str, columns: Sequence[str]) -> str | None:
    folded = {column.casefold(): column for column in columns}
    near = difflib.get_close_matches(name.casefold(), list(folded), n=1, cutoff=0.5)
    return folded[near[0]] if near else None


def _lacking(final: Data, needs: Sequence[str]) -> list[str]:
    """Return the keys of `data` that a need has no column for."""
    lacking = []
    if "text" in needs and final.text is None:
        lacking.append("text")
    if {"label", "value"} & set(needs) and final.label is None:
        lacking.append("label")
    if "labels" in needs and final.labels is None and final.label is None:
        lacking.append("labels")
    if purpose_of(needs) == "sft" and final.messages is None and final.chosen is None:
        wanted = ("prompt", "response") if {"messages", "response"} & set(needs) else ("prompt",)
        lacking += [key for key in wanted if getattr(final, key) is None]
    return lacking + [
        key for key in ("chosen", "rejected", "text_pair", "token_labels") if key in needs and getattr(final, key) is None
    ]
