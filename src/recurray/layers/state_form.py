"""The form of a recurrent layer's state, as users see it and as its scans want it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.cells.cell import named
from recurray.layers import array_checks
from recurray.lazy import cached_property
from recurray.state import State


@dataclass(frozen=True)
class StateForm:
    """Which arrays a layer carries, and how large they are.

    Attributes
    ----------
    sizes : dict of str to int
        The cell's states and the units of each.
    count : int
        Layers times directions.
    """

    sizes: dict[str, int]
    count: int
    backend: Backend
    dtype: str

    @cached_property
    def kind(self) -> Any:
        """The named tuple that the state comes in: `State`, or one with further fields where the cell has them."""
        return State if set(self.sizes) <= set(State._fields) else named(tuple(self.sizes))

    def __reduce__(self) -> Any:  # for copies too; without the type, which pickle can't find by its name
        return StateForm, (self.sizes, self.count, self.backend, self.dtype)

    def split(self, name: str, state: Any, batch: int, *, optional: bool = False) -> list[tuple[Array, ...]]:
        """Check a state, or a gradient of one; return by layer and direction what the cell carries, (B, size) each.

        Where ``optional``, the state or any of its arrays may be None for zeros.
        """
        kind = self.kind
        if state is None and optional:
            zeros = {size: self.backend.zeros((batch, size), self.dtype) for size in set(self.sizes.values())}
            return [tuple([zeros[size] for size in self.sizes.values()])] * self.count
        if not isinstance(state, kind):
            expected = "recurray.State" if kind is State else f"layer.state_type with the fields {kind._fields}"
            way_out = f"; this layer's is State({', '.join(self.sizes)})" if type(state) in (tuple, list) else ""
            raise TypeError(f"{name} must be a {expected} or None, not {type(state).__name__}{way_out}")
        arrays = []
        for field in kind._fields:
            value, label = getattr(state, field), f"{name}.{field}"
            if field not in self.sizes:
                if value is not None:
                    raise ValueError(f"{label} must be None: this layer has no state {field!r}")
                continue
            size = self.sizes[field]
            if value is None and not optional:
                raise TypeError(f"{label} must be an array, not None: this layer carries {', '.join(self.sizes)}")
            if value is None:
                arrays.append([self.backend.zeros((batch, size), self.dtype)] * self.count)
            else:
                value = array_checks.floats(self.backend, self.dtype, label, value, (self.count, batch, size))
                arrays.append([value[place, ...] for place in range(self.count)])
        return list(zip(*arrays, strict=True))

    def join(self, places: list[tuple[Array, ...]]) -> Any:
        """The inverse of `split`."""
        stacked = self.backend.stacked
        return self.kind(*[stacked(values) for values in zip(*places, strict=True)])
