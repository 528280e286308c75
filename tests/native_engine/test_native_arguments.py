"""The compiled engine refuses arrays that don't belong together before it touches any memory."""

from __future__ import annotations

import copy
import pickle
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

import recurray as rr
from harness import obtain
from harness.compare_scans import scan_arguments
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell, SLSTMCell, ZoneoutCell

BATCH, STEPS, FEATURES, SIZE, PROJECTION = 4, 6, 3, 5, 2
ROWS_LENGTHS = [6, 2, 0, 5]


@pytest.fixture
def engine():
    """The engine's own scan, in the place of which NumPy's is never taken."""
    backend = obtain("native")
    from recurray_native import scan

    return SimpleNamespace(scan_forward=partial(scan.forward, backend.level))


def forward(engine, cell=None, *, masked=False, seed=0, **options):
    """A problem and what forward returns for it, in training."""
    cell = cell or LSTMCell()
    sizes = {"batch": BATCH, "steps": STEPS, "features": FEATURES, "size": SIZE, "ragged": False} | options
    rng = np.random.default_rng(seed)
    weights, x, start, _ = scan_arguments(cell, rng, **sizes)
    mask = rng.random(start[0].shape) if masked else None
    y, end, cache = engine.scan_forward(cell, weights, x, start, output_mask=mask)
    return weights, x, start, y, end, cache


def compiled_cell(cell):
    from recurray_native.compiled import compiled

    return compiled(cell)


def backward_of_another(cache, other):
    """Backward of a cache with the gradients of another problem."""
    _, _, _, y, end, _ = other
    return cache.backward(np.ones_like(y), tuple(np.ones_like(a) for a in end))


WRONG_SIZES = [
    {"batch": 9},
    {"steps": 40},
    {"size": 300},
    {"size": 2},
    {"dtype": "float32"},
    {"projection": PROJECTION},
]


@pytest.mark.parametrize("cell", [LSTMCell(), GRUCell(), DiagonalLSTMCell(shared=True)], ids=repr)
def test_gradients_that_are_not_of_the_cache_are_refused(engine, cell):
    *_, cache = forward(engine, cell)
    for options in WRONG_SIZES:
        if "projection" in options and compiled_cell(cell).reads_output:  # it can't be projected
            continue
        with pytest.raises((ValueError, TypeError), match=r"dy must (have|be)"):
            backward_of_another(cache, forward(engine, cell, **options))


def test_gradients_of_another_layer_are_refused_by_the_cache():
    backend = obtain("native")
    small = rr.LSTM(3, 16, backend=backend, seed=0)
    *_, cache = small.forward(np.ones((4, 50, 3), "float32"))
    dy, dend = np.ones((50, 4, 1024), "float32"), (np.ones((4, 1024), "float32"),) * 2
    with pytest.raises(ValueError, match=re.escape("dy must have the shape (50, 4, 16), not (50, 4, 1024)")):
        cache.groups[0].directions[0][0].scan.backward(dy, dend)


def test_gradients_of_the_end_are_as_many_and_as_large_as_the_states(engine):
    *_, y, end, cache = forward(engine)
    for wrong in (end[:1], (*end, end[0]), (end[0], end[1][:2]), (end[0], end[1].astype("float32")), (end[0], None)):
        with pytest.raises((ValueError, TypeError), match="dend"):
            cache.backward(y, wrong)


def test_a_cache_goes_backward_by_its_own_instruction_set():
    obtain("native")
    from recurray_native import library, scan

    for level in library.levels():
        *_, y, end, cache = forward(SimpleNamespace(scan_forward=partial(scan.forward, level)))
        assert cache.level == level
        assert np.isfinite(cache.backward(y, end)[0]).all()
        with pytest.raises(ValueError, match=r"the instruction set must be one of .* here, not 'sse9'"):
            replace(cache, level="sse9").backward(y, end)


def wrong_arrays(a):
    """What a float64 array mustn't have become: of another dtype, another size, or no array."""
    yield from (a.astype(dtype) for dtype in ("float32", "complex128", ">f8"))
    yield from (a[:-1].copy(), np.concatenate([a, a]), a[None], a[:0], a.tolist())


