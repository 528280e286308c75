"""Layers by name as one model: its params, its gradients, its copies and its files; and params that are tied."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import array_api_strict
import numpy as np
import pytest

import recurray as rr
from harness.needs import need

B, S, T, V, H = 3, 6, 5, 7, 4


class Seq2Seq(rr.Model):
    """The decoder begins with the encoder's final state; the output's weight may be the embedding's."""

    def forward(self, x: Any, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None) -> Any:
        target = x[:, :T]
        source, _, embedding = self.embedding.forward(x)
        encoded, state, encoding = self.encoder.forward(source, state, lengths, training, rng)
        target, _, embedding_of_target = self.embedding.forward(target)
        y, state, decoding = self.decoder.forward(target, state, None, training, rng)
        y, _, output = self.output.forward(y)
        return y, state, (embedding, encoding, embedding_of_target, decoding, output, encoded * 0)

    def backward(self, cache: Any, dy: Any, dstate: Any = None) -> Any:
        embedding, encoding, embedding_of_target, decoding, output, nothing = cache
        dy, _, of_output = self.output.backward(output, dy)
        dtarget, dstate, of_decoder = self.decoder.backward(decoding, dy, dstate)
        _, _, of_target = self.embedding.backward(embedding_of_target, dtarget)
        dsource, dstate, of_encoder = self.encoder.backward(encoding, nothing, dstate)
        _, _, of_embedding = self.embedding.backward(embedding, dsource)
        both = {name: value + of_target[name] for name, value in of_embedding.items()}
        return None, dstate, self.joined(embedding=both, encoder=of_encoder, decoder=of_decoder, output=of_output)


class Sized(Seq2Seq):
    """With a constructor of its own, that can be told in a file."""

    def __init__(self, symbols: int, hidden_size: int, dropout: float = 0.0, dtype: str = "float32") -> None:
        self.symbols, self.hidden_size, self.dropout = symbols, hidden_size, dropout
        super().__init__(**parts(symbols, hidden_size, dropout, dtype), tie=TIE)


TIE = {"output.weight": "embedding.weight"}


def parts(symbols: int = V, hidden: int = H, dropout: float = 0.0, dtype: str = "float64") -> dict[str, rr.Layer]:
    return {
        "embedding": rr.Embedding(symbols, hidden, seed=0, dtype=dtype),
        "encoder": rr.GRU(hidden, hidden, 2, dropout=dropout, seed=1, dtype=dtype),
        "decoder": rr.GRU(hidden, hidden, 2, seed=2, dtype=dtype),
        "output": rr.Linear(hidden, symbols, seed=3, dtype=dtype),
    }


