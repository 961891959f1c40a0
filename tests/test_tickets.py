"""The example tickets are what their data statement says, and the script writes them again byte for byte."""

import csv
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

TICKETS = Path(__file__).parents[1] / "examples" / "tickets"
OUTPUTS = ("tickets.csv", "wrong_labels.csv", "predict.csv")


def read_rows(name: str) -> list[dict[str, str]]:
    """The rows of one of the committed CSV files."""
    with (TICKETS / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_script_writes_the_same_bytes_again(tmp_path: Path) -> None:
    command = [sys.executable, str(TICKETS / "make_tickets.py"), "--out", str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(OUTPUTS)
    for name in OUTPUTS:
        assert (tmp_path / name).read_bytes() == (TICKETS / name).read_bytes(), name


def test_tickets_have_enough_rows_and_ten_intents() -> None:
    rows = read_rows("tickets.csv")
    assert list(rows[0]) == ["id", "date", "channel", "customer_tier", "message", "intent", "answer"]
    assert len(rows) >= 1800
    assert len({row["message"] for row in rows if row["message"] and row["intent"]}) >= 1500
    assert len({row["intent"].strip().lower() for row in rows} - {""}) == 10


def test_phrasings_are_many_and_every_answer_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TICKETS))
    intents = importlib.import_module("phrasings").INTENTS
    topics = [topic for topics in intents.values() for topic in topics]
    assert len({phrasing.text for topic in topics for phrasing in topic.phrasings}) >= 400
    for name, of_intent in intents.items():
        assert len({answer for topic in of_intent for answer in topic.answers}) >= 4, name
    for row in read_rows("tickets.csv"):
        assert 15 <= len(row["answer"].split()) <= 45, row["id"]


def test_answers_name_only_orders_that_the_message_names() -> None:
    for row in read_rows("tickets.csv"):
        if row["message"]:
            assert set(re.findall(r"RW-\d+", row["answer"])) <= set(re.findall(r"RW-\d+", row["message"])), row["id"]


@pytest.mark.parametrize("name", ["tickets.csv", "predict.csv"])
def test_mail_addresses_and_telephone_numbers_are_invented(name: str) -> None:
    for row in read_rows(name):
        domains = re.findall(r"@([\w.-]*\w)", row["message"])
        assert set(domains) <= {"example.com", "example.org", "example.net"}, row["id"]
        for number in re.findall(r"\d{3}[ -]\d{2} ?\d{2}\b", row["message"]):
            assert re.fullmatch(r"555[ -]01\d\d", number), row["id"]


def test_wrong_labels_differ_from_the_true_intent() -> None:
    labels = {row["id"]: row["intent"] for row in read_rows("tickets.csv")}
    wrong = read_rows("wrong_labels.csv")
    assert len(wrong) == 30
    assert all(labels[row["id"]] != row["true_intent"] for row in wrong)


def test_the_data_statement_counts_each_kind_of_mess(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(TICKETS))
    mess = importlib.import_module("export_mess").MESS
    statement = (TICKETS / "README.md").read_text(encoding="utf-8")
    stated = {kind: int(count) for kind, count in re.findall(r"^\| `(\w+)` \| (\d+) \| ", statement, re.MULTILINE)}
    assert stated == mess


def test_predict_messages_are_new() -> None:
    known = {row["message"] for row in read_rows("tickets.csv")}
    fresh = read_rows("predict.csv")
    assert len(fresh) == 5
    assert not known & {row["message"] for row in fresh}