@pytest.mark.parametrize("keep", [False, True])
def test_weights_that_do_not_belong_are_refused(engine, keep):
    cell = LSTMCell(peepholes=True)
    weights, x, start, *_ = forward(engine, cell, projection=PROJECTION)
    fields = ("input", "recurrent", "input_bias", "recurrent_bias", "projection")
    for name in fields:
        for wrong in wrong_arrays(getattr(weights, name)):
            with pytest.raises((ValueError, TypeError), match=r"weights\.|start|the sizes"):
                engine.scan_forward(cell, replace(weights, **{name: wrong}), x, start, keep=keep)
    for name, value in weights.pointwise.items():
        for wrong in wrong_arrays(value):
            with pytest.raises((ValueError, TypeError), match=re.escape(f"weights.pointwise[{name!r}]")):
                engine.scan_forward(
                    cell, replace(weights, pointwise={**weights.pointwise, name: wrong}), x, start, keep=keep
                )
    for changes in ({"recurrent": None}, {"pointwise": {}}, {"pointwise": {**weights.pointwise, "extra": x[0]}}):
        with pytest.raises((ValueError, TypeError), match="weights"):
            engine.scan_forward(cell, replace(weights, **changes), x, start, keep=keep)


@pytest.mark.parametrize("cell", [GRUCell(reset_after=False), SLSTMCell(), RNNCell()], ids=repr)
def test_a_projection_is_refused_where_the_cell_reads_the_output(engine, cell):
    weights, x, start, _ = scan_arguments(
        cell, np.random.default_rng(0), batch=BATCH, steps=STEPS, size=SIZE, projection=PROJECTION, ragged=False
    )
    if compiled_cell(cell).reads_output:
        with pytest.raises(ValueError, match=r"weights.projection must be None"):
            engine.scan_forward(cell, weights, x, start)
    else:
        assert engine.scan_forward(cell, weights, x, start)[0].shape == (STEPS, BATCH, PROJECTION)


def test_recurrent_weights_are_refused_where_the_cell_has_no_recurrent_gates(engine):
    cell = DiagonalLSTMCell(shared=True)
    weights, x, start, *_ = forward(engine, cell)
    for changes in ({"recurrent": weights.input}, {"recurrent_bias": weights.input_bias}):
        with pytest.raises(ValueError, match=r"weights.recurrent .* must be None"):
            engine.scan_forward(cell, replace(weights, **changes), x, start)


def test_the_order_of_a_cells_own_params_says_nothing(engine):
    cell = LSTMCell(peepholes=True, layer_norm=True)
    weights, x, start, y, *_ = forward(engine, cell)
    turned = replace(weights, pointwise=dict(reversed(weights.pointwise.items())))
    assert len(turned.pointwise) > 1
    np.testing.assert_array_equal(engine.scan_forward(cell, turned, x, start)[0], y)


def test_input_start_and_mask_that_do_not_belong_are_refused(engine):
    cell = LSTMCell()
    weights, x, start, *_ = forward(engine, cell)
    for wrong in wrong_arrays(x):
        if isinstance(wrong, np.ndarray) and wrong.ndim == 3 and wrong.dtype == x.dtype:
            continue  # another number of steps is another problem, which can be run
        with pytest.raises((ValueError, TypeError), match=r"x must|as x is"):
            engine.scan_forward(cell, weights, wrong, start)
    for k in range(2):
        for wrong in wrong_arrays(start[k]):
            given = tuple(wrong if j == k else value for j, value in enumerate(start))
            with pytest.raises((ValueError, TypeError), match="start"):
                engine.scan_forward(cell, weights, x, given)
    for wrong in wrong_arrays(np.ones_like(start[0])):
        with pytest.raises((ValueError, TypeError), match="output_mask"):
            engine.scan_forward(cell, weights, x, start, output_mask=wrong)
    for given in ((), start[:1], (*start, start[0])):
        with pytest.raises(ValueError, match="start"):
            engine.scan_forward(cell, weights, x, given)


def test_sizes_of_zero_are_refused(engine):
    for options in ({"features": 0}, {"size": 0}):
        weights, x, start, _ = scan_arguments(
            LSTMCell(), np.random.default_rng(0), batch=2, steps=3, ragged=False, **options
        )
        with pytest.raises(ValueError, match="at least 1"):
            engine.scan_forward(LSTMCell(), weights, x, start)


