"""Random configurations of `rr.GRU` and `rr.RNN` and of PyTorch's: outputs, states and every gradient side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import recurray as rr
from harness import assert_all_close, named, obtain
from harness.needs import need


@dataclass(frozen=True)
class Configuration:
    """``options`` are the constructor's, by the names that recurray and PyTorch share."""

    options: dict[str, Any]
    batch: int
    steps: int
    ragged: bool
    with_state: bool
    seed: int


def configuration(seed: int, **choices: tuple[Any, ...]) -> Configuration:
    """Draw a configuration; the same for the same seed. ``choices`` are further options and their values."""
    rng = np.random.default_rng(seed)

    def one_in(n: int) -> bool:
        return bool(rng.integers(n) == 0)

    options = {
        "input_size": int(rng.integers(1, 8)),
        "hidden_size": int(rng.integers(1, 8)),
        "num_layers": int(rng.integers(1, 4)),
        "bidirectional": one_in(2),
        "bias": not one_in(3),
        "batch_first": one_in(2),
    }
    options |= {name: values[rng.integers(len(values))] for name, values in choices.items()}
    return Configuration(options, int(rng.integers(1, 6)), int(rng.integers(1, 11)), one_in(2), not one_in(4), seed)


def by_torch(kind: str, config: Configuration, dtype: str = "float64") -> tuple[dict[str, Any], ...]:
    """A configuration's params, the arrays that go in, and what PyTorch makes of them by the names of `by_recurray`."""
    torch = need("torch")
    options, rng = config.options, np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    torch.set_num_threads(1)
    model = getattr(torch.nn, kind)(**options, dtype=getattr(torch, dtype))
    directions, hidden = 1 + options["bidirectional"], options["hidden_size"]

    def draw(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(dtype)

    def layout(features: int) -> tuple[int, int, int]:
        sizes = (config.batch, config.steps) if options["batch_first"] else (config.steps, config.batch)
        return (*sizes, features)

    place = options["num_layers"] * directions, config.batch, hidden
    given: dict[str, Any] = {"x": draw(*layout(options["input_size"])), "dy": draw(*layout(hidden * directions))}
    given |= {"dstate": draw(*place), "state": draw(*place) if config.with_state else None, "lengths": None}
    if config.ragged:
        given["lengths"] = rng.integers(1, config.steps + 1, config.batch)

    x = torch.tensor(given["x"], requires_grad=True)
    h = torch.tensor(np.zeros(place, dtype) if given["state"] is None else given["state"], requires_grad=True)
    if given["lengths"] is None:
        y, end = model(x, h)
    else:
        lengths = torch.tensor(given["lengths"])
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, options["batch_first"], enforce_sorted=False)
        y, end = model(packed, h)
        y, _ = torch.nn.utils.rnn.pad_packed_sequence(y, options["batch_first"], total_length=config.steps)
    torch.autograd.backward([y, end], [torch.tensor(given["dy"]), torch.tensor(given["dstate"])])
    found = {"y": y, "end.h": end, "dx": x.grad, "dstart.h": h.grad}
    found |= {f"dparam.{name}": value.grad for name, value in model.named_parameters()}
    return model.state_dict(), given, {name: value.detach().numpy() for name, value in found.items()}


def by_recurray(
    kind: str, platform: str, config: Configuration, params: dict[str, Any], given: dict[str, Any], dtype: str
) -> dict[str, Any]:
    """What the layer makes of it, PyTorch's state dict loaded as it is."""
    backend = obtain(platform)
    layer = getattr(rr, kind)(**config.options, backend=backend, dtype=dtype)
    assert list(layer.params) == list(params)
    layer.load_state_dict(params)
    state = None if given["state"] is None else rr.State(backend.asarray(given["state"]))
    y, end, cache = layer.forward(backend.asarray(given["x"]), state, given["lengths"])
    dx, dstart, grads = layer.backward(cache, backend.asarray(given["dy"]), rr.State(backend.asarray(given["dstate"])))
    found = {"y": y} | named("end", end) | {"dx": dx} | named("dstart", dstart)
    return found | {f"dparam.{name}": grads[name] for name in params}


def compare_with_torch(kind: str, platform: str, config: Configuration, dtype: str, tolerance: float) -> None:
    """Outputs, states and gradients of a configuration, here and there."""
    params, given, expected = by_torch(kind, config, dtype)
    found = by_recurray(kind, platform, config, params, given, dtype)
    assert_all_close(obtain(platform), found, expected, dtype=dtype, tolerance=tolerance)
