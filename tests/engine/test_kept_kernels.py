"""Compiled products do not pile up: memory ends where numbers of tokens go on changing."""

import subprocess
import sys

import pytest

from whet.engine.machine import choose_precision

PRODUCTS = """
import sys
import torch
from whet.engine.machine import bound_kernels, memory_now

if sys.argv[1] == "bound":
    bound_kernels()
torch.set_num_threads(1)
matrices = [torch.randn(64, 64 + 16 * place).bfloat16() for place in range(10)]
begun = memory_now()
for tokens in range(20, 45):
    for matrix in matrices:
        x = torch.ones(tokens, matrix.shape[1]).bfloat16()
        y = torch.nn.functional.linear(x, matrix)
        y @ matrix, y.T @ x
print((memory_now() - begun) >> 20)
"""


def grown(way: str) -> int:
    """Return by how many MiB a process grows that takes 750 products of as many shapes, of hardly any size."""
    clean = {"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", PRODUCTS, way], env=clean, capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.slow
@pytest.mark.skipif(choose_precision()[0] != "bf16", reason="this processor has no bf16 instructions, so nothing is compiled")
def test_compiled_products_do_not_pile_up_with_the_numbers_of_tokens():
    free, bound = grown("free"), grown("bound")
    assert free > 150, "without a bound they do, so the test can tell"
    assert bound < free / 2
