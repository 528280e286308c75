"""Both directions at the same time, each on its own stream: in which order a GPU may do what it is asked for.

No GPU is needed: `stream_order` keeps account of who waits for whom. The numbers are those of kernels on the CPU.
"""

from __future__ import annotations

import itertools
import warnings
from types import SimpleNamespace

import numpy as np
import pytest

import recurray as rr
from cupy_backend.test_cupy_backend import backend_on
from harness.cuda.host_cpp import SMALL, HostLibrary, compiler
from harness.cuda.stream_order import Clock, FakeCuda, Order, TrackedNamespace
from recurray_cupy import plan, recurrence_launch
from recurray_cupy.library import DoesNotFitError
from recurray_cupy.plan import Device, Work, plan_for
from recurray_cupy.streams import Streams

needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")


class TrackedLibrary(HostLibrary):
    """The stand-in for CuPy, with every use of an array noted."""

    def __init__(self, folder, streams=Streams, **options):
        super().__init__(folder, **options)
        self.order = Order()
        self.cuda = FakeCuda(self.order)
        self.xp, self.streams = TrackedNamespace(self.order), streams(self.cuda)

    def _wrapped(self, run, kernel, dtype):
        launch = super()._wrapped(run, kernel, dtype)

        def noted(grid, block, values, shared=0):
            given = {a.name: value for a, value in zip(kernel.arguments, values, strict=True)}
            arrays = [(a.type, of_steps(a.name, given)) for a in kernel.arguments]
            arrays = [(kind, value) for kind, value in arrays if isinstance(value, np.ndarray) and value.ndim]
            reads = [value for kind, value in arrays if kind.startswith("const ")]
            self.order.launch(kernel.name, reads, [value for kind, value in arrays if not kind.startswith("const ")])
            launch(grid, block, values, shared)

        return noted


def of_steps(name, given):
    """What a launch uses of an argument: of what layers hand on to each other, the part of its own steps.

    Their outputs are the states that a kernel writes, and gradients of outputs are what one backward reads.
    """
    value, start, steps, reverse = (given.get(key) for key in (name, "start", "steps", "reverse"))
    first = start - steps + 1 if bool(reverse) != ("dy" in given) else start
    if name == "dy":
        return value[first : first + steps]
    if name == "state_h" and "dy" not in given:
        return value[first + 1 - reverse : first + 1 - reverse + steps]
    return value


def backend_of(library, stage):
    backend = backend_on(library)
    backend.xp, backend.stage, backend.two_streams = library.xp, stage, True
    backend._cupy.ndarray = library.xp.kind  # what isn't tracked has to be brought over
    return backend


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


OPTIONS = [{}, {"dropout": 0.3, "recurrent_dropout": 0.2}, {"proj_size": 3, "learned_state": True}, {"recompute": 2}]


def train(backend, lengths=None, **options):
    """A few turns of training, as an optimizer would make them, and inference; everything that comes out."""
    layer = rr.LSTM(3, 5, 2, bidirectional=True, backend=backend, dtype="float64", seed=1, **options)
    rng, found = np.random.default_rng(2), []
    for _ in range(2):
        x, dy = (backend.asarray(rng.standard_normal((4, 6, n))) for n in (3, 2 * layer.output_size))
        y, state, cache = layer.forward(x, None, lengths)
        dx, dstate, grads = layer.backward(cache, dy, state)
        for name in layer.params:
            layer.params[name] = layer.params[name] - 0.1 * grads[name]
        inferred, _ = layer(x, lengths=lengths)
        found += [np.array(a) for a in (y, *state, dx, *dstate, *grads.values(), inferred)]
    return found


