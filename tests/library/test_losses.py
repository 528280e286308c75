"""Losses against PyTorch, finite differences and themselves, on every array library at hand."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.losses import LOSSES, Loss
from harness.needs import need
from recurray import losses

REDUCTIONS = ("mean", "sum", "none")


@pytest.fixture(autouse=True)
def _no_floating_point_errors() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


every_loss = pytest.mark.parametrize("case", LOSSES.values(), ids=LOSSES)
every_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def read_only(array: Any, dtype: Any = None) -> np.ndarray:
    array = np.array(array, dtype)
    array.flags.writeable = False
    return array


def strict(array: Any, device: str) -> Any:
    return array_api_strict.asarray(array, device=array_api_strict.Device(device))


def torch_tensor(array: Any) -> Any:
    return need("torch").asarray(np.array(array))


LIBRARIES: dict[str, Callable[[np.ndarray], Any]] = {
    "numpy": read_only,
    "strict": lambda array: strict(array, "CPU_DEVICE"),
    "strict device1": lambda array: strict(array, "device1"),
    "torch": torch_tensor,
}
every_library = pytest.mark.parametrize("to_library", LIBRARIES.values(), ids=LIBRARIES)


def assert_close(actual: Any, wanted: Any, rtol: float = 1e-7, atol: float = 0.0) -> None:
    with np.errstate(all="ignore"):  # the comparison itself underflows
        np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=atol)


def back(array: Any) -> np.ndarray:
    return np.asarray(array.numpy() if hasattr(array, "numpy") else np.from_dlpack(array))


class TestAgainstPyTorch:
    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        need("torch")

    @staticmethod
    def expected(case: Loss, prediction: np.ndarray, target: np.ndarray, reduction: str) -> tuple[Any, Any]:
        import torch

        leaf = torch.tensor(prediction, requires_grad=True)
        flat = leaf.reshape(-1, prediction.shape[-1]) if case.by_class else leaf  # torch has the classes on axis 1
        goal = torch.tensor(target)
        if case.by_class:
            goal = goal.reshape(-1, prediction.shape[-1]) if case.kind == "class probabilities" else goal.reshape(-1)
        value = case.torch(flat, goal, reduction)
        value.sum().backward()
        value = value.detach().numpy()
        return value.reshape(
            prediction.shape[:-1]
        ) if reduction == "none" and case.by_class else value, leaf.grad.numpy()

    @every_loss
    @every_reduction
    @pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), ()])
    def test_value_and_gradient(self, case: Loss, reduction: str, shape: tuple[int, ...]) -> None:
        prediction, target = map(read_only, case.draw(np.random.default_rng(len(shape)), shape))
        value, gradient = case(prediction, target, reduction)
        wanted_value, wanted_gradient = self.expected(case, prediction, target, reduction)
        assert_close(value, wanted_value, rtol=1e-12, atol=1e-14)
        assert_close(gradient, wanted_gradient, rtol=1e-12, atol=1e-14)
        assert value.shape == wanted_value.shape

    @every_reduction
    def test_equal_prediction_and_target(self, reduction: str) -> None:
        x = read_only([0.0, 1.5, -2.0])
        for name in ("mse", "mae", "huber"):
            for got, wanted in zip(
                LOSSES[name](x, x, reduction), self.expected(LOSSES[name], x, x, reduction), strict=True
            ):
                np.testing.assert_array_equal(got, wanted)

    def test_huber_at_delta(self) -> None:
        prediction, target = read_only([-2.0, -1.0, -0.3, 0.3, 1.0, 2.0]), read_only(np.zeros(6))
        for name in ("huber", "huber 0.3"):
            value, gradient = LOSSES[name](prediction, target, "none")
            wanted_value, wanted_gradient = self.expected(LOSSES[name], prediction, target, "none")
            assert_close(value, wanted_value, rtol=1e-15)
            assert_close(gradient, wanted_gradient, rtol=1e-15)

    def test_probabilities_of_0_and_1_and_next_to_them(self) -> None:
        p = np.array([0.0, 1.0, 1e-300, 1e-44, 1e-43, 1e-20, 1e-9, 1 - 2.0**-53, 1 - 1e-9, 0.5])
        prediction, target = (read_only(a.reshape(-1)) for a in np.meshgrid(p, np.array([0.0, 1.0, 0.3])))
        with np.errstate(under="ignore"):
            value, gradient = losses.binary_cross_entropy(prediction, target, "none")
        wanted_value, wanted_gradient = self.expected(LOSSES["bce"], prediction, target, "none")
        assert wanted_value.max() == 100  # the limit is reached
        assert_close(value, wanted_value, rtol=1e-12)
        assert_close(gradient, wanted_gradient, rtol=1e-8)  # PyTorch's 1e-12 is a float32

    def test_class_weights_that_are_no_probabilities(self) -> None:
        rng = np.random.default_rng(0)
        prediction, target = read_only(rng.standard_normal((5, 4))), read_only(3 * rng.random((5, 4)))
        case = LOSSES["cross entropy soft"]
        for got, wanted in zip(case(prediction, target), self.expected(case, prediction, target, "mean"), strict=True):
            assert_close(got, wanted, rtol=1e-12, atol=1e-14)


@every_loss
@every_reduction
@pytest.mark.parametrize("masked", [False, True])
def test_gradient_is_the_derivative_of_the_value(case: Loss, reduction: str, masked: bool) -> None:
    rng = np.random.default_rng(3)
    prediction, target = case.draw(rng, (3, 4))
    mask = {"mask": rng.random((3, 4)) < 0.5} if masked else {}
    _, gradient = case(prediction, target, reduction, **mask)
    step = 1e-6
    differences = np.empty_like(prediction)
    for place in np.ndindex(prediction.shape):
        there, here = prediction.copy(), prediction.copy()
        there[place] += step
        here[place] -= step
        change = case(there, target, reduction, **mask)[0] - case(here, target, reduction, **mask)[0]
        differences[place] = np.sum(change) / (2 * step)
    assert np.any(differences != 0)
    assert_close(gradient, differences, rtol=1e-7, atol=1e-8)


@every_loss
@every_reduction
@every_library
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("masked", [False, True])
def test_every_library_gives_numpys_numbers(
    case: Loss, reduction: str, to_library: Callable[[np.ndarray], Any], dtype: str, masked: bool
) -> None:
    rng = np.random.default_rng(4)
    prediction, target = case.draw(rng, (3, 5))
    prediction = prediction.astype(dtype)
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    mask = rng.random((3, 5)) < 0.5
    given = to_library(prediction)
    value, gradient = case(given, to_library(target), reduction, mask=to_library(mask) if masked else None)
    wanted_value, wanted_gradient = case(prediction, target, reduction, mask=mask if masked else None)

    for array, wanted in ((value, wanted_value), (gradient, wanted_gradient)):
        assert type(array) is type(given)
        assert array.dtype == given.dtype
        assert array.device == given.device
        assert tuple(array.shape) == wanted.shape
        assert_close(back(array), wanted, rtol=1e-5 if dtype == "float32" else 1e-13)
    assert wanted_value.dtype == wanted_gradient.dtype == dtype
    assert value.shape == (() if reduction != "none" else (3, 5))


@every_loss
@every_library
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_masked_out_elements_can_hold_anything(
    case: Loss, reduction: str, to_library: Callable[[np.ndarray], Any]
) -> None:
    rng = np.random.default_rng(5)
    prediction, target = case.draw(rng, (4, 5))
    mask = rng.random((4, 5)) < 0.6
    clean = case(prediction, target, reduction, mask=mask)

    for number, index in ((np.nan, -100), (np.inf, -1), (-np.inf, 4), (1e300, 10**9)):
        prediction[~mask] = number
        target[~mask] = number if target.dtype.kind == "f" else index
        dirty = case(to_library(prediction), to_library(target), reduction, mask=to_library(mask))
        for with_poison, without in zip(dirty, clean, strict=True):
            assert_close(back(with_poison), without, rtol=1e-13)
        gradient = back(dirty[1])
        assert np.all(gradient[~mask] == 0)
        assert np.all((gradient[mask] != 0).any(axis=-1) if case.by_class else gradient[mask] != 0)


@settings(max_examples=150, deadline=None)
@given(
    case=st.sampled_from(list(LOSSES.values())),
    reduction=st.sampled_from(REDUCTIONS),
    shape=st.lists(st.integers(0, 4), max_size=3).map(tuple),
    share=st.sampled_from([0.0, 0.3, 0.8, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_masked_is_the_loss_of_what_counts(
    case: Loss, reduction: str, shape: tuple[int, ...], share: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    prediction, target = case.draw(rng, shape)
    mask = np.asarray(rng.random(shape) < share)
    with np.errstate(all="raise"):
        value, gradient = case(prediction, target, reduction, mask=mask)
        part_value, part_gradient = case(prediction[mask], target[mask], reduction)
    assert_close(value[mask] if reduction == "none" else value, part_value, rtol=1e-12)
    assert_close(gradient[mask], part_gradient, rtol=1e-12)
    assert np.all(gradient[~mask] == 0)
    assert gradient.shape == prediction.shape
    if reduction == "none":
        assert np.all(value[~mask] == 0)


@every_loss
@every_reduction
@every_library
def test_empty_or_nothing_that_counts_is_0(case: Loss, reduction: str, to_library: Callable[[np.ndarray], Any]) -> None:
    rng = np.random.default_rng(6)
    for shape in ((0,), (0, 3), (3, 0)):
        prediction, target = map(to_library, case.draw(rng, shape))
        value, gradient = case(prediction, target, reduction)
        assert tuple(value.shape) == (shape if reduction == "none" else ())
        assert np.all(back(value) == 0)
        assert gradient.shape == prediction.shape
    prediction, target = map(to_library, case.draw(rng, (2, 3)))
    value, gradient = case(prediction, target, reduction, mask=to_library(np.zeros((2, 3), bool)))
    assert np.all(back(value) == 0)
    assert np.all(back(gradient) == 0)


class TestExtremes:
    """Nothing overflows, divides by zero or becomes invalid: NumPy would raise."""

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_logits_of_any_size(self, dtype: str) -> None:
        logit = read_only([-1e30, -1e4, -200.0, -90.0, 0.0, 90.0, 200.0, 1e4, 1e30], dtype)
        zeros, ones = np.zeros(9, dtype), np.ones(9, dtype)
        value, gradient = losses.binary_cross_entropy(logit, ones, "sum", from_logits=True)
        assert value.dtype == dtype
        assert_close(value, 1e30, rtol=1e-6)
        value, gradient = losses.binary_cross_entropy(logit, zeros, "none", from_logits=True)
        assert_close(value, [0, 0, 0, 0, np.log(2), 90, 200, 1e4, 1e30], rtol=1e-6, atol=1e-35)
        assert_close(gradient, [0, 0, 0, 0, 0.5, 1, 1, 1, 1], rtol=1e-6, atol=1e-35)

    def test_large_logits_of_probabilities_near_one_keep_their_precision(self) -> None:
        logits, target = read_only([1e4, -1e4, 3e3, -3e3], "float32"), read_only([0.9999, 1e-4, 0.999, 1e-3], "float32")
        value, _ = losses.binary_cross_entropy(logits, target, "none", from_logits=True)
        exact, _ = losses.binary_cross_entropy(
            logits.astype("float64"), target.astype("float64"), "none", from_logits=True
        )
        assert_close(value, exact, rtol=1e-6)

    def test_small_probabilities_from_logits_keep_their_precision(self) -> None:
        value, gradient = losses.binary_cross_entropy(
            read_only([-20.0, -60.0], "float32"), read_only([0.0, 0.0], "float32"), "none", from_logits=True
        )
        assert_close(value, np.exp([-20.0, -60.0]), rtol=1e-6)
        assert_close(gradient, np.exp([-20.0, -60.0]), rtol=1e-6)

    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    @pytest.mark.parametrize("soft", [False, True])
    def test_classes_far_apart(self, dtype: str, soft: bool) -> None:
        logits = read_only([[1e30, -1e30, 0.0], [1e4, 0.0, -1e4], [-200.0, 200.0, 90.0]], dtype)
        target: Any = np.array([0, 1, 1])
        value, gradient = losses.cross_entropy(logits, np.eye(3, dtype=dtype)[target] if soft else target, "none")
        assert value.dtype == gradient.dtype == dtype
        assert_close(value, [0, 1e4, 0], atol=1e-30)
        assert_close(gradient, [[0, 0, 0], [1, -1, 0], [0, 0, 0]], atol=1e-30)

    @pytest.mark.parametrize("soft", [False, True])
    def test_class_ruled_out_by_an_infinite_logit(self, soft: bool) -> None:
        logits = read_only([[0.0, -np.inf, 0.0]])
        value, gradient = losses.cross_entropy(logits, np.array([[0.0, 0.0, 1.0]]) if soft else np.array([2]))
        assert_close(value, np.log(2), rtol=1e-15)
        np.testing.assert_array_equal(gradient, [[0.5, 0.0, -0.5]])

    def test_huber_of_large_errors(self) -> None:
        value, gradient = losses.huber(read_only([1e30, -1e30], "float32"), read_only([0.0, 0.0], "float32"), "none")
        assert_close(value, [1e30, 1e30], rtol=1e-6)
        np.testing.assert_array_equal(gradient, [1.0, -1.0])

    @every_loss
    def test_nan_that_counts_is_seen(self, case: Loss) -> None:
        prediction, target = case.draw(np.random.default_rng(7), (3, 2))
        prediction[1, 0] = np.nan
        value, gradient = case(prediction, target, "none")
        if case.kind == "log-probabilities":  # the gradient doesn't depend on the prediction
            assert np.all(np.isnan(value) == [[False, False], [True, False], [False, False]])
            return
        assert np.all(np.isnan(value) == [[False, False], [True, False], [False, False]])
        assert np.all(np.isnan(gradient[1, 0]))
        assert np.isnan(gradient).sum() == np.isnan(gradient[1, 0]).sum()
        assert np.isnan(case(prediction, target)[0])


class TestClasses:
    @pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll])
    @pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "uint64"])
    @pytest.mark.parametrize("to_library", [read_only, lambda array: strict(array, "device1")])
    def test_integers_of_every_width(self, loss: Any, dtype: str, to_library: Callable[[Any], Any]) -> None:
        prediction = np.random.default_rng(8).standard_normal((3, 300))  # more classes than uint8 can count
        target = np.array([5, 0, 127])
        value, gradient = loss(to_library(prediction), to_library(target.astype(dtype)))
        wanted_value, wanted_gradient = loss(prediction, target)
        np.testing.assert_array_equal(back(value), wanted_value)
        np.testing.assert_array_equal(back(gradient), wanted_gradient)
        assert np.count_nonzero(wanted_gradient < 0) == 3

    def test_certain_classes_are_probabilities_of_1(self) -> None:
        prediction, target = LOSSES["cross entropy"].draw(np.random.default_rng(9), (6,))
        for reduction in REDUCTIONS:
            hard = losses.cross_entropy(prediction, target, reduction)
            soft = losses.cross_entropy(prediction, np.eye(4)[target], reduction)
            assert_close(hard[0], soft[0], rtol=1e-13)
            assert_close(hard[1], soft[1], rtol=1e-13, atol=1e-15)

    @pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll])
    @pytest.mark.parametrize("wrong", [-1, 4, 200])
    def test_class_out_of_range(self, loss: Any, wrong: int) -> None:
        prediction = np.zeros((3, 4))
        with pytest.raises(ValueError, match=rf"from 0 to 3, but has {wrong}.*mask"):
            loss(prediction, np.array([0, wrong, 1]))

    @pytest.mark.parametrize("loss", [losses.cross_entropy, losses.nll])
    @pytest.mark.parametrize("wrong", [-1, 4])
    def test_class_out_of_range_on_a_device_is_nan(
        self, loss: Any, wrong: int, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("recurray.losses.arguments.on_host", lambda array: False)
        monkeypatch.setattr("recurray.losses.classes.on_host", lambda array: False)
        prediction, target = np.zeros((3, 4)), np.array([0, wrong, 1])
        value, gradient = loss(prediction, target, "none")
        assert np.isnan(value).tolist() == [False, True, False]
        assert np.isnan(gradient).all(axis=-1).tolist() == [False, True, False]
        assert np.isnan(gradient).any(axis=-1).tolist() == [False, True, False]
        assert np.isnan(loss(prediction, target)[0])
        assert np.isfinite(loss(prediction, target, mask=np.array([True, False, True]))[0])


ONES = np.ones((2, 3))
CLASSES = np.ones(2, np.int64)


class TestRefusals:
    @pytest.mark.parametrize(
        ("loss", "arguments", "options", "error", "message"),
        [
            (losses.mse, (ONES, np.ones((3, 2))), {}, ValueError, r"target must have the shape \(2, 3\), not \(3, 2\)"),
            (losses.mse, (ONES, np.ones(3)), {}, ValueError, r"target must have the shape \(2, 3\), not \(3,\)"),
            (losses.mae, (ONES, ONES, "average"), {}, ValueError, "reduction must be one of .*'mean'.*not 'average'"),
            (losses.mae, (ONES, ONES, None), {}, ValueError, "reduction must be one of"),
            (losses.mse, (ONES, np.ones((2, 3), int)), {}, TypeError, "target must be floating-point .*int64"),
            (losses.mse, (np.ones((2, 3), int), ONES), {}, TypeError, "prediction must be float32 or .*int64"),
            (losses.mse, (ONES.astype(complex), ONES), {}, TypeError, "prediction must be float32 or .*complex128"),
            (losses.mse, (ONES.astype("float16"), ONES), {}, TypeError, "prediction must be float32 or .*float16"),
            (losses.mse, (ONES.tolist(), ONES), {}, TypeError, "prediction must be an array .*not list"),
            (losses.mse, (ONES, ONES.tolist()), {}, TypeError, "target must be an array of .*numpy, not .*list"),
            (losses.mse, (strict(ONES, "CPU_DEVICE"), ONES), {}, TypeError, "library array_api_strict, not numpy"),
            (losses.mse, (strict(ONES, "device1"), strict(ONES, "CPU_DEVICE")), {}, ValueError, "target .*device1"),
            (losses.mse, (ONES, ONES), {"mask": ONES}, TypeError, "mask must be boolean, not float64"),
            (
                losses.mse,
                (ONES, ONES),
                {"mask": np.ones(3, bool)},
                ValueError,
                r"mask .*shape \(2, 3\) or .*not \(3,\)",
            ),
            (losses.mse, (ONES, ONES), {"mask": [True]}, TypeError, "mask must be an array of"),
            (losses.huber, (ONES, ONES), {"delta": 0.0}, ValueError, "delta must be above 0"),
            (losses.huber, (ONES, ONES), {"delta": -1.0}, ValueError, "delta must be above 0"),
            (losses.huber, (ONES, ONES), {"delta": np.nan}, ValueError, "delta must be above 0"),
            (losses.huber, (ONES, ONES), {"delta": "1"}, TypeError, "delta must be a number"),
            (losses.binary_cross_entropy, (1.1 * ONES, ONES), {}, ValueError, "from 0 to 1; for logits"),
            (losses.binary_cross_entropy, (-ONES, ONES), {}, ValueError, "from 0 to 1; for logits"),
            (losses.binary_cross_entropy, (ONES, ONES), {"from_logits": 1}, TypeError, "from_logits"),
            (losses.cross_entropy, (ONES, np.ones(3, int)), {}, ValueError, r"target .*shape \(2,\), not \(3,\)"),
            (losses.cross_entropy, (ONES, np.ones(2)), {}, ValueError, r"target .*shape \(2, 3\), not \(2,\)"),
            (losses.cross_entropy, (ONES, ONES.astype(bool)), {}, TypeError, "or integers, the classes, not bool"),
            (losses.cross_entropy, (np.ones((2, 0)), CLASSES), {}, ValueError, "at least one class"),
            (losses.cross_entropy, (np.ones(()), CLASSES), {}, ValueError, "at least one class"),
            (
                losses.cross_entropy,
                (ONES, CLASSES),
                {"mask": ONES > 0},
                ValueError,
                r"mask .*shape \(2,\) or .*not \(2, 3",
            ),
            (losses.nll, (ONES, ONES), {}, TypeError, "target must be integers, the classes, not float64"),
        ],
    )
    def test_message_names_what_is_wrong(
        self, loss: Any, arguments: tuple[Any, ...], options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            loss(*arguments, **options)

    def test_target_of_the_other_precision_is_converted(self) -> None:
        for case in (LOSSES["mse"], LOSSES["cross entropy soft"]):
            for dtype, other in (("float32", "float64"), ("float64", "float32")):
                prediction, target = case.draw(np.random.default_rng(2), (3,))
                for result in case(prediction.astype(dtype), target.astype(other)):
                    assert result.dtype == dtype

    def test_masked_out_target_too_large_for_the_prediction(self) -> None:
        prediction, target = np.ones(2, "float32"), np.array([0.0, 1e300])
        value, _ = losses.mse(prediction, target, mask=np.array([True, False]))
        assert value == 1.0

    def test_results_are_arrays_of_their_own(self) -> None:
        for case in LOSSES.values():
            prediction, target = case.draw(np.random.default_rng(1), ())
            for reduction in REDUCTIONS:
                for result in case(prediction, target, reduction):
                    assert type(result) is np.ndarray
                    assert not np.shares_memory(result, prediction)
                    assert not np.shares_memory(result, target)


# At infinity ----------------------------------------------------------------------------------------------------------

INF, NAN = np.inf, np.nan
LOGITS = {"from_logits": True}
AT_INFINITY: list[tuple[Any, dict[str, Any], Any, Any, Any, Any]] = [  # and the value, and the gradient
    (losses.mse, {}, [INF, -INF, 1.0, 1.0], [0.0, 0.0, INF, -INF], [INF] * 4, [INF, -INF, -INF, INF]),
    (losses.mae, {}, [INF, -INF, 1.0, 1.0], [0.0, 0.0, INF, -INF], [INF] * 4, [1, -1, -1, 1]),
    (losses.huber, {"delta": 0.5}, [INF, -INF, 1.0, 1.0], [0.0, 0.0, INF, -INF], [INF] * 4, [0.5, -0.5, -0.5, 0.5]),
    (losses.binary_cross_entropy, LOGITS, [-INF, INF], [0.0, 1.0], [0, 0], [0, 0]),
    (losses.binary_cross_entropy, LOGITS, [-INF, INF], [1.0, 0.0], [INF, INF], [-1, 1]),
    (losses.binary_cross_entropy, LOGITS, [-INF, INF], [0.25, 0.25], [INF, INF], [-0.25, 0.75]),
    (losses.binary_cross_entropy, {}, [0.0, 1.0], [0.0, 1.0], [0, 0], [0, 0]),
    (losses.binary_cross_entropy, {}, [0.0, 1.0], [1.0, 0.0], [100, 100], [-1e12, 1e12]),
    (losses.cross_entropy, {}, [[0.0, -INF, 0.0]] * 2, [0, 1], [math.log(2), INF], [[-0.5, 0, 0.5], [0.5, -1, 0.5]]),
    (losses.cross_entropy, {}, [[0.0, INF, 0.0]] * 2, [1, 0], [0, INF], [[0, 0, 0], [-1, 1, 0]]),
    (losses.cross_entropy, {}, [[INF, INF, -INF]] * 2, [1, 2], [math.log(2), INF], [[0.5, -0.5, 0], [0.5, 0.5, -1]]),
    (losses.cross_entropy, {}, [[-INF, 3.0]] * 2, [[0.0, 1.0], [0.5, 0.5]], [0, INF], [[0, 0], [-0.5, 0.5]]),
    (losses.cross_entropy, {}, [[INF, 3.0]] * 2, [[1.0, 0.0], [0.5, 0.5]], [0, INF], [[0, 0], [0.5, -0.5]]),
    (losses.nll, {}, [[-INF, 0.0]] * 2, [1, 0], [0, INF], [[0, -1], [-1, 0]]),
]
NOT_A_NUMBER: list[tuple[Any, dict[str, Any], Any, Any]] = [  # what gives NaN, value and gradient
    *[(loss, {}, [NAN, 1.0], [1.0, NAN]) for loss in (losses.mse, losses.mae, losses.huber)],
    *[(loss, {}, [INF, -INF], [INF, -INF]) for loss in (losses.mse, losses.mae, losses.huber)],
    (losses.binary_cross_entropy, LOGITS, [NAN] * 3 + [0.0, INF], [0.0, 1.0, 0.5, NAN, NAN]),
    (losses.binary_cross_entropy, {}, [NAN, NAN, 0.5], [0.0, 1.0, NAN]),
    (losses.cross_entropy, {}, [[NAN, 0.0], [INF, NAN], [-INF, -INF]], [0, 0, 1]),
    (losses.cross_entropy, {}, [[NAN, 0.0], [-INF, -INF]], [[0.5, 0.5], [0.0, 1.0]]),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("loss", "options", "prediction", "target", "value", "gradient"), AT_INFINITY)
@every_library
def test_at_infinity_a_loss_is_its_limit(
    loss: Any,
    options: dict[str, Any],
    prediction: Any,
    target: Any,
    value: Any,
    gradient: Any,
    to_library: Callable[[np.ndarray], Any],
    dtype: str,
) -> None:
    target = np.array(target)
    target = target.astype(dtype) if target.dtype.kind == "f" else target
    given = to_library(np.array(prediction, dtype)), to_library(target)
    found, slopes = map(back, loss(*given, "none", **options))
    assert_close(found, value, rtol=1e-6)
    assert_close(slopes, gradient, rtol=1e-6)
    total, slopes = map(back, loss(*given, "mean", **options))
    assert_close(total, np.mean(value), rtol=1e-6)
    assert_close(slopes, np.array(gradient) / len(value), rtol=1e-6)


@pytest.mark.parametrize(("loss", "options", "prediction", "target"), NOT_A_NUMBER)
@every_library
def test_nan_and_what_has_no_limit_are_nan(
    loss: Any, options: dict[str, Any], prediction: Any, target: Any, to_library: Callable[[np.ndarray], Any]
) -> None:
    with np.errstate(invalid="ignore"):
        found, slopes = map(
            back, loss(to_library(np.array(prediction)), to_library(np.array(target)), "none", **options)
        )
    assert np.isnan(found).all()
    assert np.isnan(slopes).reshape(len(found), -1).any(axis=-1).all()


@every_library
def test_a_gradient_is_precise_where_the_answer_is_all_but_certain(to_library: Callable[[np.ndarray], Any]) -> None:
    logits = np.array([-30.0, 30.0, -87.0, 87.0], "float32")
    target = np.array([0.0, 1.0, 0.0, 1.0], "float32")
    _, slopes = losses.binary_cross_entropy(to_library(logits), to_library(target), "none", from_logits=True)
    exact = np.array([1.0, -1.0, 1.0, -1.0]) * np.exp(-np.abs(logits.astype(float)))
    found = back(slopes)
    assert_close(found[:2], exact[:2], rtol=1e-6)
    assert np.all(np.abs(found[2:]) < 1e-29)
