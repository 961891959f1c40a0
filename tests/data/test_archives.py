"""Compressed files, archives, folders and patterns: read whole, or refused in a sentence."""

from __future__ import annotations

import errno
import gzip
import io
import os
import random
import signal
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import polars as pl
import pytest
import zstandard

from whet.data import unpack
from whet.data.read import read_files, spooled
from whet.data.rows import RawRow
from whet.errors import DataError

CSV = b"text,label\n" + b"".join(b"text number %d,%s\n" % (n, b"ab"[n % 2 : n % 2 + 1]) for n in range(20))
PLACES = [(n + 2, f"text number {n}") for n in range(20)]


def places(path: Path, notices: list[str] | None = None) -> list[tuple[int, str]]:
    found = list(read_files([path], notices))
    assert all(isinstance(row, RawRow) for row in found)
    return [(row.line, row.fields["text"]) for row in found]


def said(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        list(read_files([path]))
    assert str(path) in str(caught.value)
    return str(caught.value)


READS = "rows = read_files([Path(sys.argv[1])])"
SPOOLS = "spool = Spool(0).__enter__(); table = Table(spool, np.uint64); table.append(np.arange(9)); rows = iter(table.array())"


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.zip", "twice.zip", "rows.arrow.gz", "rows.pipe", "table"])
def test_nothing_unpacked_or_spooled_is_left_by_a_process_that_is_killed(tmp_path, name):
    rows, place = tmp_path / name, tmp_path / "temporary"
    place.mkdir()
    if name == "rows.csv.gz":
        rows.write_bytes(gzip.compress(CSV))
    elif name == "rows.arrow.gz":  # opened by another process
        written = io.BytesIO()
        pl.DataFrame({"text": ["a", "b"]}).write_ipc(written)
        rows.write_bytes(gzip.compress(written.getvalue()))
    elif name == "rows.pipe":
        os.mkfifo(rows)
        threading.Thread(target=rows.write_bytes, args=[CSV], daemon=True).start()
    elif name != "table":
        packed(rows, {"rows.csv.gz": gzip.compress(CSV)} if name == "twice.zip" else {"rows.csv": CSV})
    code = (
        "import os, signal, sys, numpy as np; from pathlib import Path; from whet.data.read import read_files; "
        f"from whet.data.spool import Spool, Table; {SPOOLS if name == 'table' else READS}; "
        "print(next(rows), file=sys.stderr); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, str(rows)],
        env={**os.environ, "TMPDIR": str(place)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL and ("text" in ended.stderr or ended.stderr == "0\n"), ended.stderr
    assert not list(place.iterdir())


def test_a_pipe_is_named_in_what_is_said_of_its_rows(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[CSV], daemon=True)
    writer.start()
    assert {row.file for row in read_files([tmp_path / "pipe"])} == {str(tmp_path / "pipe")}
    writer.join()


def test_a_temporary_folder_that_is_full_is_named_where_a_pipe_is_copied(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(OSError, match="No space") as caught, spooled(io.BytesIO(b"a"), "standard input"):
        pass
    assert caught.value.filename == str(tmp_path)


def full(source: object, file: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def packed(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("name", ["rows.csv.gz", "rows.csv.zst", "rows.data", "twice.csv.gz"])
def test_a_compressed_table_has_the_lines_of_the_table(tmp_path, name):
    half = CSV.index(b"text number 9")
    content = {
        "rows.csv.zst": zstandard.compress(CSV[:half]) + zstandard.compress(CSV[half:]),
        "twice.csv.gz": gzip.compress(CSV[:half]) + gzip.compress(CSV[half:]),
    }.get(name, gzip.compress(CSV))
    (tmp_path / name).write_bytes(content)
    assert places(tmp_path / name) == PLACES


@pytest.mark.parametrize("cut", [0.3, 0.9, 0.999])
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_compressed_file_that_was_cut_short_is_not_read_as_if_it_were_whole(tmp_path, pack, cut):
    whole = pack(CSV * 50)
    (tmp_path / "rows.csv.gz").write_bytes(whole[: int(len(whole) * cut)])
    assert "cut short" in said(tmp_path / "rows.csv.gz")


def test_the_files_of_an_archive_are_read_in_order_and_documents_beside_them_left_out(tmp_path):
    path = packed(
        tmp_path / "rows.zip",
        {
            "b/two.csv": CSV,
            "a/one.csv": CSV,
            "README.md": b"# Hello\nthere",
            "a/readme.txt": b"This data set was made\nby somebody",
            "LICENSE": b"Do what you like",
            "__MACOSX/a/._one.csv": b"junk",
            "a/.DS_Store": b"junk",
        },
    )
    assert places(path) == PLACES * 2
    assert [row.file.removeprefix(str(path)) for row in read_files([path])][::20] == ["/a/one.csv", "/b/two.csv"]


def test_archives_in_one_another(tmp_path):
    inner = packed(tmp_path / "inner.zip", {"rows.csv.gz": gzip.compress(CSV)}).read_bytes()
    assert places(packed(tmp_path / "outer.zip", {"inner.zip": inner})) == PLACES
    for depth in range(4):
        inner = packed(tmp_path / f"{depth}.zip", {"inner.zip": inner}).read_bytes()
    assert "archives in more than 3 archives" in said(tmp_path / "3.zip")


@pytest.mark.parametrize("name", ["../../passwords.csv", "/etc/cron.csv", "..\\up.csv", "C:\\windows\\x.csv"])
def test_names_that_lead_outside_are_refused_and_nothing_is_written(tmp_path, name):
    assert "leads outside the archive" in said(packed(tmp_path / "rows.zip", {name: CSV, "fine.csv": CSV}))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.zip"]


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
@pytest.mark.parametrize("name", ["rows.csv", "xl/_rels/workbook.xml.rels", "word/document.xml"])
def test_a_member_that_cannot_be_unpacked_is_named_however_it_was_packed(tmp_path, method, name):
    path = tmp_path / "rows.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, random.Random(0).randbytes(3000))
        for other in {"xl/_rels/workbook.xml.rels": ["xl/workbook.xml"]}.get(name, []):
            archive.writestr(other, "<workbook/>")
    content = bytearray(path.read_bytes())
    for place in range(400, 2400, 7):
        content[place] ^= 0x5A
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_files([path], []))
    assert f"rows.zip/{name}: cannot be unpacked" in str(caught.value) and "free" not in str(caught.value)


def test_a_member_without_a_name_is_refused(tmp_path):
    path = packed(tmp_path / "rows.zip", {"a.csv": b"text,label\na,b\n"})
    content = path.read_bytes()
    path.write_bytes(content.replace(b"a.csv", b"\0.csv"))  # the soak's input 300001-6500: zipfile ends a name at its first NUL
    assert "has no name" in said(path)


@pytest.mark.parametrize("name", ["bomb.csv.gz", "bomb.csv.zst", "bomb.zip", "nested.zip"])
def test_bombs_are_refused_before_they_fill_the_disk(tmp_path, name, monkeypatch):
    written = []
    monkeypatch.setattr(
        unpack.Budget, "spend", lambda budget, size, real=unpack.Budget.spend: (written.append(size), real(budget, size))
    )
    content = b"text,label\n" + b"a" * 80_000_000
    if name == "bomb.csv.gz":
        (tmp_path / name).write_bytes(gzip.compress(content, 9))
    elif name == "bomb.csv.zst":
        (tmp_path / name).write_bytes(zstandard.compress(content))
    elif name == "bomb.zip":
        packed(tmp_path / name, {"bomb.csv": content})
    else:
        packed(tmp_path / name, {f"{n}.csv.gz": gzip.compress(content[:40_000_000]) for n in range(4)})
    assert "more than 250 times as large" in said(tmp_path / name) or name == "nested.zip"
    assert sum(written) < 110_000_000


def test_too_many_files_and_locked_ones(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MAX_MEMBERS", 5)
    assert "at most 5" in said(packed(tmp_path / "many.zip", {f"{n}.csv": CSV for n in range(6)}))
    locked = bytearray(packed(tmp_path / "locked.zip", {"rows.csv": CSV}).read_bytes())
    locked[6] |= 1  # the flag of the local header, and of the directory at the end
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(locked)
    assert "password" in said(tmp_path / "locked.zip")
    assert "without data files" in said(packed(tmp_path / "none.zip", {"a.exe": b"MZ"}))
    assert "may not belong together" in said(packed(tmp_path / "split.zip", {"train.csv": CSV, "test.csv": CSV}))


def test_a_pattern_reads_what_fits_it(tmp_path):
    for name in ("x/one.csv", "x/y/two.csv", "x/other.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(CSV)
    notices: list[str] = []
    assert places(tmp_path / "**" / "*.csv", notices) == PLACES * 2
    assert "2 files fit it" in notices[0]
    with pytest.raises(DataError, match="no file fits"):
        list(read_files([tmp_path / "*.parquet"]))
    with pytest.raises(DataError, match="not a pattern"):
        list(read_files([tmp_path / "**x" / "*.csv"]))


def test_a_folder_of_documents_may_mix_their_kinds(tmp_path):
    (tmp_path / "a.md").write_text("# One\ntext one")
    (tmp_path / "b.markdown").write_text("text two")
    assert [text for _, text in places(tmp_path)] == ["# One\ntext one", "text two"]
