"""A last look before training: is anything learnt at all, is it cut, does it end, and can the result be judged?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from whet.data.dataset import Dataset
from whet.data.keys import text_key
from whet.data.labels import labels_of, merged_labels
from whet.data.notices import counted
from whet.types import Row, Unit

Level = Literal["refuse", "warn", "note"]
OPEN, CLOSE = "⟦", "⟧"  # around what is learnt in a rendered example
SUPERVISED = "supervised"
WRITES = {"lm", "seq2seq"}  # heads whose rows say which of their tokens are learnt
LONGER = {
    "lm": "Qwen/Qwen2.5-0.5B reads 32,768",
    "seq2seq": "google/long-t5-tglobal-base reads 4,096 and more",
    "": "answerdotai/ModernBERT-base reads 8,192",
}
FEW_TRAIN, FEW_TEST = 10, 30  # rows below which a warning is due


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to know before training; `refuse` means that training would be for nothing."""

    level: Level
    sentence: str
    remedy: str


class Tokenizer(Protocol):
    """What preflight needs of a tokenizer."""

    def decode(self, token_ids: Sequence[int]) -> str: ...


def preflight(
    dataset: Dataset,
    units: Mapping[str, Sequence[Unit]],
    full_lengths: Mapping[str, Sequence[int]],
    tokenizer: Tokenizer,
    head: str,
    max_length: int,
    end_id: int | None,
    context: int | None = None,
) -> list[Finding]:
    """Return what was found, the gravest first.

    `units` are the rows of each part as they will be learnt; `full_lengths` are their tokens before anything was cut, one number
    per row in the same order; `context` is the most tokens that the model can read. For heads 'lm' and 'seq2seq' each row has
    `tokens["supervised"]`, above 0 where the token is learnt.
    """
    findings = [*_sizes(dataset), *_classes(dataset), *_leaks(dataset)]
    for part, some in units.items():
        rows = [row for unit in some for row in unit]
        findings += _cut(part, rows, full_lengths.get(part, ()), head, max_length, context)
        if head in WRITES and rows:
            findings += _supervision(part, rows, head, max_length, end_id, context)
    first = next((row for unit in units.get("train", ()) for row in unit), None)
    if first is not None and head in WRITES:
        findings.append(
            Finding(
                "note",
                f"The first training row; learnt is what stands in {OPEN}{CLOSE}:\n{rendered(first, tokenizer)}",
                "Look whether the answer, and only the answer, is marked.",
            )
        )
    return sorted(findings, key=lambda finding: ("refuse", "warn", "note").index(finding.level))


def rendered(row: Row, tokenizer: Tokenizer, longest: int = 400) -> str:
    """Return the text of a row as the model sees it, with what is learnt marked; the middle of a long one is left out.

    What an encoder reads stands before it, in a line of its own.
    """
    return "\n".join(_rendered(*side, tokenizer, longest) for side in _sides(row))


def _sides(row: Row) -> list[tuple[list[int], list[bool]]]:
    """Return the tokens of a row's source, if it has one, and of the row, with what is learnt."""
    before = [] if row.source is None else [(row.source.tolist(), [False] * len(row.source))]
    return [*before, (row.ids.tolist(), _flags(row))]


def _rendered(ids: Sequence[int], flags: Sequence[bool], tokenizer: Tokenizer, longest: int) -> str:
    spans: list[tuple[bool, list[int]]] = []
    for token, flag in zip(ids, flags, strict=True):
        if not spans or spans[-1][0] != flag:
            spans.append((flag, []))
        spans[-1][1].append(token)
    parts = []
    for flag, span in spans:
        text = tokenizer.decode(span)
        text = text if len(text) <= longest else f"{text[: longest // 2]} … {text[-longest // 2 :]}"
        parts.append(f"{OPEN}{text}{CLOSE}" if flag else text)
    return "".join(parts)


def _flags(row: Row) -> list[bool]:
    if SUPERVISED not in row.tokens:
        return [False] * len(row.ids)
    return [weight > 0 for weight in row.tokens[SUPERVISED].tolist()]


def _sizes(dataset: Dataset) -> list[Finding]:
    findings = []
    if len(dataset.train) < FEW_TRAIN:
        level: Level = "warn" if dataset.train else "refuse"
        findings.append(
            Finding(
                level,
                f"There are {counted(len(dataset.train), 'training row')} only.",
                "Add rows: below some ten per class a result is chance.",
            )
        )
    if len(dataset.test) < FEW_TEST:
        findings.append(
            Finding(
                "warn",
                f"There are {counted(len(dataset.test), 'test row')} only; intervals will be wide.",
                "Add rows, or give the test part a larger share (data.split).",
            )
        )
    return findings


