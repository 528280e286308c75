"""Backends and how they are asked for: names, namespaces, devices, the environment, what isn't there."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_same, assert_same, here, obtain, on_host, platforms
from harness.cuda.fake_cupy import machine
from harness.needs import need
from harness.platforms import MAKERS, AbsentError
from recurray import selector
from recurray.backend import Backend


@pytest.fixture
def fresh() -> Any:
    """A selector that remembers nothing, before and after."""
    forget()
    yield
    forget()


def forget() -> None:
    caches = [value for value in vars(selector).values() if hasattr(value, "cache_clear")]
    assert caches
    for cache in caches:
        cache.cache_clear()


class Announcement:
    """An entry point."""

    def __init__(self, name: str, make: Any) -> None:
        self.name, self.make = name, make

    def load(self) -> Any:
        return self.make


def announce(monkeypatch: pytest.MonkeyPatch, **makers: Any) -> None:
    """Have these the installed backends."""
    points = [Announcement(name, make) for name, make in makers.items()]
    by_group = {"recurray.backends": points}
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: by_group.get(group, []))
    forget()


# Asking for a backend -------------------------------------------------------------------------------------------------


def test_names() -> None:
    backend = rr.get_backend("numpy")
    assert (backend.name, backend.xp, backend.device) == ("numpy", np, "cpu")
    assert rr.get_backend("numpy") is backend
    assert rr.get_backend(backend) is backend
    assert rr.get_backend("numpy", "cpu").xp is np
    assert repr(rr.get_backend("numpy", engine="numpy")) == "<recurray backend 'numpy' on cpu>"
    assert "numpy" in rr.available_backends()
    assert set(rr.available_backends()) <= {"numpy", "cupy"}


def test_the_backends_are_announced_by_entry_points() -> None:
    names = {point.name for point in importlib.metadata.entry_points(group="recurray.backends")}
    assert names >= {"numpy", "cupy"}
    assert set(selector.backend_names()) == names


def test_none_is_numpy_or_what_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    for unset in (None, ""):
        monkeypatch.delenv("RECURRAY_BACKEND", raising=False)
        if unset is not None:
            monkeypatch.setenv("RECURRAY_BACKEND", unset)
        assert rr.get_backend() is rr.get_backend(None) is rr.get_backend("numpy")
        assert rr.LSTM(2, 3).backend is rr.get_backend("numpy")
    monkeypatch.setenv("RECURRAY_BACKEND", "nunpy")
    with pytest.raises(ValueError, match="there is no backend 'nunpy'"):
        rr.LSTM(2, 3)
    assert rr.LSTM(2, 3, backend="numpy").backend is rr.get_backend("numpy")


def test_the_environment_names_any_installed_backend(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    class Other(Backend):
        def __init__(self, device: Any = None) -> None:
            super().__init__(np)
            self.name = "other"

    announce(monkeypatch, numpy=type(rr.get_backend("numpy")), other=Other)
    monkeypatch.setenv("RECURRAY_BACKEND", "other")
    assert rr.LSTM(2, 3).backend.name == "other"
    assert rr.available_backends() == ("numpy", "other")


def test_auto_without_a_cuda_device(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    class Cupy(Backend):
        def __init__(self, device: Any = None) -> None:
            raise rr.BackendUnavailableError("no CUDA device answers")

    announce(monkeypatch, numpy=type(rr.get_backend("numpy")), cupy=Cupy)
    assert rr.get_backend("auto") is rr.get_backend("numpy")
    monkeypatch.setenv("RECURRAY_BACKEND", "auto")
    assert rr.get_backend() is rr.get_backend("numpy")


def test_auto_where_a_cuda_device_answers(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    class Cupy(Backend):
        def __init__(self, device: Any = None) -> None:
            super().__init__(np)
            self.name, self.number = "cupy", device

    announce(monkeypatch, numpy=type(rr.get_backend("numpy")), cupy=Cupy)
    assert rr.get_backend("auto").name == "cupy"
    assert rr.get_backend("auto", 1).number == 1  # type: ignore[attr-defined]
    assert rr.get_backend().name == "numpy"


def test_auto_where_cupy_was_never_announced(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    announce(monkeypatch, numpy=type(rr.get_backend("numpy")))
    assert rr.get_backend("auto").name == "numpy"
    with pytest.raises(ValueError, match="there is no backend 'cupy'; the installed ones are 'numpy', 'auto'"):
        rr.get_backend("cupy")


def test_what_names_no_backend() -> None:
    with pytest.raises(ValueError, match=r"there is no backend 'Numpy'; the installed ones are .*'numpy'.*'auto'"):
        rr.get_backend("Numpy")
    for wrong in (3, object(), ["numpy"], os):
        with pytest.raises(TypeError, match="backend must be a name, a Backend, an array-API namespace or None, not "):
            rr.get_backend(wrong)  # type: ignore[arg-type]


def test_a_backend_and_another_device() -> None:
    backend = rr.get_backend("numpy")
    assert rr.get_backend(backend, "cpu") is backend
    with pytest.raises(ValueError, match="the backend given is on cpu, but device='gpu' was asked for"):
        rr.get_backend(backend, "gpu")
    with pytest.raises(ValueError, match="NumPy's only device is 'cpu', not 'gpu'"):
        rr.get_backend("numpy", "gpu")


# CuPy, where it isn't -------------------------------------------------------------------------------------------------


def test_cupy_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # its import then fails
    with pytest.raises(rr.BackendUnavailableError) as error:
        rr.get_backend("cupy")
    assert 'pip install ".[cupy13]", or with cupy12 for CUDA 12' in str(error.value)
    assert "cupy" not in rr.available_backends()
    assert rr.get_backend("auto").name == "numpy"
    with pytest.raises(rr.BackendUnavailableError, match="CuPy can't be imported"):
        rr.LSTM(2, 3, backend="cupy")


def test_a_device_that_cannot_be_hashed_is_its_number(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    class Device:  # as CuPy's
        id = 3

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Device)

    class Cupy(Backend):
        def __init__(self, device: Any = None) -> None:
            super().__init__(np)
            self.device, self.number = Device(), device

    announce(monkeypatch, cupy=Cupy)
    backend = rr.get_backend("cupy", Device())
    assert backend.number == 3  # type: ignore[attr-defined]
    assert backend is rr.get_backend("cupy", 3) is rr.get_backend(backend, Device()) is rr.get_backend(backend, 3)
    with pytest.raises(ValueError, match="but device=2 was asked for"):
        rr.get_backend(backend, 2)


@pytest.mark.parametrize(
    ("count", "device", "words"),
    [
        (
            None,
            None,
            r"CuPy 14.2.0 is installed, but no CUDA device answers \(cudaErrorInsufficientDriver\).*nvidia-smi",
        ),
        (0, None, "CuPy 14.2.0 is installed, but this machine has no CUDA device"),
        (2, 2, "there is no CUDA device 2; this machine has 2"),
        (2, -1, "there is no CUDA device -1; this machine has 2"),
    ],
)
def test_cupy_without_the_device(
    count: int | None, device: int | None, words: str, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", machine(count))
    with pytest.raises(rr.BackendUnavailableError, match=words):
        rr.get_backend("cupy", device)


def test_cupy_whose_driver_is_too_old_or_absent(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    for driver, words in (
        (12040, r"the driver is for CUDA 12\.4, and this CuPy needs CUDA 13: update the driver"),
        (0, "there is no NVIDIA driver"),
    ):
        monkeypatch.setitem(sys.modules, "cupy", machine(None, driver))
        with pytest.raises(rr.BackendUnavailableError, match=words):
            rr.get_backend("cupy")


def test_cupy_without_its_compiler(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    monkeypatch.setitem(sys.modules, "cupy", machine(1))
    with pytest.raises(rr.BackendUnavailableError, match=r"but CUDA's NVRTC or cuBLAS isn't .*libnvrtc"):
        rr.get_backend("cupy")


def test_strategies_are_the_cupy_backends_alone(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    backend = rr.get_backend("numpy")
    for given in ("numpy", backend, np):
        with pytest.raises(ValueError, match="strategy='step' was asked for"):
            rr.get_backend(given, strategy="step")
        with pytest.raises(ValueError, match="compute_dtype='bfloat16' was asked for"):
            rr.get_backend(given, compute_dtype="bfloat16")
    with pytest.raises(ValueError, match="compute_dtype must be 'float16' or 'bfloat16' or None, not 'float8'"):
        rr.get_backend("cupy", compute_dtype="float8")
    with pytest.raises(ValueError, match=r"strategy must be one of 'default', 'auto', .*, not 'fastest'"):
        rr.get_backend("cupy", strategy="fastest")

    class Cupy(Backend):
        def __init__(self, device: Any = None, strategy: str = "auto") -> None:
            super().__init__(np)
            self.name, self.strategy = "cupy", strategy

    selector._named.cache_clear()
    announce(monkeypatch, numpy=type(backend), cupy=Cupy)
    stepwise = rr.get_backend("cupy", strategy="step")
    assert stepwise.strategy == "step"  # type: ignore[attr-defined]
    assert rr.get_backend("cupy", strategy="step") is stepwise is rr.get_backend(stepwise, strategy="step")
    assert rr.get_backend("auto", strategy="step") is stepwise
    with pytest.raises(ValueError, match="the backend 'cupy' takes no compute_dtype, but"):
        rr.get_backend("cupy", compute_dtype="float16")
    with pytest.raises(ValueError, match="takes no stratgy, but stratgy='step' was asked for: it takes strategy"):
        rr.get_backend("cupy", stratgy="step")
    with pytest.raises(ValueError, match=r"takes no strategy, .*: it takes engine"):
        rr.get_backend("numpy", strategy="step")
    assert rr.get_backend("cupy") is not stepwise
    with pytest.raises(ValueError, match="strategy='fused' was asked for"):
        rr.get_backend(stepwise, strategy="fused")


def test_a_backend_that_breaks_on_import(monkeypatch: pytest.MonkeyPatch, fresh: None) -> None:
    def load(self: Announcement) -> Any:
        raise ImportError("No module named 'recurray_broken'")

    monkeypatch.setattr(Announcement, "load", load)
    announce(monkeypatch, broken=None)
    with pytest.raises(
        rr.BackendUnavailableError, match="'broken' can't be imported: No module named 'recurray_broken'"
    ):
        rr.get_backend("broken")
    assert rr.available_backends() == ()


# What importing costs -------------------------------------------------------------------------------------------------

IMPORT = """
import sys
import recurray as rr
rr.LSTM(2, 3, backend="numpy")
if "--available" in sys.argv:
    rr.available_backends()
