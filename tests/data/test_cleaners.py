"""Cleaners: what they repair, what they leave alone, and that cleaning twice is cleaning once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from whet import plugins
from whet.data.clean import build_cleaners
from whet.errors import RecipeError
from whet.recipe import Data

MESSY = st.lists(
    st.one_of(
        st.text(max_size=8),
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


@pytest.mark.parametrize("name", plugins.names("cleaners"))
@settings(max_examples=150, deadline=None)
@given(text=MESSY)
def test_cleaning_twice_is_cleaning_once(name, text):
    clean = plugins.build("cleaners", name, {}).clean
    assert clean(clean(text)) == clean(text)


@settings(max_examples=200, deadline=None)
@given(
    text=st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60).map(
        lambda text: " ".join(text.split()).replace("&", "").replace("<", "")
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
    assert [name for name, _ in cleaners.chain] == ["encoding", "markup", "controls", "spaces"]
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
