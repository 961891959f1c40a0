"""The pages of the documentation, their links, and their fenced blocks with the invisible notes to the tests above them.

A note is an HTML comment `<!-- test: ... -->` on a line of its own before a block: `--set KEY=VALUE` (added to `whet train RECIPE`
and `whet auto`), `exit N`, `interrupt`, `varies BEGINNING; BEGINNING` (shown lines that depend on the settings), `skip REASON`,
`needs builtin:NAME`, `replace OLD => NEW`, `file NAME`, `plugin KIND`, `run`.
"""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/*.md")]
    if not path.name.startswith(".")
)
SHELLS = ("console", "sh")
NOTE = re.compile(r"<!-- test: (.+?) -->")
FENCE = re.compile(r"^(\s*)```(\w*)\s*$")


@dataclass(frozen=True)
class Block:
    """One fenced block."""

    page: Path
    line: int
    language: str
    text: str
    notes: tuple[str, ...]

    def note(self, name: str) -> str | None:
        """What follows `name` in a note of this block, or None."""
        found = [note.removeprefix(name).strip() for note in self.notes if note.split()[0] == name]
        return found[0] if found else None

    @property
    def shown(self) -> list[str]:
        """What a console block shows as said, line by line."""
        return [line for line in self.text.splitlines() if self.language == "console" and not line.startswith("$ ")]

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block: behind `$ ` in a console, every line in a script."""
        joined = self.text.replace("\\\n", " ")
        lines = [line.strip() for line in joined.splitlines()]
        if self.language == "console":
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page, in order."""
    found: list[Block] = []
    notes: list[str] = []
    language, start, held = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        fence = FENCE.match(line)
        if language is None:
            if fence:
                language, start, held = fence[2] or "text", number, []
            elif line.strip():
                notes = [*notes, *NOTE.findall(line)] if NOTE.match(line) else []
        elif fence:
            found.append(Block(page, start, language, "\n".join(held) + "\n", tuple(notes)))
            language, notes = None, []
        else:
            held.append(line)
    assert language is None, f"{page}:{start}: this block is never closed"
    return found


def whet_calls(command: str) -> list[list[str]]:
    """The arguments of each `whet ...` in a shell command."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    lexer.commenters = "#"
    calls: list[list[str]] = []
    current: list[str] | None = None
    for word in [*lexer, ";"]:
        if set(word) <= set("|&;<>"):
            if current is not None:
                calls.append(current)
            current = None
        elif current is not None:
            current.append(word)
        elif Path(word).name == "whet":
            current = []
    return calls


def links(page: Path) -> list[str]:
    """Relative links of a page, blocks left out."""
    text, inside = [], False
    for line in page.read_text(encoding="utf-8").splitlines():
        if FENCE.match(line):
            inside = not inside
        elif not inside:
            text.append(line)
    paragraphs = [re.sub(r"`[^`]*`", "", one) for one in "\n".join(text).split("\n\n")]
    found = re.findall(r"\]\(([^)\s]+)\)", "\n\n".join(paragraphs))
    return [link for link in found if not re.match(r"[a-z]+:", link)]


def anchors(page: Path) -> set[str]:
    """What `#...` may name in a page: its headings, as GitHub writes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
