"""Formulas, number by number, as NumPy's calls on a block at a time; see `recurray.backend.Backend.elementwise`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurray.elementwise import Arrays, Formula
from recurray.program import record_formula
from recurray_numpy.calls import FLAG, FLOATS, Array, Code, Kind
from recurray_numpy.lower import Goals, Lowering, targets_of

BLOCK = 256 * 1024  # bytes of an array: blocks of all that a step reads and writes fit the second-level cache together


class NumpyElementwise:
    """A formula as a function of arrays that are there already, in a loop over blocks."""

    def __init__(self, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> None:
        program = record_formula(formula, arrays, numbers)
        places = {k: Array(f"a_{name}") for name, k in program.inputs_of("arrays").items()}
        places |= {k: Array(f"n_{name}", timed=False) for name, k in program.inputs_of("numbers").items()}
        goals: Goals = [(operand, Array(f"a_{name}")) for name, operand in program.outputs.items()]
        targets, copies = targets_of(goals)
        needed = program.needed(program.outputs.values())
        lowering = Lowering(program, "t", places, vector=True)
        order = [k for k in program.computed() if k in needed]
        lowering.lower(order, targets=targets, reusable=set(targets.values()) & set(places.values()))
        lowering.copy(copies)
        self._code, self._results = Code(lowering.calls, is_loop=True), tuple(program.outputs)
        self._work: dict[Any, dict[str, Any]] = {}

    def __call__(
        self, numbers: Mapping[str, float], given: Sequence[Arrays], out: Sequence[Arrays] | None = None
    ) -> Sequence[Arrays]:
        """Run it; see `recurray.elementwise.Elementwise`. What overflows does so in silence."""
        if out is None:
            out = [new_results(own, self._results) for own in given]
        with np.errstate(all="ignore"):
            for own, results in zip(given, out, strict=True):
                arrays = {f"a_{name}": array.reshape(-1) for name, array in {**own, **results}.items()}
                first = next(iter(arrays.values()))
                dtype, size, block = first.dtype, first.size, BLOCK // first.itemsize
                shared = {f"n_{name}": np.asarray(number, dtype) for name, number in numbers.items()}
                whole = size // block * block
                for begin, end, width in ((0, whole, block), (whole, size, size - whole)):
                    if begin < end:
                        blocks = {name: array[begin:end].reshape(-1, width) for name, array in arrays.items()}
                        work = {name: made[:width] for name, made in self._work_of(dtype, block).items()}
                        self._code.run(dtype, shared | work | blocks, {}, slice(None))
        return out

    def _work_of(self, dtype: Any, size: int) -> dict[str, Any]:
        """The work space for a block."""
        if dtype not in self._work:
            self._work[dtype] = {name: _made(kind, size, dtype) for name, kind in self._code.work.items()}
        return self._work[dtype]


def new_results(given: Arrays, names: Sequence[str]) -> dict[str, Any]:
    """Return arrays for results: copies of the given ones that they are written over, in C order."""
    like = next(iter(given.values()))
    return {
        name: np.array(given[name], order="C") if name in given else np.empty(like.shape, like.dtype) for name in names
    }


def _made(kind: Kind, size: int, dtype: Any) -> Any:
    if kind == FLAG:
        return np.empty(size, bool)
    return np.empty(size, dtype) if kind == FLOATS else np.full(size, kind, dtype)
