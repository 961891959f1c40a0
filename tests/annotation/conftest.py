"""Small jobs of every kind, and a page that is asked without a browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from jobs import COLUMNS, LABELS, items_for

from whet.annotation.desk import Desk
from whet.annotation.items import labels_of
from whet.annotation.kinds import Job, Kind
from whet.annotation.queue import Order, Queue, Sharing
from whet.annotation.store import Store

Make = Callable[..., Desk]


@pytest.fixture
def make_desk(tmp_path: Path) -> Iterator[Make]:
    """A function that opens a desk: of the same file again where it is asked twice."""
    opened: list[Store] = []

    def make(
        kind: Kind = "label",
        *,
        fields: list[dict[str, object]] | None = None,
        order: Order = "file",
        sharing: Sharing = Sharing(),
        review: bool = False,
        path: Path | None = None,
    ) -> Desk:
        items = items_for(kind, fields)
        store = Store(path or tmp_path / "rows.annotations.sqlite")
        opened.append(store)
        store.load(items, {"rows.csv": "0"}, COLUMNS[kind])
        reasons = ("clearer", "safer") if kind == "preference" else ()
        job = Job(kind=kind, reasons=reasons).with_labels((*LABELS.get(kind, ()), *labels_of(items, kind)))
        store.set_job(job)
        queue = Queue(items, kind, sharing, order, review=review)
        queue.tell(store.answers(), store.decisions())
        queue.arrange()
        return Desk(store, queue, job, "rows")

    yield make
    for store in opened:
        store.close()