heavy = ["cupy", "torch", "jax", "array_api_compat", "array_api_strict", "onnx", "onnxruntime", "numpy.testing"]
heavy += ["safetensors", "rich", "scipy"]
print(*[name for name in heavy if name in sys.modules])
"""


def test_importing_and_using_numpy_imports_no_other_library() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    assert done.stderr == ""


# Namespaces -----------------------------------------------------------------------------------------------------------


def test_an_arrays_backend_is_of_its_library(backend: Backend) -> None:
    """jax.numpy isn't NumPy."""
    grads = {"w": backend.asarray([3.0, 4.0], "float32")}
    assert selector.backend_of(grads["w"]).xp is backend.xp
    clipped, norm = rr.optim.clip_grad_norm(grads, 1.0)
    np.testing.assert_allclose(backend.to_numpy(clipped["w"]), [0.6, 0.8], rtol=1e-5)
    assert backend.owns(norm)


@pytest.mark.parametrize("backend", here("reference", "array-api-strict", "device1", "torch", "jax"), indirect=True)
def test_a_namespace_is_the_reference_path(backend: Backend) -> None:
    """Asked for twice, it is one backend."""
    again = rr.get_backend(backend.xp, backend.device)
    assert again is rr.get_backend(backend.xp, backend.device)
    assert type(again) is Backend
    assert again.xp is backend.xp
    assert again.device == backend.device


