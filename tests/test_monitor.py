"""`whet monitor` on a tiny run and request logs that are written here: fine, drifted and worse; alerts; wrong input."""

import http.server
import json
import random
import sys
import threading
import time

import numpy as np
import pytest
from scipy.stats import ttest_ind

import whet
from whet.cli import main
from whet.recipe_file import build_recipe
from whet.registry import fingerprint
from whet.report.monitor import Seen, Settings, build_monitoring
from whet.stages.monitor import Alerts
from whet.stages.monitor import monitor as look
from whet.store.log import Feedback, Item, Logged, RequestLog
from whet.testing import write_tiny
from whet.testing.tiny import LABELS, OPENINGS, THINGS

NOUNS = "red blue green old new big small fine grey flat pale wet dry hot cold".split()


def rows():
    return [
        {
            "text": opening.format(f"{noun} {thing}"),
            "label": label,
            "channel": random.Random(noun + thing).choice(["mail", "chat"]),
        }
        for noun in NOUNS
        for thing, label in zip(THINGS, LABELS, strict=True)
        for opening in OPENINGS
    ]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watched")
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows()), encoding="utf-8")
    recipe = {
        "model": str(write_tiny(folder / "bert", "bert")),
        "data": {
            "path": str(folder / "rows.jsonl"), "text": "text", "label": "label", "slices": ["channel"],
            "split": {"train": 0.4, "validation": 0.1, "test": 0.5},
        },
        "objective": "classify",
        "train": {"max_steps": 40, "batch_size": 16, "precision": "fp32", "learning_rate": 0.01},
        "evaluate": {"resamples": 100},
    }  # fmt: skip
    path = whet.train(build_recipe(recipe, "test"), out=folder / "run").path
    whet.evaluate(path)
    return path


def write_log(path, run, kept, *, number=150, wrong=0.0, text=False, longer=0, seed=0):
    """A log of requests like the run's own test rows, each with what the run said of it, and judged."""
    predictions = [json.loads(line) for line in (run / "predictions.jsonl").read_text().splitlines()]
    tags = {json.loads(line)["id"]: json.loads(line)["tags"] for line in (run / "data/test.jsonl").read_text().splitlines()}
    draw, sha256 = random.Random(seed), fingerprint(run)
    log = RequestLog(path, keep_text=text, max_bytes=10**8, max_days=90, say=print, on_drop=lambda _: None)
    told = []
    for number in range(number):
        row = draw.choice(predictions)
        label, asked = row["prediction"], row["text"] + " and more" * longer
        item = Item(len(asked), 9, label=label, confidence=row["probabilities"][label], tags=tags[row["id"]], input=asked)
        request = f"{number:032x}"
        log.write(
            Logged(
                request, time.time() - 60, "classify", "m", run.name, sha256, 200, latency_s=0.02 + 0.0001 * number, items=[item]
            )
        )
        if kept:
            truth = "something else" if draw.random() < wrong else row["label"]
            told.append(log.judge(Feedback(request, 0, "label", truth)))
    assert all(one.result(timeout=10) for one in told)
    log.close()
    return path


def test_the_same_as_the_test_rows_is_fine(run, tmp_path):
    log = write_log(tmp_path / "log.sqlite", run, True)
    folder, found = look(str(run), log=log, out=tmp_path / "out")
    assert found["verdict"]["decision"] == "fine" and not found["alarms"] and found["n"] == 150
    assert found["quality"][0]["n"] == 150 and found["quality"][0]["low"] <= found["quality"][0]["test"]["value"]
    assert json.loads((folder / "monitor.json").read_text()) == found
    page = (folder / "monitor.html").read_text()
    assert "<svg" in page and "<script" not in page and "Fine" in page


