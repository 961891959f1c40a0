"""The command `whet` itself."""

from __future__ import annotations

from typing import Annotated

import typer

from whet import __version__
from whet.cli.say import show_text

app = typer.Typer(
    name="whet",
    help="Turns a general pre-trained language model into a specialist, and keeps it one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def whet(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """Turns a general pre-trained language model into a specialist, and keeps it one."""
    if version:
        show_text(__version__)
        raise typer.Exit
