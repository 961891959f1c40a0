"""What is masked in a text, what is not, and that masking twice changes nothing."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet.store.mask import mask

# 4111 1111 1111 1111, 5500 0000 0000 0004, 3400 0000 0000 009 and 6011 0000 0000 0004 are the card schemes' published test numbers;
# GB82 WEST 1234 5698 7654 32 and DE89 3704 0044 0532 0130 00 the IBAN registry's examples
MASKED = {
    "write to me.too+x@example.co.uk.": "write to [mail].",
    "jürgen@münchen.de, please": "[mail], please",
    "card 4111 1111 1111 1111 is lost": "card [card] is lost",
    "5500-0000-0000-0004": "[card]",
    "340000000000009 6011000000000004": "[card] [card]",
    "call +49 170 1234567 now": "call [phone] now",
    "call (030) 123456-78": "call [phone]",
    "0170/1234567": "[phone]",
    "tel 555-123-4567": "tel [phone]",
    "pay to DE89 3704 0044 0532 0130 00 please": "pay to [iban] please",
    "GB82WEST12345698765432": "[iban]",
    "my key is sk-proj-abcdefghijklmnop1234": "my key is [key]",
    "AKIAIOSFODNN7EXAMPLE": "[key]",
    "Authorization: Bearer abcdefgh.ijkl": "Authorization: Bearer [key]",
    "password: hunter2!": "password: [key]",
    "mein Passwort ist geheim123": "mein Passwort ist [key]",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.abcdefgh": "[key]",
    "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b": "[key]",
    "version 3.11.4 at 192.168.1.20": "version 3.11.4 at [ip]",
    "-----BEGIN PRIVATE KEY-----\nMIIEv\n-----END PRIVATE KEY-----\nbye": "[key]\nbye",
}
KEPT = [
    "my order 1234567 of 2024-05-17 is late",
    "on 17.05.2024 at 10:30",
    "version 3.11.4",
    "it costs 1,299.00 euros, or 1299.00",
    "room 12, floor 3",
    "the meeting @ noon",
    "token by token",
    "Donaudampfschifffahrtsgesellschaftskapitaen",
    "model XJ-900 from 1998 to 2005",
]


@pytest.mark.parametrize("text", MASKED)
def test_personal_marks_are_masked(text):
    assert mask(text) == MASKED[text]


def test_a_mark_that_shows_only_once_its_neighbour_is_gone_is_masked_too():
    assert mask("030 1234567(030 7654321") == "[phone]([phone]"


@pytest.mark.parametrize("text", KEPT)
def test_ordinary_numbers_and_words_are_kept(text):
    assert mask(text) == text


MARKS = st.sampled_from(
    ["4111 1111 1111 1111", "+49 170 1234567", "a@b.de", "sk-abcdefghijkl1234", "token=", "[", "]", "Bearer ", "0049", ":", "@"]
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(parts=st.lists(MARKS | st.text(alphabet="ab1290 .-+/()@:[]=_\n\u00e9", max_size=8), max_size=6))
def test_masking_twice_changes_nothing(parts):
    once = mask("".join(parts))
    assert mask(once) == once


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["1" * 100_000, "a@" * 50_000, "1 " * 50_000, "a.a" * 30_000, "-----BEGIN PRIVATE KEY-----" * 3000, "eyJ" * 30_000]
)
def test_no_text_takes_long(text):
    begun = time.monotonic()
    mask(text)
    assert time.monotonic() - begun < 5