def _classes(dataset: Dataset) -> list[Finding]:
    if not dataset.classes:
        return []
    findings = []
    counts = Counter(label for example in dataset.train for label in labels_of(example))
    unlearnt = [label for label in dataset.classes if not counts[label]]
    rare = [label for label in dataset.classes if counts[label] == 1]
    if unlearnt:
        findings.append(
            Finding(
                "warn",
                f"{_some(unlearnt)}: no training row, so this can never be predicted.",
                "Add rows of each class, or take the class out of the test file.",
            )
        )
    if rare:
        findings.append(
            Finding("warn", f"{_some(rare)}: a single training row.", "Add rows, or merge classes that mean the same.")
        )
    merged = merged_labels({label: max(1, counts[label]) for label in dataset.classes})
    if merged:
        pairs = [f"{spelling} / {best}" for spelling, best in merged.items()]
        findings.append(
            Finding(
                "warn",
                f"Labels that differ by case or spaces only: {_some(pairs)}.",
                "Spell them alike, or leave data.clean at auto.",
            )
        )
    if len(counts) > 20 and 2 * len(counts) > len(dataset.train):
        findings.append(
            Finding(
                "refuse",
                f"There are {len(counts):,} classes in {len(dataset.train):,} training rows: nearly every row has a label of its own.",
                "If the label is a number, use objective: {name: classify, kind: number}; else name another column as data.label.",
            )
        )
    total = sum(counts.values())
    most, number = counts.most_common(1)[0] if counts else ("", 0)
    if total and number > 0.95 * total:
        findings.append(
            Finding(
                "warn",
                f"{number / total:.1%} of the training rows are '{most}'.",
                "Accuracy says little here; judge by macro F1 (evaluate.metric: macro_f1).",
            )
        )
    return findings


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _leaks(dataset: Dataset) -> list[Finding]:
    keys = {part: {text_key(example) for example in examples} for part, examples in dataset.parts.items()}
    findings = []
    for part, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        shared = len(keys[part] & keys[other])
        if shared:
            findings.append(
                Finding(
                    "refuse", f"{counted(shared, 'text')} in both the {part} and the {other} part.", "Prepare the data again."
                )
            )
    return findings


def _room(max_length: int, context: int | None, head: str) -> str:
    """How longer rows fit: by the setting, or only by another model."""
    if context is None or max_length < context:
        return "Raise train.max_length"
    longer = LONGER.get(head, LONGER[""])
    return f"The model reads no more than {context:,} tokens: take one with a longer context ({longer})"


def _cut(part: str, rows: Sequence[Row], full: Sequence[int], head: str, max_length: int, context: int | None) -> list[Finding]:
    cut = [row for row, length in zip(rows, full, strict=False) if length > max_length or length > row.length]
    if not cut:
        return []
    remedy = f"{_room(max_length, context, head)}, or shorten the rows; the longest has {max(full):,} tokens."
    findings = [
        Finding(
            "warn" if len(cut) > 0.01 * len(rows) else "note",
            f"{len(cut):,} of {counted(len(rows), f'{part} row')} ({len(cut) / len(rows):.1%}) are longer than "
            f"{max_length:,} tokens and were cut.",
            remedy,
        )
    ]
    if head not in WRITES and len(cut) > 1 and len({tuple(row.ids.tolist()) for row in rows}) == 1:
        said = f"All {len(rows):,} {part} rows are the same once they are cut, so nothing tells them apart."
        findings.append(Finding("refuse", said, remedy))
    lost = sum(not any(_flags(row)) for row in cut) if head in WRITES else 0
    if lost:
        findings.append(Finding("warn", f"In {lost:,} of them ({part}) the answer is cut away entirely.", remedy))
    return findings


def _supervision(
    part: str, rows: Sequence[Row], head: str, max_length: int, end_id: int | None, context: int | None
) -> list[Finding]:
    flags = [_flags(row) for row in rows]
    empty = sum(not any(one) for one in flags)
    if empty == len(rows):
        return [
            Finding(
                "refuse",
                f"No {part} row has a token to learn: the loss would be 0.",
                "Check that the answers are not empty, and that train.max_length leaves room for them.",
            )
        ]
    findings = []
    if empty:
        findings.append(
            Finding(
                "warn",
                f"{empty:,} of {counted(len(rows), f'{part} row')} have no token to learn.",
                f"{_room(max_length, context, head)}, or look into rejects.jsonl.",
            )
        )
    if end_id is not None:
        whole = [(row, one) for row, one in zip(rows, flags, strict=True) if any(one) and len(row.ids) < max_length]
        endless = sum(
            not any(flag and token == end_id for flag, token in zip(one, row.ids.tolist(), strict=True)) for row, one in whole
        )
        if endless:
            findings.append(
                Finding(
                    "warn",
                    f"{endless:,} of {counted(len(whole), f'{part} row')} do not teach the model to stop: "
                    f"the end token ({end_id}) is not learnt.",
                    "Check the chat template: each answer must end with the end token."
                    if head == "lm"
                    else "Shorten the answers, or raise train.max_length: each must end with the end token.",
                )
            )
    return findings
