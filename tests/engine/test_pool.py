"""Tensors of the processor in one run of addresses: whole, apart from each other, given back, and no other numbers than elsewhere."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from whet.engine import compiled

PLACES = """
import json, random, sys, threading
import torch
from whet.engine.pool import pool_tensors, pooled

before = torch.arange(100_000)
assert pool_tensors() is None, pool_tensors()
assert pool_tensors() is None  # once more does nothing
known = before.clone()


def played(seed, rounds):
    dice, held = random.Random(seed), {}
    for turn in range(rounds):
        if held and dice.random() < 0.5:
            name = dice.choice(list(held))
            tensor = held.pop(name)
            assert bool((tensor == name).all()), "somebody wrote into it"
        else:
            size = dice.choice([0, 1, 16_383, 16_384, 16_385, 40_000, 300_000, dice.randrange(1, 200_000)])
            held[turn + 1] = torch.full((size,), turn + 1, dtype=torch.int32)
            assert held[turn + 1].data_ptr() % 64 == 0
    places = sorted((one.data_ptr(), one.nbytes) for one in held.values() if one.nbytes)
    assert all(place + size <= after for (place, size), (after, _) in zip(places, places[1:]))
    for name, tensor in held.items():
        assert bool((tensor == name).all())
"""


def said(script: str, *given: str, **environment: str) -> str:
    """Return what a process of its own prints: the allocator is the whole process's."""
    clean = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/",
        "XDG_CACHE_HOME": str(compiled.own_folder().parents[1]),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "ignore", "-c", script, *given]
    done = subprocess.run(command, env=clean | environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def why_not() -> str | None:
    try:
        compiled.library("pool")
    except compiled.Unavailable as reason:
        return str(reason)
    return None


pools = pytest.mark.skipif(why_not() is not None, reason=f"tensors are not pooled here: {why_not()}")


@pools
def test_pieces_are_whole_and_apart_and_all_are_given_back():
    script = "for seed in range(20): played(seed, 400)\nassert bool((before == known).all())\ndel before, known\nprint(pooled())"
    assert said(PLACES + script) == "(0, 0)"


@pools
def test_threads_and_forked_processes_have_pieces_of_their_own():
    script = """
import os, warnings
torch.set_num_threads(1)
failed = []
threading.excepthook = lambda given: failed.append(given.exc_value)
threads = [threading.Thread(target=played, args=(seed, 2_000)) for seed in range(4)]
for thread in threads: thread.start()
children = []
for seed in range(8):  # while the others take and give
    child = os.fork()
    if child == 0:
        try:
            played(seed, 200)
        except BaseException:
            os._exit(1)
        os._exit(0)
    children.append(child)
for thread in threads: thread.join()
assert not failed, failed
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
"""
    assert said(PLACES + script) == str([0] * 8)


@pools
def test_sizes_that_change_at_each_step_leave_hardly_any_gaps():
    script = """
dice, most, highest = random.Random(0), 0, 0
lasting = [torch.empty(1 << 20) for _ in range(4)]
for step in range(200):
    tokens = dice.randrange(700, 1_400)
    kept = [torch.empty(tokens, width) for _ in range(30) for width in (576, 960, 3_072)]
    while kept:  # the backward pass takes them from the end, with some of its own
        gradient = torch.empty(tokens, 3_072)
        most = max(most, pooled()[1])
        kept.pop()
    highest = max(highest, pooled()[0])
print(highest / most)
"""
    assert float(said(PLACES + script)) < 1.1


@pytest.mark.slow
@pools
def test_what_is_larger_than_the_machine_is_refused_by_torch_in_its_words():
    script = """
try:
    torch.empty(1 << 60, dtype=torch.uint8)
except RuntimeError as error:
    print("can't allocate memory" in str(error), pooled()[0] < 1 << 30)
"""
    assert said(PLACES + script) == "True True"


@pytest.mark.slow
@pools
def test_without_room_for_addresses_tensors_lie_where_they_did():
    script = """
import resource
import torch
from whet.engine import pool
pool.physical_memory, pool.free_addresses = lambda: 1 << 46, lambda: None  # more than the limit below
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
print(pool.pool_tensors(), int(torch.ones(1_000_000).sum()))
"""
    assert said(script) == "no addresses can be had: Cannot allocate memory 1000000"


@pytest.mark.slow
@pools
def test_where_addresses_are_limited_half_of_them_stay_for_everything_else():
    script = """
import resource, threading
import torch
from whet.engine import machine, pool
taken = machine._status("VmSize")
limit = taken + (2 << 30)
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
assert pool.pool_tensors() is None
beside = bytearray(500 << 20)
torch.set_num_threads(1)
tensor = torch.empty(400 << 20, dtype=torch.uint8)
print(pool.pooled()[1] >> 20)
"""
    assert said(script) == "400"


@pytest.mark.slow
def test_where_addresses_count_as_memory_tensors_lie_where_they_did(tmp_path):
    told = tmp_path / "overcommit_memory"
    told.write_text("2\n")
    script = """
import sys
from pathlib import Path
import torch
from whet.engine import pool
pool.OVERCOMMIT = Path(sys.argv[1])
print(pool.pool_tensors(), int(torch.ones(1_000_000).sum()))
"""
    assert said(script, str(told)) == "this machine counts addresses as memory (vm.overcommit_memory is 2) 1000000"


def test_it_is_switched_off_with_the_kernels():
    script = "import torch; from whet.engine.pool import pool_tensors; print(pool_tensors(), int(torch.ones(1_000_000).sum()))"
    assert said(script, WHET_KERNELS="off") == "WHET_KERNELS is off 1000000"


@pytest.mark.slow
@pools
def test_training_gives_the_same_bytes_with_it_and_without():
    script = """
import sys, json, hashlib
import torch
from whet.engine.pool import pool_tensors, pooled

if sys.argv[1] == "pooled":
    assert pool_tensors() is None
torch.manual_seed(0)
net = torch.nn.Sequential(torch.nn.Linear(256, 512), torch.nn.GELU(), torch.nn.LayerNorm(512), torch.nn.Linear(512, 256))
optimiser = torch.optim.AdamW(net.parameters(), fused=True)
for step in range(20):
    x = torch.randn(100 + 7 * step, 256)
    with torch.autocast("cpu", torch.bfloat16):
        loss = (net(x) - x).square().mean()
    loss.backward()
    optimiser.step()
    optimiser.zero_grad()
whole = b"".join(one.detach().numpy().tobytes() for one in net.parameters())
print(json.dumps([hashlib.sha256(whole).hexdigest(), sys.argv[1] == "pooled" and pooled()[1] > 0]))
"""
    (one, lies), (other, _) = (json.loads(said(script, way)) for way in ("pooled", "as it was"))
    assert one == other and lies
