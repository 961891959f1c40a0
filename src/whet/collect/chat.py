"""Questions to an endpoint with OpenAI's chat interface: several at once, answered in order, with what they cost told before."""

from __future__ import annotations

import hashlib
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Annotated, Any
from urllib.parse import urlsplit

import pydantic
from pydantic import Field

from whet.collect.credential import Credential, hidden, secret
from whet.collect.fetch import Patience, Reach, fetch, host_of, patiently, shown
from whet.data.notices import counted
from whet.errors import DataError, RecipeError
from whet.plugins import started_here

CHARACTERS = 3.5
"""Of a token, to foretell a cost: rather too few than too many."""
MILLION = 1_000_000


@pydantic.dataclasses.dataclass(frozen=True, config=pydantic.ConfigDict(extra="forbid", use_attribute_docstrings=True))
class Endpoint:
    """A server with OpenAI's interface, also one of your own (vLLM, Ollama, `whet serve`)."""

    url: Annotated[str, Field(pattern=r"^https?://[^\s?#@]+$")]
    """Its base, such as https://api.openai.com/v1 or http://127.0.0.1:8000/v1."""
    model: str
    """The model's name there."""
    key: Credential | None = None
    """Where its key is: env:NAME, file:PATH; none: it asks for no key."""
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.8
    """How freely answers are drawn."""
    max_tokens: Annotated[int, Field(ge=1)] = 256
    """Longest answer; one that is cut there is not used."""
    at_once: Annotated[int, Field(ge=1, le=64)] = 4
    """Questions that are asked at the same time. The answers' order does not depend on it."""
    input_price: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens that it reads, in any currency."""
    output_price: Annotated[float, Field(ge=0)] | None = None
    """Price of a million tokens that it writes."""
    max_cost: Annotated[float, Field(ge=0)] | None = None
    """What asking may cost at most; more is refused before the first question."""
    timeout_s: Annotated[float, Field(gt=0)] = 120.0
    """Seconds of one question."""
    retries: Annotated[int, Field(ge=0, le=20)] = 4
    """Tries again after an answer that says to wait, or none, waiting twice as long each time."""

    @pydantic.model_validator(mode="after")
    def _is_mine(self) -> Endpoint:
        started_here(f"questions to {shown(self.url)}")
        if self.max_cost is not None and (self.input_price is None or self.output_price is None):
            raise ValueError("max_cost only with input_price and output_price, or nobody could say what is spent")
        return self


@pydantic.dataclasses.dataclass(frozen=True)
class Question:
    """What is asked, once."""

    system: str
    user: str
    draw: str
    """What the server's draw is seeded by."""


def foretold(endpoint: Endpoint, questions: Sequence[Question], written: float) -> str:
    """Return what asking costs, where an answer has about so many characters. Raises RecipeError where that may be more than allowed."""
    tokens_in = sum(len(one.system) + len(one.user) for one in questions) / CHARACTERS
    tokens_out = len(questions) * min(endpoint.max_tokens, written / CHARACTERS)
    said = (
        f"{counted(len(questions), 'question')} to {shown(endpoint.url)} (model {endpoint.model}), some {tokens_in:,.0f} tokens read and "
        f"{tokens_out:,.0f} written"
    )
    if endpoint.input_price is None or endpoint.output_price is None:
        return f"{said}; what that costs is not known, since input_price and output_price are not named. The texts of the rows are sent there."
    most = (tokens_in * endpoint.input_price + len(questions) * endpoint.max_tokens * endpoint.output_price) / MILLION
    likely = (tokens_in * endpoint.input_price + tokens_out * endpoint.output_price) / MILLION
    if endpoint.max_cost is not None and most > endpoint.max_cost:
        raise RecipeError(
            f"{said}: may cost {most:,.4f} (likely {likely:,.4f}), and max_cost is {endpoint.max_cost:g}. Ask for a smaller share, lower "
            "max_tokens, or raise max_cost. Nothing was asked."
        )
    return f"{said}: likely {likely:,.4f}, at most {most:,.4f} at the prices in the recipe. The texts of the rows are sent there."


def asked(endpoint: Endpoint, questions: Sequence[Question]) -> Iterator[str]:
    """Yield the answer to each question, in order; an empty one where it was cut off. Raises DataError where the server gives none."""
    key = secret(endpoint.key) if endpoint.key is not None else ""
    pending: deque[Future[str]] = deque()
    with ThreadPoolExecutor(endpoint.at_once) as pool:
        try:
            for question in questions:
                pending.append(pool.submit(_answer, endpoint, question, key))
                if len(pending) >= 2 * endpoint.at_once:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for one in pending:
                one.cancel()


def _answer(endpoint: Endpoint, question: Question, key: str) -> str:
    url = endpoint.url.rstrip("/") + "/chat/completions"
    seed = int.from_bytes(hashlib.sha256(question.draw.encode()).digest()[:4]) >> 1
    body = {
        "model": endpoint.model,
        "messages": [{"role": "system", "content": question.system}, {"role": "user", "content": question.user}],
        "temperature": endpoint.temperature,
        "max_tokens": endpoint.max_tokens,
        "seed": seed,
    }
    headers = {"content-type": "application/json", "accept": "application/json"}
    if key:
        headers["authorization"] = f"Bearer {key}"
    reach = Reach(frozenset({host_of(urlsplit(url))}), private=True, timeout_s=endpoint.timeout_s)  # texts go nowhere else
    sent = json.dumps(body).encode()
    answer = patiently(
        lambda: fetch(url, reach, method="POST", headers=headers, body=sent), Patience(endpoint.retries), shown(url)
    )
    if answer.status != 200:
        raise DataError(f"{shown(url)}: answers {answer.status}{hidden(_reason(answer.body), key)}. {_remedy(answer.status)}")
    try:
        choice = json.loads(answer.body)["choices"][0]
        text = choice["message"]["content"]
        assert isinstance(text, str | None)
    except (ValueError, KeyError, IndexError, TypeError, AssertionError):
        raise DataError(
            f"{shown(url)}: its answer is not of OpenAI's form (choices, message, content). Check the address; it ends in /v1 as a rule."
        ) from None
    return "" if text is None or choice.get("finish_reason") == "length" else text.strip()


def _reason(body: bytes) -> str:
    """Return the type of error that the server names, never its words, which may repeat a row."""
    try:
        found: Any = json.loads(body)["error"]
        named = found.get("code") or found.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        return ""
    return f" ({str(named)[:60]})" if named else ""


def _remedy(status: int) -> str:
    if status in {401, 403}:
        return "Name a valid key: key: env:NAME or file:PATH."
    if status == 404:
        return "Check url and model: the address ends in /v1 as a rule."
    return "Check url, model and max_tokens."
