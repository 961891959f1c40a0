"""An address of which a model found a part is taken out whole, and what stands around it stays."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.private.addresses import whole_addresses
from whet.private.kinds import Found


def whole(marked: str) -> str:
    """Return the text with its addresses in brackets: in `marked` what a model found is in [] for a place, in {} for a person."""
    text, found, begun = "", [], 0
    for sign in marked:
        if sign in "[{":
            begun = len(text)
        elif sign in "]}":
            found.append(Found(begun, len(text), "place" if sign == "]" else "person"))
        else:
            text += sign
    shown, last = "", 0
    for one in whole_addresses(text, found):
        assert last <= one.start < one.end
        left, right = "[]" if one.kind == "place" else "{}"
        shown += text[last : one.start] + left + text[one.start : one.end] + right
        last = one.end
    return shown + text[last:]


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("I am at 3 [Elm Road, Leeds], L4 1TL.", "I am at [3 Elm Road, Leeds, L4 1TL]."),
        ("Flat 12, [Oak Lane]", "[Flat 12, Oak Lane]"), ("we live in Unit 8 44 [Hay Street]", "we live in [Unit 8 44 Hay Street]"),
        ("174, chemin [Duval], 78307 [Rennes]", "[174, chemin Duval, 78307 Rennes]"), ("174, [chemin Duval] is it", "[174, chemin Duval] is it"),
        ("Borgo [Verdi], 48, 84088, [Siano] (SA)", "[Borgo Verdi, 48, 84088, Siano (SA)]"), ("Avenida de la [Paz 7] Piso 2", "[Avenida de la Paz 7 Piso 2]"),
        ("from [Weiden] an der [Waldnaab].", "from [Weiden an der Waldnaab]."), ("now in South [Bath]", "now in [South Bath]"),
        ("at Nygatan [12, 41110 Lund]", "at [Nygatan 12, 41110 Lund]"), ("ul. [Prosta] 5, 00-950 [Kraków]", "[ul. Prosta 5, 00-950 Kraków]"),
        ("[Rua Nova], 12, 01310-100 [Recife] / PE", "[Rua Nova, 12, 01310-100 Recife] / PE"),
        ("send it to 62 {Price Road} now", "send it to [62 ]{Price Road} now"), ("at 9 {Anna Bergs}, [Leeds]", "at [9 ]{Anna Bergs}, [Leeds]"),
    ],
)  # fmt: skip
def test_an_address_is_taken_whole(found, expected):
    assert whole(found) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I was in [London] 5 times and paid 20 in [Paris].", "I moved from [Rome] to [Oslo] and lost 3 cards", "in 2019 [London] was cold", "the 2 cards of {Anna Berg} are lost",
        "{Anna} from [London]", "flown via [Zurich] and then home", "In [Berlin] 40 people wait", "[Leeds] or [York]?", "call 5 {Anna}", "no place here", "",
    ],
)  # fmt: skip
def test_what_stands_around_a_place_stays(text):
    assert whole(text) == text


def test_a_person_between_two_places_stays_a_person():
    assert whole("[Leeds], {Anna Berg}, [York]") == "[Leeds], {Anna Berg}, [York]"


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("Aa1 ,.-\n(St de"), max_size=60), st.data())
def test_what_was_found_stays_found_in_order_without_overlaps(text, data):
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8, unique=True)))
    spans = [Found(a, b, data.draw(st.sampled_from(["place", "person"]))) for a, b in zip(ends[::2], ends[1::2], strict=False)]
    out = whole_addresses(text, spans)
    assert all(a.end <= b.start for a, b in pairwise(out)) and all(0 <= one.start < one.end <= len(text) for one in out)
    places = {place for one in out for place in range(one.start, one.end)}
    assert {place for one in spans for place in range(one.start, one.end)} <= places
