"""The form of a recurrent layer's params: which there are, their names and shapes, and what they start as.

H hidden units, R size of the output (H, or the projection's).
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array, device_of, namespace_of
from recurray.cells.cell import Cell, Weights
from recurray.layers import initial
from recurray.layers.draws import Generator
from recurray.lazy import cached_property

NAMES: Mapping[str, str] = {  # PyTorch's, by the field of `Weights`
    "input": "weight_ih",
    "recurrent": "weight_hh",
    "input_bias": "bias_ih",
    "recurrent_bias": "bias_hh",
    "projection": "weight_hr",
}
STATIC = "weight_static"  # the field, and the name, of what multiplies the input that doesn't change over time


@dataclass(frozen=True)
class ParamForm:
    """Which params the layers and directions around a cell have.

    A field is what a param is within one direction of a layer: a field of `Weights`, the name of one of the cell's own
    params, `STATIC`, or "start_h" and so on for a start state that is learned.

    Attributes
    ----------
    names : mapping of str to str
        The params' names by the field of `Weights`; the cell's own keep theirs.
    numbered : bool
        Whether layer and direction stand at the end of a name.
    static_size : int
        Features of the first layer's input that don't change over time.
    start_sizes : mapping of str to int
        The states that start as something learned, and their sizes.
    """

    cell: Cell
    input_size: int
    hidden_size: int
    proj_size: int
    num_layers: int
    directions: int
    bias: bool
    recurrent_init: str
    start_sizes: Mapping[str, int]
    names: Mapping[str, str]
    numbered: bool
    static_size: int = 0

    def __post_init__(self) -> None:
        taken = {*NAMES, "pointwise", *self.names.values()}
        taken |= {f"start_{name}" for name in self.start_sizes} | ({STATIC} if self.static_size else set())
        for name in self.cell.pointwise:
            if name in taken:
                raise ValueError(f"{type(self.cell).__name__} can't have a param named {name!r}: the layer has one")

    @property
    def places(self) -> list[tuple[int, int]]:
        """Layers and directions."""
        return [(layer, direction) for layer in range(self.num_layers) for direction in range(self.directions)]

    def name(self, field: str, layer: int, direction: int) -> str:
        """A param's name."""
        name = self.names.get(field, field)
        return f"{name}_l{layer}{'_reverse' if direction else ''}" if self.numbered else name

    def shapes(self, layer: int) -> dict[str, tuple[int, ...]]:
        """The params of one direction of a layer: their shapes by field."""
        cell, hidden, output = self.cell, self.hidden_size, self.proj_size or self.hidden_size
        features = self.input_size if layer == 0 else output * self.directions
        into, across = len(cell.input_gates) * hidden, len(cell.recurrent_gates) * hidden
        shapes: dict[str, tuple[int, ...]] = {"input": (into, features)}
        if self.static_size and layer == 0:
            shapes[STATIC] = (into, self.static_size)
        if across:
            shapes["recurrent"] = (across, output)
        if self.bias:
            shapes["input_bias"] = (into,)
            if across:
                shapes["recurrent_bias"] = (across,)
        if self.proj_size:
            shapes["projection"] = (self.proj_size, hidden)
        shapes |= {name: (len(row_names), hidden) for name, row_names in cell.pointwise.items()}
        return shapes | {f"start_{name}": (size,) for name, size in self.start_sizes.items()}

    def all_shapes(self) -> dict[str, tuple[int, ...]]:
        """The shapes of all params, by name."""
        return {
            self.name(field, *place): shape for place in self.places for field, shape in self.shapes(place[0]).items()
        }

    def drawn(self, rng: Generator) -> dict[str, Any]:
        """What all params start as, by name: NumPy arrays."""
        return {
            self.name(field, *place): self._initial(field, shape, rng)
            for place in self.places
            for field, shape in self.shapes(place[0]).items()
        }

    def _initial(self, field: str, shape: tuple[int, ...], rng: Generator) -> Any:
        if field.removeprefix("start_") in self.start_sizes:
            return initial.zeros(shape)
        if field == "recurrent" and self.recurrent_init == "orthogonal":
            return initial.orthogonal_blocks(rng, shape, self.hidden_size)
        bound = 1 / self.hidden_size**0.5
        return rng.uniform(-bound, bound, shape)

    def by_field(self, layer: int, direction: int) -> list[tuple[str, str]]:
        """One direction's params: fields and names."""
        return self._fields_by_place[layer, direction]

    def of_direction(self, params: Mapping[str, Array], layer: int, direction: int) -> dict[str, Array]:
        """One direction's params, by field."""
        return {field: params[name] for field, name in self._fields_by_place[layer, direction]}

    @cached_property
    def _fields_by_place(self) -> dict[tuple[int, int], list[tuple[str, str]]]:
        return {place: [(field, self.name(field, *place)) for field in self.shapes(place[0])] for place in self.places}

    def weights(self, params: Mapping[str, Array], layer: int, direction: int) -> Weights:
        """One direction's params as a scan is given them."""
        fields, pointwise = self._weights_by_place[layer, direction]
        return Weights(
            **{field: params[name] for field, name in fields},
            pointwise={field: params[name] for field, name in pointwise},
        )

    @cached_property
    def _weights_by_place(self) -> dict[tuple[int, int], tuple[list[tuple[str, str]], list[tuple[str, str]]]]:
        """The params that are weights: fields and names of those that all cells have, and of the cell's own."""
        found = {}
        for place, own in self._fields_by_place.items():
            names = dict(own)
            found[place] = (
                [(field, name) for field, name in own if field in NAMES],
                [(field, names[field]) for field in self.cell.pointwise],
            )
        return found

    def values(self, weights: Weights) -> dict[str, Array]:
        """The inverse of `weights`."""
        values = {field: getattr(weights, field) for field in NAMES}
        return {field: value for field, value in values.items() if value is not None} | dict(weights.pointwise)

    def fill_gate(
        self, params: MutableMapping[str, Array], field: str, gates: tuple[str, ...], gate: str, value: float
    ) -> None:
        """Set one gate's block of a bias, (gates * H,) or (gates, H), to a value, in all layers and directions."""
        for place in self.places:
            name = self.name(field, *place)
            blocks = namespace_of(params[name]).reshape(params[name], (len(gates), self.hidden_size))
            xp, device = namespace_of(blocks), device_of(blocks)
            chosen = xp.asarray([[other == gate] for other in gates], device=device)
            params[name] = xp.reshape(xp.where(chosen, xp.full_like(blocks, value), blocks), params[name].shape)