def test_a_planted_drift_of_length_is_found(run, tmp_path):
    _, found = look(str(run), log=write_log(tmp_path / "log.sqlite", run, False, longer=3), out=tmp_path / "out")
    assert found["verdict"]["decision"] == "look"
    assert {one["what"] for one in found["drift"] if one["alarm"]} == {"characters"}
    assert found["quality"] == [] and "not known" in found["verdict"]["sentence"]


def test_worse_answers_ask_for_a_retrain(run, tmp_path):
    _, found = look(str(run), log=write_log(tmp_path / "log.sqlite", run, True, wrong=0.5), out=tmp_path / "out")
    assert found["verdict"]["decision"] == "retrain" and found["verdict"]["sentence"].startswith("Retrain")
    assert {one["where"]["value"] for one in found["quality"] if one["where"]} == {"mail", "chat"}


def test_logged_texts_are_embedded_and_their_language_is_guessed(run, tmp_path):
    _, found = look(str(run), log=write_log(tmp_path / "log.sqlite", run, False, text=True), out=tmp_path / "out")
    assert {"embedding", "language"} <= {one["what"] for one in found["drift"]}
    assert not found["alarms"]


def test_latency_is_judged_by_a_limit(run, tmp_path):
    log = write_log(tmp_path / "log.sqlite", run, False)
    _, found = look(str(run), log=log, out=tmp_path / "out", settings=Settings(max_p95_s=0.001))
    assert found["verdict"]["decision"] == "look" and "Latency" in found["alarms"][0]
    assert look(str(run), log=log, out=tmp_path / "o2", settings=Settings(max_p95_s=9.0))[1]["alarms"] == []


