"""What a cell's methods must return."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from recurray.cells.cell import Cell, CellGradients, added


def checked_step(cell: Cell, x: Any, h: Any, before: Any, params: Any) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Run a cell's step and check that it returns two mappings, the first with the names of the states."""
    returned = cell.step(x, h, before, params)
    if not (isinstance(returned, tuple) and len(returned) == 2 and all(isinstance(a, Mapping) for a in returned)):
        kind = f"a tuple of {len(returned)}" if isinstance(returned, tuple) else type(returned).__name__
        raise TypeError(
            f"{type(cell).__name__}.step must return two dicts, of the states after it and of what backward reads, "
            f"not {kind}"
        )
    after, saved = returned
    check_names(cell, "step", "the states after it", after, cell.states)
    return after, saved


def checked_gradients(
    cell: Cell, d: Any, saved: Any, before: Any, params: Any, through_inner: Callable[[Mapping[str, Any]], Any]
) -> CellGradients:
    """Run a cell's backward, all of it, and check that the gradients have the names that the cell declares.

    ``through_inner`` takes the gradients of the inner gates' products back to what these are with.
    """
    grads = cell.step_backward(d, saved, before, params)
    _check_kind(cell, "step_backward", grads)
    if cell.inner_gates:
        own = [gate for gate in grads.h if gate in cell.inner_gates]
        check_names(cell, "step_backward", "gradients by recurrent gate", own, cell.inner_gates)
        more = cell.inner_backward(through_inner(grads.h), saved, before, params)
        _check_kind(cell, "inner_backward", more)
        grads = added(grads, more)
    check_names(cell, "step_backward", "gradients by input gate", grads.x, cell.input_gates)
    check_names(cell, "step_backward", "gradients by recurrent gate", grads.h, cell.recurrent_gates)
    check_names(cell, "step_backward", "gradients by state", grads.before, cell.states, some=True)
    check_names(cell, "step_backward", "gradients by param", grads.params, tuple(cell.pointwise))
    for name, row_names in cell.pointwise.items():
        check_names(cell, "step_backward", f"gradients by row of {name!r}", grads.params[name], row_names)
    return grads


def _check_kind(cell: Cell, method: str, grads: Any) -> None:
    if not isinstance(grads, CellGradients):
        raise TypeError(f"{type(cell).__name__}.{method} must return CellGradients, not {type(grads).__name__}")


def check_names(owner: Any, method: str, what: str, given: Any, names: tuple[str, ...], *, some: bool = False) -> None:
    """Check the names of what a method of ``owner`` has returned; where ``some``, they may be missing."""
    if set(given) - set(names) or (not some and set(names) - set(given)):
        raise ValueError(
            f"{type(owner).__name__}.{method} must return {what} with the names {list(names)}, not {list(given)}"
        )
