"""Running a recorded program with NumPy, value by value."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from recurray.arrays import sigmoid
from recurray.program import MEAN, Constant, Program, Value

FUNCTIONS = {"logistic": sigmoid, "abs": np.abs, MEAN: lambda a: np.mean(a, axis=-1, keepdims=True) + 0 * a}


def computed(value: Value, known: Mapping[int, Any]) -> Any:
    """Return a value from those that are known; a mean stands there for each unit."""
    operands = (operand.number if isinstance(operand, Constant) else known[operand] for operand in value.operands)
    return FUNCTIONS.get(value.operation, getattr(np, value.operation, None))(*operands)


def run(program: Program, inputs: Mapping[str, Any], order: Iterable[int] | None = None) -> dict[int, Any]:
    """Return the values in ``order``, by default all."""
    known: dict[int, Any] = {}
    for k in range(len(program.values)) if order is None else order:
        value = program.values[k]
        known[k] = inputs[value.name] if value.operation == "input" else computed(value, known)
    return known


def evaluate(program: Program, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the outputs by name."""
    known = run(program, inputs)
    return {name: o.number if isinstance(o, Constant) else known[o] for name, o in program.outputs.items()}
