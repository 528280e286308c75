"""The layers of a stack as a wave: the numbers, and in which order a GPU may do what it is asked for.

No GPU is needed: kernels run on the CPU, and `stream_order` keeps account of which stream waits for which.
"""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import recurray as rr
from cupy_backend.test_cupy_backend import NoCompiler, backend_on
from cupy_backend.test_cupy_stages import LARGE
from cupy_backend.test_cupy_streams import TrackedLibrary, take_all_of_the_gpu
from harness.cells import CELLS
from harness.cuda.host_cpp import SMALL, HostLibrary, compiler
from harness.cuda.stream_order import Clock
from harness.random_cell import RandomCell
from recurray.cells import LSTMCell
from recurray_cupy import backend as backend_module
from recurray_cupy import plan, wave_plan
from recurray_cupy.compiled import compiled
from recurray_cupy.library import DoesNotFitError
from recurray_cupy.plan import Device, Work, clocks_of_product
from recurray_cupy.products import Products
from recurray_cupy.stages import ITEMSIZE
from recurray_cupy.streams import Streams
from recurray_cupy.wave_plan import clocks_of_wave, part_steps

needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")
STEPS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def tracked(folder, stage, part=2, **options):
    """A backend whose streams and arrays are kept account of."""
    backend = backend_on(TrackedLibrary(folder, **options))
    backend.xp, backend.stage, backend.wave = backend.library.xp, stage, part
    backend._cupy.ndarray = backend.library.xp.kind  # what isn't tracked has to be brought over
    return backend


def train(backend, cell=None, layers=3, *, lengths=None, dtype="float64", turns=2, **options):
    """A few turns of training, as an optimizer would make them, and inference; everything that comes out."""
    layer = rr.Recurrent(cell or LSTMCell(), 3, 5, layers, backend=backend, dtype=dtype, seed=1, **options)
    rng, found = np.random.default_rng(2), []

    def random(*shape):
        return backend.asarray(rng.standard_normal(shape), dtype)

    padding = np.zeros((4, STEPS, 1))
    if lengths is not None:  # it may hold anything
        padding[np.arange(STEPS) >= np.array(lengths)[:, None]] = np.nan
    for _ in range(turns):
        x, dy = (random(4, STEPS, size) for size in (3, layer.output_size * layer.directions))
        x, dy = (a + backend.asarray(padding, dtype) for a in (x, dy))
        shapes = [(layers * layer.directions, 4, 5 if k else layer.output_size) for k in range(len(layer.cell.states))]
        start, dend = ([random(*shape) for shape in shapes] for _ in range(2))
        start = None if layer.learned_state else layer.state_type(*start, *[None] * (2 - len(start)))
        y, state, cache = layer.forward(x, start, lengths)
        found.append(np.array(y))
        y[...] = np.nan  # what becomes of it doesn't reach the cache
        dx, dstate, grads = layer.backward(cache, dy, layer.state_type(*dend, *[None] * (2 - len(dend))))
        for name in layer.params:
            layer.params[name] = layer.params[name] - 0.1 * grads[name]
        inferred, end = layer(x, start, lengths=lengths)
        found += [np.array(a) for a in (*state, dx, *dstate, *grads.values(), inferred, *end) if a is not None]
    return found


def close(found, expected, atol=1e-12):
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=atol)


RAGGED = [7, 2, 0, 5]
OPTIONS = [
    {},
    {"lengths": RAGGED, "dropout": 0.3, "recurrent_dropout": 0.2},
    {"lengths": RAGGED, "proj_size": 3, "learned_state": True},
    {"cell": LSTMCell(layer_norm=True), "dropout": 0.3, "weight_dropout": 0.2},
]


