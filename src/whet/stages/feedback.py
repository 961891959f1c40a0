"""The request log's feedback as labelled rows, with the columns that a run was trained on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

from whet.data.notices import counted
from whet.data.rows import RawRow
from whet.errors import DataError
from whet.recipe_data import Data
from whet.store.log import Item, read_requests, texts_of

SAYS = frozenset({"label", "labels", "value", "messages"})
"""Needs of an objective that feedback can meet, one of them."""
CANNOT = frozenset({"chosen", "rejected", "token_labels", "response", "text_pair"})
"""Needs that no feedback says."""


def feedback_rows(
    log: Path, fingerprints: Collection[str], columns: Data, needs: tuple[str, ...], notices: list[str]
) -> list[RawRow]:
    """Return a row for each input of the log that somebody judged, with its text and what the answer should have been.

    Only requests to models with these `fingerprints` count. What is left out, and why, goes to `notices`. A row's line is its place
    among the log's inputs. Raises ServerError, and DataError where the log's feedback is none that the objective can learn from.
    """
    if CANNOT & set(needs) or not SAYS & set(needs):
        raise DataError(
            f"{log}: feedback gives labels, numbers and corrected answers, and the objective learns from {', '.join(needs)}. "
            "Name files with such rows instead of --log."
        )
    rows: list[RawRow] = []
    left: Counter[str] = Counter()
    place = 0
    for logged in read_requests(log):
        for item in logged.items:
            place += 1
            if item.truth_kind is None:
                continue
            why = "others" if logged.fingerprint not in fingerprints else _unusable(item, needs)
            if why:
                left[why] += 1
            else:
                rows.append(RawRow(str(log), place, _fields(item, columns)))
    if left["no text"] and not rows:
        raise DataError(
            f"{log}: {counted(left['no text'], 'judged answer')}, and no text is there to learn from: the server kept none. "
            "Start it with: whet serve NAME --log-text; or name a file with the labelled rows."
        )
    if not rows:
        others = f" {counted(left['others'], 'judgement')} are of other models." if left["others"] else ""
        wrong = f" {counted(left['wrong'], 'answer')} were called wrong, and not what would be right." if left["wrong"] else ""
        kind = f" {counted(left['kind'], 'judgement')} are of another kind than the run answers." if left["kind"] else ""
        raise DataError(
            f"{log}: holds no feedback on this model to learn from.{others}{wrong}{kind} Send some to /v1/feedback, or name a file."
        )
    said = {
        "no text": "whose text the server did not keep (--log-text)",
        "wrong": "that were called wrong without what would be right",
        "kind": "of another kind than the run answers",
        "others": "of other models",
    }
    notices += [f"{counted(left[why], 'judged answer')} left out, {words}." for why, words in said.items() if left[why]]
    return rows


def _unusable(item: Item, needs: tuple[str, ...]) -> str:
    """Return why an input cannot be learnt from; nothing where it can."""
    if item.input is None:
        return "no text"
    if item.truth_kind == "right":
        if not item.truth:
            return "wrong"
        return "kind" if _said(item) is None else ""
    wanted = "value" if "value" in needs else "labels" if "labels" in needs else "label" if "label" in needs else "correction"
    return "" if item.truth_kind == wanted else "kind"


def _said(item: Item) -> Any:
    """Return what the answer is by somebody's judgement: what they named, or what the model said and they called right."""
    if item.truth_kind != "right":
        return item.truth
    return item.label if item.label is not None else item.output


def _fields(item: Item, columns: Data) -> dict[str, object]:
    """Return the row as a file with the run's columns would have it."""
    assert item.input is not None
    truth, fields = _said(item), dict[str, object](item.tags)
    if columns.text is not None:
        text, pair = texts_of(item.input) if columns.text_pair is not None else (item.input, None)
        fields[columns.text] = text
        if columns.text_pair is not None:
            fields[columns.text_pair] = pair
        fields[columns.labels or columns.label or "label"] = truth
    elif columns.messages is not None:
        fields[columns.messages] = [{"role": "user", "content": item.input}, {"role": "assistant", "content": truth}]
    else:
        fields[columns.prompt or "prompt"] = item.input
        fields[columns.response or "response"] = truth
    return fields
