"""The options of the LSTM and the diagonal LSTM, each alone and many together.

What they compute is compared with `lstm_formulas`, values and gradients, on every backend; `test_cells` and
`test_every_layer` have what holds for all cells and layers.
"""

from __future__ import annotations

from functools import cache
from inspect import signature
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, assert_all_same, assert_close, assert_same, here, host, layer_for, obtain, problem, results
from harness.lstm_formulas import Formula, complex_slopes, options_of, variant
from recurray.backend import Backend
from recurray.cells import DiagonalLSTMCell, LSTMCell
from recurray.layers import lstm_options
from recurray.program import record

B, T, I, H = 4, 5, 2, 3  # noqa: E741
LAYERS = {"LSTM": rr.LSTM, "DiagonalLSTM": rr.DiagonalLSTM}

BOTH: list[dict[str, Any]] = [  # options of both layers
    {"peepholes": True},
    {"coupled": True},
    {"coupled": True, "peepholes": True},
    {"cell_clip": 0.5},
    {"gate_clip": 0.6},
    {"gate_clip": 0.3, "clip_output": False},
    {"gate_clip": 0.8, "cell_activation": "exponential", "output_activation": ("leaky_relu", -0.2)},
    {"gate_clip": 0.5, "clip_output": False, "peepholes": True, "cell_clip": 0.9, "output_activation": "silu"},
    {"layer_norm": True},
    {"layer_norm": True, "peepholes": True, "cell_clip": 0.6, "gate_clip": 0.7},
    {"zoneout_h": 0.4},
    {"zoneout_c": 0.4},
    {"zoneout_h": 0.2, "zoneout_c": 0.5, "peepholes": True, "coupled": True},
    {"recurrent_dropout": 0.4},
    {"recurrent_dropout": 0.4, "weight_dropout": 0.3, "peepholes": True, "zoneout_h": 0.2, "zoneout_c": 0.3},
    {"weight_dropout": 0.4},
    {"learned_state": True},
    {"gate_activation": "hard_sigmoid"},
    {"gate_activation": {"i": "softsign", "f": ("hard_sigmoid", 0.2), "o": "tanh"}},
    {"gate_activation": {"f": {"name": "affine", "alpha": 0.3, "beta": 0.2}}},
    *(
        {"cell_activation": g, "output_activation": out}
        for g, out in (
            ("relu", "identity"),
            ("identity", "relu"),
            ("elu", ("leaky_relu", 0.1)),
            ("softplus", "softsign"),
            ("softsign", "elu"),
            (("scaled_tanh", 0.9, 1.2), ("affine", 0.5, -0.1)),
            (("thresholded_relu", 0.2), "scaled_tanh"),
            (("affine", 0.8), ("thresholded_relu", -0.1)),
            ("sigmoid", "softplus"),
            ("silu", "gelu"),
            ("mish", "gelu_tanh"),
            ("selu", ("hard_tanh", -0.4, 0.6)),
            (("elu", -0.5), "relu6"),
        )
    ),
]
OWN: dict[str, list[dict[str, Any]]] = {
    "LSTM": [
        {"layer_norm": True, "coupled": True, "proj_size": 2, "num_layers": 2, "bidirectional": True},
        {"peepholes": True, "coupled": True, "zoneout_h": 0.3, "num_layers": 2, "bidirectional": True},
        {"bias": False, "peepholes": True, "gate_clip": 0.5},
    ],
    "DiagonalLSTM": [
        {"projection": "per_gate", "layer_norm": True},
        {"projection": "per_gate", "layer_norm": True, "coupled": True, "peepholes": True, "gate_clip": 0.8},
        {"projection": "per_gate", "weight_dropout": 0.3, "zoneout_h": 0.3, "cell_activation": "relu"},
    ],
}


