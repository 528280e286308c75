"""A single step of a single row, as streaming takes it: a function that is written with all its arrays in place.

The calls into NumPy are those of the loop; what goes is everything around it, which for one step takes ten times as
long. Weights are used as they lie, so that they can be changed in place between steps.

I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from types import CodeType
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.buffers import memory_of
from recurray_numpy.calls import FUNCTIONS, Array, Call, bounds
from recurray_numpy.forward import work_space
from recurray_numpy.forward_loop import Forward, forward_loop
from recurray_numpy.gate_order import order_of
from recurray_numpy.names import name_of, of_cell
from recurray_numpy.prepared import Prepared, in_order, pointwise

Step = Callable[[Any, tuple[Any, ...], tuple[Any, ...]], None]


def step_of(cell: Cell, weights: Weights) -> Step:
    """Write the function for a cell with its weights.

    Returns
    -------
    function of ``x``, ``before`` and ``after``
        ``x`` is an array (I,), the others are tuples of arrays (size,), one for each of the cell's states; those of
        ``after`` are filled. All are contiguous. The function has work space of its own: two threads can't run it at
        once.

    Raises
    ------
    RecordingError
        The cell's step can't be recorded.
    """
    order = order_of(cell)
    prepared = Prepared(cell, order.row_gates, weights, as_they_lie=True)
    code = forward_loop(
        order, training=False, vector=True, as_they_lie=True, projected=weights.projection is not None, masked=False
    )
    own, dtype = in_order(prepared, vector=True), weights.input.dtype
    fill = {f"fill_weights{k}": call for k, call in enumerate(own.calls)}
    names: dict[str, Any] = FUNCTIONS | own.arrays | pointwise(prepared, 1, vector=True) | fill
    names |= _others(prepared, code) | code.ahead.numbers(dtype) | code.loop.numbers(dtype)
    exec(_compiled_text(_text(prepared, code, own.arrays, fill)), names)  # noqa: S102 - our own text
    step: Step = names["step"]
    return step


@lru_cache(maxsize=64)
def _compiled_text(text: str) -> CodeType:
    return compile(text, "<written for a recorded cell>", "exec")


def _text(prepared: Prepared, code: Forward, weights: dict[str, Any], fill: Iterable[str]) -> str:
    """The function as Python text."""
    gates, states = prepared.gates, prepared.cell.states
    before = [of_cell("before", state) for state in states]
    after = [of_cell("after", state) if state == "h" else of_cell("state", state, timed=False) for state in states]
    calls, in_loop = list[Call](), list(code.loop.calls)
    for old, new in zip(before[1:], after[1:], strict=True):
        reading = _reading(in_loop, new, old)
        calls += [] if reading else [Call("copyto", (old,), new)]
        in_loop = reading or in_loop
    for block, members in (("merged", gates.merged), ("hoisted", gates.hoisted)):
        if not members:
            continue
        to = Array(f"from_{block}")
        calls.append(Call("dot", (Array("x"), Array(f"w_{block}")), to))
        if weights[f"b_{block}"] is not None:
            calls.append(Call("add", (to, Array(f"b_{block}")), to))
    if gates.apart and weights["b_apart"] is not None:  # without one it stays zero
        calls.append(Call("copyto", (Array("b_apart"),), Array("from_apart")))
    lines = [f"{', '.join(array.name for array in before)}, = before"]
    lines += [f"{', '.join(array.name for array in after)}, = after", *(f"{name}()" for name in fill)]
    lines += map(str, [*calls, *code.ahead.calls, *in_loop])
    return "\n".join(["def step(x, before, after):", *(f"    {line}" for line in lines)])


def _reading(calls: Sequence[Call], state: Array, before: Array) -> list[Call] | None:
    """Let calls read ``before`` in the place of ``state``, up to the first that writes the state: it needn't be copied.

    None where a call writes a part of the state alone.
    """
    result = []
    for k, each in enumerate(calls):
        if each.out == state and each.where is not None:
            return None
        operands = tuple(before if operand == state else operand for operand in each.operands)
        result.append(each._replace(operands=operands))
        if each.out == state:
            return [*result, *calls[k + 1 :]]
    return None


def _others(prepared: Prepared, code: Forward) -> dict[str, Any]:
    """The other arrays in the text."""
    gates, size, dtype = prepared.gates, prepared.size, prepared.weights.input.dtype
    merged = len(gates.merged) * size
    stepwise, hoisted = np.empty(len(gates.of_output) * size, dtype), np.empty(len(gates.hoisted) * size, dtype)
    inner, from_input = np.empty(len(gates.inner) * size, dtype), np.zeros_like(stepwise)
    arrays = {
        **{name_of("x", draw): np.asarray(mean, dtype) for draw, mean in prepared.cell.draws.items()},
        "from_input": from_input,
        "from_merged": from_input[:merged],
        "from_apart": from_input[merged:],
        "from_hoisted": hoisted,
        **bounds(len(gates.logistic_block) * size, dtype),
        **{name: np.empty(size, dtype) for name in gates.aside.values()},
        "inner": inner,
        "inner_operand": np.empty(size, dtype),
        "output": np.empty(size, dtype),
    }
    arrays |= gates.blocks_of(hoisted, stepwise, inner, size, columns=0)
    arrays |= code.joint.arrays((), size, (), dtype)
    return arrays | work_space(code.ahead.work_of_steps | code.loop.work, (), size, (), dtype)


class StackStep:
    """A plan for one step of one row, one function a layer; see `recurray.backend.Plan`.

    Parameters
    ----------
    cell : Cell
    weights : sequence of Weights
        Of each layer.
    """

    def __init__(self, cell: Cell, weights: Sequence[Weights]) -> None:
        self.cell, self.dtype = cell, weights[0].input.dtype
        size, projection = len(weights[0].input) // len(cell.input_gates), weights[0].projection
        output = size if projection is None else len(projection)
        self.shapes = [(len(weights), 1, output if state == "h" else size) for state in cell.states]
        self.zeros = tuple(np.zeros(shape, self.dtype) for shape in self.shapes)
        self.bind(weights)
        used = [{**step.__globals__, "__builtins__": None} for step in self.steps]
        self.nbytes = memory_of([vars(self), used], weights)

    def bind(self, weights: Sequence[Weights]) -> None:
        """Write the functions for the weights, which are read where they are."""
        self.steps = [step_of(self.cell, own) for own in weights]

    def __call__(self, x: Any, before: tuple[Any, ...] | None) -> tuple[Any, tuple[Any, ...]]:
        """Take the step."""
        before = self.zeros if before is None else before
        after = tuple([np.empty(shape, self.dtype) for shape in self.shapes])
        row = np.ascontiguousarray(x[0, 0])
        for layer, step in enumerate(self.steps):
            now = tuple([array[layer, 0] for array in after])
            step(row, tuple([np.ascontiguousarray(array[layer, 0]) for array in before]), now)
            row = now[0]
        return after[0][-1:].copy(), after
