"""Dividing rows: what belongs together stays together, shares are kept, time goes forward, folds cover, and what is frozen never moves."""

from __future__ import annotations

import csv
import json
from collections import Counter
from fractions import Fraction
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from whet.data.frozen import read_frozen
from whet.data.hidden import hidden_targets
from whet.data.keys import text_key
from whet.data.preparing import prepare
from whet.data.split import PARTS, fold_of, place, split
from whet.data.stratify import by_labels
from whet.data.times import Order, evidence, order_of, seconds
from whet.data.units import units_of
from whet.errors import DataError, Refused
from whet.recipe_data import Data, Duplicates
from whet.types import Example, Message

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}
NEEDS = ("text", "label")


def unlike(number: int) -> str:
    """A text like no other."""
    return f"text {sha256(str(number).encode()).hexdigest()[:30]}"


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return str(path)


def rows(first, last, **more):
    return [{"text": unlike(n), "label": "ab"[n % 2], **{k: v(n) for k, v in more.items()}} for n in range(first, last)]


def places(dataset):
    return {one.text: part for part, some in dataset.parts.items() for one in some}


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 15), st.integers(0, 12), st.sampled_from("abc")), min_size=6, max_size=90),
    st.integers(0, 3),
    st.booleans(),
    st.randoms(use_true_random=False),
)
def test_groups_never_straddle_parts_and_the_order_of_rows_does_not_matter(given_rows, seed, stratify, shuffler):
    some = [
        Example(id=n, text=f"t{n}", label=label, group=(f"customer={group}",)) for n, (group, _, label) in enumerate(given_rows)
    ]
    near = {n: 1000 + group for n, (_, group, _) in enumerate(given_rows) if group < 5}
    parts = split(some, SHARES, seed, stratify=stratify, near=near)
    where = {one.id: part for part, some_ in parts.items() for one in some_}
    assert sorted(where) == list(range(len(some)))
    for unit in units_of(some, near):
        assert len({where[row] for row in unit.rows}) == 1
    largest = max(len(unit.rows) for unit in units_of(some, near))
    if not stratify and len(units_of(some, near)) > 3:
        for part in PARTS:
            assert abs(len(parts[part]) - SHARES[part] * len(some)) <= largest + 1
    other = list(some)
    Random(shuffler.random()).shuffle(other)
    again = split(other, SHARES, seed, stratify=stratify, near=near)
    assert {one.id: part for part, some_ in again.items() for one in some_} == where


def test_rows_that_share_a_value_of_any_group_column_are_in_one_part(tmp_path):
    # customers 0..29, and threads that join customer 2k with customer 2k + 1
    path = write(
        tmp_path / "a.csv", rows(0, 300, customer=lambda n: n // 10, thread=lambda n: f"t{n // 20}" if n % 10 == 0 else "")
    )
    found = prepare(Data(path=path, group=("customer", "thread")), NEEDS, None)
    where = places(found)
    for pair in range(15):
        assert len({where[unlike(n)] for n in range(20 * pair, 20 * pair + 20)}) == 1
    assert {part: len(some) for part, some in found.parts.items()}["train"] in range(190, 231)
    assert all(found.parts.values())


def test_a_group_of_a_held_out_file_leaves_training(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 100, customer=lambda n: n // 5))
    test = write(tmp_path / "t.csv", rows(200, 230, customer=lambda n: 19 if n == 200 else ""))
    found = prepare(Data(path=path, test=test, group="customer"), NEEDS, None)
    assert found.accounting.sources["path"].dropped == {"group leak": 5} and len(found.test) == 30
    assert [(one.line, one.other.rpartition(":")[2]) for one in found.rejects] == [(n, "2") for n in range(97, 102)]


def test_a_conversation_and_its_continuation_are_in_one_part():
    def turns(*said):
        return tuple(Message("user" if n % 2 == 0 else "assistant", text) for n, text in enumerate(said))

    some = [Example(id=0, messages=turns("hello", "hi")), Example(id=1, messages=turns("Hello ", "hi", "and?", "yes")),
            Example(id=2, messages=turns("hello", "other", "and?", "no")), Example(id=3, messages=turns("bye", "bye"))]  # fmt: skip
    assert sorted(unit.rows for unit in units_of(some)) == [(0, 1), (2,), (3,)]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=120), st.lists(st.integers(0, 40), min_size=1, max_size=30))
