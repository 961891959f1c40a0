"""The likelihood of a really trained model, against a value that others computed."""

import json
import math
import re
from pathlib import Path

import pytest
import torch

from whet.engine.measure import likelihoods
from whet.models.load import load_policy
from whet.types import Row

SHARED = Path(__file__).resolve().parents[3] / "shared"
STORIES = SHARED / "data" / "text" / "tinystories" / "tiny_stories.txt"


def test_a_trained_model_gives_its_documented_likelihood():
    folder = SHARED / "models" / "stories260K"
    if not folder.is_dir() or not STORIES.is_file():
        pytest.skip("the shared models and stories are not here")
    expected = json.loads((folder / "expected.json").read_text())
    policy = load_policy(str(folder))
    stories = [story.strip() for story in re.split(r"(?=Once upon a time)", STORIES.read_text())][1:61]
    units, characters = [], 0
    for number, story in enumerate(stories):
        ids = policy.tokenizer(story, add_special_tokens=False, verbose=False)["input_ids"][: policy.context - 1]
        characters += len(policy.tokenizer.decode(ids))
        supervised = torch.ones(len(ids) + 1)
        supervised[0] = 0
        units.append((Row(number, torch.tensor([1, *ids]), {"supervised": supervised}),))
    found = likelihoods(policy, units)
    tokens = sum(count for _, count in found.values())
    nll = sum(total for total, _ in found.values())
    assert tokens == expected["tokens"]
    assert nll / tokens == pytest.approx(expected["nll_per_token"], abs=1e-5)
    assert nll / math.log(2) / expected["bits_per_char"] == pytest.approx(characters, abs=1.01 * len(stories))
