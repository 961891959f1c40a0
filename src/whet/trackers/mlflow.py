"""MLflow."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import pydantic
from pydantic import Field

from whet.errors import RunError
from whet.plugins import plugin
from whet.tracked import EXTRA, Measured, Tracked, merged, secret_in

if TYPE_CHECKING:
    from whet.protocols import Tracking

MOST_METRICS, MOST_PARAMETERS, LONGEST_VALUE = 1000, 100, 500
"""What one request may hold, by MLflow's REST API; the longest value that every server takes."""
ENDINGS = {"finished": "FINISHED", "failed": "FAILED", "interrupted": "KILLED"}


@plugin
class Mlflow:
    """A run in MLflow: a sqlite file, or a tracking server whose user and password stand in the environment."""

    uri: str = "sqlite:///mlruns.db"
    """Tracking address. A server's user and password come from MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."""
    experiment: str = Field(default="whet", min_length=1)
    """Experiment that the run belongs to; made where it is not there."""

    @pydantic.field_validator("uri")
    @classmethod
    def _no_secret(cls, value: str) -> str:
        if secret_in(value):
            raise ValueError("an address without user and password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD")
        if not value:
            raise ValueError("an address such as sqlite:///mlruns.db or https://mlflow.example.com")
        return value

    def start(self, run: Tracked) -> Tracking:
        """Open a run of the experiment, or the one that `run.key` names."""
        return _Run(self.uri, self.experiment, run)


class _Run:
    """One run, through MLflow's client."""

    def __init__(self, uri: str, experiment: str, run: Tracked) -> None:
        self.entities, client = _mlflow()
        self.client = client(tracking_uri=uri)
        if run.key is not None:
            self.key = run.key
            self.client.update_run(self.key, status="RUNNING")
        else:
            found = self.client.get_experiment_by_name(experiment)
            number = found.experiment_id if found is not None else self.client.create_experiment(experiment)
            self.key = self.client.create_run(number, run_name=run.name, tags={"whet.run": run.name}).info.run_id
            self._tell(run)
        self.place = f"{uri}, experiment {experiment}, run {self.key}"

    def log(self, records: Sequence[Measured]) -> None:
        now = int(1000 * time.time())
        metrics = [
            self.entities.Metric(_name(name), number, now, step)
            for step, numbers in merged(records)
            for name, number in numbers.items()
        ]
        for begin in range(0, len(metrics), MOST_METRICS):
            self.client.log_batch(self.key, metrics=metrics[begin : begin + MOST_METRICS])
        for record in records:
            for name, word in record.tags.items():
                self.client.set_tag(self.key, f"whet.{name}", word)

    def finish(self, ending: Literal["finished", "failed", "interrupted"]) -> None:
        self.client.set_terminated(self.key, ENDINGS[ending])

    def _tell(self, run: Tracked) -> None:
        given = [self.entities.Param(_name(key), str(value)[:LONGEST_VALUE]) for key, value in run.parameters.items()]
        for begin in range(0, len(given), MOST_PARAMETERS):
            self.client.log_batch(self.key, params=given[begin : begin + MOST_PARAMETERS])


def _name(name: str) -> str:
    return re.sub(r"[^\w\-. /]", "_", name)


def _mlflow() -> tuple[Any, Any]:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of each run
    try:
        import mlflow.entities
        from mlflow import MlflowClient
    except ImportError as error:
        raise RunError(f"tracker 'mlflow' needs {error.name}, which is not installed. Run: {EXTRA}") from None
    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return mlflow.entities, MlflowClient
