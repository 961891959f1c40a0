"""Cleaners: what they repair, what they leave alone, and that cleaning twice is cleaning once."""

from __future__ import annotations

import re

import ftfy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet import plugins
from whet.data.clean import build_cleaners
from whet.errors import RecipeError
from whet.protocols import Unwanted
from whet.recipe_data import Data
from whet.testing.cleaners import cleaning_twice_is_cleaning_once

MESSY = st.lists(
    st.one_of(
        st.text(max_size=8),
        st.text(st.sampled_from("<>&;/ \t\n\u200c\u200d\u200b ampltbrÃ©â€™"), max_size=8),
        st.sampled_from(
            [
                "<b>",
                "</b>",
                "<br/>",
                "&amp;",
                "&lt;",
                "lt;",
                "&",
                "<p class='a'>",
                "<!--",
                "-->",
                "<script>",
                "</script>",
                "<i>",
                "#60;",
                "\u200b",
                "\u200d",
                "\u00ad",
                "\r\n",
                "\x00",
                "\u2028",
                "Ã©",
                "â€™",
                " ",
                "\n",
                "\t",
                "\u00a0",
                "é",
                "字",
            ]
        ),
    ),
    max_size=12,
).map("".join)


LONG = {"spelling"}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in LONG)) for name in plugins.names("cleaners")]
)
@settings(max_examples=60, deadline=None)
@given(text=MESSY)
def test_cleaning_twice_is_cleaning_once(name, text):
    cleaning_twice_is_cleaning_once(plugins.build("cleaners", name, {}), [text])


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(
        lambda text: " ".join(text.replace("&", "").replace("<", "").split())
    )
)
def test_a_clean_text_stays_as_it_is(text):
    assert build_cleaners(Data(path="x", text="t", label="l"), None)(text) == text


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("encoding", "CafÃ© donâ€™t", "Café don\u2019t"),
        ("encoding", "naïve façade “quoted” – fine", "naïve façade “quoted” – fine"),
        ("markup", "Hello<br>there<br/>you", "Hello\nthere\nyou"),
        ("markup", '<b>bold</b> &amp; <a href="x.html">link</a>', "bold & link"),
        ("markup", "a < b and c > d, if x <b and c> y", "a < b and c > d, if x <b and c> y"),
        (
            "markup",
            "read <stdin>, vector<i> v, List<String>, <#>, AT&T, a?b=1&copy=2",
            "read <stdin>, vector<i> v, List<String>, <#>, AT&T, a?b=1&copy=2",
        ),
        ("markup", "&lt;#&gt; &notanentity; &#39;q&#39;", "<#> &notanentity; 'q'"),
        ("markup", "x<!-- hidden --><script>alert(1)</script>y", "xy"),
        ("controls", "a\u200bb\x00c\ufeffd\r\ne\u2028f\u00adg", "abcd\ne\nfg"),
        ("controls", "می\u200cخواهم 👩\u200d🔬", "می\u200cخواهم 👩\u200d🔬"),
        ("controls", "a\u200db", "ab"),
        ("spaces", "  a \u00a0\t b \n\n  c  ", "a b\nc"),
    ],
)
def test_examples(name, text, expected):
    assert plugins.build("cleaners", name, {}).clean(text) == expected


def test_auto_repairs_in_order_and_names_what_changed():
    cleaners = build_cleaners(Data(path="x", text="t", label="l"), None)
    assert [name for name, _ in cleaners.chain] == ["encoding", "markup", "unicode", "controls", "spaces"]
    text, changed = cleaners.changes("CafÃ©&nbsp; <br> <b>au</b> lait")
    assert (text, changed) == ("Café\nau lait", ("encoding", "markup", "spaces"))


def test_auto_leaves_markup_and_indentation_where_the_text_itself_is_learnt():
    cleaners = build_cleaners(Data(path="x", prompt="q", response="a"), None)
    assert cleaners("<b>def f():\n    return 1</b>\u200b") == "<b>def f():\n    return 1</b>"


def test_named_cleaners_in_their_order_and_none():
    assert build_cleaners(Data(path="x", clean=()), None)(" a  b ") == " a  b "
    assert [name for name, _ in build_cleaners(Data(path="x", clean=("spaces", "markup")), None).chain] == ["spaces", "markup"]
    with pytest.raises(RecipeError, match="spaces"):
        build_cleaners(Data(path="x", clean=("spacs",)), None)


