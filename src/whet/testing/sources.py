"""The laws of a source, for the built-in ones and for your own: `check_source(MySource())`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import islice

from whet.collect.page import Mark, Page
from whet.data.rows import RawRow
from whet.data.values import as_json
from whet.protocols import Source

PAGES = 50
"""Pages looked at."""


def check_source(source: Source, secrets: Sequence[str] = ()) -> None:
    """Raise AssertionError at the first law that does not hold. `secrets` are what its credentials lead to."""
    pages = list(islice(source.collect(None), PAGES))
    rows_have_a_place_and_are_json(pages)
    the_same_rows_come_again(source, pages)
    after_any_mark_the_rest_comes(source, pages)
    marks_are_plain_json(pages)
    no_secret_is_told(source, pages, secrets)


def rows_have_a_place_and_are_json(pages: Sequence[Page]) -> None:
    """Each row says where it is from, and holds only what JSON can; each page says of when it is."""
    assert any(page.rows for page in pages), "the source gave no row"
    for page in pages:
        assert page.date[:4].isdigit(), f"a page of '{page.date}', which is no date by ISO 8601"
        for row in page.rows:
            assert row.file and row.line >= 1, f"a row without a place: {row.file!r}, {row.line}"
            if isinstance(row, RawRow):
                json.dumps(as_json(row.fields), allow_nan=False)


def the_same_rows_come_again(source: Source, pages: Sequence[Page]) -> None:
    """Collected twice, the rows are the same, in the same order."""
    again = [row for page in islice(source.collect(None), PAGES) for row in page.rows]
    assert again == [row for page in pages for row in page.rows], "collected again, the rows are others, or in another order"


def after_any_mark_the_rest_comes(source: Source, pages: Sequence[Page]) -> None:
    """Stopped after a page and begun at its mark, the source gives the rows that are left, and no other."""
    for done, page in enumerate(pages[:-1], 1):
        if page.after is None:
            continue
        mark: Mark = json.loads(json.dumps(page.after))
        rest = [row for later in islice(source.collect(mark), PAGES - done) for row in later.rows]
        wanted = [row for later in pages[done:] for row in later.rows]
        assert rest == wanted, f"after the mark {mark} came {len(rest)} rows, and not the {len(wanted)} that were left"


def marks_are_plain_json(pages: Sequence[Page]) -> None:
    """What a stopped collection goes on from is the same once it was on the disk."""
    for page in pages:
        assert json.loads(json.dumps(page.after)) == page.after, f"the mark {page.after} is not what JSON makes of it"


def no_secret_is_told(source: Source, pages: Sequence[Page], secrets: Sequence[str]) -> None:
    """No secret stands in the source's name, its marks, its notices or its rows' places."""
    told = [source.origin, source.stamp(), repr(source)]
    for page in pages:
        told += [json.dumps(page.after), *page.notices, *(row.file for row in page.rows)]
    for one in secrets:
        assert not any(one in text for text in told), "a secret stands in what the source tells"
