"""From a layer's params to another library's arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.layouts.layout import BIASES, Layout, Part
from recurray.layouts.reading import Arrays, Blocks

KNOWN = {"input", "recurrent", *BIASES, "projection", "peephole"}  # what there are blocks of


def arrays_of(
    layout: Layout, values: Mapping[str, NDArray[Any]], gates: tuple[str, ...], added: Mapping[str, float]
) -> Arrays:
    """The arrays of one direction of one layer, whose params these are, by field."""
    unknown = sorted(set(values) - KNOWN)
    if unknown:
        raise ValueError(f"{layout.name} has no place for {', '.join(unknown)}")
    blocks = _blocks(values, gates)
    _fold_biases(layout, blocks, gates, added)
    for field, gate in blocks:
        if not layout.has(field, gate):
            raise ValueError(f"{layout.name} has no place for the {field} of gate {gate!r}")
        if gate in layout.negated:
            blocks[field, gate] = -blocks[field, gate]
    found = {}
    for part in layout.parts:
        if part.fields == ("projection",):
            if "projection" in values:
                array = values["projection"]
                found[part.name] = np.array(array if part.form == "rows" else array.T, order="C")
        elif not part.optional or any((field, gate) in blocks for field in part.fields for gate in part.gates):
            found[part.name] = np.array(_laid_out(part, blocks), order="C")
    if "projection" in values and not any(part.fields == ("projection",) for part in layout.parts):
        raise ValueError(f"{layout.name} has no place for a projection: proj_size must be 0")
    return found


def _blocks(values: Mapping[str, NDArray[Any]], gates: tuple[str, ...]) -> Blocks:
    hidden = len(values["input"]) // len(gates)
    blocks: Blocks = {}
    for field in ("input", "recurrent", *BIASES):
        if field in values:
            for gate, block in zip(gates, values[field].reshape(len(gates), hidden, -1), strict=True):
                blocks[field, gate] = block
    if "peephole" in values:
        rows = (gate for gate in gates if gate != "g")
        for gate, row in zip(rows, values["peephole"], strict=True):
            blocks["peephole", gate] = row[:, np.newaxis]
    return blocks


def _fold_biases(layout: Layout, blocks: Blocks, gates: tuple[str, ...], added: Mapping[str, float]) -> None:
    """Take off what the library adds by itself, and join both biases of a gate where it has one."""
    like = blocks["recurrent", gates[0]]
    for gate, value in added.items():
        if value:
            before = blocks.get(("input_bias", gate), np.zeros((len(like), 1), like.dtype))
            blocks["input_bias", gate] = before - before.dtype.type(value)
    for gate in gates:
        places = [field for field in BIASES if layout.has(field, gate)]
        if len(places) != 1:
            continue
        (place,), other = places, next(field for field in BIASES if field not in places)
        moved = blocks.pop((other, gate), None)
        if moved is None:
            continue
        within_reset = layout.kind == "GRU" and layout.options.get("reset_after") and gate == "n"
        if within_reset and moved.any():
            raise ValueError(
                f"{layout.name} has no {other} of gate 'n', which the reset gate tells from the other bias: it isn't 0"
            )
        blocks[place, gate] = blocks[place, gate] + moved if (place, gate) in blocks else moved


def _laid_out(part: Part, blocks: Blocks) -> NDArray[Any]:
    hidden, dtype = next((len(block), block.dtype) for block in blocks.values())
    zeros = np.zeros((hidden, 1), dtype)
    widths = {field: next((b.shape[1] for (f, _), b in blocks.items() if f == field), 1) for field in part.fields}
    rows = [
        np.concatenate(
            [np.broadcast_to(blocks.get((field, gate), zeros), (hidden, widths[field])) for field in part.fields],
            axis=1,
        )
        for gate in part.gates
    ]
    if part.form == "rows":
        return np.concatenate(rows)
    if part.form == "columns":
        return np.concatenate(rows).T
    if part.form == "flat":
        return np.concatenate(rows).T.reshape(-1)
    if part.form == "cudnn":
        rows = [np.array(row, order="C").reshape(row.shape[::-1]) for row in rows]
    return np.concatenate(rows, axis=1)
