"""What isn't passed over in silence: flags that are none, options without effect, cells that contradict themselves."""

from __future__ import annotations

import inspect
import warnings
from collections import ChainMap
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, here, layer_for, obtain, problem
from harness import give as given_to
from harness.cases import CASES
from harness.needs import need
from recurray import cells, plot
from recurray.arrays import tanh
from recurray.backend import Backend
from recurray.cells import LSTMCell
from recurray.program import RecordingError, record

NO_FLAGS = ["no", "", 0, 1, None, 0.0, np.bool_(False), [], np.array(True), 10**5000]
MAKERS: dict[str, Any] = {
    "LSTM": lambda **options: rr.LSTM(2, 3, **options),
    "GRU": lambda **options: rr.GRU(2, 3, **options),
    "RNN": lambda **options: rr.RNN(2, 3, **options),
    "DiagonalLSTM": lambda **options: rr.DiagonalLSTM(2, 3, **options),
    "Recurrent": lambda **options: rr.Recurrent(LSTMCell(), 2, 3, **options),
    "Linear": lambda **options: rr.Linear(2, 3, **options),
    "Last": rr.Last,
    "LSTMCell": cells.LSTMCell,
    "GRUCell": cells.GRUCell,
    "DiagonalLSTMCell": lambda shared=True, **options: cells.DiagonalLSTMCell(shared=shared, **options),
    "SGD": lambda **options: rr.optim.SGD({}, momentum=0.5, **options),
    "Adam": lambda **options: rr.optim.Adam({}, **options),
    "AdamW": lambda **options: rr.optim.AdamW({}, **options),
    "RMSprop": lambda **options: rr.optim.RMSprop({}, **options),
    "check_gradients": lambda **options: rr.check_gradients(rr.Linear(2, 3), **options),
    "binary_cross_entropy": lambda **options: rr.losses.binary_cross_entropy(np.ones(2), np.ones(2), **options),
}


def flags() -> list[tuple[str, str]]:
    """Every argument of the public makers whose default, or annotation, is a flag's."""
    public: dict[str, Any] = {
        name: getattr(owner, name)
        for owner in (rr, rr.optim, cells, rr.losses)
        for name in dir(owner)
        if name in MAKERS
    }
    return [
        (name, parameter.name)
        for name, maker in public.items()
        for parameter in inspect.signature(maker).parameters.values()
        if isinstance(parameter.default, bool)
    ]


@pytest.mark.parametrize(("maker", "flag"), flags())
def test_flags(maker: str, flag: str) -> None:
    for wrong in NO_FLAGS:
        with pytest.raises(TypeError, match=f"^{flag} must be True or False, not "):
            MAKERS[maker](**{flag: wrong})


@pytest.mark.parametrize("case", CASES, ids=str)
def test_training_is_a_flag(case: Case) -> None:
    """And whatever draws come from is a generator, in inference too."""
    layer = layer_for(case, problem(case), obtain("numpy"))
    given = given_to(layer, problem(case))
    for wrong in NO_FLAGS:
        with pytest.raises(TypeError, match=r"^training must be True or False, not "):
            layer.forward(given.x, given.state, **given.which, training=wrong)
    for training in (False, True):
        with pytest.raises(TypeError, match=r"^rng must be a numpy.random.Generator, not int 3"):
            layer.forward(given.x, given.state, **given.which, training=training, rng=3)


# Options without effect -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("maker", [rr.LSTM, rr.GRU, rr.RNN])
def test_dropout_of_one_layer_warns(maker: Any) -> None:
    with pytest.warns(UserWarning, match=r"^dropout=0.2 does nothing with num_layers=1") as caught:
        maker(2, 3, dropout=0.2)
    assert caught[0].filename == __file__
    with pytest.warns(UserWarning, match=r"^dropout=0.2 does nothing with num_layers=1") as caught:
        rr.Recurrent(LSTMCell(), 2, 3, dropout=0.2)
    assert caught[0].filename == __file__
    maker(2, 3, 2, dropout=0.2), maker(2, 3, dropout=0.0)  # no warning