def test_each_unit_goes_to_the_first_part_with_room_and_large_ones_come_first(numbers, wanted):
    # the rule as `place` words it, with every part looked at for each unit
    sizes = {f"part {at}": size for at, size in enumerate(wanted)}
    room, found = dict(sizes), {}
    least = min([size for size in wanted if size], default=1)
    large = sorted([at for at, one in enumerate(numbers) if one > 1 and one >= least], key=lambda at: -numbers[at])
    for at in [*large, *(at for at in range(len(numbers)) if at not in large)]:
        fitting = [part for part in sizes if room[part] >= numbers[at]]
        part = fitting[0] if fitting else max(sizes, key=lambda one: (room[one], sizes[one]))
        found[at], room[part] = part, room[part] - numbers[at]
    carried = dict.fromkeys(sizes, Fraction(1, 3))
    assert place(numbers, sizes, carried) == [found[at] for at in range(len(numbers))]
    assert carried == {part: Fraction(1, 3) + left for part, left in room.items()}


# Several labels


def test_iterative_stratification_by_hand():
    # Sechidis et al. 2011, algorithm 1, halves of 4 rows. 'b' (2 rows) is rarer than 'a' (4): its first goes to x (ties: first), its second to y,
    # which lacks one b. Then a: x and y have one each and lack one each; row 1 to x, row 3 to y.
    halves = {"x": Fraction(1, 2), "y": Fraction(1, 2)}
    assert by_labels([{"a": 1, "b": 1}, {"a": 1}, {"a": 1, "b": 1}, {"a": 1}], [1] * 4, halves) == ["x", "x", "y", "y"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sets(st.sampled_from("abcdef"), min_size=1, max_size=4), min_size=20, max_size=200), st.integers(0, 3))
def test_each_of_several_labels_keeps_its_share(sets, seed):
    some = [Example(id=n, text=f"t{n}", labels=tuple(sorted(one))) for n, one in enumerate(sets)]
    parts = split(some, SHARES, seed)
    assert sum(map(len, parts.values())) == len(some)
    off = 0.0
    counts = Counter(label for one in sets for label in one)
    for label, number in counts.items():
        got = {part: sum(label in one.labels for one in parts[part]) for part in PARTS}
        off += sum(abs(got[part] - SHARES[part] * number) for part in PARTS)
    assert off / len(counts) <= 6  # rows, over the three parts, label by label; a plain draw of 200 rows is off by some 20


# Time


def order_by(*texts: str) -> Order:
    return order_of(map(evidence, texts))


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1970-01-02", 86_400), ("1970-01-01T01:00:00+01:00", 0), ("1970-01-01 00:01", 60), ("86400", 86_400), ("1700000000000", 1.7e9),
     ("1971", 31_536_000), ("1970-02", 2_678_400), ("02.01.1970", 86_400), ("13/01/1970", 1_036_800), ("19700102", 86_400),
     ("1970/01/02", 86_400), ("1970/1/2 00:01", 86_460), ("1970.01.02", 86_400), ("1970-1-2", 86_400), ("1970/13/02", None),
     ("2 Jan 1970", 86_400), ("02-Jan-1970", 86_400), ("Jan 2, 1970", 86_400), ("January 2nd, 1970", 86_400), ("2 january 1970 00:01", 86_460),
     ("Fri, 02 Jan 1970 01:00:00 +0100", 86_400), ("Fri, 02 Jan 1970 00:00:00 GMT", 86_400), ("1 Sept. 1970", 20_995_200),
     ("Jan 1, 1970 3:05 PM", 54_300), ("January 1, 1970 at 12:00 AM", 0), ("1 Jan 1970 12:30 p.m.", 45_000), ("13/01/1970 1:00 AM", 1_040_400),
     ("Jan 1, 1970 13:05 PM", None), ("Jan 1, 1970 0:05 AM", None), ("31 Feb 1970", None), ("May 2024", None), ("Mayor 1, 2024", None),
     ("1 Januar 2024", None), ("yesterday", None), ("2024-02-30", None), ("", None), ("99/99/2024", None)],
)  # fmt: skip
def test_times_are_read(text, expected):
    assert seconds(text, order_by(text)) == expected


