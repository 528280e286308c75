"""The CuPy backend among CuPy's own ways: arrays of every form, streams, allocators, scopes, copies, and what fails."""

from __future__ import annotations

import copy
import pickle
import threading
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_all_close, give, host, layer_for, obtain, problem, results
from harness.cases import CASES
from harness.cuda.fake_cupy import FakeCupy, differences
from harness.needs import need
from recurray.backend import Backend
from recurray.cells import LSTMCell
from recurray_cupy import persistent
from recurray_cupy.compiled import Way
from recurray_cupy.graphs import graphs_of
from recurray_cupy.library import Device, DoesNotFitError, Library
from recurray_cupy.persistent.layout import layout_for
from recurray_cupy.persistent.of_cell import recurrence_of
from recurray_cupy.products import rounded

pytestmark = pytest.mark.gpu

STRATEGIES = ("persistent", "step", "fused", "reference")


@pytest.fixture
def backend() -> Backend:
    return obtain("cupy")


@pytest.fixture
def cupy(backend: Backend) -> Any:
    import cupy

    return cupy


@pytest.fixture(params=STRATEGIES)
def by_strategy(request: pytest.FixtureRequest, cupy: Any) -> Backend:
    """A backend by each strategy, on which nothing is left to a slower one."""
    with warnings.catch_warnings(action="error"):
        return rr.get_backend("cupy", strategy=request.param)


@pytest.fixture
def allocator(cupy: Any) -> Iterator[Callable[[Any], None]]:
    before = cupy.cuda.get_allocator()
    yield cupy.cuda.set_allocator
    cupy.cuda.set_allocator(before)


X = np.random.default_rng(0).standard_normal((3, 6, 4))


def model(backend: Any, **options: Any) -> rr.Layer:
    both = {"bidirectional": True, "num_layers": 2, "dtype": "float64", "seed": 0} | options
    return rr.LSTM(4, 5, backend=backend, **both)


def train(layer: rr.Layer, x: Any = None, dy: Any = None) -> dict[str, np.ndarray]:
    """All that forward and backward give, on the host."""
    backend = layer.backend
    x = backend.asarray(X, layer.dtype) if x is None else x
    y, state, cache = layer.forward(x, lengths=(6, 2, 4))
    dx, dstate, grads = layer.backward(cache, 2 * y if dy is None else dy, state)
    found = {"y": y, "h": state.h, "c": state.c, "dx": dx, "dh": dstate.h, "dc": dstate.c, **grads}
    return host(backend, found)


def expected(**options: Any) -> dict[str, np.ndarray]:
    return train(model("numpy", **options))


def close(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray], tolerance: float = 1e-11) -> None:
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=tolerance, err_msg=name)


# Arrays ---------------------------------------------------------------------------------------------------------------


FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "Fortran": lambda cupy, a: cupy.asfortranarray(a),
    "backwards": lambda cupy, a: cupy.ascontiguousarray(a[..., ::-1])[..., ::-1],
    "every second": lambda cupy, a: cupy.repeat(a, 2, axis=-1)[..., ::2],
    "a part": lambda cupy, a: cupy.pad(a, 1)[tuple(slice(1, -1) for _ in a.shape)],
    "misaligned": lambda cupy, a: cupy.concatenate([cupy.zeros(1, a.dtype), a.ravel()])[1:].reshape(a.shape),
}


@pytest.mark.parametrize("form", FORMS)
def test_arrays_of_every_form(cupy: Any, by_strategy: Backend, form: str) -> None:
    layer = model(by_strategy, dtype="float32")
    reshape = FORMS[form]
    layer.params = {name: reshape(cupy, value) for name, value in layer.params.items()}
    x = reshape(cupy, by_strategy.asarray(X, "float32"))
    dy = reshape(cupy, by_strategy.asarray(np.ones((3, 6, 10)), "float32"))
    wanted = train(model("numpy", dtype="float32"), dy=np.ones((3, 6, 10), "float32"))
    close(train(layer, x, dy), wanted, 2e-5)


