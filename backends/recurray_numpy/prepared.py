"""A cell's weights in the order and form that the loops want.

I input, H hidden units, R size of the output. Params may be changed in place, so what is kept for several calls is to
be filled again at each.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import groupby
from typing import Any

import numpy as np

from recurray.cells.cell import Cell, Weights
from recurray_numpy.buffers import copied, empty
from recurray_numpy.calls import Bound, carry_out, negation
from recurray_numpy.gate_order import Gates
from recurray_numpy.names import param_name

PREPARE_FROM = 24  # steps of a single row, at least, for which its recurrent weights are prepared, and
PER_STEP = 256  # numbers that they have, at most, for each of the steps


def as_they_lie_for(steps: int, weights: Weights) -> bool:
    """Whether a single row uses the recurrent weights as they lie: a prepared copy would save less than it takes."""
    count = 0 if weights.recurrent is None else weights.recurrent.size
    return steps < max(PREPARE_FROM, count / PER_STEP)


@dataclass(frozen=True)
class Prepared:
    """The weights of a cell, by gate."""

    cell: Cell
    gates: Gates
    weights: Weights
    as_they_lie: bool = False  # whether the recurrent weights are used so: see `as_they_lie_for`

    @property
    def size(self) -> int:
        """H."""
        return len(self.weights.input) // len(self.cell.input_gates)

    @property
    def features(self) -> int:
        """I."""
        return int(self.weights.input.shape[1])

    @property
    def bias_by_row(self) -> bool:
        """Whether each row of a batch has a bias of its own; a single row's is as one for all."""
        bias = self.weights.input_bias
        return bias is not None and bias.ndim == 2 and len(bias) != 1

    def of_input(self, gates: tuple[str, ...]) -> Any:
        """The weights of the product with the input, (gates * H, I)."""
        return rows_of(self.weights.input, self.cell.input_gates, gates)

    def of_output(self, gates: tuple[str, ...]) -> Any:
        """The weights of the product with the output before, (gates * H, R), or of the one amid the step."""
        return rows_of(self.weights.recurrent, self.cell.recurrent_gates, gates)

    def biases(self, *, x: bool = False, h: bool = False) -> list[tuple[Any, tuple[str, ...]]]:
        """The biases of the product with the input, or of a recurrent one, with the gates they have; none by row."""
        weights = self.weights
        given = [(weights.input_bias, self.cell.input_gates)] if x and not self.bias_by_row else []
        given += [(weights.recurrent_bias, self.cell.recurrent_gates)] if h else []
        return [(bias.reshape(-1), gates) for bias, gates in given if bias is not None]