def in_words(options: dict[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items())


ALONE = [
    variant(f"{kind}({in_words(options)})", LAYERS[kind], options, ragged=number % 2 == 0)
    for kind in LAYERS
    for number, options in enumerate([*BOTH, *OWN[kind]])
]


@cache
def together(seed: int) -> Case:
    """Options at random."""
    kind = ("LSTM", "DiagonalLSTM")[seed % 2]
    options = dict(options_of(np.random.default_rng(seed), kind == "DiagonalLSTM"))
    return variant(f"{seed}: {kind}({in_words(options)})", LAYERS[kind], options, ragged=seed % 3 == 0)


def assert_formula(case: Case, backend: Backend, directions: int = 2) -> None:
    """Outputs, states and all gradients, these along random directions, are those of the formula."""
    given = problem(case)
    found = results(layer_for(case, given, backend), given)
    assert case.formula is not None
    y, end = case.formula(given.params, given.x, given.start, given.which.get("lengths"))
    for name, expected in {"y": y, **{f"end.{name}": value for name, value in end.items()}}.items():
        assert_close(backend, found[name], np.real(expected))
    on_host = host(backend, found)
    # Where units are nearly alike, layer normalisation makes gradients, and roundings, large: those reach the others.
    sums = [float(np.abs(on_host[name]).sum()) for name in on_host if name.startswith("d")]
    allowed = 1e-11 * max(1.0, *sums)
    for label, (moved, expected) in complex_slopes(case, directions).items():
        ((name, direction),) = moved.items()
        gradient = on_host[f"d{name}"]
        assert gradient.shape == direction.shape
        assert np.sum(direction * gradient) == pytest.approx(expected, rel=0, abs=allowed), label


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_an_option_is_its_formula(case: Case, backend: Backend) -> None:
    assert_formula(case, backend)


@pytest.mark.parametrize("platform", here("numpy", "reference"))
@pytest.mark.parametrize("seed", range(60))
def test_options_together_are_the_formula(seed: int, platform: str) -> None:
    assert_formula(together(seed), obtain(platform))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(100, 1100, 100))
def test_many_options_together_are_the_formula(first: int) -> None:
    for seed in range(first, first + 100):
        assert_formula(together(seed), obtain("numpy"), directions=1)


@pytest.mark.parametrize("seed", range(60))
def test_gradients_of_options_together(seed: int) -> None:
    """By finite differences, and in inference, where zoneout mixes, as well as in training."""
    case = together(seed)
    layer = layer_for(case, problem(case), obtain("numpy"))
    report = rr.check_gradients(layer, lengths=[4, 0, 5], batch=3, samples=3, training=seed % 2 == 0)
    assert report.ok, f"{case}\n{report}"


@pytest.mark.parametrize("seed", range(6))
def test_options_together_on_a_strict_array_library(seed: int) -> None:
    """Nothing but what the array API standard has is called."""
    assert_formula(together(seed), obtain("device1"))


@pytest.mark.parametrize("batch", [0, 1])
@pytest.mark.parametrize("seed", range(20))
def test_batches_of_one_row_and_of_none(seed: int, batch: int) -> None:
    """The NumPy backend has code of its own for one row."""
    case = together(seed)
    case = Case(case.name, case.make, lengths=(4,) * batch, batch=batch)
    given = problem(case)
    reference, fast = (obtain(name) for name in ("reference", "numpy"))
    expected = host(reference, results(layer_for(case, given, reference), given))
    for name, found in results(layer_for(case, given, fast), given).items():
        assert_close(fast, found, expected[name])


@pytest.mark.parametrize("case", ALONE, ids=str)
def test_float32(case: Case) -> None:
    """The NumPy backend keeps to single precision and gives the numbers to its rounding."""
    given, backend = problem(case), obtain("numpy")
    expected = results(layer_for(case, given, backend), given)
    for name, found in results(layer_for(case, given, backend, "float32"), given).items():
        assert_close(backend, found, expected[name], dtype="float32")


# Options that are off ------------------------------------------------------------------------------------------------

OFF = {  # each option at what the plain layer has
    "peepholes": False,
    "coupled": False,
    "cell_clip": None,
    "gate_clip": None,
    "clip_output": True,
    "layer_norm": False,
    "zoneout_h": 0.0,
    "zoneout_c": 0.0,
    "gate_activation": {"i": "sigmoid", "o": "sigmoid"},
    "cell_activation": ("tanh",),
    "output_activation": {"name": "tanh"},
    "recurrent_dropout": 0.0,
    "weight_dropout": 0.0,
    "learned_state": False,
}


