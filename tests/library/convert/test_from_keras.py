"""Models from Keras's files, read without Keras."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.keras_files import gru, hard_sigmoid, lstm, write
from harness.needs import need, needs
from recurray import convert, layouts

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)  # Keras

B, T, I, H = 3, 6, 4, 2  # noqa: E741


def weights(
    rng: np.random.Generator, gates: int, size: int = I, bias: tuple[int, ...] | None = None
) -> list[np.ndarray]:
    """A kernel, a recurrent kernel and a bias."""
    shapes = (size, gates * H), (H, gates * H), bias or (gates * H,)
    return [rng.standard_normal(shape).astype("float32") for shape in shapes]


def lstm_entry(
    name: str, arrays: list[np.ndarray], gate: str = "sigmoid", **options: Any
) -> tuple[str, dict[str, Any], dict[str, np.ndarray]]:
    names = [f"{name}/{role}:0" for role in ("kernel", "recurrent_kernel", "bias")]
    given = {"name": name, "units": H, "activation": "tanh", "recurrent_activation": gate, "return_sequences": True}
    return "LSTM", given | options, dict(zip(names, arrays, strict=True))


def close(y: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.asarray(y), expected, rtol=2e-6, atol=2e-6)


# What Keras computes --------------------------------------------------------------------------------------------------


@needs("keras")
@pytest.mark.parametrize("mask", [None, "left", "inside", "right", "random"])
def test_random_models_are_keras(mask: str | None, tmp_path: Path) -> None:
    """A slice of what `tests/reliability/keras_layers.py` does at length."""
    from reliability.keras_layers import compare

    for seed in range(12):
        found = compare(seed, mask, tmp_path)
        assert found.equal, found


@needs("keras")
@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_every_merge_of_masked_directions(kind: str, merge: str, tmp_path: Path) -> None:
    """With holes inside and a row that is left out whole; Keras's bidirectional layers give zero there, as here."""
    from harness import keras_models

    for number, mask in enumerate(("left", "inside")):
        for sequences in (True, False):
            problem = keras_models.draw(
                number, mask, alone=True, kind=kind, both=True, merge=merge, return_sequences=sequences
            )
            path, more = problem.saved(tmp_path, ".keras")
            converted = convert.from_keras(path, **more)
            x = problem.x if problem.x.dtype.kind == "i" else problem.x.astype(converted.model.dtype)
            y, _ = converted.model(x, mask=converted.mask(x))
            close(y, problem.output()[0])


@needs("keras")
def test_round_trip(tmp_path: Path) -> None:
    """Keras to recurray and back: the arrays, put into a new model of Keras, compute the same."""
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(0)
    for layer, name in (
        (lambda: layers.LSTM(H, return_sequences=True), "keras.lstm"),
        (lambda: layers.GRU(H, return_sequences=True), "keras.gru"),
        (lambda: layers.GRU(H, return_sequences=True, reset_after=False), "keras.gru"),
        (lambda: layers.SimpleRNN(H, return_sequences=True), "keras.simple_rnn"),
        (lambda: layers.Bidirectional(layers.LSTM(H, return_sequences=True)), "keras.lstm"),
    ):
        model, again = (keras.Sequential([layers.Input((None, I)), layer()]) for _ in range(2))
        model.set_weights([rng.standard_normal(array.shape) for array in model.get_weights()])
        model.save(tmp_path / "model.keras")
        converted = convert.from_keras(tmp_path / "model.keras")
        written = layouts.write(name, converted.model.layers[0])  # type: ignore[attr-defined]
        again.set_weights(
            [array for own in (written if isinstance(written, list) else [written]) for array in own.values()]
        )
        x = rng.standard_normal((B, T, I)).astype("float32")
        expected = np.asarray(keras.ops.convert_to_numpy(model(x)))
        close(keras.ops.convert_to_numpy(again(x)), expected)
        close(converted.model(x)[0], expected)


