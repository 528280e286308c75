"""Random models of Keras, with the files that they are saved to and what they compute."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BATCH, STEPS, INPUT = 4, 6, 3
FORMS = (".keras", ".h5", ".weights.h5")
MERGES = ("concat", "sum", "mul", "ave", None)
ACTIVATIONS = (
    *("tanh", "relu", "sigmoid", "hard_sigmoid", "softsign", "elu", "leaky_relu", "linear", "softplus"),
    *("silu", "gelu", "selu", "mish", "relu6", "hard_tanh"),
)
MASKS = ("left", "inside", "right", "random")


@dataclass(frozen=True)
class Problem:
    """A model of Keras and an input."""

    model: Any
    x: np.ndarray
    mask: np.ndarray | None  # (batch, time)
    text: str  # what it is
    dtype: str = "float32"

    def saved(self, folder: Path, form: str) -> tuple[Path, dict[str, Any]]:
        """Save the model; return the path, and what `from_keras` has to be told beside it."""
        path = folder / f"model{form}"
        if form == ".weights.h5":
            self.model.save_weights(path)
            return path, {"architecture": self.model.to_json(), "keras_version": keras().__version__}
        self.model.save(path)
        return path, {}

    def output(self) -> list[np.ndarray]:
        """What Keras computes."""
        keras().config.set_floatx(self.dtype)  # in which it takes inputs
        y = self.model(self.x)
        keras().config.set_floatx("float32")
        return [np.asarray(keras().ops.convert_to_numpy(part)) for part in (y if isinstance(y, (list, tuple)) else [y])]


def keras() -> Any:
    """The package."""
    import keras

    return keras


def masked(rng: np.random.Generator, kind: str) -> np.ndarray:
    """A mask (batch, time) of a kind, with a row that is left out whole and one that isn't at all."""
    mask = np.ones((BATCH, STEPS), bool)
    mask[1] = False
    if kind == "left":
        mask[2:, :2] = False
    elif kind == "right":
        mask[2:, -2:] = False
    elif kind == "inside":
        mask[2:, 2:4] = False
    else:
        mask[2:] = rng.random((BATCH - 2, STEPS)) < 0.6
    return mask


def recurrent(rng: np.random.Generator, **fixed: Any) -> tuple[Any, str]:
    """A recurrent layer with random options, bidirectional or not, and what it is in words."""
    layers = keras().layers
    kind = fixed.pop("kind", None) or rng.choice(["LSTM", "GRU", "SimpleRNN"])
    options = {
        "units": int(rng.integers(1, 6)),
        "activation": "tanh" if rng.random() < 0.5 else str(rng.choice(ACTIVATIONS)),
        "use_bias": bool(rng.random() < 0.8),
        "return_sequences": bool(rng.random() < 0.6),
    }
    if kind != "SimpleRNN":
        options["recurrent_activation"] = str(rng.choice(["sigmoid", "sigmoid", "hard_sigmoid", "tanh"]))
    if kind == "GRU":
        options["reset_after"] = bool(rng.random() < 0.5)
    both = fixed.pop("both", bool(rng.random() < 0.5))
    merge = fixed.pop("merge", MERGES[rng.integers(4)])
    if not both:
        options["go_backwards"] = bool(rng.random() < 0.3)
    options |= fixed
    layer = getattr(layers, kind)(**options)
    if both:
        return layers.Bidirectional(layer, merge_mode=merge), f"Bidirectional({kind}, {merge}, {options})"
    return layer, f"{kind}({options})"


def draw(seed: int, mask: str | None = None, *, alone: bool = False, **fixed: Any) -> Problem:
    """A model with a recurrent layer, amid others or not; every weight is random, half the models are of float64."""
    rng = np.random.default_rng(seed)
    package = keras()
    layers = package.layers
    dtype = str(rng.choice(["float32", "float64"]))
    package.config.set_floatx(dtype)
    package.config.set_dtype_policy(dtype)
    package.utils.set_random_seed(seed)
    layer, text = recurrent(rng, **fixed)
    stack: list[Any] = []
    given = None if mask is None else masked(rng, mask)
    if rng.random() < 0.4:
        rows = 7
        x: Any = rng.integers(1, rows, (BATCH, STEPS))
        stack += [layers.Input((None,), dtype="int32"), layers.Embedding(rows, INPUT, mask_zero=given is not None)]
        x = x if given is None else np.where(given, x, 0)
    else:
        value = float(rng.choice([0.0, -1.0]))
        x = rng.standard_normal((BATCH, STEPS, INPUT)).astype(dtype)
        stack += [layers.Input((None, INPUT)), *([layers.Masking(value)] if given is not None else [])]
        x = x if given is None else np.where(given[..., None], x, np.asarray(value, dtype))
    if rng.random() < 0.3 and not alone:
        stack.append(layers.LayerNormalization())
    stack.append(layer)
    if rng.random() < 0.5 and not alone:
        stack += [layers.Dropout(0.3), layers.Dense(3, activation=str(rng.choice(["linear", "softmax", "relu"])))]
    model = package.Sequential(stack)
    if rng.random() < 0.5:  # the same as a functional model
        tensor = out = stack[0] if not isinstance(stack[0], layers.InputLayer) else model.inputs[0]
        for part in stack[1:]:
            out = part(out)
        model = package.Model(tensor, out)
    model.set_weights([rng.standard_normal(weight.shape) for weight in model.get_weights()])
    package.config.set_floatx("float32")
    package.config.set_dtype_policy("float32")
    return Problem(model, x, given, text, dtype)