@pytest.mark.parametrize("kind", LAYERS)
def test_an_option_that_is_off_is_the_plain_layer(kind: str, backend: Backend) -> None:
    """To the last bit, and with the same code."""
    plain, other = (LAYERS[kind](I, H, seed=0, backend=backend, **options) for options in ({}, OFF))
    assert other.cell == plain.cell
    x = backend.asarray(np.random.default_rng(0).standard_normal((B, T, I)))

    def run(layer: rr.Layer) -> dict[str, np.ndarray]:
        y, end, cache = layer.forward(x)
        dx, dstart, grads = layer.backward(cache, y, end)
        return host(backend, {"y": y, "h": end.h, "c": end.c, "dx": dx, "dh": dstart.h, "dc": dstart.c, **grads})

    assert_all_same(run(other), run(plain))


@pytest.mark.parametrize("cell", [LSTMCell(), DiagonalLSTMCell(shared=True), DiagonalLSTMCell(shared=False)], ids=repr)
def test_options_that_are_off_cost_nothing(cell: LSTMCell | DiagonalLSTMCell) -> None:
    """No operation is there that the formula doesn't have."""
    operations = [value.operation for value in record(cell).step.values]
    sums = {"LSTMCell": 4, "DiagonalLSTMCell": 8}[type(cell).__name__]  # of the pre-activations
    assert operations.count("add") == sums + 1
    assert operations.count("logistic") == 3
    assert operations.count("tanh") == 2
    assert not {"where", "minimum", "maximum", "mean_over_units", "subtract"} & set(operations)


# Single options ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("peepholes", [False, True])
def test_coupled_gates_are_a_full_lstm_with_opposite_weights(peepholes: bool, backend: Backend) -> None:
    """1 - sigmoid(a) is sigmoid(-a): the forget gate's params are the input gate's, negated; so with the gradients."""
    options: dict[str, Any] = {"peepholes": peepholes, "dtype": "float64", "backend": backend}
    coupled = rr.LSTM(I, H, coupled=True, seed=0, **options)

    def opposed(name: str, value: np.ndarray) -> np.ndarray:
        blocks = value.reshape(2 if name.startswith("peephole") else 3, H, -1)
        full = np.concatenate([blocks[:1], -blocks[:1], blocks[1:]])
        return full.reshape(-1, *value.shape[1:]) if not name.startswith("peephole") else full.reshape(3, H)

    params = {name: opposed(name, value) for name, value in coupled.state_dict().items()}
    full = rr.LSTM(I, H, params=params, **options)
    rng = np.random.default_rng(0)
    x, dy = (backend.asarray(rng.standard_normal((B, T, size))) for size in (I, H))
    start, dend = (rr.State(*(backend.asarray(rng.standard_normal((1, B, H))) for _ in "hc")) for _ in range(2))
    (y, end, cache), (y_full, end_full, cache_full) = coupled.forward(x, start), full.forward(x, start)
    (dx, dstart, grads), (dx_full, dstart_full, grads_full) = (
        layer.backward(kept, dy, dend) for layer, kept in ((coupled, cache), (full, cache_full))
    )
    for found, expected in ((y, y_full), (dx, dx_full), *zip(end, end_full), *zip(dstart, dstart_full)):  # noqa: B905
        assert_close(backend, found, backend.to_numpy(expected), tolerance=1e-13)
    for name, grad in host(backend, grads_full).items():
        blocks = grad.reshape(3 if name.startswith("peephole") else 4, H, -1)
        expected = np.concatenate([blocks[:1] - blocks[1:2], blocks[2:]]).reshape(coupled.params[name].shape)
        assert_close(backend, grads[name], expected, tolerance=1e-13)


