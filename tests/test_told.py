"""What a person is told while waiting, and before choosing: time left, the step that is kept, the language of the model."""

from __future__ import annotations

import io
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.console import Console

from whet.report import shown
from whet.stages.narrate import Narrator, duration
from whet.stages.new import language_warning, look, tell
from whet.stages.phase import Stopper, _ending
from whet.stages.show import show_machine


def test_without_a_terminal_the_time_left_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    # the module's own name: a clock that stands still for the whole process puts a server's event loop to sleep for good
    monkeypatch.setattr("whet.stages.narrate.time", SimpleNamespace(monotonic=lambda: clock[0]))
    stream = io.StringIO()
    with Narrator(Console(file=stream, width=200)).bar("Training", 20) as bar:
        for step in range(11, 21):  # a run that goes on after step 10
            bar.advance(step, "loss 1.0")
            clock[0] += 3
    lines = stream.getvalue().splitlines()
    assert lines[:2] == ["Training: 11 of 20 loss 1.0", "Training: 12 of 20 loss 1.0, about 24 s left"]
    assert lines[-1] == "Training: 20 of 20 loss 1.0"


def test_times_are_rough() -> None:
    assert [duration(seconds) for seconds in (0.2, 99, 170, 7800)] == ["1 s", "99 s", "3 min", "2 h 10 min"]


def test_the_end_of_training_says_why_and_which_step_is_kept() -> None:
    stopper = Stopper(2)
    for step, loss in ((10, 0.5), (20, 0.4), (30, 0.45), (40, 0.6)):
        stopper.see(loss, step)
    assert _ending(40, 90, stopper, "loss") == (
        "Stopped early after step 40 of 90, since 2 validations brought no better loss; the weights kept are those of step 20, "
        "where the validation loss was best (0.4000)."
    )
    assert _ending(90, 90, Stopper(0), "loss") == "Ended after step 90; its weights are kept."
    assert math.isinf(Stopper(0).best)


def test_a_german_file_and_an_english_model_bring_a_warning(tmp_path: Path) -> None:
    texts = [
        "Ich habe das Paket nicht bekommen und warte seit einer Woche",
        "Wie kann ich die Rechnung für den Mai noch einmal sehen",
    ]
    file = tmp_path / "anfragen.csv"
    file.write_text("text,label\n" + "".join(f"{texts[n % 2]} {n},{'ab'[n % 2]}\n" for n in range(40)))
    warning = tell(look([file])).splitlines()[-1]
    assert warning.startswith("Warning: your text is German, and builtin:minilm has learnt English only")
    assert "--model intfloat/multilingual-e5-small" in warning
    assert "Warning" not in tell(look([file]), "intfloat/multilingual-e5-small")
    assert language_warning("en", "builtin:minilm") == language_warning(None, "builtin:minilm") == ""


def test_names_of_runs_are_not_cut() -> None:
    name = "runs/2026-11-23-a-rather-long-name-of-a-file-classify"
    stream = io.StringIO()
    found = [
        {"run": name, "model": "builtin:minilm", "verdict": "Tuning helped: right in 93 % of 258 test rows, and more words."}
    ]
    shown.runs(found, Console(file=stream, width=100))
    assert name in stream.getvalue() and "…" not in stream.getvalue()


def test_a_table_of_codes_is_not_taken_for_text_without_a_word(tmp_path: Path) -> None:
    file = tmp_path / "codes.csv"
    file.write_text("fol,sex\n" + "".join(f"F{number % 7},{'MF'[number % 2]}\n" for number in range(60)))
    said = tell(look([file]))
    assert "that is hardly text, and a language model learns from words" in said
    assert "--set data.text=COLUMN" in said


def test_of_many_files_the_first_are_named_and_the_others_counted(tmp_path: Path) -> None:
    for number in range(9):
        (tmp_path / f"day-{number}.csv").write_text("text,label\n" + f"a text of day {number},{'ab'[number % 2]}\n" * 5)
    said = tell(look([tmp_path])).splitlines()[0]
    assert said.count(".csv") == 3
    assert "day-2.csv and 6 more files: 45 rows" in said


def test_what_a_machine_computes_with_is_told_once() -> None:
    stream = io.StringIO()
    shown.machine(show_machine(), Console(file=stream, width=500))
    keys = [line.partition(": ")[0] for line in stream.getvalue().splitlines()]
    assert "torch" in keys and len(keys) == len(set(keys))


def test_one_class_is_not_called_classes(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("text,label\n" + "".join(f"a row with number {i},only\n" for i in range(30)))
    assert "1 class: only (30)." in tell(look([tmp_path / "one.csv"]))
