"""A model's layers in the order that they are run in: of one that is a straight line, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from recurray.convert.keras.options import Node, described
from recurray.files import FormatError
from recurray.messages import shown

MODELS = ("Sequential", "Functional", "Model")
DEEPEST = 16  # models within models
MOST_LAYERS = 10**4


@dataclass(frozen=True)
class Chain:
    """The layers of a straight model, models within it taken apart.

    Attributes
    ----------
    nodes : tuple of Node
        In the order of computation, from what reads the input to what gives the output.
    outputs : tuple of (str, int)
        By the layer's name and a number: what the model gives. Number 0 is a layer's output, those above its state.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[tuple[str, int], ...]


def straight(architecture: Any) -> Chain:
    """Take a model in Keras's JSON apart.

    Raises
    ------
    FormatError
        It isn't a model, or not a straight one: what is amiss is named.
    """
    if isinstance(architecture, Mapping) and "class_name" not in architecture and "layers" in architecture:
        architecture = {"class_name": "Sequential", "config": architecture}  # get_config() of a Sequential
    elif isinstance(architecture, Sequence) and not isinstance(architecture, str):
        architecture = {"class_name": "Sequential", "config": {"layers": [_as_entry(entry) for entry in architecture]}}
    kind, name, _ = described(architecture)
    if kind not in MODELS:
        raise FormatError(f"the model is a {kind}, which isn't read: a Sequential or a functional model is")
    outputs: list[tuple[str, int]] = []
    nodes = tuple(_layers(architecture, (), "", outputs))
    if not nodes:
        raise FormatError(f"the model {shown(name)} has no layers")
    return Chain(nodes, tuple(outputs))


def _as_entry(entry: Any) -> Any:
    """A layer said shortly, ("LSTM", {"units": 3}), as Keras's JSON says it."""
    if isinstance(entry, (tuple, list)) and len(entry) == 2:
        return {"class_name": entry[0], "config": entry[1]}
    return entry


def _layers(model: Any, within: tuple[str, ...], place: str, outputs: list[tuple[str, int]]) -> Iterator[Node]:
    if len(within) > DEEPEST:
        raise FormatError("there are too many models within models")
    kind, name, options = described(model)
    entries = options.get("layers")
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) > MOST_LAYERS:
        raise FormatError(f"the model {shown(name)} must have a list of at most {MOST_LAYERS:,} layers")
    nodes = []
    counts: dict[str, int] = {}
    for entry in entries:
        own, known_as, settings = described(entry)
        number = counts[own] = counts.get(own, -1) + 1
        numbered = f"{snake_case(own)}{f'_{number}' if number else ''}"
        if "name" not in settings and "name" not in entry:
            known_as = numbered
        nodes.append(Node(own, known_as, settings, within, f"{place}layers/{numbered}"))
    if kind != "Sequential":
        nodes = _functional(name, options, entries, nodes, outputs if not within else [])
    for node in nodes:
        if node.kind == "InputLayer":
            continue
        if node.kind in MODELS:
            inner = {"class_name": node.kind, "config": node.options}
            yield from _layers(inner, (*within, node.name), f"{node.place}/", outputs)
        else:
            yield node


def snake_case(kind: str) -> str:
    """A class's name as Keras has it in paths: simple_rnn for SimpleRNN."""
    kind = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", kind))
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", kind).lower()


# Functional models: a graph, of which a line is wanted ----------------------------------------------------------------


def _functional(
    name: str,
    options: Mapping[str, Any],
    entries: Sequence[Any],
    nodes: Sequence[Node],
    outputs: list[tuple[str, int]],
) -> list[Node]:
    """The layers from the model's one input to its output; ``outputs`` gets what it gives."""
    by_name = {node.name: (node, entry) for node, entry in zip(nodes, entries, strict=True)}
    if len(by_name) != len(nodes):
        raise FormatError(f"layers of the model {shown(name)} have the same name")
    inputs = _tensors(options.get("input_layers"))
    if len(inputs) != 1:
        raise FormatError(f"the model {shown(name)} has {len(inputs)} inputs: models with one are read")
    given = _tensors(options.get("output_layers"))
    if not given:
        raise FormatError(f"the model {shown(name)} has no output")
    line: list[Node] = []
    at = next((layer for layer, number in given if number == 0), given[0][0])
    while True:
        if at not in by_name or len(line) > len(nodes):
            raise FormatError(f"the model {shown(name)} isn't a straight line at {shown(at)}")
        node, entry = by_name[at]
        line.insert(0, node)
        if node.kind == "InputLayer":
            break
        at = _only_input(node, entry)
    if line[0].name != inputs[0][0]:
        raise FormatError(f"the model {shown(name)} doesn't compute its output from its input")
    names = [node.name for node in line]
    for layer, number in given:
        if layer not in names or (number == 0 and layer != names[-1]):
            raise FormatError(
                f"the model {shown(name)} gives the output of {shown(layer)} beside that of {shown(names[-1])}: "
                "the last one of a straight line is read, and states"
            )
    outputs += given
    _check_masks(line, by_name)
    return line


