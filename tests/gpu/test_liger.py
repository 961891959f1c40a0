"""The Llama family's steps by liger-kernel give what transformers' modules and plain torch give, values and gradients.

Its Triton kernels run through Triton's interpreter, on the processor, since there is no CUDA device in the tests: that holds their
arithmetic and whet's calls, not what a GPU's compiler makes of them. In a process of its own, since Triton decides when it is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from whet.engine import liger
from whet.engine.attention import NAME
from whet.engine.fused import why_not_on
from whet.models.fusion import try_fusion
from whet.testing.tiny import tiny_network

MISSING = [name for name in ("liger_kernel", "triton") if importlib.util.find_spec(name) is None]
TIMEOUT_S = 900


@pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)} (pip install 'whet[liger]')")
def test_steps_and_whole_networks_are_those_of_torch_and_transformers():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(Path(__file__).parent / "liger_steps.py")],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for step in ("norm", "sum and norm", "rotary positions", "gated activation"):
        assert found[step] < 1e-6, step
    assert found["dtypes"] == ["torch.float32", "torch.bfloat16"]  # the sum stays fp32
    # each network has been held to transformers' own modules, output and gradient, in fp32; a reason would say why not
    assert found["networks"] == {"Llama": "", "Qwen2": "", "Qwen3": ""}
    assert found["calls"] >= 3 * (2 * 2 + 1)  # norms of two layers and the last, of each


def test_without_a_device_or_the_package_the_reason_is_told(monkeypatch):
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    liger.why_not.cache_clear()
    assert why_not_on(torch.device("cuda")) == "there is no CUDA device"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(liger, "PACKAGE", "no_such_package_of_kernels")
    liger.why_not.cache_clear()
    assert "pip install 'whet[liger]'" in str(why_not_on(torch.device("cuda")))
    liger.why_not.cache_clear()


def test_what_was_tried_on_one_kind_of_device_is_not_taken_on_another():
    network = tiny_network("llama", 40)
    network.set_attn_implementation(NAME)
    made, reason = try_fusion(network)
    if made is None:
        pytest.skip(f"steps are not fused here: {reason}")
    assert made.where == made.another().where == "cpu"
