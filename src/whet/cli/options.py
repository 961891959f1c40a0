"""Arguments and options that several verbs take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from whet import kinds


def one_of(kind: str) -> str:
    """Return the built-in plugins of a kind in words."""
    *names, last = kinds.names(kind)
    return f"{', '.join(names)} or {last}."


Sets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a line of the recipe; may be given several times.")
]
JudgedSets = Annotated[
    list[str],
    typer.Option("--set", metavar="KEY=VALUE", help="Override a setting of evaluate, such as evaluate.metric=macro_f1."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, for programs.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="DIR", help="Folder of the new run; default runs/DATE-NAME.")]
Test = Annotated[
    list[Path], typer.Option("--test", metavar="FILE", help="File to judge on; never changed and never learnt from.")
]
Recipe = Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe; make one with: whet new FILE")]
Own = Annotated[
    Path | None,
    typer.Option("--recipe", metavar="RECIPE", help="Only for a run that uses plugin files of your own: the recipe beside them."),
]
PluginSets = Annotated[
    list[str], typer.Option("--set", metavar="KEY=VALUE", help="A setting of the method or format; may be given several times.")
]
IgnoreGate = Annotated[bool, typer.Option("--ignore-gate", help="Go on although the run's gate has refused it.")]
RunPath = Annotated[Path, typer.Argument(metavar="RUN", help="A run's folder.")]