def test_a_device_is_asked_for_by_itself_or_by_its_number(cupy: Any, backend: Backend) -> None:
    for name in ("cupy", cupy):
        assert rr.get_backend(name, cupy.cuda.Device(0)) is rr.get_backend(name, 0)
    assert rr.get_backend(backend, cupy.cuda.Device(0)) is rr.get_backend(backend, 0) is backend
    layer = rr.LSTM(4, 5, backend=rr.get_backend(cupy, cupy.cuda.Device(0)))
    assert layer(cupy.asarray(X))[0].shape == (3, 6, 5)


def test_one_number_for_all(cupy: Any, by_strategy: Backend) -> None:
    """An array without strides, as broadcasting makes."""
    layer = model(by_strategy)
    dy = cupy.broadcast_to(cupy.ones(1), (3, 6, 10))
    close(train(layer, dy=dy), train(model("numpy"), dy=np.ones((3, 6, 10))))


@pytest.mark.parametrize("shape", [(0, 6, 4), (3, 0, 4), (0, 0, 4)], ids=str)
def test_nothing_at_all(cupy: Any, by_strategy: Backend, shape: tuple[int, ...]) -> None:
    layer = model(by_strategy)
    y, state, cache = layer.forward(cupy.zeros(shape))
    dx, dstate, grads = layer.backward(cache, y, state)
    assert (y.shape, dx.shape, dstate.h.shape) == ((*shape[:2], 10), shape, (4, shape[0], 5))
    assert not any(value.any() for value in grads.values())


def test_what_a_call_returns_is_the_callers_own(cupy: Any, by_strategy: Backend) -> None:
    """Whoever writes to it changes no zeros that another call begins with, nor what was given."""
    layer = rr.LSTM(4, 5, backend=by_strategy, dtype="float64", seed=0)
    x = cupy.asarray(X)
    expected, given = layer(x)
    before = [value.copy() for value in given]
    for state in (None, given):
        y, end, cache = layer.forward(x[:, :0], state)
        _, dstart, _ = layer.backward(cache, y, state)
        for value in (*end, *dstart):
            value[...] = 7.0
    assert bool((layer(x)[0] == expected).all())
    assert all(bool((value == own).all()) for value, own in zip(given, before, strict=True))


def test_arrays_that_are_none_are_refused(cupy: Any, backend: Backend) -> None:
    layer = model(backend)
    with pytest.raises(ValueError, match=r"x must have the shape \(batch, time, 4\), not \(\)"):
        layer(cupy.asarray(1.0))
    for x in (X, X.tolist(), cupy.asarray(X).__dlpack__()):
        with pytest.raises(
            TypeError, match=r"x must be an array of the backend 'cupy', not .*layer.backend.asarray\(x"
        ):
            layer(x)
    with pytest.raises(TypeError, match=r"x must be an array of the backend 'numpy', not cupy\.ndarray; convert it"):
        model("numpy")(cupy.asarray(X))


def test_other_libraries_arrays_come_and_go(cupy: Any, backend: Backend) -> None:
    a = cupy.asarray(X)
    assert cupy.shares_memory(cupy.from_dlpack(a), a)
    np.testing.assert_array_equal(backend.to_numpy(backend.asarray(cupy.from_dlpack(a))), X)
    np.testing.assert_array_equal(backend.to_numpy(a), X)
    with pytest.raises((BufferError, RuntimeError, TypeError)):
        np.from_dlpack(a)  # it can't be read where it is
    torch = need("torch")
    tensor = torch.tensor(X)
    with pytest.raises(TypeError, match=r"x must be an array of the backend 'cupy', not torch\.Tensor; convert it"):
        model(backend)(tensor)
    there = backend.asarray(tensor)
    assert backend.owns(there)
    close({"x": backend.to_numpy(there)}, {"x": X}, 0)
    on_torch = rr.get_backend(torch)
    close({"x": on_torch.to_numpy(on_torch.asarray(a))}, {"x": X}, 0)


