"""Keras's recurrent layers as ours."""

from __future__ import annotations

from typing import Any

from recurray import layers, layouts
from recurray.convert.keras import activations
from recurray.convert.keras.made import Made, Place
from recurray.convert.keras.options import Node
from recurray.convert.keras.weights import Weights, shape_of
from recurray.layers import Layer

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
CUDNN = {"CuDNNLSTM": "LSTM", "CuDNNGRU": "GRU"}
KINDS = (*GATES, *CUDNN, "RNN", "Bidirectional")
HALVES = ("sum", "mul", "ave")  # ways to merge the directions that `recurray.Merge` has
ROLES = ("kernel", "recurrent_kernel", "bias")


def made(node: Node, weights: Weights, version: str | None, place: Place, placed: dict[str, Any]) -> Made:
    """Make the layers that do what a recurrent layer of a file does; ``placed`` says backend and dtype."""
    if place.axes == 2:
        raise node.refuse("it stands after a layer that has left the axis of time")
    if node.kind == "Bidirectional":
        return _bidirectional(node, weights, version, place, placed)
    form = Form(node, version)
    form.check_mask(place)
    reverse = form.backwards != place.flipped
    part = "cell" if form.in_cell else ""
    (arrays,) = weights.of(node, form.roles, (part,))
    layer = form.layer([arrays], placed | ({"reverse": True} if reverse else {}))
    if not form.sequences:
        return Made((layer, layers.Final(**placed)), form.remarks, axes=2, flipped=False)
    return Made((layer,), form.remarks, axes=3, flipped=reverse)


class Form:
    """What a recurrent layer's options say."""

    def __init__(self, node: Node, version: str | None) -> None:
        self.node = node
        inner = node
        if node.kind == "RNN":
            if isinstance(node.option("cell"), list):
                raise node.refuse("its cell is several, stacked: a layer for each can be said here")
            inner = node.inner("cell")
            if inner.kind.removesuffix("Cell") not in GATES or not inner.kind.endswith("Cell"):
                raise node.refuse(f"its cell is {inner}, which can't be said here")
        self.kind = CUDNN.get(node.kind, inner.kind.removesuffix("Cell"))
        if self.kind not in GATES:
            raise node.refuse("it isn't a recurrent layer that can be said here: LSTM, GRU and SimpleRNN are")
        self.cudnn = node.kind in CUDNN
        self.in_cell = not self.cudnn
        node.needs(time_major=False)
        self.units = inner.size("units")
        self.bias = self.cudnn or inner.flag("use_bias", True)
        self.roles = ROLES if self.bias else ROLES[:2]
        self.sequences = node.flag("return_sequences", False)
        self.backwards = node.flag("go_backwards", False)
        self.zeros = node.flag("zero_output_for_mask", False)
        self.stateful = node.flag("stateful", False)
        self.options = {} if self.cudnn else self._functions(inner, version)
        if self.kind == "GRU":
            reset_after = True if self.cudnn else inner.option("reset_after", None)
            if reset_after is not None:
                self.options["reset_after"] = True if self.cudnn else inner.flag("reset_after")
            elif not self.bias:
                raise node.refuse("it doesn't say its reset_after, which the arrays don't tell without a bias")
        self.remarks = self._remarks(inner)

    def _functions(self, inner: Node, version: str | None) -> dict[str, Any]:
        cell = activations.of(inner, "activation", version, "tanh")
        if self.kind == "SimpleRNN":
            return {} if cell == "tanh" else {"nonlinearity": cell}
        names = ("cell_activation", "output_activation") if self.kind == "LSTM" else ("cell_activation",)
        options = {} if cell == "tanh" else dict.fromkeys(names, cell)
        if inner.option("recurrent_activation", "") == "":
            raise inner.refuse(
                "it doesn't say its recurrent_activation, which was hard_sigmoid by default before Keras 2.3 "
                "and is sigmoid since"
            )
        gate = activations.of(inner, "recurrent_activation", version)
        return options if gate == "sigmoid" else options | {"gate_activation": gate}

    def _remarks(self, inner: Node) -> tuple[str, ...]:
        remarks = []
        if self.stateful:
            remarks.append("stateful: recurray.Streaming(model) carries the state, its reset() is reset_states()")
        for option in ("dropout", "recurrent_dropout"):
            value = inner.option(option, 0)
            if value:
                remarks.append(f"{option}={value} is of training alone and isn't in the model")
        return tuple(remarks)

    def check_mask(self, place: Place) -> None:
        """Refuse what Keras does with a mask and can't be said."""
        if place.masked and place.flipped:
            raise self.node.refuse(
                "it reads what a layer with go_backwards=True returns, from the end to the start, with a mask that "
                "Keras doesn't turn round, which can't be said here"
            )
        if place.masked and self.zeros and not self.sequences:
            raise self.node.refuse(
                "zero_output_for_mask=True without return_sequences gives zeros in Keras where the last step is "
                "masked, which can't be said here"
            )

    def layer(self, arrays: list[dict[str, Any]], more: dict[str, Any]) -> Layer:
        """The layer with these arrays, those of one direction or of both."""
        count = GATES[self.kind] * self.units
        for own in arrays:
            self._check(own, count)
        name = {"LSTM": "lstm", "GRU": "gru", "SimpleRNN": "simple_rnn"}[self.kind]
        facts = self.options | more | ({"bidirectional": True} if len(arrays) > 1 else {})
        options, params = layouts.read(f"keras.{'cudnn_' if self.cudnn else ''}{name}", arrays, **facts)
        return getattr(layers, self.kind.removeprefix("Simple"))(**options, params=params)  # type: ignore[no-any-return]

    def _check(self, arrays: dict[str, Any], count: int) -> None:
        shape_of(self.node, "kernel", arrays["kernel"], ("input", count))
        shape_of(self.node, "recurrent_kernel", arrays["recurrent_kernel"], (self.units, count))
        if self.bias:
            bias = arrays["bias"]
            twice = self.kind == "GRU" and not self.cudnn and self.options.get("reset_after", bias.ndim == 2)
            shape_of(self.node, "bias", bias, (2, count) if twice else (count * 2 if self.cudnn else count,))