@pytest.mark.parametrize("maker", [rr.LSTM, rr.DiagonalLSTM])
def test_forget_bias_with_params_is_refused(maker: Any) -> None:
    params = maker(2, 3).state_dict()
    with pytest.raises(ValueError, match="forget_bias says how a bias starts, but params replaces it"):
        maker(2, 3, forget_bias=1.0, params=params)
    maker(2, 3, params=params)


def test_an_optimizer_of_a_copy_is_refused() -> None:
    first, second = rr.LSTM(2, 3, seed=0), rr.Linear(3, 1, seed=0)
    model = rr.Sequential(first, second)
    for copy in (
        dict(first.params),
        {**first.params, **second.params},
        first.params | second.params,
        {f"0.{name}": value for name, value in first.params.items()},
        {"weight_ih_l0": first.params["weight_ih_l0"]},
        dict(model.params),
    ):
        with pytest.raises(ValueError, match=r"^params are a copy of those of a layer, LSTM: no step"):
            rr.optim.Adam(copy)
    for copy, kind in ((first.state_dict(), "LSTM"), (model.state_dict(), "Sequential")):
        with pytest.raises(ValueError, match=f"^params are copies of those of a layer, {kind}: no step"):
            rr.optim.Adam(copy)
    with pytest.raises(ValueError, match=r"^params are a ChainMap, which writes to the first"):
        rr.optim.Adam(ChainMap(first.params, second.params))
    for own in (first.params, second.params, model.params, {"w": np.ones(2)}, rr.LSTM(2, 3).state_dict()):
        rr.optim.SGD(own)
    other = first.to(dtype="float64")
    rr.optim.Adam(first.params).to(other.params)


def test_a_step_of_params_that_a_layer_had_is_refused() -> None:
    layer = rr.Linear(3, 2, seed=0)
    grads = {name: np.ones_like(value) for name, value in layer.params.items()}
    optimizer = rr.optim.SGD(layer.params)
    optimizer.step(grads)
    layer.load_state_dict(layer.state_dict())
    optimizer.step(grads)
    layer.params = dict(layer.params)
    with pytest.raises(ValueError, match=r"^Linear\.params has been set to another mapping since"):
        optimizer.step(grads)
    optimizer = optimizer.to(layer.params)
    optimizer.step(grads)
    layer = layer.to()
    with pytest.raises(ValueError, match=r"^the layer whose params the optimizer has is gone"):
        optimizer.step(grads)
    optimizer.to(layer.params).step(grads)


def test_layers_that_are_no_more_are_forgotten() -> None:
    params = dict(rr.Linear(2, 3).params)
    rr.optim.Adam(params)  # there is no layer that it is a copy of


# Cells ----------------------------------------------------------------------------------------------------------------


class Cell(rr.Cell):
    """h = tanh(x), with attributes to be spoilt."""

    input_gates = ("a",)

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        y = tanh(x.a)
        return {"h": y, **{name: y for name in self.states if name != "h"}}, {"y": y}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> Any:
        return rr.CellGradients(x={"a": d.h * (1 - saved.y * saved.y)}, h={}, before={})