def _only_input(node: Node, entry: Any) -> str:
    """The name of the layer whose output this one reads."""
    calls = entry.get("inbound_nodes")
    if not isinstance(calls, Sequence) or len(calls) != 1:
        count = len(calls) if isinstance(calls, Sequence) else 0
        raise node.refuse(f"it is used {count} times: layers in a straight line are read")
    given, _ = _arguments(node, entry)
    if len(given) != 1:
        raise node.refuse(f"it has {len(given)} inputs, {', '.join(shown(name) for name, _ in given)}: one is read")
    ((layer, number),) = given
    if number != 0:
        raise node.refuse(f"it reads the state of {shown(layer)}, not its output")
    return layer


def _arguments(node: Node, entry: Any) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
    """What a layer is called with, the first time: its inputs, and its mask."""
    calls = entry.get("inbound_nodes")
    call = calls[0] if isinstance(calls, Sequence) and calls else ()
    if isinstance(call, Mapping):  # Keras 3
        inputs, named = _tensors(call.get("args")), call.get("kwargs")
    else:
        entries = call if isinstance(call, Sequence) and not isinstance(call, str) else ()
        inputs = _tensors(entries)
        named = {}
        for tensor in entries:
            if isinstance(tensor, Sequence) and len(tensor) > 3 and isinstance(tensor[3], Mapping):
                named |= tensor[3]
    masks: list[tuple[str, int]] = []
    for name, value in (named or {}).items():
        found = _tensors(value)
        if name == "mask":
            masks = found
        elif name in ("inputs", "sequences"):
            inputs += found
        elif found:
            raise node.refuse(f"it is given {name}, which can't be said here: hand the state to the call")
    return inputs, masks


def _tensors(value: Any, deep: int = 8) -> list[tuple[str, int]]:
    """The tensors in an argument, each as the layer that gives it and which of its outputs it is."""
    if isinstance(value, Mapping):
        options = value.get("config")
        history = options.get("keras_history") if isinstance(options, Mapping) else None
        return _tensors(history)
    if not isinstance(value, Sequence) or isinstance(value, str) or not deep:
        return []
    if (
        len(value) >= 3
        and isinstance(value[0], str)
        and all(isinstance(number, int) and not isinstance(number, bool) for number in value[1:3])
    ):
        return [(value[0], value[2])]
    return [tensor for entry in value for tensor in _tensors(entry, deep - 1)]


def _check_masks(line: Sequence[Node], by_name: Mapping[str, tuple[Node, Any]]) -> None:
    """Refuse a mask that isn't the one that a layer of the line makes of its own input, as Keras 3 writes it out."""
    values = {
        line[place - 1].name: node.number("mask_value", 0.0) if node.kind == "Masking" else 0
        for place, node in enumerate(line)
        if place and makes_mask(node)
    }
    for node in line:
        for name, _ in _arguments(node, by_name[node.name][1])[1]:
            at, compared = name, None
            for _ in range(3):  # any(not_equal(cast(x), value))
                if at not in by_name or by_name[at][0].kind not in ("Any", "NotEqual", "Cast"):
                    break
                source, entry = by_name[at]
                if source.kind == "NotEqual":
                    given = entry["inbound_nodes"][0]
                    compared = given["args"][1:] if isinstance(given, Mapping) and "args" in given else None
                at = _only_input(source, entry)
            if at not in values or compared != [values[at]]:
                raise node.refuse(f"its mask is computed by {shown(name)}, which can't be said here")


def makes_mask(node: Node) -> bool:
    """Whether the layer says which steps are to be left out."""
    return node.kind == "Masking" or (node.kind == "Embedding" and node.flag("mask_zero", False))
