"""The official client's answers: whole and streamed, with what it asks for by itself."""

from __future__ import annotations

import math

import openai
import pytest

import whet
from whet.engine.generate import Sampling
from whet.types import Message

QUESTION = [{"role": "user", "content": "where is the red card"}]


@pytest.fixture(scope="module")
def client(server):
    with server.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def predictor(runs):
    return whet.load(runs.chat)


def test_the_answer_is_what_the_run_gives_by_itself(client, predictor):
    answer = client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=30)
    assert answer.choices[0].message.content == predictor.reply([Message("user", QUESTION[0]["content"])], max_new_tokens=30)
    assert answer.choices[0].message.role == "assistant" and answer.object == "chat.completion"
    assert answer.choices[0].finish_reason in {"stop", "length"}
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert 0 < answer.usage.completion_tokens <= 30


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 5}])
def test_a_stream_is_the_whole_answer_in_pieces(client, options):
    asked = {"model": "chat", "messages": QUESTION, "max_tokens": 40, **options}
    whole = client.chat.completions.create(**asked)
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == whole.choices[0].message.content
    finishes = [one.choices[0].finish_reason for one in chunks[:-1] if one.choices[0].finish_reason]
    assert finishes == [whole.choices[0].finish_reason] and chunks[-2].choices[0].finish_reason
    assert chunks[-1].choices == [] and chunks[-1].usage == whole.usage
    assert all(one.usage is None for one in chunks[:-1])
    assert len({one.id for one in chunks}) == 1 and len(chunks) > 4


def test_without_being_asked_a_stream_has_no_usage(client):
    chunks = list(client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=5, stream=True))
    assert all(one.usage is None and len(one.choices) == 1 for one in chunks)


def test_a_seed_is_the_references_draw_and_no_seed_draws_anew(client, predictor):
    asked = {"model": "chat", "messages": QUESTION, "max_tokens": 30, "temperature": 1.5}
    seeded = client.chat.completions.create(**asked, seed=3).choices[0].message.content
    sampling = Sampling(temperature=1.5, seed=3)
    assert seeded == predictor.reply([Message("user", QUESTION[0]["content"])], sampling, max_new_tokens=30)
    assert len({client.chat.completions.create(**asked).choices[0].message.content for _ in range(4)}) > 1


def test_a_stop_string_ends_the_text_and_is_no_part_of_it(client):
    asked = {"model": "chat", "messages": QUESTION, "max_tokens": 40}
    text = client.chat.completions.create(**asked).choices[0].message.content
    stop = text[3:6]  # over the border of tokens, which are characters here
    whole = client.chat.completions.create(**asked, stop=[stop, "never there"])
    assert whole.choices[0].message.content == text[: text.index(stop)].strip() and whole.choices[0].finish_reason == "stop"
    chunks = client.chat.completions.create(**asked, stop=stop, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in chunks) == text[: text.index(stop)].strip()


def test_logprobs_are_told_with_their_alternatives(client):
    answer = client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=6, logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens
    assert "".join(one.token for one in content).strip() == answer.choices[0].message.content
    for one in content:
        assert one.logprob <= 0 and one.top_logprobs[0].token == one.token and len(one.top_logprobs) == 3
        assert bytes(one.bytes).decode() == one.token
        assert sum(math.exp(other.logprob) for other in one.top_logprobs) <= 1 + 1e-6


def test_completions_go_on_with_several_texts(client):
    answer = client.completions.create(model="chat", prompt=["my card", "ok"], max_tokens=8, logprobs=2)
    assert [choice.index for choice in answer.choices] == [0, 1]
    alone = client.completions.create(model="chat", prompt="ok", max_tokens=8)
    assert answer.choices[1].text == alone.choices[0].text
    assert len(answer.choices[0].logprobs.tokens) <= 8 and answer.choices[0].logprobs.text_offset[0] == 0
    chunks = list(client.completions.create(model="chat", prompt="ok", max_tokens=8, stream=True))
    assert "".join(one.choices[0].text for one in chunks) == alone.choices[0].text
    assert [one.choices[0].finish_reason for one in chunks].count(None) == len(chunks) - 1


def test_completions_take_tokens(client, predictor):
    ids = predictor.tuned.policy.tokenizer("my card")["input_ids"]
    by_ids = client.completions.create(model="chat", prompt=ids, max_tokens=8)
    assert by_ids.choices[0].text == client.completions.create(model="chat", prompt="my card", max_tokens=8).choices[0].text
    assert by_ids.usage.prompt_tokens == len(ids)


