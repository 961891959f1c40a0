"""The laws of trackers on every one in the package, and each law on a tracker that breaks it."""

import json
import sqlite3
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from whet import plugins
from whet.plugins import plugin
from whet.testing import check_tracker, trackers
from whet.trackers.tensorboard import TensorBoard


def settings(name, folder):
    return {"mlflow": {"uri": f"sqlite:///{folder}/mlruns.db"}, "wandb": {"mode": "offline"}}.get(name, {})


SLOW = {"mlflow", "wandb"}  # a database is made, a program of wandb's own is started
OTHERS = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # in the packages' own code


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in plugins.names("trackers")]
)
@OTHERS
def test_laws(name, tmp_path):
    check_tracker(plugins.build("trackers", name, settings(name, tmp_path), None), tmp_path)


@dataclass
class Kept:
    """Lines in a file; what each fault does is said where it is planted."""

    folder: Path
    key: str
    place: str

    def log(self, records):
        with (self.folder / "kept.txt").open("a") as file:
            file.writelines(f"{record.step} {dict(record.numbers)} {dict(record.tags)}\n" for record in records)

    def finish(self, ending):
        self.log([])


@plugin
class Plain:
    """A tracker that keeps the laws."""

    def start(self, run):
        return Kept(run.folder, run.key or run.name, str(run.folder))


@plugin
class NamesNoPlace:
    """Says nothing of where to look."""

    def start(self, run):
        return Kept(run.folder, run.name, "")


@plugin
class BeginsAnew:
    """Does not go on where it was."""

    def start(self, run):
        return Kept(run.folder, f"{run.name}-{'again' if run.key else 'first'}", str(run.folder))


@plugin
class WritesItsKey:
    """Keeps the key of the environment in a file."""

    def start(self, run):
        import os

        (run.folder / "settings.txt").write_text(os.environ.get("TRACKER_API_KEY", ""))
        return Kept(run.folder, run.key or run.name, str(run.folder))


@plugin
class AsksForItsKey:
    """Takes a key as a setting."""

    api_key: str = ""

    def start(self, run):
        return Kept(run.folder, run.key or run.name, str(run.folder))


class Slow(Kept):
    def log(self, records):
        super().log(records)
        trackers.time.wait(0.02 * len(records))


@plugin
class TakesLong:
    """Takes 20 ms for each record."""

    def start(self, run):
        return Slow(run.folder, run.key or run.name, str(run.folder))


def test_a_plain_tracker_keeps_the_laws(tmp_path):
    check_tracker(Plain(), tmp_path)


@pytest.mark.parametrize(
    ("wrong", "law"),
    [
        (NamesNoPlace, trackers.a_run_is_told_from_start_to_end),
        (BeginsAnew, trackers.a_run_goes_on_in_the_same_place),
        (WritesItsKey, trackers.no_text_and_no_secret_is_written),
        (AsksForItsKey, trackers.its_settings_ask_for_no_secret),
        (TakesLong, trackers.many_records_are_quick),
    ],
)
def test_a_fault_is_noticed(wrong, law, tmp_path, monkeypatch):
    clock = [0.0]

    class Clock:
        monotonic = staticmethod(lambda: clock[0])
        sleep = staticmethod(lambda seconds: None)

        @staticmethod
        def wait(seconds):
            clock[0] += seconds

    monkeypatch.setattr(trackers, "time", Clock)
    with pytest.raises(AssertionError):
        law(wrong(), tmp_path)


def test_a_text_that_is_told_is_noticed(tmp_path, monkeypatch):
    told = trackers.measured

    def leaky(record):
        found = told(record)
        return None if found is None else type(found)(found.step, found.numbers, {"text": str(record)})

    monkeypatch.setattr(trackers, "measured", leaky)
    with pytest.raises(AssertionError, match="text of the data"):
        trackers.no_text_and_no_secret_is_written(Plain(), tmp_path)


