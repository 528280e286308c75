"""The diagonal LSTM's own: it is the full LSTM with diagonal blocks, and how its params start."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, assert_all_same, assert_same, host, named
from recurray.backend import Backend

B, T, I, H = 4, 6, 2, 3  # noqa: E741


@pytest.mark.parametrize("noise", [{}, {"recurrent_dropout": 0.4, "zoneout_h": 0.3, "zoneout_c": 0.2}], ids=str)
@pytest.mark.parametrize("lengths", [None, [4, 0, 6, 1]])
@pytest.mark.parametrize("projection", ["shared", "per_gate"])
def test_equals_the_full_lstm_with_diagonal_blocks(
    projection: str, lengths: Any, noise: dict[str, float], backend: Backend
) -> None:
    """Outputs, states, and every gradient mapped through the blocks: W_ih,k = diag(u_k) W and W_hh,k = diag(w_k).

    With dropout and zoneout too, whose draws are the same.
    """
    options: dict[str, Any] = {"backend": backend, "dtype": "float64", **noise}
    diagonal = rr.DiagonalLSTM(I, H, projection=projection, seed=0, **options)
    params = diagonal.state_dict()
    shared = projection == "shared"
    blocks = params["u"][:, :, None] * params["weight_in"] if shared else params["weight_in"].reshape(4, H, I)
    full = rr.LSTM(I, H, **options, params={
        "weight_ih_l0": blocks.reshape(4 * H, I),
        "weight_hh_l0": np.concatenate([np.diag(row) for row in params["w"]]),
        "bias_ih_l0": params["b"].reshape(-1),
        "bias_hh_l0": np.zeros(4 * H),
    })  # fmt: skip

    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((B, T, I)), rng.standard_normal((B, T, H))
    start, dend = (rr.State(*(backend.asarray(rng.standard_normal((1, B, H))) for _ in "hc")) for _ in range(2))

    def run(layer: rr.Layer) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        y, end, cache = layer.forward(backend.asarray(x), start, lengths, rng=np.random.default_rng(1))
        dx, dstart, grads = layer.backward(cache, backend.asarray(dy), dend)
        found = {"y": y} | named("end", end) | {"dx": dx} | named("dstart", dstart)
        return found, host(backend, grads)

    found, grads = run(diagonal)
    expected, full_grads = run(full)
    assert_all_close(backend, found, host(backend, expected), tolerance=1e-13)

    dblocks = full_grads["weight_ih_l0"].reshape(4, H, I)
    mapped = {
        "w": np.stack([np.diag(block) for block in full_grads["weight_hh_l0"].reshape(4, H, H)]),
        "b": full_grads["bias_ih_l0"].reshape(4, H),
    }
    if shared:
        mapped["u"] = (dblocks * params["weight_in"]).sum(axis=2)
        mapped["weight_in"] = (params["u"][:, :, None] * dblocks).sum(axis=0)
    else:
        mapped["weight_in"] = dblocks.reshape(4 * H, I)
    assert set(mapped) == set(grads)
    for name, value in mapped.items():
        np.testing.assert_allclose(grads[name], value, rtol=0, atol=1e-12, err_msg=name)


def test_units_see_only_their_own_past(backend: Backend) -> None:
    """A change of one unit's start state changes that unit's outputs and no other's."""
    layer = rr.DiagonalLSTM(I, H, backend=backend, dtype="float64", seed=0)
    x = backend.asarray(np.random.default_rng(0).standard_normal((B, T, I)))
    h = np.zeros((1, B, H))
    before = backend.to_numpy(layer(x, rr.State(backend.asarray(h), backend.asarray(h)))[0])
    moved = h.copy()
    moved[:, :, 1] = 1.0
    after = backend.to_numpy(layer(x, rr.State(backend.asarray(moved), backend.asarray(h)))[0])
    assert_same(after[:, :, [0, 2]], before[:, :, [0, 2]])
    assert (after[:, :, 1] != before[:, :, 1]).all()


def test_params_start_from_the_seed_on_every_backend(backend: Backend) -> None:
    for projection, names in (
        ("shared", {"weight_in": (100, I), "u": (4, 100), "w": (4, 100), "b": (4, 100)}),
        ("per_gate", {"weight_in": (400, I), "w": (4, 100), "b": (4, 100)}),
    ):
        options: dict[str, Any] = {"projection": projection, "dtype": "float64", "seed": 3}
        params = rr.DiagonalLSTM(I, 100, backend=backend, **options).state_dict()
        assert {name: value.shape for name, value in params.items()} == names
        assert_all_same(params, rr.DiagonalLSTM(I, 100, **options).state_dict())
        for value in params.values():
            assert 0.09 < np.abs(value).max() < 0.1
            assert abs(value.mean()) < 0.02


@pytest.mark.parametrize("projection", ["shared", "per_gate"])
def test_forget_bias(projection: str, backend: Backend) -> None:
    options: dict[str, Any] = {"projection": projection, "backend": backend, "seed": 0}
    params = rr.DiagonalLSTM(I, H, forget_bias=2.5, **options).state_dict()
    plain = rr.DiagonalLSTM(I, H, **options).state_dict()
    assert (params["b"][1] == 2.5).all()
    assert_same(params["b"][[0, 2, 3]], plain["b"][[0, 2, 3]])
    assert_all_same(params | {"b": plain["b"]}, plain)


def test_repr_tells_sizes_and_options() -> None:
    layer = rr.DiagonalLSTM(2, 3, projection="per_gate", batch_first=False)
    assert repr(layer) == (
        "DiagonalLSTM(2, 3, projection='per_gate', batch_first=False, backend='numpy', dtype='float32')  # 48 params"
    )