def test_numpy_as_a_namespace_is_the_reference_path() -> None:
    reference = rr.get_backend(np)  # type: ignore[arg-type]
    assert type(reference) is Backend
    assert reference is not rr.get_backend("numpy")


def test_namespaces_of_array_api_compat(backend: Backend) -> None:
    """They stand for the library they wrap."""
    numpy = need("array_api_compat.numpy")
    lstm = rr.LSTM(2, 3, backend=numpy, seed=0)
    y, _ = lstm(np.ones((1, 4, 2), np.float32))
    assert isinstance(y, np.ndarray)


# Arrays in and out ----------------------------------------------------------------------------------------------------

VALUES: list[Any] = [
    np.array([[1.5, -2.0], [0.0, 3.25]]),
    np.arange(6).reshape(2, 3),
    np.array([True, False]),
    np.zeros((0, 3)),
    np.array(2.5),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda a: f"{a.dtype}-{a.shape}")
def test_arrays_in_and_out(value: np.ndarray, backend: Backend) -> None:
    """And back, unchanged in everything."""
    assert_same(on_host(backend, backend.asarray(value)), value)
    spread = np.stack([value.T, value.T], axis=-1)[..., 0].T
    assert_same(on_host(backend, backend.asarray(spread)), value)


def test_arrays_that_may_not_be_written_to(backend: Backend) -> None:
    value = np.ones((2, 3))
    value.flags.writeable = False
    assert_same(on_host(backend, backend.asarray(value)), value)


