"""Weights & Biases."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from whet.errors import RunError
from whet.plugins import plugin
from whet.tracked import EXTRA, Measured, Tracked, merged

if TYPE_CHECKING:
    from whet.protocols import Tracking

SETTINGS: dict[str, Any] = {
    "console": "off",
    "disable_code": True,
    "disable_git": True,
    "silent": True,
    "x_disable_meta": True,
    "x_disable_stats": True,
    "x_save_requirements": False,
}
"""It sends what it is told, and looks for nothing by itself: no console, code, packages or machine."""


@plugin
class Wandb:
    """A run in Weights & Biases. The key comes from WANDB_API_KEY or `wandb login`; offline it writes files to sync later."""

    project: str = Field(default="whet", min_length=1)
    """Project that the run belongs to."""
    entity: str | None = None
    """User or team; none: your own."""
    mode: Literal["online", "offline"] | None = None
    """offline: write to files below the run's folder, for `wandb sync`. None: as WANDB_MODE says, else online."""

    def start(self, run: Tracked) -> Tracking:
        """Open a run, or the one that `run.key` names."""
        return _Run(self, run)


class _Run:
    """One run. Online it goes on in the same run after a stop; offline each start writes a folder of the same id, which sync joins."""

    def __init__(self, plugin: Wandb, run: Tracked) -> None:
        module = _wandb()
        self.key = run.key or secrets.token_hex(4)
        (run.folder / "wandb").mkdir(exist_ok=True)
        self.run = module.init(
            project=plugin.project,
            entity=plugin.entity,
            mode=plugin.mode,
            name=run.name,
            id=self.key,
            resume="allow",
            reinit="create_new",
            dir=str(run.folder),
            config=dict(run.parameters) if run.key is None else None,
            settings=module.Settings(**SETTINGS),
        )
        self.place = str(self.run.dir if self.run.offline else self.run.url)
        self.phases: set[str] = set()

    def log(self, records: Sequence[Measured]) -> None:
        for step, numbers in merged(records):
            phase = next(iter(numbers)).partition("/")[0]
            if not step:
                self.run.summary.update(numbers)
                continue
            if phase not in self.phases:  # each phase counts its own steps from 1
                self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
                self.phases.add(phase)
            self.run.log({f"{phase}/step": step, **numbers})
        for record in records:
            self.run.summary.update(dict(record.tags))

    def finish(self, ending: Literal["finished", "failed", "interrupted"]) -> None:
        self.run.finish(exit_code=0 if ending == "finished" else 1)


def _wandb() -> Any:
    try:
        import wandb
    except ImportError as error:
        raise RunError(f"tracker 'wandb' needs {error.name}, which is not installed. Run: {EXTRA}") from None
    return wandb