class InOrder:
    """The weights that forward reads.

    Attributes
    ----------
    arrays : dict of str to array
        By their names in the loops and in `recurray_numpy.forward`: the weights' own memory where they are used as they
        lie.
    calls : list of function
        What fills the other arrays, with the weights as they are by then.
    """

    def __init__(self, prepared: Prepared, *, vector: bool) -> None:
        self._prepared, self.calls = prepared, list[Bound]()
        cell, gates, weights = prepared.cell, prepared.gates, prepared.weights
        self.arrays: dict[str, Any] = self._for_vector() if vector else self._for_batch()
        if gates.inner:
            w, b = self._rows(weights.recurrent, cell.recurrent_gates, gates.inner), self._bias(gates.inner, h=True)
            b = np.zeros(len(w), w.dtype) if b is None else b
            self.arrays |= {"w_inner": w.T, "b_inner": b} if vector else {"w_inner": w, "b_inner": b[:, None]}
        if weights.projection is not None:
            self.arrays["w_projection"] = weights.projection.T if vector else weights.projection

    def filled(self) -> dict[str, Any]:
        """Fill the arrays, and return them."""
        carry_out(self.calls)
        return self.arrays

    def _for_batch(self) -> dict[str, Any]:
        gates = self._prepared.gates
        return {
            "w_hoisted": self._joined(gates.hoisted, x=True),
            "w_merged": self._joined(gates.merged, x=True, h=True),
            "w_apart": self._joined(gates.apart, h=True),
        }

    def _for_vector(self) -> dict[str, Any]:
        prepared, weights, gates = self._prepared, self._prepared.weights, self._prepared.gates
        have, have_of_output = prepared.cell.input_gates, prepared.cell.recurrent_gates
        arrays = {"b_apart": self._bias(gates.apart, h=True)}
        for block, members, h in (("hoisted", gates.hoisted, False), ("merged", gates.merged, True)):
            if members:
                arrays[f"w_{block}"] = self._rows(weights.input, have, members).T
                arrays[f"b_{block}"] = self._bias(members, x=True, h=h)
        if gates.of_output and prepared.as_they_lie:
            arrays["w_hidden"] = self._rows(weights.recurrent, have_of_output, gates.of_output).T
        elif gates.of_output:  # BLAS is a fifth faster so
            recurrent: Any = weights.recurrent
            arrays["w_hidden"] = empty((recurrent.shape[1], len(gates.of_output) * prepared.size), recurrent.dtype)
            self._put([(recurrent, have_of_output)], gates.of_output, arrays["w_hidden"].T)
        return arrays

    def _rows(self, array: Any, have: tuple[str, ...], gates: tuple[str, ...]) -> Any:
        """The rows of some gates, with their own signs."""
        return rows_of(array, have, gates, self.calls)

    def _bias(self, gates: tuple[str, ...], *, x: bool = False, h: bool = False) -> Any:
        """The biases of the product with the input, or of a recurrent one, or their sum, (gates * H,); or None."""
        found = [self._rows(bias, have, gates) for bias, have in self._prepared.biases(x=x, h=h)] if gates else []
        if len(found) < 2:
            return found[0] if found else None
        total = np.empty_like(found[0])
        self.calls.append(partial(np.add, *found, total))
        return total

    def _joined(self, gates: tuple[str, ...], *, x: bool = False, h: bool = False) -> Any:
        """The weights for [x; 1; h], for [x; 1] or for [1; h], the biases in the column of the 1."""
        prepared, weights, cell = self._prepared, self._prepared.weights, self._prepared.cell
        if not gates:
            return None
        one = prepared.features if x else 0
        output = weights.recurrent.shape[1] if h and weights.recurrent is not None else 0
        result = empty((len(gates) * prepared.size, one + 1 + output), weights.input.dtype)
        biases = prepared.biases(x=x, h=h)
        if biases:
            self._put(biases, gates, result[:, one])
        else:
            result[:, one] = 0
        if x:
            self._put([(weights.input, cell.input_gates)], gates, result[:, :one])
        if output:
            self._put([(weights.recurrent, cell.recurrent_gates)], gates, result[:, one + 1 :])
        return result

    def _put(self, arrays: list[tuple[Any, tuple[str, ...]]], gates: tuple[str, ...], into: Any) -> None:
        """Put the rows of some gates, or the sums of two arrays' rows, into an array, for logistic gates negated."""
        logistic = self._prepared.gates.logistic
        for here, there, negated in _blocks(gates, tuple([have for _, have in arrays]), self._prepared.size, logistic):
            target = into[here]
            first, *others = [array[place] for (array, _), place in zip(arrays, there, strict=True)]
            if others:
                self.calls.append(partial(np.add, first, *others, target))
                first = target
            elif not negated:
                self.calls.append(partial(np.copyto, target, first))
            if negated:
                self.calls.append(negation(first, target))


def in_order(prepared: Prepared, *, vector: bool) -> InOrder:
    """Return the weights that forward reads; a frozen layer's are filled, for all calls together."""

    def once() -> InOrder:
        found = InOrder(prepared, vector=vector)
        found.filled()
        found.calls = []
        return found

    if prepared.weights.kept is None:
        return InOrder(prepared, vector=vector)
    found: InOrder = prepared.weights.once((InOrder, prepared.gates, prepared.as_they_lie, vector), once)
    return found


