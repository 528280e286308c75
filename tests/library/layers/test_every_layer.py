"""What holds for every layer, on every backend: a test for each property, run through the cases of `harness.cases`.

Problems have at least 5 steps and 3 rows (or none at all), random start states and random gradients of the output
and of the final state.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import (
    Case,
    Problem,
    assert_all_close,
    assert_all_same,
    assert_close,
    forward,
    give,
    gradients,
    here,
    host,
    layer_for,
    leaves,
    named,
    obtain,
    problem,
    results,
)
from harness.cases import CASES, OPTIONS, OTHERS, RECURRENT
from harness.needs import need
from harness.oracles import by_formula, finite_differences
from recurray.backend import Backend


def through(cases: list[Case]) -> Any:
    """Run a test through cases."""
    return pytest.mark.parametrize("case", cases, ids=str)


def without(case: Case, **sizes: int) -> Case:
    """The case with an empty batch, or sequences of no steps."""
    (axis,) = sizes
    lengths = None if case.lengths is None else () if axis == "batch" else (0,) * case.batch
    return replace(case, name=f"{case.name}, no {axis}", lengths=lengths, **sizes)


def starts_otherwise(case: Case) -> bool:
    """Whether no state isn't a state of zeros: it is learned, or minus infinity."""
    return case.name == "max" or any("start_" in name and case.state_given for name in problem(case).params)


# Of the platforms with code of their own: what is a property of that code, not of numbers, holds on the other device
# and with arrays that can't be written to as on the reference path and on NumPy.
OF_CODE = pytest.mark.parametrize(
    "backend", [name for name in here() if name not in ("numpy-readonly", "array-api-strict", "device1")], indirect=True
)
OF_LIBRARIES = pytest.mark.parametrize(  # of what arrays are kept as, and copied to
    "backend", here("numpy", "reference", "device1", "torch", "jax", "cupy"), indirect=True
)
WITH_FORMULA = [case for case in CASES if case.formula]
EMPTY = [without(case, batch=0) for case in CASES] + [without(case, steps=0) for case in CASES]
NUMBERS = [*CASES, *OPTIONS]
PADDED = [case for case in [*RECURRENT, *OPTIONS, *OTHERS] if not case.valid.all() and case.name != "sequential"]


@through(WITH_FORMULA)
def test_results_are_those_of_the_formula(case: Case, backend: Backend) -> None:
    """Outputs, states and all gradients; the formula's are complex-step derivatives."""
    found = results(layer_for(case, problem(case), backend), problem(case))
    assert_all_close(backend, found, by_formula(case))


@pytest.mark.parametrize("platform", here("reference"))
@through(NUMBERS + EMPTY)
def test_gradients_are_those_of_finite_differences(case: Case, platform: str) -> None:
    """The other platforms give the same numbers, see below."""
    slopes = finite_differences(case, obtain(platform), directions=1 if case in EMPTY else 2)
    for name, (expected, found) in slopes.items():
        assert found == pytest.approx(expected, rel=1e-7, abs=1e-8), name


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@through(NUMBERS)
def test_every_backend_gives_the_same_numbers(case: Case, dtype: str, backend: Backend) -> None:
    """And keeps the namespace, the device, the dtype."""
    compare_with_reference(case, dtype, backend)


@through(EMPTY)
def test_batches_and_sequences_may_be_empty(case: Case, backend: Backend) -> None:
    """What comes out is as empty; what the gradients are then, finite differences tell above."""
    compare_with_reference(case, "float32", backend)
    given = problem(case)
    shape = (case.steps, case.batch) if case.batch_axis else (case.batch, case.steps)
    assert given.x.shape[:2] == shape
    assert given.dy.shape[: given.dy.ndim - 1] == (shape if given.dy.ndim == 3 else (case.batch,))


def compare_with_reference(case: Case, dtype: str, backend: Backend) -> None:
    given = problem(case)
    found = results(layer_for(case, given, backend, dtype), given)
    assert_all_close(backend, found, by_reference(case), dtype=dtype)


