"""Input that doesn't change over time: exactly as if it stood beside x at every step, on every backend."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from recurray.backend import Backend
from recurray.cells import MGUCell, ZoneoutCell

I, H, S = 2, 3, 4  # noqa: E741 - the input, hidden units, what doesn't change

MAKERS: dict[str, Any] = {
    "LSTM": lambda size, **o: rr.LSTM(size, H, **o),
    "LSTM, two layers, both directions": lambda size, **o: rr.LSTM(size, H, 2, bidirectional=True, **o),
    "LSTM, projected, reverse": lambda size, **o: rr.LSTM(size, H, proj_size=2, reverse=True, **o),
    "LSTM with everything": lambda size, **o: rr.LSTM(
        size, H, layer_norm=True, coupled=True, peepholes=True, learned_state=True, bidirectional=True, **o
    ),
    "LSTM without bias": lambda size, **o: rr.LSTM(size, H, bias=False, batch_first=False, **o),
    "GRU": lambda size, **o: rr.GRU(size, H, **o),
    "GRU, reset before": lambda size, **o: rr.GRU(size, H, reset_after=False, bidirectional=True, **o),
    "RNN": lambda size, **o: rr.RNN(size, H, nonlinearity="relu", recompute=2, **o),
    "DiagonalLSTM": lambda size, **o: rr.DiagonalLSTM(size, H, layer_norm=True, **o),
    "DiagonalLSTM, per gate": lambda size, **o: rr.DiagonalLSTM(size, H, projection="per_gate", reverse=True, **o),
    "any cell": lambda size, **o: rr.Recurrent(MGUCell(), size, H, bidirectional=True, **o),
}
FEW = ("LSTM, two layers, both directions", "GRU, reset before", "DiagonalLSTM")


def pair(name: str, backend: Any) -> tuple[Any, Any]:
    """A layer with static input, and one whose input has these features beside its own."""
    layer = MAKERS[name](I, static_size=S, backend=backend, dtype="float64", seed=1)
    rng = np.random.default_rng(2)
    params = {key: 0.6 * rng.standard_normal(value.shape) for key, value in layer.params.items()}
    layer.load_state_dict(params)
    tiled = MAKERS[name](I + S, backend=backend, dtype="float64", seed=1)
    tiled.load_state_dict(side_by_side(params))
    return layer, tiled


def side_by_side(arrays: dict[str, Any]) -> dict[str, Any]:
    """The two blocks of the input's weights as one, under the name of the first."""
    blocks = {key: value for key, value in arrays.items() if key.startswith("weight_static")}
    joined = {key: value for key, value in arrays.items() if key not in blocks}
    for key, value in blocks.items():
        first = next(name for name in (key.replace("static", "ih"), key.replace("static", "in")) if name in joined)
        joined[first] = np.concatenate([joined[first], value], axis=1)
    return joined


def leaves(state: Any) -> list[Any]:
    return [value for value in state if value is not None]


def both(name: str, backend: Backend, which: dict[str, Any], batch: int = 3, steps: int = 6) -> None:
    """Compare everything that both layers give, forward, inference and backward."""
    layer, tiled = pair(name, backend)
    rng = np.random.default_rng(3)
    layout = (lambda a: a) if layer.batch_first else (lambda a: a.swapaxes(0, 1))
    x, static = rng.standard_normal((batch, steps, I)), rng.standard_normal((batch, S))
    beside = np.concatenate([x, np.broadcast_to(static[:, None], (batch, steps, S))], axis=2)
    which = {key: value if key == "lengths" else layout(value) for key, value in which.items()}
    on, off = backend.asarray, backend.to_numpy
    _, end = tiled(on(layout(beside)))
    start = type(end)(*(None if a is None else on(rng.standard_normal(a.shape)) for a in end))
    dend = type(end)(*(None if a is None else on(rng.standard_normal(a.shape)) for a in end))
    y, end, cache = layer.forward(on(layout(x)), start, static=on(static), **which)
    y_tiled, end_tiled, cache_tiled = tiled.forward(on(layout(beside)), start, **which)
    inference, _ = layer(on(layout(x)), start, static=on(static), **which)
    dy = on(rng.standard_normal(y.shape))
    dx, dstart, grads = layer.backward(cache, dy, dend)
    dx_tiled, dstart_tiled, grads_tiled = tiled.backward(cache_tiled, dy, dend)
    assert list(grads) == list(layer.params)
    assert dx.x.shape == x.shape if layer.batch_first else True
    grads = side_by_side({key: off(value) for key, value in grads.items()})
    of_beside = layout(off(dx_tiled))
    pairs = {"y": (y, y_tiled), "inference": (inference, y_tiled)}
    pairs |= {f"end {k}": both for k, both in enumerate(zip(leaves(end), leaves(end_tiled), strict=True))}
    pairs |= {f"dstart {k}": both for k, both in enumerate(zip(leaves(dstart), leaves(dstart_tiled), strict=True))}
    compared = {key: (off(a), off(b)) for key, (a, b) in pairs.items()}
    compared |= {"dx": (layout(off(dx.x)), of_beside[..., :I])}
    compared |= {"dstatic": (off(dx.static), of_beside[..., I:].sum(axis=1))}
    compared |= {key: (grads[key], off(value)) for key, value in grads_tiled.items()}
    for key, (found, expected) in compared.items():
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11, err_msg=key)