@pytest.mark.parametrize(
    ("attributes", "error", "words"),
    [
        ({"states": ("c", "h")}, ValueError, 'states must begin with "h", the output, but is '),
        ({"states": ("c",)}, ValueError, 'states must begin with "h"'),
        ({"states": ()}, ValueError, "states must have at least one name"),
        ({"states": "h"}, TypeError, "states must be a tuple of texts, not 'h'"),
        ({"states": ["h"]}, TypeError, "states must be a tuple of texts"),
        ({"states": ("h", "h")}, ValueError, "states must have each name once"),
        ({"states": ("h", 3)}, TypeError, "states must be a tuple of texts"),
        ({"input_gates": "a"}, TypeError, "input_gates must be a tuple of texts"),
        ({"input_gates": ()}, ValueError, "input_gates must have at least one name"),
        ({"input_gates": ("a b",)}, ValueError, "input_gates must have names fit for attributes, not 'a b'"),
        ({"input_gates": ("class",)}, ValueError, "input_gates must have names fit for attributes"),
        ({"input_gates": ("_a",)}, ValueError, "input_gates must have names fit for attributes"),
        ({"recurrent_gates": "a"}, TypeError, "recurrent_gates must be a tuple of texts"),
        ({"inner_gates": ("z",)}, ValueError, "inner_gates must be among its recurrent_gates, but has z"),
        ({"pointwise": ("w",)}, TypeError, "pointwise must be a mapping of names"),
        ({"pointwise": {"w": "w"}}, TypeError, r"pointwise\['w'\] must be a tuple of texts"),
        ({"pointwise": {"w": ()}}, ValueError, r"pointwise\['w'\] must have at least one name"),
        ({"recurrent_params": ("u",)}, ValueError, "recurrent_params must be among its pointwise, but has u"),
        ({"draws": {"kept": 1.5}}, ValueError, r"draws\['kept'\] must be a probability, not 1.5"),
        ({"draws": {"kept": "often"}}, TypeError, r"draws\['kept'\] must be a number"),
        ({"draws": {"a": 0.5}}, ValueError, "input_gates and draws must have each name once"),
        ({"sequence_draws": ("kept",)}, ValueError, "sequence_draws must be among its draws, but has kept"),
        ({"__hash__": None}, TypeError, "can't be hashed: a cell with options is a frozen dataclass of them"),
    ],
    ids=str,
)
@pytest.mark.parametrize("engine", here("numpy", "native", "reference"))
def test_cells_that_do_not_say_what_they_are(
    engine: str, attributes: dict[str, Any], error: type[Exception], words: str
) -> None:
    kind = type("Wrong", (Cell,), attributes)
    with pytest.raises(error, match=words):
        rr.Recurrent(kind(), 2, 3, backend=obtain(engine))
    with pytest.raises(error, match=words):
        rr.check_gradients(kind())
    rr.Recurrent(Cell(), 2, 3, backend=obtain(engine))


def test_options_of_cells() -> None:
    @dataclass(frozen=True)
    class Own(Cell):
        """With options of a user's."""

        fast: bool = True
        rate: float = 0.5

    Own(False, 0.25)
    for make, error, words in (
        (lambda: Own("no"), TypeError, "fast must be True or False, not str 'no'"),
        (lambda: Own(True, "fast"), TypeError, "rate must be a number, not str 'fast'"),
        (lambda: Own(True, 10**400), ValueError, "rate must be a finite number"),
        (lambda: cells.LSTMCell(cell_clip=-1.0), ValueError, "cell_clip must be None or a number above 0"),
        (lambda: cells.LSTMCell(gate_clip="1"), TypeError, "gate_clip must be a number"),
        (lambda: cells.LSTMCell(activations="tanh"), TypeError, "activations must be recurray.cells.Activations"),
        (lambda: cells.ZoneoutCell("LSTM", 0.1), TypeError, "cell must be a recurray.Cell, not str"),
        (lambda: cells.ZoneoutCell(LSTMCell(), float("nan")), ValueError, "zoneout_h must be a finite number"),
        (lambda: cells.ZoneoutCell(LSTMCell(), 10**400), ValueError, "zoneout_h must be a finite number"),
        (lambda: cells.RecurrentDropoutCell(None, 0.1), TypeError, "cell must be a recurray.Cell, not NoneType"),
        (lambda: cells.SLSTMCell(forget_gate=np.ones(2)), ValueError, "forget_gate must be one of"),
    ):
        with pytest.raises(error, match=words):
            make()


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"reverse_cell": cells.GRUCell()}, ValueError, "reverse_cell is .*: it needs bidirectional=True"),
        (
            {"reverse_cell": "GRU", "bidirectional": True},
            TypeError,
            "reverse_cell must be a recurray.Cell or None, not str 'GRU'",
        ),
        (
            {"reverse_cell": LSTMCell(), "bidirectional": True},
            ValueError,
            r"reverse_cell must have the input_gates of cell, \('r', 'z', 'n'\), not \('i', 'f', 'g', 'o'\): both",
        ),
        (
            {"reverse_cell": cells.GRUCell(reset_after=False), "bidirectional": True},
            ValueError,
            r"reverse_cell must have the inner_gates of cell, \(\), not \('n',\)",
        ),
    ],
    ids=str,
)
def test_cells_of_the_second_direction(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        rr.Recurrent(cells.GRUCell(), 2, 3, **options)


def test_a_gate_that_is_not_there() -> None:
    class Wrong(Cell):
        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            return {"h": tanh(x.m)}, {}

    with pytest.raises(AttributeError, match="there is no 'm' here, but 'a'"):
        rr.Recurrent(Wrong(), 2, 3)


def foreign_functions() -> dict[str, Any]:
    import math

    return {
        "numpy.tanh": np.tanh,
        "numpy.where": lambda a: np.where(a > 0, a, a),
        "numpy.maximum.reduce": np.maximum.reduce,
        "numpy.add, out": lambda a: np.add(a, 1.0, out=np.ones(1)),
        "math.tanh": math.tanh,
        "float": float,
        "int": int,
        "len": len,
        "sum": sum,
        "list": list,
        "pow": lambda a: a**3,
        "index": lambda a: a[0],
        "bool": lambda a: a if a > 0 else -a,
    }


@pytest.mark.parametrize("name", foreign_functions())
def test_functions_of_other_libraries_in_a_cell(name: str) -> None:
    """They are named, and the cell runs slowly, where it can at all."""
    function = foreign_functions()[name]

    class Foreign(Cell):
        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            y = function(x.a)
            return {"h": y}, {"y": y}

    with pytest.raises(RecordingError, match=r"^a step (can't|is|may|of the powers)|of the powers"):
        record(Foreign())


def test_numpys_numbers_in_a_cell() -> None:
    """They are arithmetic as Python's are; that they make float32 float64 is told when the cell is tried."""

    class Scaled(Cell):
        def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
            y = np.float64(0.5) * tanh(np.float64(1.0) + x.a - np.float64(1.0)) / np.float64(0.5)
            return {"h": y}, {"y": y}

    assert [value.operation for value in record(Scaled()).step.values][2:] == [
        *("add", "subtract", "tanh", "multiply", "divide")
    ]


# Backends, models -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("gpu", "NVIDIA's GPUs are 'cupy'"),
        ("CUDA", "NVIDIA's GPUs are 'cupy'"),
        ("torch", "give the namespace itself, import torch; backend=torch"),
        ("jax", "give the namespace itself, import jax; backend=jax.numpy"),
        ("cpu", "the CPU is 'numpy'"),
        ("native", "that is the engine of 'numpy'"),
    ],
)
def test_other_names_of_backends(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=rf"there is no backend '{name}': {words}.*; the installed ones are "):
        rr.LSTM(2, 3, backend=name)