def test_whether_the_day_or_the_month_stands_first_is_decided_by_the_column():
    assert seconds("03/04/1970", order_by("03/04/1970", "25/04/1970")) == 92 * 86_400  # 3 April: 31 + 28 + 31 + 2 days
    assert seconds("03/04/1970", order_by("03/04/1970", "04/25/1970")) == 62 * 86_400  # 4 March
    assert order_by("03/04/1970") == "unclear" and seconds("03/04/1970", "unclear") is None


def test_the_newest_rows_are_the_test_part_and_ties_stay_together(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 200, day=lambda n: f"2024-01-{n * 13 % 20 + 1:02d}"))
    found = prepare(Data(path=path, time="day"), NEEDS, None)
    days = {part: {one.time for one in some} for part, some in found.parts.items()}
    assert max(days["train"]) < min(days["validation"]) and max(days["validation"]) < min(days["test"])
    assert {part: len(some) for part, some in found.parts.items()} == {"train": 140, "validation": 30, "test": 30}


def test_a_row_without_a_time_is_rejected_with_its_line_and_unclear_dates_are_an_error(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 60, day=lambda n: {5: "soon", 9: ""}.get(n, f"2024-01-{n % 28 + 1:02d}")))
    found = prepare(Data(path=path, time="day"), NEEDS, None)
    assert [(one.line, one.reason) for one in found.rejects] == [
        (7, "'day' is no date or time"),
        (11, "'day', the time, is empty"),
    ]
    unclear = write(tmp_path / "b.csv", rows(0, 60, day=lambda n: f"0{n % 9 + 1}/02/2024"))
    with pytest.raises(
        DataError, match=r"b\.csv:2: 'day' has dates of which no row tells whether the day or the month stands first"
    ):
        prepare(Data(path=unclear, time="day"), NEEDS, None)
    same = write(tmp_path / "c.csv", rows(0, 60, day=lambda n: "2024-01-01"))
    with pytest.raises(DataError, match=r"data\.time: the rows have 1 different time"):
        prepare(Data(path=same, time="day"), NEEDS, None)


# A column that says the part


def test_a_column_that_says_the_part_is_followed_and_its_test_rows_are_never_changed(tmp_path):
    said = lambda n: ["train", "Training", "dev", "TEST", "train"][n % 5]  # noqa: E731
    path = write(tmp_path / "a.csv", [*rows(0, 100, fold=said), {"text": unlike(3) + "!", "label": "a", "fold": "train"},
                                      {"text": unlike(3), "label": "b", "fold": "test"}, {"text": "x y", "label": "a", "fold": "later"}])  # fmt: skip
    found = prepare(Data(path=path, part="fold"), NEEDS, None)
    assert {part: len(some) for part, some in found.parts.items()} == {"train": 60, "validation": 20, "test": 21}
    assert found.accounting.dropped == {"near leak": 1, "'fold' names no part": 1} and found.accounting.rows == 103
    assert {one.line for one in found.test} == {5 + 5 * n for n in range(20)} | {103}


def test_a_part_that_no_row_names_is_drawn(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 100, fold=lambda n: "test" if n % 5 == 0 else "train"))
    found = prepare(Data(path=path, part="fold"), NEEDS, None)
    assert len(found.test) == 20 and len(found.validation) == 14


# Folds


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from("ab")), min_size=40, max_size=120),
    st.integers(2, 5),
    st.integers(0, 2),
)
def test_every_row_is_tested_in_one_fold_and_groups_stay_together(given_rows, number, seed):
    some = [Example(id=n, text=f"t{n}", label=label, group=(f"g={group}",)) for n, (group, label) in enumerate(given_rows)]
    try:
        parts = [fold_of(some, SHARES, seed, (fold, number)) for fold in range(number)]
    except DataError:
        return  # fewer groups than folds
    tested = [one.id for found in parts for one in found["test"]]
    assert sorted(tested) == list(range(len(some)))
    for found in parts:
        assert sorted(one.id for part in found.values() for one in part) == list(range(len(some)))
        sides = [{one.group for one in found[part]} for part in PARTS]
        assert not sides[0] & sides[1] and not sides[0] & sides[2] and not sides[1] & sides[2]


