"""How well texts tell a column, against values worked by hand."""

from __future__ import annotations

import random

import pytest

from whet.data.telling import told


def test_values_that_the_words_name_are_told_always_and_their_spellings_count_once():
    texts = [f"{word} and number {number}" for number in range(20) for word in ("rain", "sun")]
    values = [label for number in range(20) for label in ("wet" if number % 2 else "Wet", "dry")]
    assert told(texts, values) == 1.0


def test_values_drawn_at_random_are_told_by_chance():
    draw = random.Random(0)
    texts = [" ".join(draw.choices("abcdefghij", k=5)) + str(place) for place in range(1000)]
    # 1,000 rows of two equal classes: the standard error of kappa is about 1 / sqrt(1000) = 0.03
    assert told(texts, draw.choices(["x", "y"], k=1000)) == pytest.approx(0, abs=0.1)


def test_copies_of_a_text_do_not_tell_each_other():
    draw = random.Random(1)
    values = draw.choices(["x", "y"], k=200)
    texts = [f"only word{place} here" for place in range(200)]
    assert abs(told(texts * 2, values * 2) - told(texts, values)) < 1e-12 and told(texts, values) < 0.1


@pytest.mark.parametrize(("texts", "values"), [([], []), (["a"], ["x"]), (["a", "b"], ["x", "x"]), (["", " "], ["x", "y"])])
def test_where_there_is_nothing_to_tell_it_is_told_by_chance(texts, values):
    assert told(texts, values) <= 0
