"""What a model is asked in use is what it was trained behind; only the assistant's turns and their end are learnt."""

from __future__ import annotations

import pytest

from whet.errors import DataError
from whet.models.template import PLAIN_TEMPLATE, encode_chat, prompt_ids, stop_ids
from whet.testing.tiny import tiny_tokenizer
from whet.types import Message

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_END = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
# keeps the thoughts of the last turn only, as templates of reasoning models do
REWRITES = (
    "{% for message in messages %}{{ message['role'] }}: "
    "{{ message['content'] if loop.last else message['content'].split('/')[-1] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
NO_SYSTEM = (
    "{% for message in messages %}{% if message['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{{ message['content'] }}{% endfor %}"
)
CHAT = (
    Message("system", "be kind"),
    Message("user", "where is my card"),
    Message("assistant", "on its way"),
    Message("user", "thanks"),
    Message("assistant", "you are welcome"),
)


@pytest.fixture(params=["llama", "gpt2"])
def tokenizer(request):
    made = tiny_tokenizer(request.param)
    made.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    made.chat_template = PLAIN_TEMPLATE
    return made


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, CHATML, NO_END])
def test_every_prompt_in_use_is_the_beginning_of_the_training_row(tokenizer, template):
    tokenizer.chat_template = template
    whole = encode_chat(tokenizer, CHAT).ids
    for turn, message in enumerate(CHAT):
        if message.role == "assistant":
            prompt = prompt_ids(tokenizer, CHAT[:turn])
            assert whole[: len(prompt)] == prompt, f"turn {turn} is asked behind other tokens than it is trained behind"
            answer = encode_chat(tokenizer, CHAT[: turn + 1])
            assert answer.ids[: len(prompt)] == prompt and answer.supervised[len(prompt)] == 1.0


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, CHATML, NO_END])
def test_only_the_assistants_turns_are_learnt(tokenizer, template):
    tokenizer.chat_template = template
    chat = encode_chat(tokenizer, CHAT)
    assert len(chat.ids) == len(chat.supervised)
    learnt = [token for token, weight in zip(chat.ids, chat.supervised, strict=True) if weight]
    text = tokenizer.decode(learnt, skip_special_tokens=True)
    assert "".join(text.split()) == "onitswayyouarewelcome"


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, CHATML, NO_END])
def test_the_end_of_each_answer_is_learnt(tokenizer, template):
    tokenizer.chat_template = template
    chat = encode_chat(tokenizer, CHAT)
    stops = stop_ids(tokenizer)
    assert chat.ends
    ends = [
        index for index, (token, weight) in enumerate(zip(chat.ids, chat.supervised, strict=True)) if weight and token in stops
    ]
    assert len(ends) == 2, "each of the two answers ends in a learnt stop token"
    expected = "<|im_end|>" if template == CHATML else tokenizer.eos_token
    assert {tokenizer.convert_ids_to_tokens(chat.ids[index]) for index in ends} == {expected}


def test_an_end_that_is_also_the_padding_is_learnt(tokenizer):
    # pad = eos is where others mask the end away with the padding, and the model never stops
    tokenizer.chat_template = NO_END  # so that answers end in the tokenizer's own
    expected = encode_chat(tokenizer, CHAT[1:3])
    tokenizer.pad_token = tokenizer.eos_token
    found = encode_chat(tokenizer, CHAT[1:3])
    assert (found.ids, found.supervised) == (expected.ids, expected.supervised)
    assert found.ids[-1] == tokenizer.pad_token_id and found.supervised[-1] == 1.0


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, CHATML, NO_END])
def test_nothing_behind_the_end_of_an_answer_is_learnt(tokenizer, template):
    # generation stops at the end token, so what a template puts behind it is never written by the model
    tokenizer.chat_template = template
    chat, stops = encode_chat(tokenizer, CHAT), stop_ids(tokenizer)
    for index, (token, weight) in enumerate(zip(chat.ids[:-1], chat.supervised[:-1], strict=True)):
        if weight and token in stops:
            assert chat.supervised[index + 1] == 0.0


def test_a_template_without_an_end_gets_the_tokenizers(tokenizer):
    tokenizer.chat_template = NO_END
    chat = encode_chat(tokenizer, CHAT[1:3])
    assert chat.ids[-1] == tokenizer.eos_token_id and chat.supervised[-1] == 1.0


def test_without_any_end_token_it_is_said(tokenizer):
    tokenizer.chat_template = NO_END
    tokenizer.eos_token = None
    assert not encode_chat(tokenizer, CHAT[1:3]).ends
    assert stop_ids(tokenizer) == frozenset()


def test_there_is_one_start_token(tokenizer):
    ids = encode_chat(tokenizer, CHAT[1:3]).ids
    assert ids[0] == tokenizer.bos_token_id
    ends = 1 if tokenizer.bos_token_id == tokenizer.eos_token_id else 0  # GPT-2 has one token for both
    assert ids.count(tokenizer.bos_token_id) == 1 + ends


def test_the_first_token_is_never_a_target(tokenizer):
    tokenizer.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    chat = encode_chat(tokenizer, [Message("assistant", "hello")])
    assert chat.supervised[0] == 0.0 and all(chat.supervised[1:])


def test_a_template_that_rewrites_earlier_turns_is_refused(tokenizer):
    tokenizer.chat_template = REWRITES
    chat = [Message("user", "a"), Message("assistant", "thought/b"), Message("user", "c"), Message("assistant", "thought/d")]
    with pytest.raises(DataError, match="rewrites earlier turns"):
        encode_chat(tokenizer, chat)
    assert encode_chat(tokenizer, chat[:2]).ids, "one turn is not rewritten by anything"


def test_a_role_that_the_template_refuses_is_an_error_in_plain_words(tokenizer):
    tokenizer.chat_template = NO_SYSTEM
    with pytest.raises(DataError, match="System role not supported"):
        encode_chat(tokenizer, CHAT)


def test_an_empty_answer_is_its_end_alone(tokenizer):
    chat = encode_chat(tokenizer, [Message("user", "q"), Message("assistant", "")])
    learnt = [token for token, weight in zip(chat.ids, chat.supervised, strict=True) if weight]
    assert learnt == [tokenizer.eos_token_id]


@pytest.mark.parametrize("template", [PLAIN_TEMPLATE, CHATML, NO_END])
def test_a_conversation_may_begin_with_the_assistant(tokenizer, template):
    tokenizer.chat_template = template
    chat = [Message("assistant", "hello"), Message("user", "hi"), Message("assistant", "yes")]
    encoded = encode_chat(tokenizer, chat)
    learnt = [token for token, weight in zip(encoded.ids, encoded.supervised, strict=True) if weight]
    assert "".join(tokenizer.decode(learnt, skip_special_tokens=True).split()) == "helloyes"
    prompt = prompt_ids(tokenizer, [])
    assert prompt and encoded.ids[: len(prompt)] == prompt


def test_what_ends_an_answer_is_looked_up_once_for_a_tokenizer_and_template():
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = PLAIN_TEMPLATE
    rendered = []
    render = tokenizer.apply_chat_template
    tokenizer.apply_chat_template = lambda *args, **more: rendered.append(args) or render(*args, **more)
    first = stop_ids(tokenizer)
    assert [stop_ids(tokenizer) for _ in range(5)] == [first] * 5 and len(rendered) == 1
    tokenizer.chat_template = PLAIN_TEMPLATE.replace("Assistant", "Bot")
    assert stop_ids(tokenizer) == first and len(rendered) == 2
