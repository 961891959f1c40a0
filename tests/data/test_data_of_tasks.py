"""The data of several tasks: a text is in the same part of all of them, and every row is accounted for."""

import csv
from hashlib import sha256

import pytest

from whet.data.dataset import read_dataset
from whet.data.keys import text_key
from whet.data.tasks import prepare_tasks
from whet.errors import DataError
from whet.recipe_data import Data

NEEDS = ("text", "label")


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label"))
        writer.writerows(rows)
    return str(path)


def text(number):
    """A text like no other."""
    return f"text {sha256(str(number).encode()).hexdigest()[:24]}"


def rows(first, last, classes=("a", "b")):
    return [(text(number), classes[number % len(classes)]) for number in range(first, last)]


def section(path, **more):
    return Data(path=(path,), text="text", label="label", **more), NEEDS


def parts_of(dataset, name):
    return {text_key(example): part for part, examples in dataset.of_task(name).parts.items() for example in examples}


def test_a_text_is_in_the_same_part_of_every_task(tmp_path):
    one = write(tmp_path / "one.csv", rows(0, 120))
    two = write(
        tmp_path / "two.csv",
        [(f"  {text(number).upper()} ", label) for number, (_, label) in zip(range(60, 200), rows(60, 200, "xyz"))],
    )
    dataset = prepare_tasks({"one": section(one), "two": section(two)}, None)
    first, second = parts_of(dataset, "one"), parts_of(dataset, "two")
    shared = first.keys() & second.keys()
    assert len(shared) == 60
    assert {first[key] for key in shared} == {"train", "validation", "test"}
    assert all(first[key] == second[key] for key in shared)
    assert any("60 texts in more than one task" in notice for notice in dataset.notices)
    alone = {key for key in second if key not in first}
    held = sum(second[key] != "train" for key in alone)
    assert abs(held - 0.3 * len(alone)) < 3  # texts of one task only are divided by the shares, as ever


def test_tasks_without_a_common_text_are_divided_as_each_alone(tmp_path):
    one, two = write(tmp_path / "one.csv", rows(0, 100)), write(tmp_path / "two.csv", rows(100, 200, "xyz"))
    dataset = prepare_tasks({"one": section(one), "two": section(two)}, None)
    swapped = prepare_tasks({"two": section(two), "one": section(one)}, None)
    for name in ("one", "two"):
        assert parts_of(dataset, name) == parts_of(swapped, name)
    assert not any("more than one task" in notice for notice in dataset.notices)


def test_a_file_that_one_task_names_for_judging_is_learnt_from_in_no_task(tmp_path):
    one = write(tmp_path / "one.csv", rows(0, 100))
    test = write(tmp_path / "test.csv", rows(200, 240))
    two = write(tmp_path / "two.csv", rows(150, 300, "xyz"))
    tasks = {"two": section(two), "one": section(one, test=(test,))}
    dataset = prepare_tasks(tasks, None)
    held = parts_of(dataset, "one")
    assert sum(part == "test" for part in held.values()) == 40
    second = parts_of(dataset, "two")
    assert all(second[key] == "test" for key, part in held.items() if part == "test")


def test_where_both_tasks_name_files_a_row_that_the_other_is_judged_on_is_left_out_and_counted(tmp_path):
    test_one, test_two = write(tmp_path / "t1.csv", rows(200, 240)), write(tmp_path / "t2.csv", rows(300, 340, "xyz"))
    one, two = write(tmp_path / "one.csv", rows(0, 100)), write(tmp_path / "two.csv", rows(195, 290, "xyz"))
    dataset = prepare_tasks({"one": section(one, test=(test_one,)), "two": section(two, test=(test_two,))}, None)
    second = dataset.of_task("two")
    assert len(second.test) == 40
    assert second.accounting.dropped == {"leak": 40}
    assert dataset.accounting.rows == 100 + 40 + 95 + 40
    assert {reject.task for reject in dataset.rejects if reject.kind == "leak"} == {"two"}
    assert any("two: data.path: 40 rows taken out" in notice for notice in dataset.notices)


def test_ids_are_numbered_through_and_what_was_written_is_read_back(tmp_path):
    one, two = write(tmp_path / "one.csv", rows(0, 50)), write(tmp_path / "two.csv", [*rows(0, 50, "xyz"), ("", "x")])
    dataset = prepare_tasks({"one": section(one), "two": section(two)}, None)
    ids = [example.id for examples in dataset.parts.values() for example in examples]
    assert sorted(ids) == list(range(len(ids)))
    dataset.write(tmp_path / "run")
    again = read_dataset(tmp_path / "run")
    assert again == dataset
    assert again.of_task("two").classes == ("x", "y", "z")
    assert again.of_task("two").columns.path == (two,)
    assert len(again.of_task("two").rejects) == 1


def test_a_task_whose_data_cannot_be_used_is_named(tmp_path):
    one, empty = write(tmp_path / "one.csv", rows(0, 50)), write(tmp_path / "two.csv", [])
    with pytest.raises(DataError, match=r"task 'two': .*two.csv"):
        prepare_tasks({"one": section(one), "two": section(empty)}, None)
    same = write(tmp_path / "same.csv", rows(0, 50, "x"))
    with pytest.raises(DataError, match=r"task 'two': .*one class only"):
        prepare_tasks({"one": section(one), "two": section(same)}, None)


def test_a_text_that_stands_nearly_in_another_task_is_in_the_same_part(tmp_path):
    one = write(tmp_path / "one.csv", rows(0, 120))
    two = write(tmp_path / "two.csv", [(f"{row}!", label) for row, label in rows(60, 200, "xyz")])
    dataset = prepare_tasks({"one": section(one), "two": section(two)}, None)
    held = {example.text: part for part, some in dataset.of_task("one").parts.items() for example in some}
    found = [(held[example.text[:-1]], part) for part, some in dataset.of_task("two").parts.items() for example in some
             if example.text[:-1] in held]  # fmt: skip
    assert len(found) == 60 and {part for part, _ in found} == {"train", "validation", "test"}
    assert all(mine == other for mine, other in found)


@pytest.mark.parametrize("split", [{"folds": 3}, {"frozen": "splits.json"}])
def test_folds_and_frozen_parts_are_for_one_task(tmp_path, split):
    data, needs = section(write(tmp_path / "one.csv", rows(0, 60)), split=split)
    with pytest.raises(DataError, match=r"task 'one': data.split\.\w+ is for recipes of one task"):
        prepare_tasks({"one": (data, needs), "two": (data, needs)}, None)