@needs_compiler
@pytest.mark.parametrize("stage", ["persistent", "step", "fused", "reference"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_is_used_that_has_not_been_waited_for(folder, stage, options):
    library = TrackedLibrary(folder)
    backend = backend_of(library, stage)
    backend.steps_together = 2 if "recompute" in options else 512
    ragged = [6, 2, 0, 5]
    with warnings.catch_warnings(action="ignore"):  # a projection is "fused"
        found = train(backend, ragged, **options)
    assert not library.order.mistakes
    expected = train(rr.get_backend(np), ragged, **options)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)
    assert set(library.order.clocks) == {0, 1}
    if stage != "reference":
        assert {stream for _, stream, _ in library.order.launches} == {0, 1}


def at_the_same_time(order):
    """How many launches of one direction needn't wait for some of the other's, nor these for them."""
    pairs = itertools.product(*([one for one in order.launches if one[1] == stream] for stream in (0, 1)))
    return sum(a[2][0] > b[2].get(0, 0) and b[2][1] > a[2].get(1, 0) for a, b in pairs)


@needs_compiler
def test_directions_run_at_the_same_time_where_they_may(folder):
    library = TrackedLibrary(folder)
    backend = backend_of(library, "persistent")
    train(backend)
    assert at_the_same_time(library.order) == len(library.order.launches) // 2
    assert all(plan.blocks <= SMALL.multiprocessors // 2 for plan in library.plans)
    found = []
    for prepare in (
        lambda backend, cuda: setattr(backend, "two_streams", False),
        lambda backend, cuda: setattr(cuda, "allocator", lambda size: None),  # RMM's, say
    ):
        library = TrackedLibrary(folder)
        backend = backend_of(library, "persistent")
        prepare(backend, library.cuda)
        found = train(backend)
        assert {stream for _, stream, _ in library.order.launches} == {0}
        assert not library.order.mistakes
    for a, b in zip(found, train(rr.get_backend(np)), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-10)


@needs_compiler
def test_a_layer_is_right_on_the_users_own_streams(folder):
    library = TrackedLibrary(folder)
    backend, cuda = backend_of(library, "persistent"), library.cuda
    one, other = cuda.Stream(non_blocking=True), cuda.Stream(non_blocking=True)
    for stream in (one, other, one):  # each with arrays of its own
        with stream:
            train(backend)
    assert not library.order.mistakes
    assert {stream for _, stream, _ in library.order.launches} == {1, 2, 3, 4}  # each has one beside it
    cuda.device = 1
    train(backend)
    assert library.order.clocks[5]


@needs_compiler
@pytest.mark.parametrize("waited", [True, False])
def test_arrays_of_another_stream_are_to_be_waited_for_by_the_user(folder, waited):
    library = TrackedLibrary(folder)
    backend, cuda = backend_of(library, "fused"), library.cuda
    other = cuda.Stream(non_blocking=True)
    layer = rr.LSTM(3, 5, bidirectional=True, backend=backend, dtype="float64", seed=1)
    x = backend.asarray(np.ones((4, 6, 3)))
    made = cuda.get_current_stream().record(cuda.Event(disable_timing=True))
    with other:
        if waited:
            other.wait_event(made)
        _, _, cache = layer.forward(x)
        layer.backward(cache, x[:, :, :1] + np.ones(10))
    assert bool(library.order.mistakes) != waited


class NoFork(Streams):
    """A stream beside doesn't wait for the current one."""

    def _streams_beside(self, current, count):
        found = super()._streams_beside(current, count)
        for stream in found:
            stream.wait_event = lambda event: None
        return found


class NoJoin(Streams):
    """The current stream doesn't wait for the one beside it."""

    def _event(self, stream):
        event = super()._event(stream)
        if stream.ptr not in (3, 4):
            return event
        return SimpleNamespace(clock=Clock())


class Early(Streams):
    """What the current stream waits for is the beginning of the work."""

    def _streams_beside(self, current, count):
        found = super()._streams_beside(current, count)
        self._early = {stream.ptr: super(Early, self)._event(stream) for stream in found}
        return found

    def _event(self, stream):
        return self._early[stream.ptr] if stream.ptr in getattr(self, "_early", ()) else super()._event(stream)


class Shared(Streams):
    """One stream beside all of the user's."""

    def _streams_beside(self, current, count):
        self._only = getattr(self, "_only", None) or [self._cuda.Stream(non_blocking=True)]
        return self._only


MISTAKES = {NoFork: "being written", NoJoin: "being written", Early: "being written", Shared: "given memory"}


@needs_compiler
@pytest.mark.parametrize("careless", MISTAKES)
def test_mistakes_are_caught(folder, careless):
    library = TrackedLibrary(folder, streams=careless)
    backend = backend_of(library, "fused")
    for stream in [library.cuda.Stream(non_blocking=True) for _ in range(2)]:  # beside them will be 3 and 4
        with stream:
            train(backend)
    assert any(MISTAKES[careless] in mistake for mistake in library.order.mistakes)


def take_all_of_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every recurrence laid out in three blocks."""

    def three_blocks(work, device, *, resident, count):
        return plan._laid_out(work, Device(4, 10**6, threads=16), 2, 4, (3, 1), (4, 1))  # of 2 units and 4 rows

    monkeypatch.setattr(recurrence_launch, "plan_for", three_blocks)


@needs_compiler
@pytest.mark.parametrize("careful", [True, False])
def test_blocks_that_wait_for_each_other_do_not_share_too_small_a_gpu(folder, monkeypatch, careful):
    """Where a layout takes all of the GPU, the directions run one after another."""
    take_all_of_the_gpu(monkeypatch)
    library = TrackedLibrary(folder)
    if not careful:
        monkeypatch.setattr(Streams, "wait_for_others", lambda self: None)
    train(backend_of(library, "persistent"))
    assert len(library.plans) == len(library.order.launches)
    assert {stream for _, stream, _ in library.order.launches} == {0, 1}
    assert (at_the_same_time(library.order) == 0) == careful
    assert not library.order.mistakes


@needs_compiler
def test_what_fails_on_a_stream_is_waited_for_all_the_same(folder):
    library = TrackedLibrary(folder)
    backend = backend_of(library, "fused")
    one, other = (backend.asarray(np.ones(3)) for _ in range(2))

    def fail():
        other[...] = 1.0
        raise DoesNotFitError("no room")

    with pytest.raises(DoesNotFitError):
        backend.together([lambda: one.sum(), fail])
    assert library.streams.count == 1
    other[...] = 2.0
    assert not library.order.mistakes


def test_works_within_works_stay_on_their_stream():
    order = Order()
    streams = Streams(FakeCuda(order))

    def works():
        return streams.count, streams.together([lambda: (streams.count, order.current)] * 2)

    assert streams.together([works, works]) == [(2, [(2, 0)] * 2), (2, [(2, 1)] * 2)]
    assert streams.together([]) == []
    assert streams.together([lambda: streams.count]) == [1]


def test_layouts_of_several_at_the_same_time():
    h200 = Device(multiprocessors=132, shared=232_448)
    for batch, units in itertools.product((1, 16, 64), (128, 512, 1024)):
        work = Work(batch, units, 4, units, 4, 2, 4)
        alone, both = (plan_for(work, h200, resident=True, count=count) for count in (1, 2))
        assert both.clocks <= alone.clocks  # one after another they can run in any case
        assert both == alone or both.blocks <= 66
    assert plan_for(Work(16, 1024, 4, 1024, 4, 2, 4), h200, resident=True, count=2).blocks > 66  # too large for half


def test_cupy_has_what_streams_are_made_of():
    cuda = pytest.importorskip("cupy", reason="CuPy is not installed").cuda
    assert isinstance(cuda.get_allocator().__self__, cuda.MemoryPool)
    for name in ("wait_event", "record"):
        assert hasattr(cuda.Stream, name)
    assert "disable_timing" in cuda.Event.__init__.__doc__
    assert cuda.runtime.getDevice
    assert cuda.get_current_stream


def test_the_backend_says_how_many_streams_it_uses(tmp_path):
    backend = backend_on(HostLibrary(tmp_path))
    assert "; one stream;" in backend.describe()
    backend.two_streams = True
    assert "; two streams;" in backend.describe()
    with pytest.raises(TypeError, match="two_streams must be True or False, not 2"):
        rr.get_backend("cupy", two_streams=2)
    with pytest.raises(ValueError, match="the backend 'numpy' takes no two_streams, but two_streams=True"):
        rr.get_backend("numpy", two_streams=True)
