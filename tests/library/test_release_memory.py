"""`release_memory()`, measured by what the system says that the process has."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness import here, obtain
from harness.needs import needs

CODE = """
import gc, sys
import numpy as np
import recurray as rr

PAGE = __import__("resource").getpagesize()


def has():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * PAGE / 2**20


def train(batch, steps):
    layer = rr.LSTM(16, 768, backend=backend, seed=0)
    y, _, cache = layer.forward(np.ones((batch, steps, 16), np.float32))
    layer.backward(cache, np.ones_like(y))
    return [np.ones(n) for n in range(1, 2000)][::2]  # small arrays, as stay between others


backend = rr.get_backend("numpy", engine=sys.argv[1])
train(2, 5)
backend.release_memory()
before = has()
for k in range(3):
    small = train(16 + k, 50)
kept = has()
del small
gc.collect()
backend.release_memory()
print(before, kept, has())
"""


@needs("/proc")
@pytest.mark.parametrize("name", here("numpy", "native"))
def test_memory_goes_back_to_the_system(name):
    obtain(name)
    result = subprocess.run([sys.executable, "-c", CODE, name], capture_output=True, text=True, check=True)
    before, kept, after = map(float, result.stdout.split())
    assert kept > before + 60  # MiB; or there is nothing to see here
    assert after < before + 9