def test_a_cleaner_of_the_users_own_comes_from_the_recipes_folder(tmp_path):
    (tmp_path / "shout.py").write_text(
        '"""Loud."""\nfrom whet.plugins import plugin\n@plugin\nclass Shout:\n    """Loud."""\n'
        "    def clean(self, text: str) -> str:\n"
        "        return text.upper()\n"
    )
    assert build_cleaners(Data(path="x", clean=("./shout.py",)), tmp_path)("a") == "A"


def test_typographers_signs_stay_where_nobody_asks():
    text = "naïve façade – „ja“ or “yes”… it’s 5−3"
    assert build_cleaners(Data(path="x", text="t", label="l"), None)(text) == text
    assert plugins.build("cleaners", "quotes", {}).clean(text) == 'naïve façade - "ja" or "yes"... it\'s 5-3'
    assert plugins.build("cleaners", "quotes", {"dashes": False}).clean("a—b ``c''") == 'a—b "c"'
    assert plugins.build("cleaners", "quotes", {}).clean("a—b, 3–4") == "a - b, 3-4"


def test_one_form_of_unicode_changes_no_character_for_another():
    assert plugins.build("cleaners", "unicode", {}).clean("cafe\u0301 ﬁ ２ x²") == "café ﬁ ２ x²"
    assert plugins.build("cleaners", "unicode", {"form": "nfkc"}).clean("ﬁ ２ x²") == "fi 2 x2"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("i did not recieve my paymnt, definately", "i did not receive my payment, definitely"),
        ("Recieve it, Mr Smyth", "Recieve it, Mr Smyth"),  # capitals may be names
        ("see `recieve`, recieve_all, re.cieve, /recieve, recieve2 and a@recieve.com", None),
        ("    recieve in code\n```\nrecieve\n```", None),
        ("kubectl wich thx pls iirc", None),  # unknown, or several words could be meant
        ("don't, naïve, ça and thier's", None),
        ("(seperate)  two   spaces\n\nuntill", "(separate)  two   spaces\n\nuntil"),
    ],
)
def test_spelling_is_corrected_word_by_word_where_one_is_meant(text, expected):
    assert plugins.build("cleaners", "spelling", {}).clean(text) == (expected or text)


def test_words_that_are_kept_are_not_corrected():
    assert plugins.build("cleaners", "spelling", {"keep": ["recieve"]}).clean("recieve paymnt") == "recieve payment"


@pytest.mark.parametrize(
    ("name", "settings", "stays", "goes"),
    [
        ("length", {"min_words": 3, "max_characters": 40}, ["one two three"], ["one two", "a b c " * 20]),
        ("repetition", {}, ["no no no", "good " * 5, "a b " * 9, "hmm....."],
         ["buy now " * 20, "w" * 40, "\n".join(["the same line here"] * 4 + ["and another one of five words"] * 2), "spam " * 30]),
        ("gibberish", {}, ["ok", "pls refund asap", "Rhythm and strengths", "Szczęście w chrząszczu", "日本語のテキスト", "👍👍👍👍👍👍👍👍👍👍👍👍", "x = 3"],
         ["sdkfjh wqpzx lkjhgf", "qwrtp zxcvb hjklm", "%$&/(%$&/(%$&/("]),
        ("language", {"keep": ["en", "fr"]}, ["I have not received my new card yet", "ok", "wo ist es", "Je n'ai pas encore reçu ma nouvelle carte bancaire"],
         ["Ich habe meine neue Karte noch immer nicht bekommen", "Nie otrzymałem jeszcze mojej nowej karty płatniczej"]),
    ],
)  # fmt: skip
def test_what_is_dropped_and_what_is_not(name, settings, stays, goes):
    cleaner = plugins.build("cleaners", name, settings)
    assert [cleaner.clean(text) for text in stays] == stays
    for text in goes:
        with pytest.raises(Unwanted):
            cleaner.clean(text)


def test_an_unknown_language_says_which_are_known():
    with pytest.raises(RecipeError, match="xx is no language"):
        plugins.build("cleaners", "language", {"keep": ["xx"]})


SPACED = st.text(st.sampled_from("ab é\u00a0\t\n\r\x0b\x0c\x1c\x1d\x85\u2028\u3000\u200c\u200dÃ©â€™\u0080یа"), max_size=30)


@settings(max_examples=400, deadline=None)
@given(SPACED)
def test_quick_ways_give_what_the_plain_ones_do(text):
    plain = re.sub(r"\s+", lambda run: "\n" if "\n" in run[0] else " ", text).strip()
    assert plugins.build("cleaners", "spaces", {}).clean(text) == plain
    fixed, before = text, None
    while fixed != before:
        before, fixed = fixed, ftfy.fix_encoding(fixed)
    assert plugins.build("cleaners", "encoding", {}).clean(text) == fixed
