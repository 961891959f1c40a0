"""Which attention a run says that its rows go through, and why its blocks are slow: on a processor and on a CUDA device that is only named."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from whet.engine import packed_attention, varlen
from whet.stages import attending


@pytest.fixture
def job(builder):
    def make(device="cuda", *, precision="bf16", architecture="llama", **ability):
        policy = builder(architecture)()
        return SimpleNamespace(
            policy=SimpleNamespace(
                device=SimpleNamespace(type=device),
                ability=replace(policy.ability, **ability),
                network=policy.network,
                kind=policy.kind,
            ),
            plan=SimpleNamespace(precision=precision),
        )

    return make


def test_on_a_processor_it_is_the_packages_own_or_torchs_with_the_reason(job, monkeypatch):
    assert attending.attention_of(job("cpu")) == packed_attention.named()
    monkeypatch.setattr(packed_attention, "why_not", lambda: "there is no compiler")
    assert attending.why_slower(job("cpu")) == "there is no compiler"
    assert attending.why_blocks_are_slower(job("cpu", unfused="anything")) is None


def test_rows_that_are_padded_go_through_none_of_them(job):
    for device in ("cpu", "cuda"):
        padded = job(device, packs=False)
        assert attending.attention_of(padded) is None
        assert attending.why_slower(padded) is None


def test_on_a_gpu_it_is_flash_attention_in_bf16_alone(job, monkeypatch):
    monkeypatch.setattr(varlen, "why_not", lambda: None)
    monkeypatch.setattr(attending, "shape_of", lambda policy: SimpleNamespace(head_width=64, soft_cap=False))
    assert attending.attention_of(job()) == "torch's flash attention over rows of any length"
    assert attending.why_slower(job()) is None
    assert "bf16 and fp16 only" in attending.why_slower(job(precision="fp32"))
    monkeypatch.setattr(varlen, "why_not", lambda: "there is no CUDA device")
    assert attending.why_slower(job()) == "there is no CUDA device"


def test_blocks_that_could_be_fused_on_a_gpu_and_are_not_are_told_of_whatever_the_reason(job):
    told = attending.why_blocks_are_slower
    assert told(job(unfused="")) is None
    assert told(job(unfused="its output differs")) == "its output differs"
    assert told(job(unfused="its output differs", precision="fp32")) is None
    assert told(job(unfused="on a GPU only networks of the Llama family are", architecture="bert")) is None
