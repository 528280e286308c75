"""Checks of what a scan is given, before an address of it is taken.

The engine reads and writes memory as far as the sizes say, so each array must be of the size and type that the others
imply. What is asked of each is little, as a call with one step takes but some microseconds.

T time, B batch, N valid rows of all steps, I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from recurray.cells.cell import Draws, Weights

if TYPE_CHECKING:
    from recurray_native.compiled import Compiled

FLOATS = (np.dtype("float32"), np.dtype("float64"))
PROJECTED = "the cell computes with the output before, element by element, which is projected to another size"
MOST_NUMBERS = 2**44  # in a step: times a cell's arrays and the bytes of a number that is still far from 2**63


def check_array(name: str, a: Any, shape: tuple[int, ...], dtype: Any) -> None:
    """Refuse what isn't an array of this shape and dtype.

    Raises
    ------
    TypeError
        It is no NumPy array, or of another dtype.
    ValueError
        It has another shape.
    """
    if type(a) is np.ndarray and a.shape == shape and a.dtype is dtype:
        return  # as nearly always
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array {shape}, not {type(a).__name__}")
    if a.dtype != dtype:
        raise TypeError(f"{name} must be {dtype}, as x is, not {a.dtype}")
    if a.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, not {a.shape}")


def check_input(x: Any) -> None:
    """Refuse an x that isn't (T, B, I) of float32 or float64."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x must be a NumPy array (time, batch, features), not {type(x).__name__}")
    if x.dtype not in FLOATS:
        raise TypeError(f"x must be float32 or float64, not {x.dtype}")
    if x.ndim != 3:
        raise ValueError(f"x must have the shape (time, batch, features), not {x.shape}")


def check_weights(ready: Compiled, weights: Weights, features: int, batch: int, dtype: Any) -> tuple[int, int]:
    """Refuse weights that aren't a cell's for ``features`` features and a batch of so many rows.

    Returns
    -------
    H, R : int
        The sizes that they are for.
    """
    inputs, recurrents, projection = len(ready.input_places), len(ready.recurrent_places), weights.projection
    size = _rows_of("weights.input", weights.input) // inputs
    outputs = size if projection is None else _rows_of("weights.projection", projection)
    if min(features, size, outputs) < 1:
        raise ValueError(
            f"the sizes of input, hidden units and output must be at least 1, not {features}, {size} and {outputs}"
        )
    check_array("weights.input", weights.input, (inputs * size, features), dtype)
    if weights.input_bias is not None:
        rows = (batch,) if is_by_row(weights.input_bias) else ()
        check_array("weights.input_bias", weights.input_bias, (*rows, inputs * size), dtype)
    if recurrents:
        check_array("weights.recurrent", weights.recurrent, (recurrents * size, outputs), dtype)
        if weights.recurrent_bias is not None:
            check_array("weights.recurrent_bias", weights.recurrent_bias, (recurrents * size,), dtype)
    elif weights.recurrent is not None or weights.recurrent_bias is not None:
        raise ValueError(f"weights.recurrent and its bias must be None: {ready.cell!r} has no recurrent gates")
    if projection is not None:
        if ready.reads_output:
            raise ValueError(f"weights.projection must be None: {PROJECTED}")
        check_array("weights.projection", projection, (outputs, size), dtype)
    if weights.pointwise.keys() != ready.pointwise.keys():
        raise ValueError(f"weights.pointwise must have {list(ready.pointwise)}, not {list(weights.pointwise)}")
    for name, count in ready.pointwise.items():
        check_array(f"weights.pointwise[{name!r}]", weights.pointwise[name], (count, size), dtype)
    return size, outputs


def is_by_row(bias: Any) -> bool:
    """Whether each row of the batch has a bias of its own."""
    return getattr(bias, "ndim", 1) == 2


def check_states(name: str, states: Any, ready: Compiled, batch: int, size: int, outputs: int, dtype: Any) -> None:
    """Refuse states that aren't (B, R) and then (B, H) each."""
    if len(states) != ready.states:
        raise ValueError(
            f"{name} must be {ready.states} arrays, one for each of {ready.cell.states}, not {len(states)}"
        )
    for k, value in enumerate(states):
        check_array(f"{name}[{k}]", value, (batch, size if k else outputs), dtype)


def draws_in_order(ready: Compiled, draws: Draws | None, shape: tuple[int, ...], dtype: Any) -> list[Any]:
    """Return a cell's draws in the order in which it names them: all arrays (T, B, H), or all the mean of one.

    Raises
    ------
    ValueError, TypeError
        There are others, or they are of another kind.
    """
    if not draws and not ready.draws:
        return []
    if (draws or {}).keys() != set(ready.draws):
        raise ValueError(f"draws must be {list(ready.draws)}, those of {ready.cell!r}, not {list(draws or ())}")
    found = [draws[name] for name in ready.draws] if draws else []
    if not all(isinstance(value, float) for value in found):
        for name, value in zip(ready.draws, found, strict=True):
            check_array(f"draws[{name!r}]", value, shape, dtype)
    return found


def check_work_space(batch: int, width: int) -> None:
    """Refuse rows that are beyond all memory, so that no number of bytes wraps around.

    Raises
    ------
    MemoryError
        There are too many, or they are too wide.
    """
    if batch * width > MOST_NUMBERS:
        raise MemoryError(f"a batch of {batch} rows of {width} numbers is too large to work on")


def _rows_of(name: str, a: Any) -> int:
    if type(a) is np.ndarray and a.ndim == 2:
        return len(a)
    if not isinstance(a, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array, not {type(a).__name__}")
    if a.ndim != 2:
        raise ValueError(f"{name} must have two dimensions, not the shape {a.shape}")
    return len(a)
