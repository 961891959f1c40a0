"""Private data are told by default and taken out of every field where that is asked for, before anything else looks at the rows."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from whet.data.clean import build_cleaners
from whet.data.dataset import Dataset, read_dataset
from whet.data.held_out import read_held_out
from whet.data.preparing import prepare
from whet.data.redact import build_privacy, redact_row
from whet.errors import RecipeError
from whet.private.kinds import KINDS, NAMED
from whet.private.redact import Redactor
from whet.recipe_data import Data, PrivateKind, Redact
from whet.types import Example, Message

CLASSIFY = ("text", "label")
SECRETS = ("anna@firma.de", "0171 3920012")


def table(path: Path, secret: int = 10, plain: int = 50) -> str:
    rows = [(f"write number {i} to {SECRETS[i % 2]}", "ab"[i % 2]) for i in range(secret)]
    rows += [(f"question of another kind, it is {i}", "ab"[i % 2]) for i in range(plain)]
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    return str(path)


def written(dataset: Dataset, folder: Path) -> str:
    """All that a run's folder says of the rows."""
    dataset.write(folder)
    return "".join(file.read_text() for file in folder.rglob("*") if file.is_file())


def test_by_default_it_is_counted_and_told_and_nothing_is_changed(tmp_path):
    path = table(tmp_path / "a.csv")
    found, blind = prepare(Data(path=path), CLASSIFY, None), prepare(Data(path=path, redact=False), CLASSIFY, None)
    assert found.hash == blind.hash and blind.private == ()
    assert [(one.kind, one.rows, one.found) for one in found.private] == [("mail", 5, 5), ("phone", 5, 5)]
    assert found.private[0].places == tuple(f"{path}:{line}" for line in (2, 4, 6, 8, 10))
    told = [notice for notice in found.notices if "private data" in notice]
    assert told == [
        "10 rows hold private data (5 mail addresses, 5 phone numbers); nothing was changed. Mask it with: --set data.redact=true"
    ]


@pytest.mark.parametrize("redact", [True, {"mode": "replace"}, {"mode": "hash"}])
def test_where_it_is_asked_for_no_file_of_the_run_holds_any(tmp_path, redact):
    found = prepare(Data(path=table(tmp_path / "a.csv"), redact=redact), CLASSIFY, None)
    said = written(found, tmp_path / "run")
    assert not [secret for secret in SECRETS if secret in said]
    assert read_dataset(tmp_path / "run") == found
    assert json.loads((tmp_path / "run" / "data" / "accounting.json").read_text())["private"][0]["rows"] == 5


def test_every_field_of_a_row_is_redacted():
    row = Example(
        id=0,
        text="a: anna@firma.de",
        text_pair="b: anna@firma.de",
        messages=(
            Message("system", "s anna@firma.de"),
            Message("user", "u anna@firma.de"),
            Message("assistant", "v anna@firma.de"),
        ),
        chosen="c anna@firma.de",
        rejected="d anna@firma.de",
        tags={"owner": "anna@firma.de"},
        group=("owner=anna@firma.de",),
    )
    redacted, kinds = redact_row(row, Redactor(key=b"k"))
    assert "anna@firma.de" not in repr(redacted) and kinds == ["mail"] * 8
    other = redact_row(replace(row, group=("owner=bob@firma.de",)), Redactor(key=b"k"))[0]
    assert redacted.tags == {"owner": "[mail]"} and redacted.group != other.group  # groups stay apart


def test_words_with_labels_stay_as_many():
    text = "call +49 171 3920012, Anna"
    row = Example(id=0, text=text, token_labels=("O", "O", "O", "O", "B-PERSON"))
    for mode in ("mask", "replace", "hash"):
        redacted = redact_row(row, Redactor(mode=mode, key=b"k"))[0].text
        assert redacted is not None and len(redacted.split()) == 5 and "3920012" not in redacted and redacted.endswith(" Anna")
    assert redact_row(row, Redactor())[0].text == "call [phone] [phone] [phone], Anna"


