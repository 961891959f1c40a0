"""The command `whet` itself."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from whet import __version__
from whet.cli.say import show_text

ELSEWHERE = {
    "new": "init create columns",
    "prepare": "collect ingest preprocess clean redact anonymize dedup deduplicate split augment profile preview data",
    "plan": "estimate dry-run",
    "train": "finetune fine-tune tune fit sft dpo grpo rlhf lora resume pretrain",
    "retrain": "refresh update continue",
    "search": "sweep hpo hparams optimize",
    "auto": "run start quickstart",
    "evaluate": "eval test score judge benchmark report compare",
    "show": "list ls info status describe explain",
    "monitor": "watch drift alerts",
    "predict": "infer inference generate batch",
    "chat": "cli talk ask",
    "serve": "api server webui ui",
    "compress": "quantize quantise prune",
    "export": "merge convert gguf onnx save",
    "deploy": "bundle docker publish",
    "annotate": "label",
    "registry": "register models promote",
}
"""What other programs, and people, call what a verb does."""


class Verbs(TyperGroup):
    """The verbs. Who asks for one by a name that it has elsewhere is told its name here."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the verb that is asked for, as the parser has it. Ends the command where there is none."""
        asked = args[0].lower().replace("_", "-")
        verb = next((verb for verb, words in ELSEWHERE.items() if asked in words.split()), None)
        if verb is not None:
            ctx.fail(f"No such command {args[0]!r}. Here that is {verb!r}: see 'whet {verb} --help'.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Verbs,
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
