"""Random configurations of the LSTM, GRU and RNN here and of PyTorch's: outputs, states and gradients side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import recurray as rr
from harness import assert_all_close, named, obtain
from harness.needs import need

KINDS = ("LSTM", "GRU", "RNN")


@dataclass(frozen=True)
class Configuration:
    """``kind`` is the layer's class, ``options`` its constructor's, by the names that recurray and PyTorch share."""

    kind: str
    options: dict[str, Any]
    batch: int
    steps: int
    ragged: bool
    with_state: bool
    seed: int


def configuration(kind: str, seed: int) -> Configuration:
    """Draw a configuration; the same for the same seed."""
    rng = np.random.default_rng(seed)

    def one_in(n: int) -> bool:
        return bool(rng.integers(n) == 0)

    hidden = int(rng.integers(1, 8))
    options = {
        "input_size": int(rng.integers(1, 8)),
        "hidden_size": hidden,
        "num_layers": int(rng.integers(1, 4)),
        "bidirectional": one_in(2),
        "bias": not one_in(3),
        "batch_first": one_in(2),
    }
    if kind == "LSTM":
        options["proj_size"] = int(rng.integers(1, hidden)) if hidden > 1 and one_in(3) else 0
    if kind == "RNN":
        options["nonlinearity"] = ("tanh", "relu")[rng.integers(2)]
    sizes = int(rng.integers(1, 6)), int(rng.integers(1, 11))
    return Configuration(kind, options, *sizes, one_in(2), not one_in(4), seed)


def by_torch(config: Configuration, dtype: str) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """A configuration's params, the arrays that go in, and what PyTorch makes of them by the names of `by_recurray`."""
    torch = need("torch")
    options, rng = config.options, np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    model = getattr(torch.nn, config.kind)(**options, dtype=getattr(torch, dtype))
    directions, hidden = 1 + options["bidirectional"], options["hidden_size"]
    output = options.get("proj_size") or hidden
    states = {"h": output, "c": hidden} if config.kind == "LSTM" else {"h": hidden}

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def layout(features: int) -> tuple[int, int, int]:
        sizes = (config.batch, config.steps) if options["batch_first"] else (config.steps, config.batch)
        return (*sizes, features)

    def state() -> list[np.ndarray]:
        return [draw(options["num_layers"] * directions, config.batch, size) for size in states.values()]

    given: dict[str, Any] = {"x": draw(*layout(options["input_size"])), "dy": draw(*layout(output * directions))}
    given |= {"dstate": state(), "state": state() if config.with_state else None, "lengths": None}
    if config.ragged:
        given["lengths"] = rng.integers(1, config.steps + 1, config.batch)
        given["lengths"][rng.integers(config.batch)] = 1

    def leaf(a: np.ndarray) -> Any:
        return torch.tensor(a, requires_grad=True)

    x = leaf(given["x"])
    starts = [leaf(a) for a in given["state"] or map(np.zeros_like, given["dstate"])]
    start = tuple(starts) if len(starts) > 1 else starts[0]
    if given["lengths"] is None:
        y, end = model(x, start)
    else:
        lengths = torch.tensor(given["lengths"])
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, options["batch_first"], enforce_sorted=False)
        y, end = model(packed, start)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, options["batch_first"], total_length=config.steps)
    ends = end if len(starts) > 1 else [end]
    torch.autograd.backward([y, *ends], [torch.tensor(a) for a in (given["dy"], *given["dstate"])])
    found = {"y": y, "dx": x.grad}
    found |= {f"end.{name}": value for name, value in zip(states, ends, strict=True)}
    found |= {f"dstart.{name}": value.grad for name, value in zip(states, starts, strict=True)}
    found |= {f"dparam.{name}": value.grad for name, value in model.named_parameters()}
    return model.state_dict(), given, {name: value.detach().numpy() for name, value in found.items()}


def by_recurray(
    platform: str, config: Configuration, params: dict[str, Any], given: dict[str, Any], dtype: str
) -> dict[str, Any]:
    """What the layer makes of it, PyTorch's state dict loaded as it is."""
    backend = obtain(platform)
    layer = getattr(rr, config.kind)(**config.options, backend=backend, dtype=dtype)
    assert list(layer.params) == list(params)
    layer.load_state_dict(params)

    def state(arrays: Any) -> Any:
        return None if arrays is None else rr.State(*map(backend.asarray, arrays))

    y, end, cache = layer.forward(backend.asarray(given["x"]), state(given["state"]), given["lengths"])
    dx, dstart, grads = layer.backward(cache, backend.asarray(given["dy"]), state(given["dstate"]))
    found = {"y": y, "dx": dx} | named("end", end) | named("dstart", dstart)
    return found | {f"dparam.{name}": grads[name] for name in params}


def compare_with_torch(platform: str, config: Configuration, dtype: str, tolerance: float) -> None:
    """Outputs, states and gradients of a configuration, here and there."""
    params, given, expected = by_torch(config, dtype)
    found = by_recurray(platform, config, params, given, dtype)
    assert_all_close(obtain(platform), found, expected, dtype=dtype, tolerance=tolerance)