def biases_by_row(prepared: Prepared, bias: Any) -> dict[str, Any]:
    """The biases that rows have of their own, (input gates * H, B), by their names in the loops."""
    gates, have = prepared.gates, prepared.cell.input_gates
    merged = rows_of(bias, have, gates.merged).copy()
    merged[gates.rows(gates.logistic, prepared.size)] *= -1
    return {"bias_hoisted": rows_of(bias, have, gates.hoisted), "bias_merged": merged}


def for_backward(prepared: Prepared, *, vector: bool) -> dict[str, Any]:
    """The weights that backward's loop reads: those that gradients go back through."""
    gates = prepared.gates
    arrays = {
        "w_hidden": prepared.of_output(gates.of_output) if gates.of_output else None,
        "w_inner": prepared.of_output(gates.inner) if gates.inner else None,
        "w_projection": prepared.weights.projection,
    }
    if vector:
        return arrays
    return {name: None if a is None else copied(a.T) for name, a in arrays.items()}


def pointwise(prepared: Prepared, rows: int, *, vector: bool, calls: list[Bound] | None = None) -> dict[str, Any]:
    """The rows of the cell's own params: (H, rows), as a (H, 1) would take twice the time, or (H,) for one row.

    What fills those of a batch is put into ``calls``, if that is given.
    """
    given = {
        param_name(name, row): prepared.weights.pointwise[name][k]
        for name, row_names in prepared.cell.pointwise.items()
        for k, row in enumerate(row_names)
    }
    if vector:
        return given
    arrays = {name: empty((len(row), rows), row.dtype) for name, row in given.items()}
    _now_or_later([partial(np.copyto, arrays[name], row[:, None]) for name, row in given.items()], calls)
    return arrays


def rows_of(array: Any, gates: tuple[str, ...], wanted: tuple[str, ...], calls: list[Bound] | None = None) -> Any:
    """The rows of some gates: the array's own where they stand there in that order, else a copy.

    What fills the copy is put into ``calls``, if that is given.
    """
    if array is None:
        return None
    size = len(array) // len(gates)
    blocks = _blocks(wanted, (gates,), size)
    if len(blocks) < 2:
        return array[blocks[0][1][0] if blocks else slice(0)]
    result = empty((len(wanted) * size, *array.shape[1:]), array.dtype)
    _now_or_later([partial(np.copyto, result[here], array[there]) for here, (there,), _ in blocks], calls)
    return result


def _now_or_later(fill: list[Bound], calls: list[Bound] | None) -> None:
    if calls is None:
        carry_out(fill)
    else:
        calls += fill


@lru_cache(maxsize=1024)
def _blocks(
    wanted: tuple[str, ...], haves: tuple[tuple[str, ...], ...], size: int, apart: tuple[str, ...] = ()
) -> list[tuple[slice, list[slice], bool]]:
    """Cut gates into blocks that stand side by side in all of ``haves`` too, those of ``apart`` in their own.

    Returns of each its rows, here and there, and whether it is of ``apart``.

    Examples
    --------
    >>> for block in _blocks(("i", "f", "o", "g"), (("i", "f", "g", "o"),), 5, ("i", "f", "o")):
    ...     print(block)
    (slice(0, 10, None), [slice(0, 10, None)], True)
    (slice(10, 15, None), [slice(15, 20, None)], True)
    (slice(15, 20, None), [slice(10, 15, None)], False)
    """
    result = []
    moved = [([have.index(gate) - k for have in haves], gate in apart) for k, gate in enumerate(wanted)]
    for (by, is_apart), block in groupby(range(len(wanted)), moved.__getitem__):
        first, *others = block
        stop = others[-1] + 1 if others else first + 1
        there = [slice((first + k) * size, (stop + k) * size) for k in by]
        result.append((slice(first * size, stop * size), there, is_apart))
    return result