def test_folds_are_stratified_and_too_many_are_an_error(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 100))
    for fold in range(5):
        found = prepare(Data(path=path, split={"folds": 5, "fold": fold}), NEEDS, None)
        assert Counter(one.label for one in found.test) == {"a": 10, "b": 10}
        assert len(found.validation) in {14, 15}  # 80 * 0.15 / 0.85 = 14.1
    grouped = write(tmp_path / "b.csv", rows(0, 100, customer=lambda n: n % 4))
    with pytest.raises(DataError, match=r"100 rows stand in 4 groups that belong together, too few for 5 folds"):
        prepare(Data(path=grouped, group="customer", split={"folds": 5}), NEEDS, None)


@pytest.mark.parametrize(
    ("section", "words"),
    [({"split": {"fold": 1}}, "a fold only with folds"), ({"split": {"folds": 3, "fold": 3}}, "a fold from 0 to 2"),
     ({"split": {"folds": 3}, "test": "t.csv"}, "either data.split.folds or data.test"),
     ({"part": "p", "test": "t.csv"}, "either data.part or data.test"), ({"split": {"folds": 2, "frozen": "run"}}, "either folds or frozen")],
)  # fmt: skip
def test_ways_that_exclude_each_other_are_an_error(section, words):
    with pytest.raises(ValidationError, match=words):
        Data(path="a.csv", **section)


# Frozen


def test_frozen_rows_never_move_and_new_ones_join_those_that_they_are_near_to(tmp_path):
    old = prepare(Data(path=write(tmp_path / "a.csv", rows(0, 200))), NEEDS, None)
    old.write(tmp_path / "run")
    before = places(old)
    more = rows(200, 300) + [{"text": f"{unlike(n)}!", "label": "ab"[n % 2] + "x"} for n in range(60)]
    grown = write(tmp_path / "b.csv", [*more, *rows(0, 200)])
    for frozen in (tmp_path / "run", tmp_path / "run" / "splits.json"):
        found = prepare(Data(path=grown, split={"frozen": str(frozen), "seed": 5}), NEEDS, None)
        after = places(found)
        assert all(after[text] == part for text, part in before.items())
        assert all(after[f"{unlike(n)}!"] == before[unlike(n)] for n in range(60))
        fresh = Counter(after[unlike(n)] for n in range(200, 300))
        assert fresh == {"train": 70, "validation": 15, "test": 15}  # new rows are divided by the shares among themselves
    alone = write(tmp_path / "c.csv", more)  # the old rows are not in the new file, and still count
    found = prepare(Data(path=alone, split={"frozen": str(tmp_path / "run")}), NEEDS, None)
    assert all(places(found)[f"{unlike(n)}!"] == before[unlike(n)] for n in range(60))


def test_a_new_row_that_is_near_to_frozen_rows_of_two_parts_is_in_neither(tmp_path):
    old = prepare(Data(path=write(tmp_path / "a.csv", rows(0, 200)), group=()), NEEDS, None)
    old.write(tmp_path / "run")
    train, test = old.train[0].text, old.test[0].text
    both = [{"text": train, "label": "a", "c": 1}, {"text": test, "label": "b", "c": 2}]
    joined = write(
        tmp_path / "b.csv", [*both, *[{**row, "c": ""} for row in rows(200, 260)], {"text": unlike(999), "label": "a", "c": 1}]
    )
    first = prepare(Data(path=joined, group="c", split={"frozen": str(tmp_path / "run")}), NEEDS, None)
    assert places(first)[train] == "train" and places(first)[test] == "test" and len(first.rejects) == 0


def test_rows_of_a_frozen_part_leave_where_the_recipe_names_other_rows_for_it(tmp_path):
    old = prepare(Data(path=write(tmp_path / "a.csv", rows(0, 100))), NEEDS, None)
    old.write(tmp_path / "run")
    test = write(tmp_path / "t.csv", rows(500, 520))
    found = prepare(Data(path=str(tmp_path / "a.csv"), test=test, split={"frozen": str(tmp_path / "run")}), NEEDS, None)
    own = found.accounting.sources["path"]
    assert own.dropped == {"leak": len(old.test)} and own.rows == 100 == sum(own.used.values()) + len(old.test)
    assert {one.line for one in found.rejects} == {one.line for one in old.test} and len(found.test) == 20
    assert all(one.reason == "of the frozen test part, for which the recipe names other rows" for one in found.rejects)
    assert f"{len(old.test)} rows taken out, of a frozen part (test) that the recipe" in " ".join(found.notices)


