"""The laws of a tracker, for the built-in ones and for your own: `check_tracker(MyTracker(), tmp_path)`.

A law is a function of (tracker, folder) that raises AssertionError; the folder is empty. What a tracker keeps elsewhere, such as a
database, is to be given a place below the folder in its settings.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from whet.protocols import Tracker
from whet.tracked import Tracked, judgement, measured, parameters

RECIPE: Mapping[str, Any] = {
    "model": "builtin:minilm",
    "data": {"path": ["a.csv"], "split": {"train": 0.7}},
    "technique": {"name": "lora", "rank": 8},
    "evaluate": {"metrics": [{"name": "bleu", "lowercase": True}]},
}
TEXT = "my card was stolen at midnight"
"""A text of the user's, which no tracker may get."""
SECRETS = ("WANDB_API_KEY", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "TRACKER_API_KEY")
SLOWEST_S = 10.0
"""For a thousand records that lie ready; a tracker that needs more would fall behind the steps of a small model."""


def check_tracker(tracker: Tracker, folder: Path) -> None:
    """Raise AssertionError at the first law that does not hold."""
    for law in TRACKER_LAWS:
        place = folder / law.__name__
        place.mkdir()
        law(tracker, place)


def a_run_is_told_from_start_to_end(tracker: Tracker, folder: Path) -> None:
    """It starts, says where a person looks, takes every kind of record, and ends, however the run ended."""
    for ending in ("finished", "failed", "interrupted"):
        place = folder / ending
        place.mkdir()
        tracking = tracker.start(_tracked(place))
        assert tracking.key and isinstance(tracking.key, str), f"its key is {tracking.key!r}; it must be a text"
        assert tracking.place and isinstance(tracking.place, str), f"its place is {tracking.place!r}; it must be a text"
        records = [found for record in _records() if (found := measured(record)) is not None]
        assert len(records) == 7
        tracking.log(records[:3])
        tracking.log([])
        tracking.log(records[3:])
        tracking.finish(ending)


def a_run_goes_on_in_the_same_place(tracker: Tracker, folder: Path) -> None:
    """Started again with its key, as after a crash, it goes on under this key; the steps that come again are no error."""
    records = [found for record in _records() if (found := measured(record)) is not None]
    first = tracker.start(_tracked(folder))
    first.log(records[:4])
    first.finish("interrupted")
    second = tracker.start(_tracked(folder, first.key))
    assert second.key == first.key, f"started with key {first.key!r} it goes on under {second.key!r}"
    second.log(records[2:])
    second.finish("finished")


def no_text_and_no_secret_is_written(tracker: Tracker, folder: Path) -> None:
    """Neither a text of the data, should one come to stand in a record, nor a key of the environment is found in what it writes."""
    secrets = {name: f"0f1e2d3c4b5a69788796a5b4c3d2e1f0abcd{place:04d}" for place, name in enumerate(SECRETS)}
    with _environment(secrets):
        tracking = tracker.start(_tracked(folder))
        tracking.log([found for record in _records() if (found := measured(record)) is not None])
        tracking.finish("finished")
    _settle(folder)
    for file in (path for path in folder.rglob("*") if path.is_file()):
        written = file.read_bytes()
        assert TEXT.encode() not in written, f"{file.name} holds a text of the data"
        for name, value in secrets.items():
            assert value.encode() not in written, f"{file.name} holds what stands in {name}"


def its_settings_ask_for_no_secret(tracker: Tracker, folder: Path) -> None:
    """A recipe is kept with the run and shown to others, so a setting is no place for a key."""
    assert is_dataclass(tracker)
    wrong = [
        field.name for field in fields(tracker) if any(word in field.name for word in ("key", "token", "password", "secret"))
    ]
    assert not wrong, f"its setting '{wrong[0]}' would keep a secret in the recipe; read it from the environment"


def many_records_are_quick(tracker: Tracker, folder: Path) -> None:
    """A thousand records that lie ready are taken note of in a few seconds, so that the end of a run waits for none."""
    tracking = tracker.start(_tracked(folder))
    records = [measured({"kind": "step", "phase": "fit", "step": step, "loss": 1 / step}) for step in range(1, 1001)]
    begun = time.monotonic()
    tracking.log([record for record in records if record is not None])
    tracking.finish("finished")
    seconds = time.monotonic() - begun
    assert seconds <= SLOWEST_S, f"a thousand records took {seconds:.1f} s; at most {SLOWEST_S:g}"


TRACKER_LAWS: tuple[Callable[[Tracker, Path], None], ...] = (
    its_settings_ask_for_no_secret,
    a_run_is_told_from_start_to_end,
    a_run_goes_on_in_the_same_place,
    no_text_and_no_secret_is_written,
    many_records_are_quick,
)


def _settle(folder: Path) -> None:
    """Wait until nothing is written below a folder any more: some tools write from a program of their own, after the end too."""
    before: dict[Path, int] = {}
    for _ in range(40):
        time.sleep(0.3)
        now = {path: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
        if now == before:
            return
        before = now


def _tracked(folder: Path, key: str | None = None) -> Tracked:
    return Tracked(folder.name, folder, parameters(RECIPE), key)


def _records() -> list[dict[str, Any]]:
    """Return a run's log in little: two phases, a validation, a score that is unknown, a report; and a text where none belongs."""
    step = {"losses": {"lm": 1.5}, "metrics": {"reward": 0.2}, "learning_rate": 1e-3, "grad_norm": 0.7, "rows": 8, "tokens": 90}
    found: list[dict[str, Any]] = [
        {"kind": "step", "phase": "fit", "step": number, "epoch": 0.5, "loss": 1.5 / number, **step} for number in (1, 2, 3)
    ]
    found.append({"kind": "validation", "phase": "fit", "step": 3, "epoch": 1.0, "loss": 1.2, "metric": "bleu", "score": 3.5})
    found.append({"kind": "validation", "phase": "fit", "step": 4, "epoch": 1.0, "loss": 1.2, "metric": "bleu", "score": None})
    found.append({"kind": "step", "phase": "refit", "step": 1, "loss": 1.0, "text": TEXT, "metrics": {"worst": TEXT}})
    found.append({"kind": "note", "text": TEXT})
    scores = {"accuracy": {"value": 0.8, "low": 0.7, "high": None, "n": 40}}
    verdict = {"decision": "better", "metric": "accuracy", "baseline": "base_model", "sentence": TEXT, "difference": None}
    found.append(
        judgement(
            {"metrics": scores, "baselines": {"base_model": {"metrics": scores}}, "verdict": verdict, "n": 40, "worst": [TEXT]}
        )
    )
    return found


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del os.environ[name]
            else:
                os.environ[name] = old