# Streams and threads --------------------------------------------------------------------------------------------------


def test_an_array_that_another_stream_has_yet_to_finish(cupy: Any, by_strategy: Backend) -> None:
    layer = model(by_strategy)
    other = cupy.cuda.Stream(non_blocking=True)
    with other:
        x = cupy.asarray(X)
        for _ in range(20):
            x = x + 1
            x = x - 1
        ready = other.record()
    for stream in (cupy.cuda.Stream.null, cupy.cuda.Stream(non_blocking=True)):
        with stream:
            stream.wait_event(ready)
            found = train(layer, x)
        close(found, expected())


def test_threads_with_streams_of_their_own(cupy: Any, by_strategy: Backend) -> None:
    layer, wanted = model(by_strategy), expected()
    cupy.cuda.Stream.null.synchronize()
    found: dict[int, list[Any]] = {}

    def work(number: int) -> None:
        with cupy.cuda.Stream(non_blocking=True) as stream:
            found[number] = [train(layer) for _ in range(3)]
            stream.synchronize()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 1, 2]
    for results_of in found.values():
        for each in results_of:
            close(each, wanted)


@pytest.mark.parametrize(
    ("layer", "backward"),
    [("lstm", False), ("lstm", True), ("linear", False), ("linear", True), ("embedding", False)],
)
def test_a_capture_is_refused_before_any_work(cupy: Any, by_strategy: Backend, layer: str, backward: bool) -> None:
    made: rr.Layer = {
        "lstm": rr.LSTM(4, 5, backend=by_strategy),
        "linear": rr.Linear(4, 5, backend=by_strategy),
        "embedding": rr.Embedding(7, 5, backend=by_strategy),
    }[layer]
    x = by_strategy.asarray(made.random_input(np.random.default_rng(0), 3, 6))
    x = x if layer == "embedding" else x.astype("float32")
    y, _, cache = made.forward(x)
    stream = cupy.cuda.Stream(non_blocking=True)
    pool = cupy.get_default_memory_pool()
    with stream:
        before = pool.used_bytes()
        stream.begin_capture()
        try:
            with pytest.raises(RuntimeError, match=r"can't be captured in a CUDA graph.* outside the capture"):
                made.backward(cache, y) if backward else made(x)
            assert pool.used_bytes() == before
        finally:
            graph = stream.end_capture()
    graph.launch(stream)  # an empty one
    stream.synchronize()
    np.testing.assert_array_equal(by_strategy.to_numpy(made(x)[0]), by_strategy.to_numpy(y))


# Allocators, scopes, hooks --------------------------------------------------------------------------------------------


def _managed(cupy: Any) -> Any:
    return cupy.cuda.MemoryPool(cupy.cuda.malloc_managed).malloc


def _asynchronous(cupy: Any) -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cupy.cuda.MemoryAsyncPool is experimental")
        return cupy.cuda.MemoryAsyncPool().malloc


def _users(cupy: Any) -> Any:
    pool = cupy.cuda.MemoryPool()
    return lambda size: pool.malloc(size)


def _none(cupy: Any) -> None:
    """Without a pool."""


@pytest.mark.parametrize("make", [_managed, _asynchronous, _users, _none])
def test_allocators(cupy: Any, allocator: Any, make: Callable[[Any], Any], by_strategy: Backend) -> None:
    allocate = make(cupy)
    if make is _asynchronous:
        try:
            allocate(64)
        except cupy.cuda.memory.OutOfMemoryError:
            pytest.skip("the device gives no memory from asynchronous pools")
    allocator(allocate)
    layer = model(by_strategy)
    for _ in range(2):
        close(train(layer), expected())


