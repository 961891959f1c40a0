"""A served encoder-decoder: its answers are those that `whet predict` gives, whole, streamed and beside others."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import openai
import pytest

import whet
from whet.engine.targets import source_ids
from whet.server.prompts import room
from whet.stages.following import try_out
from whet.stages.serve import load_served
from whet.types import Message

pytestmark = pytest.mark.slow

LONGEST = 127
"""Tokens that the tiny T5 writes at most: its context is 128, and its targets begin with one that is given."""


@pytest.fixture(scope="module")
def live(runs, shorten, start):
    with start([shorten, runs.chat]) as server:
        yield server


@pytest.fixture(scope="module")
def client(live):
    with live.client() as opened:
        yield opened


@pytest.fixture(scope="module")
def predictor(shorten):
    return whet.load(shorten)


@pytest.fixture(scope="module")
def questions(runs):
    return [json.loads(line)["prompt"] for line in runs.asked.read_text(encoding="utf-8").splitlines()][:12]


def ask(client, question, **options):
    options = {"max_tokens": 4, **options}
    return client.chat.completions.create(model="shorten", messages=[{"role": "user", "content": question}], **options)


def test_answers_are_those_of_predict_also_when_asked_at_the_same_time(client, predictor, questions):
    expected = [one.prediction for one in predictor.predict(questions)]  # of 4 tokens at most, as the recipe says
    with ThreadPoolExecutor(6) as pool:
        given = list(pool.map(lambda question: ask(client, question).choices[0].message.content, questions))
    assert given == expected and all(given)


@pytest.mark.slow
def test_a_long_answer_ends_as_the_runs_own(client, predictor, questions):
    ends = []
    for question in questions[:4]:
        answer = ask(client, question, max_tokens=LONGEST)
        assert answer.choices[0].message.content == predictor.reply([Message("user", question)], max_new_tokens=LONGEST)
        ids = source_ids(predictor.tuned.policy, f"say: {question}", 1000)
        assert answer.usage.prompt_tokens == len(ids) and answer.usage.completion_tokens <= LONGEST
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
        ends.append(answer.choices[0].finish_reason)
        assert (answer.usage.completion_tokens == LONGEST) == (ends[-1] == "length")
    assert set(ends) <= {"stop", "length"}


def test_turns_stand_one_below_the_other_as_in_training(client, predictor):
    said = [("system", "be kind"), ("user", "my card is lost"), ("assistant", "ok"), ("user", "where is the parcel")]
    messages = [{"role": role, "content": text} for role, text in said]
    answer = client.chat.completions.create(model="shorten", messages=messages, max_tokens=12)
    assert answer.choices[0].message.content == predictor.reply([Message(*one) for one in said], max_new_tokens=12)
    source = "say: be kind\nmy card is lost\nok\nwhere is the parcel"
    assert answer.usage.prompt_tokens == len(source_ids(predictor.tuned.policy, source, 1000))


@pytest.mark.parametrize("options", [{}, {"temperature": 0.9, "top_p": 0.8, "seed": 5}])
def test_a_stream_is_the_whole_answer_in_pieces(client, questions, options):
    whole = ask(client, questions[0], max_tokens=30, **options)
    chunks = list(ask(client, questions[0], max_tokens=30, **options, stream=True, stream_options={"include_usage": True}))
    assert "".join(one.choices[0].delta.content or "" for one in chunks[:-1]) == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == whole.choices[0].finish_reason and chunks[-1].usage == whole.usage
    assert whole.choices[0].message.content


def test_a_seed_draws_the_same_and_none_draws_anew(client, questions):
    def drawn(**options):
        return ask(client, questions[0], max_tokens=30, temperature=1.5, **options).choices[0].message.content

    assert drawn(seed=3) == drawn(seed=3) != drawn(seed=4)
    assert len({drawn() for _ in range(4)}) > 1


def test_a_completion_reads_its_prompt_as_it_stands(client, predictor, questions):
    asked = {"model": "shorten", "max_tokens": 12}
    with_prefix = client.completions.create(prompt=f"say: {questions[0]}", **asked)
    assert with_prefix.choices[0].text.strip() == predictor.reply([Message("user", questions[0])], max_new_tokens=12)
    ids = source_ids(predictor.tuned.policy, f"say: {questions[0]}", 1000)
    by_ids = client.completions.create(prompt=ids, **asked)
    assert by_ids.choices[0].text == with_prefix.choices[0].text and by_ids.usage == with_prefix.usage
    assert client.completions.create(prompt=["ok", f"say: {questions[0]}"], **asked).choices[1].text == by_ids.choices[0].text
    chunks = client.completions.create(prompt=ids, **asked, stream=True)
    assert "".join(one.choices[0].text for one in chunks) == by_ids.choices[0].text


def test_log_probabilities_and_stop_strings(client, questions):
    answer = ask(client, questions[0], max_tokens=6, logprobs=True, top_logprobs=3).choices[0]
    for one in answer.logprobs.content:
        assert one.logprob <= 0 and one.top_logprobs[0].token == one.token and len(one.top_logprobs) == 3
        assert sum(math.exp(other.logprob) for other in one.top_logprobs) <= 1 + 1e-6
    text = answer.message.content
    stopped = ask(client, questions[0], max_tokens=6, stop=text[2]).choices[0]
    assert stopped.finish_reason == "stop" and stopped.message.content == text[: text.index(text[2])].strip()


def test_it_is_listed_with_what_it_can_be_asked(client, live):
    assert client.models.retrieve("shorten").endpoints == ["chat", "completions"]
    refused = live.post("/v1/embeddings", {"model": "shorten", "input": "x"})
    assert refused.status_code == 400 and "'shorten' is an encoder-decoder" in refused.json()["error"]["message"]


@pytest.mark.parametrize(
    ("question", "limit", "param", "said"),
    [
        ("a" * 200, 3, "messages", f"206 tokens of prompt do not fit: this model reads up to 128 tokens, and writes up to {LONGEST}."),
        ("a", LONGEST + 1, "max_tokens", f"128 tokens to be written do not fit: this model reads up to 128 tokens, and writes up to {LONGEST}."),
    ],
)  # fmt: skip
def test_source_and_text_have_a_context_each(client, question, limit, param, said):
    with pytest.raises(openai.BadRequestError) as raised:
        ask(client, question, max_tokens=limit)
    found = raised.value.body
    assert found["code"] == "context_length_exceeded" and found["param"] == param and said in found["message"]


def test_a_source_as_long_as_the_context_leaves_all_room_for_the_text(client, shorten, predictor):
    longest = "a" * (128 - len("say: ") - 1)  # T5 puts its end token behind a source
    answer = ask(client, longest, max_tokens=LONGEST)
    assert answer.usage.prompt_tokens == 128
    assert answer.choices[0].message.content == predictor.reply([Message("user", longest)], max_new_tokens=LONGEST)
    assert predictor.fits([Message("user", longest)]) and not predictor.fits([Message("user", f"{longest}a")])
    served = load_served(shorten)
    assert room(served, 128, None, 4096, "messages") == LONGEST and room(served, 128, None, 20, "messages") == 20


def test_a_providers_route_answers_as_predict(shorten, start, predictor, questions):
    with start([shorten], contract="vertex") as server:
        found = server.post("/predict", {"instances": questions[:3], "parameters": {"max_tokens": 4}}).json()["predictions"]
        assert [one["text"] for one in found] == [one.prediction for one in predictor.predict(questions[:3])]
        refused = server.post("/predict", {"instances": ["a" * 200]}).json()["error"]
        assert refused["status"] == "INVALID_ARGUMENT" and "this model reads up to 128 tokens" in refused["message"]


def test_the_last_message_must_be_a_question(client):
    asked = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "ok"}]
    with pytest.raises(openai.BadRequestError, match="nothing to answer"):
        client.chat.completions.create(model="shorten", messages=asked)


@pytest.mark.parametrize("name", ["shorten", "chat"])
def test_a_run_that_writes_nonsense_is_noticed_before_it_is_served(name, runs, shorten):
    served = load_served(shorten if name == "shorten" else runs.chat)
    try_out(served)
    served.policy.network.get_output_embeddings().weight.data[5] = math.nan
    with pytest.raises(whet.errors.ServerError, match="not finite"):
        try_out(served)
