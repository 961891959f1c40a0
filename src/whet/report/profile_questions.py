"""What a person should answer before training, each question from what was found in the rows, with what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from whet.data.rows import LEAKS

FEW_ROWS, FEW_OF_CLASS = 100, 10
UNEVEN = 20
"""How many times larger the largest class may be than the smallest before one should ask."""
COPIED, LEAKED, DROPPED, TOO_LONG, FOREIGN, NOISY = 0.1, 0.01, 0.05, 0.01, 0.02, 0.01
"""Shares from which on copies, leaks, dropped rows, cut rows, rows in another language and wrong labels are asked about."""
SAME_ANSWER = 0.05

Asked = dict[str, str]
"""question, because, todo."""


def questions(found: Mapping[str, Any]) -> list[Asked]:
    """Return what should be asked; the gravest first."""
    return [
        one
        for ask in (_of_labels, _of_private, _of_rows, _of_lengths, _of_languages, _of_sources, _of_answers)
        for one in ask(found)
    ]


def _asked(question: str, because: str, todo: str) -> Asked:
    return {"question": question, "because": because, "todo": todo}


def _of_labels(found: Mapping[str, Any]) -> Iterator[Asked]:
    for noise in found["noise"]:
        if noise["num_wrong"] and noise["fraction"] >= NOISY:
            yield _asked(
                "Are these labels right?",
                f"{noise['num_wrong']:,} of {noise['n']:,} labels{_of_task(noise)} look wrong to models that have not seen their rows; about "
                f"{100 * noise['fraction']:.1f} % are estimated to be.",
                f"Look at the suspicious ones first: whet annotate {found['recipe']} --order suspicion",
            )
    if found["hidden"]:
        yield _asked(
            "Would this be known when the model is asked?",
            " ".join(found["hidden"]),
            "Take that column or those words out of the text.",
        )
    if found["duplicates"]["conflicts"]:
        yield _asked(
            "Which of two labels is right?",
            f"{found['duplicates']['conflicts']:,} texts stand in the data with different labels.",
            "They are listed in data/accounting.json (conflicts). Settle them, or choose with data.conflicts.",
        )
    classes = found["classes"]
    if len(classes) > 1 and found["objective"] != "tokens":
        small = [one for one in classes if one["n"] < FEW_OF_CLASS]
        if small:
            names = ", ".join(f"{one['name']} ({one['n']})" for one in small[:5]) + (", ..." if len(small) > 5 else "")
            yield _asked(
                "Are so few examples of these enough?",
                f"{len(small):,} of {len(classes):,} classes have fewer than {FEW_OF_CLASS} rows: {names}.",
                "Collect more, join classes that need not be told apart, or even them out with data.augment.",
            )
        if classes[0]["n"] >= UNEVEN * classes[-1]["n"]:
            yield _asked(
                "Do rare classes matter as much as frequent ones?",
                f"'{classes[0]['name']}' has {classes[0]['n']:,} rows, '{classes[-1]['name']}' {classes[-1]['n']:,}.",
                "If they do, judge by evaluate.metric: macro_f1, which counts each class alike.",
            )


def _of_task(noise: Mapping[str, Any]) -> str:
    return f" of task '{noise['task']}'" if noise["task"] else ""


def _of_private(found: Mapping[str, Any]) -> Iterator[Asked]:
    if found["private"] and not found["redacted"]:
        kinds = ", ".join(f"{one['words']} in {one['rows']:,}" for one in found["private"])
        yield _asked(
            "May a model learn these private data?",
            f"Rows hold {kinds}. What is learnt may be told again by the model, and the run keeps the rows.",
            f"Take them out: whet prepare {found['recipe']} --set data.redact=true",
        )


def _of_rows(found: Mapping[str, Any]) -> Iterator[Asked]:
    rows, used, dropped = found["rows_in"], found["used"], found["dropped"]
    if used < FEW_ROWS:
        yield _asked(
            "Is more data to be had?",
            f"{used:,} rows are left to learn from and to judge on.",
            "Scores will have wide intervals; collect more.",
        )
    copies = sum(dropped.get(kind, 0) for kind in ("duplicate", "near duplicate"))
    if copies >= COPIED * rows:
        yield _asked(
            "Why do so many rows come again?",
            f"{copies:,} of {rows:,} rows are copies or near copies of others with the same target.",
            "Where being frequent means something, as in production, keep them: data.duplicates: {near: keep}.",
        )
    leaked = sum(dropped.get(kind, 0) for kind in LEAKS)
    if leaked >= LEAKED * rows:
        yield _asked(
            "How did rows of the held-out file come into the others?",
            f"{leaked:,} of {rows:,} rows stand, as they are or nearly so, in a file that is judged on or stopped by, and were taken out.",
            "Ask who made the files: where copies went both ways, scores of other models on this test file are too good.",
        )
    lost = {kind: number for kind, number in dropped.items() if kind not in {"duplicate", "near duplicate", *LEAKS}}
    if sum(lost.values()) >= DROPPED * rows:
        worst = max(lost, key=lambda kind: (lost[kind], kind))
        yield _asked(
            "Are the rows that are left out of no use?",
            f"{sum(lost.values()):,} of {rows:,} rows are not used, copies and leaks not counted; the commonest reason: {worst} ({lost[worst]:,}).",
            "rejects.jsonl in the run lists each with its place and remedy.",
        )


def _of_lengths(found: Mapping[str, Any]) -> Iterator[Asked]:
    for one in found["lengths"]["fields"]:
        limit = found["lengths"]["limit"]
        if limit and one["over"] >= max(1, TOO_LONG * one["n"]):
            yield _asked(
                "Does what matters stand at the beginning?",
                f"{one['over']:,} of {one['n']:,} rows ({one['name']}) are longer than the {limit:,} tokens that {found['model']} reads; the rest is cut off.",
                "Otherwise shorten or divide the texts, or take a model that reads more.",
            )
        if one["empty"]:
            yield _asked(
                "What is to be learnt from next to nothing?",
                f"{one['empty']:,} of {one['n']:,} rows ({one['name']}) have fewer than 2 tokens.",
                "Drop them: data.clean: [..., {name: length, min_words: 2}], if they are no real inputs.",
            )


def _of_languages(found: Mapping[str, Any]) -> Iterator[Asked]:
    told = [one for one in found["languages"] if one["name"] != "not clear"]
    total = sum(one["n"] for one in told)
    others = [one for one in told[1:] if one["n"] >= FOREIGN * total]
    if others:
        also = ", ".join(f"{one['name']} ({one['n']:,} of {total:,})" for one in others)
        yield _asked(
            "Will the model be asked in all these languages?",
            f"Mostly {told[0]['name']}; also {also}.",
            "If not, keep one with data.clean: [..., {name: language, keep: [en]}]; if so, take a model that has learnt them.",
        )


def _of_sources(found: Mapping[str, Any]) -> Iterator[Asked]:
    alarms = [one for one in found["drift"] if one["alarm"]]
    if alarms:
        yield _asked(
            "Which of the sources looks like what the model will be asked?",
            " ".join(one["sentence"] for one in alarms[:4]),
            "Judge on rows of that one (data.test), and see scores by source with data.slices.",
        )


def _of_answers(found: Mapping[str, Any]) -> Iterator[Asked]:
    same = found["same_answer"]
    if same and same["n"] >= SAME_ANSWER * same["of"] and same["n"] > 2:
        yield _asked(
            "Is one answer meant to be given so often?",
            f"{same['n']:,} of {same['of']:,} rows have the very same answer; a model will give it where it does not know better.",
            "Where it is a refusal or a phrase of politeness, leave most of these rows out.",
        )