def test_arrays_that_run_backwards(backend: Backend) -> None:
    value = np.arange(6.0).reshape(2, 3)[:, ::-1]
    assert_same(on_host(backend, backend.asarray(value)), value.copy())


def test_lists_and_numbers(backend: Backend) -> None:
    assert_same(on_host(backend, backend.asarray([[1.0, 2.0]], "float32")), np.array([[1, 2]], np.float32))
    assert_same(on_host(backend, backend.asarray(3, "float64")), np.array(3.0))
    assert_same(on_host(backend, backend.asarray([], "float32")), np.zeros(0, np.float32))


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64", "bool"])
def test_asarray_brings_to_a_dtype(dtype: str, backend: Backend) -> None:
    for given in (np.array([0.0, 1.0]), np.array([0, 1]), backend.asarray(np.array([0.0, 1.0]))):
        assert_same(on_host(backend, backend.asarray(given, dtype)), np.array([0, 1], dtype))


@pytest.mark.parametrize("name", here())
def test_arrays_of_another_backend(name: str, backend: Backend) -> None:
    """`asarray` takes arrays of any library on any device."""
    value = np.array([[1.5, -2.0, 0.25]])
    assert_same(on_host(backend, backend.asarray(obtain(name).asarray(value))), value)


def test_a_precision_that_the_library_refuses() -> None:
    """JAX makes float32 of float64 unless told otherwise; that isn't passed over in silence."""
    jax = need("jax")
    was = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", False)
    try:
        with (
            pytest.warns(UserWarning, match="float64"),
            pytest.raises(TypeError, match="made float32 where float64 was asked for"),
        ):
            rr.LSTM(2, 3, backend=jax.numpy, dtype="float64")
    finally:
        jax.config.update("jax_enable_x64", was)


def test_to_numpy_copies(backend: Backend) -> None:
    a = backend.asarray(np.ones((2, 3)))
    copy = backend.to_numpy(a)
    assert type(copy) is np.ndarray
    copy[...] = 7.0
    assert_same(backend.to_numpy(a), np.ones((2, 3)))


def test_owning(backend: Backend) -> None:
    a = backend.asarray([1.0])
    assert backend.owns(a)
    assert backend.on_device(a)
    for other in ([1.0], 1.0, "text", None, object()):
        assert not backend.owns(other)
    if not isinstance(a, np.ndarray):
        assert not backend.owns(np.ones(1))


