"""Formulas of each number by itself, run by the engine: see `recurray.backend.Backend.elementwise`."""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from ctypes import addressof
from typing import Any

import numpy as np

from recurray.elementwise import Arrays, Formula
from recurray.program import record_formula
from recurray_native import library, threads
from recurray_native.arguments import FLOATS
from recurray_native.program import Kind, Slot, Translation
from recurray_native.structures import POINTER_CODE, CElementwise, address, program_of
from recurray_numpy.elementwise import new_results

LEAST = 32_768  # numbers that are worth a further thread


class NativeElementwise:
    """A formula as a program of the vector machine, run for all sets of arrays in one call."""

    def __init__(self, level: str, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> None:
        program = record_formula(formula, arrays, numbers)
        written = tuple(program.outputs)
        read = tuple(name for name in arrays if name not in written)
        places = {name: k for k, name in enumerate((*read, *written))}
        inputs = {f"numbers.{name}": Slot(Kind.UNIT, k) for k, name in enumerate(numbers)}
        inputs |= {f"arrays.{name}": _slot(places[name], name in written) for name in arrays}
        outputs = [(operand, _slot(places[name], name in arrays)) for name, operand in program.outputs.items()]
        code = Translation(program, inputs, outputs, params=len(numbers), gates={}).code
        self._level, self._read, self._written, self._names = library.number(level), read, written, tuple(numbers)
        self._constants = code.constants
        found, self._kept = program_of(code)
        self._task = CElementwise(
            arrays=len(places), given=len(read), numbers=len(numbers) + len(code.constants), program=found
        )

    def __call__(
        self, numbers: Mapping[str, float], given: Sequence[Arrays], out: Sequence[Arrays] | None = None
    ) -> Sequence[Arrays]:
        """Run it; see `recurray.elementwise.Elementwise`."""
        if out is None:
            out = [new_results(own, self._written) for own in given]
            given = [{name: np.asarray(own[name], order="C") for name in self._read} for own in given]
        addresses = array(POINTER_CODE)
        sizes = array("q")
        for own, results in zip(given, out, strict=True):
            if not results[self._written[0]].size:  # which has no address
                continue
            addresses.extend([address(own[name]) for name in self._read])
            addresses.extend([address(results[name]) for name in self._written])
            sizes.append(results[self._written[0]].size)
        values = array("d", [*(numbers[name] for name in self._names), *self._constants])
        task = CElementwise.from_buffer_copy(self._task)
        task.sets, task.size = len(sizes), sizes.buffer_info()[0]
        task.array, task.number = addresses.buffer_info()[0], values.buffer_info()[0]
        worth = sum(sizes) // LEAST
        task.threads = min(threads.get_num_threads(), worth) if worth > 1 else 1
        dtype: Any = out[0][self._written[0]].dtype
        library.library().recurray_elementwise(self._level, dtype == FLOATS[1], addressof(task))
        return out


def _slot(place: int, in_place: bool) -> Slot:
    return Slot(Kind.STATE if in_place else Kind.PACKED, place)