@cache
def by_reference(case: Case) -> dict[str, np.ndarray]:
    reference = rr.get_backend(np)  # type: ignore[arg-type]
    return host(reference, results(layer_for(case, problem(case), reference), problem(case)))


@through(CASES)
def test_another_precision_is_converted(case: Case, backend: Backend) -> None:
    given = rounded_to_float32(problem(case))
    for dtype, other in (("float32", "float64"), ("float64", "float32")):
        layer = layer_for(case, given, backend, dtype)
        converted = results(layer, give(layer, given, other))
        assert_all_same(host(backend, converted), host(backend, results(layer, given)))


def rounded_to_float32(given: Problem) -> Problem:
    def rounded(a: np.ndarray) -> np.ndarray:
        return a.astype(np.float32).astype(np.float64) if a.dtype.kind == "f" else a

    given = given.with_arrays({name: rounded(value) for name, value in given.arrays().items()})
    return replace(given, dy=rounded(given.dy), dend={name: rounded(value) for name, value in given.dend.items()})


@through(CASES)
@OF_CODE
def test_arrays_need_not_be_contiguous(case: Case, backend: Backend) -> None:
    given = problem(case)
    layer = layer_for(case, given, backend)
    found = results(layer, give(layer, given, form=lambda a: spread_out(backend, a)))
    assert_all_close(backend, found, host(backend, results(layer, given)), tolerance=1e-13)


def spread_out(backend: Backend, a: Any) -> Any:
    """The same numbers with gaps between them and the axes in the opposite order in memory."""
    xp, axes = backend.xp, tuple(reversed(range(a.ndim)))
    a = xp.permute_dims(a, axes)
    return xp.permute_dims(xp.stack([a, xp.zeros_like(a)], axis=-1)[..., 0], axes)


def test_spread_out_arrays_are_not_contiguous() -> None:
    flags = spread_out(rr.get_backend("numpy"), np.ones((2, 3, 4))).flags
    assert not flags.c_contiguous
    assert not flags.f_contiguous


@through(CASES)
@OF_CODE
def test_what_is_given_is_not_written_to(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))

    def everything() -> dict[str, np.ndarray]:
        arrays = {"x": given.x, "dy": given.dy} | named("state", given.state) | named("dstate", given.dstate)
        return host(backend, arrays | dict(layer.params))

    before = everything()
    results(layer, given)
    layer(given.x, given.state, **given.which)
    assert_all_same(everything(), before)


@through(NUMBERS)
@OF_CODE
def test_equal_calls_give_equal_bits(case: Case, backend: Backend) -> None:
    """Whatever was computed in between; and what an earlier call returned stays as it was."""
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    y, end, cache = forward(layer, given)
    first = {"y": y} | named("end", end) | gradients(layer, cache, given)
    as_it_was = host(backend, first)

    results(layer, problem(case, seed=1))
    layer(give(layer, problem(case, seed=2)).x, **case.which)

    assert_all_same(host(backend, first), as_it_was)
    assert_all_same(host(backend, results(layer, given)), as_it_was)
    again = host(backend, gradients(layer, cache, given))
    assert_all_same(again, {name: as_it_was[name] for name in again})


