"""Near duplicates: planted ones are found and nothing else is, whatever the memory and the number of workers, in time that grows with the rows."""

from __future__ import annotations

import time
import unicodedata
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.data.minhash import bands_for, signatures
from whet.data.near import find_near
from whet.data.shingles import as_read, comparable, grams, jaccard, numbered

ALPHABETS = (
    "abcdefghijklmnopqrstuvwxyz",
    "абвгдежзийклмнопрстуфхцчшщыэюя",
    "αβγδεζηθικλμνξοπρστυφχψω",
    "的一是不了人我在有他这中大来上国个到说们",
    "äöüßéèêçñåø",
)


def by_definition(one: str, other: str) -> float:
    """Jaccard similarity of the sets of all substrings of five characters, written out."""
    sets = []
    for text in (one, other):
        read = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
        sets.append({read[i : i + 5] for i in range(len(read) - 4)} if len(read) >= 5 else {read})
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def text_of(random: Random, length: int) -> str:
    alphabet = random.choice(ALPHABETS)
    words: list[str] = []
    while sum(map(len, words)) + len(words) < length:
        words.append("".join(random.choices(alphabet, k=random.randint(2, 9))))
    return " ".join(words)[:length].strip()


def edited(random: Random, text: str, share: float) -> str:
    found = list(text)
    for _ in range(max(1, round(share * len(text)))):
        place = random.randrange(len(found))
        match random.randrange(3):
            case 0:
                found[place] = random.choice("xyz")
            case 1:
                found.insert(place, random.choice("xyz"))
            case _:
                del found[place]
    return "".join(found)


def planted(seed: int, number: int) -> tuple[list[str], list[float]]:
    """Texts of 30 to 2,000 characters, and after them an edited copy of each with how similar it is."""
    random = Random(seed)
    originals = [text_of(random, round(10 ** random.uniform(1.48, 3.3))) for _ in range(number)]
    copies = [edited(random, text, random.uniform(0.001, 0.06)) for text in originals]
    return originals + copies, [by_definition(*pair) for pair in zip(originals, copies, strict=True)]


def test_planted_near_duplicates_are_found_and_nothing_else():
    texts, similar = planted(0, 1500)
    found = find_near(texts, 0.8)
    wanted = {1500 + place for place, one in enumerate(similar) if one >= 0.8}
    assert 400 < len(wanted) < 1400  # the generator plants both kinds
    got = set(found.copies)
    assert len(got & wanted) >= 0.99 * len(wanted)
    assert len(got & wanted) >= 0.99 * len(got)
    for like in found.copies.values():  # each that is named is true by the definition, written out independently
        assert like.similarity == pytest.approx(by_definition(texts[like.row], texts[like.other])) and like.similarity >= 0.8


def test_planted_leaks_are_found_by_tier():
    texts, similar = planted(1, 800)
    found = find_near(texts, 0.8, tiers=[0] * 800 + [1] * 800)
    wanted = {800 + place for place, one in enumerate(similar) if one >= 0.8}
    assert len(set(found.leaks) & wanted) >= 0.98 * len(wanted) and set(found.leaks) <= wanted
    assert not found.copies and not found.group  # held-out rows are compared with nothing


@pytest.mark.slow
def test_the_result_depends_neither_on_memory_nor_on_workers():
    texts, _ = planted(2, 300)
    texts += [f"Please transfer {i * 7919 % 10000} to my savings account as soon as possible" for i in range(600)]
    targets = [i % 3 for i in range(len(texts))]
    for drop in (True, False):
        whole = find_near(texts, 0.8, targets, drop=drop, num_workers=1)
        assert whole.copies and whole.conflicts and whole.group
        assert find_near(iter(texts), 0.8, targets, drop=drop, max_bytes=0, num_workers=3) == whole
        assert find_near(texts, 0.8, targets, drop=drop, max_bytes=200_000, num_workers=2) == whole


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text(alphabet="ab é ﬁA.\n", max_size=24), min_size=1, max_size=14),
    st.sampled_from([0.5, 0.8, 1.0]),
    st.booleans(),
)
def test_small_sets_are_as_by_comparing_each_with_each(texts, similarity, drop):
    """Of rows in order: a copy is near to one that stays; what stays and is near is in one group. Bands may miss 1 pair in 1,000."""
    found = find_near(texts, similarity, drop=drop)
    for row, like in found.copies.items():
        assert by_definition(texts[row], texts[like.other]) == pytest.approx(like.similarity) and like.other < row
        assert like.other not in found.copies and like.similarity >= similarity
    for row, text in enumerate(texts):
        if row not in found.copies:
            near = [one for one in range(row) if one not in found.copies and by_definition(text, texts[one]) >= similarity]
            exact = [one for one in near if as_read(texts[one]) == as_read(text)]
            assert not exact
    for row, first in found.group.items():
        assert first <= row and found.group[first] == first


