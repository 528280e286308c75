"""Random calls of the public API, right and wrong ones, one after another on the same objects: no error may be raw.

python tests/reliability/fuzz_api.py --calls 50000 --seed 0  # ends with 1 if an error was raw or a call hung

An error is recurray's own if a ``raise`` of recurray's raised it: the innermost frame of its traceback stands in one.
What NumPy, Python or another library raised on the way is raw, whatever its type: nobody has looked at what was given
before work was begun. So is a call that takes longer than `LIMIT` seconds.
"""

from __future__ import annotations

import argparse
import ast
import copy
import decimal
import fractions
import pickle
import random
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

import recurray as rr
from recurray import activations, cells, convert, layouts, losses, optim, plot, schedules, sklearn
from recurray.activations import by_name
from recurray.arrays import tanh

KERAS_MODEL = Path(__file__).resolve().parents[1] / "library" / "convert" / "model.keras"
LIMIT = 20.0  # seconds that a call may take
KEPT = 12  # objects of a kind, of which calls are made
MORE_LOSSES = ("quantile", "gaussian_nll", "nse", "kge", "esr")
OWN = ("recurray", "recurray_numpy", "recurray_native", "recurray_cupy", "sklearn")  # its checks are ours
TYPES = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, ImportError, OSError),
    *(RuntimeError, rr.BackendUnavailableError),  # a TrainingError is a RuntimeError
)


class HangError(BaseException):
    """A call has taken too long."""


# Whose an error is ----------------------------------------------------------------------------------------------------


@cache
def raises_of(path: str) -> list[tuple[int, int]]:
    """The lines of a file's raise statements, first and last."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    return [(node.lineno, node.end_lineno or node.lineno) for node in ast.walk(tree) if isinstance(node, ast.Raise)]


def fault_of(error: BaseException) -> str:
    """Why an error is raw; nothing if it is recurray's own."""
    if isinstance(error, HangError):
        return "hung"
    if not isinstance(error, TYPES):
        return f"is a {type(error).__name__}"
    if not str(error):
        return "says nothing"
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return "has no traceback"
    innermost = frames[-1]
    path = Path(innermost.filename)
    if any(Path(frame.filename).name == "_pprint.py" for frame in frames):
        return ""  # scikit-learn shows an estimator, one of whose params can't be shown
    if not set(path.parts) & set(OWN) or not path.is_file():
        return f"comes from {path.name}"
    line = innermost.lineno or 0
    if not any(first <= line <= last for first, last in raises_of(innermost.filename)):
        return f"comes out of line {line} of {path.name}"
    return ""


# Values ---------------------------------------------------------------------------------------------------------------


class Odd:
    """Something that nobody expects."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr either")


class Tagged(np.ndarray):  # type: ignore[type-arg]
    """A subclass of NumPy's array."""


ODD: list[Any] = [
    *(None, "x", "", b"x", "sqrt", "auto", "float32", "mean", -1, 0, 1, 2, 3, 10**30, -(10**30), 10**400, 10**5000),
    *(1.5, -0.5, 0.5, 1e-300, 1e300, float("nan"), float("inf"), -float("inf"), 1j, True, False),
    *([], (), {}, [1, 2], (1,), {"a": 1}, {1}, [[1], [2, 3]], range(3), object, np, len, Odd()),
    *(np.float32(0.5), np.float64(2), np.int64(2), np.bool_(True), np.array(2), np.array(0.5), np.array([1, 2])),
    *(np.array([0.5]), np.array("x"), np.array(None), fractions.Fraction(1, 3), fractions.Fraction(10**400, 3)),
    *(decimal.Decimal("0.1"), np.float32, np.dtype("float64"), np.random.default_rng(0), rr.State(None)),
]


class Leaky(rr.Cell):
    """A user's cell."""

    input_gates = recurrent_gates = ("a",)
    pointwise = {"rate": ("p",)}  # noqa: RUF012

    def step(self, x: Any, h: Any, before: Any, params: Any) -> Any:
        new, p = tanh(x.a + h.a), params.rate.p
        return {"h": before.h + p * (new - before.h)}, {"new": new}

    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> Any:
        new, p = saved.new, params.rate.p
        da = d.h * (p * (1 - new * new))
        grads = {"rate": {"p": d.h * (new - before.h)}}
        return rr.CellGradients(x={"a": da}, h={"a": da}, before={"h": d.h * (1 - p)}, params=grads)


