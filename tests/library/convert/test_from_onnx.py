"""Layers from ONNX files: nodes against ONNX's own expectations and onnxruntime, and what stands around them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import assert_close
from harness.needs import need, needs
from harness.onnx_nodes import Node, run, save
from recurray import convert
from recurray.files import FormatError

pytestmark = needs("onnx")

NUMPY = rr.get_backend("numpy")
RNG = np.random.default_rng(0)
FEATURES, HIDDEN, BATCH, STEPS = 3, 4, 2, 6


def floats(*shape: int) -> np.ndarray:
    return (RNG.standard_normal(shape) * 0.7).astype("float32")


def lstm(directions: int = 1, **more: Any) -> Node:
    """An LSTM's node with all weights."""
    weights = {
        "W": floats(directions, 4 * HIDDEN, FEATURES),
        "R": floats(directions, 4 * HIDDEN, HIDDEN),
        "B": floats(directions, 8 * HIDDEN),
    }
    attributes = {"direction": "bidirectional"} if directions == 2 else {}
    return Node("LSTM", weights, {"X": floats(STEPS, BATCH, FEATURES)}, attributes | more)


def helper() -> Any:
    return need("onnx").helper


def tensors(**values: Any) -> list[Any]:
    return [need("onnx").numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def assert_equals_onnxruntime(node: Node, tmp_path: Path) -> None:
    need("onnxruntime")
    path = node.save(tmp_path / "m.onnx")
    for found, expected in zip(node.by_recurray(path), node.by_onnxruntime(path), strict=True):
        assert_close(NUMPY, np.ascontiguousarray(found), expected, dtype="float32", tolerance=2e-6)


# ONNX's own tests -----------------------------------------------------------------------------------------------------


def onnx_cases() -> list[Any]:
    """ONNX's tests of these operators, which are made when its modules are imported."""
    node = need("onnx.backend.test.case.node")
    for name in ("lstm", "gru", "rnn"):
        need(f"onnx.backend.test.case.node.{name}")
    kinds = {"LSTM", "GRU", "RNN"}
    return [case for case in node._NodeTestCases if {own.op_type for own in case.model.graph.node} <= kinds]


def test_onnx_s_own_cases(tmp_path: Path) -> None:
    cases = onnx_cases()
    assert len(cases) == 18
    for case in cases:
        (own,) = case.model.graph.node
        ((inputs, outputs),) = case.data_sets
        names = ("X", "W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P")
        given = dict(zip([value.name for value in case.model.graph.input], inputs, strict=True))
        arrays = {name: given[key] for name, key in zip(names, own.input, strict=False) if key}
        weights = {name: arrays.pop(name) for name in ("W", "R", "B", "P") if name in arrays}
        attributes = {value.name: helper().get_attribute_value(value) for value in own.attribute}
        attributes.pop("hidden_size")
        attributes = {name: v.decode() if isinstance(v, bytes) else v for name, v in attributes.items()}
        node = Node(own.op_type, weights, arrays, attributes)
        found = dict(zip(node.outputs, node.by_recurray(node.save(tmp_path / "m.onnx")), strict=True))
        expected = dict(zip([value.name for value in case.model.graph.output], outputs, strict=True))
        assert expected
        for name, key in zip(node.outputs, own.output, strict=False):
            if key:
                np.testing.assert_allclose(found[name], expected[key], rtol=0, atol=1e-6, err_msg=case.name)


# Attributes -----------------------------------------------------------------------------------------------------------


def test_alpha_and_beta_are_taken_in_order(tmp_path: Path) -> None:
    """Three functions, of which the first takes both, the second none, the third alpha."""
    node = lstm(
        activations=["HardSigmoid", "Softsign", "LeakyRelu"], activation_alpha=[0.3, 0.2], activation_beta=[0.4]
    )
    model: Any = convert.from_onnx(node.save(tmp_path / "m.onnx")).model
    assert repr(model.cell.activations.i) == "HardSigmoid(alpha=0.3, beta=0.4)"
    assert repr(model.cell.activations.out) == "LeakyRelu(alpha=0.2)"
    assert_equals_onnxruntime(node, tmp_path)


def test_hard_sigmoid_is_onnx_s(tmp_path: Path) -> None:
    node = lstm(activations=["HardSigmoid", "Tanh", "Tanh"])
    model: Any = convert.from_onnx(node.save(tmp_path / "m.onnx")).model
    assert repr(model.cell.activations.i) == "HardSigmoid(alpha=0.2, beta=0.5)"
    assert_equals_onnxruntime(node, tmp_path)


def test_a_missing_initial_c_is_zeros(tmp_path: Path) -> None:
    node = lstm()
    node.feed["initial_h"] = floats(1, BATCH, HIDDEN)
    assert "the other one is zeros" in convert.from_onnx(node.save(tmp_path / "m.onnx")).report
    assert_equals_onnxruntime(node, tmp_path)


def test_layout_1_has_the_batch_first_in_states_too(tmp_path: Path) -> None:
    """onnxruntime doesn't run it: the same node in the other layout tells what comes out."""
    node = lstm(2)
    node.feed |= {"initial_h": floats(2, BATCH, HIDDEN), "initial_c": floats(2, BATCH, HIDDEN)}
    other = Node(
        "LSTM", node.weights, {k: v.swapaxes(0, 1) for k, v in node.feed.items()}, {**node.attributes, "layout": 1}
    )
    assert convert.from_onnx(other.save(tmp_path / "other.onnx")).model.batch_first
    found = other.by_recurray(tmp_path / "other.onnx")
    expected = node.by_recurray(node.save(tmp_path / "m.onnx"))
    np.testing.assert_allclose(found[0], expected[0].transpose(2, 0, 1, 3), atol=1e-6)
    for own, value in zip(found[1:], expected[1:], strict=True):
        np.testing.assert_allclose(own, value.swapaxes(0, 1), atol=1e-6)


def test_each_direction_has_its_functions_and_its_parameters(tmp_path: Path) -> None:
    names = ["Sigmoid", "LeakyRelu", "Tanh", "HardSigmoid", "Elu", "LeakyRelu"]
    assert_equals_onnxruntime(
        lstm(2, activations=names, activation_alpha=[0.2, 0.3, 0.4, 0.1], activation_beta=[0.45]), tmp_path
    )


@pytest.mark.parametrize("clip", [0.4, 10.0])
def test_clip_is_onnxruntime_s_and_the_report_says_so(clip: float, tmp_path: Path) -> None:
    node = lstm(clip=clip)
    node.feed["initial_c"] = 20 * floats(1, BATCH, HIDDEN)
    assert "clip" in convert.from_onnx(node.save(tmp_path / "m.onnx")).report
    assert_equals_onnxruntime(node, tmp_path)


def test_start_states_in_the_file_are_learned(tmp_path: Path) -> None:
    node = lstm(2)
    h, c = floats(2, 1, HIDDEN), floats(2, 1, HIDDEN)
    node.weights |= {"initial_h": np.repeat(h, BATCH, 1), "initial_c": np.repeat(c, BATCH, 1)}
    model: Any = convert.from_onnx(node.save(tmp_path / "m.onnx")).model
    assert model.learned_state
    np.testing.assert_array_equal(model.params["start_c_l0_reverse"], c[1, 0])
    assert_equals_onnxruntime(node, tmp_path)


def test_start_states_in_the_file_have_the_batch_first_with_layout_1(tmp_path: Path) -> None:
    node = lstm(2, layout=1)
    node.feed["X"] = node.feed["X"].swapaxes(0, 1)
    h, c = floats(2, HIDDEN), floats(2, HIDDEN)
    node.weights |= {"initial_h": np.repeat(h[None], BATCH, 0), "initial_c": np.repeat(c[None], BATCH, 0)}
    params = convert.from_onnx(node.save(tmp_path / "m.onnx")).model.params
    np.testing.assert_array_equal([params["start_h_l0"], params["start_h_l0_reverse"]], h)
    np.testing.assert_array_equal([params["start_c_l0"], params["start_c_l0_reverse"]], c)


# Where nodes stand, and how weights are wrapped -----------------------------------------------------------------------


def test_weights_wrapped_in_other_nodes(tmp_path: Path) -> None:
    node = lstm()
    w, r, b = (node.weights[name] for name in "WRB")
    make = helper().make_node
    scale = np.float32(0.01)
    bytes_ = np.clip(np.round(r[0] / scale), -128, 127).astype("int8")
    wrapping = [
        make("Constant", [], ["w"], value=tensors(w=w[0].T)[0]),
        make("Transpose", ["w"], ["wt"], perm=[1, 0]),
        make("Unsqueeze", ["wt", "axis"], ["W"]),
        make("DequantizeLinear", ["r8", "scale", "zero"], ["r"]),
        make("Reshape", ["r", "shape"], ["R"]),
        make("Slice", ["bb", "0", "half", "axis1"], ["b1"]),
        make("Cast", ["b16"], ["b2"], to=1),
        make("Concat", ["b1", "b2"], ["B"], axis=1),
    ]
    halves = b[:, : 4 * HIDDEN], b[:, 4 * HIDDEN :].astype("float16")
    constants = tensors(
        axis=[0], axis1=[1], r8=bytes_, scale=scale, zero=np.int8(3), shape=[1, -1, HIDDEN], b16=halves[1],
        **{"0": [0], "half": [4 * HIDDEN], "bb": b},
    )  # fmt: skip
    own = node.node()
    path = save([*wrapping, own], node.feed, node.outputs, constants, tmp_path / "m.onnx")
    found = node.by_recurray(path)
    for result, expected in zip(found, run(path, node.feed), strict=True):
        np.testing.assert_allclose(result, expected, atol=2e-6)


@pytest.mark.parametrize("per_channel", [False, True])
def test_dynamic_quantize_lstm(per_channel: bool, tmp_path: Path) -> None:
    """The weights are those that were rounded; onnxruntime rounds the input as well, hence the tolerance."""
    node = lstm(2)
    constants = {"B": node.weights["B"]}
    for name in "WR":
        value = node.weights[name].swapaxes(1, 2)  # (D, features, gates)
        scale = (np.abs(value).max(axis=1) if per_channel else np.abs(value).max(axis=(1, 2))) / 127
        steps = scale[:, None, :] if per_channel else scale[:, None, None]
        constants[name] = np.round(value / steps).astype("int8")
        constants |= {f"{name}_s": scale, f"{name}_z": np.zeros(scale.shape, "int8")}
        node.weights[name] = (constants[name] * steps).swapaxes(1, 2).astype("float32")
    names = ["X", "W", "R", "B", "", "", "", "", "W_s", "W_z", "R_s", "R_z"]
    quantised = helper().make_node(
        "DynamicQuantizeLSTM", names, ["Y", "Y_h", "Y_c"], name="node", domain="com.microsoft",
        hidden_size=HIDDEN, direction="bidirectional",
    )  # fmt: skip
    path = save([quantised], node.feed, node.outputs, tensors(**constants), tmp_path / "quantised.onnx")
    converted = convert.from_onnx(path)
    assert "rounds its input" in converted.report
    found = node.by_recurray(path)
    for own, expected in zip(found, node.by_recurray(node.save(tmp_path / "m.onnx")), strict=True):
        np.testing.assert_allclose(own, expected, atol=1e-6)
    for own, expected in zip(found, run(path, node.feed), strict=True):
        np.testing.assert_allclose(own, expected, atol=0.03)


def test_nodes_within_branches_and_loops(tmp_path: Path) -> None:
    """The weights are outside, X is too; one node is in a branch of a branch, one in a loop's body."""
    make, info = helper().make_node, helper().make_tensor_value_info
    node, float_ = lstm(), need("onnx").TensorProto.FLOAT

    def branch(name: str, inner: list[Any]) -> Any:
        return helper().make_graph(inner, name, [], [info(f"{name}_Y", float_, None)])

    def in_branch(name: str) -> Any:
        own = make("LSTM", ["X", "W", "R", "B"], [f"{name}_Y"], name=f"{name}_lstm", hidden_size=HIDDEN)
        return branch(name, [own])

    inner = make("If", ["yes"], ["outer_Y"], name="inner", then_branch=in_branch("a"), else_branch=in_branch("b"))
    outer = make("If", ["yes"], ["Y"], name="outer", then_branch=branch("outer", [inner]), else_branch=in_branch("c"))
    path = save([outer], node.feed, ["Y"], tensors(yes=True, **node.weights), tmp_path / "m.onnx")
    with pytest.raises(
        ValueError, match=r"3 recurrent nodes, not in one line: give node=, one of 'c_lstm', 'b_lstm', 'a_lstm'"
    ):
        convert.from_onnx(path)
    converted = convert.from_onnx(path, node="b_lstm")
    assert converted.before == ("within If 'outer'", "within If 'inner'")
    y, _ = converted.model(node.feed["X"])
    np.testing.assert_allclose(y, run(path, node.feed)[0][:, 0], atol=1e-6)
    with pytest.raises(ValueError, match="node must name one recurrent node, not 'x'"):
        convert.from_onnx(path, node="x")


def test_weights_in_a_file_beside_it(tmp_path: Path) -> None:
    onnx, node = need("onnx"), lstm()
    path = node.save(tmp_path / "m.onnx")
    expected = node.by_recurray(path)
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="m.data", size_threshold=0)
    for own, value in zip(node.by_recurray(path), expected, strict=True):
        np.testing.assert_array_equal(own, value)
    (tmp_path / "m.data").rename(tmp_path / "elsewhere")
    (tmp_path / "in").mkdir()
    for location in ("../elsewhere", str(tmp_path / "elsewhere")):
        model = onnx.load(path, load_external_data=False)
        for tensor in model.graph.initializer:
            next(entry for entry in tensor.external_data if entry.key == "location").value = location
        (tmp_path / "in" / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(FormatError, match="outside the file's folder"):
            convert.from_onnx(tmp_path / "in" / "m.onnx")


# What stands around ---------------------------------------------------------------------------------------------------


def test_a_line_of_layers(tmp_path: Path) -> None:
    """Batch first, as PyTorch writes it: an embedding, two LSTMs, one both ways, and what follows; a Conv ends it."""
    make, first, second = helper().make_node, lstm(2), lstm()
    second.weights["W"] = floats(1, 4 * HIDDEN, 2 * HIDDEN)
    nodes = [
        make("Gather", ["table", "tokens"], ["e"], name="embedding"),
        make("LeakyRelu", ["e"], ["a"], alpha=0.2),
        make("Transpose", ["a"], ["x"], perm=[1, 0, 2]),
        make("LSTM", ["x", "W", "R", "B"], ["Y1"], hidden_size=HIDDEN, direction="bidirectional", name="one"),
        make("Transpose", ["Y1"], ["y1"], perm=[0, 2, 1, 3]),
        make("Reshape", ["y1", "shape"], ["f"]),
        make("LSTM", ["f", "W2", "R2", "B2"], ["Y2", "end"], hidden_size=HIDDEN, name="two"),
        make("Squeeze", ["Y2", "one_"], ["y2"]),
        make("Transpose", ["y2"], ["z"], perm=[1, 0, 2]),
        make("LayerNormalization", ["z", "gain", "shift"], ["n"], epsilon=1e-3),
        make("MatMul", ["n", "M"], ["p"]),
        make("Add", ["bias", "p"], ["q"]),
        make("Softmax", ["q"], ["r"], axis=-1),
        make("Erf", ["r"], ["out"], name="last"),
    ]
    constants = tensors(
        table=floats(7, FEATURES), shape=[0, 0, -1], one_=[1], gain=floats(HIDDEN), shift=floats(HIDDEN),
        M=floats(HIDDEN, 5), bias=floats(5), **first.weights, **{f"{k}2": v for k, v in second.weights.items()},
    )  # fmt: skip
    tokens = RNG.integers(0, 7, (BATCH, STEPS))
    path = save(nodes, {"tokens": tokens}, ["r", "out", "end"], constants, tmp_path / "m.onnx")
    converted = convert.from_onnx(path)
    kinds = [type(layer).__name__ for layer in converted.model.layers]
    assert kinds == ["Embedding", "Activation", "LSTM", "LSTM", "LayerNorm", "Linear", "Activation"]
    assert converted.model.batch_first
    assert converted.after == ("Erf 'last'",)
    y, state = converted.model(tokens)
    expected = run(path, {"tokens": tokens})
    np.testing.assert_allclose(y, expected[0], atol=1e-6)
    np.testing.assert_allclose(state[3].h, expected[2], atol=1e-6)


@pytest.mark.parametrize("directions", [1, 2])
def test_the_final_output_goes_on(directions: int, tmp_path: Path) -> None:
    make, node = helper().make_node, lstm(directions)
    if directions == 1:
        node.attributes["direction"] = "reverse"
        shaping = [make("Squeeze", ["Y_h", "axis"], ["h"])]
    else:
        shaping = [make("Transpose", ["Y_h"], ["t"], perm=[1, 0, 2]), make("Reshape", ["t", "shape"], ["h"])]
    node.feed["sequence_lens"] = np.array([STEPS, 2], "int32")
    head = make("Gemm", ["h", "M", "m"], ["out"], transB=1, alpha=0.5, beta=2.0)
    constants = tensors(axis=[0], shape=[0, -1], M=floats(5, directions * HIDDEN), m=floats(5), **node.weights)
    path = save([node.node(), *shaping, head], node.feed, ["out"], constants, tmp_path / "m.onnx")
    converted = convert.from_onnx(path)
    assert [type(layer).__name__ for layer in converted.model.layers] == ["LSTM", "Final", "Linear"]
    y, _ = converted.model(node.feed["X"], lengths=node.feed["sequence_lens"])
    np.testing.assert_allclose(y, run(path, node.feed)[0], atol=1e-6)


def test_what_branches_off_ends_the_line(tmp_path: Path) -> None:
    make, node = helper().make_node, lstm()
    nodes = [
        node.node(),
        make("Squeeze", ["Y", "axis"], ["y"], name="squeeze"),
        make("Tanh", ["y"], ["t"], name="tanh"),
        make("Add", ["y", "t"], ["out"], name="residual"),
    ]
    path = save(nodes, node.feed, ["out"], tensors(axis=[1], **node.weights), tmp_path / "m.onnx")
    converted = convert.from_onnx(path)
    assert isinstance(converted.model, rr.LSTM)
    assert converted.after == ("Tanh 'tanh'", "Add 'residual'")


# Refused --------------------------------------------------------------------------------------------------------------


def changed(node: Node, **attributes: Any) -> Node:
    return Node(node.kind, dict(node.weights), dict(node.feed), node.attributes | attributes)


def refused() -> dict[str, tuple[Node, str]]:
    own = lstm()
    few, wrong, computed, infinite, starts = (changed(own) for _ in range(5))
    few.weights["B"] = floats(1, 7 * HIDDEN)
    wrong.weights["R"] = floats(1, 4 * HIDDEN, HIDDEN + 1)
    computed.feed["W"] = computed.weights.pop("W")
    infinite.weights["W"] = np.full_like(own.weights["W"], np.inf)
    starts.weights["initial_h"] = floats(1, BATCH, HIDDEN)
    return {
        "bias": (few, "B must have the shape"),
        "units": (wrong, "R"),
        "computed weights": (computed, "W isn't a constant"),
        "not finite": (infinite, "aren't finite"),
        "start of each row": (starts, "another start for each row"),
        "direction": (changed(own, direction="bidirectional"), "direction is 'bidirectional'"),
        "function": (changed(own, activations=["Swish", "Tanh", "Tanh"]), "activation 'Swish'"),
        "too few functions": (changed(own, activations=["Tanh"]), "1 activations, where 3"),
        "alpha left": (changed(own, activation_alpha=[0.1]), "1 values too many"),
        "affine without alpha": (changed(own, activations=["Affine", "Tanh", "Tanh"]), "no alpha"),
        "unknown attribute": (changed(own, swing=1), "attribute swing"),
    }


@pytest.mark.parametrize("case", list(refused()))
def test_refused(case: str, tmp_path: Path) -> None:
    node, message = refused()[case]
    with pytest.raises(FormatError, match=message):
        convert.from_onnx(node.save(tmp_path / "m.onnx"))


def test_not_a_path() -> None:
    with pytest.raises(TypeError, match="path must be a text or a path, not int"):
        convert.from_onnx(3)


def test_not_an_onnx_file(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    for content in (b"", b"GIF89a", bytes(100)):
        path.write_bytes(content)
        with pytest.raises(FormatError, match="isn't an ONNX file"):
            convert.from_onnx(path)


def test_constants_that_double_again_and_again_are_refused(tmp_path: Path) -> None:
    make, node = helper().make_node, lstm()
    doubling = [make("Concat", [f"c{n}", f"c{n}"], [f"c{n + 1}"], axis=0) for n in range(40)]
    del node.weights["W"]
    own = node.node()
    own.input[1] = "c40"
    constants = tensors(c0=np.ones((1, 16, 3), "float32"), **node.weights)
    path = save([*doubling, own], node.feed, node.outputs, constants, tmp_path / "m.onnx")
    with pytest.raises(FormatError, match="16 times the file's size"):
        convert.from_onnx(path)


def test_nodes_in_a_circle_are_refused(tmp_path: Path) -> None:
    make, node = helper().make_node, lstm()
    circle = [make("Identity", ["W"], ["w"]), make("Identity", ["w"], ["W"])]
    del node.weights["W"]
    own = node.node()
    own.input[1] = "W"
    path = save([*circle, own], node.feed, node.outputs, tensors(**node.weights), tmp_path / "m.onnx")
    with pytest.raises(FormatError, match="W isn't a constant"):
        convert.from_onnx(path)