def test_devices_that_are_not_there() -> None:
    strict = need("array_api_strict")
    for namespace in (strict, np):
        for wrong in (5, "gpu", 1.5, object(), 10**5000):
            with pytest.raises(ValueError, match=f"{namespace.__name__} has no device "):
                rr.get_backend(namespace, wrong)
    for given in ({"device": []}, {"engine": {}}, {"strategy": np.ones(2)}):
        with pytest.raises(TypeError, match=r"^(device|engine|strategy) can't be a (list|dict|ndarray), "):
            rr.get_backend("numpy", **given)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"backend must be an array-API namespace, which numpy.ma isn't: .*mask"):
        rr.get_backend(np.ma)


@pytest.mark.parametrize("make", [rr.LSTM, rr.DiagonalLSTM])
def test_states_in_other_forms(make: Any, backend: Backend) -> None:
    layer = make(2, 3, backend=backend, seed=0)
    x = backend.asarray(np.ones((2, 5, 2), "float32"))
    _, (h, c) = layer(x)
    with pytest.raises(TypeError, match=r"^state.c must be an array, not None: this layer carries h, c"):
        layer(x, rr.State(h))
    for wrong in ((h, c), [h, c], (h,)):
        with pytest.raises(
            TypeError, match=r"^state must be a recurray.State or None, not \w+; this layer's is State\(h, c\)"
        ):
            layer(x, wrong)
    with pytest.raises(ValueError, match=r"^state.c must be None: this layer has no state 'c'"):
        rr.GRU(2, 3, backend=backend)(x, rr.State(h, c))