WRONG_LENGTHS = [
    [6, 2, 0],
    [6, 2, 0, 5, 1],
    [6, -1, 0, 5],
    [7, 2, 0, 5],
    [6, 2, 0, 2**70],
    [-(2**63), 2, 0, 5],
    [6, 2.5, 0, 5],
    [[6, 2, 0, 5]],
    [6] * 5,
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("lengths", WRONG_LENGTHS, ids=str)
def test_lengths_that_do_not_fit_are_refused(engine, lengths, reverse):
    weights, x, start, *_ = forward(engine)
    with pytest.raises((ValueError, TypeError), match="lengths"):
        engine.scan_forward(LSTMCell(), weights, x, start, lengths=lengths, reverse=reverse)


@pytest.mark.parametrize("kind", [list, np.uint8, np.uint64, np.int32])
def test_lengths_of_any_whole_numbers_are_the_same(engine, kind):
    weights, x, start, *_ = forward(engine)
    expected = engine.scan_forward(LSTMCell(), weights, x, start, lengths=ROWS_LENGTHS)[0]
    lengths = list(ROWS_LENGTHS) if kind is list else np.asarray(ROWS_LENGTHS, kind)
    np.testing.assert_array_equal(engine.scan_forward(LSTMCell(), weights, x, start, lengths=lengths)[0], expected)


def test_draws_that_do_not_belong_are_refused(engine):
    cell = ZoneoutCell(LSTMCell(), 0.1, 0.2)
    weights, x, start, _ = scan_arguments(
        cell, np.random.default_rng(0), batch=BATCH, steps=STEPS, size=SIZE, ragged=False
    )
    names = list(cell.draws)
    assert len(names) == 2
    whole = np.ones((STEPS, BATCH, SIZE))
    good = dict.fromkeys(names, whole)
    engine.scan_forward(cell, weights, x, start, draws=good)
    for wrong in (
        None,
        {names[0]: whole},
        {**good, "other": whole},
        {names[0]: 0.5, names[1]: whole},
        {names[0]: whole, names[1]: whole[:, :, :1]},
        {names[0]: whole, names[1]: whole[:1]},
        {names[0]: whole, names[1]: whole.astype("float32")},
        dict.fromkeys(names, "0.5"),
    ):
        with pytest.raises((ValueError, TypeError), match="draws"):
            engine.scan_forward(cell, weights, x, start, draws=wrong)
    turned = dict(reversed({names[0]: 0.25, names[1]: 0.5}.items()))  # a mapping's order says nothing
    np.testing.assert_array_equal(
        engine.scan_forward(cell, weights, x, start, draws=turned, keep=False)[0],
        engine.scan_forward(cell, weights, x, start, draws={names[0]: 0.25, names[1]: 0.5}, keep=False)[0],
    )


def off_by_a_byte(a):
    """The same numbers at an odd address."""
    memory = np.empty(a.nbytes + 1, np.uint8)
    result = memory[1:].view(a.dtype).reshape(a.shape)
    result[...] = a
    return result


FORMS = {
    "in Fortran's order": np.asfortranarray,
    "every second": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "backwards": lambda a: a[..., ::-1].copy()[..., ::-1],
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape),
    "off by a byte": off_by_a_byte,
}


def test_what_the_engine_reads_is_where_the_processor_wants_it():
    obtain("native")
    from recurray_native.rows import in_order

    a = np.random.default_rng(0).random((3, 4))
    assert in_order(a) is a
    for form, made in FORMS.items():
        found = in_order(made(a))
        assert found.flags.aligned, form
        assert found.flags.c_contiguous, form
        np.testing.assert_array_equal(found, a)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("lengths", [None, ROWS_LENGTHS])
def test_arrays_may_lie_in_memory_as_they_like(engine, form, keep, lengths):
    made, cell = FORMS[form], LSTMCell(peepholes=True)
    weights, x, start, *_ = forward(engine, cell, projection=PROJECTION)
    mask = np.random.default_rng(1).random(start[0].shape)
    fields = {name: made(a) for name, a in vars(weights).items() if isinstance(a, np.ndarray)}
    formed = type(weights)(**fields, pointwise={name: made(a) for name, a in weights.pointwise.items()})
    results = []
    for given, bring in ((weights, lambda a: a), (formed, made)):
        y, end, cache = engine.scan_forward(
            cell, given, bring(x), tuple(map(bring, start)), lengths=lengths, keep=keep, output_mask=bring(mask)
        )
        results.append([y, *end])
        if keep:
            dx, dstart, grads = cache.backward(bring(x[..., :PROJECTION].copy()), tuple(map(bring, start)))
            results[-1] += [dx, *dstart, grads.input, grads.recurrent, grads.projection, *grads.pointwise.values()]
    for expected, found in zip(*results, strict=True):
        np.testing.assert_array_equal(found, expected)


