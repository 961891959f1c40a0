"""What may be asked of each endpoint, as OpenAI's clients write it, and what of it is understood here.

A key that would change the answer and is not understood is refused by its name; it is never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

import pydantic
import pydantic_core
from pydantic import Field

from whet.server.refusals import Refusal, wrong_value

HARMLESS = frozenset(
    {"user", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention", "parallel_tool_calls"}
)
"""Keys that are taken and mean nothing here."""
NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "best_of": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "echo": (False,),
    "suffix": ("",),
}
"""Keys of OpenAI's that are understood with these values only; null always is."""
MOST_MESSAGES, MOST_PROMPTS, MOST_INPUTS = 1024, 16, 256

Temperature = Annotated[float, Field(ge=0, le=2)]
Share = Annotated[float, Field(ge=0, le=1)]
Stop = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=256)]
Tokens = Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]


class Body(pydantic.BaseModel):
    """A request's body; unknown keys are refused, and no value is turned into one of another type."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class TextPart(Body):
    """One part of a message."""

    type: Literal["text"]
    text: str


class ChatMessage(Body):
    """One turn of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart]
    name: str | None = None
    """Taken and not used: the chat template has no place for it."""

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class StreamOptions(Body):
    """What a stream holds besides the text."""

    include_usage: bool = False
    """End with one more chunk that has the number of tokens."""
    include_obfuscation: bool | None = None
    """Taken and not used."""


class Writing(Body):
    """What chat and completions have in common."""

    model: Name
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    """Longest answer in tokens."""
    temperature: Temperature | None = None
    """0, the default here, takes the likeliest token, as the run was judged; OpenAI's own default is 1."""
    top_p: Share | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    """The same seed gives the same text, whatever else is asked meanwhile; without one each request draws its own."""
    stop: Stop | Annotated[list[Stop], Field(max_length=4)] | None = None
    """At most four strings that end the answer, and are no part of it."""
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    metadata: dict[Name, Annotated[str, Field(max_length=512)]] | None = None
    """Values for the run's slices are kept in the request log; the rest is not used."""

    @property
    def stops(self) -> tuple[str, ...]:
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def with_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)


class ChatRequest(Writing):
    """`POST /v1/chat/completions`."""

    messages: Annotated[list[ChatMessage], Field(min_length=1, max_length=MOST_MESSAGES)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    """Wins over `max_tokens`."""
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=20)] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens


class CompletionRequest(Writing):
    """`POST /v1/completions`."""

    prompt: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=MOST_PROMPTS)]
    logprobs: Annotated[int, Field(ge=0, le=5)] | None = None

    @property
    def limit(self) -> int | None:
        return self.max_tokens

    @property
    def prompts(self) -> list[str | list[int]]:
        if isinstance(self.prompt, str):
            return [self.prompt]
        if isinstance(self.prompt[0], int):
            return [self.prompt]
        return list(self.prompt)


class EmbeddingRequest(Body):
    """`POST /v1/embeddings`."""

    model: Name
    input: str | Tokens | Annotated[list[str] | list[Tokens], Field(min_length=1, max_length=MOST_INPUTS)]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(ge=1)] | None = None
    """Only the model's own width."""

    @property
    def inputs(self) -> list[str | list[int]]:
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [self.input]
        return list(self.input)


Cell = str | int | float | bool | None
Item = str | Annotated[dict[Name, Cell], Field(min_length=1, max_length=64)]


class ClassifyRequest(Body):
    """`POST /v1/classify`."""

    model: Name
    input: Item | Annotated[list[Item], Field(min_length=1, max_length=MOST_INPUTS)]
    """A text, or a row with the columns of training, or a list of them."""
    abstain_below: Share | None = None
    """Give no label below this confidence."""
    metadata: dict[Name, Annotated[str, Field(max_length=512)]] | None = None
    """Values for the run's slices are kept in the request log; the rest is not used."""

    @property
    def items(self) -> list[str | dict[str, Cell]]:
        return list(self.input) if isinstance(self.input, list) else [self.input]


class FeedbackRequest(Body):
    """`POST /v1/feedback`: what the answer should have been. Exactly one of label, labels, value and correction, or `right`."""

    id: Name
    """The `id` of the answer, or its `x-request-id`."""
    index: Annotated[int, Field(ge=0, lt=MOST_INPUTS)] = 0
    """Which of several inputs of the request."""
    label: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    labels: Annotated[list[Annotated[str, Field(min_length=1, max_length=512)]], Field(max_length=256)] | None = None
    value: Annotated[float, Field(ge=-1e100, le=1e100)] | None = None
    """A number; its square must still be one, or no mean error could be told."""
    correction: Annotated[str, Field(max_length=100_000)] | None = None
    """A better answer in words; needs a server that keeps texts."""
    right: bool | None = None
    """Whether the answer was right, where nothing more is known."""

    @pydantic.model_validator(mode="after")
    def says_one_thing(self) -> FeedbackRequest:
        given = [name for name in ("label", "labels", "value", "correction", "right") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"exactly one of label, labels, value, correction and right; found {', '.join(given) or 'none'}")
        return self


Asked = TypeVar("Asked", bound=Body)
MODELS = (
    TextPart,
    ChatMessage,
    StreamOptions,
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    ClassifyRequest,
    FeedbackRequest,
)
NAMES = frozenset(name for model in MODELS for name in model.model_fields)


def parse(body: bytes, model: type[Asked]) -> Asked:
    """Return the body of a request. Raises Refusal that names the value."""
    return checked(read_object(body), model)


def read_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object. Raises Refusal."""
    try:
        values = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise Refusal(400, f"the body is not valid JSON: {error}.", code="invalid_json") from None
    if not isinstance(values, dict):
        raise Refusal(400, f"the body is a JSON {type(values).__name__}; allowed: an object with keys.", code="invalid_json")
    return values


def checked(values: Mapping[str, Any], model: type[Asked]) -> Asked:
    """Return values as the body of a request. Raises Refusal that names the value."""
    fields = model.model_fields
    kept = {}
    for key, value in values.items():
        if key not in fields and key in HARMLESS:
            continue
        if key not in fields and key in NEUTRAL:
            if value is not None and not any(type(value) is type(one) and value == one for one in _alike(NEUTRAL[key])):
                shown = " or ".join(repr(one) for one in NEUTRAL[key])
                raise Refusal(
                    400, f"'{key}' is not supported but for {shown}. Leave it out.", param=key, code="unsupported_parameter"
                )
            continue
        kept[key] = value
    try:
        return model.model_validate(kept)
    except pydantic.ValidationError as error:
        raise wrong_value(error, NAMES) from None


def _alike(values: tuple[Any, ...]) -> list[Any]:
    """A whole number may be written as one with a point, too."""
    return [*values, *(float(value) for value in values if type(value) is int)]
