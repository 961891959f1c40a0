"""The pieces of a text, end to end, are the text; a stop string is never shown, wherever its tokens end."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.server.text import BROKEN, WINDOW, TextStream

LETTERS = "ab \n"


def by_bytes(ids):
    """A tokenizer whose tokens are bytes, as of the rarest characters of a real one."""
    return bytes(ids).decode("utf-8", "replace")


def shown(stream, ids):
    pieces = []
    for token in ids:
        pieces.append(stream.feed(token))
        if stream.stopped:
            return pieces
    return [*pieces, stream.close()]


@settings(max_examples=300, deadline=None, derandomize=True)
@given(text=st.text(alphabet=LETTERS + "é€😀", max_size=60), strip=st.booleans())
def test_pieces_are_the_text(text, strip):
    stream = TextStream(by_bytes, strip=strip)
    pieces = shown(stream, list(text.encode()))
    assert "".join(pieces) == stream.text == (text.strip() if strip else text)
    assert all(BROKEN not in piece for piece in pieces)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    text=st.text(alphabet=LETTERS + "é", max_size=30),
    stops=st.lists(st.text(alphabet=LETTERS + "é", min_size=1, max_size=4), min_size=1, max_size=4),
)
def test_the_text_ends_before_the_first_stop_string(text, stops):
    pieces = shown(TextStream(by_bytes, stops), list(text.encode()))
    expected = text[: min((text.index(stop) for stop in stops if stop in text), default=len(text))]
    # a stop string that is whole ends the text at once, before a longer one that began earlier can be
    first = next((size for size in range(len(text) + 1) if any(stop in text[:size] for stop in stops)), None)
    if first is not None:
        seen = text[:first]
        expected = seen[: min(seen.index(stop) for stop in stops if stop in seen)]
    assert "".join(pieces) == expected


def test_a_character_is_shown_when_it_is_whole():
    stream = TextStream(by_bytes)
    assert [stream.feed(byte) for byte in "€a".encode()] == ["", "", "€", "a"]


def test_bytes_that_never_become_a_character_are_shown_at_the_end():
    stream = TextStream(by_bytes)
    assert stream.feed(0xE2) == "" and stream.close() == BROKEN


def test_what_may_become_a_stop_string_is_held_until_it_does_not():
    stream = TextStream(by_bytes, ["END"])
    assert [stream.feed(byte) for byte in b"xENxEND"] == ["x", "", "", "ENx", "", "", ""]
    assert stream.stopped and stream.text == "xENx"


def test_spaces_at_the_end_are_held_where_the_text_is_stripped():
    stream = TextStream(by_bytes, strip=True)
    assert [stream.feed(byte) for byte in b" a b "] == ["", "a", "", " b", ""]
    assert stream.close() == ""


def test_each_token_is_decoded_with_a_few_others_however_long_the_answer_is():
    decoded = []

    def counting(ids):
        decoded.append(len(ids))
        return by_bytes(ids)

    text = "a€ word, 😀. " * 400
    pieces = shown(TextStream(counting), list(text.encode()))
    assert "".join(pieces) == text
    assert max(decoded) <= WINDOW and sum(decoded) <= 2 * WINDOW * len(text.encode())


def by_words(ids):
    """Words as WordPiece's: a space before each but the first, and none before a full stop."""
    return " ".join("." if one == 0 else f"w{one}" for one in ids).replace(" .", ".")


def in_reverse(ids):
    """What no tokenizer does: the text of a token hangs on all behind it."""
    return f"{len(ids)} " + "x" * len(ids)


@pytest.mark.parametrize("decode", [by_words, in_reverse])
def test_where_tokens_change_what_was_before_them_the_text_is_that_of_all(decode):
    ids = [place % 5 for place in range(1, 500)]
    stream = TextStream(decode)
    for token in ids:
        stream.feed(token)
    assert stream.close() is not None and stream._raw == decode(ids)


def test_a_tokenizer_that_decodes_otherwise_is_asked_a_bounded_number_of_times():
    decoded = []

    def counting(ids):
        decoded.append(len(ids))
        return in_reverse(ids)

    stream = TextStream(counting)
    for token in range(1000):
        stream.feed(token)
    assert stream._raw == in_reverse(range(1000)) and len(decoded) <= 1000 + 60 and max(decoded) == 1000


def test_once_tokens_go_on_as_they_do_alone_the_earlier_ones_are_let_go():
    decoded = []

    def hanging(ids):
        decoded.append(len(ids))
        return (f"{len(ids)}: " if 7 in ids[-20:] else "") + by_words(ids)

    ids = [place % 5 + 1 for place in range(1000)]
    ids[WINDOW - 4] = 7
    stream = TextStream(hanging)
    for token in ids:
        stream.feed(token)
    assert stream._raw == by_words(ids) and max(decoded) <= 2 * WINDOW
