"""What can be asked about a row, and which answers are allowed."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from whet.errors import DataError

Kind = Literal["label", "labels", "spans", "text", "preference", "rating"]
KINDS: tuple[Kind, ...] = get_args(Kind)
SIDES = ("first", "second", "tie")
"""Of two answers: the one in the file's column `chosen`, the one in `rejected`, or neither."""
REASONS = ("more correct", "more complete", "clearer", "better tone", "safer", "follows the instruction")
LONGEST_NAME, LONGEST_TEXT, MOST_LABELS = 200, 1_000_000, 2_000
Value = Any
"""What somebody answered, as JSON: a label, a list of labels, spans `{kind, first, end}` of words, a text, `{better, reasons, note}`, or
a whole number."""


class NotAllowed(ValueError):
    """An answer that the job does not allow; the message says what is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What annotators are asked."""

    kind: Kind
    labels: tuple[str, ...] = ()
    """Labels to choose from: of a row, of several for it, or of a span."""
    low: int = 1
    """Least rating."""
    high: int = 5
    """Highest rating."""
    reasons: tuple[str, ...] = ()
    """Reasons to choose from for a preference."""

    def record(self) -> dict[str, Any]:
        return asdict(self)

    def with_labels(self, more: Sequence[str]) -> Job:
        """Return the job with further labels behind the others. Raises NotAllowed."""
        labels = tuple(dict.fromkeys((*self.labels, *(name_of(label) for label in more))))
        if len(labels) > MOST_LABELS:
            raise NotAllowed(f"{len(labels):,} labels; allowed are up to {MOST_LABELS:,}.")
        return Job(
            kind=self.kind, labels=labels, low=self.low, high=self.high, reasons=self.reasons
        )  # fmt: skip


def job_of(record: Mapping[str, Any]) -> Job:
    """Return the job that `Job.record` gave."""
    return Job(**{**record, "labels": tuple(record["labels"]), "reasons": tuple(record["reasons"])})


def name_of(label: object) -> str:
    """Return a label with its spaces made single. Raises NotAllowed where it is none."""
    if not isinstance(label, str) or not label.strip():
        raise NotAllowed("a label is a text that is not empty.")
    name = " ".join(label.split())
    if any(unicodedata.category(one) in {"Cc", "Cs"} for one in name):
        raise NotAllowed("a label has no control characters.")
    if len(name) > LONGEST_NAME:
        raise NotAllowed(f"a label has up to {LONGEST_NAME} characters, and this one {len(name):,}.")
    return name


def checked(job: Job, content: Mapping[str, Any], value: object) -> Value:
    """Return the answer in its one form. Raises NotAllowed. `content` is what was shown."""
    if job.kind == "label":
        return _label(job, value)
    if job.kind == "labels":
        if not isinstance(value, list):
            raise NotAllowed("several labels are a list.")
        chosen = {_label(job, one) for one in value}
        return [label for label in job.labels if label in chosen]
    if job.kind == "spans":
        return _spans(job, len(words_of(content)), value)
    if job.kind == "text":
        return _text(value)
    if job.kind == "preference":
        return _preference(job, value)
    if isinstance(value, bool) or not isinstance(value, int) or not job.low <= value <= job.high:
        raise NotAllowed(f"a rating is a whole number from {job.low} to {job.high}.")
    return value


def words_of(content: Mapping[str, Any]) -> list[str]:
    """Return the words that spans are counted in."""
    return str(content.get("text", "")).split()


def _label(job: Job, value: object) -> str:
    if not isinstance(value, str) or value not in job.labels:
        raise NotAllowed("that is none of the labels to choose from; add it to them first.")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise NotAllowed("the answer is empty; skip or flag the row instead.")
    if len(value) > LONGEST_TEXT:
        raise NotAllowed(f"the answer has more than {LONGEST_TEXT:,} characters.")
    return value


def _spans(job: Job, num_words: int, value: object) -> list[dict[str, Any]]:
    if not isinstance(value, list):
        raise NotAllowed("spans are a list.")
    found: list[dict[str, Any]] = []
    for one in value:
        if not isinstance(one, dict) or set(one) != {"kind", "first", "end"}:
            raise NotAllowed("a span has kind, first and end.")
        first, end = one["first"], one["end"]
        whole = all(isinstance(number, int) and not isinstance(number, bool) for number in (first, end))
        if not whole or not 0 <= first < end <= num_words:
            raise NotAllowed(f"a span goes from a word to the end of one; the text has {num_words} words.")
        found.append({"kind": _label(job, one["kind"]), "first": first, "end": end})
    found.sort(key=lambda one: int(one["first"]))
    if any(before["end"] > after["first"] for before, after in itertools.pairwise(found)):
        raise NotAllowed("spans do not overlap: a word has one label.")
    return found


def _preference(job: Job, value: object) -> dict[str, Any]:
    if not isinstance(value, dict) or not set(value) <= {"better", "reasons", "note"} or value.get("better") not in SIDES:
        raise NotAllowed(f"a preference has better ({', '.join(SIDES)}), reasons and a note.")
    reasons, note = value.get("reasons", []), value.get("note", "")
    if not isinstance(reasons, list) or not all(isinstance(one, str) and one in job.reasons for one in reasons):
        raise NotAllowed(f"reasons are among: {', '.join(job.reasons)}.")
    if not isinstance(note, str) or len(note) > LONGEST_TEXT:
        raise NotAllowed("a note is a text.")
    return {"better": value["better"], "reasons": [one for one in job.reasons if one in reasons], "note": note.strip()}


def spans_of(tags: Sequence[str]) -> list[dict[str, Any]]:
    """Return the spans that tags B-KIND, I-KIND, O say, one tag for each word; an I without its beginning begins one."""
    found: list[dict[str, Any]] = []
    for place, tag in enumerate(tags):
        kind = tag[2:]
        if tag == "O":
            continue
        if tag[0] == "I" and found and found[-1]["end"] == place and found[-1]["kind"] == kind:
            found[-1]["end"] = place + 1
        else:
            found.append({"kind": kind, "first": place, "end": place + 1})
    return found


def tags_of(spans: Sequence[Mapping[str, Any]], num_words: int) -> list[str]:
    """Return one tag for each word: B-KIND where a span begins, I-KIND inside, O elsewhere."""
    tags = ["O"] * num_words
    for span in spans:
        kind = "_".join(str(span["kind"]).split())  # a tag has no space
        tags[span["first"]] = f"B-{kind}"
        for place in range(span["first"] + 1, span["end"]):
            tags[place] = f"I-{kind}"
    return tags


def comparable(kind: Kind, value: Value) -> Any:
    """Return an answer as something that is equal where people agree: reasons and order do not count, nor do spaces of a text."""
    if kind == "labels":
        return frozenset(value)
    if kind == "spans":
        return tuple((span["kind"], span["first"], span["end"]) for span in value)
    if kind == "text":
        return " ".join(value.split())
    return value["better"] if kind == "preference" else value


def check_job(job: Job) -> None:
    """Raise DataError where nothing could be answered."""
    if job.kind in {"label", "labels", "spans"} and not job.labels:
        raise DataError(
            "there are no labels to choose from: the rows have none. Name them: --labels 'billing,refund,other' (more can be added on the page)."
        )
    if job.low >= job.high or not -100 <= job.low <= job.high <= 100 or job.high - job.low > 10:
        raise DataError(f"--scale {job.low}-{job.high}: a rating goes from a number to a larger one, at most 10 apart.")