def problem(seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return rng.integers(0, V, (B, S)), rng.standard_normal((B, T, V))


@pytest.mark.parametrize("tie", [None, TIE])
def test_gradients_are_finite_differences(tie: dict[str, str] | None) -> None:
    model = Seq2Seq(**parts(), tie=tie)
    x, dy = problem()
    rng = np.random.default_rng(1)
    state = rr.State(rng.standard_normal((2, B, H)))
    dstate = rr.State(rng.standard_normal((2, B, H)))

    def loss() -> float:
        y, end, _ = model.forward(x, state)
        return float(np.sum(y * dy) + np.sum(end.h * dstate.h))

    _, _, cache = model.forward(x, state)
    _, dstart, grads = model.backward(cache, dy, dstate)
    assert list(grads) == list(model.params)
    assert ("output.weight" in grads) == (tie is None)
    for name, value in [*model.params.items()]:
        direction = rng.standard_normal(value.shape)
        losses = []
        for size in (1e-6, -1e-6):
            model.params[name] = value + size * direction
            losses.append(loss())
        model.params[name] = value
        np.testing.assert_allclose(np.sum(grads[name] * direction), (losses[0] - losses[1]) / 2e-6, rtol=1e-6)
    assert np.any(dstart.h != 0)


@pytest.mark.parametrize("sequential", [False, True])
def test_tied_params_train_as_pytorchs(sequential: bool) -> None:
    torch = need("torch")
    rnn, linear, embedding = torch.nn.GRU(H, H, batch_first=True), torch.nn.Linear(H, V), torch.nn.Embedding(V, H)
    for module in (rnn, linear, embedding):
        module.double()
    linear.weight = embedding.weight
    theirs = torch.nn.ModuleList([embedding, rnn, linear])
    layers = [rr.Embedding(V, H, dtype="float64"), rr.GRU(H, H, dtype="float64"), rr.Linear(H, V, dtype="float64")]
    ours = rr.Sequential(*layers, tie={"2.weight": "0.weight"})
    model = ours if sequential else rr.Model(inner=ours)
    prefix = "" if sequential else "inner."
    start = {prefix + name: tensor.detach().numpy() for name, tensor in theirs.state_dict().items()}
    del start[prefix + "2.weight"]
    model.load_state_dict(start)
    optimizer = rr.optim.Adam(model.params, lr=0.1)
    oracle = torch.optim.Adam(theirs.parameters(), lr=0.1)
    x, dy = problem()
    dy = np.concatenate([dy, dy[:, :1]], axis=1)
    for _ in range(3):
        _, _, cache = ours.forward(x)
        grads = ours.backward(cache, dy)[2]
        grads, _ = rr.optim.clip_grad_norm(grads if sequential else model.joined(inner=grads), 1.0)
        optimizer.step(grads)
        oracle.zero_grad()
        torch.sum(linear(rnn(embedding(torch.tensor(x)))[0]) * torch.tensor(dy)).backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        oracle.step()
    for name, tensor in theirs.named_parameters():
        np.testing.assert_allclose(model.params[prefix + name], tensor.detach().numpy(), rtol=1e-9, atol=1e-12)
    assert layers[2].params["weight"] is layers[0].params["weight"]


def test_params_are_the_layers_own_and_tied_ones_are_one_array() -> None:
    model = Seq2Seq(**parts(), tie=TIE)
    assert "output.weight" not in model.params
    assert len(model.params) == len([*model.params]) == len(model.state_dict())
    assert model.param_count() == sum(value.size for value in model.params.values())
    assert model.output.params["weight"] is model.embedding.params["weight"]
    assert model.layers["output"] is model.output
    new = np.ones((V, H))
    model.params["embedding.weight"] = new
    assert model.output.params["weight"] is model.embedding.params["weight"] is new
    for access in (lambda: model.params["output.weight"], lambda: model.params.update({"output.weight": new})):
        with pytest.raises(KeyError, match=r"'output\.weight' is tied to 'embedding\.weight'"):
            access()
    again = model.to(dtype="float32")
    assert again.output.params["weight"] is again.embedding.params["weight"]
    assert again.embedding is not model.embedding
    assert again.embedding.params["weight"] is not model.embedding.params["weight"]
    assert (again.dtype, again.decoder.dtype) == ("float32", "float32")
    assert "tie={'output.weight': 'embedding.weight'}" in repr(again)
    again.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})
    assert np.all(again.output.params["weight"] == 2)


def test_to_another_library() -> None:
    model = Seq2Seq(**parts(), tie=TIE)
    x, dy = problem()
    there = model.to(array_api_strict)
    y, _, cache = model.forward(x)
    y_there, _, cache_there = there.forward(array_api_strict.asarray(x))
    np.testing.assert_allclose(np.from_dlpack(y_there), y, rtol=1e-12)
    grads = model.backward(cache, dy)[2]
    grads_there = there.backward(cache_there, array_api_strict.asarray(dy))[2]
    for name, value in grads.items():
        np.testing.assert_allclose(np.from_dlpack(grads_there[name]), value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "cells"),
    [
        (lambda: Seq2Seq(**parts(), tie=TIE), [Seq2Seq]),
        (lambda: Seq2Seq(**parts()), [Seq2Seq]),
        (lambda: Sized(V, H, 0.25), [Sized]),
        (lambda: rr.Model(a=Seq2Seq(**parts(), tie=TIE), b=rr.Linear(3, 2, dtype="float64")), [Seq2Seq]),
        (lambda: rr.Model(rest=rr.Sequential(rr.Linear(4, 4), rr.Linear(4, 4), tie={"1.weight": "0.weight"})), None),
    ],
    ids=["tied", "not tied", "own constructor", "nested", "sequential"],
)
def test_comes_back_from_a_file(make: Any, cells: Any, tmp_path: Path) -> None:
    model, path = make(), tmp_path / "model.safetensors"
    rr.save(model, path)
    again = rr.load(path, cells=cells)
    assert repr(again) == repr(model)
    assert again.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], value, strict=True)
    assert rr.load(path, np, cells).backend == rr.get_backend(np)  # type: ignore[arg-type]
    if hasattr(again, "embedding"):
        assert (again.output.params["weight"] is again.embedding.params["weight"]) == bool(again.tie)
        x, _ = problem()
        assert np.array_equal(again(x)[0], model(x)[0])