def test_work_space_beyond_all_memory_is_a_memory_error():
    """Its size in bytes mustn't wrap around, however large the arrays are."""
    obtain("native")
    from recurray_native.arguments import check_work_space

    check_work_space(10**6, 10**5)
    with pytest.raises(MemoryError, match="too large"):
        check_work_space(2**29, 2**29)


# Copies of a cache -----------------------------------------------------------------------------------------------


def layer_and_cache(lengths):
    layer = rr.LSTM(3, 8, num_layers=2, bidirectional=True, backend=obtain("native"), seed=3)
    x = np.random.default_rng(4).standard_normal((6, 30, 3)).astype("float32")
    y, _, cache = layer.forward(x, lengths=lengths)
    return layer, cache, np.cos(y)


def gradients(layer, cache, dy):
    dx, dstate, grads = layer.backward(cache, dy)
    return [dx, *dstate[:2], *grads.values()]


def overwrite():
    """Have freed blocks of all small sizes written over."""
    return [np.full(count, -1, np.int64) for count in range(1, 400) for _ in range(20)]


COPIES = {"copy": copy.copy, "deepcopy": copy.deepcopy, "pickle": lambda a: pickle.loads(pickle.dumps(a))}
LENGTHS = [None, [30, 2, 9, 0, 5, 30]]


@pytest.mark.parametrize("kind", COPIES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "ragged"])
def test_a_copy_of_a_cache_outlives_it(kind, lengths):
    layer, cache, dy = layer_and_cache(lengths)

    expected = gradients(layer, cache, dy)
    other = COPIES[kind](cache)
    del cache
    layer.backend.release_memory()
    held = overwrite()
    for right, found in zip(expected, gradients(layer, other, dy), strict=True):
        np.testing.assert_array_equal(found, right)
    del held


BACKWARD = """
import pickle, sys
import numpy as np
import recurray as rr
layer = rr.LSTM(3, 8, num_layers=2, bidirectional=True, backend=rr.get_backend("numpy", engine="native"), seed=3)
cache, dy, expected = pickle.load(sys.stdin.buffer)
dx, dstate, grads = layer.backward(cache, dy)
for right, found in zip(expected, [dx, *dstate[:2], *grads.values()], strict=True):
    np.testing.assert_array_equal(found, right)
print("the same")
"""


@pytest.mark.parametrize("lengths", LENGTHS, ids=["full", "ragged"])
def test_a_cache_may_go_to_another_process(lengths):
    layer, cache, dy = layer_and_cache(lengths)
    given = pickle.dumps((cache, dy, gradients(layer, cache, dy)))
    found = subprocess.run([sys.executable, "-c", BACKWARD], input=given, capture_output=True, check=False, timeout=120)
    assert found.stdout == b"the same\n", (found.returncode, found.stderr)


def test_no_addresses_are_kept(engine):
    """Nothing in a cache is an address: copies have none of their own."""
    *_, cache = forward(engine)
    numbers = [value for value in vars(cache.rows).values() if isinstance(value, int)]
    numbers += [n for value in vars(cache.rows).values() if isinstance(value, tuple) for n in value]
    assert max(numbers) < 1000


def test_weights_of_another_shape_since_forward_are_refused(engine):
    """The cache refers to the caller's arrays, whose shapes can be changed in place."""
    weights, *_, y, end, cache = forward(engine)
    cache.backward(y, end)
    weights.recurrent.shape = (SIZE, 4 * SIZE)
    with pytest.raises(ValueError, match=r"weights.recurrent must have the shape \(20, 5\)"):
        cache.backward(y, end)
    for name, shape in (("input", (8, FEATURES)), ("recurrent", (8, 2)), ("input_bias", 8), ("recurrent_bias", 8)):
        getattr(weights, name).resize(shape, refcheck=False)
    with pytest.raises(ValueError, match=r"of \(5, 5\) units and outputs, not \(2, 2\)"):
        cache.backward(y, end)
