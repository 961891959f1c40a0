"""What is left of web pages."""

from __future__ import annotations

import html
import re
from html.entities import html5

from whet.plugins import plugin

_BREAKS = (
    "address article aside blockquote br dd div dl dt fieldset figure footer form h1 h2 h3 h4 h5 h6 header hr li main "
    "nav ol p pre section table td th tr ul"
)
_INLINE = (
    "abbr acronym audio body button canvas caption center cite code col colgroup del dfn em font head html iframe img "
    "input ins kbd label legend link mark meta noscript option picture samp script select small source span strike "
    "strong style sub sup svg tbody textarea tfoot thead title tt video wbr"
)
_PAIRED = "a b i q s u"  # also what generics in code look like: removed only where the closing tag is there too
_ATTRIBUTE = r"""\s+[a-z][\w:.-]*\s*=\s*(?:"[^"<>]*"|'[^'<>]*'|[^\s"'<>=]+)"""


def _tags(names: str) -> re.Pattern[str]:
    return re.compile(rf"</?(?:{'|'.join(names.split())})(?:{_ATTRIBUTE})*\s*/?>", re.IGNORECASE)


_BREAK, _OTHER = _tags(_BREAKS), _tags(_INLINE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")
_HIDDEN = re.compile(r"<!--(?:(?!<!--).)*?-->|<(script|style)\b[^<>]*>(?:(?!<\1\b).)*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_PAIRS = [
    (re.compile(rf"<{name}(?:{_ATTRIBUTE})*\s*>", re.IGNORECASE), re.compile(rf"</{name}\s*>", re.IGNORECASE))
    for name in _PAIRED.split()
]


@plugin
class Markup:
    """Removes HTML tags of known names, comments and scripts, and writes entities as characters. `a < b` and `<stdin>` stay."""

    def clean(self, text: str) -> str:
        """Return the text without markup; line-breaking tags become line ends."""
        while "<" in text or "&" in text:
            cleaned = _once(text)
            if cleaned == text:
                break
            text = cleaned  # each change shortens the text, so this ends
        return text


def _once(text: str) -> str:
    text = _HIDDEN.sub("", text)
    text = _OTHER.sub("", _BREAK.sub("\n", text))
    for opening, closing in _PAIRS:
        if opening.search(text) and closing.search(text):
            text = closing.sub("", opening.sub("", text))
    return _ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    known = entity[0][1] == "#" or entity[0][1:] in html5
    return html.unescape(entity[0]) if known else entity[0]