@through(CASES)
@OF_CODE
def test_a_layer_keeps_nothing_from_call_to_call(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    before, params = dict(vars(layer)), dict(layer.params)
    results(layer, problem(case))
    layer(give(layer, problem(case)).x)
    assert {name: id(value) for name, value in vars(layer).items()} == {name: id(v) for name, v in before.items()}
    assert all(layer.params[name] is value for name, value in params.items())


@through(CASES)
@OF_CODE
def test_backward_goes_with_the_params_of_its_forward(case: Case, backend: Backend) -> None:
    given = problem(case)
    layer = layer_for(case, given, backend)
    handed = give(layer, given)
    expected = host(backend, results(layer, handed))
    _, _, cache = forward(layer, handed)
    layer.load_state_dict({name: value + 1 for name, value in given.params.items()})
    found = host(backend, gradients(layer, cache, handed))
    assert_all_same(found, {name: expected[name] for name in found})


@through(CASES)
def test_inference_is_forward_without_dropout(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    y, end = layer(given.x, given.state, **given.which)
    y_kept, end_kept, _ = forward(layer, given, training=False)
    found, expected = {"y": y} | leaves(end), {"y": y_kept} | leaves(end_kept)
    assert_all_close(backend, found, host(backend, expected), tolerance=1e-13)


@through(CASES)
def test_no_gradient_given_is_a_gradient_of_zero(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    _, _, cache = forward(layer, given)
    zero = give(layer, replace(problem(case), dend={k: np.zeros_like(v) for k, v in problem(case).dend.items()}))
    found = gradients(layer, cache, replace(given, dstate=None))
    assert_all_same(host(backend, found), host(backend, gradients(layer, cache, zero)))


@through([case for case in CASES if not starts_otherwise(case)])
def test_no_state_given_is_a_state_of_zeros(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    given = give(layer, problem(case))
    zero = give(layer, replace(problem(case), start={k: np.zeros_like(v) for k, v in problem(case).start.items()}))
    found = results(layer, replace(given, state=None))
    assert_all_same(host(backend, found), host(backend, results(layer, zero)))


@through(NUMBERS)
@OF_CODE
def test_rows_do_not_know_of_each_other(case: Case, backend: Backend) -> None:
    """Each row alone gives what it gives in the batch, and the batch's gradients are the sums of the rows'."""
    given = problem(case)
    layer = layer_for(case, given, backend)
    together = host(backend, results(layer, given, training=False))
    alone = [host(backend, results(layer, only(given, case, row), training=False)) for row in range(case.batch)]
    for name, expected in together.items():
        if name.startswith("dparam."):
            found = sum(results[name] for results in alone)
        else:
            found = np.concatenate([results[name] for results in alone], axis=batch_axis(name, expected, case))
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12, err_msg=name)


def batch_axis(name: str, a: np.ndarray, case: Case) -> int:
    if name.startswith(("end.", "dstart.")):
        return 1
    return case.batch_axis if a.ndim == 3 else 0


def only(given: Problem, case: Case, row: int) -> Problem:
    """The problem with one of its rows alone."""

    def cut(a: np.ndarray, axis: int) -> np.ndarray:
        return np.take(a, [row], axis=axis)

    return replace(
        given,
        x=cut(given.x, case.batch_axis),
        dy=cut(given.dy, batch_axis("dy", given.dy, case)),
        which={
            name: value[row : row + 1] if name == "lengths" else cut(value, case.batch_axis)
            for name, value in given.which.items()
        },
        start={name: cut(value, 1) for name, value in given.start.items()},
        dend={name: cut(value, 1) for name, value in given.dend.items()},
    )


@pytest.mark.parametrize("filling", [np.nan, np.inf])
@through(PADDED)
@OF_CODE
def test_padding_reaches_nothing(case: Case, filling: float, backend: Backend) -> None:
    """Not the outputs and not the gradients, whatever x and dy hold where steps aren't valid; there dx is zero."""
    given = problem(case)
    layer = layer_for(case, given, backend)
    past = ~(case.valid.T if case.batch_axis else case.valid)[:, :, None]

    def padded(number: float) -> dict[str, np.ndarray]:
        dy = np.where(past, number, given.dy) if given.dy.ndim == 3 else given.dy
        with np.errstate(all="raise"):
            return host(backend, results(layer, replace(given, x=np.where(past, number, given.x), dy=dy)))

    found = padded(filling)
    assert_all_same(found, padded(0.0))
    assert not np.where(past, found["dx"], 0).any()
    if found["y"].ndim == 3:
        assert not np.where(past, found["y"], 0).any()


@through([*RECURRENT, *OPTIONS])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@OF_CODE
def test_large_numbers_overflow_nowhere(case: Case, dtype: str, backend: Backend) -> None:
    given = problem(case)
    given = replace(given, x=1e4 * np.sign(given.x))
    layer = layer_for(case, given, backend, dtype)
    with np.errstate(all="raise", under="ignore"):  # a closed gate is 0
        found = host(backend, results(layer, given))
    assert all(np.isfinite(value).all() for value in found.values())
    assert np.abs(found["y"]).max() > 0.1


@through(CASES)
@OF_LIBRARIES
def test_saving_and_loading(case: Case, backend: Backend, tmp_path: Any) -> None:
    """By the state dict, in NumPy's format and in safetensors, without pickle; the layer loaded gives equal bits."""
    layer = layer_for(case, problem(case), backend)
    expected = host(backend, results(layer, problem(case)))
    np.savez(tmp_path / "params.npz", **layer.state_dict())
    with np.load(tmp_path / "params.npz", allow_pickle=False) as file:
        loaded = [dict(file)]
    safetensors = need("safetensors.numpy")
    safetensors.save_file(layer.state_dict(), tmp_path / "params.safetensors")
    loaded.append(safetensors.load_file(tmp_path / "params.safetensors"))
    for params in loaded:
        other = case.make(backend=backend, dtype="float64")
        other.load_state_dict(params)
        assert_all_same(host(backend, results(other, problem(case))), expected)


@through(CASES)
@OF_LIBRARIES
def test_state_dict_holds_copies(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend)
    handed_out = layer.state_dict()
    before = {name: value.copy() for name, value in handed_out.items()}
    for value in handed_out.values():
        value[...] = 9.0
    assert_all_same(layer.state_dict(), before)
    handed_in = {name: value.copy() for name, value in before.items()}
    layer.load_state_dict(handed_in)
    for value in handed_in.values():
        value[...] = 9.0
    assert_all_same(layer.state_dict(), before)


@through(CASES)
@OF_LIBRARIES
def test_a_copy_in_another_precision_stands_alone(case: Case, backend: Backend) -> None:
    layer = layer_for(case, problem(case), backend, "float32")
    copy = layer.astype("float64")
    assert (copy.dtype, layer.dtype) == ("float64", "float32")
    for name, value in layer.state_dict().items():
        assert_close(backend, copy.params[name], value.astype(np.float64), tolerance=0)
    kept = layer.state_dict()
    copy.load_state_dict({name: value + 1 for name, value in copy.state_dict().items()})
    assert_all_same(layer.state_dict(), kept)


ROUNDS = 4


@pytest.mark.parametrize("platform", here("numpy", "reference", "torch"))
@through(CASES)
def test_threads_can_share_a_layer(case: Case, platform: str) -> None:
    backend = obtain(platform)
    layer = layer_for(case, problem(case), backend)
    problems = [give(layer, problem(case, seed=seed)) for seed in range(2)]
    serial = [host(backend, results(layer, given)) for given in problems]
    found: list[list[Any]] = [[], []]
    start = threading.Barrier(2)

    def work(number: int) -> None:
        start.wait()
        for _ in range(ROUNDS):
            found[number].append(results(layer, problems[number]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for own, expected in zip(found, serial, strict=True):
        assert len(own) == ROUNDS
        for result in own:
            assert_all_same(host(backend, result), expected)


@through(CASES)
def test_problems_are_not_of_zeros(case: Case) -> None:
    """What the other tests rest on: no state, gradient or param that they hand in is zero."""
    given = problem(case)
    arrays = given.arrays() | {"dy": given.dy} | named("dend", tuple(given.dend.values()))
    assert all(np.count_nonzero(value) == value.size > 0 for value in arrays.values())
    assert min(case.steps, case.batch) > 2
    assert min(given.x.shape[:2]) > 2
