"""`whet monitor`: the request log of a served run beside the rows that the run was judged on."""

from __future__ import annotations

import datetime
import importlib.util
import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from whet import plugins
from whet.data.language import guess_language
from whet.data.notices import counted
from whet.display import quoted
from whet.engine.order import permutation
from whet.errors import RunError, ServerError, installing
from whet.files import json_text, read_lines, write_together
from whet.protocols import Check
from whet.recipe_file import load_recipe
from whet.registry import FOLDER, fingerprint
from whet.report.monitor import Seen, Settings, build_monitoring
from whet.report.monitor_html import render_monitoring
from whet.run import RECIPE, Run, open_run
from whet.stages.finished import build_named
from whet.stages.prepare import stored_dataset
from whet.stages.registry import resolve
from whet.stages.serve import load_served
from whet.store.log import Item, Logged, read_requests, texts_of
from whet.types import Example, Output

if TYPE_CHECKING:
    from whet.types import Values

MONITORING = "monitoring"
MOST_EMBEDDED = 400
"""Texts on either side whose embeddings are compared, a seeded draw."""
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
ALERT_S = 10.0
"""Longest wait for whoever takes an alert."""


@dataclass(frozen=True, slots=True)
class Alerts:
    """Whom to tell of alarms."""

    webhooks: Sequence[str] = ()
    """Addresses that take a POST of JSON."""
    apprise: Sequence[str] = ()
    """Addresses in apprise's form, such as mailto://... or slack://..."""


def monitor(
    reference: str,
    *,
    log: Path,
    since: str | None = None,
    until: str | None = None,
    checks: Sequence[str] = (),
    settings: Settings = Settings(),
    alerts: Alerts = Alerts(),
    registry: Path = FOLDER,
    out: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Path, dict[str, Any]]:
    """Write monitor.json and monitor.html, and tell of alarms. Returns their folder and what monitor.json holds.

    `since` and `until` are times of the log: 2026-01-31, 2026-01-31T12:00, or so long ago, such as 24h or 7d. Raises RunError,
    ServerError, RecipeError. An alert that cannot be told is among the notes, and stops nothing.
    """
    _check_alerts(alerts)
    start, end = _time(since, "--since"), _time(until, "--until")
    if start is not None and end is not None and start >= end:
        raise ServerError(f"--since {since} is not before --until {until}, so no request lies between. Exchange them.")
    run = open_run(resolve(reference, registry))
    if load_recipe(run.path / RECIPE).tasks:
        raise RunError(
            f"{run.path}: is a run of several tasks, and what is watched is one. Train the task to be watched by itself, and serve that run."
        )
    chosen: dict[str, Check] = {name: build_named("checks", name, {}, None)[0] for name in checks or plugins.names("checks")}
    examples, baseline = _test_rows(run)
    say(f"Reading {log} ...")
    logged, notes = _requests(log, run, start, end)
    items = [_whole(item, examples) for one in logged if one.status == 200 for item in one.items]
    window = [_seen(item) for item in items]
    say(f"Comparing {counted(len(items), 'answer')} with those to {counted(len(examples), 'test row')} ...")
    vectors = _vectors(run, items, examples, any("vectors" in check.takes for check in chosen.values()), notes)
    found = build_monitoring(
        window,
        [_without_language(one) for one in baseline] if not any(item.input is not None for item in items) else baseline,
        checks=chosen,
        vectors=vectors,
        latency_s=[one.latency_s for one in logged if one.status == 200],
        first_token_s=[one.first_token_s for one in logged if one.first_token_s is not None],
        num_requests=len(logged),
        num_failed=sum(one.status >= 400 for one in logged),
        settings=settings,
    )
    head = {"run": str(run.path), "log": str(log), "since": _iso(start), "until": _iso(end), "notes": notes}
    found = {**head, "checks": list(chosen), **found}
    notes += _tell(found, alerts)
    for note in notes:
        say(f"Note: {note}")
    folder = out or run.path / MONITORING / datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H%M%S")
    folder.mkdir(parents=True, exist_ok=True)
    write_together({folder / "monitor.html": render_monitoring(found), folder / "monitor.json": json_text(found)})
    return folder, found


