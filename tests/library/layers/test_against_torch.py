"""Random LSTM configurations against `torch.nn.LSTM`: outputs, states and every gradient.

PyTorch refuses sequences of no steps and packed rows of length 0; `test_lstm` and `test_every_layer` have those.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, here, named, obtain
from harness.needs import need

torch: Any = need("torch")


@dataclass(frozen=True)
class Options:
    """The constructor's, by the names that recurray and PyTorch share."""

    input_size: int
    hidden_size: int
    num_layers: int
    bidirectional: bool
    bias: bool
    proj_size: int
    batch_first: bool


@dataclass(frozen=True)
class Configuration:
    options: Options
    batch: int
    steps: int
    ragged: bool
    with_state: bool
    seed: int


def configuration(seed: int) -> Configuration:
    """Draw a configuration; the same for the same seed."""
    rng = np.random.default_rng(seed)

    def one_in(n: int) -> bool:
        return bool(rng.integers(n) == 0)

    hidden = int(rng.integers(1, 8))
    options = Options(
        input_size=int(rng.integers(1, 8)),
        hidden_size=hidden,
        num_layers=int(rng.integers(1, 4)),
        bidirectional=one_in(2),
        bias=not one_in(3),
        proj_size=int(rng.integers(1, hidden)) if hidden > 1 and one_in(3) else 0,
        batch_first=one_in(2),
    )
    return Configuration(options, int(rng.integers(1, 6)), int(rng.integers(1, 11)), one_in(2), not one_in(4), seed)


def by_torch(config: Configuration, dtype: str = "float64") -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A configuration's params, the arrays that go in, and what PyTorch makes of them by the names of `by_recurray`."""
    options, rng = config.options, np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    model = torch.nn.LSTM(**asdict(options), dtype=getattr(torch, dtype))
    places = options.num_layers * (1 + options.bidirectional)
    width = options.proj_size or options.hidden_size

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def layout(features: int) -> tuple[int, int, int]:
        sizes = (config.batch, config.steps) if options.batch_first else (config.steps, config.batch)
        return (*sizes, features)

    given: dict[str, Any] = {"x": draw(*layout(options.input_size)), "lengths": None, "state": None}
    given["dy"] = draw(*layout(width * (1 + options.bidirectional)))
    given["dstate"] = draw(places, config.batch, width), draw(places, config.batch, options.hidden_size)
    if config.ragged:
        given["lengths"] = rng.integers(1, config.steps + 1, config.batch)
        given["lengths"][rng.integers(config.batch)] = 1
    if config.with_state:
        given["state"] = draw(places, config.batch, width), draw(places, config.batch, options.hidden_size)

    def leaf(a: np.ndarray) -> Any:
        return torch.tensor(a, requires_grad=True)

    x, lengths = leaf(given["x"]), given["lengths"]
    state = given["state"] or (np.zeros_like(given["dstate"][0]), np.zeros_like(given["dstate"][1]))
    h, c = leaf(state[0]), leaf(state[1])
    if lengths is None:
        y, (h_end, c_end) = model(x, (h, c))
    else:
        lengths = torch.tensor(lengths)
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, options.batch_first, enforce_sorted=False)
        y, (h_end, c_end) = model(packed, (h, c))
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, options.batch_first, total_length=config.steps)
    cotangents = [torch.tensor(a) for a in (given["dy"], *given["dstate"])]
    torch.autograd.backward([y, h_end, c_end], cotangents)
    found = {"y": y, "end.h": h_end, "end.c": c_end, "dx": x.grad, "dstart.h": h.grad, "dstart.c": c.grad}
    found |= {f"dparam.{name}": value.grad for name, value in model.named_parameters()}
    return model.state_dict(), given, {name: value.detach().numpy() for name, value in found.items()}


def by_recurray(
    platform: str, config: Configuration, params: dict[str, Any], given: dict[str, Any], dtype: str = "float64"
) -> dict[str, Any]:
    """What the layer makes of it, PyTorch's state dict loaded as it is."""
    backend = obtain(platform)
    lstm = rr.LSTM(**asdict(config.options), backend=backend, dtype=dtype)
    lstm.load_state_dict(params)

    def state(arrays: Any) -> Any:
        return None if arrays is None else rr.State(*(backend.asarray(a) for a in arrays))

    y, end, cache = lstm.forward(backend.asarray(given["x"]), state(given["state"]), given["lengths"])
    dx, dstart, grads = lstm.backward(cache, backend.asarray(given["dy"]), state(given["dstate"]))
    found = {"y": y} | named("end", end) | {"dx": dx} | named("dstart", dstart)
    return found | {f"dparam.{name}": grads[name] for name in params}


def compare(platform: str, seed: int) -> None:
    config = configuration(seed)
    params, given, expected = by_torch(config)
    found = by_recurray(platform, config, params, given)
    assert_all_close(obtain(platform), found, expected, tolerance=1e-12)  # 1e-8 is asked for


PLATFORMS = pytest.mark.parametrize("platform", here("numpy", "reference", "cupy"))


@PLATFORMS
@pytest.mark.parametrize("seed", range(100))
def test_random_configurations(seed: int, platform: str) -> None:
    compare(platform, seed)


@pytest.mark.slow
@PLATFORMS
@pytest.mark.parametrize("block", range(10))
def test_many_random_configurations(block: int, platform: str) -> None:
    for seed in range(1000 + 100 * block, 1100 + 100 * block):
        compare(platform, seed)


@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@PLATFORMS
@pytest.mark.parametrize("seed", range(10))
def test_float32(seed: int, platform: str) -> None:
    """Single precision on both sides: the same to its rounding."""
    config = configuration(seed)
    params, given, expected = by_torch(config, "float32")
    found = by_recurray(platform, config, params, given, "float32")
    assert_all_close(obtain(platform), found, expected, dtype="float32", tolerance=1e-5)


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


def test_the_configurations_differ_in_everything() -> None:
    """So that what `test_random_configurations` covers doesn't shrink unseen."""
    drawn = [configuration(seed) for seed in range(100)]
    for option in ("bidirectional", "bias", "batch_first"):
        assert 20 < sum(getattr(config.options, option) for config in drawn) < 80
    assert 20 < sum(config.ragged for config in drawn) < 80
    assert 10 < sum(not config.with_state for config in drawn) < 50
    assert 10 < sum(config.options.proj_size > 0 for config in drawn) < 50
    for layers in (1, 2, 3):
        assert sum(config.options.num_layers == layers for config in drawn) > 20
    assert sum(config.steps >= 5 and config.batch >= 2 for config in drawn) > 30