def test_tensorboard_is_read_back_by_its_own_reader(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers.a_run_goes_on_in_the_same_place(TensorBoard(), tmp_path)
    found = EventAccumulator(str(tmp_path / "tensorboard"))
    found.Reload()
    losses = [(event.step, round(event.value, 4)) for event in found.Scalars("fit/loss")]
    assert losses == [(1, 1.5), (2, 0.75), (3, 0.5)]  # 1.5 / step; step 3, which was told twice, stands once
    assert [round(event.value, 3) for event in found.Scalars("test/accuracy")] == [0.8]
    (verdict,) = found.Tensors("verdict")
    assert verdict.tensor_proto.string_val == [b"better"]


@pytest.mark.slow
@OTHERS
def test_mlflow_is_read_back_by_its_own_client(tmp_path):
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/runs.db"
    made = plugins.build("trackers", "mlflow", {"uri": uri, "experiment": "tickets"}, None)
    trackers.a_run_goes_on_in_the_same_place(made, tmp_path)
    client = MlflowClient(tracking_uri=uri)
    (run,) = client.search_runs([client.get_experiment_by_name("tickets").experiment_id])
    assert run.info.status == "FINISHED"
    assert run.data.params["technique.rank"] == "8" and run.data.params["evaluate.metrics.0.name"] == "bleu"
    assert run.data.metrics["test/accuracy"] == 0.8 and run.data.metrics["fit/validation_bleu"] == 3.5
    assert run.data.tags["whet.verdict"] == "better"
    assert [(one.step, one.value) for one in client.get_metric_history(run.info.run_id, "refit/loss")] == [(1, 1.0)]


def leveldb_records(data):
    """The records of a LevelDB log with wandb's header of 7 bytes: blocks of 32 KiB, each piece with checksum, length and type."""
    assert data[:4] == b":W&B"
    held, place = b"", 7
    while place + 7 <= len(data):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        held += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, last; 2 and 3 are the first and a middle piece
            yield held
            held = b""


@pytest.mark.slow
@OTHERS
def test_wandb_offline_is_read_back_by_its_own_messages(tmp_path):
    from wandb.proto import wandb_internal_pb2

    trackers.no_text_and_no_secret_is_written(plugins.build("trackers", "wandb", {"mode": "offline"}, None), tmp_path)
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    rows, summary, config = [], {}, {}
    for data in leveldb_records(file.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        for told, found in ((record.summary.update, summary), (record.run.config.update, config)):
            found.update({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in told})
        rows.append({item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item})
    assert [(row["fit/step"], row["fit/loss"]) for row in rows if "fit/loss" in row] == [(1, 1.5), (2, 0.75), (3, 0.5)]
    assert summary["verdict"] == "better" and summary["test/accuracy"] == 0.8
    assert config["technique.rank"] == 8


@pytest.mark.parametrize(
    ("name", "wrong", "word"),
    [
        ("mlflow", {"uri": "https://me:secret@mlflow.example.com"}, "MLFLOW_TRACKING_PASSWORD"),
        ("mlflow", {"uri": ""}, "sqlite:///"),
        ("mlflow", {"experiment": ""}, "experiment"),
        ("wandb", {"mode": "shared"}, "offline"),
        ("wandb", {"api_key": "0123"}, "unknown key"),
        ("wandb", {"project": ""}, "project"),
        ("tensorboard", {"folders": "x"}, "did you mean 'folder'"),
    ],
)
def test_wrong_settings_are_named(name, wrong, word):
    with pytest.raises(plugins.RecipeError, match=word):
        plugins.build("trackers", name, wrong, None)


@pytest.mark.slow
@OTHERS
def test_the_database_holds_no_text(tmp_path):
    made = plugins.build("trackers", "mlflow", {"uri": f"sqlite:///{tmp_path}/runs.db"}, None)
    trackers.no_text_and_no_secret_is_written(made, tmp_path)
    with sqlite3.connect(tmp_path / "runs.db") as opened:
        assert trackers.TEXT not in "\n".join(opened.iterdump())
    opened.close()
