"""XML one element at a time, from a stream: no entities of the file's own, nothing fetched, never more held than a chunk."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal, NamedTuple, Protocol
from xml.parsers import expat

from whet.data.unpack import Budget
from whet.errors import DataError

CHUNK = 1 << 16
NONE: Mapping[str, str] = {}
DEEPEST = 1000
"""Elements in one another."""


class Event(NamedTuple):
    """An element that begins or ends, or text within it. Names are without their namespace."""

    kind: Literal["start", "end", "text"]
    value: str
    attributes: Mapping[str, str]


class Readable(Protocol):
    """What bytes are read from."""

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, so many at most; none at the end."""
        ...


def xml_events(stream: Readable, name: str, budget: Budget) -> Iterator[Event]:
    """Yield what an XML text holds, in order. Raises DataError where it is broken, or declares a document type."""
    held: list[Event] = []
    local: dict[str, str] = {}  # names without their prefixes
    depth = 0

    def named(name: str) -> str:
        return local.get(name) or local.setdefault(name, name.rpartition(":")[2])

    def start(tag: str, attributes: Mapping[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEEPEST:
            raise DataError(
                f"{name}: XML of more than {DEEPEST} elements in one another, as no program writes it. Save the file again."
            )
        held.append(Event("start", named(tag), {named(key): value for key, value in attributes.items()}))

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        held.append(Event("end", named(tag), NONE))

    def doctype(*_: object) -> None:
        raise DataError(
            f"{name}: its XML declares a document type, through which files could be read or the memory filled. Save the file again."
        )

    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = lambda text: held.append(Event("text", text, NONE))
    parser.StartDoctypeDeclHandler = doctype
    try:
        while True:
            chunk = stream.read(CHUNK)
            budget.spend(len(chunk))
            parser.Parse(chunk, not chunk)
            yield from held
            held.clear()
            if not chunk:
                return
    except (expat.ExpatError, LookupError, ValueError) as error:  # the last two are of an encoding that nobody knows or can read
        raise DataError(
            f"{name}: broken, or not what its name says ({type(error).__name__}). Open it in its own program, and save it again."
        ) from None
