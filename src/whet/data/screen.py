"""What leaves the gathered rows: conflicting labels, duplicates, near duplicates and leaks; and what gives the target away."""

from __future__ import annotations

import numpy as np

from whet.data.alike import without_near
from whet.data.dropping import conflicts, without_conflicts, without_duplicates, without_leaks
from whet.data.frozen import Frozen
from whet.data.frozen_stored import FREE, StoredFrozen
from whet.data.gathered import Gathered
from whet.data.hidden import ENOUGH, REFUSED, hidden_targets
from whet.data.keys import text_key
from whet.data.leaks import refuse_many, told
from whet.data.notices import counted
from whet.data.rows import Reject
from whet.data.stored import Rows, Stored
from whet.errors import Refused


def settle_conflicts(work: Gathered) -> None:
    """Tell which texts have different labels, and take such rows out where the recipe says so. The user's test file stays as it is."""
    disagreeing = conflicts([work.examples["path"], work.examples["validation"]])
    work.conflicts = tuple(disagreeing)
    if not disagreeing:
        return
    done = "all stay"
    if work.data.conflicts != "keep":
        for source in ("path", "validation"):
            majority = work.data.conflicts == "majority"
            work.examples[source], dropped = without_conflicts(work.examples[source], majority)
            work.rejects[source] += dropped
        done = "the commonest label's stay" if work.data.conflicts == "majority" else "none stays"
    work.notices.append(
        f"{counted(len(disagreeing), 'text')} with different labels in different rows; {done} (data.conflicts). {disagreeing[0].sentence()}"
    )


def drop(work: Gathered) -> None:
    """Take duplicates, near duplicates and leaks out of what is learnt from; the user's test file stays as it is."""
    for source in ("path", "validation"):
        work.examples[source], dropped = without_duplicates(work.examples[source])
        work.rejects[source] += dropped
        if dropped:
            work.notices.append(f"data.{source}: {counted(len(dropped), 'exact duplicate')} dropped; the first copy stays.")
    num_rows = len(work.examples["path"])
    leaks: dict[tuple[str, str], list[Reject]] = {}
    for source, against in (("path", "test"), ("validation", "test"), ("path", "validation")):
        work.examples[source], leaks[source, against] = without_leaks(work.examples[source], work.examples[against], against)
        work.rejects[source] += leaks[source, against]
    if work.frozen is not None:  # of near duplicates, a row that has its part already is the one that stays
        work.examples["path"] = _known_first(work.frozen, work.examples["path"])
    alike = without_near(work.examples, work.data.duplicates, work.data.max_leak_fraction)
    if work.frozen is not None:
        alike.examples["path"] = _by_id(alike.examples["path"])
    work.examples, work.near, work.keeps_near = alike.examples, alike.near, alike.keeps
    for source, rejects in alike.rejects.items():
        work.rejects[source] += rejects
    for (source, against), dropped in alike.leaks.items():
        leaks[source, against] += dropped
    for (source, against), dropped in leaks.items():
        if dropped:
            refuse_many(dropped, num_rows, against, work.data.max_leak_fraction) if source == "path" else None
            work.notices.append(f"data.{source}: {told(dropped, against)}")
    work.notices += alike.notices
    work.conflicts += tuple(alike.conflicts)
    for rows in work.examples.values():
        if isinstance(rows, Stored):
            rows.shelf.forget("content", "target")
            rows.shelf.forget_kept()


def _known_first(frozen: Frozen | StoredFrozen, rows: Rows) -> Rows:
    """Return the rows, those first whose text a former division has."""
    if isinstance(rows, Stored):
        assert isinstance(frozen, StoredFrozen), "of rows on the disk, a division is numbers"
        return Stored(rows.shelf, rows.rows[np.argsort(frozen.parts_of(rows.column("text")) == FREE, kind="stable")])
    assert isinstance(frozen, Frozen), "of rows in memory, a division is a mapping"
    return sorted(rows, key=lambda example: text_key(example) not in frozen.part_of)


def _by_id(rows: Rows) -> Rows:
    if isinstance(rows, Stored):
        return Stored(rows.shelf, np.sort(rows.rows))
    return sorted(rows, key=lambda example: example.id)


def tell_hidden(work: Gathered) -> None:
    """Say which targets stand in the texts. Raises Refused where nearly every text has its own."""
    found = hidden_targets(work.examples["path"])
    fatal = next((one for one in found if one.certain and one.share >= REFUSED), None)
    if fatal is not None and len(work.examples["path"]) >= ENOUGH and work.data.max_leak_fraction < 1:
        raise Refused(f"{', '.join(work.data.path)}: {fatal.sentence} If it is meant so, say so: --set data.max_leak_fraction=1.")
    work.hidden = tuple(one.sentence for one in found)
    work.notices += work.hidden