@pytest.mark.parametrize("name", ["lstm", "linear"])
def test_nothing_waits_for_the_device(cupy: Any, by_strategy: Backend, name: str) -> None:
    """Neither a layer nor a loss nor an optimizer."""
    import cupyx

    layer = (
        model(by_strategy, dropout=0.3, learned_state=True)
        if name == "lstm"
        else rr.Sequential(rr.Linear(4, 10, backend=by_strategy), rr.LayerNorm(10, backend=by_strategy))
    )
    x, target = by_strategy.asarray(X, layer.dtype), by_strategy.asarray(np.ones((3, 6, 10)), layer.dtype)
    optimizer = rr.optim.Adam(layer.params, lr=1e-3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cupyx.allow_synchronize will be removed")
        for _ in range(2):  # the first time kernels are compiled
            with cupyx.allow_synchronize(False):
                y, _, cache = layer.forward(x)
                loss, dy = rr.losses.mse(y, target)
                _, _, grads = layer.backward(cache, dy)
                optimizer.step(grads)
                layer(x)
    assert float(loss) > 0


def test_errors_states_do_not_change_results(cupy: Any, by_strategy: Backend) -> None:
    import cupyx

    with cupyx.errstate(linalg="raise"):
        close(train(model(by_strategy)), expected())


def test_a_memory_hook_sees_what_is_allocated(cupy: Any, by_strategy: Backend) -> None:
    class Counting(cupy.cuda.MemoryHook):  # type: ignore[misc]
        name, sizes = "counting", []

        def malloc_preprocess(self, **told: Any) -> None:
            self.sizes.append(told["size"])

    with Counting() as hook:
        close(train(model(by_strategy)), expected())
    assert len(hook.sizes) > 10


# Copies ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))], ids=["deep", "pickled"])
def test_copies_go_on_by_themselves(cupy: Any, by_strategy: Backend, copied: Callable[[Any], Any]) -> None:
    layer = model(by_strategy)
    x = by_strategy.asarray(X)
    y, state, cache = layer.forward(x)
    other_layer, other_cache, other_state = copied((layer, cache, state))
    assert other_layer.backend is by_strategy
    for a, b in zip(
        layer.backward(cache, y, state)[2].values(), other_layer.backward(other_cache, y)[2].values(), strict=True
    ):
        assert a.shape == b.shape
    before = by_strategy.to_numpy(other_layer.params["bias_ih_l0"])
    layer.params["bias_ih_l0"] += 1
    np.testing.assert_array_equal(by_strategy.to_numpy(other_layer.params["bias_ih_l0"]), before)
    close(train(other_layer), expected())
    assert not cupy.shares_memory(other_state.h, state.h)


# What fails -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("dtype", ["float64", "float32"])  # the input is converted to it
def test_too_little_memory_is_said_with_the_sizes_and_leaves_no_trace(
    cupy: Any, by_strategy: Backend, allocator: Any, batch_first: bool, dtype: str
) -> None:
    pool = cupy.cuda.MemoryPool()
    allocator(pool.malloc)
    layer = model(by_strategy, bidirectional=False, num_layers=1, batch_first=batch_first, dtype=dtype)
    x, dy = cupy.zeros((30, 40, 4)), cupy.ones((30, 40, 5))
    steps, batch = (40, 30) if batch_first else (30, 40)

    def work() -> Any:
        return layer.backward(layer.forward(x)[2], dy)[0]

    work()
    used, most, failed = pool.used_bytes(), pool.total_bytes(), []
    for limit in range(used, most, max(1, (most - used) // 12)):
        pool.free_all_blocks()
        pool.set_limit(size=limit)
        try:
            work()
        except cupy.cuda.memory.OutOfMemoryError as error:
            failed.append(error)
    assert len(failed) > 2
    for error in failed:
        assert f"LSTM with 5 units, over {steps} steps of {batch} rows." in error.__notes__[0]
    pool.set_limit(size=0)
    assert bool(cupy.isfinite(work()).all())


def test_what_does_not_fit_on_the_device_is_refused(cupy: Any, backend: Backend) -> None:
    """A layout for a larger GPU than this: the driver is asked."""
    library = Library()
    larger = replace(library.device(), multiprocessors=20 * library.device().multiprocessors)
    recurrence = recurrence_of(LSTMCell(), Way.TRAINING)
    layout = layout_for(recurrence.work(64, 4096, 4), larger, resident=True)
    assert layout is not None
    kernel = recurrence.kernel(layout.tile, layout.threads)
    with pytest.raises(
        DoesNotFitError, match=f"LSTMCell_forward.* needs {layout.blocks} blocks .* at once, but .* fit"
    ):
        library.shaped(kernel, "float32", layout, cooperative=True)
    too_much = replace(layout, shared=2**24)
    with pytest.raises(DoesNotFitError, match=r"LSTMCell_forward.* needs 1 blocks .* at once, but 0 fit|can't have"):
        library.shaped(kernel, "float32", too_much, cooperative=False)


class Patient(LSTMCell):
    """A cell whose kernels are its own."""


def test_a_kernel_that_waits_in_vain(cupy: Any, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    right = persistent.recurrence.fixed_text

    def impatient(*names: str) -> str:
        return right(*names).replace("20000000000LL", "20000LL")

    monkeypatch.setattr(persistent.recurrence, "fixed_text", impatient)
    backend = type(backend)(strategy="persistent")  # type: ignore[call-arg]
    layer = rr.Recurrent(Patient(), 4, 300, backend=backend, seed=0)
    x = backend.asarray(X, "float32")
    bound = backend.library.bound  # type: ignore[attr-defined]

    def with_a_block_too_few(function: Any, blocks: int, *rest: Any) -> Any:
        return bound(function, blocks - 1 if function.cooperative else blocks, *rest)

    backend.library.bound = with_a_block_too_few  # type: ignore[attr-defined]
    y, _ = layer(x)
    with pytest.raises(RuntimeError, match=r"'persistent' waited in vain .* From now on this backend uses .* 'step'"):
        backend.to_numpy(y)
    assert np.isnan(backend.to_numpy(y)).any()
    backend.library.bound = bound  # type: ignore[attr-defined]
    assert backend.strategy == "step"  # type: ignore[attr-defined]
    found = backend.to_numpy(layer(x)[0])
    np.testing.assert_allclose(found, rr.Recurrent(Patient(), 4, 300, seed=0)(X.astype("float32"))[0], atol=2e-5)


def test_a_fault_is_found_once(cupy: Any, backend: Backend) -> None:
    library = Library()
    assert not library.found_fault()
    library._fault[0] = 1
    assert library.found_fault()
    assert not library.found_fault()


# The library ----------------------------------------------------------------------------------------------------------


def test_the_device_is_described(cupy: Any, backend: Backend) -> None:
    name = cupy.cuda.runtime.getDeviceProperties(0)["name"].decode()
    assert backend.describe().startswith(f"{name} (CUDA 1")
    assert f"CuPy {cupy.__version__})" in backend.describe()
    library = Library()
    capability = tuple(int(cupy.cuda.Device().compute_capability) // n for n in (10,))
    assert library.device() == Device(
        multiprocessors=cupy.cuda.Device().attributes["MultiProcessorCount"],
        shared=cupy.cuda.Device().attributes["MaxSharedMemoryPerBlockOptin"],
        cooperative=True,
        tensor_cores=capability >= (8,),
        cache=cupy.cuda.Device().attributes["L2CacheSize"],
    )


def test_steps_are_graphs_whatever_the_arrays_and_the_length(cupy: Any, backend: Backend) -> None:
    """In a training loop, whose arrays have other addresses all the time, all calls after the first are replayed."""
    backend = type(backend)(strategy="step")  # type: ignore[call-arg]
    graphs = graphs_of(backend.library)  # type: ignore[attr-defined]
    capture, captured, replayed = graphs._capture, [], []

    def counted(work: Any) -> Any:
        replay = capture(work)
        captured.append(work)
        return lambda: (replayed.append(work), replay())

    graphs._capture = counted
    layer, right = (model(be, bidirectional=False, num_layers=1) for be in (backend, "numpy"))
    rng, held = np.random.default_rng(3), []
    for k, steps in enumerate([24, 24, 19, 8, 24, 31, 9, 24]):
        x = rng.standard_normal((3, steps, 4))
        found = []
        for one in (layer, right):
            y, state, cache = one.forward(one.backend.asarray(x))
            dx, _, grads = one.backward(cache, 2 * y, state)
            found.append(host(one.backend, {"y": y, "dx": dx, **grads}))
            held.append((y, cache) if k % 2 else cache)  # so that none has the addresses of one before
        close(*found)
        captures = {0: 0, 1: 2 * 2}.get(k, 4)  # of 16 steps and of 8, forward and backward
        assert len(captured) == captures, k
        assert len(replayed) == (0, 4, 6, 8, 12, 16, 18, 22)[k]
    with cupy.cuda.Stream(non_blocking=True):  # which has a table, and graphs, of its own
        np.testing.assert_allclose(backend.to_numpy(layer(backend.asarray(x))[0]), right(x)[0], rtol=0, atol=1e-11)
    assert len(replayed) == 22
    first = layer(backend.asarray(x))[0]
    backend.release_memory()
    assert not graphs._known
    assert not graphs._tables
    np.testing.assert_array_equal(backend.to_numpy(layer(backend.asarray(x))[0]), backend.to_numpy(first))


@pytest.mark.parametrize("rounded_to", ["float16", "bfloat16"])
@pytest.mark.parametrize("transposed", ["", "a", "b"])
def test_rounded_products(cupy: Any, backend: Backend, rounded_to: str, transposed: str) -> None:
    library, rng = Library(), np.random.default_rng(8)
    a, b = rng.standard_normal((3, 5)), rng.standard_normal((5, 4))
    given = [
        rounded(
            library, cupy.asarray(np.ascontiguousarray(one.T if name == transposed else one), "float32"), rounded_to
        )
        for name, one in (("a", a), ("b", b))
    ]
    out = cupy.full((3, 4), cupy.nan, "float32")
    library.product(*given, out, rounded_to=rounded_to, transposed=transposed)
    np.testing.assert_allclose(cupy.asnumpy(out), a @ b, rtol=0, atol={"float16": 4e-3, "bfloat16": 3e-2}[rounded_to])
    nothing = (
        rounded(library, cupy.zeros((3, 0), "float32"), rounded_to),
        rounded(library, cupy.zeros((4, 0), "float32"), rounded_to),
    )
    library.product(*nothing, out, rounded_to=rounded_to, transposed="b")
    assert not out.any()


def test_imitations_are_as_what_they_imitate(cupy: Any, backend: Backend) -> None:
    fake, number = FakeCupy(Library().device()), cupy.cuda.runtime.getDevice()
    assert not list(differences(fake.cuda.Device(number), cupy.cuda.Device(number), "Device"))
    kernel = cupy.RawKernel('extern "C" __global__ void nothing() {}', "nothing")
    kernel.compile()
    assert not list(differences(fake.RawKernel("", ""), kernel, "RawKernel"))
    assert not list(differences(fake.RawKernel("", "").kernel, kernel.kernel, "Function"))
    memory = cupy.cuda.alloc_pinned_memory(4)
    assert type(memory.ptr) is type(fake.cuda.alloc_pinned_memory(4).ptr)


@pytest.mark.parametrize("case", [case for case in CASES if case.lengths is None], ids=str)
def test_every_layer_on_a_stream_of_its_own(cupy: Any, backend: Backend, case: Any) -> None:
    given = problem(case)
    wanted = host(rr.get_backend(np), results(layer_for(case, given, rr.get_backend(np)), given))  # type: ignore[arg-type]
    with cupy.cuda.Stream(non_blocking=True):
        layer = layer_for(case, given, backend)
        found = results(layer, give(layer, given))
        assert_all_close(backend, found, wanted)