def some(kind: str, batch: int = 3, steps: int = 6) -> dict[str, Any]:
    rng = np.random.default_rng(4)
    mask, resets = rng.random((batch, steps)) < 0.6, rng.random((batch, steps)) < 0.3
    mask[1] = False
    return {
        "whole": {},
        "lengths": {"lengths": [2, 6, 0]},
        "mask": {"mask": mask},
        "resets": {"resets": resets},
        "both": {"mask": mask, "resets": resets},
    }[kind]


@pytest.mark.parametrize("kind", ["whole", "both"])
@pytest.mark.parametrize("name", FEW)
def test_it_is_as_if_it_stood_beside_x(name: str, kind: str, backend: Backend) -> None:
    both(name, backend, some(kind))


@pytest.mark.parametrize("kind", ["whole", "lengths", "mask", "resets", "both"])
@pytest.mark.parametrize("platform", ["numpy", "native", "reference"])
@pytest.mark.parametrize("name", MAKERS)
def test_every_layer_with_rows_of_every_kind(name: str, platform: str, kind: str) -> None:
    both(name, obtain(platform), some(kind))


@pytest.mark.parametrize("platform", ["numpy", "native", "reference"])
@pytest.mark.parametrize("name", FEW)
def test_batches_of_one_row_and_of_none_and_pieces_in_groups(name: str, platform: str) -> None:
    both(name, obtain(platform), {}, batch=1, steps=5)
    both(name, obtain(platform), {}, batch=0, steps=5)
    both(name, obtain(platform), {}, batch=2, steps=0)
    resets = np.zeros((2, 40), dtype=bool)
    resets[0, 20:] = True  # one long piece and many short ones, which are run apart
    both(name, obtain(platform), {"resets": resets}, batch=2, steps=40)


@pytest.mark.parametrize("platform", ["numpy", "native", "reference"])
def test_many_steps(platform: str) -> None:
    both("LSTM, two layers, both directions", obtain(platform), {"resets": some("resets", 3, 150)["resets"]}, 3, 150)


@pytest.mark.parametrize("name", MAKERS)
def test_finite_differences(name: str) -> None:
    layer, _ = pair(name, "numpy")
    which = some("both")
    layout = (lambda a: a) if layer.batch_first else (lambda a: a.T)
    report = rr.check_gradients(layer, **{key: layout(value) for key, value in which.items()}, samples=6)
    assert report.ok, f"\n{report}"
    assert "static" in [row.name for row in report.rows]