@needs("keras")
def test_states_and_streams(tmp_path: Path) -> None:
    """return_state is what every call returns; a stateful layer is a stream."""
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(1)
    x = rng.standard_normal((B, T, I)).astype("float32")
    given = layers.Input((None, I))
    model = keras.Model(given, layers.LSTM(H, return_sequences=True, return_state=True, name="rnn")(given))
    model.set_weights([rng.standard_normal(array.shape) for array in model.get_weights()])
    model.save(tmp_path / "model.keras")
    converted = convert.from_keras(tmp_path / "model.keras")
    y, (state,) = converted.model(x)
    for ours, theirs in zip((y, state.h[0], state.c[0]), model(x), strict=True):
        close(ours, keras.ops.convert_to_numpy(theirs))
    assert "also gives a state of rnn" in converted.report
    stateful = keras.Sequential(
        [layers.Input(batch_shape=(B, 3, I)), layers.GRU(H, stateful=True, return_sequences=True)]
    )
    stateful.save(tmp_path / "model.keras")
    converted = convert.from_keras(tmp_path / "model.keras")
    assert "stateful: recurray.Streaming(model)" in converted.report
    stream = rr.Streaming(converted.model)
    for part in (x[:, :3], x[:, 3:]):
        close(stream(part), keras.ops.convert_to_numpy(stateful(part)))


@needs("keras")
def test_directions_turned_round(tmp_path: Path) -> None:
    """go_backwards: what Keras returns runs from the end to the start, and the next layer reads it like that."""
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(2)
    x = rng.standard_normal((B, T, I)).astype("float32")
    for turned in ((True,), (True, False), (True, True), (False, True), (True, False, True)):
        for sequences in (True, False):
            stack = [layers.LSTM(H, go_backwards=way, return_sequences=True) for way in turned[:-1]]
            stack.append(layers.LSTM(H, go_backwards=turned[-1], return_sequences=sequences))
            model = keras.Sequential([layers.Input((None, I)), *stack])
            model.set_weights([rng.standard_normal(array.shape) for array in model.get_weights()])
            model.save(tmp_path / "model.keras")
            converted = convert.from_keras(tmp_path / "model.keras")
            expected = np.asarray(keras.ops.convert_to_numpy(model(x)))
            runs_back = sequences and sum(turned) % 2 == 1
            assert ("runs backwards in time" in converted.report) == runs_back
            close(converted.model(x)[0], expected[:, ::-1] if runs_back else expected)


@needs("keras")
def test_layers_that_carry_nothing(tmp_path: Path) -> None:
    """Normalisations with and without their params, functions, dropouts, and what TimeDistributed wraps."""
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(4)
    x = rng.standard_normal((B, T, I)).astype("float32")
    wrapped = [layers.Dense(5, activation="relu"), layers.LayerNormalization(axis=1), layers.Activation("tanh")]
    for stack in (
        [
            layers.BatchNormalization(),
            layers.BatchNormalization(scale=False, epsilon=0.1),
            layers.Dense(3, use_bias=False),
        ],
        [layers.BatchNormalization(center=False), layers.BatchNormalization(center=False, scale=False)],
        [layers.LayerNormalization(scale=False), layers.LayerNormalization(center=False, epsilon=0.1)],
        [layers.ReLU(), layers.LeakyReLU(), layers.ReLU(negative_slope=0.3), layers.ELU(0.5), layers.Softmax()],
        [layers.Dropout(0.5), layers.SpatialDropout1D(0.5), layers.GaussianNoise(1.0), layers.Activation("softsign")],
        [layers.TimeDistributed(layer) for layer in wrapped],
    ):
        model = keras.Sequential([layers.Input((None, I)), *stack, layers.LSTM(H), layers.LayerNormalization(axis=1)])
        model.set_weights([rng.uniform(0.5, 2, weight.shape) for weight in model.weights])
        for form in keras_models.FORMS:
            path, more = keras_models.Problem(model, x, None, "").saved(tmp_path, form)
            close(convert.from_keras(path, **more).model(x)[0], keras.ops.convert_to_numpy(model(x)))


@needs("keras")
def test_cells_in_an_rnn(tmp_path: Path) -> None:
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(5)
    x = rng.standard_normal((B, T, I)).astype("float32")
    for cell in (layers.LSTMCell(H), layers.GRUCell(H, reset_after=False), layers.SimpleRNNCell(H)):
        model = keras.Sequential([layers.Input((None, I)), layers.RNN(cell, return_sequences=True)])
        model.set_weights([rng.standard_normal(weight.shape) for weight in model.weights])
        for form in keras_models.FORMS:
            path, more = keras_models.Problem(model, x, None, "").saved(tmp_path, form)
            close(convert.from_keras(path, **more).model(x)[0], keras.ops.convert_to_numpy(model(x)))