def test_rows_that_differ_in_private_data_only_become_duplicates(tmp_path):
    rows = [(f"write to person{i}@firma.de", "a") for i in range(9)] + [(f"thing number {i}", "ab"[i % 2]) for i in range(40)]
    with (tmp_path / "a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), *rows])
    found = prepare(Data(path=str(tmp_path / "a.csv"), redact=True, duplicates={"near": False}), CLASSIFY, None)
    assert found.accounting.dropped["duplicate"] == 8


def test_the_same_rows_give_the_same_stand_ins_in_all_parts_and_other_rows_others(tmp_path):
    redact = {"mode": "replace"}
    first = prepare(Data(path=table(tmp_path / "a.csv"), redact=redact), CLASSIFY, None)
    assert first.hash == prepare(Data(path=str(tmp_path / "a.csv"), redact=redact), CLASSIFY, None).hash
    other = prepare(Data(path=table(tmp_path / "b.csv", plain=51), redact=redact), CLASSIFY, None)

    def stand_ins(dataset: Dataset) -> set[str]:
        texts = [one.text or "" for part in dataset.parts.values() for one in part]
        return {text.split(" to ")[1] for text in texts if " to " in text}

    assert len(stand_ins(first)) == len(SECRETS) and not stand_ins(first) & stand_ins(other)


def test_a_secret_of_the_users_gives_the_same_stand_ins_for_other_rows(tmp_path):
    (tmp_path / "secret").write_text("s")
    asked = Data(path="x", redact=Redact(mode="hash", key="secret"))
    assert build_cleaners(asked, tmp_path)("anna@firma.de") == build_cleaners(asked, tmp_path)("ANNA@firma.de")
    with pytest.raises(RecipeError, match=r"data\.redact\.key: nothere cannot be read"):
        build_cleaners(Data(path="x", redact=Redact(mode="hash", key="nothere")), tmp_path)


def test_a_text_to_predict_and_a_file_to_judge_on_are_masked_as_the_training_rows_were(tmp_path):
    found = prepare(Data(path=table(tmp_path / "a.csv"), redact=True), CLASSIFY, None)
    assert build_cleaners(found.columns, None)("it is anna@firma.de") == "it is [mail]"
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("text", "label"), ("mine is bob@firma.de", "a"), ("none at all here", "b")])
    held = read_held_out([tmp_path / "t.csv"], found, CLASSIFY, None)
    assert [one.text for one in held.examples] == ["mine is [mail]", "none at all here"]


def test_where_private_data_are_only_told_of_a_text_to_predict_stays_as_it_is():
    cleaners = build_cleaners(Data(path="x", text="t", label="l"), None)
    assert cleaners("it is anna@firma.de") == "it is anna@firma.de" and cleaners.redactor is None


@pytest.mark.parametrize(
    ("redact", "text", "said"),
    [
        ("auto", "it is anna@firma.de", "nothing was changed"), (True, "it is [mail]", "masked before anything was learnt"),
        (Redact(mode="hash", key="secret"), None, "replaced before anything was learnt"),
    ],
)  # fmt: skip
def test_rows_that_are_looked_at_one_by_one_are_changed_where_that_is_asked_for(tmp_path, redact, text, said):
    (tmp_path / "secret").write_text("s")
    data = Data(path="x", redact=redact)
    redactor = build_cleaners(data, tmp_path).redactor
    privacy = build_privacy(data, redactor)
    assert privacy is not None
    assert privacy.look(Example(id=0, text="it is anna@firma.de")).text == (text or redactor("it is anna@firma.de"))
    (notice,) = privacy.notices()
    assert "1 row holds private data (1 mail address)" in notice and said in notice


def test_kinds_that_are_kept_stay(tmp_path):
    masked = build_cleaners(Data(path="x", redact=Redact(keep=("phone",))), None)
    assert masked("anna@firma.de, 0171 3920012") == "[mail], 0171 3920012"
    masked = build_cleaners(Data(path="x", redact=Redact(kinds=("phone",))), None)
    assert masked("anna@firma.de, 0171 3920012") == "anna@firma.de, [phone]"
    masked = build_cleaners(Data(path="x", redact=Redact(regions=("US",))), None)
    assert masked("0171 3920012") == "0171 3920012"


def test_the_recipe_and_the_detectors_know_the_same_kinds():
    assert get_args(PrivateKind) == (*KINDS, *NAMED)


def test_an_unknown_region_says_so():
    with pytest.raises(RecipeError, match=r"data\.redact\.regions: XX is no region"):
        build_cleaners(Data(path="x", redact=Redact(regions=("XX",))), None)
