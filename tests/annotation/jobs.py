"""Rows of every kind of job, as they stand in a file."""

from __future__ import annotations

from whet.annotation.items import Item, items_of
from whet.annotation.kinds import Kind
from whet.data.rows import RawRow
from whet.recipe_data import Data

COLUMNS = {
    "label": Data(path=("rows.csv",), text="text", label="label"),
    "labels": Data(path=("rows.csv",), text="text", labels="labels"),
    "rating": Data(path=("rows.csv",), text="text", label="stars"),
    "spans": Data(path=("rows.jsonl",), text="text", token_labels="token_labels"),
    "text": Data(path=("rows.jsonl",), prompt="prompt", response="response"),
    "preference": Data(path=("rows.jsonl",), prompt="prompt", chosen="chosen", rejected="rejected"),
}
FIELDS: dict[str, list[dict[str, object]]] = {
    "label": [
        {"text": "I was charged twice", "label": "", "channel": "email"},
        {"text": "the app crashes", "label": "", "channel": "chat"},
        {"text": "where is my refund?", "label": "billing", "channel": "chat"},
        {"text": "it will not start", "label": "", "channel": "email"},
    ],
    "labels": [{"text": "slow and dear", "labels": "price|speed"}, {"text": "lovely", "labels": ""}],
    "rating": [{"text": "lovely", "stars": ""}, {"text": "dreadful", "stars": "1"}],
    "spans": [
        {"text": "Ada Lovelace met  Charles Babbage in London.", "token_labels": ""},
        {"text": ["Paris", "is", "large"], "token_labels": ["B-PLACE", "O", "O"]},
    ],
    "text": [{"prompt": "Name a colour.", "response": "blu"}, {"prompt": "Two and two?", "response": "four"}],
    "preference": [
        {"prompt": "Say hello.", "chosen": "Hello!", "rejected": "No."},
        {"prompt": "Say goodbye.", "chosen": "Go.", "rejected": "Goodbye!"},
    ],
}
LABELS = {"label": ("billing", "bug"), "labels": ("price", "speed", "look"), "spans": ("PERSON", "PLACE")}


def rows_of(fields: list[dict[str, object]], file: str = "rows.csv") -> list[RawRow]:
    return [RawRow(file, number, row) for number, row in enumerate(fields, 2)]


def items_for(kind: Kind, fields: list[dict[str, object]] | None = None) -> list[Item]:
    items, rejects = items_of(rows_of(FIELDS[kind] if fields is None else fields), COLUMNS[kind], kind)
    assert not rejects
    return items
