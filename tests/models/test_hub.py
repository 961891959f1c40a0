"""Models of the hub that cannot be had: gated, private, absent, offline. A server of its own stands in for the hub."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

ASK = """
import json, sys
from whet.errors import ModelError
from whet.models.load import load_policy
said = {}
for name in sys.argv[1:]:
    try:
        load_policy(name)
    except ModelError as error:
        said[name] = str(error)
print(json.dumps(said))
"""


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub does where a model may not be had: the reason stands in a header."""

    def do_GET(self) -> None:
        gated = "/org/gated/" in self.path
        self.send_response(403 if gated else 401)
        self.send_header("X-Error-Code", "GatedRepo" if gated else "RepoNotFound")
        self.send_header("X-Error-Message", "not for you")
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def asked(tmp_path, names, **environment: str) -> dict[str, str]:
    """What is said of these models with an empty cache; a hub and a token may be named."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("HF_") and not name.lower().endswith("_proxy")
    }
    place = {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path), "PYTHONDONTWRITEBYTECODE": ""}
    done = subprocess.run(
        [sys.executable, "-c", ASK, *names], env=kept | place | environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_a_gated_or_private_model_says_what_to_do_and_tells_no_token(hub, tmp_path):
    said = asked(tmp_path, ["org/gated", "org/private"], HF_ENDPOINT=hub)
    assert "gated and no token is set" in said["org/gated"] and "hf auth login" in said["org/gated"]
    assert "no such model, or it is private" in said["org/private"] and "hf auth login" in said["org/private"]


@pytest.mark.slow
def test_a_token_that_was_stored_by_logging_in_counts_as_one(hub, tmp_path):
    (tmp_path / "hf").mkdir()
    (tmp_path / "hf" / "token").write_text("hf_secretsecret")
    said = asked(tmp_path, ["org/gated"], HF_ENDPOINT=hub)["org/gated"]
    assert "gated and your token has no access to it" in said and "hf_secret" not in said


@pytest.mark.slow
def test_without_a_network_a_model_that_is_not_in_the_cache_is_said_to_be_absent_at_once(tmp_path):
    said = asked(tmp_path, ["org/model"], HF_HUB_OFFLINE="1")["org/model"]
    assert "not in the local cache, and the hub cannot be reached" in said and "builtin:minilm" in said