@pytest.mark.parametrize("kind", LAYERS)
def test_zoneout_in_inference_takes_the_mean(kind: str, backend: Backend) -> None:
    options = {"zoneout_h": 0.3, "zoneout_c": 0.6}
    case = variant("", LAYERS[kind], options, ragged=True)
    given = problem(case)
    layer = layer_for(case, given, backend)
    formula = Formula(kind == "DiagonalLSTM", options, training=False)
    expected, end = formula(given.params, given.x, given.start, given.which.get("lengths"))
    assert_close(backend, results(layer, given, training=False)["y"], np.real(expected))
    start = rr.State(*(backend.asarray(given.start[name].copy()) for name in "hc"))
    y, state = layer(backend.asarray(given.x.copy()), start, **given.which)
    assert_close(backend, y, np.real(expected))
    assert_close(backend, state.c, np.real(end["c"]))


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("field", ["h", "c"])
def test_zoneout_keeps_units_as_often_as_it_says(kind: str, field: str) -> None:
    """And the gradient of a unit that is kept goes to the step before, whole."""
    size, steps = 40, 30
    layer = LAYERS[kind](I, size, dtype="float64", seed=0, **{f"zoneout_{field}": 0.3})
    rng = np.random.default_rng(0)
    state = rr.State(*(rng.standard_normal((1, 8, size)) for _ in "hc"))
    same, total = 0, 0
    for _ in range(steps):
        _, end, _ = layer.forward(rng.standard_normal((8, 1, I)), state)
        kept = getattr(end, field) == getattr(state, field)
        same, total = same + int(kept.sum()), total + kept.size
        other = "c" if field == "h" else "h"
        assert not (getattr(end, other) == getattr(state, other)).any()
        state = end
    assert same / total == pytest.approx(0.3, abs=4 * np.sqrt(0.3 * 0.7 / total))


@pytest.mark.parametrize("kind", LAYERS)
def test_draws_are_the_same_on_every_backend(kind: str, backend: Backend) -> None:
    """From the layer's own generator, call after call, for one seed."""
    options: dict[str, Any] = {"zoneout_h": 0.4, "zoneout_c": 0.3, "weight_dropout": 0.5, "recurrent_dropout": 0.4}
    options |= {"seed": 7, "dtype": "float64"}
    x = np.random.default_rng(0).standard_normal((B, T, I))
    layers = [LAYERS[kind](I, H, backend=name, **options) for name in (backend, "numpy")]
    seen = []
    for _ in range(2):
        found, expected = (layer.forward(layer.backend.asarray(x))[0] for layer in layers)
        assert_close(backend, found, expected)
        seen.append(expected)
    assert not np.array_equal(*seen)


@pytest.mark.parametrize("kind", LAYERS)
def test_a_learned_start_state_is_used_where_none_is_given(kind: str, backend: Backend) -> None:
    make = LAYERS[kind]
    learned = make(I, H, learned_state=True, peepholes=True, backend=backend, dtype="float64", seed=0)
    names = [name for name in learned.params if name.startswith("start_")]
    assert [name.removesuffix("_l0") for name in names] == ["start_h", "start_c"]
    assert not any(learned.state_dict()[name].any() for name in names)
    rng = np.random.default_rng(0)
    h, c = rng.standard_normal((2, H))
    learned.load_state_dict(learned.state_dict() | dict(zip(names, (h, c), strict=True)))
    params = {name: value for name, value in learned.state_dict().items() if name not in names}
    plain = make(I, H, peepholes=True, backend=backend, dtype="float64", params=params)
    x, dy = (backend.asarray(rng.standard_normal((B, T, size))) for size in (I, H))
    start = rr.State(*(backend.asarray(np.tile(row, (1, B, 1))) for row in (h, c)))
    (y, _, cache), (y_plain, _, cache_plain) = learned.forward(x), plain.forward(x, start)
    (_, _, grads), (_, dstart_plain, _) = learned.backward(cache, dy), plain.backward(cache_plain, dy)
    assert_close(backend, y, backend.to_numpy(y_plain))
    for name, d in zip(names, dstart_plain, strict=True):
        assert_close(backend, grads[name], backend.to_numpy(d)[0].sum(axis=0))
    _, _, cache = learned.forward(x, start)
    grads = learned.backward(cache, dy)[2]
    assert not any(backend.to_numpy(grads[name]).any() for name in names)


# Params --------------------------------------------------------------------------------------------------------------

