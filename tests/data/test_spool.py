"""Tables and texts beyond the memory that they may take: on the disk that was named, and gone at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from whet.data.spool import Spool


def test_files_are_on_the_disk_of_the_folder_that_is_named_and_closed_at_the_end(tmp_path):
    with Spool(0, tmp_path) as spool:
        file = spool.file()
        file.write(b"a")
    assert file.closed
    with Spool(0, tmp_path / "absent") as spool, pytest.raises(FileNotFoundError, match="absent"):
        spool.file()


def test_what_fits_exactly_is_held_in_memory_and_once_full_nothing_more():
    spool = Spool(8)
    assert [spool.take(size) for size in (4, 4, 1, 0)] == [True, True, False, False]


def test_what_a_full_disk_keeps_from_being_written_is_nothing_to_stop_for_at_the_end(monkeypatch):
    with Path("/dev/full").open("w+b") as full:
        monkeypatch.setattr("tempfile.TemporaryFile", lambda dir: full)
        with Spool(0) as spool:
            spool.file().write(b"a")
        assert full.closed
