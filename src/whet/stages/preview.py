"""`whet prepare --preview`: what each cleaner would change or drop, before and after, with nothing written."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.text import Text

from whet.data.clean import Cleaners, build_cleaners
from whet.data.conversation import Unwelcome
from whet.data.mapping import resolve
from whet.data.notices import counted
from whet.data.read import read_files
from whet.data.redact import build_privacy
from whet.data.rows import RawRow, Reject
from whet.data.shapes import to_examples
from whet.errors import DataError
from whet.recipe import Recipe
from whet.recipe_data import COLLECTED, Data
from whet.stages.build import build_objective, check_plugins
from whet.stages.narrate import SILENT, Narrator
from whet.stages.prepare import located
from whet.types import Example

SHOWN = 3
"""Changes of each cleaner that are shown, where nothing else is asked for."""
CONTEXT = 6  # words beside a change
_PIECE = re.compile(r"\s+|\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Change:
    """One text as it stood before a cleaner and after it."""

    place: str
    before: str
    after: str


@dataclass(slots=True)
class Did:
    """What one cleaner would do."""

    name: str
    changed: int = 0
    dropped: int = 0
    changes: list[Change] = field(default_factory=list)
    drops: list[tuple[str, str, str]] = field(default_factory=list)
    """Place, reason, and the text."""


@dataclass(slots=True)
class Preview:
    """What would be done to the rows of a recipe, task by task where there are several."""

    rows: int = 0
    cleaners: dict[str, Did] = field(default_factory=dict)
    redacted: list[Change] = field(default_factory=list)
    private: list[dict[str, Any]] = field(default_factory=list)

    def record(self) -> dict[str, Any]:
        """What a program is answered."""
        return {
            "rows": self.rows,
            "cleaners": [
                {
                    "name": one.name,
                    "changed": one.changed,
                    "dropped": one.dropped,
                    "changes": [{"place": some.place, "before": some.before, "after": some.after} for some in one.changes],
                    "drops": [{"place": place, "reason": reason} for place, reason, _ in one.drops],
                }
                for one in self.cleaners.values()
            ],
            "private": self.private,
        }


def preview(recipe: Recipe, folder: Path | None, narrator: Narrator = SILENT, shown: int = SHOWN) -> dict[str, Preview]:
    """Return what each cleaner would do to the rows of a recipe, by task ('' where there is one). Reads everything, writes nothing.

    Raises DataError where rows would have to be collected first.
    """
    check_plugins(recipe, folder)
    found = {}
    for name, single in recipe.singles.items():
        if any(getattr(single.data, key) for key in COLLECTED.values()):
            raise DataError(
                "data.sources: a preview collects nothing. Collect the rows first with: whet prepare RECIPE, and name their files as data.path."
            )
        found[name] = _preview(located(single.data, folder), build_objective(single.objective, folder).needs, folder, shown)
        _show(found[name], name, narrator)
    return found


def _preview(data: Data, needs: tuple[str, ...], folder: Path | None, shown: int) -> Preview:
    made, notices = Preview(), list[str]()
    rows = list(read_files([Path(name) for name in data.path], notices))
    columns = resolve(data, needs, rows, notices)
    cleaners = build_cleaners(columns, folder, rows)
    made.rows, made.cleaners = len(rows), {name: Did(name) for name, _ in cleaners.chain}
    privacy = build_privacy(columns, cleaners.redactor)
    for row in rows:
        example = next(iter(to_examples([row], columns, needs, _Watching(cleaners, made.cleaners, row, shown))))
        if privacy is not None and isinstance(example, Example):
            after = privacy.look(example)
            if after is not example and len(made.redacted) < shown:
                made.redacted += [Change(f"{row.file}:{row.line}", one, other) for one, other in _texts(example, after)]
    if privacy is not None:
        made.private = [{"kind": one.kind, "rows": one.rows, "found": one.found} for one in privacy.report()]
    return made


class _Watching:
    """Cleans the texts of one row, and remembers what each cleaner did."""

    def __init__(self, cleaners: Cleaners, did: dict[str, Did], row: RawRow | Reject, shown: int) -> None:
        self._cleaners, self._did, self._shown = cleaners, did, shown
        self._place = f"{row.file}:{row.line}"

    def __call__(self, text: str) -> str:
        for name, cleaner in self._cleaners.chain:
            did, one = self._did[name], Cleaners(((name, cleaner),))
            try:
                after = one.learnt(text)[0]
            except Unwelcome as error:
                did.dropped += 1
                if len(did.drops) < self._shown:
                    did.drops.append((self._place, error.reason, text))
                raise
            if after != text:
                did.changed += 1
                if len(did.changes) < self._shown:
                    did.changes.append(Change(self._place, text, after))
            text = after
        return text


def _texts(before: Example, after: Example) -> Iterator[tuple[str, str]]:
    """Yield the texts of a row that differ."""
    pairs = [(getattr(before, name), getattr(after, name)) for name in ("text", "text_pair", "chosen", "rejected")]
    pairs += [(one.content, other.content) for one, other in zip(before.messages or (), after.messages or (), strict=True)]
    for one, other in pairs:
        if one != other and one is not None and other is not None:
            yield one, other


def _show(found: Preview, name: str, narrator: Narrator) -> None:
    narrator.say(f"{f'{name}: ' if name else ''}{counted(found.rows, 'row')} read; nothing is written.")
    for did in found.cleaners.values():
        dropped = f", drops {counted(did.dropped, 'row')}" if did.dropped else ""
        narrator.say(f"{did.name}: changes {counted(did.changed, 'text')}{dropped}.")
        for change in did.changes:
            _show_change(change, narrator)
        for place, reason, text in did.drops:
            narrator.say(f"  {place}: {reason}")
            _print(Text("    ").append(_shortened(text), style="red strike"), narrator)
    kinds = ", ".join(f"{one['kind']} in {counted(one['rows'], 'row')}" for one in found.private) or "none found"
    narrator.say(f"redact: {kinds}{'' if found.redacted or not found.private else '; nothing is changed (data.redact)'}.")
    for change in found.redacted:
        _show_change(change, narrator)


def _show_change(change: Change, narrator: Narrator) -> None:
    narrator.say(f"  {change.place}:")
    _print(Text("    ").append_text(differences(change.before, change.after)), narrator)


def _print(text: Text, narrator: Narrator) -> None:
    if narrator.console is not None:
        narrator.console.print(text, soft_wrap=not narrator.console.is_terminal)


def differences(before: str, after: str) -> Text:
    """Return one line with what goes as [-so-] and what comes as {+so+}, in colours where there are any; what stays far from both is left out."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    shown = Text()
    if max(len(old), len(new)) > 4000:  # comparing piece by piece takes the square of their number
        return shown.append(f"[-{_shortened(before)}-]", "red").append(f"{{+{_shortened(after)}+}}", "green")
    blocks = difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes()
    for place, (tag, begin, end, to, until) in enumerate(blocks):
        if tag == "equal":
            shown.append(_around(old[begin:end], first=place == 0, last=place == len(blocks) - 1))
            continue
        if end > begin:
            shown.append(f"[-{_visible(''.join(old[begin:end]))}-]", "red")
        if until > to:
            shown.append(f"{{+{_visible(''.join(new[to:until]))}+}}", "green")
    return shown


def _around(pieces: Sequence[str], *, first: bool, last: bool) -> str:
    """Return what stays between two changes: all of it where that is short."""
    width = 2 * CONTEXT
    if len(pieces) <= width * (1 if first or last else 2):
        return _visible("".join(pieces))
    left = "" if first else "".join(pieces[:width])
    right = "" if last else "".join(pieces[-width:])
    return _visible(f"{left}…{right}")


def _visible(text: str) -> str:
    """Return the text with line ends, tabs and what cannot be seen written out."""
    return "".join(one if one == " " or one.isprintable() else repr(one)[1:-1] for one in text)


def _shortened(text: str) -> str:
    return _visible(text if len(text) <= 160 else f"{text[:120]} … {text[-30:]}")