SHAPES: list[tuple[str, dict[str, Any], dict[str, tuple[int, ...]]]] = [
    (
        "LSTM",
        {"peepholes": True, "bias": False},
        {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 3), "peephole_l0": (3, 3)},
    ),
    (
        "LSTM",
        {"coupled": True, "peepholes": True},
        {"weight_ih_l0": (9, 2), "weight_hh_l0": (9, 3), "bias_ih_l0": (9,), "bias_hh_l0": (9,), "peephole_l0": (2, 3)},
    ),
    (
        "LSTM",
        {"layer_norm": True, "proj_size": 1, "learned_state": True},
        {
            "weight_ih_l0": (12, 2),
            "weight_hh_l0": (12, 1),
            "weight_hr_l0": (1, 3),
            "gamma_x_l0": (4, 3),
            "gamma_h_l0": (4, 3),
            "bias_l0": (4, 3),
            "gamma_c_l0": (1, 3),
            "beta_c_l0": (1, 3),
            "start_h_l0": (1,),
            "start_c_l0": (3,),
        },
    ),
    ("DiagonalLSTM", {"layer_norm": True}, {"weight_in": (3, 2), "u": (4, 3), "w": (4, 3), "b": (4, 3)}),
    (
        "DiagonalLSTM",
        {"layer_norm": True, "projection": "per_gate", "coupled": True, "peepholes": True},
        {"weight_in": (9, 2), "gamma_x": (3, 3), "w": (3, 3), "b": (3, 3), "peephole": (2, 3)},
    ),
]