def _time(text: str | None, option: str) -> float | None:
    """Return a time in seconds since 1970, UTC. Raises ServerError that says how times are written."""
    if text is None:
        return None
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text.strip())
    now = datetime.datetime.now(datetime.UTC)
    try:
        if ago:
            return (now - datetime.timedelta(seconds=float(ago[1]) * UNITS[ago[2]])).timestamp()
        found = datetime.datetime.fromisoformat(text.strip())
        return (found if found.tzinfo else found.replace(tzinfo=datetime.UTC)).timestamp()
    except (ValueError, OverflowError):
        raise ServerError(
            f"{option} {text!r} is no time. Allowed: a date such as 2026-01-31 or 2026-01-31T12:00 (UTC), or so long ago, such as 24h or 7d."
        ) from None


def _iso(time: float | None) -> str | None:
    return None if time is None else datetime.datetime.fromtimestamp(time, datetime.UTC).isoformat(timespec="seconds")


def _requests(log: Path, run: Run, since: float | None, until: float | None) -> tuple[list[Logged], list[str]]:
    """Return the requests to this run's model, and what to know of the others. Raises ServerError where there are none."""
    every = list(read_requests(log, since=since or 0.0, until=float("inf") if until is None else until))
    sha256 = fingerprint(run.path)
    ours = [one for one in every if one.fingerprint == sha256]
    notes = []
    same_name = sum(one.run == run.path.resolve().name for one in every) - sum(one.run == run.path.resolve().name for one in ours)
    if same_name:
        notes.append(f"{same_name:,} requests were answered by another model that lay in {run.path} then; they are left out.")
    if not ours:
        others = ", ".join(sorted({f"{one.name} ({one.run})" for one in every}))
        beside = f", but {len(every):,} to others: {others}" if every else ", nor to any other run"
        raise ServerError(
            f"{log}: holds no request to {run.path} in that time{beside}. Name another run, log, or time (--since, --until)."
        )
    return ours, notes


def _test_rows(run: Run) -> tuple[tuple[Example, ...], list[Seen]]:
    """Return the run's own test rows, as examples and with what the model answered. Raises RunError where it was not judged."""
    file = run.path / "predictions.jsonl"
    if not file.is_file():
        raise RunError(
            f"{run.path}: not evaluated yet, so there is nothing to compare with. Run: whet evaluate {quoted(run.path)}"
        )
    try:
        records = {record["id"]: record for record in read_lines(file)}
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{file}: damaged ({error}). Write it again with: whet evaluate {quoted(run.path)}") from None
    examples = tuple(one for one in stored_dataset(run).test if one.id in records)
    return examples, [_expected(one, records[one.id]) for one in examples]


def _expected(example: Example, record: Mapping[str, Any]) -> Seen:
    answer, truth = record.get("prediction"), record.get("label")
    chances: Mapping[str, float] = record.get("probabilities") or {}
    text = _text(example)
    return Seen(
        characters=float(len(text)),
        confidence=_confidence(answer, chances),
        label=_label(answer),
        language=guess_language([text]) or "unclear",
        loss=_loss(answer, truth) if answer is not None else None,
        tags=example.tags,
    )


def _whole(item: Item, examples: Sequence[Example]) -> Item:
    """Return the item with both texts of a pair as one, as those of test rows are compared."""
    if item.input is None or not examples or examples[0].text_pair is None:
        return item
    text, pair = texts_of(item.input)
    return replace(item, input=text + (pair or ""))


def _seen(item: Item) -> Seen:
    judged = item.truth_kind
    loss = None
    if judged == "right" and not item.abstained:
        loss = float(not item.truth)
    elif judged in {"label", "labels", "value"} and not item.abstained:
        loss = _loss(item.label, item.truth)
    elif judged == "correction":
        loss = float(item.output != item.truth)
    return Seen(
        characters=float(item.num_characters),
        confidence=item.confidence,
        label=None if item.abstained else _label(item.label),
        language=None if item.input is None else guess_language([item.input]) or "unclear",
        loss=loss,
        tags=item.tags,
    )


