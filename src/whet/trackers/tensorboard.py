"""TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from whet.errors import RunError
from whet.files import expanded
from whet.plugins import plugin
from whet.tracked import EXTRA, Measured, Tracked, merged

if TYPE_CHECKING:
    from whet.protocols import Tracking


@plugin
class TensorBoard:
    """Event files that `tensorboard --logdir runs` shows. Nothing leaves the machine."""

    folder: str | None = None
    """Folder of the event files, in which each run has one of its name; none: `tensorboard` in the run's own folder."""

    def start(self, run: Tracked) -> Tracking:
        """Open an event file. One of a run that goes on hides what earlier ones say of the steps that it repeats."""
        place = run.folder / "tensorboard" if self.folder is None else expanded(self.folder) / run.name
        return _Events(place, run)


class _Events:
    """One event file. TensorBoard reads all files of a folder as one run."""

    def __init__(self, folder: Path, run: Tracked) -> None:
        self.module = _tensorboard()
        self.key = self.place = str(folder)
        self.resumed = run.key is not None
        self.writer = self.module["writer"](str(folder))
        if not self.resumed:
            table = "".join(f"| {key} | {value} |\n" for key, value in run.parameters.items())
            self._text("recipe", f"| key | value |\n|---|---|\n{table}")

    def log(self, records: Sequence[Measured]) -> None:
        proto = self.module
        for step, numbers in merged(records):
            if self.resumed and step:
                start = proto["session"](status=proto["session"].START)
                self.writer.add_event(proto["event"](wall_time=time.time(), step=step, session_log=start))
                self.resumed = False
            values = [proto["summary"].Value(tag=name, simple_value=number) for name, number in numbers.items()]
            self.writer.add_event(proto["event"](wall_time=time.time(), step=step, summary=proto["summary"](value=values)))
        for name, word in (item for record in records for item in record.tags.items()):
            self._text(name, word)

    def finish(self, ending: Literal["finished", "failed", "interrupted"]) -> None:
        self._text("ending", ending)
        self.writer.close()

    def _text(self, name: str, text: str) -> None:
        proto = self.module
        kind = proto["metadata"](plugin_data=proto["metadata"].PluginData(plugin_name="text"))
        tensor = proto["tensor"](dtype=proto["string"], string_val=[text.encode()])
        value = proto["summary"].Value(tag=name, metadata=kind, tensor=tensor)
        self.writer.add_event(proto["event"](wall_time=time.time(), step=0, summary=proto["summary"](value=[value])))


def _tensorboard() -> dict[str, Any]:
    try:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary, SummaryMetadata
        from tensorboard.compat.proto.tensor_pb2 import TensorProto
        from tensorboard.compat.proto.types_pb2 import DT_STRING
        from tensorboard.summary.writer.event_file_writer import EventFileWriter
    except ImportError as error:
        raise RunError(f"tracker 'tensorboard' needs {error.name}, which is not installed. Run: {EXTRA}") from None
    return {
        "writer": EventFileWriter,
        "event": Event,
        "session": SessionLog,
        "summary": Summary,
        "metadata": SummaryMetadata,
        "tensor": TensorProto,
        "string": DT_STRING,
    }
