"""Rows of parent runs: which are learnt again, and which never may be."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from whet.data.accounting import Accounting, Count
from whet.data.alike import Families
from whet.data.dataset import Dataset
from whet.data.replay import Past, old_rows, stratified, with_past
from whet.errors import DataError, Refused
from whet.recipe_data import Data, Duplicates
from whet.types import Example


def rows(prefix, numbers, label="a"):
    return tuple(Example(id=n, file=f"{prefix}.csv", line=n + 2, text=f"{prefix} {n}", label=label) for n in numbers)


def dataset(train, validation=(), test=()):
    used = {"train": len(train), "validation": len(validation), "test": len(test)}
    parts = {
        part: tuple(replace(one, id=base + place) for place, one in enumerate(some))
        for part, some, base in (
            ("train", train, 0),
            ("validation", validation, len(train)),
            ("test", test, len(train) + len(validation)),
        )
    }
    return Dataset(
        **parts,
        columns=Data(path="new.csv", text="text", label="label"),
        classes=tuple(sorted({one.label for some in parts.values() for one in some})),
        accounting=Accounting({"path": Count(sum(used.values()), used, {})}),
        rejects=(),
        notices=(),
        conflicts=(),
        cleaned={},
    )


OLD = dataset(rows("old", range(60)), rows("stop", range(10)), rows("judge", range(20)))
PAST = [Past("runs/first", OLD)]
ALONE = Families([], Duplicates())  # every text is a family of its own


def test_a_share_of_the_new_training_rows_is_learnt_again():
    new = dataset(rows("new", range(50), "b"), rows("new", range(50, 60), "b"), rows("new", range(60, 70), "b"))
    mixed = with_past(new, PAST, 0.2, seed=0)
    assert mixed.train[:50] == new.train and mixed.validation == new.validation and mixed.test == new.test
    again = mixed.train[50:]
    assert len(again) == 10 and {one.text for one in again} <= {one.text for one in OLD.train}
    ids = [one.id for part in mixed.parts.values() for one in part]
    assert sorted(ids) == list(range(80))
    assert mixed.classes == ("a", "b")
    assert mixed.accounting.sources["parents"] == Count(60, {"train": 10}, {"not drawn": 50})
    assert "not drawn" not in mixed.accounting.sentence(), "rows of the parent are no rows of the file"
    assert with_past(new, PAST, 0.2, seed=0).train == mixed.train != with_past(new, PAST, 0.2, seed=1).train


def test_without_replay_the_new_rows_stay_as_they_are():
    new = dataset(rows("new", range(50), "b"), rows("new", range(50, 60), "b"), rows("new", range(60, 70), "b"))
    assert with_past(new, PAST, 0.0, seed=0).parts == new.parts


def test_every_class_is_drawn_before_any_comes_twice_then_by_size():
    some = [*rows("many", range(90), "many"), *rows("few", range(9), "few"), *rows("one", range(1), "one")]
    assert Counter(one.label for one in stratified(some, 3, seed=3)) == {"many": 1, "few": 1, "one": 1}
    # of 40 rows the shares would be 36, 3.6 and 0.4
    assert Counter(one.label for one in stratified(some, 40, seed=3)) == {"many": 35, "few": 4, "one": 1}
    assert stratified(some, 1000, seed=0) == some


def test_what_a_parent_is_judged_or_stopped_by_leaves_the_new_training_rows():
    leaking = (*rows("new", range(40), "b"), *rows("judge", range(2), "b"), *rows("stop", range(1), "b"))
    new = dataset(leaking, rows("new", range(50, 60), "b"), rows("new", range(60, 70), "b"))
    mixed = with_past(new, PAST, 0.0, seed=0)
    assert {one.text for one in mixed.train} == {f"new {n}" for n in range(40)}
    assert mixed.accounting.sources["path"].dropped == {"leak": 3}
    assert sum(mixed.accounting.sources["path"].used.values()) + 3 == mixed.accounting.sources["path"].rows
    assert [reject.line for reject in mixed.rejects] == [2, 3, 2]
    assert "runs/first" in mixed.rejects[0].reason and mixed.rejects[0].kind == "leak"


def test_what_a_parent_has_learnt_leaves_the_new_test_rows_whatever_its_case():
    shouted = tuple(replace(one, text=f" {one.text.upper()} ") for one in rows("old", range(3), "b"))
    new = dataset(rows("new", range(40), "b"), rows("judge", [7], "b") + rows("new", [41], "b"), shouted + rows("new", [42], "b"))
    mixed = with_past(new, PAST, 1.0, seed=0)
    assert [one.text for one in mixed.test] == ["new 42"]
    assert [one.text for one in mixed.validation] == ["new 41"]
    assert mixed.accounting.used == {"train": 80, "validation": 1, "test": 1}


def test_rows_that_are_new_or_judged_are_never_replayed():
    second = dataset((*rows("judge", [3]), *rows("late", range(5))), (), rows("old", [0]))
    pasts = [*PAST, Past("runs/second", second)]
    new = dataset(rows("old", [1], "b"), rows("old", [2], "b"), rows("old", [4], "b"))
    pool, barred = old_rows(pasts, [one for part in new.parts.values() for one in part], ALONE)
    texts = {one.text for one in pool}
    assert texts == {f"old {n}" for n in range(60) if n not in {0, 1, 2, 4}} | {f"late {n}" for n in range(5)}
    assert barred == 5  # old 0 is judged by in the second run, judge 3 in the first; old 1, 2 and 4 are new


def test_of_a_text_in_two_runs_what_was_said_last_is_learnt_again():
    second = dataset(rows("old", [5], "changed"), (), ())
    pool, _ = old_rows([*PAST, Past("runs/second", second)], [], ALONE)
    assert [one.label for one in pool if one.text == "old 5"] == ["changed"]


def test_a_file_that_holds_the_parents_test_rows_is_refused():
    new = dataset((*rows("new", range(10), "b"), *rows("judge", range(9), "b")), rows("v", [0], "b"), rows("t", [0], "b"))
    with pytest.raises(Refused, match=r"9 of 19 new training rows .*runs/first.*new rows only"):
        with_past(new, PAST, 0.2, seed=0)


def test_new_test_rows_that_were_all_learnt_before_are_an_error():
    new = dataset(rows("new", range(10), "b"), rows("v", [0], "b"), rows("old", range(3), "b"))
    with pytest.raises(DataError, match="no row is left for test"):
        with_past(new, PAST, 0.2, seed=0)


def test_fewer_old_rows_than_asked_for_are_all_taken_and_it_is_said():
    new = dataset(rows("new", range(50), "b"), rows("v", [0], "b"), rows("t", [0], "b"))
    mixed = with_past(new, PAST, 2.0, seed=0)
    assert len(mixed.train) == 110
    assert any("60 rows to learn again" in notice for notice in mixed.notices)