def test_a_sequential_names_the_layer() -> None:
    model = rr.Sequential(rr.LSTM(2, 3, seed=0), rr.Linear(4, 1, seed=0))
    x = np.ones((2, 5, 2), "float32")
    with pytest.raises(ValueError, match=r"^layer 1, Linear: x must have the shape \(..., 4\), not \(2, 5, 3\)"):
        model(x)
    with pytest.raises(TypeError, match=r"^layer 0, LSTM: x must be an array of the backend"):
        model(x.tolist())
    nested = rr.Sequential(rr.Dropout(seed=0), model)
    with pytest.raises(ValueError, match=r"^layer 1, Sequential: layer 1, Linear: x must have the shape"):
        nested(x)
    model = rr.Sequential(rr.LSTM(2, 3, seed=0), rr.Linear(3, 1, seed=0))
    y, state, cache = model.forward(x)
    with pytest.raises(ValueError, match=r"^layer 1, Linear: dy must have the shape"):
        model.backward(cache, y[:, :2])
    with pytest.raises(TypeError, match=r"^layer 0, LSTM: state must be a recurray.State or None, not tuple"):
        model(x, (tuple(state[0]), None))


@pytest.mark.parametrize("size", [10**30, 10**400, 10**5000, 2**63], ids=["1e30", "1e400", "1e5000", "2**63"])
def test_huge_numbers(size: int) -> None:
    for make in (
        lambda: rr.LSTM(size, 3),
        lambda: rr.LSTM(2, size),
        lambda: rr.LSTM(2, 3, size),
        lambda: rr.LSTM(2, 3, proj_size=size),
        lambda: rr.LSTM(2, 3, dropout=size),
        lambda: rr.Linear(2, size),
        lambda: rr.Embedding(size, 2),
        lambda: rr.LayerNorm(size),
        lambda: rr.Dropout(size),
        lambda: rr.Activation("hard_tanh", alpha=size),
        lambda: rr.GRU(2, 3, zoneout_h=size),
        lambda: rr.optim.clip_grad_norm({"w": np.ones(2)}, -size),
        lambda: rr.LSTM(2, 3, seed=-size),
    ):
        with pytest.raises((ValueError, TypeError), match=r"must be|too large") as caught:
            make()
        assert len(str(caught.value)) < 400
    if size >= 10**400:
        for make in (
            lambda: rr.LSTM(2, 3, cell_clip=size),
            lambda: rr.LSTM(2, 3, forget_bias=size),
            lambda: rr.LayerNorm(2, eps=size),
            lambda: rr.Activation("elu", alpha=size),
            lambda: rr.losses.huber(np.ones(2), np.ones(2), delta=size),
            lambda: rr.optim.clip_grad_norm({"w": np.ones(2)}, size),
        ):
            with pytest.raises(ValueError, match="must be"):
                make()


# Labels ---------------------------------------------------------------------------------------------------------------

LOGITS = np.zeros((4, 3))


@pytest.mark.parametrize("loss", [rr.losses.cross_entropy, rr.losses.nll])
@pytest.mark.parametrize(
    ("target", "words"),
    [
        (np.zeros(4), "target must be integers"),
        (
            np.array(["a", "b", "c", "a"]),
            "target must be (integers|floating-point numbers or integers), the classes, not <U1",
        ),
        (np.array(["a", None, 1, 2], object), "target must be .*the classes, not object"),
        (
            np.eye(3, dtype=int)[[0, 1, 2, 0]],
            r"target must be integers, the class of each row.*not integers of the shape \(4, 3\)",
        ),
        (np.ones(4, bool), "target must be .*not bool"),
        (np.ones((4, 1), int), r"target must have the shape \(4,\), not \(4, 1\)"),
        (np.ones(3, int), r"target must have the shape \(4,\), not \(3,\)"),
        (["a"] * 4, "target must be an array of the prediction's library numpy, not builtins.list"),
    ],
    ids=["floats", "texts", "objects", "integer one-hot", "booleans", "a column", "too few", "list"],
)
def test_labels(loss: Any, target: Any, words: str) -> None:
    with pytest.raises((TypeError, ValueError), match=words):
        loss(LOGITS, target)


# Traces, pictures -----------------------------------------------------------------------------------------------------