@pytest.mark.parametrize(("kind", "options", "shapes"), SHAPES, ids=str)
def test_names_and_shapes_of_params(kind: str, options: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    params = LAYERS[kind](I, H, seed=0, **options).state_dict()
    assert {name: value.shape for name, value in params.items()} == shapes
    for name, value in params.items():
        neutral = {"gamma": 1.0, "beta": 0.0, "start": 0.0}.get(name.partition("_")[0])
        assert (value == neutral).all() if neutral is not None else len(np.unique(value)) == value.size, name


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(
    "options", [{}, {"coupled": True}, {"layer_norm": True}, {"layer_norm": True, "coupled": True}]
)
def test_forget_bias(kind: str, options: dict[str, Any], backend: Backend) -> None:
    """The forget gate's biases add up to it; where there is no such gate, the input gate's to the negative."""
    given: dict[str, Any] = {"backend": backend, "seed": 0, **options}
    params = LAYERS[kind](I, H, forget_bias=2.5, **given).state_dict()
    plain = LAYERS[kind](I, H, **given).state_dict()
    changed = {name for name in params if "bias" in name or name == "b"}
    place, value = (0, -2.5) if "coupled" in options else (1, 2.5)
    totals = sum(params[name].reshape(-1, H) for name in changed)
    assert (totals[place] == value).all()
    for name in params:
        if name in changed:
            keep = [row for row in range(len(totals)) if row != place]
            assert_same(params[name].reshape(-1, H)[keep], plain[name].reshape(-1, H)[keep])
        else:
            assert_same(params[name], plain[name])


def test_orthogonal_recurrent_weights() -> None:
    """Each gate's block, of three gates too."""
    for options in ({}, {"coupled": True, "peepholes": True}):
        weight = rr.LSTM(I, H, recurrent_init="orthogonal", dtype="float64", seed=0, **options).params["weight_hh_l0"]
        for block in weight.reshape(-1, H, H):
            np.testing.assert_allclose(block @ block.T, np.eye(H), atol=1e-14)


@pytest.mark.parametrize("kind", [rr.LSTM, rr.DiagonalLSTM])
def test_every_option_of_the_cell_is_an_argument_of_the_layer(kind: type) -> None:
    assert set(signature(kind).parameters) >= lstm_options.OPTIONS


@pytest.mark.parametrize("kind", LAYERS)
def test_every_option_of_the_cell_is_tested(kind: str) -> None:
    assert set().union(*BOTH, *OWN[kind]) >= lstm_options.OPTIONS
    assert OFF.keys() >= lstm_options.OPTIONS


def test_repr_tells_the_options() -> None:
    lstm = rr.LSTM(2, 3, layer_norm=True, gate_activation=("hard_sigmoid", 0.2), zoneout_c=0.1, recurrent_dropout=0.5)
    assert repr(lstm).startswith(
        "LSTM(2, 3, recurrent_dropout=0.5, zoneout_c=0.1, layer_norm=True, gate_activation=('hard_sigmoid', 0.2), "
    )
    layer = rr.DiagonalLSTM(2, 3, coupled=True, cell_clip=3, output_activation="relu")
    assert repr(layer).startswith("DiagonalLSTM(2, 3, coupled=True, cell_clip=3, output_activation='relu'")
    assert repr(LSTMCell(coupled=True, cell_clip=2.0)) == "LSTMCell(coupled=True, cell_clip=2.0)"
    assert eval(repr(LSTMCell(coupled=True, cell_clip=2.0))) == LSTMCell(coupled=True, cell_clip=2.0)


# Bad values ----------------------------------------------------------------------------------------------------------

BAD: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"peepholes": 1}, TypeError, "peepholes must be True or False, not int 1"),
    ({"coupled": "yes"}, TypeError, "coupled must be True or False, not str 'yes'"),
    ({"layer_norm": None}, TypeError, "layer_norm must be True or False, not NoneType None"),
    ({"cell_clip": 0}, ValueError, "cell_clip must be None or a number above 0, not 0"),
    ({"cell_clip": "1"}, TypeError, "cell_clip must be a number, not str '1'"),
    ({"gate_clip": -1.0}, ValueError, "gate_clip must be None or a number above 0, not -1.0"),
    ({"gate_clip": float("inf")}, ValueError, "gate_clip must be a finite number, not inf"),
    ({"gate_clip": float("nan")}, ValueError, "gate_clip must be a finite number, not nan"),
    ({"gate_clip": True}, TypeError, "gate_clip must be a number, not bool True"),
    ({"zoneout_h": 1.0}, ValueError, "zoneout_h must be at least 0 and below 1, not 1.0"),
    ({"zoneout_c": -0.1}, ValueError, "zoneout_c must be at least 0 and below 1, not -0.1"),
    ({"weight_dropout": 1}, ValueError, "weight_dropout must be at least 0 and below 1, not 1"),
    ({"gate_activation": "sinus"}, ValueError, "gate_activation must be one of 'tanh', .*'identity', not 'sinus'"),
    ({"cell_activation": None}, ValueError, "cell_activation must be one of .*, not None"),
    ({"output_activation": ("tanh", 1.0)}, ValueError, r"output_activation 'tanh' has the parameters \(none\)"),
    ({"output_activation": ("hard_tanh", 2.0)}, ValueError, "alpha of hard_tanh must be below beta 1.0, not 2.0"),
    ({"clip_output": 0, "gate_clip": 1.0}, TypeError, "clip_output must be True or False, not int 0"),
    ({"clip_output": False}, ValueError, "clip_output=False says .*: it needs gate_clip"),
    ({"cell_activation": "softmax"}, ValueError, "cell_activation must be one of .*, not 'softmax'"),
    (
        {"gate_activation": {"g": "tanh"}},
        ValueError,
        r"gate_activation by gate must have .* 'i', 'f', 'o', not \['g'\]",
    ),
    ({"gate_activation": {"i": "no"}}, ValueError, r"gate_activation\['i'\] must be one of .*, not 'no'"),
    (
        {"coupled": True, "gate_activation": {"f": "tanh"}},
        ValueError,
        "gate_activation names 'f', but where coupled f is 1 - i",
    ),
    ({"forget_bias": "1"}, TypeError, "forget_bias must be a number, not str '1'"),
    ({"learned_state": 0}, TypeError, "learned_state must be True or False, not int 0"),
]


@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize(("options", "error", "words"), BAD, ids=lambda value: str(value)[:40])
def test_bad_values(kind: str, options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        LAYERS[kind](I, H, **options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layer_norm": True, "bias": False}, "layer_norm needs bias=True"),
        ({"zoneout_h": 0.1, "proj_size": 2}, "computes with the output before, element by element"),
        ({"forget_bias": 1.0, "bias": False}, "forget_bias needs bias=True"),
        ({"recurrent_init": "orthogonl"}, "recurrent_init must be one of 'uniform', 'orthogonal', not 'orthogonl'"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        rr.LSTM(I, H, **options)