@needs("keras")
def test_models_within_models(tmp_path: Path) -> None:
    """A dozen layers of one class too: lstm_10 doesn't come before lstm_2."""
    from harness import keras_models

    keras = keras_models.keras()
    layers = keras.layers
    rng = np.random.default_rng(3)
    inner = keras.Sequential([layers.Input((None, I)), layers.LSTM(I, return_sequences=True), layers.Dense(I)])
    functional = keras.Model(given := layers.Input((None, I)), layers.GRU(I, return_sequences=True)(given))
    many = [layers.LSTM(I, return_sequences=True) for _ in range(12)]
    model = keras.Sequential(
        [layers.Input((None, I)), inner, *many, functional, layers.TimeDistributed(layers.Dense(H))]
    )
    model.set_weights([rng.standard_normal(array.shape) for array in model.get_weights()])
    x = rng.standard_normal((B, T, I)).astype("float32")
    for form in keras_models.FORMS:
        path, more = keras_models.Problem(model, x, None, "").saved(tmp_path, form)
        close(convert.from_keras(path, **more).model(x)[0], keras.ops.convert_to_numpy(model(x)))


def test_a_file_of_keras_3() -> None:
    """Written by Keras 3.15.1, with what it computed: a file that is read for ever."""
    converted = convert.from_keras(Path(__file__).with_name("model.keras"))
    x = np.zeros((2, 4, 2), "float32")
    x[0, 1:] = [[1, 2], [0.5, -1], [0, 3]]
    x[1, [0, 3]] = [[1, 1], [-2, 0.5]]
    mask = converted.mask(x)
    assert mask is not None
    assert mask.tolist() == [[False, True, True, True], [True, False, False, True]]
    close(converted.model(x, mask=mask)[0], [[0.825798, 0.17420198], [0.78269476, 0.21730517]])
    for dtype in ("float32", "float64"):
        assert convert.from_keras(Path(__file__).with_name("model.keras"), dtype=dtype).model.dtype == dtype


def test_on_every_backend(backend: rr.Backend) -> None:
    """A mask made and handed on by arrays of the backend; the gradients are those of finite differences."""
    converted = convert.from_keras(Path(__file__).with_name("model.keras"), backend=backend)
    x = np.zeros((2, 4, 2), "float32")
    x[0, 1:] = [[1, 2], [0.5, -1], [0, 3]]
    x[1, [0, 3]] = [[1, 1], [-2, 0.5]]
    given = backend.asarray(x)
    y, _ = converted.model(given, mask=converted.mask(given))
    close(backend.to_numpy(y), [[0.825798, 0.17420198], [0.78269476, 0.21730517]])


# What Keras 1 and 2 wrote ---------------------------------------------------------------------------------------------


@needs("h5py")
@pytest.mark.parametrize(("version", "slope"), [("1.2.2", 0.2), ("2.2.4-tf", 0.2), ("2.9.0", 0.2), ("3.4.1", 1 / 6)])
def test_hard_sigmoid_is_that_of_the_version(version: str, slope: float, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    arrays = weights(rng, 4)
    write(tmp_path / "model.h5", [lstm_entry("rnn", arrays, "hard_sigmoid")], version)
    x = rng.standard_normal((B, T, I)).astype("float32")
    expected = lstm(x, *arrays, hard_sigmoid(slope))
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected)
    write(tmp_path / "weights.h5", [lstm_entry("rnn", arrays)], version, whole=False)
    said = [("LSTM", lstm_entry("rnn", arrays, "hard_sigmoid")[1])]
    close(convert.from_keras(tmp_path / "weights.h5", architecture=said).model(x)[0], expected)


@needs("h5py")
def test_weights_alone_are_not_guessed(tmp_path: Path) -> None:
    arrays = weights(np.random.default_rng(0), 4)
    path = write(tmp_path / "weights.h5", [lstm_entry("rnn", arrays)], None, whole=False)
    with pytest.raises(rr.FormatError, match=r"weights alone, of 'rnn', .*: give architecture"):
        convert.from_keras(path)
    with pytest.raises(rr.FormatError, match=r"LSTM 'lstm': it doesn't say its recurrent_activation, .* Keras 2\.3"):
        convert.from_keras(path, architecture=[("LSTM", {"units": H})])
    said = [("LSTM", {"units": H, "recurrent_activation": "hard_sigmoid", "return_sequences": True})]
    with pytest.raises(rr.FormatError, match=r"hard_sigmoid is .* give keras_version"):
        convert.from_keras(path, architecture=said)
    x = np.ones((B, T, I), "float32")
    y = convert.from_keras(path, architecture=json.dumps(said), keras_version="2.2.0").model(x)[0]
    close(y, lstm(x, *arrays, hard_sigmoid(0.2)))
    with pytest.raises(
        rr.FormatError, match=r"LSTM 'lstm': its kernel must be \(input, 12\) by its options, not \(4, 8\)"
    ):
        convert.from_keras(path, architecture=[("LSTM", {"units": 3, "recurrent_activation": "sigmoid"})])