def test_alerts_are_told_and_a_failing_one_hides_nothing(run, tmp_path):
    heard = []

    class Ear(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(500 if self.path == "/broken" else 200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Ear)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    log = write_log(tmp_path / "log.sqlite", run, False, longer=3)
    alerts = Alerts(
        [url, f"{url}/broken", "http://127.0.0.1:1/secret-token"], [f"json://127.0.0.1:{server.server_port}", "nonsense"]
    )
    folder, found = look(str(run), log=log, out=tmp_path / "out", alerts=alerts)
    server.shutdown()
    server.server_close()
    assert len(heard) == 3, found["notes"]
    assert heard[0]["verdict"]["decision"] == "look"
    assert len(found["notes"]) == 3 and "secret-token" not in str(found)
    assert (folder / "monitor.html").is_file()


@pytest.mark.slow
def test_without_drift_there_are_few_alarms():
    """Over 60 draws of the same kind, at most the level's share of whole reports has an alarm, but for chance."""
    from whet import plugins

    checks = {name: plugins.build("checks", name, {"smallest": 0.0}) for name in ("kolmogorov_smirnov", "chi_square")}
    alarmed = 0
    for seed in range(60):
        draw = random.Random(seed)
        sides = [
            [
                Seen(
                    draw.gauss(50, 9),
                    draw.random(),
                    draw.choice("abc"),
                    None,
                    float(draw.random() < 0.2),
                    {"c": draw.choice("xy")},
                )
                for _ in range(120)
            ]
            for _ in range(2)
        ]
        found = build_monitoring(
            *sides, checks=checks, vectors=None, latency_s=[], first_token_s=[], num_requests=0, num_failed=0,
            settings=Settings(level=0.1, smallest_drop=0.0),
        )  # fmt: skip
        alarmed += bool(found["alarms"])
    assert alarmed <= 14  # of 60 at 0.1, more than 14 come up once in 1,000


WRONG = [
    (("nothing",), 1, "no such run"),
    (("m@champion",), 1, "no model 'm'"),
    (("RUN", "--log", "none.sqlite"), 1, "no such request log"),
    (("RUN", "--log", "text.sqlite"), 1, "is no request log"),
    (("RUN", "--since", "yesterday"), 1, "Allowed: a date"),
    (("RUN", "--since", "1h", "--until", "2h"), 1, "Exchange them"),
    (("RUN", "--until", "2001-01-01"), 1, "in that time, nor to any other run. Name another run, log, or time"),
    (("RUN", "--check", "nose"), 1, "is no plugin of kind 'checks'"),
    (("RUN", "--webhook", "example.org"), 1, "begins with http"),
    (("RUN", "--level", "7"), 2, ""),
    (("RUN", "--fail-on-alarm", "--max-p95", "0.0001"), 3, "Latency"),
]


@pytest.fixture(scope="module")
def log(run, tmp_path_factory):
    return write_log(tmp_path_factory.mktemp("log") / "log.sqlite", run, False, number=40)


@pytest.mark.parametrize(("words", "code", "said"), WRONG, ids=[" ".join(words) for words, _, _ in WRONG])
def test_wrong_input_ends_in_a_sentence(run, log, tmp_path, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.sqlite").write_text("no database " * 200)
    words = [str(run) if word == "RUN" else word for word in words]
    where = [] if "--log" in words else ["--log", str(log)]
    monkeypatch.setattr(sys, "argv", ["whet", "monitor", *words, *where, "--out", "out", "--check", "psi", "--json"])
    with pytest.raises(SystemExit) as left:
        main()
    out = capsys.readouterr()
    assert left.value.code == code and said in out.err
    assert ("Comparing 40 answers with those to" in out.err) == (code == 3)  # nobody waits without knowing for what
    assert isinstance(json.loads(out.out), dict)
    assert (tmp_path / "out").exists() == (code == 3)


def judged(losses):
    return [Seen(loss=float(loss)) for loss in losses]


def monitored(window, baseline, latency_s=(), **settings):
    return build_monitoring(
        window, baseline, checks={}, vectors=None, latency_s=latency_s, first_token_s=[], num_requests=len(window), num_failed=0,
        settings=Settings(**settings),
    )  # fmt: skip


def test_better_answers_than_on_the_test_rows_are_no_news():
    [quality] = monitored(judged([0] * 100), judged([1] * 50 + [0] * 50))["quality"]
    assert quality["p_value"] == pytest.approx(1) and not quality["alarm"]


def test_a_certain_fall_that_is_too_small_to_matter_is_no_alarm():
    sides = judged([1] * 2300 + [0] * 17_700), judged([1] * 2000 + [0] * 18_000)  # 88.5 and 90 %
    [small], [large] = (monitored(*sides, smallest_drop=drop)["quality"] for drop in (0.02, 0.01))
    assert small["corrected_p"] == large["corrected_p"] < 1e-4
    assert large["alarm"] and not small["alarm"]


def test_few_judged_answers_are_told_and_not_tested():
    found = monitored(judged([1] * 19), judged([0] * 100))
    assert found["quality"][0]["p_value"] is None and not found["alarms"] and "not tested" in found["quality"][0]["sentence"]
    assert monitored(judged([1] * 20), judged([0] * 100))["verdict"]["decision"] == "retrain"


def test_errors_of_numbers_are_compared_by_welch():
    draw = np.random.default_rng(0)
    ours, theirs = draw.gamma(2, 3, 30), draw.gamma(2, 1, 200)  # few, and of another spread
    [quality] = monitored(judged(ours), judged(theirs))["quality"]
    expected = ttest_ind(ours, theirs, equal_var=False, alternative="greater").pvalue
    assert quality["p_value"] == pytest.approx(expected) and quality["metric"] == "mean_absolute_error"


def test_latency_is_an_alarm_only_where_its_whole_interval_is_above_the_limit():
    times = np.random.default_rng(0).gamma(2, 1, 60).tolist()
    p95 = monitored(judged([0]), judged([0]), times)["latency"]["p95"]
    assert p95["low"] < p95["value"]
    between, below = (p95["low"] + p95["value"]) / 2, p95["low"] * 0.99
    assert not monitored(judged([0]), judged([0]), times, max_p95_s=between)["alarms"]
    assert monitored(judged([0]), judged([0]), times, max_p95_s=below)["alarms"]
