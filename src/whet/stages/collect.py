"""From the sources in a recipe to files of rows: collected once, gone on with after a stop, and taken as they are the next time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from whet import plugins
from whet.collect.journal import Journal, Writer, abandon, check_whole, folder_of, forget, locked, read_journal
from whet.collect.page import now
from whet.data.notices import counted
from whet.display import quoted
from whet.errors import DataError
from whet.protocols import Source
from whet.recipe_data import COLLECTED, Data
from whet.recipe_parts import Choice
from whet.stages.narrate import SILENT, Narrator

SAY_EVERY = 5_000
"""Rows between two lines of progress."""


def with_collected(data: Data, folder: Path | None, narrator: Narrator = SILENT, *, fresh: bool = False) -> Data:
    """Return the section with its sources collected, and the files of their rows beside its own. `folder` is the recipe's.

    `fresh`: what was collected before is collected anew. Raises DataError where a source cannot be asked.
    """
    changes: dict[str, tuple[object, ...]] = {}
    for part, key in COLLECTED.items():
        files = [str(collected(choice, folder, narrator, fresh=fresh)) for choice in getattr(data, key)]
        if files:
            changes |= {part: (*getattr(data, part), *files), key: ()}
    return data.model_copy(update=changes)


def collected(choice: Choice, folder: Path | None, narrator: Narrator = SILENT, *, fresh: bool = False) -> Path:
    """Return the file with the rows of one source."""
    source: Source = plugins.build("sources", choice.name, choice.settings, folder)
    place = folder_of(choice.name, choice.settings, folder or Path())
    with locked(place), _abandoned_where_nothing_came(place):
        before = None if fresh else read_journal(place)
        stamp = source.stamp()
        if before is not None and before.stamp != stamp:
            narrator.say(f"{source.origin}: has changed since {before.ended or before.began}; it is collected anew.")
            before = None
        if before is not None and before.ended:
            file = check_whole(place, before)
            again = "collect it again with: whet prepare RECIPE --fresh"
            narrator.say(
                f"{source.origin}: {counted(before.rows, 'row')} collected on {before.ended}, taken as they are; {again}"
            )
            return file
        return _collect(source, choice, place, before, stamp, narrator)


@contextmanager
def _abandoned_where_nothing_came(place: Path) -> Iterator[None]:
    """Leave no folder behind where a source was refused, or stopped, before its first page."""
    try:
        yield
    except BaseException:
        abandon(place)
        raise


def _collect(source: Source, choice: Choice, place: Path, before: Journal | None, stamp: str, narrator: Narrator) -> Path:
    anew = before is None or before.after is None
    if before is None or anew:
        before = Journal(source.origin, choice.settings, stamp, began=now())
        narrator.say(f"Collecting {source.origin} ...")
    else:
        narrator.say(f"Collecting {source.origin}: going on after {counted(before.rows, 'row')} of {before.began} ...")
    writer, said = None if anew else Writer(place, before), before.rows
    for page in source.collect(before.after):
        if writer is None:
            forget(place)  # what was collected before stays until the first page of the new is there
            writer = Writer(place, before)
        writer.add(page)
        for notice in page.notices:
            narrator.say(f"Note: {source.origin}: {notice}")
        if writer.journal.rows - said >= SAY_EVERY:
            said = writer.journal.rows
            narrator.say(f"Collecting {source.origin}: {said:,} rows so far.")
    if writer is None or not writer.journal.rows:
        raise DataError(f"{source.origin}: no row was found there. Check the source's settings in the recipe.")
    file = writer.finish()
    narrator.say(f"{source.origin}: {counted(writer.journal.rows, 'row')} collected into {quoted(place)}.")
    return file
