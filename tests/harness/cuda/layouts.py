"""Layouts of the recurrence that no rule would choose: of small problems in several blocks."""

from __future__ import annotations

from dataclasses import replace

from recurray_cupy.library import Device
from recurray_cupy.persistent.layout import _laid_out

H200 = Device(multiprocessors=132, shared=232_448)
LARGE = Device(multiprocessors=100, shared=10**6)


class Forced:
    """In place of `layout_for`: a layout of a size class, backward with its units or, for the tile's sake, its own."""

    def __init__(self, size_class):
        self.units, self.batch, *self.layout = size_class

    def __call__(self, work, device, *, resident, holding=False):
        block_units, block_rows, tile, threads, chunk, chunks, *more = self.layout
        groups = -(-work.units // block_units), -(-work.batch // block_rows)
        device = Device(multiprocessors=100, shared=10**6, threads=threads)
        found = _laid_out(work, device, block_units, block_rows, groups, tile)
        assert found is not None
        if chunk:  # there is room enough
            found = replace(found, chunk=chunk, area=found.area + 10**4, shared=found.shared + 2 * 10**5)
        found = found if chunks is None else replace(found, resident=chunks * chunk)
        buffers, held = more or (1, 0)
        most = found.chunk // found.slices if found.chunk % found.slices else found.resident // found.slices
        return replace(found, buffers=buffers, held=min(held, most))