class Fuzz:
    """Random calls; everything is drawn from one generator, so a seed and a number of calls repeat a run."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rng = np.random.default_rng(seed)
        self.backends = [rr.get_backend("numpy"), rr.get_backend("numpy", engine="numpy"), rr.get_backend(np)]
        for name in ("array_api_strict", "torch"):
            try:
                self.backends.append(rr.get_backend(__import__(name)))
            except ImportError:
                continue
        self.pools: dict[str, list[Any]] = {}
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.raw: list[str] = []
        self.what = ""
        self.actions = {name[3:]: getattr(self, name) for name in dir(self) if name.startswith("do_")}

    # Drawing

    def chance(self, p: float) -> bool:
        return self.random.random() < p

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def odd(self) -> Any:
        return self.random.choice(ODD)

    def maybe(self, *values: Any, wrong: float = 0.08) -> Any:
        """One of the values, or something odd."""
        return self.odd() if self.chance(wrong) else self.random.choice(values)

    def options(self, most: int = 3, **choices: tuple[Any, ...]) -> dict[str, Any]:
        """Some of the options."""
        names = self.random.sample(sorted(choices), self.random.randint(0, min(most, len(choices))))
        return {name: self.maybe(*choices[name]) for name in names}

    def keep(self, kind: str, value: Any) -> Any:
        pool = self.pools.setdefault(kind, [])
        pool.append(value)
        if len(pool) > KEPT:
            pool.pop(self.random.randrange(KEPT))
        return value

    def some(self, kind: str, make: Callable[[], Any]) -> Any:
        """An object of a kind that there is, or a new one."""
        pool = self.pools.get(kind)
        if not pool or self.chance(0.05):
            return make()
        return self.random.choice(pool)

    def array(self, backend: Any, shape: Any, dtype: str = "float32", wrong: float = 0.08) -> Any:
        """An array of a shape on a backend, or something like it."""
        if self.chance(0.02):
            return self.odd()
        shape = tuple(shape)
        if self.chance(wrong):
            axis = self.random.randrange(len(shape)) if shape else 0
            changed = [*shape]
            if shape:
                changed[axis] = self.pick(0, 1, changed[axis] + 1)
            shape = self.pick(tuple(changed), shape[:-1], shape[1:], (1, *shape), shape[::-1], ())
        values = self.rng.standard_normal(shape)
        if self.chance(0.05):
            values = values * self.pick(np.nan, np.inf, 1e30, 0.0)
        if not self.chance(wrong):
            if backend.name == "numpy" and self.chance(0.3):
                values = np.asarray(values, dtype)
                form = self.pick(np.asfortranarray, lambda a: a[..., ::-1], lambda a: a.view(Tagged), lambda a: a[()])
                return form(values) if values.ndim else values
            return backend.asarray(values, self.pick(dtype, dtype, dtype, "float32", "float64"))
        forms: list[Callable[[Any], Any]] = [
            *(lambda a: a.tolist(), lambda a: a.astype(int), lambda a: a.astype(bool), lambda a: a.astype(complex)),
            *(lambda a: a.astype(str), lambda a: a.astype(object), lambda a: a.astype(">f4"), np.ma.array),
            *(lambda a: a.astype("float16"), lambda a: np.matrix(a.reshape(len(a) if a.ndim else 1, -1))),
            *(lambda a: a.astype([("a", "f4")]), lambda a: a.astype("M8[s]") if a.dtype == int else a, tuple),
            *(lambda a: a.sum(), lambda a: self.pick(*self.backends).asarray(a), lambda a: a.astype("uint8")),
        ]
        try:
            return self.random.choice(forms)(values)
        except Exception:  # a form that isn't for these
            return values

    def integers(self, backend: Any, shape: Any, below: int, wrong: float = 0.15) -> Any:
        """Classes or places, or something like them."""
        values = self.rng.integers(0, below, size=tuple(shape))
        if self.chance(wrong):
            return self.pick(
                *(
                    values.tolist(),
                    values - 1,
                    values + below,
                    values.astype("uint64"),
                    values.astype(float),
                    np.atleast_1d(values)[:1],
                ),
                *(values.astype(str), values.astype(object), values > 0, np.ma.array(values), np.eye(3, dtype=int)),
                self.odd(),
            )
        return backend.asarray(values)

    def lengths(self, batch: int, steps: int) -> Any:
        if self.chance(0.6):
            return None
        if self.chance(0.15):
            return self.pick(
                [1.0] * batch, [steps + 1] * batch, [-1] * batch, [True] * batch, "12", [[1]], self.odd(), [1, None]
            )
        return self.pick(list, tuple, np.array)([self.random.randint(0, steps) for _ in range(batch)])

    def flags(self, layer: Any, batch: int, steps: int) -> dict[str, Any]:
        """A mask, resets, neither or both."""
        shape = (batch, steps) if getattr(layer, "batch_first", None) is not False else (steps, batch)
        found = {}
        for name, share, take in (("mask", 0.2, 0.7), ("resets", 0.2 if layer.recurrent else 0.02, 0.2)):
            if self.chance(share):
                value = self.rng.random(self.pick(shape, shape, shape, shape[::-1], (batch,))) < take
                found[name] = self.maybe(value, layer.backend.asarray(value), value.tolist(), value * 1.0, wrong=0.05)
        return found

    def dtype(self) -> Any:
        return self.maybe("float32", "float64", np.float32, "float32", wrong=0.04)

    def backend(self) -> Any:
        return self.random.choice(self.backends)

    # Layers

    def common(self, **choices: tuple[Any, ...]) -> dict[str, Any]:
        found = self.options(**choices) | self.options(2, seed=(0, 1, None, [1, 2]), dtype=("float32", "float64"))
        return found | {"backend": self.maybe(*self.backends, "numpy", None, wrong=0.03)}

    def new_layer(self) -> Any:
        size = lambda: self.maybe(1, 2, 3, 4, wrong=0.03)  # noqa: E731
        flag = (True, False)
        p = (0.0, 0.3, 0.5)
        recurrent: dict[str, tuple[Any, ...]] = {
            "num_layers": (1, 2, 3),
            "bidirectional": flag,
            "reverse": (False, False, True),
            "bias": flag,
            "dropout": p,
            "recurrent_dropout": p,
            "weight_dropout": p,
            "learned_state": flag,
            "static_size": (0, 2),
            "recompute": (None, 2, "sqrt"),
            "batch_first": flag,
            "recurrent_init": ("uniform", "orthogonal"),
        }
        lstm: dict[str, tuple[Any, ...]] = {
            "peepholes": flag,
            "coupled": flag,
            "layer_norm": flag,
            "cell_clip": (None, 1.0),
            "gate_clip": (None, 2.0),
            "clip_output": (True, True, False),
            "zoneout_h": p,
            "zoneout_c": p,
            "forget_bias": (None, 1.0),
            "gate_activation": ("sigmoid", "hard_sigmoid", "HardSigmoid"),
            "cell_activation": ("tanh", ("leaky_relu", 0.1), "silu"),
            "output_activation": ("tanh", {"name": "elu"}, "gelu"),
        }
        in_reverse = (None, None, {"gate_activation": "tanh"}, {"cell_activation": "relu"}, {"nonlinearity": "mish"})
        gru = {name: lstm[name] for name in ("gate_activation", "cell_activation", "gate_clip")}
        gru |= {"reset_after": flag, "zoneout_h": p, "reverse_activations": in_reverse}
        rnn = {"nonlinearity": ("tanh", "relu", "elu", "mish"), "gate_clip": (None, 2.0)}
        rnn |= {"reverse_activations": in_reverse}
        diagonal = {
            name: recurrent[name]
            for name in ("reverse", "recurrent_dropout", "weight_dropout", "learned_state", "static_size", "recompute")
        }
        kind = self.random.randrange(13)
        if kind == 0:
            options = self.common(**recurrent, **lstm, proj_size=(0, 1), reverse_activations=in_reverse)
            return rr.LSTM(size(), size(), **options)
        if kind == 1:
            return rr.GRU(size(), size(), **self.common(**recurrent, **gru))
        if kind == 2:
            return rr.RNN(size(), size(), **self.common(**recurrent, **rnn))
        if kind == 3:
            options = self.common(**diagonal, **lstm, projection=("shared", "per_gate"))
            return rr.DiagonalLSTM(size(), size(), **options)
        if kind == 4:
            return rr.Recurrent(self.new_cell(), size(), size(), **self.common(**recurrent, proj_size=(0, 1)))
        if kind == 5:
            return rr.Linear(size(), size(), **self.common(bias=flag))
        if kind == 6:
            return rr.Embedding(
                self.maybe(3, 5, wrong=0.03), size(), **self.options(padding_idx=(None, 0, -1, 4)), **self.common()
            )
        if kind == 7:
            options = self.common(eps=(1e-5, 0.1))
            options.pop("seed", None)
            return rr.LayerNorm(size(), **options)
        if kind == 8:
            return rr.Dropout(self.maybe(0.0, 0.3, 0.9), **self.common())
        if kind == 9:
            options = self.common(alpha=(0.5, 1.0, None), beta=(0.5, None))
            options.pop("seed", None)
            return rr.Activation(self.maybe(*by_name.FUNCTIONS), **options)
        if kind == 10:
            options = self.common(batch_first=flag)
            options.pop("seed", None)
            if self.chance(0.3):
                return rr.Final(self.maybe("forward", "reverse", "bidirectional", None), **options)
            return self.pick(rr.Last, rr.Mean, rr.Max)(**options)
        if kind == 11:
            options = self.common()
            options.pop("seed", None)
            return rr.Merge(self.maybe("sum", "ave", "mul"), **options)
        layers = [self.some("layer", self.plain_layer) for _ in range(self.random.randint(0, 3))]
        layers = [copy.deepcopy(layer) for layer in layers]
        if self.chance(0.1):
            layers.append(self.odd())
        if self.chance(0.5):
            layers = [
                rr.LSTM(2, 3),
                rr.Dropout(),
                *self.pick([], [rr.Last()], [rr.Final()], [rr.Mean()], [rr.Max()]),
                rr.Linear(3, 2),
            ]
        return rr.Sequential(*layers)

    def plain_layer(self) -> Any:
        return self.keep("layer", rr.LSTM(2, 3, self.pick(1, 2), backend=self.backend(), seed=0))

    def new_cell(self) -> Any:
        if self.chance(0.05):
            return self.odd()
        flag = (True, False)
        kind = self.random.randrange(8)
        if kind == 0:
            return cells.LSTMCell(**self.options(peepholes=flag, coupled=flag, cell_clip=(None, 1.0), layer_norm=flag))
        if kind == 1:
            return cells.GRUCell(**self.options(reset_after=flag))
        if kind == 2:
            return cells.RNNCell(self.maybe("tanh", "relu", ("elu", 0.5)))
        if kind == 3:
            return cells.SLSTMCell(**self.options(forget_gate=("sigmoid", "exponential")))
        if kind == 4:
            return self.pick(cells.MGUCell, cells.IndRNNCell, Leaky)()
        if kind == 5:
            return cells.ZoneoutCell(self.maybe(cells.LSTMCell(), cells.GRUCell()), self.maybe(0.0, 0.2))
        if kind == 6:
            return cells.RecurrentDropoutCell(self.maybe(cells.IndRNNCell(), cells.LSTMCell()), self.maybe(0.2, 0.5))
        attribute = self.pick(
            "states", "input_gates", "recurrent_gates", "inner_gates", "pointwise", "draws", "sequence_draws"
        )
        given = self.maybe(("h", "c"), ("c",), ("a",), "a", ("a", "a"), {"a": ("p",)}, {"n": 0.5}, wrong=0.3)
        return type("Wrong", (Leaky,), {attribute: given})()

    def do_layer(self) -> Any:
        return self.keep("layer", self.new_layer())

    def layer(self) -> Any:
        return self.some("layer", self.plain_layer)

    def recurrent(self) -> Any:
        found = [layer for layer in self.pools.get("layer", []) if isinstance(layer, rr.Recurrent)]
        return self.random.choice(found) if found else self.plain_layer()

    def input_of(self, layer: Any) -> tuple[Any, int, int]:
        batch, steps = self.pick(1, 1, 2, 3, 0), self.pick(1, 1, 2, 5, 0)
        like = np.asarray(layer.random_input(self.rng, batch, steps))
        if like.dtype.kind in "iu":
            return self.integers(layer.backend, like.shape, 3), batch, steps
        return self.array(layer.backend, like.shape, layer.dtype, wrong=0.06), batch, steps

    def static_of(self, layer: Any, batch: int) -> dict[str, Any]:
        """The input that doesn't change over time, where the layer takes one, and now and then where it doesn't."""
        if self.chance(0.05 if layer.static_size else 0.97):
            return {}
        return {"static": self.array(layer.backend, (batch, layer.static_size or 2), layer.dtype, wrong=0.06)}

    def state_of(self, layer: Any) -> Any:
        if self.chance(0.65):
            return None
        states = [state for owner, state in self.pools.get("state", []) if owner is layer]
        if states and not self.chance(0.1):
            state = self.random.choice(states)
            if self.chance(0.15) and isinstance(state, tuple):
                return self.pick(tuple(state), list(state), state[:1], state[0] if state else None)
            return state
        if self.chance(0.7):
            batch = self.pick(1, 2, 3)
            x = layer.backend.asarray(layer.random_input(self.rng, batch, 2))
            return layer(x, **self.static_of(layer, batch))[1]
        shape = (self.pick(1, 2), self.pick(1, 2, 3), 3)
        return self.pick(
            rr.State(self.array(layer.backend, shape), self.array(layer.backend, shape)),
            *(rr.State(self.array(layer.backend, shape)), (None,) * self.random.randint(0, 3), self.odd()),
        )

    def do_call(self) -> Any:
        layer = self.layer()
        x, batch, steps = self.input_of(layer)
        given = self.static_of(layer, batch) | self.flags(layer, batch, steps)
        y, state = layer(x, self.state_of(layer), self.lengths(batch, steps), **given)
        self.keep("state", (layer, state))
        return y

    def do_forward(self) -> Any:
        layer = self.layer()
        x, batch, steps = self.input_of(layer)
        options = self.options(training=(True, False), rng=(None, np.random.default_rng(1)))
        options |= self.static_of(layer, batch) | self.flags(layer, batch, steps)
        y, state, made = layer.forward(x, self.state_of(layer), self.lengths(batch, steps), **options)
        self.keep("state", (layer, state))
        self.keep("cache", (layer, y, state, made))
        return y

    def do_backward(self) -> Any:
        found = self.pools.get("cache")
        if not found:
            return self.do_forward()
        layer, y, state, made = self.random.choice(found)
        if self.chance(0.08):
            layer = self.layer()
        made = self.odd() if self.chance(0.05) else made
        dstate = self.pick(None, None, state, self.state_of(layer))
        dx, _, grads = layer.backward(made, self.array(layer.backend, y.shape, layer.dtype, wrong=0.05), dstate)
        self.keep("grads", (layer, grads))
        return dx

    def do_params(self) -> Any:
        """Spoil params by hand, on a layer that isn't kept."""
        layer = copy.deepcopy(self.layer())
        names = [*layer.params]
        if not names:
            return None
        name, kind = self.random.choice(names), self.random.randrange(5)
        value = layer.params[name]
        if kind == 0:
            layer.params[name] = self.odd()
        elif kind == 1:
            layer.params[name] = self.array(
                self.pick(layer.backend, self.backend()), value.shape, layer.dtype, wrong=0.5
            )
        elif kind == 2:
            del layer.params[name]
        elif kind == 3:
            layer.params[self.pick(name, "other", "0.other")] = value
        else:
            layer.params = self.pick({}, None, [], {name: value}, self.odd())
        x, _, _ = self.input_of(layer)
        use = self.random.randrange(6)
        if use == 0:
            return layer(x)
        if use == 1:
            return layer.forward(x)
        if use == 2:
            return layer.state_dict()
        if use == 3:
            return layer.to(dtype="float64")
        if use == 4:
            return repr(layer), layer.param_count()
        return optim.SGD(layer.params).step({name: value})

    def do_load(self) -> Any:
        layer = self.layer()
        given = layer.state_dict()
        for name in self.random.sample(sorted(given), min(len(given), self.random.randint(0, 2))):
            given[name] = self.array(self.backend(), given[name].shape, wrong=0.5)
        if self.chance(0.15):
            given[self.pick("weight", 3, None, "0.bias", ("a",))] = self.odd()
        layer.load_state_dict(self.maybe(given, given, given, [*given.items()], wrong=0.03))

    def do_save(self) -> Any:
        """A layer to a file and back, whole or spoiled."""
        layer = self.layer()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, self.pick("model", "model", "model", "missing/model", "."))
            metadata = self.maybe(None, {"a": [1, None]}, {"a": self.odd()}, 3, wrong=0.1)
            try:
                rr.save(self.maybe(layer, layer, self.odd(), wrong=0.03), path, metadata)
                if self.chance(0.1):
                    path.write_bytes(path.read_bytes()[: self.random.randint(0, 2000)])
                rr.load(path, **self.options(backend=(None, self.backend()), cells=(None, [], {})))
                rr.saving.describe(path)
            except OSError as error:  # which the places above are for
                if str(path) not in str(error):
                    raise

    def do_layouts(self) -> Any:
        """A layer's params to another library's arrays and back, whole or spoiled."""
        name = self.pick(*layouts.names(), "torch.motor")
        arrays = layouts.write(name, self.layer())
        one = self.pick(*arrays) if isinstance(arrays, list) else arrays
        if self.chance(0.4):
            one[self.pick(*one)] = self.array(self.backend(), (3, 2), wrong=0.5)
        facts = self.options(
            reset_after=(True, False), bidirectional=(True, False), hidden_size=(3, 4), forget_bias=(1.0,)
        )
        layouts.read(name, arrays, **facts)

    def do_convert(self) -> Any:
        """A state dict to layers, whole or spoiled; a layer to another library's file."""
        layer = self.layer()
        if self.chance(0.2):
            options = self.options(
                architecture=(None, None, [], "{", [("LSTM", {"units": 3})]),
                keras_version=(None, "2.2.4", "three"),
                backend=(None, self.backend()),
                dtype=("float32", "float64", None),
            )
            path = self.maybe(KERAS_MODEL, KERAS_MODEL, "nothing", wrong=0.03)
            return convert.from_keras(path, **options).mask(self.array(self.backend(), (2, 4, 2)))
        if self.chance(0.3):
            with tempfile.TemporaryDirectory() as folder:
                return convert.to_rtneural(self.maybe(layer, self.plain_layer()), Path(folder, "model.json"))
        given = {f"lstm.{name}": value for name, value in layer.state_dict().items()}
        for name in self.random.sample(sorted(given), min(len(given), self.random.randint(0, 2))):
            given[name] = self.array(self.backend(), given[name].shape, wrong=0.5)
        options = self.options(
            prefix=(None, "lstm", ["lstm"], "", []),
            nonlinearity=(None, "tanh", "relu"),
            eps=(1e-5,),
            batch_first=(True, False),
            dtype=("float32", "float64", None),
        )
        return convert.from_torch(self.maybe(given, given, given, [*given.items()], wrong=0.03), **options).report

    def do_move(self) -> Any:
        layer = self.layer()
        options = self.options(backend=tuple(self.backends), dtype=("float32", "float64", None))
        other = self.keep("layer", layer.to(**options))
        states = [state for owner, state in self.pools.get("state", []) if owner is layer]
        return other.as_state(self.maybe(*states, None))

    def do_copy(self) -> Any:
        layer = self.layer()
        how = self.pick(copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value)), repr)
        return how(layer)

    def do_attribute(self) -> Any:
        """What is read of a layer."""
        layer = self.layer()
        layer.param_count(), layer.streamable, repr(layer)
        return layer.params[self.pick(*(*layer.params, *[""][: not layer.params]))] if layer.params else None

    def do_stream(self) -> Any:
        stream = self.some("stream", lambda: self.keep("stream", rr.Streaming(self.maybe(self.layer(), self.layer()))))
        if self.chance(0.1):
            stream.reset()
        if self.chance(0.05):
            stream.state = self.odd()
        x, batch, steps = self.input_of(stream.model)
        try:
            given = self.static_of(stream.model, batch) | self.flags(stream.model, batch, steps)
            return stream(x, self.lengths(batch, steps), **given)
        except Exception:
            stream.reset()
            raise

    # Training

    def new_optimizer(self) -> Any:
        kind = self.pick(optim.SGD, optim.Adam, optim.AdamW, optim.NAdam, optim.RMSprop, optim.Adagrad, optim.Adadelta)
        choices: dict[str, tuple[Any, ...]] = {"lr": (0.1, 0.0, 1e-3), "weight_decay": (0.0, 0.1)}
        choices |= {
            optim.SGD: {"momentum": (0.0, 0.9), "nesterov": (True, False), "dampening": (0.0, 0.1)},
            optim.RMSprop: {"alpha": (0.9,), "eps": (1e-8,), "momentum": (0.0, 0.9), "centered": (True, False)},
            optim.Adadelta: {"rho": (0.9,), "eps": (1e-6,)},
            optim.Adagrad: {"eps": (1e-8,)},
        }.get(kind, {"betas": ((0.9, 0.99), [0.5, 0.5], (0.9,)), "eps": (1e-8,)})
        layer = self.layer()
        params = self.maybe(
            layer.params, layer.params, dict(layer.params), {"w": self.array(self.backend(), (2, 3))}, wrong=0.03
        )
        made = kind(params, **self.options(**choices))
        return self.keep("optimizer", (layer, made))

    def do_step(self) -> Any:
        layer, optimizer = self.some("optimizer", self.new_optimizer)
        grads = {
            name: self.array(layer.backend, value.shape, layer.dtype, wrong=0.02)
            for name, value in optimizer.params.items()
        }
        if self.chance(0.1):
            grads = self.pick({}, None, [], {"x": self.odd()}, grads | {"x": self.odd()}, self.odd())
        if self.chance(0.1):
            grads, _ = optim.clip_grad_norm(grads, self.maybe(1.0, 0.0, float("inf")))
        return optimizer.step(grads)

    def do_optimizer(self) -> Any:
        _, optimizer = self.some("optimizer", self.new_optimizer)
        kind = self.random.randrange(4)
        if kind == 0:
            return self.new_optimizer()
        if kind == 1:
            name = self.pick("lr", *optimizer._options)
            before = getattr(optimizer, name)
            setattr(optimizer, name, self.odd())
            setattr(optimizer, name, before)
            return repr(optimizer)
        state = optimizer.state_dict()
        if self.chance(0.5):
            key = self.pick(*state)
            state[key] = self.odd()
        elif self.chance(0.5):
            state["settings"][self.pick(*state["settings"])] = self.odd()
        return optimizer.load_state_dict(self.maybe(state, state, wrong=0.05))

    def do_clip(self) -> Any:
        grads = {name: self.array(self.backends[0], (2, 2)) for name in "ab"}
        return optim.clip_grad_norm(self.maybe(grads, grads, {}), self.maybe(1.0, 0.0, 5))

    def do_scaler(self) -> Any:
        scaler = optim.LossScaler(**self.options(scale=(8.0, 65536.0), growth=(2.0,), interval=(1, 3)))
        scaler.scaled(self.array(self.backend(), (2, 3)))
        scaler.unscaled(self.maybe({"w": self.array(self.backend(), (2, 3))}, {}))
        state = scaler.state_dict()
        state[self.pick(*state)] = self.odd()
        return scaler.load_state_dict(self.maybe(state, state))

    def do_loss(self) -> Any:
        backend, shape = self.backend(), self.pick((4, 3), (2, 5, 3), (3,), (0, 3))
        name = self.pick("mse", "mae", "huber", "binary_cross_entropy", "cross_entropy", "nll", *MORE_LOSSES)
        prediction, rows = self.array(backend, shape), shape
        if name in ("cross_entropy", "nll"):
            rows = shape[:-1]
            target = (
                self.integers(backend, rows, 3) if self.chance(0.6) else self.array(backend, self.pick(shape, rows))
            )
        else:
            target = self.array(backend, shape)
        choices: dict[str, tuple[Any, ...]] = {"reduction": ("mean", "sum", "none")}
        mask = self.rng.random(self.pick(rows, rows, rows[:1])) < 0.5
        choices["mask"] = (None, backend.asarray(mask), mask, mask.astype(float), np.ma.array(mask), mask.tolist())
        if name == "binary_cross_entropy":
            choices["from_logits"] = (True, False)
            choices["positive_weight"] = (2.0, [1.0, 2.0, 3.0], -1.0)
        if name in ("cross_entropy", "nll"):
            choices |= {"class_weights": ([1.0, 0.5, 0.0], (1, 1), "abc"), "ignore_index": (-100, 1, 10**30)}
        if name == "cross_entropy":
            choices["label_smoothing"] = (0.1, 1, 2.0)
        if name == "quantile":
            choices["quantiles"] = (0.1, (0.1, 0.5, 0.9), [], 1.0, None)
        if name == "gaussian_nll":
            choices |= {"log_variance": (True, False), "full": (True, False), "eps": (1e-3, 0.0)}
            target = self.array(backend, (*shape[:-1], self.pick(1, 3)))
        if name in ("nse", "kge", "esr"):
            choices["per_row"] = (True, False)
        if name == "kge":
            choices["method"] = ("2009", "2012", 2012)
        if name == "nse":
            choices |= {"deviation": ([1.0, 2.0, 0.5, 1.0], 1.0), "eps": (0.0, 1.0)}
        if name == "esr":
            choices |= {"pre_emphasis": (0.0, 0.95, 2.0), "dc": (True, False), "eps": (1e-3, 0.0)}
        if name == "huber":
            choices["delta"] = (1.0, 0.5)
        return getattr(losses, name)(prediction, target, **self.options(**choices))

    def do_policy(self) -> Any:
        backend = self.backend()
        made = self.pick(
            lambda: rr.policies.Categorical(self.array(backend, self.pick((4, 3), (3,), (0, 3), ()))),
            lambda: rr.policies.Gaussian(
                self.array(backend, (4, 3)), self.array(backend, self.pick((3,), (4, 3), (4,)))
            ),
        )()
        actions = self.pick(
            lambda: made.sample(self.rng),
            lambda: self.integers(backend, (4,), 3),
            lambda: self.array(backend, (4, 3)),
            self.odd,
        )()
        made.entropy()
        made.log_probability(actions)
        return made.backward(actions, self.pick(None, self.array(backend, (4,)), self.odd()))

    def do_lengths_to_mask(self) -> Any:
        lengths = self.pick([2, 0, 3], [], [1.0], [-1], "abc", np.array([[1]]), self.integers(self.backend(), (3,), 4))
        return rr.lengths_to_mask(lengths, self.maybe(None, 4, 2), self.maybe(True, False))

    def do_schedule(self) -> Any:
        lr, n = lambda: self.maybe(0.1, 1.0, 0), lambda: self.maybe(1, 5, 10)
        made = self.pick(
            lambda: schedules.Step(lr(), n(), self.maybe(0.1, 2.0, 3)),
            lambda: schedules.Exponential(lr(), self.maybe(0.5, 2, 1.0)),
            lambda: schedules.Cosine(lr(), n(), **self.options(lr_min=(0.0, 0.01), warmup=(0, 2))),
            lambda: schedules.CosineRestarts(lr(), n(), **self.options(factor=(1, 2), lr_min=(0.0, 0.01))),
            lambda: schedules.OneCycle(
                *(lr(), n()),
                **self.options(pct_start=(0.2, 0.9), anneal=("linear", "cosine"), three_phase=(True, False)),
            ),
            lambda: schedules.ReduceOnPlateau(lr(), **self.options(factor=(0.5, 1), patience=(0, 2))).observe,
            lambda: schedules.Cyclic(
                *(0.0, lr(), n()),
                **self.options(step_down=(None, 2), mode=("triangular", "triangular2", "exp_range"), gamma=(0.9, 2)),
            ),
        )()
        return made(self.maybe(0, 1, 7, 10**6, 10**30))

    # Looking inside

    def do_trace(self) -> Any:
        layer = self.recurrent() if self.chance(0.95) else self.odd()
        if not isinstance(layer, rr.Recurrent):
            from recurray.trace import trace

            return trace(layer, None)
        x, batch, steps = self.input_of(layer)
        given = self.static_of(layer, batch) | self.flags(layer, batch, steps)
        found = self.keep("trace", layer.trace(x, self.state_of(layer), self.lengths(batch, steps), **given))
        return found[self.maybe(0, "h", 1, -1, slice(0, 1), "z", wrong=0)]

    def do_plot(self) -> Any:
        found = self.pools.get("trace")
        trace = self.odd() if not found or self.chance(0.05) else self.random.choice(found)
        choices = {
            "row": (0, 1, -1),
            "names": (None, ["h"], ("h", "z")),
            "units": (None, [0], [0, 1]),
            "labels": (None, "ab"),
        }
        if self.chance(0.3):
            return plot.states(
                trace, **self.options(row=(0, 1, -1), name=(None, "h", "z"), sort=(None, "peak", "mean", "alike"))
            )
        return plot.gates(trace, **self.options(**choices))

    def do_gradients(self) -> Any:
        subject = self.pick(self.layer, self.recurrent, self.new_cell, self.odd)()
        if isinstance(subject, rr.Layer) and subject.param_count() > 300:
            return None
        choices = {
            "samples": (1, 2),
            "tolerance": (1e-6,),
            "batch": (None, 1, 2),
            "steps": (1, 3),
            "training": (True, False),
        }
        return str(
            rr.check_gradients(subject, **({"samples": 1} | self.options(**choices, seed=(0, 1), backend=("numpy",))))
        )

    # Backends

    def do_backend(self) -> Any:
        name = self.maybe(
            "numpy", "cupy", "auto", "gpu", "cuda", "torch", "jax", None, np, np.ma, *self.backends, wrong=0.3
        )
        choices = {
            "device": (None, "cpu", 0, 5, "cuda"),
            "engine": (None, "numpy", "native", "c"),
            "strategy": (None, "auto", "fast"),
            "compute_dtype": (None, "float16"),
        }
        return repr(rr.get_backend(name, **self.options(**choices)))

    def do_asarray(self) -> Any:
        backend = self.backend()
        given = self.pick(self.odd(), self.array(self.backend(), (2, 3), wrong=0.5))
        made = backend.asarray(given, self.maybe(None, "float32", "float64", "int64", "bool", "zeros", wrong=0.1))
        backend.synchronize(), backend.describe(), backend.owns(given)
        return backend.to_numpy(made)

    def do_activation(self) -> Any:
        name = self.pick(*by_name.FUNCTIONS)
        odd = self.odd
        return activations.activation(
            self.pick(name, (name, odd()), {"name": name, "alpha": odd()}, {odd.__name__: 1}, odd())
        )

    # Forecasts and estimators

    def numbers(self, rows: int) -> Any:
        """A series, or something like it."""
        values = self.rng.standard_normal(rows) + self.pick(0, 5)
        odd = (values * self.pick(0, 1e300, np.nan), values.tolist(), values[:, None], values.astype(str), self.odd())
        return self.pick(*odd) if self.chance(0.1) else values

    def series(self) -> Any:
        rows = self.pick(30, 40, 12, 3)
        if self.chance(0.3):
            return self.numbers(rows)
        days = np.arange("2010-01-01", 4000, dtype="datetime64[D]")[:: self.pick(1, 7)][:rows]
        data = {"t": self.maybe(days, np.arange(rows), days[::-1], wrong=0.05)}
        data |= {name: self.numbers(rows) for name in ("y", "a", "b")}
        options = self.options(
            past=(["a"], [], "a", ["y"]),
            known=(["b"], ["c"], ["a"]),
            time=("t", False, None, "a"),
            missing=("error", "interpolate", "drop"),
            duplicates=("error", "mean", "first"),
            sort=(True, False),
        )
        return rr.forecast.Series.of(data, target=self.maybe("y", "y", "y", "b", wrong=0.05), **options)

    def new_forecaster(self) -> Any:
        options = self.options(
            5,
            window=(3, 5, 8, None),
            season=(0, 4, None),
            quantiles=((0.1, 0.9), (0.25,), (), (1.5,)),
            calendar=("auto", (), ("week",)),
            scaler=("standard", "minmax", "none"),
            log=(True, False),
            relative_to=("auto", "last", "season", "none"),
            ridge=(True, False),
            calibrate=(True, False),
            layer=("LSTM", "GRU", "RNN", "DiagonalLSTM"),
            num_layers=(1, 2),
            dropout=(0.0, 0.3),
            lr=(1e-2, 1e3, 0),
            clip_norm=(1.0, None),
            validation=(0.15, 0.0, 0.5),
            patience=(1, None),
            seed=(0, 1),
        )
        return self.keep(
            "forecaster",
            rr.forecast.Forecaster(
                self.maybe(1, 2, 4, wrong=0.05),
                hidden_size=self.maybe(1, 3, wrong=0.03),
                epochs=self.pick(1, 2),
                batch_size=self.maybe(4, 64, wrong=0.03),
                backend=self.maybe(*self.backends, "numpy", None, wrong=0.03),
                **options,
            ),
        )

    def do_forecast(self) -> Any:
        forecaster = self.some("forecaster", self.new_forecaster)
        series = self.some("series", lambda: self.keep("series", self.series()))
        if self.chance(0.3):
            forecaster.fit(series)
        if self.chance(0.2):
            found = forecaster.backtest(series, **self.options(folds=(1, 2, 3), every=(1, None), refit=(True, False)))
            return str(found), found.to_csv()
        if self.chance(0.2):
            with tempfile.TemporaryDirectory() as folder:
                forecaster.save(f"{folder}/model")
                forecaster = rr.forecast.Forecaster.load(
                    f"{folder}/model", self.maybe(*self.backends, None, wrong=0.03)
                )
        future = self.maybe(None, {"b": self.numbers(4)}, wrong=0.03)
        forecast = forecaster.predict(series, future)
        return forecast.to_csv(), forecast.intervals, rr.plot.forecast(forecast, actual=self.maybe(None, [1.0]))

    def sequences(self, rows: int) -> Any:
        if self.chance(0.5):
            return self.array(self.backends[1], (rows, self.pick(4, 6), 2), wrong=0.1)
        found = [self.array(self.backends[1], (self.random.randint(1, 5), 2), wrong=0.02) for _ in range(rows)]
        return self.maybe(found, found, tuple(found), wrong=0.05)

    def new_estimator(self) -> Any:
        kind = self.pick("LSTMClassifier", "LSTMRegressor")
        own = {"class_weight": ("balanced", None, {0: 1.0})} if kind == "LSTMClassifier" else {"loss": ("mae", "huber")}
        options = self.options(
            5,
            num_layers=(1, 2),
            bidirectional=(True, False),
            dropout=(0.0, 0.3),
            pooling=("final", "last", "mean", "max"),
            layer_options=({"layer_norm": True}, {"peephole": True}, {}),
            scale=(True, False),
            lr=(1e-2, 0.0),
            weight_decay=(0.1, 0.0),
            clip_norm=(1.0, None),
            validation=(0.25, 0.5, 1.0),
            patience=(1, None),
            dtype=("float32", "float64"),
            **own,
        )
        layer = self.maybe("LSTM", "GRU", "RNN", "DiagonalLSTM", "IndRNN", "MGU", "SLSTM", cells.GRUCell(), wrong=0.03)
        backend = self.maybe(*self.backends, None, wrong=0.03)
        made = getattr(sklearn, kind)(
            layer, self.maybe(1, 3, wrong=0.03), epochs=1, batch_size=4, random_state=self.maybe(0, None, wrong=0.03),
            backend=backend, **options,
        )  # fmt: skip
        return self.keep("estimator", made)

    def do_estimator(self) -> Any:
        estimator = self.some("estimator", self.new_estimator)
        rows = self.pick(8, 8, 8, 3)
        X = self.sequences(rows)
        y = self.pick(
            self.integers(self.backends[1], (rows,), 2),
            self.array(self.backends[1], (rows,)),
            self.array(self.backends[1], (rows, 2)),
            [row[..., :1] for row in X]
            if isinstance(X, list) and all(isinstance(row, np.ndarray) and row.ndim == 2 for row in X)
            else None,
        )
        weight = self.maybe(None, np.ones(rows), np.zeros(rows), wrong=0.05)
        action = self.pick("fit", "fit", "partial_fit", "predict", "score", "clone", "set")
        if action == "fit":
            return estimator.fit(X, y, sample_weight=weight)
        if action == "partial_fit":
            named = self.options(classes=([0, 1], [0], None)) if hasattr(estimator, "predict_proba") else {}
            return estimator.partial_fit(X, y, sample_weight=weight, **named)
        if action == "score":
            return estimator.score(X, y, sample_weight=weight)
        if action == "clone":
            estimator.predict(X)
            whole = not any(isinstance(v, ModuleType) for k, v in estimator.get_params().items() if k != "backend")
            return pickle.loads(pickle.dumps(estimator)).predict(X) if whole else None  # Python pickles no module
        if action == "set":
            return estimator.set_params(**{self.pick("lr", "epochs", "hidden_size", "other"): self.maybe(1, 2)})
        return estimator.predict(X)

    def do_ranks(self) -> Any:
        """A communicator of one rank, and training with it."""
        serial = rr.parallel.Serial()
        serial.sums(self.pick([1.0, 2.0], []))
        serial.check_same({"a": "b"})
        serial.total({"a": self.backend().asarray(np.ones((2, 3)))}, self.maybe(1.0, 0.0, 0.5))
        given = self.maybe(serial, None, "mpi")
        return rr.parallel.as_communicator(given)

    # Running

    def run(self, calls: int, seconds: float = float("inf")) -> int:
        """Make calls until there are so many, or the time is over; return how many there were."""
        end, names = time.monotonic() + seconds, sorted(self.actions)
        often, seldom = ("call", "forward", "backward"), ("forecast", "estimator")  # which train
        weights = [6 if name in often else 1 if name in seldom else 2 for name in names]
        done = 0
        for done in range(1, calls + 1):
            (name,) = self.random.choices(names, weights)
            self.counts[name] += 1
            self._try(name, done)
            if time.monotonic() > end:
                break
        return done

    def _try(self, name: str, number: int) -> None:
        def hang(*_: Any) -> None:
            raise HangError

        before = signal.signal(signal.SIGALRM, hang)
        signal.setitimer(signal.ITIMER_REAL, LIMIT)
        try:
            with warnings.catch_warnings(), np.errstate(all="ignore"):
                warnings.simplefilter("ignore")
                self.actions[name]()
        except (Exception, HangError) as error:
            signal.setitimer(signal.ITIMER_REAL, 0)
            fault = fault_of(error)
            self.refused[type(error).__name__] += 1
            if fault:
                lines = "".join(traceback.format_exception(error)[-6:])
                self.raw.append(f"call {number}, {name}: the error {fault}\n{lines}")
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

    def report(self, calls: int) -> str:
        """Counts, and the raw errors, the same place once."""
        lines = [f"{calls} calls: {', '.join(f'{name} {count}' for name, count in sorted(self.counts.items()))}"]
        lines.append(f"refused: {', '.join(f'{name} {count}' for name, count in self.refused.most_common()) or 'none'}")
        lines.append(f"raw errors: {len(self.raw)}")
        places = {text.rpartition("File ")[2].partition("\n")[0]: text for text in reversed(self.raw)}
        return "\n".join([*lines, *places.values()])


def main() -> int:
    """Run so many calls, or for so long."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--calls", type=int, default=50_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    fuzz = Fuzz(args.seed)
    calls = fuzz.run(args.calls, args.seconds)
    print(fuzz.report(calls))
    return 1 if fuzz.raw else 0


if __name__ == "__main__":
    sys.exit(main())