def test_embeddings_are_unit_vectors_of_the_runs_own_encoder(client, runs):
    texts = ["my card is lost", "where is the parcel", "my card is lost"]
    given = client.embeddings.create(model="labels", input=texts)  # base64 by the client's own choice
    plain = client.embeddings.create(model="labels", input=texts, encoding_format="float")
    assert len(given.data) == 3 and len(given.data[0].embedding) == 32
    for one, other in zip(given.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
        assert math.fsum(value * value for value in one.embedding) == pytest.approx(1, abs=1e-5)
    assert given.data[0].embedding == pytest.approx(given.data[2].embedding, abs=1e-6)
    policy = whet.load(runs.labels).tuned.policy
    out = policy.network(**policy.tokenizer("my card is lost", return_tensors="pt")).last_hidden_state[0].mean(0)
    assert given.data[0].embedding == pytest.approx((out / out.norm()).tolist(), abs=1e-5)


def test_models_are_listed_with_what_they_can_be_asked(client):
    assert {model.id: model.endpoints for model in client.models.list()} == {
        "labels": ["classify", "embeddings"],
        "chat": ["chat", "completions"],
    }
    assert client.models.retrieve("chat").object == "model"


def test_parts_of_messages_and_developer_messages_are_understood(client):
    parts = [
        {"role": "developer", "content": "be kind"},
        {"role": "user", "content": [{"type": "text", "text": "where is "}, {"type": "text", "text": "the red card"}]},
    ]
    plain = [{"role": "system", "content": "be kind"}, *QUESTION]
    one, other = (client.chat.completions.create(model="chat", messages=asked, max_tokens=10) for asked in (parts, plain))
    assert one.choices[0].message.content == other.choices[0].message.content


def test_max_completion_tokens_wins(client):
    answer = client.chat.completions.create(model="chat", messages=QUESTION, max_tokens=20, max_completion_tokens=2)
    assert answer.usage.completion_tokens <= 2


MISTAKES = {
    "unknown model": (openai.NotFoundError, {"model": "nosuch"}, "model", "model_not_found"),
    "model that labels": (openai.BadRequestError, {"model": "labels"}, "model", "unsupported_model"),
    "two answers": (openai.BadRequestError, {"n": 2}, "n", "unsupported_parameter"),
    "penalty": (openai.BadRequestError, {"presence_penalty": 1.0}, "presence_penalty", "unsupported_parameter"),
    "tools": (openai.BadRequestError, {"tools": [{"type": "function"}]}, "tools", "unsupported_parameter"),
    "json": (openai.BadRequestError, {"response_format": {"type": "json_object"}}, "response_format", "unsupported_parameter"),
    "heat": (openai.BadRequestError, {"temperature": 3.0}, "temperature", "invalid_value"),
    "top_p": (openai.BadRequestError, {"top_p": -0.1}, "top_p", "invalid_value"),
    "no tokens": (openai.BadRequestError, {"max_tokens": 0}, "max_tokens", "invalid_value"),
    "many stops": (openai.BadRequestError, {"stop": ["a", "b", "c", "d", "e"]}, "stop", "invalid_value"),
    "empty stop": (openai.BadRequestError, {"stop": ""}, "stop", "invalid_value"),
    "top without logprobs": (openai.BadRequestError, {"top_logprobs": 2}, "top_logprobs", "invalid_value"),
    "too many logprobs": (openai.BadRequestError, {"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value"),
    "too long": (openai.BadRequestError, {"max_tokens": 1000}, "max_tokens", "context_length_exceeded"),
    "prompt too long": (
        openai.BadRequestError,
        {"messages": [{"role": "user", "content": "a" * 500}]},
        "messages",
        "context_length_exceeded",
    ),
    "no messages": (openai.BadRequestError, {"messages": []}, "messages", "invalid_value"),
    "image": (
        openai.BadRequestError,
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]},
        "messages.0.content.0",
        None,
    ),
    "answered already": (
        openai.BadRequestError,
        {"messages": [*QUESTION, {"role": "assistant", "content": "ok"}]},
        "messages",
        "invalid_value",
    ),
    "unknown key": (openai.BadRequestError, {"extra_body": {"temprature": 1}}, "temprature", "unknown_parameter"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named(client, mistake, stream):
    kind, changes, param, code = MISTAKES[mistake]
    with pytest.raises(kind) as raised:
        client.chat.completions.create(**{"model": "chat", "messages": QUESTION, "max_tokens": 3, "stream": stream} | changes)
    found = raised.value.body
    assert set(found) == {"message", "type", "param", "code"} and found["type"] == "invalid_request_error"
    assert found["param"].startswith(param) and len(found["message"]) > 20
    assert code is None or found["code"] == code


def test_what_means_nothing_here_is_taken(client):
    given = client.chat.completions.create(
        model="chat", messages=QUESTION, max_tokens=2, n=1, user="me", presence_penalty=0, frequency_penalty=0.0,
        response_format={"type": "text"}, store=False, metadata={"channel": "mail"}, logit_bias={}, seed=-5, top_p=0.0, temperature=2.0,
    )  # fmt: skip
    assert len(given.choices) == 1 and given.usage.completion_tokens <= 2