@needs("h5py")
def test_the_forget_bias_is_only_initial(tmp_path: Path) -> None:
    """unit_forget_bias says how the bias started: nothing is added to what training made of it."""
    rng = np.random.default_rng(0)
    arrays = weights(rng, 4)
    x = rng.standard_normal((B, T, I)).astype("float32")
    for given in (True, False):
        write(tmp_path / "model.h5", [lstm_entry("rnn", arrays, unit_forget_bias=given)])
        close(convert.from_keras(tmp_path / "model.h5").model(x)[0], lstm(x, *arrays))


@needs("h5py")
def test_leaky_relu(tmp_path: Path) -> None:
    """The function's slope is 0.2; the layer's is 0.3."""
    kernel = np.eye(I, dtype="float32")
    x = np.full((1, I), -1.0, "float32")
    dense = {"name": "d", "units": I, "use_bias": False, "activation": "leaky_relu"}
    entries: list[Any] = [("Dense", dense, {"d/kernel:0": kernel})]
    write(tmp_path / "model.h5", entries)
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], np.full((1, I), -0.2))
    for options, slope in (({}, 0.3), ({"alpha": 0.1}, 0.1), ({"negative_slope": 0.4}, 0.4)):
        entries = [("Dense", dense | {"activation": "linear"}, {"d/kernel:0": kernel})]
        write(tmp_path / "model.h5", [*entries, ("LeakyReLU", {"name": "l"} | options, {})])
        close(convert.from_keras(tmp_path / "model.h5").model(x)[0], np.full((1, I), -slope))


@needs("h5py")
def test_layers_are_in_the_order_of_the_file(tmp_path: Path) -> None:
    """Not in that of their names; and arrays are found by name, whatever order frozen ones put them in."""
    rng = np.random.default_rng(0)
    first, second = weights(rng, 4), weights(rng, 4, H)
    x = rng.standard_normal((B, T, I)).astype("float32")
    expected = lstm(lstm(x, *first), *second)
    entries = [lstm_entry("z", first), lstm_entry("a", second)]
    write(tmp_path / "model.h5", entries)
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected)
    write(tmp_path / "weights.h5", entries, whole=False)
    said = [("LSTM", options | {"name": f"other_{number}"}) for number, (_, options, _) in enumerate(entries)]
    close(convert.from_keras(tmp_path / "weights.h5", architecture=said).model(x)[0], expected)
    for named in said:
        del named[1]["name"]
    close(convert.from_keras(tmp_path / "weights.h5", architecture=said).model(x)[0], expected)
    turned = [(kind, options, dict(reversed(arrays.items()))) for kind, options, arrays in entries]
    write(tmp_path / "model.h5", turned)
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected)


@needs("h5py")
def test_directions_are_told_by_their_names(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    forward, backward = weights(rng, 4), weights(rng, 4)
    names = ("kernel", "recurrent_kernel", "bias")
    arrays = {
        f"both/{way}_lstm/lstm_cell/{name}:0": array
        for way, own in (("backward", backward), ("forward", forward))
        for name, array in zip(names, own, strict=True)
    }
    inner = {"class_name": "LSTM", "config": lstm_entry("lstm", forward)[1]}
    write(tmp_path / "model.h5", [("Bidirectional", {"name": "both", "merge_mode": "concat", "layer": inner}, arrays)])
    x = rng.standard_normal((B, T, I)).astype("float32")
    expected = np.concatenate([lstm(x, *forward), lstm(x[:, ::-1], *backward)[:, ::-1]], axis=-1)
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected)


