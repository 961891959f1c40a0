"""Splitting, duplicates, leaks and labels: exact, seeded, independent of order, and no text in two parts."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.deduplicate import conflicts, without_duplicates
from whet.data.keys import content_key, text_key
from whet.data.labels import merged_labels
from whet.data.leaks import refuse_many, without_leaks
from whet.data.split import PARTS, split
from whet.errors import Refused
from whet.types import Example, Message

SHARES = {"train": 0.7, "validation": 0.15, "test": 0.15}


def examples(labels: str, texts: list[str] | None = None) -> list[Example]:
    return [
        Example(id=i, file="f", line=i + 1, text=texts[i] if texts else f"text {i}", label=label)
        for i, label in enumerate(labels)
    ]


def test_sizes_are_exact_by_largest_remainder_per_class():
    # 100 a: 70/15/15; 20 b: 14/3/3; 10 c: 7 and 1.5 each, of which one part gets 2 and the other 1
    parts = split(examples("a" * 100 + "b" * 20 + "c" * 10), SHARES, 0)
    counts = {part: Counter(example.label for example in some) for part, some in parts.items()}
    assert counts["train"] == {"a": 70, "b": 14, "c": 7}
    assert {counts["validation"]["a"], counts["test"]["a"]} == {15} and {counts["validation"]["b"], counts["test"]["b"]} == {3}
    assert sorted((counts["validation"]["c"], counts["test"]["c"])) == [1, 2]


def test_rounding_is_carried_over_so_that_parts_are_exact_as_a_whole():
    # 60 classes of 10 rows: 1.5 each must not always be rounded the same way; 600 rows are 420/90/90
    labels = "".join(chr(65 + i) * 10 for i in range(60))
    assert [len(some) for some in split(examples(labels), SHARES, 3).values()] == [420, 90, 90]


def test_rare_classes_are_learnt_from():
    parts = split(examples("a" * 20 + "b" * 2 + "c"), SHARES, 0)
    assert {"b", "c"} <= {example.label for example in parts["train"]}
    assert {example.label for example in (*parts["validation"], *parts["test"])} == {"a"}


def test_a_part_that_the_user_named_gets_nothing_and_the_others_its_share():
    parts = split(examples("a" * 85), {"train": 0.7, "validation": 0.15}, 0)
    assert [len(parts[part]) for part in PARTS] == [70, 15, 0]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 40)), min_size=4, max_size=80),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
    st.booleans(),
)
def test_the_draw_depends_on_seed_and_text_only_and_no_text_is_in_two_parts(rows, seed, shuffler, stratify):
    some = [
        Example(id=i, text=f"Text  {number}" if i % 2 else f"text {number} ", label=label)
        for i, (label, number) in enumerate(rows)
    ]
    parts = split(some, SHARES, seed, stratify=stratify)
    keys = [{text_key(example) for example in parts[part]} for part in PARTS]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert sorted(example.id for part in parts.values() for example in part) == list(range(len(some)))
    other = list(some)
    Random(shuffler.random()).shuffle(other)
    again = split(other, SHARES, seed, stratify=stratify)
    assert {part: {example.id for example in again[part]} for part in PARTS} == {
        part: {example.id for example in parts[part]} for part in PARTS
    }


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("aabcccccc"), min_size=3, max_size=200), st.integers(0, 9))
def test_each_class_is_within_one_row_of_its_share(labels, seed):
    parts = split(examples("".join(labels)), SHARES, seed)
    sizes = Counter(labels)
    for label, size in sizes.items():
        got = {part: sum(example.label == label for example in some) for part, some in parts.items()}
        if size <= 2:
            continue
        moved = any(len(parts[part]) == 1 for part in ("validation", "test"))  # a part that would be empty is given one row
        assert moved or all(abs(got[part] - SHARES[part] * size) < 1 + 1e-9 for part in PARTS), (label, size, got)


def test_another_seed_gives_another_draw():
    some = examples("ab" * 100)
    assert split(some, SHARES, 0) != split(some, SHARES, 1)


def test_exact_duplicates_leave_and_point_to_the_first():
    some = examples("aaba", ["x", "x", "x", "X"])
    kept, dropped = without_duplicates(some)
    assert [example.id for example in kept] == [0, 2, 3]
    assert [reject.reason for reject in dropped] == ["duplicate of f:1"] and not dropped[0].unusable


def test_compatible_characters_are_the_same_and_boundaries_count():
    assert content_key(Example(id=0, text="ﬁne①")) == content_key(Example(id=1, text="fine1"))
    assert content_key(Example(id=0, text="ab", text_pair="c")) != content_key(Example(id=1, text="a", text_pair="bc"))
    turns = (Message("user", "q"), Message("assistant", "a"))
    assert text_key(Example(id=0, messages=turns)) == text_key(
        Example(id=1, messages=(Message("system", "s"), turns[0], Message("assistant", "b")))
    )


def test_the_same_text_with_two_labels_is_reported_and_kept():
    some = examples("abc", ["x y", "X  y", "z"])
    assert [(conflict.labels, conflict.places) for conflict in conflicts(some)] == [(("a", "b"), ("f:1", "f:2"))]
    assert len(without_duplicates(some)[0]) == 3


def test_leaks_are_found_whatever_case_and_spaces():
    train = [Example(id=i, file="train", line=i + 1, text=text) for i, text in enumerate(["A b", "c", "d"])]
    test = [Example(id=9, file="test", line=5, text=" a  B"), Example(id=10, file="test", line=6, text="a b")]
    kept, dropped = without_leaks(train, test, "test")
    assert [example.id for example in kept] == [1, 2]
    assert dropped[0].sentence().startswith("train:1: also stands in the test file test:5")
    refuse_many(dropped * 2, 10, "test")
    with pytest.raises(
        Refused, match=r"3 of 10 training rows \(30.0%\) also stand in the test file, such as train:1 like test:5"
    ):
        refuse_many(dropped * 3, 10, "test")


@pytest.mark.parametrize(
    ("counts", "merged"),
    [
        (
            {"card arrival": 5, "Card_Arrival": 2, "card-arrival ": 1},
            {"Card_Arrival": "card arrival", "card-arrival ": "card arrival"},
        ),
        ({"spam": 1, "Spam": 1}, {"spam": "Spam"}),  # a tie goes to the first in the alphabet
        ({"-1": 3, "1": 4, "A-": 1, "A": 2, "c++": 1, "c": 1, "ab": 1, "a b": 1}, {}),
    ],
)
def test_labels_that_mean_the_same_are_merged_into_the_most_frequent(counts, merged):
    assert merged_labels(counts) == merged
