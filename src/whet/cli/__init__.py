"""The command line: parses, calls a verb, prints. What a person reads goes to standard error, what a program reads to standard output."""

from whet.cli import data, annotate, learn, judge, use, ship, registry  # noqa: F401, I001  # in the order in which help lists them
from whet.cli.app import app
from whet.cli.ending import GONE, main

__all__ = ["GONE", "app", "main"]
