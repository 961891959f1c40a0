"""Private data in rows: counted and told by default, and where the recipe says so masked or replaced before anything else looks at them."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from whet.data.notices import counted
from whet.data.rows import RawRow, Reject
from whet.errors import ModelError, RecipeError, RunError
from whet.files import beside
from whet.private.kinds import KINDS, NAMED, plural
from whet.private.names import Names
from whet.private.phones import unknown_regions
from whet.private.redact import Redactor
from whet.recipe_data import Data, Redact
from whet.types import Example

SHOWN = 5  # places of each kind that are named


@dataclass(frozen=True, slots=True)
class Private:
    """What was found of one kind, without what it is."""

    kind: str
    rows: int
    found: int
    places: tuple[str, ...]
    """`file:line` of the first rows that hold it."""


class Privacy:
    """Counts rows with private data, and takes it out of those that it looks at where it is asked to."""

    def __init__(self, asked: Redact, redactor: Redactor | None = None) -> None:
        """Begin with none; without a redactor, rows that another has looked at are noted."""
        self._asked, self._redactor = asked, redactor
        self._rows: Counter[str] = Counter()
        self._found: Counter[str] = Counter()
        self._places: dict[str, list[str]] = {}
        self._num_rows = 0

    def look(self, example: Example) -> Example:
        """Return the row as it goes on, and remember what was found in it."""
        assert self._redactor is not None, "who looks has what finds"
        redacted, kinds = redact_row(example, self._redactor, changes=self._asked.changes)
        self.note(redacted, kinds)
        return redacted

    def note(self, example: Example, kinds: Sequence[str]) -> None:
        """Remember what was found in a row."""
        if kinds:
            self._num_rows += 1
            self._rows.update(dict.fromkeys(kinds, 1))
            self._found.update(kinds)
            for kind in dict.fromkeys(kinds):
                places = self._places.setdefault(kind, [])
                if len(places) < SHOWN:
                    places.append(f"{example.file}:{example.line}")

    def report(self) -> tuple[Private, ...]:
        """Return what was found, the commonest kind first."""
        return tuple(
            Private(kind, rows, self._found[kind], tuple(self._places[kind]))
            for kind, rows in sorted(self._rows.items(), key=lambda item: (-item[1], item[0]))
        )

    def notices(self) -> list[str]:
        """Return what was found and what became of it, in a sentence; none where nothing was."""
        if not self._num_rows:
            return []
        kinds = ", ".join(f"{one.rows:,} {plural(one.kind, one.rows)}" for one in self.report())
        held = f"{counted(self._num_rows, 'row')} {'hold' if self._num_rows != 1 else 'holds'} private data ({kinds})"
        if not self._asked.changes:
            return [f"{held}; nothing was changed. Mask it with: --set data.redact=true"]
        return [f"{held}; {'masked' if self._asked.mode == 'mask' else 'replaced'} before anything was learnt (data.redact)."]


def build_privacy(data: Data, redactor: Redactor | None) -> Privacy | None:
    """Return what looks at the rows of this section; `redactor` is what takes private data out, none where it is only counted."""
    asked = wanted(data)
    return None if asked is None else Privacy(asked, redactor or build_redactor(asked, b""))


def wanted(data: Data) -> Redact | None:
    """Return what the section `data.redact` asks for; None where nobody is to look."""
    if isinstance(data.redact, Redact):
        return data.redact
    return {"auto": Redact(mode="count"), True: Redact(), False: None}[data.redact]


def build_redactor(asked: Redact, key: bytes) -> Redactor:
    """Return what finds and takes out the kinds that are asked for. Raises RecipeError for what cannot be found, ModelError, RunError."""
    wanted_names = [
        kind for kind in (NAMED if asked.kinds == "auto" else asked.kinds) if kind in NAMED and kind not in asked.keep
    ]
    if asked.model is None and asked.kinds != "auto" and wanted_names:
        raise RecipeError(
            f"data.redact.kinds: {wanted_names[0]} is found by a model only. Name one as data.redact.model: a token classification model's id or "
            "folder, or a run of objective 'tokens'."
        )
    if asked.model is not None and not wanted_names:
        raise RecipeError(
            f"data.redact.model: {asked.model} finds {' and '.join(NAMED)}, and data.redact.kinds and keep leave neither. Take the model out."
        )
    wrong = unknown_regions(asked.regions)
    if wrong:
        raise RecipeError(
            f"data.redact.regions: {', '.join(wrong)} is no region; allowed: two capitals such as US, GB or DE (ISO 3166-1)."
        )
    names = None
    if asked.model is not None:
        from whet.models.tagger import load_tagger

        try:
            model = load_tagger(asked.model)
        except (ModelError, RunError) as error:
            raise type(error)(f"data.redact.model: {error}") from None
        names = Names(model, wanted_names, asked.labels, asked.certainty)
    kinds = [kind for kind in (KINDS if asked.kinds == "auto" else asked.kinds) if kind not in asked.keep]
    return Redactor(kinds, "mask" if asked.mode == "count" else asked.mode, key, asked.regions, names=names)


def finders_of(data: Data) -> dict[str, str]:
    """Return the model that finds names, with its hash; none where none does."""
    if not isinstance(data.redact, Redact) or data.redact.model is None:
        return {}
    from whet.models.named import named_hash

    return {data.redact.model: named_hash(data.redact.model)}


def secret_key(asked: Redact, rows: Iterable[RawRow | Reject], folder: Path | None) -> bytes:
    """Return the key of the stand-ins: of the user's file, or else made of the rows themselves.

    Whoever has not the rows cannot make it again, so none of the stand-ins can be tried out; and the same rows always give the same
    ones. It is stored nowhere. Without rows, as where a model is asked, it is drawn. Raises RecipeError.
    """
    digest = hashlib.blake2b(person=b"whet.redact")
    if asked.key is not None:
        try:
            digest.update(Path(beside(asked.key, folder)).read_bytes())
        except OSError as error:
            raise RecipeError(
                f"data.redact.key: {asked.key} cannot be read ({error.strerror}). Name a file with a secret in it."
            ) from None
        return digest.digest()
    empty = True
    for row in rows:
        if isinstance(row, RawRow):
            empty = False
            digest.update(repr(row.fields).encode("utf-8", "surrogatepass"))
    return secrets.token_bytes(32) if empty else digest.digest()


def redact_row(example: Example, redactor: Redactor, *, changes: bool = True) -> tuple[Example, list[str]]:
    """Return the row with every text of it redacted, tags and groups too, and the kinds that were found."""
    people = redactor.people(texts_of(example))
    kinds: list[str] = []
    if example.text is not None and not _has_more(example) and not redactor.may_find(example.text):
        return example, kinds

    def text(written: str | None) -> str | None:
        if not written:
            return written
        if not changes:
            kinds.extend(one.kind for one in redactor.find(written))
            return written
        redacted, found = redactor.redact(written, people)
        kinds.extend(found)
        return redacted

    made: dict[str, object] = {}
    for name in ("text", "text_pair", "chosen", "rejected"):
        value = getattr(example, name)
        if value is not None:
            is_words = name == "text" and example.token_labels is not None
            made[name] = _words(value, redactor, kinds, people if changes else None) if is_words else text(value)
    if example.messages is not None:
        made["messages"] = tuple(replace(turn, content=text(turn.content) or "") for turn in example.messages)
    if example.tags:
        made["tags"] = {name: text(value) for name, value in example.tags.items()}
    if example.group is not None:
        made["group"] = tuple(redactor.coded(one) if changes else one for one in example.group)
    return (replace(example, **made) if kinds and changes else example), kinds  # type: ignore[arg-type]


def texts_of(example: Example) -> list[str]:
    """Return every text of a row that is looked through."""
    fields = (example.text, example.text_pair, example.chosen, example.rejected, *example.tags.values(), *(example.group or ()))
    return [text for text in (*fields, *(turn.content for turn in example.messages or ())) if text]


def _has_more(example: Example) -> bool:
    """Whether anything but its text may hold private data."""
    return bool(example.messages or example.text_pair or example.chosen or example.rejected or example.tags or example.group)


def _words(text: str, redactor: Redactor, kinds: list[str], people: Collection[str] | None) -> str:
    """Return the text with as many words as before, since each has a label: every word of a private stretch is replaced.

    `people` are the persons of the row; None: nothing is changed.
    """
    found = redactor.find(text)
    kinds += [one.kind for one in found]
    if people is None or not found:
        return text
    words, place = [], 0
    for word in text.split(" "):
        start, end = place, place + len(word)
        place = end + 1
        hit = next((one for one in found if one.start < end and start < one.end), None)
        if hit is not None:
            stand_in = redactor.stand_in(text, hit, people).replace(" ", "-")
            word = f"{text[start : max(start, hit.start)]}{stand_in}{text[min(end, hit.end) : end]}"
        words.append(word)
    return " ".join(words)


def together(reports: Iterable[Sequence[Private]]) -> tuple[Private, ...]:
    """Return the reports of several tasks as one."""
    found: dict[str, Private] = {}
    for report in reports:
        for one in report:
            before = found.get(one.kind, Private(one.kind, 0, 0, ()))
            found[one.kind] = Private(
                one.kind, before.rows + one.rows, before.found + one.found, (*before.places, *one.places)[:SHOWN]
            )
    return tuple(sorted(found.values(), key=lambda one: (-one.rows, one.kind)))
