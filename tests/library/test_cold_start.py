"""How long a program takes that does nothing but load a model and run it once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import recurray as rr
from harness.needs import needs

MOST_SECONDS = 0.9  # of processor time: three times what it takes on a quiet machine


@needs("POSIX")
def test_a_model_is_loaded_and_run_in_a_moment(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    rr.save(rr.Sequential(rr.LSTM(8, 32, seed=0), rr.Last(), rr.Linear(32, 2)), path)
    code = f"""
import resource
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF)
import recurray as rr
rr.load({str(path)!r})(np.ones((1, 5, 8), dtype="float32"))
after = resource.getrusage(resource.RUSAGE_SELF)
print(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
"""
    taken = min(float(subprocess.check_output([sys.executable, "-c", code], text=True)) for _ in range(3))
    assert taken < MOST_SECONDS