@needs("h5py")
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN"])
def test_keras_1(kind: str, tmp_path: Path) -> None:
    """Arrays for each gate, options by their names of then, and a Sequential that is a list."""
    rng = np.random.default_rng(0)
    gates = {"LSTM": "icfo", "GRU": "zrh", "SimpleRNN": ""}[kind]
    kernel, recurrent, bias = whole = weights(rng, max(1, len(gates)))
    places = {"LSTM": "ifco", "GRU": "zrh"}.get(kind, "")
    arrays = {}
    for gate in gates:
        block = slice(places.index(gate) * H, (places.index(gate) + 1) * H)
        own = {"W": kernel[:, block], "U": recurrent[:, block], "b": bias[block]}
        arrays |= {f"rnn_1_{letter}_{gate}": array for letter, array in own.items()}
    if not gates:
        arrays = {"rnn_1_W": kernel, "rnn_1_U": recurrent, "rnn_1_b": bias}
    options = {"name": "rnn_1", "output_dim": H, "activation": "tanh", "return_sequences": True, "consume_less": "cpu"}
    if gates:
        options["inner_activation"] = "hard_sigmoid"
    dense = weights(rng, 1, H)[0]
    entries = [
        (kind, options, arrays),
        ("TimeDistributedDense", {"name": "d", "output_dim": H, "bias": False}, {"d_W": dense}),
    ]
    architecture = {
        "class_name": "Sequential",
        "config": [{"class_name": kind, "config": options} for kind, options, _ in entries],
    }
    write(tmp_path / "model.h5", entries, "1.2.2", architecture=architecture)
    x = rng.standard_normal((B, T, I)).astype("float32")
    run = {"LSTM": lstm, "GRU": gru}.get(kind)
    if run is None:
        h, outputs = np.zeros((B, H)), []
        for step in range(T):
            h = np.tanh(x[:, step] @ kernel + h @ recurrent + bias)
            outputs.append(h)
        expected = np.stack(outputs, axis=1)
    else:
        expected = run(x, *whole, hard_sigmoid(0.2))
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected @ dense)


@needs("h5py")
@pytest.mark.parametrize("kind", ["CuDNNLSTM", "CuDNNGRU"])
def test_cudnn_layers(kind: str, tmp_path: Path) -> None:
    """As Keras 2 stores them: each gate's kernel with the memory of its transpose, the recurrent kernel's turned."""
    rng = np.random.default_rng(0)
    count = 4 if kind == "CuDNNLSTM" else 3
    kernel, recurrent, bias = weights(rng, count, bias=(2 * count * H,))
    kernels = [part.T.reshape(part.shape) for part in np.split(kernel, count, axis=1)]
    stored = np.hstack(kernels), np.hstack([part.T for part in np.split(recurrent, count, axis=1)])
    names = ("kernel", "recurrent_kernel", "bias")
    arrays = {f"rnn/{name}:0": array for name, array in zip(names, (*stored, bias), strict=True)}
    options = {"name": "rnn", "units": H, "return_sequences": True, "return_state": False, "go_backwards": False}
    write(tmp_path / "model.h5", [(kind, options, arrays)])
    x = rng.standard_normal((B, T, I)).astype("float32")
    if count == 4:
        expected = lstm(x, kernel, recurrent, bias[: 4 * H] + bias[4 * H :])
    else:
        expected = gru(x, kernel, recurrent, bias.reshape(2, -1), after=True)
    close(convert.from_keras(tmp_path / "model.h5").model(x)[0], expected)


@needs("h5py")
def test_groups_that_keras_2_12_counted_twice(tmp_path: Path) -> None:
    """There the second of two LSTMs is lstm_2, and the container has another name."""
    h5py = need("h5py")
    rng = np.random.default_rng(0)
    both = weights(rng, 4), weights(rng, 4, H)
    with h5py.File(tmp_path / "model.weights.h5", "w") as file:
        for name, arrays in zip(("lstm", "lstm_2"), both, strict=True):
            for number, array in enumerate(arrays):
                file[f"_layer_checkpoint_dependencies/{name}/cell/vars/{number}"] = array
    said = [("LSTM", lstm_entry(name, [*both[0]])[1]) for name in ("a", "b")]
    x = rng.standard_normal((B, T, I)).astype("float32")
    y = convert.from_keras(tmp_path / "model.weights.h5", architecture=said).model(x)[0]
    close(y, lstm(lstm(x, *both[0]), *both[1]))


# What can't be said ---------------------------------------------------------------------------------------------------

