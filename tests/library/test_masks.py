"""Lengths as masks, and masks with fewer axes than a loss has."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.losses import LOSSES
from harness.needs import need
from recurray.backend import Backend

LENGTHS = [3, 0, 5, 1]
MASK = np.array([[True] * n + [False] * (5 - n) for n in LENGTHS])


class TestLengthsToMask:
    @pytest.mark.parametrize("batch_first", [True, False])
    @pytest.mark.parametrize("steps", [None, 5, 7])
    @pytest.mark.parametrize("dtype", ["uint8", "int32", "int64"])
    def test_on_every_backend(self, dtype: str, steps: int | None, batch_first: bool, backend: Backend) -> None:
        lengths = backend.asarray(np.array(LENGTHS, dtype))
        mask = rr.lengths_to_mask(lengths, steps, batch_first)
        assert backend.owns(mask)
        assert backend.on_device(mask)
        wanted = np.pad(MASK, ((0, 0), (0, (steps or 5) - 5)))
        np.testing.assert_array_equal(backend.to_numpy(mask), wanted if batch_first else wanted.T)

    def test_says_to_a_layer_what_lengths_say(self, backend: Backend) -> None:
        layer = rr.GRU(2, 3, backend=backend, batch_first=False, seed=0)
        x = backend.asarray(np.random.default_rng(0).standard_normal((5, 4, 2)), "float32")
        y, state = layer(x, lengths=LENGTHS)
        other, end = layer(x, mask=rr.lengths_to_mask(backend.asarray(LENGTHS), batch_first=False))
        np.testing.assert_array_equal(backend.to_numpy(other), backend.to_numpy(y))
        np.testing.assert_array_equal(backend.to_numpy(end.h), backend.to_numpy(state.h))

    def test_sequences_give_numpys(self) -> None:
        for lengths in (LENGTHS, tuple(LENGTHS), range(4), [np.int64(2), np.int64(3)]):
            mask = rr.lengths_to_mask(lengths)
            assert type(mask) is np.ndarray
            assert mask.sum(axis=1).tolist() == list(lengths)

    def test_no_rows_and_no_steps(self) -> None:
        assert rr.lengths_to_mask([]).shape == (0, 0)
        assert rr.lengths_to_mask([], steps=3, batch_first=False).shape == (3, 0)
        assert rr.lengths_to_mask([0, 0]).shape == (2, 0)

    def test_within_jit(self) -> None:
        jax = need("jax")
        masks = jax.jit(lambda lengths: rr.lengths_to_mask(lengths, steps=5))
        np.testing.assert_array_equal(masks(jax.numpy.asarray(LENGTHS)), MASK)
        with pytest.raises(TypeError, match=r"steps must be given .*jax.jit"):
            jax.jit(rr.lengths_to_mask)(jax.numpy.asarray(LENGTHS))

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            (([3, -1],), ValueError, "between 0 and the 3 steps, but row 1 has -1"),
            (([1, 4], 3), ValueError, "between 0 and the 3 steps, but row 1 has 4"),
            (([[1, 2]],), ValueError, r"shape \(batch,\), one for each row, not \(1, 2\)"),
            ((3,), ValueError, r"shape \(batch,\), one for each row, not \(\)"),
            (([1.0, 2.0],), TypeError, "lengths must be integers, not float64"),
            (([True, False],), TypeError, "lengths must be integers, not bool"),
            (([[1], [1, 2]],), TypeError, "one integer for each row"),
            ((["a"],), TypeError, "lengths must be integers"),
            ((None,), (TypeError, ValueError), "lengths must"),
            (([1], 2.0), TypeError, "steps must be an integer"),
            (([1], -1), ValueError, "steps must be at least 0"),
            (([1], 2, 1), TypeError, "batch_first must be True or False"),
        ],
    )
    def test_refusals(self, arguments: tuple[Any, ...], error: Any, message: str) -> None:
        with pytest.raises(error, match=message):
            rr.lengths_to_mask(*arguments)


@pytest.mark.parametrize("name", ["mse", "bce logits 3", "cross entropy both", "cross entropy soft", "nll"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("shape", [(), (4,), (4, 5), (4, 5, 1), (1, 5), (4, 1, 3), (1, 1, 1)])
def test_axes_that_a_mask_lacks_are_all_alike(
    name: str, reduction: str, shape: tuple[int, ...], backend: Backend
) -> None:
    case = LOSSES[name]
    rng = np.random.default_rng(len(shape))
    prediction, target = case.draw(rng, (4, 5, 3))
    mask = np.asarray(rng.random(shape) < 0.6)
    whole = np.broadcast_to(mask.reshape(shape + (1,) * (3 - len(shape))), (4, 5, 3)).copy()
    prediction[~whole] = np.nan
    wanted = case(prediction, target, reduction, mask=whole)
    dtype = "float64" if backend.name != "jax.numpy" else "float32"
    target = backend.asarray(target, dtype) if target.dtype.kind == "f" else backend.asarray(target.astype("int32"))
    found = case(backend.asarray(prediction, dtype), target, reduction, mask=backend.asarray(mask))
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-4 if dtype == "float32" else 1e-12, atol=1e-6)


def test_a_mean_counts_elements() -> None:
    mask = np.array([[True, False], [False, False]])
    value, gradient = rr.losses.mae(np.full((2, 2, 3), 2.0), np.zeros((2, 2, 3)), mask=mask)
    assert value == 2.0
    assert gradient[0, 0].tolist() == [1 / 3] * 3
    assert np.count_nonzero(gradient) == 3


@pytest.mark.parametrize("shape", [(3,), (2, 4), (5, 3), (2, 3, 4, 1), (2, 3, 0)])
def test_a_mask_of_other_axes_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"mask must have the shape \(2, 3, 4\) or its first axes, not \("):
        rr.losses.mse(np.ones((2, 3, 4)), np.ones((2, 3, 4)), mask=np.ones(shape, bool))
