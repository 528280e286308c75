"""Random configurations of the LSTM, the GRU and the RNN against PyTorch's: outputs, states and every gradient.

PyTorch refuses sequences of no steps and packed rows of length 0; `test_lstm` and `test_every_layer` have those.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import here
from harness.against_torch import KINDS, compare_with_torch, configuration
from harness.needs import need

torch: Any = need("torch")

SEEDS = [  # few on CuPy, whose every step may be emulated
    (seed, platform)
    for platform in here("numpy", "reference", "cupy")
    for seed in range(20 if platform == "cupy" else 80)
]
PLATFORMS = pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))


@pytest.mark.parametrize(("seed", "platform"), SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_random_configurations(seed: int, kind: str, platform: str) -> None:
    compare_with_torch(platform, configuration(kind, seed), "float64", 1e-12)  # 1e-8 is asked for


@pytest.mark.slow
@PLATFORMS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first", range(1000, 1700, 100))
def test_many_random_configurations(first: int, kind: str, platform: str) -> None:
    for seed in range(first, first + 100):
        compare_with_torch(platform, configuration(kind, seed), "float64", 1e-12)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@PLATFORMS
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(7))
def test_float32(seed: int, kind: str, platform: str) -> None:
    """Single precision on both sides: the same to its rounding."""
    compare_with_torch(platform, configuration(kind, seed), "float32", 1e-5)


def test_a_file_that_pytorch_saved(tmp_path: Path) -> None:
    """From `torch.nn.LSTM` by way of safetensors, whatever its precision."""
    need("safetensors")
    from safetensors.numpy import load_file
    from safetensors.torch import save_file

    model = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    lstm = rr.LSTM(3, 5, 2, bidirectional=True, dtype="float64")
    for dtype in (torch.float16, torch.float32, torch.float64):
        params = {name: value.to(dtype) for name, value in model.state_dict().items()}
        save_file(params, tmp_path / "lstm.safetensors")
        lstm.load_state_dict(load_file(tmp_path / "lstm.safetensors"))
        for name, value in params.items():
            np.testing.assert_array_equal(lstm.params[name], value.to(torch.float64).numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_the_configurations_differ_in_everything(kind: str) -> None:
    """So that what `test_random_configurations` covers doesn't shrink unseen."""
    drawn = [configuration(kind, seed) for seed in range(80)]
    for option in ("bidirectional", "bias", "batch_first"):
        assert 16 < sum(config.options[option] for config in drawn) < 64
    assert 16 < sum(config.ragged for config in drawn) < 64
    assert 8 < sum(not config.with_state for config in drawn) < 40
    for layers in (1, 2, 3):
        assert sum(config.options["num_layers"] == layers for config in drawn) > 16
    assert sum(config.steps >= 5 and config.batch >= 2 for config in drawn) > 24
    if kind == "LSTM":
        assert 8 < sum(config.options["proj_size"] > 0 for config in drawn) < 40
    if kind == "RNN":
        assert 20 < sum(config.options["nonlinearity"] == "relu" for config in drawn) < 60