LSTM = {"name": "rnn", "units": H, "activation": "tanh", "recurrent_activation": "sigmoid"}
BOTH = {"name": "both", "layer": {"class_name": "LSTM", "config": LSTM}}
REFUSED: dict[str, tuple[Any, str]] = {
    "an unknown layer between": (
        [("LSTM", LSTM), ("Conv1D", {"name": "conv"}), ("GRU", LSTM)],
        "Conv1D 'conv': it can't be said here, and stands among layers that can",
    ),
    "a convolution that recurs": ([("ConvLSTM2D", {"name": "c"})], "ConvLSTM2D 'c': it can't be said here"),
    "a function": ([("LSTM", LSTM | {"activation": "sparsemax"})], "LSTM 'rnn': the function 'sparsemax' isn't one"),
    "a function of a user": (
        [("LSTM", LSTM | {"activation": {"class_name": "function", "config": "mine", "registered_name": "mine"}})],
        "LSTM 'rnn': the function 'mine' is somebody's own",
    ),
    "softmax in a gate": ([("LSTM", LSTM | {"recurrent_activation": "softmax"})], "gate_activation must be one of"),
    "time first": ([("LSTM", LSTM | {"time_major": True})], "time_major=True can't be said here: False alone can"),
    "no units": ([("LSTM", {"name": "rnn"})], "LSTM 'rnn': it doesn't say its units"),
    "units": ([("LSTM", LSTM | {"units": -3})], "LSTM 'rnn': units must be a size, not -3"),
    "absurd units": ([("LSTM", LSTM | {"units": 10**12})], r"its kernel must be \(input, 4000000000000\)"),
    "a flag": ([("LSTM", LSTM | {"use_bias": "yes"})], "LSTM 'rnn': use_bias must be true or false, not 'yes'"),
    "two outputs in between": (
        [("Bidirectional", BOTH | {"merge_mode": None}), ("LSTM", LSTM)],
        "merge_mode=None gives two outputs",
    ),
    "a merge": ([("Bidirectional", BOTH | {"merge_mode": "max"})], "merge_mode='max' isn't one of Keras's"),
    "directions that differ": (
        [
            (
                "Bidirectional",
                BOTH | {"backward_layer": {"class_name": "LSTM", "config": LSTM | {"units": 5, "go_backwards": True}}},
            )
        ],
        "its directions differ in units, 2 and 5",
    ),
    "a forward layer that runs backwards": (
        [("Bidirectional", BOTH | {"layer": {"class_name": "LSTM", "config": LSTM | {"go_backwards": True}}})],
        "its forward layer has go_backwards=True",
    ),
    "a wrapped convolution": (
        [("TimeDistributed", {"name": "t", "layer": {"class_name": "Conv2D", "config": {"name": "c"}}})],
        "TimeDistributed 't': it wraps Conv2D 'c'",
    ),
    "cells that are stacked": ([("RNN", {"name": "r", "cell": [{}]})], "RNN 'r': its cell is several, stacked"),
    "a cell of a user": (
        [("RNN", {"name": "r", "cell": {"class_name": "Mine", "config": {}}})],
        "RNN 'r': its cell is Mine 'Mine', which can't be said here",
    ),
    "a mask late": (
        [("LSTM", LSTM | {"return_sequences": True}), ("Masking", {"name": "m"})],
        "Masking 'm': it makes a mask of what other layers have computed",
    ),
    "zeros at the end": (
        [("Masking", {"name": "m"}), ("LSTM", LSTM | {"zero_output_for_mask": True})],
        "zero_output_for_mask=True without return_sequences gives zeros",
    ),
    "a mask that isn't turned": (
        [("Masking", {"name": "m"}), *[("LSTM", LSTM | {"go_backwards": True, "return_sequences": True})] * 2],
        "with a mask that Keras doesn't turn round",
    ),
    "normalisation of another axis": (
        [("LSTM", LSTM | {"return_sequences": True}), ("LayerNormalization", {"name": "n", "axis": 1})],
        "LayerNormalization 'n'.*axis=1 can't be said here",
    ),
    "a ReLU": ([("ReLU", {"name": "r", "max_value": 3})], "ReLU 'r': max_value=3 with the slope 0.0 can't be said"),
    "after the last step": ([("LSTM", LSTM), ("LSTM", LSTM)], "it stands after a layer that has left the axis of time"),
    "no layers": ([], "has no layers"),
}


@needs("h5py")
@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_said_is_refused_by_name(what: str, tmp_path: Path) -> None:
    layers, words = REFUSED[what]
    rng = np.random.default_rng(0)
    entries = []
    for number, (kind, options) in enumerate(layers):
        named = options | {"name": options["name"] if options["name"] != "rnn" or not number else f"rnn_{number}"}
        arrays: dict[str, np.ndarray] = {}
        if kind in ("LSTM", "Bidirectional"):
            size = I if number == 0 or (layers[0][0] == "Masking" and number == 1) else H
            own = dict(zip(("kernel", "recurrent_kernel", "bias"), weights(rng, 4, size), strict=True))
            ways = ("forward_", "backward_") if kind == "Bidirectional" else ("",)
            arrays = {f"{way}rnn/{name}:0": array for way in ways for name, array in own.items()}
        if kind == "LayerNormalization":
            arrays = {"n/gamma:0": np.ones(H, "float32"), "n/beta:0": np.ones(H, "float32")}
        entries.append((kind, named, arrays))
    write(tmp_path / "model.h5", entries)
    with pytest.raises(rr.FormatError, match=words):
        convert.from_keras(tmp_path / "model.h5")


