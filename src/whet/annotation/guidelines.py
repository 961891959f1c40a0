"""Guidelines beside the rows: a small, safe part of Markdown as HTML, in which nothing of the text can become markup of its own."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterator

MOST_CHARACTERS = 200_000
_HEADING = re.compile(r"(#{1,6})\s+(.+)")
_BULLET = re.compile(r"\s{0,3}[-*+]\s+(.+)")
_NUMBERED = re.compile(r"\s{0,3}\d{1,9}[.)]\s+(.+)")
_QUOTE = re.compile(r"\s{0,3}>\s?(.*)")
_FENCE = re.compile(r"\s{0,3}(```|~~~)")
_INLINE = re.compile(
    r"`(?P<code>[^`\n]+)`"
    r"|\*\*(?P<strong>[^*\n]+)\*\*"
    r"|\*(?P<em>[^*\n]+)\*"
    r"|\[(?P<name>[^\]\n]+)\]\((?P<link>[^)\s]+)\)"
)
_LINK = re.compile(r"(?:https?://|mailto:)[^\s\"'<>]+", re.IGNORECASE)


def to_html(text: str) -> str:
    """Return headings, paragraphs, lists, quotes, code, **strong**, *emphasis* and links to http, https and mailto as HTML.

    All else is shown as it stands. Headings begin at h3, below the page's own.
    """
    return "".join(_blocks(text[:MOST_CHARACTERS].splitlines()))


def _blocks(lines: list[str]) -> Iterator[str]:
    place = 0
    while place < len(lines):
        line = lines[place]
        if not line.strip():
            place += 1
        elif _FENCE.match(line):
            end = next((at for at in range(place + 1, len(lines)) if _FENCE.match(lines[at])), len(lines))
            yield f"<pre><code>{html.escape(chr(10).join(lines[place + 1 : end]))}</code></pre>"
            place = end + 1
        elif heading := _HEADING.match(line):
            level = min(6, len(heading[1]) + 2)
            yield f"<h{level}>{_inline(heading[2].rstrip('# '))}</h{level}>"
            place += 1
        elif _BULLET.match(line) or _NUMBERED.match(line):
            mark, tag = (_BULLET, "ul") if _BULLET.match(line) else (_NUMBERED, "ol")
            entries, place = _entries(lines, place, mark)
            yield f"<{tag}>{''.join(f'<li>{_inline(entry)}</li>' for entry in entries)}</{tag}>"
        elif _QUOTE.match(line):
            end = _while(lines, place, lambda one: _QUOTE.match(one) is not None)
            said = [found[1] for one in lines[place:end] if (found := _QUOTE.match(one))]
            yield f"<blockquote><p>{_inline(' '.join(said))}</p></blockquote>"
            place = end
        else:
            end = _while(lines, place, lambda one: bool(one.strip()) and not _begins(one))
            end = max(end, place + 1)
            yield f"<p>{_inline(' '.join(one.strip() for one in lines[place:end]))}</p>"
            place = end


def _entries(lines: list[str], place: int, mark: re.Pattern[str]) -> tuple[list[str], int]:
    """Return the entries of a list, whose further lines are indented, and where it ends."""
    entries: list[str] = []
    while place < len(lines) and (found := mark.match(lines[place])):
        end = _while(lines, place + 1, lambda one: one.startswith("  ") and bool(one.strip()) and not mark.match(one))
        entries.append(" ".join([found[1], *(one.strip() for one in lines[place + 1 : end])]))
        place = end
    return entries, place


def _while(lines: list[str], place: int, holds: Callable[[str], object]) -> int:
    """Return the first place from here on whose line does not hold."""
    while place < len(lines) and holds(lines[place]):
        place += 1
    return place


def _begins(line: str) -> bool:
    return any(mark.match(line) for mark in (_HEADING, _BULLET, _NUMBERED, _QUOTE, _FENCE))


def _inline(text: str) -> str:
    made, place = [], 0
    for found in _INLINE.finditer(text):
        made += [html.escape(text[place : found.start()]), _marked(found)]
        place = found.end()
    return "".join([*made, html.escape(text[place:])])


def _marked(found: re.Match[str]) -> str:
    for name, tag in (("code", "code"), ("strong", "strong"), ("em", "em")):
        if found[name] is not None:
            return f"<{tag}>{html.escape(found[name])}</{tag}>"
    if not _LINK.fullmatch(found["link"]):
        return html.escape(found[0])
    address = html.escape(found["link"])
    return f'<a href="{address}" rel="noopener noreferrer nofollow" target="_blank">{html.escape(found["name"])}</a>'
