"""Other libraries' arrays: each layout there and back, and its numbers beside those of the library itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.layout_formulas import FORMULAS
from harness.needs import need
from recurray import layouts
from recurray.layouts.rows import ROWS

BATCH, STEPS, F, H, R = 3, 6, 4, 5, 2
SEED = 20

Arrays = dict[str, Any]


def layer_of(row: layouts.Layout, **options: Any) -> Any:
    """A layer that a row has room for, whose biases differ."""
    return getattr(rr, row.kind)(F, H, **{"dtype": "float64", "seed": SEED, **row.fixed, **options})


def x_and_state(layer: Any, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((BATCH, STEPS, F))
    count = layer.num_layers * layer.directions
    h = rng.standard_normal((count, BATCH, layer.output_size))
    c = rng.standard_normal((count, BATCH, layer.hidden_size)) if isinstance(layer, rr.LSTM) else None
    return x, rr.State(h, c)


def forms(row: layouts.Layout) -> Iterator[dict[str, Any]]:
    """Options of layers that a row can say."""
    fields = {field for part in row.parts for field in part.fields}
    yield {}
    yield {"bidirectional": True, "num_layers": 2}
    if all(part.optional for part in row.parts if "input_bias" in part.fields) and not row.added:
        yield {"bias": False}
    if "peephole" in fields:
        yield {"peepholes": True, "bidirectional": True}
    if "projection" in fields:
        yield {"proj_size": R}


CASES = [(row, options) for row in ROWS for options in forms(row)]


@pytest.mark.parametrize(("row", "options"), CASES, ids=lambda value: getattr(value, "name", None) or str(value))
def test_there_and_back(row: layouts.Layout, options: dict[str, Any]) -> None:
    layer = layer_of(row, **options)
    keep_to_what_it_can_say(row, layer)
    arrays = layouts.write(row.name, layer)
    facts = row.fixed | ({"bidirectional": True} if options.get("bidirectional") else {})
    if row.apart == "packed":
        facts |= {"hidden_size": H, "num_layers": layer.num_layers}
    own, params = layouts.read(row.name, arrays, **facts)
    other = getattr(rr, row.kind)(**own, params=params)
    assert own["dtype"] == "float64"
    x, state = x_and_state(layer)
    y, end = layer(x, state)
    again, end_again = other(x, state)
    np.testing.assert_allclose(again, y, rtol=0, atol=1e-14)
    np.testing.assert_allclose(end_again.h, end.h, rtol=0, atol=1e-14)
    for array in params.values():
        assert array.flags.c_contiguous
        assert array.flags.owndata
    back = layouts.write(row.name, other)
    for one, two in zip(in_list(arrays), in_list(back), strict=True):
        assert one.keys() == two.keys()
        for name, array in one.items():
            assert array.flags.c_contiguous
            np.testing.assert_allclose(two[name], array, rtol=0, atol=1e-15, err_msg=name)


def keep_to_what_it_can_say(row: layouts.Layout, layer: Any) -> None:
    """Zero the bias within the reset where the library has none."""
    if row.kind == "GRU" and row.options["reset_after"] and not row.has("recurrent_bias", "n"):
        for name, value in layer.params.items():
            if name.startswith("bias_hh"):
                value[2 * H :] = 0


def in_list(arrays: Any) -> list[Arrays]:
    return [arrays] if isinstance(arrays, dict) else arrays


# Beside the libraries ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_torch(kind: str) -> None:
    torch = need("torch")
    torch.manual_seed(SEED)
    for options in ({}, {"proj_size": R}) if kind == "LSTM" else ({},):
        theirs = getattr(torch.nn, kind)(F, H, 2, bidirectional=True, batch_first=True, dtype=torch.float64, **options)
        own, params = layouts.read(f"torch.{kind.lower()}", theirs.state_dict())
        ours = getattr(rr, kind)(**own, params=params)
        x, (h, c) = x_and_state(ours)
        state = tuple(map(torch.from_numpy, (h, c))) if kind == "LSTM" else torch.from_numpy(h)
        with torch.no_grad():
            y, _ = theirs(torch.from_numpy(x), state)
        np.testing.assert_allclose(ours(x, rr.State(h, c))[0], y.numpy(), rtol=0, atol=1e-14)
        theirs.load_state_dict(
            {name: torch.from_numpy(array) for name, array in layouts.write(f"torch.{kind.lower()}", ours).items()}
        )


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_torch_cell(kind: str) -> None:
    torch = need("torch")
    torch.manual_seed(SEED)
    cell = getattr(torch.nn, f"{kind}Cell")(F, H, dtype=torch.float64)
    own, params = layouts.read(f"torch.{kind.lower()}_cell", cell.state_dict())
    ours = getattr(rr, kind)(**own, params=params)
    x, (h, c) = x_and_state(ours)
    state = (torch.from_numpy(h[0]), torch.from_numpy(c[0])) if kind == "LSTM" else torch.from_numpy(h[0])
    with torch.no_grad():
        for step in range(STEPS):
            state = cell(torch.from_numpy(x[:, step]), state)
    last = state[0] if kind == "LSTM" else state
    np.testing.assert_allclose(ours(x, rr.State(h, c))[1].h[0], last.numpy(), rtol=0, atol=1e-14)


@pytest.mark.parametrize(
    ("kind", "options", "attributes"),
    [
        ("LSTM", {"bidirectional": True}, {}),
        ("LSTM", {"peepholes": True, "bidirectional": True}, {}),
        ("LSTM", {"coupled": True, "peepholes": True}, {"input_forget": 1}),
        ("GRU", {"reset_after": False, "bidirectional": True}, {"linear_before_reset": 0}),
        ("GRU", {"reset_after": True, "bidirectional": True}, {"linear_before_reset": 1}),
        ("RNN", {"bidirectional": True}, {}),
    ],
)
def test_onnx(kind: str, options: dict[str, Any], attributes: dict[str, Any]) -> None:
    onnx, onnxruntime = need("onnx"), need("onnxruntime")
    ours = getattr(rr, kind)(F, H, seed=SEED, **options)
    arrays = layouts.write(f"onnx.{kind.lower()}", ours)
    x, (h, c) = x_and_state(ours)
    given = {"X": x.astype("float32").transpose(1, 0, 2), "initial_h": h.astype("float32")}
    if kind == "LSTM":
        given["initial_c"] = c.astype("float32")
    names = ["X", "W", "R", "B", "", "initial_h", *(["initial_c"] if c is not None else []), *(["P"] * ("P" in arrays))]
    direction = "bidirectional" if ours.bidirectional else "forward"
    node = onnx.helper.make_node(kind, names, ["Y"], hidden_size=H, direction=direction, **attributes)
    inputs = [onnx.helper.make_tensor_value_info(name, 1, array.shape) for name, array in (given | arrays).items()]
    output = onnx.helper.make_tensor_value_info("Y", 1, None)
    graph = onnx.helper.make_graph([node], "one", inputs, [output])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 14)], ir_version=8)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, given | arrays)  # (T, D, B, H)
    facts = {name: value for name, value in options.items() if name in ("coupled", "reset_after")}
    own, params = layouts.read(f"onnx.{kind.lower()}", arrays, **facts)
    again = getattr(rr, kind)(**own, params=params)
    expected = y.transpose(2, 0, 1, 3).reshape(BATCH, STEPS, -1)
    got, _ = again(x.astype("float32"), rr.State(h.astype("float32"), None if c is None else c.astype("float32")))
    np.testing.assert_allclose(got, expected, rtol=0, atol=2e-6)


def keras() -> Any:
    need("torch")
    return need("keras")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(
    ("layer", "name", "options"),
    [
        ("LSTM", "keras.lstm", {}),
        ("GRU", "keras.gru", {"reset_after": True}),
        ("GRU", "keras.gru", {"reset_after": False}),
        ("SimpleRNN", "keras.simple_rnn", {}),
    ],
)
def test_keras(layer: str, name: str, options: dict[str, Any]) -> None:
    rng = np.random.default_rng(SEED)
    theirs = getattr(keras().layers, layer)(H, return_sequences=True, **options)
    x = rng.standard_normal((BATCH, STEPS, F)).astype("float32")
    theirs(x)
    values = [rng.standard_normal(tuple(weight.shape)).astype("float32") for weight in theirs.weights]
    theirs.set_weights(values)
    arrays = {weight.name: value for weight, value in zip(theirs.weights, values, strict=True)}
    own, params = layouts.read(name, arrays)
    assert {fact: own[fact] for fact in options} == options
    ours = getattr(rr, layouts.find(name)[0].kind)(**own, params=params)
    np.testing.assert_allclose(ours(x)[0], theirs(x).detach().numpy(), rtol=0, atol=2e-6)
    for weight, array in layouts.write(name, ours).items():
        np.testing.assert_array_equal(array, arrays[weight])


@pytest.mark.parametrize("gates", [4, 3])
def test_keras_cudnn_storage(gates: int) -> None:
    """As Keras 2 converts it (engine/saving.py, `_convert_rnn_weights`): per gate, by transposing and Fortran order."""
    rng = np.random.default_rng(SEED)
    kernel, recurrent = rng.standard_normal((F, gates * H)), rng.standard_normal((H, gates * H))
    bias = rng.standard_normal(2 * gates * H)
    native = {
        "kernel": np.hstack([k.T.reshape(k.shape, order="F") for k in np.hsplit(kernel, gates)]),
        "recurrent_kernel": np.hstack([k.T for k in np.hsplit(recurrent, gates)]),
        "bias": bias.reshape(2, -1) if gates == 3 else bias.reshape(2, -1).sum(axis=0),
    }
    kind = "lstm" if gates == 4 else "gru"
    stored = {"kernel": kernel, "recurrent_kernel": recurrent, "bias": bias}
    own, params = layouts.read(f"keras.cudnn_{kind}", stored)
    expected_own, expected = layouts.read(f"keras.{kind}", native)
    assert own == expected_own
    for name, value in params.items():
        if gates == 3 or "bias" not in name:
            np.testing.assert_array_equal(value, expected[name])
    np.testing.assert_allclose(
        params["bias_ih_l0"] + params["bias_hh_l0"], expected["bias_ih_l0"] + expected["bias_hh_l0"]
    )


@pytest.mark.parametrize(
    ("row", "options"),
    [(row, options) for row, options in CASES if row.name in FORMULAS and options.get("bias", True)],
    ids=lambda value: getattr(value, "name", None) or str(value),
)
def test_formulas_of_libraries(row: layouts.Layout, options: dict[str, Any]) -> None:
    """From arrays drawn as the library's to its own loop's outputs; in both directions the other way round."""
    layer = layer_of(row, **{**options, "num_layers": 1, "bidirectional": False})
    keep_to_what_it_can_say(row, layer)
    rng = np.random.default_rng(SEED)
    drawn = {name: rng.uniform(-1, 1, array.shape) for name, array in layouts.write(row.name, layer).items()}
    facts = {"hidden_size": H} if row.apart == "packed" else {}
    own, params = layouts.read(row.name, drawn, **facts)
    assert {fact: own.get(fact, False) for fact in row.fixed} == row.fixed
    ours = getattr(rr, row.kind)(**own, params=params)
    x, (h, c) = x_and_state(ours)
    expected = FORMULAS[row.name](drawn, x.transpose(1, 0, 2), h[0], None if c is None else c[0])
    np.testing.assert_allclose(ours(x, rr.State(h, c))[0], expected.transpose(1, 0, 2), rtol=0, atol=1e-13)


def test_every_layout_has_an_independent_answer() -> None:
    beside_libraries = {"torch", "onnx", "keras"}
    assert {name for name in layouts.names() if name.partition(".")[0] not in beside_libraries} == set(FORMULAS)


def test_what_is_added_to_the_forget_gate_can_be_said() -> None:
    lstm = rr.LSTM(F, H, seed=SEED, dtype="float64")
    for name in ("tf1.lstm", "dynet.lstm"):
        bias = "bias" if name == "tf1.lstm" else "bi"
        usual, none = layouts.write(name, lstm), layouts.write(name, lstm, forget_bias=0.0)
        place = slice(2 * H, 3 * H) if name == "tf1.lstm" else slice(H, 2 * H)
        np.testing.assert_allclose(none[bias][place] - usual[bias][place], 1.0)
        _, params = layouts.read(name, usual, forget_bias=3.0)
        _, others = layouts.read(name, usual)
        np.testing.assert_allclose((params["bias_ih_l0"] - others["bias_ih_l0"])[H : 2 * H], 2.0)


def test_a_gate_that_is_one_minus_ours_takes_a_symmetric_activation() -> None:
    arrays = layouts.write("dynet.gru", rr.GRU(F, H, reset_after=False, seed=SEED))
    options, _ = layouts.read("dynet.gru", arrays, gate_activation="hard_sigmoid")
    assert options["gate_activation"] == "hard_sigmoid"
    with pytest.raises(ValueError, match=r"dynet\.gru has one minus our gate z, which with 'relu' no weights can say"):
        layouts.read("dynet.gru", arrays, gate_activation="relu")


def test_a_packed_array_tells_its_sizes_if_it_can() -> None:
    layer = rr.LSTM(F, H, 3, bidirectional=True, seed=SEED)
    arrays = layouts.write("thinc.lstm", layer)
    facts: dict[str, Any] = {"hidden_size": H, "num_layers": 3, "bidirectional": True}
    assert layouts.read("thinc.lstm", arrays, **facts)[0]["input_size"] == F
    with pytest.raises(ValueError, match="is packed into one array: say hidden_size"):
        layouts.read("thinc.lstm", arrays)
    for change in ({"hidden_size": H + 1}, {"num_layers": 60}, {"bidirectional": False, "hidden_size": 17}):
        with pytest.raises(ValueError, match="numbers, which aren't those of"):
            layouts.read("thinc.lstm", arrays, **{**facts, **change})
    with pytest.raises(ValueError, match=r"thinc\.lstm has one array along one axis, LSTM, not HC0 \(2,\)"):
        layouts.read("thinc.lstm", {"HC0": np.ones(2)}, **facts)


# What is refused ----------------------------------------------------------------------------


def keras_gru(**changes: Any) -> Arrays:
    rng = np.random.default_rng(SEED)
    arrays: Arrays = {"kernel": rng.random((F, 3 * H)), "recurrent_kernel": rng.random((H, 3 * H))}
    return {name: value for name, value in (arrays | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("name", "arrays", "facts", "message"),
    [
        ("keras.lstn", {}, {}, "there is no layout 'keras.lstn'; there are torch.lstm,"),
        ("keras.gru", keras_gru(), {}, "may be of reset_after=True or reset_after=False: say which"),
        ("keras.gru", keras_gru(bias=np.zeros(3 * H)), {"reset_after": True}, r"bias must have the shape \(2, 3H\)"),
        ("keras.gru", keras_gru(kernel=None), {"reset_after": True}, r"the array 'kernel' \(I, 3H\) is missing"),
        ("keras.gru", keras_gru(more=np.ones(3)), {"reset_after": True}, "there is no array 'more'; there are kernel,"),
        (
            "keras.gru",
            keras_gru(kernel=np.ones((F, 12))),
            {"reset_after": True},
            r"\(I, 3H\) with H = 5, not \(4, 12\)",
        ),
        ("keras.gru", keras_gru(recurrent_kernel=np.ones((4, 15))), {"reset_after": True}, r"\(R, 3H\) with H = 5"),
        ("keras.gru", keras_gru(recurrent_kernel=np.ones((4, 16))), {"reset_after": True}, r"\(R, 3H\), not \(4, 16\)"),
        ("keras.gru", keras_gru(), {"reset_after": True, "hidden_size": 6}, "hidden_size is 6, but the arrays are of"),
        (
            "keras.gru",
            keras_gru(),
            {"reset_after": True, "forget_bias": 1.0},
            "keras.gru adds nothing to the forget gate",
        ),
        (
            "keras.gru",
            [keras_gru()] * 3,
            {"reset_after": True, "bidirectional": True},
            "two mappings of arrays for each",
        ),
        (
            "keras.gru",
            [keras_gru()] * 2,
            {"reset_after": True},
            "layer 1 has 4 features and 5 units, which must be 5 and",
        ),
        ("keras.gru", [], {}, "there are no arrays"),
        ("onnx.gru", {"W": np.ones((15, 4)), "R": np.ones((15, 5))}, {}, "1 or 2, along a first axis, not W"),
        ("onnx.gru", {"W": np.ones((1, 15, 4)), "R": np.ones(())}, {}, r"along a first axis, not .*R \(\)"),
        ("onnx.gru", {"W": np.ones((2, 15, 4)), "R": np.ones((1, 5))}, {}, "1 or 2, along a first axis, not W"),
        ("onnx.gru", {"W": np.ones((3, 15, 4)), "R": np.ones((3, 15, 5))}, {}, "1 or 2, along a first axis, not W"),
        ("torch.gru", {"weight_ih_l0": np.ones((15, 4)), "w": np.ones(3)}, {}, "torch.gru has no array 'w'"),
        ("torch.gru", {"weight_ih_l1": np.ones((15, 4))}, {}, "layers or directions are missing"),
        ("torch.gru", {"weight_ih_l00": np.ones((15, 4))}, {}, "torch.gru has no array 'weight_ih_l00'"),
        ("torch.gru", {"weight_ih_l0": np.ones((15, 4))}, {}, r"the array 'weight_hh' \(3H, R\) is missing"),
    ],
)
def test_refusals_of_reading(name: str, arrays: Any, facts: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layouts.read(name, arrays, **facts)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ("text", "arrays must be a mapping of names to arrays, not str"),
        ({1: np.ones(2)}, "must have names that are text, not 1"),
        (keras_gru(kernel=np.ones((F, 3 * H), dtype="int32")), "'kernel' must be floating-point numbers, not int32"),
        (keras_gru(kernel=np.ones((F, 3 * H), dtype=complex)), "'kernel' must be floating-point numbers, not complex"),
        (keras_gru(kernel=[[1.0], [2.0, 3.0]]), "the array 'kernel' must be an array, or numbers in nested"),
    ],
)
def test_other_kinds_are_refused(arrays: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        layouts.read("keras.gru", arrays, reset_after=True)


def test_refusals_of_writing() -> None:
    with pytest.raises(TypeError, match=r"keras\.lstm is a layout of LSTM, not of GRU"):
        layouts.write("keras.lstm", rr.GRU(3, 5))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="not of Sequential"):
        layouts.write("keras.lstm", rr.Sequential(rr.LSTM(3, 5)))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="is written without forget_bias"):
        layouts.write("keras.lstm", rr.LSTM(3, 5), forget_bias=1.0)
    with pytest.raises(ValueError, match="no place for a projection"):
        layouts.write("keras.lstm", rr.LSTM(3, 5, proj_size=2))
    with pytest.raises(ValueError, match="no place for the peephole of gate 'i'"):
        layouts.write("keras.lstm", rr.LSTM(3, 5, peepholes=True))
    with pytest.raises(ValueError, match="no place for beta_c"):
        layouts.write("keras.lstm", rr.LSTM(3, 5, layer_norm=True))
    with pytest.raises(ValueError, match="no place for start_c, start_h"):
        layouts.write("torch.lstm", rr.LSTM(3, 5, learned_state=True))
    with pytest.raises(ValueError, match=r"torch\.lstm is a layout of LSTM with coupled=False, which this layer isn't"):
        layouts.write("torch.lstm", rr.LSTM(3, 5, coupled=True))