def _without_language(one: Seen) -> Seen:
    return Seen(one.characters, one.confidence, one.label, None, one.loss, one.tags)


def _text(example: Example) -> str:
    """Return what the model was asked, as the log counts it."""
    if example.messages is not None:
        return "".join(turn.content for turn in example.prompt or ())
    return (example.text or "") + (example.text_pair or "")


def _confidence(answer: Any, chances: Mapping[str, float]) -> float | None:
    if not chances:
        return None
    if isinstance(answer, list):
        return Output(labels=tuple(answer), probabilities=chances).confidence
    return Output(label=answer, probabilities=chances).confidence


def _label(answer: Any) -> str | None:
    if isinstance(answer, list):
        return " + ".join(sorted(answer)) or "(none)"
    return answer if isinstance(answer, str) else None


def _loss(answer: Any, truth: Any) -> float | None:
    """Return 0 where it was right and 1 where wrong, of a number how far it was off; None where they cannot be compared."""
    if isinstance(answer, int | float) and isinstance(truth, int | float):
        return abs(answer - truth)
    if isinstance(answer, list) and isinstance(truth, list):
        return float(set(answer) != set(truth))
    return float(answer != truth) if isinstance(answer, str) and isinstance(truth, str) else None


def _vectors(
    run: Run, items: Sequence[Item], examples: Sequence[Example], wanted: bool, notes: list[str]
) -> tuple[Values, Values] | None:
    """Return embeddings of logged and of test texts by the run's own encoder; None where there are no texts, or no encoder."""
    texts = [item.input for item in items if item.input is not None]
    if not wanted or not texts:
        return None
    served = load_served(run.path)
    if not served.embeds:
        notes.append("Embeddings are compared for encoders only; this run writes.")
        return None

    def embedded(some: Sequence[str]) -> Values:
        order = permutation(0, 0, len(some))[:MOST_EMBEDDED]
        ids = [served.reader(some[place], verbose=False)["input_ids"][: served.max_length] for place in sorted(order.tolist())]
        return np.array([served.embed([one])[0] for one in ids])

    return embedded(texts), embedded([_text(example) for example in examples])


def _check_alerts(alerts: Alerts) -> None:
    for address in alerts.webhooks:
        if not re.match(r"https?://[^\s/]+", address):
            raise ServerError(f"--webhook {address}: is no address. Allowed: one that begins with http:// or https://.")
    needed = {"httpx": alerts.webhooks, "apprise": alerts.apprise}
    missing = [name for name, used in needed.items() if used and importlib.util.find_spec(name) is None]
    if missing:
        raise ServerError(
            f"{' and '.join(missing)} is needed for alerts and is not installed. Install it with: {installing('monitor')}"
        )


def _tell(found: Mapping[str, Any], alerts: Alerts) -> list[str]:
    """Tell of the alarms, if there are any. Returns what could not be told, and why: never the address's secrets."""
    failed: list[str] = []
    if not found["alarms"]:
        return failed
    message = {key: found[key] for key in ("run", "verdict", "alarms", "since", "until")}
    for number, address in enumerate(alerts.webhooks, 1):
        import httpx

        try:
            httpx.post(address, json=message, timeout=ALERT_S).raise_for_status()
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            failed.append(f"Alert to webhook {number} could not be sent: {type(error).__name__}. The report is whole.")
    body = "\n".join([found["verdict"]["sentence"], *found["alarms"]])
    for number, address in enumerate(alerts.apprise, 1):
        why = _apprise(address, f"whet: {found['run']}", body)
        if why is not None:
            failed.append(f"Alert to apprise address {number} could not be sent{why}. The report is whole.")
    return failed


def _apprise(address: str, title: str, body: str) -> str | None:
    """Send a message. Returns why it could not be sent; None where it was."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of its services' own code, which no user of ours can mend
            import apprise

            told = apprise.Apprise()
            return None if told.add(address) and told.notify(body=body, title=title) else ""
    except Exception as error:  # its services raise what they like, and a report must not be lost by that
        return f": {type(error).__name__}"
