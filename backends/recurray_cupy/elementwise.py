"""Formulas, number by number, as a kernel; see `recurray.backend.Backend.elementwise`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from recurray.elementwise import Arrays, Formula, reference
from recurray.program import FLAGS, Program, record_formula
from recurray_cupy.kernel import ELEMENT_OF_GRID, INTEGERS, REALS, Argument, Kernel, operation, variable
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library, dtype_name
from recurray_cupy.step import identifier

MOST = 2**31 - 1  # numbers of an array that a kernel can count
LARGEST = {"float32": 3.4028234663852886e38, "float64": math.inf}


class KernelElementwise:
    """A formula as a kernel, launched for one set of arrays at a time; other dtypes go the reference's way."""

    def __init__(
        self, library: Library, xp: Any, device: Any, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]
    ) -> None:
        self._library, self._xp, self._device = library, xp, device
        self._reference = reference(formula, arrays, numbers)
        program = record_formula(formula, arrays, numbers)
        self._results, self._kernel = tuple(program.outputs), _kernel(program, arrays, numbers)

    def __call__(
        self, numbers: Mapping[str, float], given: Sequence[Arrays], out: Sequence[Arrays] | None = None
    ) -> Sequence[Arrays]:
        """Run it; see `recurray.elementwise.Elementwise`."""
        with self._device:
            return [self._results_of(numbers, own) for own in given]

    def _results_of(self, numbers: Mapping[str, float], arrays: Arrays) -> Arrays:
        like = next(iter(arrays.values()))
        dtype, xp = dtype_name(like.dtype), self._xp
        if dtype not in REALS or like.size > MOST:
            return self._reference(numbers, [arrays])[0]
        results = {name: xp.empty(like.shape, dtype=like.dtype) for name in self._results}
        if like.size:
            values = {
                _given(name): array if array.flags.c_contiguous else array.copy("C") for name, array in arrays.items()
            }
            values |= {_result(name): array for name, array in results.items()}
            values |= {_number(name): _within(number, LARGEST[dtype]) for name, number in numbers.items()}
            sizes: dict[str, Any] = {"dtype": dtype, "batch": 1, "units": like.size, "reverse": False}
            Launcher(self._library, self._kernel, values, **sizes)(0)
        return results


def _kernel(program: Program, arrays: Sequence[str], numbers: Sequence[str]) -> Kernel:
    """Write the kernel: a thread for each number."""
    words = {k: f"{_given(name)}[e]" for name, k in program.inputs_of("arrays").items()}
    words |= {k: _number(name) for name, k in program.inputs_of("numbers").items()}
    needed = program.needed(program.outputs.values())
    lines = [f"const real v{k} = {word};" for k, word in words.items() if k in needed]
    for k in program.computed():
        if k in needed:
            value = program.values[k]
            kind = "bool" if value.operation in FLAGS else "real"
            lines.append(f"const {kind} v{k} = {operation(value.operation, value.operands)};")
    for name, operand in program.outputs.items():
        lines.append(f"{_result(name)}[e] = {variable(operand)};")
    arguments = (
        *(Argument("const real*", _given(name)) for name in arrays),
        *(Argument("real*", _result(name)) for name in program.outputs),
        *(Argument("real", _number(name)) for name in numbers),
        *(Argument("int", name) for name in INTEGERS),
    )
    return Kernel("elementwise", (*ELEMENT_OF_GRID, *lines), arguments)


def _given(name: str) -> str:
    return f"a_{identifier(name)}"


def _result(name: str) -> str:
    return f"r_{identifier(name)}"


def _number(name: str) -> str:
    return f"n_{identifier(name)}"


def _within(number: float, largest: float) -> float:
    """A number as it is where larger ones are infinite; NaN stays NaN."""
    return math.copysign(math.inf, number) if abs(number) > largest else number
