"""Files of each format, and ways to break them: of bytes, and of what lies within archives and compressed files."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import docx
import openpyxl
import polars as pl
import zstandard

from whet.data.read import read_files
from whet.data.rows import Reject
from whet.errors import DataError

SECRET = "zqxj"
"""Stands in every row, and in no message."""
ROWS = [
    {"text": f'my "{SECRET}" card, number {n}\nis lost – è {{}}[]', "label": f"{SECRET}{'ab'[n % 2]}", "n": n} for n in range(12)
]
TOKENS = [b'"', b",", b"\n", b"\r\n", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"{", b"}", b"[", b"]", b"\\u0000", b"\\ud800", b"1e999", b"9" * 400,
          b"PK\x03\x04", b"<!DOCTYPE a>", b"&x;", b"\xf0\x9f\x98", b"-1", b"\xff\xff\xff\xff", b"[" * 300, b"\t", b";", b"NaN", b" " * 50]  # fmt: skip


def _csv() -> bytes:
    lines = ["text,label,n"] + [",".join('"' + str(cell).replace('"', '""') + '"' for cell in row.values()) for row in ROWS]
    return "\n".join(lines).encode()


def _book() -> bytes:
    book, out = openpyxl.Workbook(), io.BytesIO()
    book.active.append(list(ROWS[0]))
    for row in ROWS:
        book.active.append(list(row.values()))
    book.save(out)
    return out.getvalue()


def _letter() -> bytes:
    letter, out = docx.Document(), io.BytesIO()
    for row in ROWS:
        letter.add_heading(f"Part {row['n']}", 1)
        letter.add_paragraph(row["text"])
    letter.add_table(2, 2).cell(0, 0).text = SECRET
    letter.save(out)
    with zipfile.ZipFile(out) as archive:
        members = {name: archive.read(name) for name in archive.namelist() if "docProps" not in name and "theme" not in name}
    styles = members["word/styles.xml"]
    kept = b"".join(style for style in re.findall(rb"<w:style .*?</w:style>", styles, re.DOTALL) if b'"heading' in style)
    begin = styles.index(b"<w:docDefaults>")  # the rest are hundreds of styles that nobody uses
    members["word/styles.xml"] = styles[:begin] + kept + b"</w:styles>"
    return _zip(members)


def _columns(write: str) -> bytes:
    out = io.BytesIO()
    getattr(pl.DataFrame(ROWS), write)(out)
    return out.getvalue()


def _zip(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def wholes() -> dict[str, bytes]:
    """A sound file of each format, by its name."""
    lines = "\n".join(json.dumps(row) for row in ROWS).encode()
    return {
        "rows.csv": _csv(),
        "rows.json": json.dumps(ROWS, indent=1).encode(),
        "rows.jsonl": lines,
        "rows.parquet": _columns("write_parquet"),
        "rows.arrow": _columns("write_ipc"),
        "book.xlsx": _book(),
        "letter.docx": _letter(),
        "rows.zip": _zip({"a/one.csv": _csv(), "b/two.csv": _csv()}),
        "rows.jsonl.gz": gzip.compress(lines),
        "rows.csv.zst": zstandard.compress(_csv()),
        "page.md": "\n".join(f"# Part {row['n']}\n\n{row['text']}" for row in ROWS).encode(),
    }


def mutated(content: bytes, draw: random.Random) -> bytes:
    """Return the bytes with one to four edits."""
    made = bytearray(content)
    for _ in range(draw.randint(1, 4)):
        begin = draw.randrange(len(made) + 1)
        end = min(len(made), begin + draw.choice((1, 1, 2, 4, 16, 200)))
        edit = draw.randrange(7)
        if edit == 0 and begin < len(made):
            made[begin] ^= 1 << draw.randrange(8)
        elif edit == 1:
            made[begin:end] = b""
        elif edit == 2:
            made[begin:begin] = made[begin:end] * draw.choice((1, 2, 50))
        elif edit == 3:
            made[begin:begin] = draw.choice(TOKENS)
        elif edit == 4:
            made[begin:end] = draw.randbytes(end - begin)
        elif edit == 5:
            del made[begin:]
        else:
            other = draw.randrange(len(made) + 1)
            made[begin:end] = made[other : other + 40]
    return bytes(made)


def broken(name: str, content: bytes, draw: random.Random) -> bytes:
    """Return a broken file: its own bytes, or what is packed in it."""
    if draw.random() < 0.5:
        return mutated(content, draw)
    repack: Callable[[bytes], bytes] | None = {".gz": gzip.compress, ".zst": zstandard.compress}.get(Path(name).suffix)
    if repack is not None:
        inner = gzip.decompress(content) if name.endswith(".gz") else zstandard.decompress(content)
        return repack(mutated(inner, draw))
    if content[:2] == b"PK":
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        chosen = draw.choice(sorted(members))
        members[chosen] = mutated(members[chosen], draw)
        return _zip(members)
    return mutated(content, draw)


def judge(path: Path) -> str:
    """Read a file; return 'read' or 'refused'. Raises AssertionError where what is said is wrong, and whatever is no DataError."""
    rejects, notices = [], []
    try:
        for row in read_files([path], notices):
            assert row.line >= 1 and row.file.startswith(str(path)), f"no place: {row.file}:{row.line}"
            if isinstance(row, Reject):
                rejects.append(row)
    except DataError as error:
        said = str(error)
        assert said.startswith(str(path)), f"not the file first: {said}"
        assert ". " in said and said.rstrip().endswith((".", "--test", "-t", "make setup)")), f"no remedy: {said}"
        assert SECRET not in said.removeprefix(str(path)), f"tells what stands in a row: {said}"
        outcome = "refused"
    else:
        outcome = "read"
    for reject in rejects:
        assert reject.reason and reject.remedy.endswith("."), reject
        assert SECRET not in f"{reject.reason} {reject.remedy}", f"tells what stands in a row: {reject}"
    return outcome


def tried(seed: int, number: int, folder: Path) -> dict[str, int]:
    """Break and read this many files; return how many were read and refused."""
    sound, counts = wholes(), {"read": 0, "refused": 0}
    names = sorted(sound)
    for index in range(number):
        draw = random.Random(f"{seed}-{index}")
        name = names[index % len(names)]
        path = folder / name
        path.write_bytes(broken(name, sound[name], draw))
        try:
            counts[judge(path)] += 1
        except BaseException:
            with suppress(OSError):
                path.rename(folder / f"failed-{seed}-{index}-{name}")
            raise
    return counts