def test_a_wrong_gradient_shows_in_the_check(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = rr.LSTM(I, H, static_size=S, seed=0)
    backward = rr.LSTM.backward

    def doubled(self: Any, cache: Any, dy: Any, dstate: Any = None) -> Any:
        dx, dstart, grads = backward(self, cache, dy, dstate)
        return dx._replace(static=dx.static * 2), dstart, grads

    monkeypatch.setattr(rr.LSTM, "backward", doubled)
    report = rr.check_gradients(layer)
    assert [row.name for row in report.rows if not row.ok] == ["static"]


def test_dropout_and_weight_dropout_leave_it_alone() -> None:
    layer = rr.LSTM(
        I, H, 2, static_size=S, dropout=0.4, weight_dropout=0.3, recurrent_dropout=0.2, zoneout_h=0.1, seed=0
    )
    report = rr.check_gradients(layer, resets=some("resets")["resets"])
    assert report.ok, f"\n{report}"


# Against PyTorch ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_pytorch_with_the_features_at_every_step(kind: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    layer = getattr(rr, kind)(I, H, 2, static_size=S, bidirectional=True, dtype="float64", seed=3)
    other = getattr(torch.nn, kind)(I + S, H, 2, bidirectional=True, batch_first=True, dtype=torch.float64)
    other.load_state_dict({key: torch.tensor(value) for key, value in side_by_side(layer.state_dict()).items()})
    x, static, dy = rng.standard_normal((4, 7, I)), rng.standard_normal((4, S)), rng.standard_normal((4, 7, 2 * H))
    y, _, cache = layer.forward(x, static=static)
    dx, _, grads = layer.backward(cache, dy)
    x_torch, static_torch = (torch.tensor(a, requires_grad=True) for a in (x, static))
    y_torch, _ = other(torch.cat([x_torch, static_torch[:, None].expand(4, 7, S)], dim=2))
    y_torch.backward(torch.tensor(dy))
    np.testing.assert_allclose(y, y_torch.detach().numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx.x, x_torch.grad.numpy(), rtol=0, atol=1e-12)
    np.testing.assert_allclose(dx.static, static_torch.grad.numpy(), rtol=0, atol=1e-12)
    expected = {key: value.grad.numpy() for key, value in other.named_parameters()}
    for key, value in side_by_side(grads).items():
        np.testing.assert_allclose(value, expected[key], rtol=0, atol=1e-12, err_msg=key)


# Around it ------------------------------------------------------------------------------------------------------------


def test_names_shapes_and_start_values() -> None:
    layer = rr.GRU(I, H, 2, bidirectional=True, static_size=S, seed=0)
    shapes = {key: value.shape for key, value in layer.params.items() if "static" in key}
    assert shapes == {"weight_static_l0": (3 * H, S), "weight_static_l0_reverse": (3 * H, S)}
    assert 0 < abs(layer.params["weight_static_l0"]).max() <= H**-0.5
    assert rr.DiagonalLSTM(I, H, static_size=S, seed=0).params["weight_static"].shape == (H, S)
    assert "static_size=4" in repr(layer)
    with pytest.raises(ValueError, match="static_size must be"):
        rr.LSTM(I, H, static_size=-1)


def test_a_cells_own_param_may_have_the_name_where_there_is_no_static_input() -> None:
    class Named(rr.Cell):
        input_gates = ("a",)
        pointwise = {"weight_static": ("u",)}  # noqa: RUF012 - nobody changes it

        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            return {"h": before.h + params.weight_static.u * x.a}, {"a": x.a}

        def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> Any:
            u = {"weight_static": {"u": d.h * saved.a}}
            return rr.CellGradients(x={"a": d.h * params.weight_static.u}, h={}, before={"h": d.h}, params=u)

    assert rr.check_gradients(rr.Recurrent(Named(), I, H, seed=0)).ok
    with pytest.raises(ValueError, match="Named can't have a param named 'weight_static'"):
        rr.Recurrent(Named(), I, H, static_size=S)


def test_bad_input() -> None:
    layer, x = rr.LSTM(I, H, static_size=S, seed=0), np.ones((2, 5, I), dtype="float32")
    with pytest.raises(ValueError, match=r"static must be given, an array \(2, 4\): this LSTM has static_size=4"):
        layer(x)
    with pytest.raises(ValueError, match=r"static must be given"):
        layer(x[:1, :1])  # one step of one row, which goes a shorter way
    with pytest.raises(ValueError, match=r"static must have the shape \(2, 4\), not \(3, 4\)"):
        layer(x, static=np.ones((3, S)))
    with pytest.raises(TypeError, match="static must be floating-point numbers, not int64"):
        layer(x, static=np.ones((2, S), dtype="int64"))
    with pytest.raises(TypeError, match="static must be"):
        layer(x, static="catchment")
    with pytest.raises(ValueError, match="static must be None: this LSTM was made without it, with static_size=0"):
        rr.LSTM(I, H)(x, static=np.ones((2, S)))
    with pytest.raises(ValueError, match="static must be None: Linear isn't recurrent"):
        rr.Linear(I, H)(x, static=np.ones((2, S)))
    for cache in (layer.forward(x, static=np.ones((2, S)))[2],):
        with pytest.raises(ValueError, match="cache must be of a layer with static_size 0"):
            rr.LSTM(I, H).backward(cache, np.ones((2, 5, H), dtype="float32"))


def test_a_sequential_hands_it_to_the_layers_that_take_it() -> None:
    rng = np.random.default_rng(6)
    parts = [
        rr.Linear(I, I, seed=0, dtype="float64"),
        rr.LSTM(I, H, static_size=S, seed=1, dtype="float64"),
        rr.GRU(H, H, seed=2, dtype="float64"),
        rr.Sequential(rr.RNN(H, H, static_size=S, bidirectional=True, seed=3, dtype="float64")),
        rr.Final(),
        rr.Linear(2 * H, 2, seed=4, dtype="float64"),
    ]
    model = rr.Sequential(*parts)
    assert model.static_size == S
    x, static = rng.standard_normal((3, 5, I)), rng.standard_normal((3, S))
    report = rr.check_gradients(model, mask=some("mask", 3, 5)["mask"], resets=some("resets", 3, 5)["resets"], steps=5)
    assert report.ok, f"\n{report}"
    y, _, cache = model.forward(x, static=static)
    dx, _, _ = model.backward(cache, np.ones_like(y))
    assert isinstance(dx, rr.InputGradients)
    assert dx.x.shape == x.shape
    assert dx.static.shape == static.shape
    with pytest.raises(ValueError, match=r"layer 1, LSTM: static must be given, an array \(3, 4\)"):
        model(x)
    with pytest.raises(ValueError, match="static must be None: no layer has a static_size"):
        rr.Sequential(rr.LSTM(I, H), rr.Linear(H, 2))(x, static=static)
    with pytest.raises(
        ValueError, match=r"layers that take static must have one static_size, .* layer 1 has 4, layer 2 5"
    ):
        rr.Sequential(*parts[:2], rr.LSTM(H, H, static_size=5, dtype="float64"))


def test_after_an_embedding_the_gradient_of_x_is_none() -> None:
    model = rr.Sequential(rr.Embedding(7, I, seed=0), rr.LSTM(I, H, static_size=S, seed=1))
    y, _, cache = model.forward(np.array([[1, 2, 3], [4, 5, 6]]), static=np.ones((2, S), dtype="float32"))
    dx, _, _ = model.backward(cache, np.ones_like(y))
    assert dx.x is None
    assert dx.static.shape == (2, S)


@pytest.mark.parametrize("cut", [1, 3])
def test_a_stream_keeps_what_it_was_given(cut: int) -> None:
    rng = np.random.default_rng(7)
    model = rr.Sequential(
        rr.LSTM(I, H, static_size=S, dtype="float64", seed=0), rr.Linear(H, 2, dtype="float64", seed=1)
    )
    x, static = rng.standard_normal((1, 6, I)), rng.standard_normal((1, S))
    whole, _ = model(x, static=static)
    stream = rr.Streaming(model)
    with pytest.raises(ValueError, match="static must be given"):
        stream(x[:, :cut])
    chunks = [stream(x[:, :cut], static=static)]
    chunks += [stream(x[:, first : first + cut]) for first in range(cut, 6, cut)]
    np.testing.assert_allclose(np.concatenate(chunks, axis=1), whole, rtol=0, atol=1e-12)
    moved = stream.to(dtype="float32")
    assert moved.static.dtype == np.float32
    stream.reset()
    with pytest.raises(ValueError, match="static must be given"):
        stream(x[:, :cut])
    other = rng.standard_normal((1, S))
    np.testing.assert_allclose(stream(x, static=other), model(x, static=other)[0], rtol=0, atol=1e-12)


def test_a_trace_has_it_in_its_gates() -> None:
    layer, tiled = pair("LSTM, two layers, both directions", "numpy")
    rng = np.random.default_rng(8)
    x, static = rng.standard_normal((3, 6, I)), rng.standard_normal((3, S))
    beside = np.concatenate([x, np.broadcast_to(static[:, None], (3, 6, S))], axis=2)
    which = some("both")
    found, expected = layer.trace(x, static=static, **which), tiled.trace(beside, **which)
    for part, right in zip(found, expected, strict=True):
        assert list(part) == list(right)
        for name in right:
            np.testing.assert_allclose(part[name], right[name], rtol=0, atol=1e-12, err_msg=name)
    assert layer.trace(x[:, :0], static=static)[0]["i"].shape == (3, 0, H)


def test_a_cache_can_be_used_again_pickled_and_params_replaced() -> None:
    layer = rr.GRU(I, H, static_size=S, dtype="float64", seed=0)
    rng = np.random.default_rng(9)
    x, static = rng.standard_normal((3, 6, I)), rng.standard_normal((3, S))
    y, _, cache = layer.forward(x, static=static, mask=some("mask")["mask"])
    first = layer.backward(cache, np.ones_like(y))
    again = pickle.loads(pickle.dumps(cache))
    layer.params["weight_static_l0"] = layer.params["weight_static_l0"] * 2
    for kept in (cache, again, copy.deepcopy(cache)):
        dx, _, grads = layer.backward(kept, np.ones_like(y))
        np.testing.assert_array_equal(dx.static, first[0].static)
        np.testing.assert_array_equal(grads["weight_static_l0"], first[2]["weight_static_l0"])


def test_nothing_is_written_to_and_float32_stays_so() -> None:
    layer = rr.Recurrent(ZoneoutCell(rr.cells.LSTMCell(), 0.2), I, H, static_size=S, seed=0)
    x, static = np.ones((2, 5, I), dtype="float32"), np.ones((2, S), dtype="float32")
    for a in (x, static, *layer.params.values()):
        a.flags.writeable = False
    y, _, cache = layer.forward(x, static=static)
    dx, _, grads = layer.backward(cache, np.ones_like(y))
    assert {a.dtype for a in (y, dx.x, dx.static, *grads.values())} == {np.dtype("float32")}