@needs("h5py")
def test_what_stands_around_is_named(tmp_path: Path) -> None:
    arrays = weights(np.random.default_rng(0), 4)
    entries: list[Any] = [
        ("Conv1D", {"name": "conv"}, {}),
        ("SpatialDropout1D", {"name": "drop", "rate": 0.2}, {}),
        lstm_entry("rnn", arrays, dropout=0.1),
        ("Flatten", {"name": "flat"}, {}),
    ]
    write(tmp_path / "model.h5", entries)
    converted = convert.from_keras(tmp_path / "model.h5")
    assert converted.before == ("conv",)
    assert converted.after == ("flat",)
    assert converted.mask(np.ones((B, T, I))) is None
    for words in (
        "written by Keras 2.2.4",
        "rnn (LSTM): LSTM(4, 2)",
        "dropout=0.1 is of training alone",
        "not in the model, before it: Conv1D 'conv'",
        "not in the model, after it: Flatten 'flat'",
    ):
        assert words in converted.report


def graph(*layers: tuple[str, str, dict[str, Any], Any], outputs: Any = None, inputs: Any = None) -> dict[str, Any]:
    """A functional model of Keras 2, of (class, name, options, the layers that it reads)."""
    entries = [
        {
            "class_name": kind,
            "name": name,
            "config": options | {"name": name},
            "inbound_nodes": [] if reads is None else [[[other, 0, 0, {}] for other in reads]],
        }
        for kind, name, options, reads in layers
    ]
    config = {
        "name": "model",
        "layers": entries,
        "input_layers": inputs or [["in", 0, 0]],
        "output_layers": outputs or [[layers[-1][1], 0, 0]],
    }
    return {"class_name": "Model", "config": config}


INPUT = ("InputLayer", "in", {}, None)
GRAPHS: dict[str, tuple[Any, str]] = {
    "two inputs": (
        graph(INPUT, ("LSTM", "a", LSTM, ["in"]), inputs=[["in", 0, 0], ["other", 0, 0]]),
        "has 2 inputs",
    ),
    "a branch": (
        graph(INPUT, ("LSTM", "a", LSTM, ["in"]), ("LSTM", "b", LSTM, ["in"]), ("Add", "sum", {}, ["a", "b"])),
        "Add 'sum': it has 2 inputs, 'a', 'b'",
    ),
    "two outputs": (
        graph(INPUT, ("LSTM", "a", LSTM, ["in"]), ("Dense", "b", {}, ["a"]), outputs=[["b", 0, 0], ["a", 0, 0]]),
        "gives the output of 'a' beside that of 'b'",
    ),
    "a layer that is used twice": (
        {
            "class_name": "Functional",
            "config": {
                "name": "m",
                "input_layers": [["in", 0, 0]],
                "output_layers": [["a", 1, 0]],
                "layers": [
                    {"class_name": "InputLayer", "name": "in", "config": {"name": "in"}, "inbound_nodes": []},
                    {
                        "class_name": "LSTM",
                        "name": "a",
                        "config": LSTM | {"name": "a"},
                        "inbound_nodes": [[["in", 0, 0, {}]], [["a", 0, 0, {}]]],
                    },
                ],
            },
        },
        "LSTM 'a': it is used 2 times",
    ),
    "a circle": (graph(INPUT, ("LSTM", "a", LSTM, ["b"]), ("LSTM", "b", LSTM, ["a"])), "isn't a straight line"),
    "a subclass": ({"class_name": "MyModel", "config": {}}, "the model is a MyModel, which isn't read"),
    "text": ("text", "must be an object of class_name and config"),
}


@needs("h5py")
@pytest.mark.parametrize("what", GRAPHS)
def test_models_that_are_not_straight_are_refused(what: str, tmp_path: Path) -> None:
    architecture, words = GRAPHS[what]
    arrays = weights(np.random.default_rng(0), 4)
    write(tmp_path / "model.h5", [lstm_entry("a", arrays)], architecture=architecture)
    with pytest.raises(rr.FormatError, match=words):
        convert.from_keras(tmp_path / "model.h5")


