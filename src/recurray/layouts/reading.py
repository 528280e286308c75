"""From another library's arrays to our params."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.arrays import to_numpy
from recurray.checks import flag, size
from recurray.layouts.layout import BIASES, GATES, UNUSED, Layout, Part
from recurray.messages import in_words, shown

Arrays = dict[str, NDArray[Any]]
Blocks = dict[tuple[str, str], NDArray[Any]]  # by field and gate, (H, ...)

SUFFIX = "_reverse"


def numbers(arrays: Any, what: str) -> Arrays:
    """Check a mapping of names to floating-point arrays, and bring them to NumPy: of at least float32."""
    if not isinstance(arrays, Mapping):
        raise TypeError(f"{what} must be a mapping of names to arrays, not {type(arrays).__name__}")
    found = {}
    for name, value in arrays.items():
        if not isinstance(name, str):
            raise TypeError(f"{what} must have names that are text, not {shown(name)}")
        array = to_numpy(value, f"the array {name!r}")
        if array.dtype.kind != "f":
            raise TypeError(f"the array {name!r} must be floating-point numbers, not {array.dtype}")
        found[name] = array.astype("float64" if array.dtype.itemsize > 4 else "float32")
    return found


def by_place(layout: Layout, given: Sequence[Arrays], facts: Mapping[str, Any]) -> list[list[Arrays]]:
    """The arrays of each layer's directions, by the names of parts."""
    if layout.apart in ("names", "packed"):
        if len(given) != 1:
            raise ValueError(f"{layout.name} has the arrays of all layers in one mapping, not in {len(given)}")
        return _by_names(layout, given[0]) if layout.apart == "names" else _unpacked(layout, given[0], facts)
    if layout.apart == "axis":
        return [_along_axis(layout, arrays) for arrays in given]
    count = 2 if flag("bidirectional", facts.get("bidirectional", False)) else 1
    if len(given) % count:
        raise ValueError(f"a bidirectional layer has two mappings of arrays for each layer, not {len(given)}")
    return [list(given[at : at + count]) for at in range(0, len(given), count)]


def _by_names(layout: Layout, arrays: Arrays) -> list[list[Arrays]]:
    known = {part.name for part in layout.parts}
    found: dict[tuple[int, int], Arrays] = {}
    for name, array in arrays.items():
        whole = name.removesuffix(SUFFIX)
        part, _, number = whole.rpartition("_l")
        if part not in known or not (number.isdecimal() and number.isascii()) or str(int(number)) != number:
            known_as = ", ".join(f"{name}_l0" for name in sorted(known))
            raise ValueError(f"{layout.name} has no array {shown(name)}: it has {known_as} and so on")
        found.setdefault((int(number), int(name != whole)), {})[part] = array
    layers, directions = len({layer for layer, _ in found}), len({direction for _, direction in found})
    if sorted(found) != [(layer, direction) for layer in range(layers) for direction in range(directions)]:
        raise ValueError(f"layers or directions are missing between {', '.join(map(repr, sorted(arrays)))}")
    return [[found[layer, direction] for direction in range(directions)] for layer in range(layers)]


