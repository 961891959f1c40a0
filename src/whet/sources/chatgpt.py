"""Conversations of a ChatGPT export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from whet.collect.exports import Exports, Paths
from whet.collect.page import moment
from whet.data.rows import RawRow, Reject
from whet.plugins import plugin

ROLES = ("system", "user", "assistant")
LATEST = 1e11
"""Seconds since 1970 that are no moment any more."""


@plugin
class Chatgpt(Exports):
    """Conversations of the archive that ChatGPT sends, as they stood at last; other branches, tools and what was hidden are left out."""

    members: ClassVar[str] = r"conversations(-\d+)?\.json"
    path: Paths
    """The zip archive, its folder, or `conversations.json`; one or several."""

    @classmethod
    def recognises(cls, record: Mapping[str, object]) -> bool:
        """Whether it is a tree of messages."""
        return isinstance(record.get("mapping"), Mapping) and "current_node" in record

    def row(self, row: RawRow) -> RawRow | Reject:
        """Return a conversation as a row."""
        return _row(row)


def _row(row: RawRow) -> RawRow | Reject:
    nodes = row.fields.get("mapping")
    if not isinstance(nodes, Mapping):
        return Reject(
            row.file, row.line, "is no conversation of ChatGPT (no 'mapping')", "Name conversations.json of the export."
        )
    messages: list[dict[str, str]] = []
    for node in _branch(nodes, row.fields.get("current_node")):
        said = _said(node.get("message"))
        if said is None:
            continue
        if messages and messages[-1]["role"] == said["role"]:  # an answer in several parts, tools between them
            messages[-1]["content"] += "\n\n" + said["content"]
        else:
            messages.append(said)
    while messages and messages[-1]["role"] != "assistant":
        messages.pop()  # what nobody answered
    if not messages:
        return Reject(row.file, row.line, "has no message of text that was answered", "Leave the conversation out.")
    began = row.fields.get("create_time")
    created = moment(began) if isinstance(began, int | float) and not isinstance(began, bool) and 0 <= began < LATEST else None
    return RawRow(row.file, row.line, {"title": row.fields.get("title"), "created": created, "messages": messages})


def _branch(nodes: Mapping[str, Any], last: object) -> list[Mapping[str, Any]]:
    """Return the nodes from the first to the current one, or to the last leaf where none is named; a ring ends where it closes."""
    name = last if isinstance(last, str) and last in nodes else _leaf(nodes)
    found: dict[str, Mapping[str, Any]] = {}
    while name in nodes and name not in found and isinstance(nodes[name], Mapping):
        found[name] = nodes[name]
        name = str(nodes[name].get("parent"))
    return list(found.values())[::-1]


def _leaf(nodes: Mapping[str, Any]) -> str:
    leaves = [name for name, node in nodes.items() if isinstance(node, Mapping) and not node.get("children")]
    return leaves[-1] if leaves else ""


def _said(message: object) -> dict[str, str] | None:
    """Return a message that a person saw as text; None where it is hidden, a tool's, or has no text."""
    if not isinstance(message, Mapping):
        return None
    author, content, metadata = message.get("author"), message.get("content"), message.get("metadata")
    role = author.get("role") if isinstance(author, Mapping) else None
    hidden = isinstance(metadata, Mapping) and metadata.get("is_visually_hidden_from_conversation") is True
    if role not in ROLES or hidden or not isinstance(content, Mapping) or message.get("recipient", "all") != "all":
        return None
    parts = content.get("parts")
    if content.get("content_type") not in ("text", "multimodal_text") or not isinstance(parts, list):
        return None
    text = "\n\n".join(said for part in parts if (said := _part(part)).strip())
    return {"role": str(role), "content": text} if text else None


def _part(part: object) -> str:
    """Return a part of a message as text: what was written, or what was said and transcribed."""
    if isinstance(part, Mapping) and part.get("content_type") == "audio_transcription":
        part = part.get("text")
    return part if isinstance(part, str) else ""
