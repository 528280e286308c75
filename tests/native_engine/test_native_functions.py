"""The compiled engine's functions, on each instruction set, within the bounds that docs/native.md states."""

from __future__ import annotations

from ctypes import c_void_p

import numpy as np
import pytest

from harness import obtain, why_absent

if why_absent("native") is None:
    from recurray_native import library
    from recurray_native.program import OPERATIONS

    LEVELS = library.levels()
else:
    LEVELS = ("any",)

COUNT = 200_001
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 1e-30, -1e-30, 1e30, -1e30]
# name: what it is, the ends of its arguments in float32 and float64, its error in units in the last place
EXACT = {
    "tanh": (np.tanh, (-12, 12), (-24, 24), 2.5),
    "logistic": (lambda a: 1 / (1 + np.exp(-a)), (-87.33, 86), (-708.39, 700), 3),
    "exp": (np.exp, (-86, 88), (-705, 709), 2),
    "expm1": (np.expm1, (-86, 88), (-705, 709), 2.5),
    "log": (np.log, (1e-37, 1e37), (1e-300, 1e300), 2),
    "log1p": (np.log1p, (-0.999999, 1e30), (-0.999999999, 1e300), 2),
    "sqrt": (np.sqrt, (0, 1e37), (0, 1e300), 0.5),
}


@pytest.fixture(params=LEVELS)
def level(request):
    obtain("native")
    return request.param


def apply(level, name, *operands):
    """One operation of the vector machine on arrays."""
    dtype = operands[0].dtype
    to = np.empty_like(operands[0])
    given = (c_void_p * 5)(*(a.ctypes.data for a in operands))
    library.library().recurray_apply(
        library.number(level), dtype == "float64", OPERATIONS.index(name), to.size, given, to.ctypes.data
    )
    return to


def arguments(least, most, dtype):
    """Numbers all over a range, and close to 0 where that is within."""
    rng = np.random.default_rng(3)
    if least > 0:
        return np.exp(rng.uniform(np.log(least), np.log(most), COUNT)).astype(dtype)
    wide = rng.uniform(least, min(most, 1e3), COUNT)
    near = rng.uniform(-1, 1, COUNT) * np.exp(rng.uniform(-30, 0, COUNT))
    near = near if least < 0 else abs(near)
    large = np.exp(rng.uniform(0, np.log(most), COUNT))
    every = np.concatenate([wide, near, large]).astype(dtype)
    return every[(every >= dtype(least)) & (every <= dtype(most))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_functions_are_within_their_bounds(level, name, dtype):
    function, single, double, bound = EXACT[name]
    a = arguments(*(single if dtype == np.float32 else double), dtype)
    wider = a.astype(np.float64 if dtype == np.float32 else np.longdouble)
    exact = function(wider)
    error = np.abs(apply(level, name, a) - exact) / np.spacing(np.abs(exact).astype(dtype))
    assert error.max() <= bound, (a[error.argmax()], error.max())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", EXACT)
def test_special_values_give_what_numpy_gives(level, name, dtype):
    a = np.array(SPECIAL, dtype)
    with np.errstate(all="ignore"):
        expected = EXACT[name][0](a)
    np.testing.assert_allclose(apply(level, name, a), expected, rtol=1e-6, atol=1e-37)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_operations_equal_numpys(level, dtype):
    rng = np.random.default_rng(4)
    a, b, c = (np.concatenate([rng.standard_normal(1001), SPECIAL * 3]).astype(dtype) for _ in range(3))
    for k in range(len(SPECIAL)):  # every special value meets every other
        b[1001 + k * 3 : 1001 + k * 3 + 3] = SPECIAL[k]
    with np.errstate(all="ignore"):
        for name in ("add", "subtract", "multiply", "divide", "maximum", "minimum"):
            np.testing.assert_array_equal(apply(level, name, a, b), getattr(np, name)(a, b), name)
        for name in ("greater", "greater_equal", "less", "less_equal"):
            flags = apply(level, name, a, b)
            found = apply(level, "where", flags, np.ones_like(a), np.zeros_like(a))
            np.testing.assert_array_equal(found, getattr(np, name)(a, b).astype(dtype), name)
            both = apply(level, "logical_and", flags, apply(level, "less", a, c))
            found = apply(level, "where", both, a, b)
            np.testing.assert_array_equal(found, np.where(getattr(np, name)(a, b) & (a < c), a, b), name)
        np.testing.assert_array_equal(apply(level, "abs", a), np.abs(a))
        np.testing.assert_array_equal(apply(level, "negative", a), -a)
        a, b, c, d, e = (rng.standard_normal(1001).astype(dtype) for _ in range(5))
        near = {"rtol": 4 * np.finfo(dtype).eps, "atol": 4 * np.finfo(dtype).eps}
        np.testing.assert_allclose(apply(level, "multiply_add", a, b, c), a * b + c, **near)
        np.testing.assert_allclose(apply(level, "subtract_product", a, b, c), c - a * b, **near)
        np.testing.assert_allclose(apply(level, "multiply_three", a, b, c), a * b * c, **near)
        np.testing.assert_allclose(apply(level, "add_products", a, b, c, d), a * b + c * d, **near)
        np.testing.assert_allclose(
            apply(level, "subtract_ratio", a, b, 2 + abs(c), d), d - a * b / (2 + abs(c)), **near
        )
        np.testing.assert_allclose(apply(level, "add_root", abs(a), b), np.sqrt(abs(a)) + b, **near)
        three = {"rtol": near["rtol"], "atol": 4 * near["atol"]}  # of products that nearly cancel
        np.testing.assert_allclose(apply(level, "add_product_of_three", a, b, c, d, e), a * b + c * d * e, **three)
        np.testing.assert_allclose(
            apply(level, "subtract_ratio_to_root", a, b, abs(c), d, 2 + abs(e)),
            d - a * b / (np.sqrt(abs(c)) + 2 + abs(e)),
            **near,
        )