def seen(hidden: int = 3, **options: Any) -> Any:
    lstm = rr.LSTM(2, hidden, dtype="float64", seed=0, **options)
    return lstm.trace(np.random.default_rng(0).standard_normal((2, 6, 2)))


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"row": "x"}, TypeError, "row must be an integer, not str 'x'"),
        ({"row": 1.0}, TypeError, "row must be an integer"),
        ({"row": True}, TypeError, "row must be an integer"),
        ({"row": None}, TypeError, "row must be an integer"),
        ({"row": 10**200}, ValueError, r"row must be below 2, the size of the batch, not 10+\.\.\."),
        ({"row": -3}, ValueError, "row must be below 2"),
        ({"names": "f"}, TypeError, r"names must be a sequence, not the text 'f': give \['f'\]"),
        ({"names": 3}, TypeError, "names must be a sequence, not int 3"),
        ({"names": ["z"]}, ValueError, "the trace has no 'z', but 'i', 'f'"),
        ({"names": [["f"]]}, ValueError, r"the trace has no \['f'\]"),
        ({"units": "0"}, TypeError, "units must be a sequence, not the text"),
        ({"units": 1}, TypeError, "units must be a sequence, not int 1"),
        ({"units": [0.5]}, TypeError, "each of units must be an integer"),
        ({"units": ["a"]}, TypeError, "each of units must be an integer"),
        ({"units": [-1]}, ValueError, "each of units must be at least 0"),
        ({"units": [3]}, ValueError, "units must be below 3"),
        ({"labels": 5}, TypeError, "labels must be a sequence"),
        ({"labels": "abc"}, ValueError, "labels must be 6, one for each step of row 0, not 3"),
    ],
    ids=str,
)
def test_what_is_not_drawn(options: dict[str, Any], error: type[Exception], words: str) -> None:
    need("matplotlib")
    with pytest.raises(error, match=words):
        plot.gates(seen(), **options)


@pytest.mark.parametrize(
    "options", [{}, {"units": [2, 0]}, {"names": ["h", "c"]}, {"units": (1, 2), "names": ("f",)}], ids=str
)
def test_the_legend_is_that_of_the_lines(options: dict[str, Any]) -> None:
    need("matplotlib")
    trace = seen()
    figure = plot.gates(trace, **options)
    units, names = options.get("units", range(3)), options.get("names", ("i", "f", "g", "o", "c", "h"))
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"unit {unit}" for unit in units]
    for axis, name in zip(figure.axes, names, strict=True):
        lines = {line.get_color(): line.get_ydata() for line in axis.get_lines()}
        for handle, unit in zip(legend.get_lines(), units, strict=True):
            np.testing.assert_array_equal(lines[handle.get_color()], trace[name][0, :, unit])


def test_seeds() -> None:
    class Shy:
        def __repr__(self) -> str:
            raise RuntimeError("I am not to be shown")

    for wrong in (Shy(), "one", 1.5, {}, [1.5], ["a"], object, -1, [-1], np.array(-1), [None]):
        for make in (lambda seed: rr.LSTM(2, 3, seed=seed), lambda seed: rr.Dropout(seed=seed)):
            with pytest.raises(
                (TypeError, ValueError), match=r"^seed must be None, a non-negative integer or a sequence"
            ):
                make(wrong)
    for right in (None, 0, 10**400, [1, 2], (3,), np.array([4, 5]), np.int64(6)):
        rr.Linear(2, 3, seed=right)


def test_the_legend_has_every_unit_where_panels_differ() -> None:
    need("matplotlib")
    figure = plot.gates(seen(4, proj_size=2), names=["h", "f"])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"unit {unit}" for unit in range(4)]


def test_places_of_a_trace() -> None:
    trace = seen(num_layers=2)
    assert trace[-1] is trace[1]
    for wrong in (2, -3, 10**30):
        with pytest.raises(IndexError, match="there are 2 layers and directions, but no number"):
            trace[wrong]
    with pytest.raises(TypeError, match="only a recurrent layer has gates to trace, not ZoneoutCell"):
        rr.trace.trace(cells.ZoneoutCell(LSTMCell(), 0.1), None)  # type: ignore[attr-defined]


def test_nothing_here_warns_by_itself() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rr.optim.Adam(rr.LSTM(2, 3, 2, dropout=0.1, forget_bias=1.0).params)