def test_rows_with_other_targets_stay_and_are_told():
    texts = [
        "please cancel my order of yesterday evening",
        "please cancel my order of yesterday evening!",
        "Please cancel my order of yesterday evening?",
    ]
    found = find_near(texts, 0.8, ["a", "b", "a"])
    assert set(found.copies) == {2} and found.copies[2].other == 0
    assert [(like.row, like.other) for like in found.conflicts] == [(1, 0)]
    assert found.group == {0: 0, 1: 0}
    kept = find_near(texts, 0.8, ["a", "b", "a"], drop=False)
    assert set(kept.copies) == {2} and kept.group == {0: 0, 1: 0, 2: 0}


@pytest.mark.slow
def test_templates_are_linear_in_time_and_grouped():
    """Rows that differ by a number only: doubling them doubles the work, give or take; nothing like four times."""

    def seconds(number: int) -> tuple[float, int]:
        random = Random(number)
        texts = [f"Please transfer {random.randrange(100_000)} to my savings account as soon as possible" for _ in range(number)]
        begun = time.process_time()
        found = find_near(texts, 0.8, num_workers=1)
        return time.process_time() - begun, len(found.copies)

    seconds(500)
    (few, _), (many, copies) = seconds(3000), seconds(12_000)
    assert many < 10 * few  # linear: 4 times; quadratic: 16 times
    assert copies > 0.8 * 12_000


def test_short_texts_white_space_and_forms_of_characters():
    assert grams("abcd") == {"abcd"} and grams("abcdef") == {"abcde", "bcdef"} and grams("") == {""}
    assert as_read("  Ｆｕｌｌ\n  STRASSE ") == "full strasse" == as_read("full straße")
    assert find_near(["abc", "abd", "ABC "], 0.8).copies[2].other == 0
    assert not find_near(["", "a"], 0.8).copies


def test_long_texts_are_compared_by_numbers_and_give_the_same_similarity():
    random = Random(3)
    one = text_of(random, 30_000)
    other = edited(random, one, 0.01)
    one, other = as_read(one), as_read(other)
    expected = jaccard(comparable(one, False), comparable(other, False))
    assert jaccard(comparable(one, True), comparable(other, True)) == expected
    assert find_near([one, other], round(expected - 0.02, 3)).copies[1].similarity == expected


def test_signatures_agree_as_often_as_texts_are_similar_and_depend_on_the_text_alone():
    random, bands = Random(4), bands_for(0.8)
    estimates, truths = [], []
    for _ in range(300):
        one = as_read(text_of(random, random.choice([40, 120, 700, 3000])))
        other = edited(random, one, random.uniform(0, 0.05))
        numbers = signatures([one, "x" * random.randint(1, 900), other], bands)
        assert (numbers[0] == signatures([one], bands)[0]).all()
        estimates.append((numbers[0] == numbers[2]).mean())
        truths.append(by_definition(one, other))
    error = np.array(estimates) - np.array(truths)
    # a share of K agreeing numbers has variance J (1 - J) / K; over 300 pairs the mean lies within 4 of its standard errors
    spread = np.sqrt(np.mean([one * (1 - one) for one in truths]) / bands.num_hashes)
    assert abs(error.mean()) < 4 * spread / np.sqrt(300) + 0.002
    assert error.std() < 1.25 * spread


@pytest.mark.parametrize("similarity", [0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99])
def test_bands_miss_one_pair_in_a_thousand_at_most(similarity):
    bands = bands_for(similarity)
    assert (1 - similarity**bands.num_rows) ** bands.num_bands <= 0.001


def test_grams_are_numbered_text_by_text():
    words, starts = numbered(["abcdefg", "ab", "abcde"])
    assert np.diff(starts).tolist() == [3, 1, 1]
    assert words[0] == words[4] and len(set(words.tolist())) == 4
