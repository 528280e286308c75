"""What a kernel may be written for: sizes and a layout, which are then constants."""

from __future__ import annotations

from dataclasses import dataclass

from recurray_cupy.persistent.layout import Layout

# The arguments of these kernels besides those of every kernel: the layout, and
#   skip           the step that has no product, -1 if there is none
INTEGERS = ("block_units", "block_rows", "slices", "chunk", "buffers", "resident", "area", "skip")


@dataclass(frozen=True)
class Plan:
    """What a kernel may be written for: a layout, and what it was laid out for."""

    batch: int
    units: int
    layout: Layout

    @property
    def constants(self) -> dict[str, int]:
        """By the names of the arguments in whose place they are."""
        of_layout = {name: getattr(self.layout, name) for name in INTEGERS if name != "skip"}
        return {"batch": self.batch, "units": self.units, **of_layout}
