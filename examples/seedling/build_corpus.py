"""Builds the seedling corpus: training, validation and held-out rows, and a statement of every source."""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
from dataclasses import dataclass, field
from pathlib import Path

from sources import SOURCES, Document, Source, rename_heroes, texts

HELDOUT_MODULUS = 12
"""One TinyStories story in this many is held out."""
VALIDATION_MODULUS = 100
"""One training document in this many becomes a validation document."""
WINDOW_CHARACTERS = 100
"""A training document may share no window of this length with a held-out story; stock openings are up to 80 long."""
TELLINGS = 4
"""Times that each real story is told again under other names: real stories are few, and the sampled ones ramble."""


@dataclass
class Corpus:
    """The rows written so far, and what was dropped from each source."""

    train: list[Document] = field(default_factory=list)
    validation: list[Document] = field(default_factory=list)
    heldout: list[Document] = field(default_factory=list)
    statement: list[dict[str, object]] = field(default_factory=list)


def plain_text(document: Document) -> str:
    """The row as one text; a chat with the tokens of the chat template, but for the first and the last, which training adds."""
    if "text" in document:
        return str(document["text"])
    messages: list[dict[str, str]] = document["messages"]  # type: ignore[assignment]
    return "<|end|>".join(f"<|{message['role']}|>{message['content']}" for message in messages)


def cut_row(row: Document) -> list[Document]:
    """A text row in pieces of at most 2,000 characters; a chat stays whole."""
    return texts([plain_text(row)]) if "text" in row else [{"text": plain_text(row)}]


def draw(text: str, salt: str) -> float:
    """A number from 0 to 1, always the same for a text."""
    digest = hashlib.sha256((salt + text).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def windows(text: str) -> set[str]:
    """Every window of `text`, in lower case and with single spaces."""
    flat = " ".join(text.lower().split())
    return {flat[i : i + WINDOW_CHARACTERS] for i in range(len(flat) - WINDOW_CHARACTERS + 1)}


def words(text: str) -> set[str]:
    """The words of `text` in lower case."""
    return set(re.findall(r"[a-z']+", text.lower()))


def read_sources(shared: Path, out: Path) -> dict[str, list[Document]]:
    """The documents of each source by its name; sampled stories with a word that no real text has are left out."""
    documents = {source.name: source.read(source.files(shared, out)) for source in SOURCES}
    real = [name for name in documents if name not in ("sampled", "sotu", "tiny_shakespeare")]
    known = set().union(*(words(plain_text(row)) for name in real for row in documents[name]))
    sampled = [plain_text(row) for row in documents["sampled"]]
    documents["sampled"] = [{"text": story} for story in sampled if words(story) <= known]
    return documents


def describe(source: Source, shared: Path, out: Path) -> dict[str, object]:
    """Origin, licence and file hashes of `source`."""
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in source.files(shared, out)}
    return {
        "name": source.name,
        "origin": source.origin,
        "licence": source.licence,
        "share": source.share,
        "sha256": hashes,
    }


def build_corpus(shared: Path, out: Path) -> Corpus:
    """The corpus; no training or validation document shares a window with a held-out story."""
    documents, corpus = read_sources(shared, out), Corpus()
    is_heldout = {plain_text(row): draw(plain_text(row), "heldout") < 1 / HELDOUT_MODULUS for row in documents["tinystories"]}
    corpus.heldout = [{"text": text} for text, held in is_heldout.items() if held]
    forbidden = set().union(*(windows(plain_text(row)) for row in corpus.heldout))
    seen = {plain_text(row) for row in corpus.heldout}
    for source in SOURCES:
        unique = {plain_text(row): row for row in documents[source.name] if plain_text(row) not in seen}
        seen |= unique.keys()
        kept = {text: row for text, row in unique.items() if forbidden.isdisjoint(windows(text))}
        num_overlapping = len(unique) - len(kept)
        kept = {text: row for text, row in kept.items() if draw(text, "share") < source.share}
        validation = [{"text": text} for text in kept if draw(text, "validation") < 1 / VALIDATION_MODULUS]
        train = [
            piece for text, row in kept.items() if draw(text, "validation") >= 1 / VALIDATION_MODULUS for piece in cut_row(row)
        ]
        if source.name == "tinystories":
            train += [{"text": rename_heroes(plain_text(row), telling)} for row in train for telling in range(TELLINGS)]
        corpus.validation += validation
        corpus.train += train
        num_characters = sum(len(plain_text(row)) for row in train)
        corpus.statement.append(
            describe(source, shared, out)
            | {
                "num_documents": len(train),
                "num_characters": num_characters,
                "num_validation_documents": len(validation),
                "num_dropped_for_heldout_overlap": num_overlapping,
            }
        )
    rng = random.Random(0)
    rng.shuffle(corpus.train)
    rng.shuffle(corpus.validation)
    return corpus


def write_rows(path: Path, rows: list[Document]) -> dict[str, object]:
    """Writes JSON lines; returns the file's hash and counts."""
    body = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(body)
    return {
        "sha256": hashlib.sha256(body).hexdigest(),
        "num_documents": len(rows),
        "num_characters": sum(len(plain_text(row)) for row in rows),
    }


def main() -> None:
    """Writes train.jsonl, validation.jsonl, heldout.jsonl and statement.json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, default=Path("build/seedling"))
    args = parser.parse_args()
    corpus = build_corpus(args.shared, args.out)
    files = {
        "train.jsonl": write_rows(args.out / "train.jsonl", corpus.train),
        "validation.jsonl": write_rows(args.out / "validation.jsonl", corpus.validation),
        "heldout.jsonl": write_rows(args.out / "heldout.jsonl", corpus.heldout),
    }
    total = files["train.jsonl"]["num_characters"]
    for row in corpus.statement:
        row["fraction"] = round(row["num_characters"] / total, 4)  # type: ignore[operator]
        print({key: value for key, value in row.items() if key not in ("origin", "sha256", "licence")})
    print(files)
    statement = json.dumps({"files": files, "sources": corpus.statement}, indent=1)
    (args.out / "statement.json").write_text(statement + "\n")


if __name__ == "__main__":
    main()
