"""The layers of a stack as a wave: the numbers, and in which order a GPU may do what it is asked for.

No GPU is needed: kernels run on the CPU, and `stream_order` keeps account of which stream waits for which.
"""

from __future__ import annotations

import itertools
import warnings

import numpy as np
import pytest

import recurray as rr
from host_cpp import SMALL, HostLibrary, compiler
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell
from recurray_cupy import plan, recurrence_launch, wave_plan
from recurray_cupy.library import CompilationError
from recurray_cupy.plan import Device, Work
from recurray_cupy.streams import Streams
from recurray_cupy.wave_plan import clocks_of_wave, part_steps
from stream_order import Clock
from test_cupy_backend import NoCompiler, backend_on
from test_cupy_streams import TrackedLibrary

needs_compiler = pytest.mark.skipif(compiler() is None, reason="g++ is not installed")
STEPS = 7


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("kernels")


def tracked(folder, stage, part=2, streams=Streams):
    """A backend whose streams and arrays are kept account of."""
    backend = backend_on(TrackedLibrary(folder, streams=streams))
    backend.xp, backend.stage, backend.wave = backend.library.xp, stage, part
    return backend


def train(backend, cell=None, layers=3, *, lengths=None, dtype="float64", turns=2, **options):
    """A few turns of training, as an optimizer would make them, and inference; everything that comes out."""
    layer = rr.Recurrent(cell or LSTMCell(), 3, 5, layers, backend=backend, dtype=dtype, seed=1, **options)
    rng, found = np.random.default_rng(2), []

    def random(*shape):
        return backend.asarray(rng.standard_normal(shape), dtype)

    for _ in range(turns):
        x, dy = random(4, STEPS, 3), random(4, STEPS, layer.output_size * layer.directions)
        shapes = [(layers * layer.directions, 4, 5 if k else layer.output_size) for k in range(len(layer.cell.states))]
        start, dend = ([random(*shape) for shape in shapes] for _ in range(2))
        start = None if layer.learned_state else layer.state_type(*start, *[None] * (2 - len(start)))
        y, state, cache = layer.forward(x, start, lengths)
        dx, dstate, grads = layer.backward(cache, dy, layer.state_type(*dend, *[None] * (2 - len(dend))))
        for name in layer.params:
            layer.params[name] = layer.params[name] - 0.1 * grads[name]
        inferred, end = layer(x, start, lengths=lengths)
        found += [np.array(a) for a in (y, *state, dx, *dstate, *grads.values(), inferred, *end) if a is not None]
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
    cells = LSTMCell(), GRUCell(), GRUCell(reset_after=False), LSTMCell(peephole=True), DiagonalLSTMCell(True)
    cell = cells[seed % len(cells)]
    options = {"lengths": RAGGED if rng.random() < 0.5 else None, "batch_first": False} if False else {}
    options["lengths"] = RAGGED if rng.random() < 0.5 else None
    options["dropout"] = 0.4 * (rng.random() < 0.5)
    options["layers"] = int(rng.integers(2, 5))
    options["bias"] = bool(rng.random() < 0.7)
    options["learned_state"] = bool(rng.random() < 0.3)
    if cell.recurrent_gates:
        options["recurrent_dropout"] = 0.3 * (rng.random() < 0.5)
        options["weight_dropout"] = 0.3 * (rng.random() < 0.5)
    if type(cell) is LSTMCell and not cell.peephole:
        options["proj_size"] = 3 * int(rng.random() < 0.3)
    return {"cell": cell, **options}


@needs_compiler
@pytest.mark.parametrize("seed", range(20))
def test_the_numbers_are_those_of_layers_one_after_another(folder, seed):
    """Of the reference, and of the same backend without a wave; what is drawn at random as well."""
    rng, options = np.random.default_rng(seed), random_case(seed)
    stage = ("persistent", "step", "fused", "reference")[rng.integers(4)]
    found = []
    for part in (None, int(rng.integers(1, STEPS))):
        backend = backend_on(HostLibrary(folder))
        backend.stage, backend.wave = stage, part
        with warnings.catch_warnings(action="ignore"):
            found.append(train(backend, **options))
    close(found[1], found[0])
    close(found[1], train(rr.get_backend(np), **options), 1e-10)