def test_what_is_no_division_is_said(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 60))
    (tmp_path / "splits.json").write_text(json.dumps({"train": [1, 2]}))
    for name in ("splits.json", "nothing", "."):
        with pytest.raises(DataError, match=r"splits\.json in it, that whet has written \(data\.split\.frozen\)"):
            prepare(Data(path=path, split={"frozen": str(tmp_path / name)}), NEEDS, None)


def test_splits_json_has_every_text(tmp_path):
    found = prepare(Data(path=write(tmp_path / "a.csv", rows(0, 60))), NEEDS, None)
    found.write(tmp_path / "run")
    frozen = read_frozen(str(tmp_path / "run"))
    assert frozen.part_of == {text_key(one): part for part, some in found.parts.items() for one in some}


# Near duplicates of a data set


def test_near_duplicates_leave_but_for_the_first_and_conflicts_stay_together(tmp_path):
    copies = [{"text": f"{unlike(n)}.", "label": "ab"[n % 2]} for n in range(10)]
    conflicts = [{"text": f"{unlike(n)}.", "label": "ab"[(n + 1) % 2]} for n in range(10, 20)]
    path = write(tmp_path / "a.csv", [*rows(0, 100), *copies, *conflicts])
    found = prepare(Data(path=path), NEEDS, None)
    assert found.accounting.dropped == {"near duplicate": 10}
    assert [(one.line, one.other) for one in found.rejects] == [(102 + n, f"{path}:{2 + n}") for n in range(10)]
    assert all(0.8 <= one.similarity < 1 and unlike(0)[5:] not in one.reason for one in found.rejects)
    where = places(found)
    assert all(where[unlike(n)] == where[f"{unlike(n)}."] for n in range(10, 20))
    assert len(found.conflicts) == 10 and found.conflicts[0].similarity < 1
    kept = prepare(Data(path=path, duplicates={"near": "keep"}), NEEDS, None)
    assert kept.accounting.dropped == {} and all(places(kept)[unlike(n)] == places(kept)[f"{unlike(n)}."] for n in range(20))
    assert prepare(Data(path=path, duplicates={"near": False}), NEEDS, None).accounting.dropped == {}


def test_variations_of_a_few_texts_stay_and_it_is_said(tmp_path):
    texts = [
        f"the parcel of order {n} has not come to my house in {city} as you had promised me last week"
        for n in range(120)
        for city in ("Bonn", "Ulm")
    ]
    path = write(tmp_path / "a.csv", [*rows(0, 60), *({"text": text, "label": "c"} for text in texts)])
    found = prepare(Data(path=path), NEEDS, None)
    assert found.accounting.dropped == {} and any("variations of a few texts, so they all stay" in one for one in found.notices)
    dropped = prepare(Data(path=path, duplicates={"near": "drop"}), NEEDS, None)
    assert dropped.accounting.dropped["near duplicate"] > 150


def test_near_leaks_leave_training_and_too_many_are_refused_with_the_pairs(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 100))
    few = write(tmp_path / "t.csv", [{"text": f"{unlike(n)} ?", "label": "a"} for n in [*range(10), *range(500, 540)]])
    found = prepare(Data(path=path, test=few), NEEDS, None)
    assert found.accounting.sources["path"].dropped == {"near leak": 10} and len(found.test) == 50
    many = write(tmp_path / "m.csv", [{"text": f"{unlike(n)} ?", "label": "a"} for n in range(40)])
    with pytest.raises(
        Refused,
        match=r"40 of 100 training rows \(40.0%\) also stand in the test file \(40 of them nearly\), such as .*a\.csv:2 like",
    ):
        prepare(Data(path=path, test=many), NEEDS, None)
    assert len(prepare(Data(path=path, test=many, max_leak_fraction=0.5), NEEDS, None).test) == 40


def test_files_of_variations_of_the_same_texts_are_used_and_it_is_said(tmp_path):
    def texts(first, last):
        return [{"text": f"the parcel of order {n} has not come to my house", "label": "ab"[n % 2]} for n in range(first, last)]

    path, test = write(tmp_path / "a.csv", texts(10_000, 10_200)), write(tmp_path / "t.csv", texts(10_200, 10_260))
    found = prepare(Data(path=path, test=test), NEEDS, None)
    assert found.accounting.sources["path"].dropped == {} and len(found.test) == 60
    assert any("scores speak of such variations" in one for one in found.notices)
    with pytest.raises(Refused, match="also stand in the test file"):
        prepare(Data(path=path, test=test, duplicates=Duplicates(near="drop")), NEEDS, None)