# The files ------------------------------------------------------------------------------------------------------------


@needs("h5py")
def test_no_framework_is_imported(tmp_path: Path) -> None:
    write(tmp_path / "model.h5", [lstm_entry("rnn", weights(np.random.default_rng(0), 4))])
    code = (
        "import sys, recurray as rr\n"
        f"print(rr.convert.from_keras({str(tmp_path / 'model.h5')!r}).report)\n"
        "assert not {'keras', 'tensorflow', 'torch', 'h5py'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "rnn (LSTM): LSTM(4, 2)" in done.stdout


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with pytest.raises(FileNotFoundError, match=f"can't read the file {path}: No such file"):
        convert.from_keras(path)
    with pytest.raises(IsADirectoryError, match=r"can't read the file .*: Is a directory"):
        convert.from_keras(tmp_path)
    for data, words in (
        (b"", "it is neither a .keras file"),
        (b"PK\x03\x04nothing", "it can't be unpacked"),
        (b"\x89HDF\r\n\x1a\n", "cut short"),
    ):
        path.write_bytes(data)
        with pytest.raises(rr.FormatError, match=words):
            convert.from_keras(path)
    for parts, words in (
        ({"config.json": "{}"}, "it has no metadata.json; it has 'config.json'"),
        ({"config.json": "[" * 10**5, "metadata.json": "{}", "model.weights.h5": ""}, "config.json isn't JSON"),
        ({"config.json": "{}", "metadata.json": "3", "model.weights.h5": "x" * 99}, "it isn't an HDF5 file"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            for name, text in parts.items():
                archive.writestr(name, text)
        with pytest.raises(rr.FormatError, match=words):
            convert.from_keras(path)


def test_a_zip_whose_parts_lie_before_its_beginning(tmp_path: Path) -> None:
    data = Path(__file__).with_name("model.keras").read_bytes()
    end = data.rindex(b"PK\x05\x06") + 16  # where it says at which place the list of parts begins
    path = tmp_path / "model.keras"
    place = int.from_bytes(data[end : end + 4], "little") + 100_000
    path.write_bytes(data[:end] + place.to_bytes(4, "little") + data[end + 4 :])
    with pytest.raises(rr.FormatError, match="it can't be unpacked"):
        convert.from_keras(path)


def test_zip_bombs_are_refused_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in ("config.json", "metadata.json"):
            archive.writestr(name, "{}")
        archive.writestr("model.weights.h5", bytes(2**28))
    with pytest.raises(rr.FormatError, match=r"model\.weights\.h5 is far larger than its file"):
        convert.from_keras(path)


@needs("h5py")
@needs("POSIX")  # which tells how much memory there was
def test_damaged_files() -> None:
    """A slice of what `tests/reliability/corrupt_keras.py` does at length."""
    from reliability.corrupt_keras import corrupt_keras

    figures = corrupt_keras(150)
    assert figures.good(), figures
    assert figures.refused > 50


@needs("h5py")
def test_architecture_and_version_are_said_once(tmp_path: Path) -> None:
    path = write(tmp_path / "model.h5", [lstm_entry("rnn", weights(np.random.default_rng(0), 4))])
    with pytest.raises(ValueError, match="architecture is given, but the file says its own"):
        convert.from_keras(path, architecture=[])
    with pytest.raises(ValueError, match=r"keras_version is given as '3', but the file says '2\.2\.4'"):
        convert.from_keras(path, keras_version="3")


def test_bad_arguments(tmp_path: Path) -> None:
    model = Path(__file__).with_name("model.keras")
    for given, error, words in (
        ({"path": 3}, TypeError, "path must be a path, not int 3"),
        ({"keras_version": "three"}, ValueError, r"keras_version must be a version, '2\.2\.4' say, not 'three'"),
        ({"dtype": "float16"}, ValueError, "float16"),
        ({"backend": "abacus"}, ValueError, "abacus"),
    ):
        with pytest.raises(error, match=words):
            convert.from_keras(**({"path": model} | given))
    converted = convert.from_keras(model)
    for x, error in (([1.0], TypeError), (np.ones((2, 3)), ValueError), (np.ones((2, 3, 2), int), TypeError)):
        with pytest.raises(error, match="x must"):
            converted.mask(x)
    with pytest.raises(TypeError, match="x must be integers, for an Embedding, not float64"):
        convert.KerasModel(converted.model, (), (), "", mask_zero=True).mask(np.ones((2, 3)))
