"""The page at `/`, to try what is served: one file without anything from elsewhere, and a policy that lets it fetch nothing else."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response


async def show(request: Request) -> Response:
    """Give the page. It asks /v1/models what there is; nothing of the server's stands in it."""
    text, policy = _page()
    return Response(text, headers={"content-security-policy": policy}, media_type="text/html")


@functools.cache
def _page() -> tuple[str, str]:
    text = (files("whet.server") / "page.html").read_text(encoding="utf-8")
    parts = {tag: re.search(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL) for tag in ("style", "script")}
    hashes = {tag: base64.b64encode(hashlib.sha256(part[1].encode()).digest()).decode() for tag, part in parts.items() if part}
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes['style']}'; script-src 'sha256-{hashes['script']}'; "
        "connect-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
    )
    return text, policy