def test_one_backend_and_one_dtype() -> None:
    model = rr.Model(rnn=rr.LSTM(3, 4, seed=0), rest=rr.Last(), backend=array_api_strict)
    assert model.rnn.backend == model.rest.backend == model.backend == rr.get_backend(array_api_strict)
    with pytest.raises(ValueError, match=r"one dtype, but layer a \(Linear\) has float32, layer b \(Linear\) float64"):
        rr.Model(a=rr.Linear(2, 3, dtype="float32"), b=rr.Linear(2, 3, dtype="float64"))


def test_draws_are_its_own_after_to() -> None:
    model = Seq2Seq(**parts(dropout=0.5))
    x, _ = problem()
    again = model.to()
    assert np.array_equal(model.forward(x)[0], again.forward(x)[0])


def test_a_gradient_that_is_missing_is_left_out() -> None:
    model = rr.Model(a=rr.Linear(2, 3), b=rr.Linear(3, 2, bias=False), c=rr.Linear(3, 2), tie={"c.weight": "b.weight"})
    weight = np.ones((2, 3))
    found = model.joined(c={"weight": weight})
    assert list(found) == ["b.weight"]
    assert found["b.weight"] is weight


LINEAR: Any = rr.Linear(2, 3)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rr.Model(), ValueError, "a Model needs at least one layer, by name"),
        (lambda: rr.Model(a=3), TypeError, "layer a must be a recurray layer, not int"),
        (lambda: rr.Model(a=LINEAR, b=LINEAR), ValueError, "layer b stands in an earlier place too"),
        (lambda: rr.Model(params=LINEAR), ValueError, "a layer of Model can't be named 'params'"),
        (lambda: rr.Model(**{"a.b": LINEAR}), ValueError, r"a layer of Model can't be named 'a\.b'"),
        (lambda: rr.Model(a=LINEAR, tie=["a"]), TypeError, "tie must be a mapping of names of params"),
        (lambda: rr.Model(a=LINEAR, tie={"a.w": "a.weight"}), ValueError, r"tie: there is no param 'a\.w'; there are"),
        (lambda: rr.Model(a=LINEAR, tie={"a.bias": "a.weight"}), ValueError, r"one array can't be both"),
        (lambda: rr.Model(a=LINEAR, tie={"a.bias": "a.bias"}), ValueError, r"which is tied itself"),
        (lambda: rr.Model(a=LINEAR).joined(b={}), ValueError, "there is no layer 'b'; there are a"),
        (lambda: rr.Model(a=LINEAR).joined(a=[1]), TypeError, "the gradients of a must be a mapping"),
        (lambda: rr.Model(a=LINEAR).joined(a={"w": 1}), ValueError, "the layer a has no params 'w'"),
        (lambda: rr.Model(a=LINEAR)(np.ones((2, 3))), TypeError, "write forward in a subclass"),
        (lambda: rr.Model(a=LINEAR).backward(None, 1), TypeError, "write backward in a subclass"),
        (lambda: rr.Model(a=LINEAR).c, AttributeError, "Model has no 'c'"),
        (lambda: setattr(rr.Model(a=LINEAR), "a", 3), AttributeError, "the layer 'a' of a Model stays"),
    ],
)
def test_refusals(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()