def _unpacked(layout: Layout, arrays: Arrays, facts: Mapping[str, Any]) -> list[list[Arrays]]:
    """Cut one array into the parts that are packed in it, which takes the sizes that nothing else tells."""
    if set(arrays) != {layout.packed} or arrays[layout.packed].ndim != 1:
        have = ", ".join(f"{name} {in_words(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"{layout.name} has one array along one axis, {layout.packed}, not {have or 'none'}")
    if "hidden_size" not in facts:
        raise ValueError(f"{layout.name} is packed into one array: say hidden_size, and num_layers and bidirectional")
    hidden, layers = size("hidden_size", facts["hidden_size"]), size("num_layers", facts.get("num_layers", 1))
    directions = 2 if flag("bidirectional", facts.get("bidirectional", False)) else 1
    values, gates = arrays[layout.packed], len(layout.gates)
    above = gates * hidden * (hidden + 2) + gates * hidden * hidden * directions  # one direction of a layer above
    rest = len(values) - directions * (layers - 1) * above
    features, odd = divmod(rest - directions * gates * hidden * (hidden + 2), directions * gates * hidden)
    if odd or features < 1:
        raise ValueError(f"{layout.packed} has {len(values):,} numbers, which aren't those of {layers} such layers")
    at, found = 0, []
    for layer in range(layers):
        shapes = {"input": (gates * hidden, features if layer == 0 else hidden * directions)}
        shapes["recurrent"] = (gates * hidden, hidden)
        found.append([dict[str, Any]() for _ in range(directions)])
        for own in found[-1]:
            for part in layout.parts:
                shape: tuple[int, ...] = shapes.get(part.fields[0], (gates * hidden,))
                count = math.prod(shape)
                own[part.name] = values[at : at + count].reshape(shape)
                at += count
    return found


def _along_axis(layout: Layout, arrays: Arrays) -> list[Arrays]:
    axes = {part.name: part.axes for part in layout.parts}
    counts = {len(array) if array.ndim == axes[name] + 1 else 0 for name, array in arrays.items() if name in axes}
    if len(counts) != 1 or not counts <= {1, 2}:
        have = ", ".join(f"{name} {in_words(array.shape)}" for name, array in arrays.items())
        raise ValueError(f"the arrays of {layout.name} must have directions, 1 or 2, along a first axis, not {have}")
    (count,) = counts
    return [{name: array[at] if name in axes else array for name, array in arrays.items()} for at in range(count)]


def misfit(layout: Layout, arrays: Arrays) -> str | None:
    """Why these can't be the arrays of one direction by their names and numbers of axes; None if they can."""
    parts = {part.name: part for part in layout.parts}
    for name in arrays:
        if name not in parts:
            return f"there is no array {name!r}; there are {', '.join(parts)}"
    for name, part in parts.items():
        if name not in arrays:
            if not part.optional:
                return f"the array {name!r} {part.shape_in_words} is missing"
        elif arrays[name].ndim != part.axes:
            return f"{name} must have the shape {part.shape_in_words}, not {in_words(arrays[name].shape)}"
    return None


class Direction:
    """One direction of one layer: blocks by field and gate, and their sizes."""

    def __init__(self, layout: Layout, arrays: Arrays) -> None:
        problem = misfit(layout, arrays)
        if problem:
            raise ValueError(f"these aren't the arrays of {layout.name}: {problem}")
        self._layout = layout
        present = [(part, arrays[part.name]) for part in layout.parts if part.name in arrays]
        gated = [(part, array) for part, array in present if part.gates]
        self.hidden_size = self._hidden_size(*next(pair for pair in gated if "recurrent" in pair[0].fields))
        projections = [
            array.T if part.form == "columns" else array for part, array in present if part.fields == ("projection",)
        ]
        self.projection = projections[0] if projections else None
        if self.projection is not None and self.projection.shape[1] != self.hidden_size:
            raise ValueError(f"the projection must be of {self.hidden_size} units, not {self.projection.shape[1]}")
        self.output_size = self.hidden_size if self.projection is None else len(self.projection)
        self.input_size: int | None = None
        self.blocks: Blocks = {}
        for part, array in gated:
            self._take(part, array)
        self._to_ours()

    def _hidden_size(self, part: Part, array: NDArray[Any]) -> int:
        """H, by the axis that the gates are along."""
        along = len(array) if part.form in ("rows", "flat") else array.shape[1]
        hidden, rest = divmod(along, len(part.gates) * (len(part.fields) if part.form == "flat" else 1))
        if rest or not hidden:
            raise self._wrong_shape(part, array)
        return hidden

    def _wrong_shape(self, part: Part, array: NDArray[Any]) -> ValueError:
        sizes = "" if not hasattr(self, "hidden_size") else f" with H = {self.hidden_size}"
        if getattr(self, "input_size", None) is not None:
            sizes += f", I = {self.input_size}"
        return ValueError(f"{part.name} must have the shape {part.shape_in_words}{sizes}, not {in_words(array.shape)}")

    def _take(self, part: Part, array: NDArray[Any]) -> None:
        if self._hidden_size(part, array) != self.hidden_size:
            raise self._wrong_shape(part, array)
        tall = self._rows(part, array)  # (gates * H, fields)
        widths = {"recurrent": self.output_size, "input": self.input_size}
        known = sum(widths.get(name, 1) or 0 for name in part.fields)
        if "input" in part.fields and self.input_size is None:
            self.input_size = tall.shape[1] - known
            known += self.input_size
        if tall.shape[1] != known or (self.input_size is not None and self.input_size < 1):
            raise self._wrong_shape(part, array)
        at = 0
        for name in part.fields:
            width = {"recurrent": self.output_size, "input": self.input_size}.get(name, 1) or 1
            for row, gate in enumerate(part.gates):
                rows = slice(row * self.hidden_size, (row + 1) * self.hidden_size)
                self.blocks[name, gate] = tall[rows, at : at + width]
            at += width

    def _rows(self, part: Part, array: NDArray[Any]) -> NDArray[Any]:
        """The blocks one below the other."""
        if part.form == "flat":
            return array.reshape(len(part.fields), -1).T
        if part.form == "columns":
            return array.T
        if part.form == "rows":
            return array
        blocks = np.split(array, len(part.gates), axis=1)
        if part.form == "cudnn":
            blocks = [block.reshape(block.shape[::-1]) for block in blocks]
        return np.concatenate(blocks)

    def _to_ours(self) -> None:
        """Undo what the library does otherwise."""
        for field, gate in list(self.blocks):
            if gate == UNUSED:
                del self.blocks[field, gate]
            elif gate in self._layout.negated:
                self.blocks[field, gate] = -self.blocks[field, gate]

    def add(self, gate: str, value: float) -> None:
        """Add to a gate's bias what the library adds to its sum."""
        if value:
            before = self.blocks.get(("input_bias", gate), np.zeros((self.hidden_size, 1), self.dtype))
            self.blocks["input_bias", gate] = before + before.dtype.type(value)

    @property
    def dtype(self) -> np.dtype[Any]:
        """The precision of what is here."""
        return np.result_type(*self.blocks.values())

    def has(self, *fields: str) -> bool:
        """Whether there is any block of these fields."""
        return any(name in fields for name, _ in self.blocks)

    def params(self, ending: str, *, bias: bool, peepholes: bool, coupled: bool) -> Arrays:
        """The params by our names, in C order; what there isn't is zero."""
        gates = tuple(gate for gate in GATES[self._layout.kind] if not (coupled and gate == "f"))
        found = {
            "weight_ih": self._joined("input", gates),
            "weight_hh": self._joined("recurrent", gates),
        }
        if bias:
            found["bias_ih"], found["bias_hh"] = (self._joined(name, gates)[:, 0] for name in BIASES)
        if self.projection is not None:
            found["weight_hr"] = self.projection
        if peepholes:
            rows = [gate for gate in gates if gate != "g"]
            found["peephole"] = self._joined("peephole", tuple(rows)).reshape(len(rows), -1)
        return {name + ending: np.array(array, order="C") for name, array in found.items()}

    def _joined(self, name: str, gates: tuple[str, ...]) -> NDArray[Any]:
        absent = np.zeros((self.hidden_size, 1), self.dtype)
        return np.concatenate([self.blocks.get((name, gate), absent) for gate in gates])
