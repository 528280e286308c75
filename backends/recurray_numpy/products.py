"""The gradients that are products over all steps: of the weights, and of the input.

The steps stand side by side as columns, a block of them at a time, so that BLAS multiplies large matrices and yet
memory doesn't grow with the number of steps. Where a block ends depends on the batch and the sizes alone: the sums
come out the same to the last bit whether forward was kept or computed again in parts.

n rows of a run, I input, H hidden units, R size of the output; N columns of a block.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray_numpy.buffers import copied, empty
from recurray_numpy.forward import by_row
from recurray_numpy.prepared import Prepared, rows_of
from recurray_numpy.runs import Run, Runs

COLUMNS = 2048  # of a block, or as many as are added at a time


class Products:
    """Collects steps from the last to the first, and multiplies them block by block.

    Parameters
    ----------
    prepared : Prepared
    runs : Runs
    dx : array, (T, B, I)
        Where the gradient of the input goes.
    most : int
        The most steps of a run that are added at a time.
    """

    def __init__(self, prepared: Prepared, runs: Runs, dx: Any, *, most: int) -> None:
        self.prepared = prepared
        self.runs = runs
        self.dx = dx
        weights, gates, size = prepared.weights, prepared.gates, prepared.size
        output = 0 if weights.recurrent is None or not gates.of_output else weights.recurrent.shape[1]
        features = {"dgates": len(gates.all) * size, "operand": prepared.features + 1 + output}
        if gates.inner:
            features["inner_operand"] = size
        if weights.projection is not None:
            features |= {"dprojected": len(weights.projection), "output": size}
        self._capacity = min(
            max(COLUMNS, most * max((run.rows for run in runs), default=0)), sum(run.steps * run.rows for run in runs)
        )
        self._blocks = {name: self._block(count) for name, count in features.items()}  # (features, N)
        self._filled = 0  # how many of the columns
        self._pieces: list[tuple[Run, slice, slice]] = []  # what is in them: a run, its steps, the columns
        self._weights = prepared.of_input(gates.of_input)
        self._sums: dict[str, Any] = {}
        # of the input's gates, where each row of the batch has a bias of its own; in double
        self._by_row = np.zeros((len(gates.of_input) * size, dx.shape[1])) if prepared.bias_by_row else None

    def add(self, run: Run, steps: slice, arrays: dict[str, Any]) -> None:
        """Add steps of a run, in the order of the loop.

        Parameters
        ----------
        run : Run
        steps : slice
            Which of the run's steps.
        arrays : dict of str to array
            (steps, features, n), or (steps, features) for a single row: "dgates", the gradients of the gates;
            "operand", what their products are with, [x; 1; h]; "inner_operand", the like for the inner gates; and where
            the output is projected "dprojected" and "output".
        """
        count = (steps.stop - steps.start) * run.rows
        if self._filled + count > self._capacity:
            self._multiply()
        columns = slice(self._filled, self._filled + count)
        for name, block in self._blocks.items():
            array = arrays[name][:, : len(block)]  # where nothing is multiplied with h, it is left out
            if self.runs.vector:
                block.T[columns] = array
            else:
                block[:, columns].reshape(len(block), -1, run.rows)[...] = array.transpose(1, 0, 2)
        if self._by_row is not None:
            self._by_row[:, : run.rows] += arrays["dgates"][:, : len(self._by_row)].sum(axis=0)
        self._filled += count
        self._pieces.append((run, steps, columns))

    def gradients(self) -> dict[str, Any]:
        """Return the gradients of the weights, by field of `Weights`, of all steps that were added."""
        if self._filled or not self._sums:
            self._multiply()
        cell, gates, weights = self.prepared.cell, self.prepared.gates, self.prepared.weights
        features, sums = self.prepared.features, self._sums
        dinput = sums["input"]
        grads = {"input": rows_of(dinput[:, :features], gates.of_input, cell.input_gates)}
        if self._by_row is not None:
            dbias = by_row(self._by_row.astype(self.dx.dtype), self.runs)
            grads["input_bias"] = rows_of(dbias.T, gates.of_input, cell.input_gates).T
        elif weights.input_bias is not None:
            dbias = rows_of(dinput[:, features], gates.of_input, cell.input_gates)
            grads["input_bias"] = dbias.reshape(weights.input_bias.shape)
        if cell.recurrent_gates:
            blocks = [sums[name] for name in ("recurrent", "inner") if name in sums]
            drecurrent = blocks[0] if len(blocks) == 1 else np.concatenate(blocks)
            have = gates.of_output + gates.inner
            grads["recurrent"] = rows_of(drecurrent[:, 1:], have, cell.recurrent_gates)
            if weights.recurrent_bias is not None:
                grads["recurrent_bias"] = rows_of(drecurrent[:, 0], have, cell.recurrent_gates)
        if "projection" in sums:
            grads["projection"] = sums["projection"]
        return {name: grad if grad.flags.c_contiguous else copied(grad) for name, grad in grads.items()}

    def _multiply(self) -> None:
        """Multiply the columns that are there, add to the sums, and make room."""
        gates, size, features = self.prepared.gates, self.prepared.size, self.prepared.features
        full = {name: block[:, : self._filled] for name, block in self._blocks.items()}
        first, middle = len(gates.hoisted) * size, len(gates.of_input) * size
        last = first + len(gates.of_output) * size
        dgates, operand = full["dgates"], full["operand"]
        self._sum("input", dgates[:middle], operand[: features + 1])
        if gates.of_output:
            self._sum("recurrent", dgates[first:last], operand[features:])
        if gates.inner:
            dinner = dgates[last:]
            self._add("inner", np.column_stack([dinner.sum(axis=1), np.matmul(dinner, full["inner_operand"].T)]))
        if "output" in full:
            self._sum("projection", full["dprojected"], full["output"])

        dx = empty((self._filled, features), self.dx.dtype)
        np.matmul(dgates[:middle].T, self._weights, out=dx)
        for run, steps, columns in self._pieces:
            self.runs.write(self.dx, run, dx[columns].reshape(-1, run.rows, features).transpose(0, 2, 1), steps)
        self._filled = 0
        self._pieces.clear()

    def _sum(self, name: str, da: Any, operand: Any) -> None:
        """Add to the gradient of a weight the product da (rows, N) with operand (columns, N)."""
        multiply = np.dot if da.shape[1] == 1 else np.matmul  # of vectors matmul makes a loop of its own, without BLAS
        self._add(name, multiply(da, operand.T, out=empty((len(da), len(operand)), da.dtype)))

    def _add(self, name: str, product: Any) -> None:
        if name in self._sums:
            self._sums[name] += product
        else:
            self._sums[name] = product

    def _block(self, features: int) -> Any:
        dtype = self.dx.dtype
        if self.runs.vector:  # one row's steps come as (steps, features): then that is how they stand in memory
            return empty((self._capacity, features), dtype).T
        return empty((features, self._capacity), dtype)