def test_synchronize_waits_for_nothing_that_is_not_there(backend: Backend) -> None:
    backend.synchronize()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_sum_rows(dtype: str, backend: Backend) -> None:
    """Rows added up by an index: repeated, unsorted, with numbers left out, and none at all."""
    values = np.random.default_rng(0).standard_normal((7, 3)).astype(dtype)
    index = np.array([4, 0, 4, 2, 0, 4, 1])
    expected = np.zeros((6, 3), dtype)
    for row, number in enumerate(index):
        expected[number] += values[row]
    found = backend.sum_rows(backend.asarray(values), backend.asarray(index), 6)
    np.testing.assert_allclose(on_host(backend, found), expected, rtol=0, atol=1e-6 if dtype == "float32" else 1e-15)
    empty = backend.sum_rows(backend.asarray(values[:0]), backend.asarray(index[:0]), 2)
    assert_same(on_host(backend, empty), np.zeros((2, 3), dtype))


# The tests' own platforms ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", platforms())
def test_a_platform_is_here_or_says_why_not(name: str) -> None:
    """The others' tests run on those that are here; this one is skipped for each that isn't, or fails if it must be."""
    assert isinstance(obtain(name), Backend)


def test_what_must_be_here_fails_where_it_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> Backend:
        raise AbsentError("it was never made")

    monkeypatch.setitem(MAKERS, "nothing", absent)
    monkeypatch.delenv("RECURRAY_TEST_BACKENDS", raising=False)
    monkeypatch.setenv("RECURRAY_TEST_REQUIRE", "numpy, nothing")
    assert "nothing" in here()
    with pytest.raises(pytest.fail.Exception, match=r"nothing must be here .*: it was never made"):
        obtain("nothing")
    monkeypatch.setenv("RECURRAY_TEST_REQUIRE", "numpy")
    assert "nothing" not in here()
    with pytest.raises(pytest.skip.Exception, match="it was never made"):
        obtain("nothing")
    monkeypatch.setenv("RECURRAY_TEST_REQUIRE", "nunpy")
    with pytest.raises(pytest.UsageError, match="RECURRAY_TEST_REQUIRE names nunpy; known are numpy, "):
        here()


def test_layers_states_and_caches_can_be_pickled(backend: Backend) -> None:
    if backend.origin is None:
        with pytest.raises(TypeError, match="not made by get_backend"):
            pickle.dumps(backend)
        return
    x = backend.asarray(np.random.default_rng(0).standard_normal((2, 5, 3)), "float32")
    for layer in (
        rr.LSTM(3, 4, 2, dropout=0.5, backend=backend, seed=0),
        rr.Recurrent(rr.cells.SLSTMCell(), 3, 4, backend=backend, seed=0),
        rr.Sequential(rr.GRU(3, 4, backend=backend, seed=0), rr.Linear(4, 2, backend=backend, seed=0)),
    ):
        again = pickle.loads(pickle.dumps(layer))
        assert repr(again) == repr(layer)
        assert repr(again.backend) == repr(backend)
        assert pickle.loads(pickle.dumps(again.backend)) is again.backend
        y, state, cache = layer.forward(x)
        assert_same(on_host(backend, again.forward(x)[0]), on_host(backend, y))  # its draws too
        state_again, cache_again = pickle.loads(pickle.dumps((state, cache)))
        assert type(state_again) is type(state)
        assert repr(pickle.loads(pickle.dumps(layer))) == repr(layer)  # after it has been at work, too
        found, expected = again.backward(cache_again, y)[2], layer.backward(cache, y)[2]
        assert_all_same(
            {k: on_host(backend, v) for k, v in found.items()}, {k: on_host(backend, v) for k, v in expected.items()}
        )


def test_a_precision_that_there_is_not(backend: Backend) -> None:
    with pytest.raises(ValueError, match="dtype must be a name of the array API's, such as 'float32', not 'float31'"):
        backend.asarray([1.0], "float31")
    for no_name in (np.float32, 32):
        with pytest.raises(TypeError, match="dtype must be a name of the array API's, such as 'float32', not "):
            backend.asarray([1.0], no_name)  # type: ignore[arg-type]