def test_rows_of_one_group_alone_cannot_be_divided(tmp_path):
    path = write(tmp_path / "a.csv", rows(0, 60, customer=lambda n: "the only one"))
    with pytest.raises(DataError, match=r"all 60 rows share a value of customer, .* name another column as data\.group"):
        prepare(Data(path=path, group="customer"), NEEDS, None)
    large = write(tmp_path / "b.csv", rows(0, 100, customer=lambda n: "large" if n < 40 else n))
    found = prepare(Data(path=large, group="customer"), NEEDS, None)
    assert any(
        "40 rows belong together" in one and "more than the smallest part should have (15)" in one for one in found.notices
    )


def test_a_class_with_fewer_rows_than_parts_is_named(tmp_path):
    path = write(
        tmp_path / "a.csv", [*rows(0, 100), {"text": unlike(200), "label": "rare"}, {"text": unlike(201), "label": "rare"}]
    )
    found = prepare(Data(path=path), NEEDS, None)
    assert any("1 class with too few rows for every part: 'rare' (2 rows)" in one for one in found.notices)


def test_a_class_that_ended_before_the_newest_rows_is_not_called_too_small(tmp_path):
    early = [row | {"label": "early", "day": f"2024-01-{number % 28 + 1:02d}"} for number, row in enumerate(rows(0, 60))]
    late = [row | {"day": f"2024-02-{number % 28 + 1:02d}"} for number, row in enumerate(rows(60, 120))]
    found = prepare(Data(path=write(tmp_path / "a.csv", [*early, *late]), time="day"), NEEDS, None)
    assert any("1 class with no row among the newest, which are tested on: 'early' (60 rows)" in one for one in found.notices)


# Hidden targets


def labelled(texts, labels):
    return [Example(id=n, file="f", line=n + 2, text=text, label=label) for n, (text, label) in enumerate(zip(texts, labels))]


LABELS = ["card lost", "refund"] * 60


def test_a_label_that_stands_in_its_own_text_is_found_and_nearly_all_are_refused(tmp_path):
    some = labelled([f"[{label.replace(' ', '_').upper()}] {unlike(n)}" for n, label in enumerate(LABELS)], LABELS)
    found = hidden_targets(some)
    assert found[0].certain and found[0].share == 1.0 and "'card lost' in 100% of its rows (first f:2)" in found[0].sentence
    assert not hidden_targets(labelled([unlike(n) for n in range(120)], LABELS))
    # a label that stands as often in other classes' texts gives nothing away
    assert not hidden_targets(labelled([f"about a refund or a card lost {unlike(n)}" for n in range(120)], LABELS))
    path = write(tmp_path / "a.csv", [{"text": one.text, "label": one.label} for one in some])
    with pytest.raises(Refused, match=r"stands word for word in the text of 100% of the rows.*data\.max_leak_fraction=1"):
        prepare(Data(path=path), NEEDS, None)
    accepted = prepare(Data(path=path, max_leak_fraction=1), NEEDS, None)
    assert len(accepted.hidden) == 2 and accepted.hidden[0] in accepted.notices


def test_a_first_or_last_word_that_tells_the_class_is_found():
    first = labelled([f"{'AX' if label == 'refund' else 'BY'}-{n} {unlike(n)}" for n, label in enumerate(LABELS)], LABELS)
    last = labelled([f"{unlike(n)} sent{1 if label == 'refund' else 'x'}" for n, label in enumerate(LABELS)], LABELS)
    assert ["first word" in one.sentence for one in hidden_targets(first)] == [True]
    assert ["last word" in one.sentence for one in hidden_targets(last)] == [True]


def test_an_answer_inside_its_prompt_is_told():
    def turns(n, prompt):
        return Example(
            id=n, file="f", line=n, messages=(Message("user", prompt), Message("assistant", f"the answer is {unlike(n)}"))
        )

    copied = [turns(n, f"Say: THE answer is {unlike(n)}" if n % 2 else unlike(n + 500)) for n in range(40)]
    (found,) = hidden_targets(copied)
    assert "In 20 rows of 40 the answer stands word for word in the prompt (f:1, f:3, f:5" in found.sentence
    assert not hidden_targets([turns(n, unlike(n + 500)) for n in range(40)])
