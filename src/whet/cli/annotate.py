"""`whet annotate`: the page, and annotations out and in."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from whet.cli.app import app
from whet.cli.options import Json, Own
from whet.cli.say import answer, say

PAGE = "page"


class _Group(TyperGroup):
    """A group in which what is no verb of its own is the target of the page: `whet annotate FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in {"-h", "--help"}:
            args = [PAGE, *args]
        return super().parse_args(ctx, args)


annotate_app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    help="Label rows on a local page, by keyboard: whet annotate RECIPE|FILE. Take the labels out, bring some in, see how far people agree.",
)
app.add_typer(annotate_app, name="annotate")
Target = Annotated[Path, typer.Argument(metavar="RECIPE|FILE", help="What was annotated: a recipe, a data file or a log.")]
StoreFile = Annotated[
    Path | None, typer.Option("--store", metavar="FILE", help="Where annotations are kept; default: beside the recipe or file.")
]


@annotate_app.command(PAGE)
def annotate_page(
    target: Annotated[
        Path | None, typer.Argument(metavar="[RECIPE|FILE]", help="A recipe, or a data file; may be left out with --log.")
    ] = None,
    kind: Annotated[
        str | None,
        typer.Option(
            metavar="KIND", help="label, labels, spans, text, preference or rating; default: what recipe and columns suggest."
        ),
    ] = None,
    labels: Annotated[str, typer.Option(metavar="A,B,C", help="Labels to choose from, before those in the file.")] = "",
    guidelines: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Markdown shown beside the rows; default: guidelines.md beside the file.")
    ] = None,
    order: Annotated[
        str | None,
        typer.Option(
            metavar="ORDER",
            help="uncertainty, disagreement, suspicion, loss or file; default: suspicion where all rows have labels, else uncertainty.",
        ),
    ] = None,
    review: Annotated[
        bool | None,
        typer.Option("--review/--no-review", help="Ask about rows that have an answer in the file, too; default: by the order."),
    ] = None,
    runs: Annotated[
        list[Path], typer.Option("--run", metavar="RUN", help="A trained run that suggests; may be given several times.")
    ] = [],
    log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Annotate the inputs of a request log of whet serve --log-text.")
    ] = None,
    no_suggest: Annotated[bool, typer.Option("--no-suggest", help="Learn nothing from what people say.")] = False,
    overlap: Annotated[float, typer.Option(min=0.0, max=1.0, help="Share of the rows that several people answer.")] = 0.0,
    people: Annotated[int, typer.Option(min=1, help="How many people answer those.")] = 2,
    scale: Annotated[str, typer.Option(metavar="LOW-HIGH", help="Least and highest rating.")] = "1-5",
    reasons: Annotated[str, typer.Option(metavar="A,B,C", help="Reasons to choose from for a preference.")] = "",
    annotator: Annotated[str | None, typer.Option(metavar="NAME", help="Who labels; default: the user of this machine.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a password.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes any free one.")] = 8010,
    password_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="File with the password; default: the variable WHET_ANNOTATE_PASSWORD.")
    ] = None,
    names: Annotated[
        list[str],
        typer.Option("--name", metavar="HOST", help="Another name under which the page may be asked for, such as a proxy's."),
    ] = [],
    store: StoreFile = None,
    sets: Annotated[
        list[str], typer.Option("--set", metavar="KEY=VALUE", help="Override a line of the recipe, such as data.text=message.")
    ] = [],
    recipe: Own = None,
    as_json: Json = False,
) -> None:
    """Open the page on which rows are labelled, until stopped by Ctrl-C. `page` itself may be left out."""
    from whet.annotation.kinds import REASONS
    from whet.stages import annotate as stage

    if target is None and log is None:
        raise typer.BadParameter("name a recipe or a data FILE, or a request log with --log")
    low = re.fullmatch(r"(-?\d{1,3})-(-?\d{1,3})", scale)
    if low is None:
        raise typer.BadParameter("two whole numbers, such as 1-5", param_hint="--scale")
    options = stage.Options(
        kind=kind,  # type: ignore[arg-type]
        labels=_listed(labels),
        scale=(int(low[1]), int(low[2])),
        reasons=_listed(reasons) or REASONS,
        guidelines=guidelines,
        order=order,  # type: ignore[arg-type]
        review=review,
        overlap=overlap,
        people=people,
        runs=tuple(runs),
        log=log,
        suggest=not no_suggest,
        annotator=annotator,
        host=host,
        port=port,
        password_file=password_file,
        names=tuple(names),
        store=store,
        sets=tuple(sets),
        recipe=recipe,
    )

    def on_ready(annotating: stage.Annotating) -> None:
        queue = annotating.desk.queue
        given = 0 if queue.review else sum(item.given is not None for item in queue.items.values())
        left = f", {given:,} of them with an answer in the file, which --review asks for too" if given else ""
        say(f"{len(queue.items):,} rows{left}; asked for: {annotating.desk.job.kind}, in the order of {queue.order}.")
        say(f"Label at {annotating.url} . Answers are kept in {annotating.desk.store.path}. Stop with Ctrl-C.")
        answer(as_json, annotating.summary())
        sys.stdout.flush()

    stage.annotate(target, options=options, say=say, on_ready=on_ready)
    say("Stopped. Every confirmed answer is kept.")


@annotate_app.command("export")
def annotate_export(
    target: Target,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where the rows go; .jsonl or .csv sets the format.")],
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv, label-studio or argilla; default: by the name of --out.")
    ] = None,
    only_annotated: Annotated[
        bool,
        typer.Option("--only-annotated", help="Leave out rows that nobody has answered, though the file has a label for them."),
    ] = False,
    store: StoreFile = None,
    as_json: Json = False,
) -> None:
    """Write labelled rows for whet train, with their history beside them; or every answer for Label Studio or Argilla."""
    from whet.stages.annotate_exchange import export, told

    made = export(target, out, form=form, store=store, only_annotated=only_annotated)
    say(told(made))
    answer(as_json, made)


@annotate_app.command("import")
def annotate_import(
    target: Target,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Answers: csv, jsonl, or JSON of Label Studio or Argilla.")],
    form: Annotated[
        str | None, typer.Option("--format", help="jsonl, csv, label-studio or argilla; default: by what is in it.")
    ] = None,
    annotator: Annotated[str, typer.Option(metavar="NAME", help="Who has said it, where the file does not say.")] = "imported",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put them in the place of answers that differ; the history keeps both.")
    ] = False,
    store: StoreFile = None,
    as_json: Json = False,
) -> None:
    """Bring in answers that were given elsewhere. They find their rows by content; nothing is overwritten unless --replace."""
    from whet.stages.annotate_exchange import import_from

    made = import_from(target, file, form=form, store=store, annotator=annotator, replace=replace)
    say(
        f"{made['new']:,} new, {made['replaced']:,} replaced, {made['same']:,} known already, {made['kept']:,} that differ from answers here and "
        f"were not taken (--replace takes them); {made['unknown_rows']:,} rows not found, {made['wrong']:,} answers not allowed."
    )
    answer(as_json, made)


@annotate_app.command("agreement")
def annotate_agreement(target: Target, store: StoreFile = None, as_json: Json = False) -> None:
    """Show how far annotators agree: Cohen's kappa of each pair, Fleiss' kappa, Krippendorff's alpha."""
    from whet.stages.annotate_exchange import agreement

    found = agreement(target, store=store)
    for who in found["annotators"]:
        say(f"{who['name']}: {who['answer']:,} answered, {who['skip']:,} skipped, {who['flag']:,} flagged")
    for pair in found["pairs"]:
        say(
            f"{pair['first']} and {pair['second']}: the same in {100 * pair['same']:.1f} % of {pair['n']:,}, Cohen's kappa {_number(pair['cohen_kappa'])}"
        )
    for level, alpha in found["krippendorff_alpha"].items():
        say(f"Krippendorff's alpha ({level}): {_number(alpha['value'])}, {alpha['n']:,} {found['unit']}s")
    fleiss = found["fleiss_kappa"]
    say(f"Fleiss' kappa: {_number(fleiss['value'])}, {fleiss['n']:,} {found['unit']}s")
    answer(as_json, found)


def _number(value: float | None) -> str:
    return "not known (too few, or one answer only)" if value is None else f"{value:.3f}"


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
