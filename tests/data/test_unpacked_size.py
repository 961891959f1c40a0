"""How large a packed file is once it is unpacked is known before its rows are read, whatever it says, and without unpacking all of it."""

from __future__ import annotations

import gzip
import os
import random
import time
import zipfile

import pytest
import zstandard

from whet.data.unpacked_size import PACKED, SAMPLE, unpacked_size


def rows(number: int) -> bytes:
    """Rows that pack well, alike from the first to the last."""
    drawn = random.Random(1)
    return b"".join(b"the same words come again and again in row %d,a\n" % drawn.randrange(10**6) for _ in range(number))


LARGE = rows(400_000)  # 21 MB


def about(size: int, share: float = 0.1) -> object:
    return pytest.approx(size, rel=share)


def test_a_gzip_file_is_as_large_as_its_end_says(tmp_path):
    (tmp_path / "rows.csv.gz").write_bytes(packed := gzip.compress(LARGE))
    assert len(LARGE) > 5 * len(packed) and len(LARGE) > SAMPLE
    assert unpacked_size(tmp_path / "rows.csv.gz") == about(len(LARGE))


def test_a_gzip_file_of_several_members_is_as_large_as_all_of_them(tmp_path):
    third = len(LARGE) // 3
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(LARGE[:third]) + gzip.compress(LARGE[third:]) + gzip.compress(b"end\n"))
    assert unpacked_size(tmp_path / "rows.csv.gz") == about(len(LARGE))  # the end says 4 bytes
    (tmp_path / "few.csv").write_bytes(gzip.compress(b"one\n") + gzip.compress(b"two\n"))  # whatever it is called
    assert unpacked_size(tmp_path / "few.csv") == (tmp_path / "few.csv").stat().st_size  # never fewer than it has


def test_a_gzip_file_that_begins_with_rows_that_pack_badly_is_as_large_as_its_end_says(tmp_path):
    begin = os.urandom(2 * SAMPLE)
    (tmp_path / "rows.csv.gz").write_bytes(gzip.compress(begin + LARGE))
    assert unpacked_size(tmp_path / "rows.csv.gz") == len(begin) + len(LARGE)


@pytest.mark.parametrize("says", [True, False])
def test_a_zstd_file_is_as_large_as_its_header_says_or_its_beginning_lets_expect(says, tmp_path):
    (tmp_path / "rows.jsonl.zst").write_bytes(zstandard.ZstdCompressor(write_content_size=says).compress(LARGE))
    assert unpacked_size(tmp_path / "rows.jsonl.zst") == about(len(LARGE), 0.02 if says else 0.25)


def test_a_zip_archive_is_as_large_as_its_directory_says(tmp_path):
    with zipfile.ZipFile(tmp_path / "rows.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", LARGE)
        archive.writestr("b.csv.gz", gzip.compress(LARGE))
    assert unpacked_size(tmp_path / "rows.zip") == len(LARGE) + PACKED * len(gzip.compress(LARGE))


def test_what_is_not_packed_broken_or_a_pipe_is_told_without_harm(tmp_path):
    (tmp_path / "rows.csv").write_bytes(LARGE[:1000])
    assert unpacked_size(tmp_path / "rows.csv") == 1000
    for name, begin in {"a.gz": b"\x1f\x8b", "b.zst": b"\x28\xb5\x2f\xfd", "c.zip": b"PK\x03\x04"}.items():
        for rest in (b"", b"x" * 500):
            (tmp_path / name).write_bytes(begin + rest)
            assert len(begin + rest) <= unpacked_size(tmp_path / name) <= PACKED * len(begin + rest)
    (tmp_path / "empty.csv").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    assert unpacked_size(tmp_path / "pipe") == unpacked_size(tmp_path / "empty.csv") == 0
    (tmp_path / "columns.parquet").write_bytes(b"PAR1" * 10)
    assert unpacked_size(tmp_path / "columns.parquet") == PACKED * 40


def test_a_bomb_is_not_unpacked_to_be_looked_at(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(bytes(1 << 28)))
    begun = time.process_time()
    assert unpacked_size(tmp_path / "bomb.gz") == about(1 << 28)
    assert time.process_time() - begun < 0.5