@needs_compiler
@pytest.mark.parametrize("stage", ["persistent", "step", "fused"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nothing_is_used_that_has_not_been_waited_for(folder, stage, options):
    backend = tracked(folder, stage)
    with warnings.catch_warnings(action="ignore"):  # not every stage can do everything
        found = train(backend, **options)
    order = backend.library.order
    assert not order.mistakes
    assert {stream for _, stream, _ in order.launches} == {0, 1, 2}
    assert at_the_same_time(order)
    close(found, train(rr.get_backend(np), **options), 1e-10)


def at_the_same_time(order):
    """How many pairs of launches on different streams needn't wait for each other."""
    return sum(
        a[1] != b[1] and a[2][a[1]] > b[2].get(a[1], 0) and b[2][b[1]] > a[2].get(b[1], 0)
        for a, b in itertools.combinations(order.launches, 2)
    )


@needs_compiler
def test_each_layer_is_a_part_behind_the_one_below(folder):
    """Of the launches of a wave, those of a layer and of the one above are ordered part by part, and no further."""
    backend = tracked(folder, "persistent")
    layer = rr.LSTM(3, 5, 3, backend=backend, dtype="float64", seed=1)
    layer(backend.asarray(np.ones((4, 6, 3))))  # in parts of 2 steps
    launches = {k: [clock for _, stream, clock in backend.library.order.launches if stream == k] for k in range(3)}
    assert [len(parts) for parts in launches.values()] == [3, 3, 3]
    for below, above in ((0, 1), (1, 2)):
        for k, j in itertools.product(range(3), repeat=2):
            waits = launches[above][j][below] >= launches[below][k][below]
            assert waits == (k <= j)
            assert launches[below][k].get(above, 0) < launches[above][j][above]  # never the other way round


def random_case(seed):
    """A cell and options for a stack."""
    rng = np.random.default_rng(seed)
    cell = RandomCell(seed) if seed >= len(CELLS) else CELLS[seed]
    options = {
        "cell": cell,
        "lengths": RAGGED if rng.random() < 0.5 else None,
        "dropout": 0.4 * (rng.random() < 0.5),
        "layers": int(rng.integers(2, 5)),
        "bias": bool(rng.random() < 0.7),
        "learned_state": bool(rng.random() < 0.3),
    }
    if cell.recurrent_gates:
        options["recurrent_dropout"] = 0.3 * (rng.random() < 0.5)
        options["weight_dropout"] = 0.3 * (rng.random() < 0.5)
    return options


# A few cells are enough for a wave; all of them, and more combinations, where there is time.
FAST = (0, 4, 6, 8, 9, 18, len(CELLS))
SEEDS = [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in range(len(CELLS) + 12)]


@needs_compiler
@pytest.mark.parametrize("seed", SEEDS)
def test_the_numbers_are_those_of_layers_one_after_another(folder, seed):
    """Of the reference, and of the same backend without a wave; what is drawn at random as well."""
    rng, options = np.random.default_rng(seed), random_case(seed)
    stage, found = ("persistent", "step", "fused")[rng.integers(3)], []
    for part in (None, int(rng.integers(1, STEPS))):
        backend = backend_on(HostLibrary(folder))
        backend.stage, backend.wave = stage, part
        with warnings.catch_warnings(action="ignore"):
            found.append(train(backend, turns=1, **options))
    close(found[1], found[0])
    close(found[1], train(rr.get_backend(np), turns=1, **options), 1e-10)


@needs_compiler
@pytest.mark.parametrize("options", [OPTIONS[1], OPTIONS[2], {"layers": 4}], ids=str)
def test_but_for_the_inputs_products_all_bits_are_the_same(folder, monkeypatch, options):
    """If a product's rows don't depend on how many there are."""

    def with_transposed(self, a, b, out):
        out[...] = (a[:, None, :] * b).sum(axis=-1)

    monkeypatch.setattr(Products, "with_transposed", with_transposed)
    monkeypatch.setattr(Products, "plain", lambda self, a, b, out: with_transposed(self, a, b.T, out))
    found = []
    for part in (None, 1, 3):
        backend = backend_on(HostLibrary(folder))
        backend.stage, backend.wave = "fused", part
        found.append(train(backend, **options))
    for other in found[1:]:
        for a, b in zip(other, found[0], strict=True):
            np.testing.assert_array_equal(a, b)


@needs_compiler
@pytest.mark.parametrize(("stage", "small"), [("persistent", "float16"), ("fused", "bfloat16"), ("persistent", None)])
def test_float32_and_half_precision(folder, stage, small):
    found, options = [], {"dtype": "float32", "dropout": 0.2, "lengths": RAGGED, "turns": 1}
    for part in (None, 3):
        backend = tracked(folder, stage, part, gpu=LARGE)
        backend.compute_dtype = small
        found.append(train(backend, layers=2, **options))
        assert not backend.library.order.mistakes
        assert {stream for _, stream, _ in backend.library.order.launches} == ({0} if part is None else {0, 1})
    close(found[1], found[0], 1e-2 if small else 1e-5)  # a number may be rounded to the next
    close(found[1], train(rr.get_backend(np), layers=2, **options), 0.2)


@needs_compiler
@pytest.mark.parametrize("changed", ["bidirectional", "recomputed", "allocator", "one layer", "reference"])
def test_where_there_is_no_wave_layers_run_one_after_another(folder, changed):
    backend, options = tracked(folder, "reference" if changed == "reference" else "fused"), {}
    order, cuda = backend.library.order, backend.library.cuda
    streams = {0}
    if changed == "bidirectional":  # a layer needs all steps of the one below
        options, backend.two_streams, streams = {"bidirectional": True}, True, {0, 1}
    elif changed == "recomputed":  # in parts of its own, each with a cache; not so in inference
        options, backend.steps_together = {"recompute": 2}, 2
    elif changed == "allocator":
        cuda.allocator = lambda size: None  # RMM's, say
    elif changed == "one layer":
        options = {"layers": 1}
    found = train(backend, **options)
    assert not order.mistakes
    assert {stream for name, stream, _ in order.launches if "backward" in name} <= streams
    assert (set(order.clocks) == streams) or changed == "recomputed"
    close(found, train(rr.get_backend(np), **options), 1e-10)


@needs_compiler
def test_a_wave_forward_and_none_backward_and_the_other_way_round(folder):
    """A cache is the same either way."""
    expected = train(tracked(folder, "fused", None), dropout=0.3)

    class Changing(type(tracked(folder, "fused"))):
        def stack_backward(self, *args):
            self.wave = 3 if self.wave is None else None
            return super().stack_backward(*args)

    for part in (2, None):
        backend = tracked(folder, "fused", part)
        backend.__class__ = Changing
        close(train(backend, dropout=0.3), expected)
        assert not backend.library.order.mistakes


class NoWait(Streams):
    """A layer doesn't wait for the one below."""

    def _event(self, stream):
        return SimpleNamespace(clock=Clock()) if self.count > 1 else super()._event(stream)


class APartTooEarly(Streams):
    """A layer waits for the part before that of the one below that it reads."""

    def _event(self, stream):
        event = super()._event(stream)
        if self.count == 1:
            self._before = {}
            return event
        before, self._before[stream.ptr] = self._before.get(stream.ptr, SimpleNamespace(clock=Clock())), event
        return before


class NoJoin(Streams):
    """The current stream waits for none of the others."""

    def _event(self, stream):
        event = super()._event(stream)
        return SimpleNamespace(clock=Clock()) if self.count == 1 and stream.ptr else event


@needs_compiler
@pytest.mark.parametrize("careless", [NoWait, APartTooEarly, NoJoin])
@pytest.mark.parametrize("stage", ["persistent", "fused"])
@pytest.mark.parametrize("options", [{}, {"lengths": RAGGED, "dropout": 0.3}], ids=str)
def test_mistakes_are_caught(folder, careless, stage, options):
    backend = tracked(folder, stage, streams=careless)
    with warnings.catch_warnings(action="ignore"):
        train(backend, **options)
    assert any("is being" in mistake for mistake in backend.library.order.mistakes)


@needs_compiler
@pytest.mark.parametrize("backward", [False, True])
def test_a_mistake_in_either_direction_is_caught(folder, backward):
    """Of the waits of a wave those of the forward or of the backward one alone are left out."""
    backend = tracked(folder, "persistent")
    layer = rr.LSTM(3, 5, 3, backend=backend, dtype="float64", seed=1)
    careless = NoWait(backend.library.cuda)
    right = backend.library.streams
    x = backend.asarray(np.ones((4, STEPS, 3)))
    backend.library.streams = right if backward else careless
    y, _, cache = layer.forward(x)
    backend.library.streams = careless if backward else right
    assert bool(backend.library.order.mistakes) != backward
    layer.backward(cache, y)
    assert backend.library.order.mistakes


@needs_compiler
@pytest.mark.parametrize("careful", [True, False])
def test_blocks_that_wait_for_each_other_do_not_share_too_small_a_gpu(folder, monkeypatch, careful):
    """Where a layout takes all of the GPU, the parts run one after another; of one step their blocks don't wait."""
    take_all_of_the_gpu(monkeypatch)
    backend = tracked(folder, "persistent", part=4)
    if not careful:
        monkeypatch.setattr(Streams, "wait_for_others", lambda self: None)
    train(backend)
    order = backend.library.order
    assert len(backend.library.plans) == len(order.launches)
    assert {stream for _, stream, _ in order.launches} == {0, 1, 2}
    assert (at_the_same_time(order) == 0) == careful
    assert not order.mistakes


@needs_compiler
def test_each_layer_has_its_share_of_the_gpu(folder, monkeypatch):
    """For which the stage is chosen, and what is compiled before anything runs is what runs."""
    backend, asked, counts = tracked(folder, "persistent"), set(), []
    right, stages_for = backend.library.planned, backend_module.stages_for
    monkeypatch.setattr(backend_module, "stages_for", lambda *args: counts.append(args[-1]) or stages_for(*args))

    def planned(kernel, dtype, plan, *, cooperative):
        asked.add(plan)
        return right(kernel, dtype, plan, cooperative=cooperative)

    monkeypatch.setattr(backend.library, "planned", planned)
    train(backend)
    assert set(counts) == {3}
    assert asked == set(backend.library.plans)
    assert all(each.blocks <= max(1, SMALL.multiprocessors // 3) for each in asked)


@needs_compiler
def test_a_layer_is_right_on_the_users_own_streams(folder):
    backend = tracked(folder, "persistent")
    cuda, order = backend.library.cuda, backend.library.order
    one, other = cuda.Stream(non_blocking=True), cuda.Stream(non_blocking=True)
    for stream in (one, other, one):
        with stream:
            train(backend, turns=1)
    assert not order.mistakes
    assert {stream for _, stream, _ in order.launches} == {1, 2, 3, 4, 5, 6}


@needs_compiler
def test_what_does_not_compile_runs_layer_after_layer(folder):
    """By the reference path at last, after warnings that say why; and from then on without trying."""
    backend = backend_on(NoCompiler(HostLibrary(folder), ("forward", "backward")))
    backend.stage, backend.wave = "fused", 2
    with pytest.warns(UserWarning, match="LSTMCell runs layer after layer: the kernel") as told:
        found = train(backend)
    assert len(told) == 1
    close(found, train(rr.get_backend(np)), 1e-10)


@needs_compiler
def test_a_launch_that_is_refused_in_the_midst_of_a_wave(folder, monkeypatch):
    """All that has been queued is waited for, and the next slower stage does it all again."""
    backend, count = tracked(folder, "persistent"), itertools.count()
    right = backend.library.planned

    def planned(kernel, dtype, plan, *, cooperative):
        if next(count) == 8:
            raise DoesNotFitError("the GPU refuses to launch it")
        return right(kernel, dtype, plan, cooperative=cooperative)

    monkeypatch.setattr(backend.library, "planned", planned)
    with pytest.warns(UserWarning, match="LSTMCell runs by the stage 'step': the GPU refuses"):
        found = train(backend, turns=1)
    assert not backend.library.order.mistakes
    assert backend.library.streams.count == 1
    close(found, train(rr.get_backend(np), turns=1), 1e-10)


# The rule -------------------------------------------------------------------------------------------------------------

H200 = Device(multiprocessors=132, shared=232_448)


def work(batch, units, dtype="float32", small="", keep=True):
    recurrence = compiled(LSTMCell()).recurrence(keep=keep, small=small)
    return recurrence.work(batch, units, ITEMSIZE[dtype])


def test_the_time_of_a_wave():
    """Of C parts and L layers C + L - 1 parts, or what the host needs."""
    steps, clocks = 1024, 5000.0
    assert clocks_of_wave(steps, 4, 8, clocks) == 11 * (128 * clocks + wave_plan.PART)
    assert clocks_of_wave(steps, 4, 64, clocks) == 4 * 64 * wave_plan.QUEUE
    assert clocks_of_wave(5, 2, 4, 1e9) == 4 * (2e9 + wave_plan.PART)  # of 2, 2 and 1 steps: 3 parts
    assert clocks_of_wave(steps, 4, 1, clocks) > 4 * steps * clocks  # one part: a layer after another


@pytest.mark.parametrize("keep", [True, False, None])
@pytest.mark.parametrize("small", ["", "bfloat16"])
def test_waves_are_for_small_layers_of_few_rows(keep, small):
    for batch, units, pays in [(1, 128, True), (1, 512, True), (16, 256, True), (1, 2048, False), (256, 1024, False)]:
        part = part_steps(work(batch, units, small=small, keep=keep), H200, layers=4, steps=512)
        assert (part < 512) == pays


def test_how_many_parts():
    few = work(1, 256)
    parts = [-(-steps // part_steps(few, H200, layers=4, steps=steps)) for steps in (8, 64, 512, 4096, 65536)]
    assert parts == sorted(parts)  # the longer the sequence, the more
    assert parts[0] == 1
    assert 2 < parts[2] < parts[4] == max(wave_plan.COUNTS)
    for layers, steps, batch in itertools.product((2, 3, 8), (50, 512, 3000), (1, 64)):
        size = work(batch, 256)
        part = part_steps(size, H200, layers=layers, steps=steps)
        assert 1 <= part <= steps
        if part < steps:  # then each layer has its share, and it is estimated to be faster
            at_once, alone = (plan.plan_for(size, H200, resident=True, count=count) for count in (layers, 1))
            assert at_once.blocks <= 132 // layers
            count, product = -(-steps // part), clocks_of_product(size, H200)
            one_by_one = layers * steps * (alone.clocks + product)
            assert clocks_of_wave(steps, layers, count, (at_once.clocks + product) * layers) < one_by_one
    assert part_steps(Work(1, 10**7, 4, 10**7, 4, 2, 4), H200, layers=4, steps=512) == 512  # there is no layout
    assert part_steps(few, replace(H200, multiprocessors=2), layers=4, steps=512) == 512  # nor a share for each


@needs_compiler
def test_the_rule_is_followed(folder, monkeypatch):
    parts, sizes = itertools.cycle([3, STEPS, 2]), []  # forward, backward, inference
    monkeypatch.setattr(backend_module, "part_steps", lambda work, gpu, **given: sizes.append(given) or next(parts))
    backend = tracked(folder, "persistent", "auto")
    order = backend.library.order
    train(backend, turns=1)
    assert sizes == [{"layers": 3, "steps": STEPS}] * 3
    streams = [stream for name, stream, _ in order.launches if "backward" not in name]
    assert [streams.count(k) for k in range(3)] == [3 + 4] * 3
    assert [stream for name, stream, _ in order.launches if "backward" in name] == [0] * 3
    backend = tracked(folder, "fused", "auto")
    train(backend, turns=1)
    assert {stream for _, stream, _ in backend.library.order.launches} == {0}  # there launches are what takes time
    assert len(sizes) == 3


def test_a_wave_is_asked_for():
    for wrong, kind in [(0, ValueError), ("all", ValueError), (-3, ValueError), (True, TypeError), (2.5, TypeError)]:
        with pytest.raises(kind, match="wave must be a positive number of steps, 'auto' or None, not"):
            rr.get_backend("cupy", wave=wrong)
    with pytest.raises(ValueError, match="the backend 'numpy' takes no wave, but wave='auto' was asked for"):
        rr.get_backend("numpy", wave="auto")


def test_the_backend_says_what_it_does(tmp_path):
    backend = backend_on(HostLibrary(tmp_path, gpu=H200))
    backend.stage = "persistent"
    assert backend.describe().endswith("; layers one after another")
    backend.wave = 32
    assert backend.describe().endswith("; layers as a wave, 32 steps at a time")
    backend.wave = "auto"
    assert backend.describe().endswith(
        "; layers as a wave where it pays (for an LSTM of 4 layers and 1 row, 512 steps, by its units: "
        "128: 128 steps, 512: 128 steps, 1024: none, 2048: none)"
    )