def _bidirectional(node: Node, weights: Weights, version: str | None, place: Place, placed: dict[str, Any]) -> Made:
    merge = node.option("merge_mode", "concat")
    if merge not in ("concat", None, *HALVES):
        raise node.refuse(f"merge_mode={merge!r} isn't one of Keras's")
    if merge is None and not place.last:
        raise node.refuse("merge_mode=None gives two outputs, which is read of a model's last layer alone")
    first = Form(node.inner("layer"), version)
    second = Form(node.inner("backward_layer"), version) if node.option("backward_layer", None) is not None else first
    if first.backwards:
        raise node.refuse("its forward layer has go_backwards=True, which can't be said here")
    if second is not first and not second.backwards:
        raise node.refuse("its backward layer has go_backwards=False, which can't be said here")
    for what in ("kind", "cudnn", "units", "bias", "sequences", "options"):
        mine, other = getattr(first, what), getattr(second, what)
        if mine != other:
            raise node.refuse(f"its directions differ in {what}, {mine} and {other}, which can't be said here")
    if place.flipped:
        raise node.refuse("it reads what a layer with go_backwards=True returns, from the end to the start")
    end = "/cell" if first.in_cell else ""
    arrays = weights.of(node, first.roles, (f"forward_layer{end}", f"backward_layer{end}"))
    found: list[Layer] = [first.layer(arrays, placed)]
    remarks = list(first.remarks)
    if not first.sequences:
        found.append(layers.Final(**placed))
    if merge in HALVES:
        found.append(layers.Merge(merge, **placed))
    if merge is None:
        remarks.append(f"merge_mode=None: the two outputs are y[..., :{first.units}] and y[..., {first.units}:]")
    return Made(tuple(found), tuple(remarks), axes=3 if first.sequences else 2, flipped=False)
