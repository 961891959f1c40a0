"""Whole training steps on a CUDA device that is pretended: the losses of the processor, and no operator is given tensors of both devices.

What pretends it computes every operator on the processor, so this finds tensors in the wrong place and wrong arguments, and says nothing
about a device's own kernels. In a process of its own, since torch looks for devices once.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent
COMPILER = shutil.which("g++")
TIMEOUT_S = 900
CASES = {
    ("llama", "sft", "lora", "bf16"): (True, True),
    ("llama", "sft", "full", "bf16"): (True, True),
    ("llama", "sft", "full", "fp32"): (False, False),  # the kernel is for bf16 and fp16 only, and so are fused steps
    ("bert", "classify", "full", "bf16"): (True, False),
}
"""Architecture, objective, technique, precision; whether attention goes through the kernel for rows of any length, and steps are liger's."""

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="no C++ compiler, which makes the pretended device"),
    pytest.mark.skipif(
        torch.cuda.is_available() or torch.version.cuda is not None, reason="this torch has CUDA devices of its own"
    ),
]


@pytest.fixture(scope="module")
def pretended(tmp_path_factory) -> dict[str, str]:
    """The environment of a process that pretends a device."""
    library = tmp_path_factory.mktemp("pretended") / "pretended.so"
    found = importlib.util.find_spec("torch")
    assert found is not None
    assert found.origin is not None
    torch_folder = Path(found.origin).parent
    command = [
        str(COMPILER),
        "-std=c++20",
        "-shared",
        "-fPIC",
        "-O0",
        f"-I{torch_folder / 'include'}",
        str(HERE / "pretended.cpp"),
    ]
    command += ["-o", str(library), f"-L{torch_folder / 'lib'}", "-lc10", "-ltorch_cpu"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        pytest.skip(f"the compiler does not take torch's headers: {done.stderr.splitlines()[-1][:200]}")
    return os.environ | {"PRETENDED": str(library), "OMP_NUM_THREADS": "1"}


def run(script: str, pretended: dict[str, str], *given: str) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / script), *given],
        env=pretended,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.slow
def test_steps_on_the_device_have_the_losses_of_the_processor(pretended, tmp_path):
    found = json.loads(run("steps.py", pretended, json.dumps([list(case) for case in CASES]), str(tmp_path)))
    assert len(found) == len(CASES)
    for case, (through_kernel, fused) in CASES.items():
        here, there = (found[" ".join(case)][device] for device in ("cpu", "cuda"))
        tolerance = 1e-5 if case[-1] == "fp32" else 5e-3  # bf16 products, rounded in another order
        assert there["losses"] == pytest.approx(here["losses"], abs=tolerance), case
        assert there["validation"] == pytest.approx(here["validation"], abs=tolerance), case
        assert there["learns_on"] == there["kept_on"] == ["cuda"], case
        assert (there["calls"] > 0) == through_kernel, case
        assert (there["steps"] > 0) == fused, (case, found[" ".join(case)]["unfused"])


@pytest.mark.slow
def test_the_pretended_device_notices_a_tensor_in_the_wrong_place(pretended):
    said = run("misplaced.py", pretended)
    assert "is given tensors of cuda and of cpu" in said
