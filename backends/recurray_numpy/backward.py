"""The scan backward, in chunks of steps that stay in the processor's cache.

T time, B batch, S steps of a run, n its rows, I input, H hidden units, R size of the output. Buffers are as in
`recurray_numpy.forward`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray_numpy import prepared as weights_in_order
from recurray_numpy.backward_loops import Backward
from recurray_numpy.buffers import empty
from recurray_numpy.calls import Kind, quietly
from recurray_numpy.forward import work_space
from recurray_numpy.names import name_of
from recurray_numpy.prepared import Prepared
from recurray_numpy.products import Products
from recurray_numpy.runs import Run


def run_backward(
    code: Backward,
    prepared: Prepared,
    mask: Any,
    arrays: dict[str, Any],
    dy: Any,
    dstate: dict[str, Any],
    run: Run,
    weights: dict[str, Any],
    chunk: int,
    products: Products,
    totals: dict[tuple[str, str], Any],
    *,
    vector: bool,
) -> None:
    """Run backward over dy (S, R, n): add to ``products`` and ``totals``, and bring ``dstate`` to before the run."""
    states, size, rows, dtype = prepared.cell.states, prepared.size, run.rows, dy.dtype
    columns = () if vector else (rows,)
    carried = {name_of("d", name): np.array(dstate[name][:, :rows].reshape(-1, *columns), order="C") for name in states}
    shared = carried | weights | weights_in_order.pointwise(prepared, rows, vector=vector)
    if mask is not None:
        shared["output_mask"] = np.array(mask[:, :rows].reshape(-1, *columns), order="C")
    shared |= work_space(code.loop.work, (), size, columns, dtype)
    shared |= {"doutput": np.empty((size, *columns), dtype), "direct": np.empty((dy.shape[1], *columns), dtype)}
    ones = np.ones(rows, dtype)  # a product with them is the fastest sum over the rows
    work = _work_space(code, prepared, min(chunk, run.steps), dy.shape[1], columns, dtype)

    for first in reversed(range(0, run.steps, chunk)):  # chunks are cut from a run's start, wherever it is cut
        last = min(run.steps, first + chunk)
        here = slice(last - first)
        work["dy"][here] = dy[first:last].reshape(work["dy"][here].shape)
        with quietly():
            for part in (code.ahead, code.loop, code.after):
                part.run(dtype, arrays | shared, work, slice(first, last), descending=True)
        of_steps = {name: array[first:last] for name, array in arrays.items()} | {
            name: work[name][here] for name in ("dgates", "dprojected")
        }
        products.add(run, slice(first, last), of_steps)
        for place, name in code.sums.items():
            terms = arrays[name][first:last] if name in arrays else work[name][here]
            totals[place] += np.matmul(terms.reshape(last - first, size, rows), ones).sum(axis=0)
    for name in states:
        dstate[name][:, :rows] = carried[name_of("d", name)].reshape(-1, rows)


def _kinds_of_chunk(code: Backward) -> dict[str, Kind]:
    """The work space for a chunk of steps, gates' gradients apart: arrays by name, and their kinds."""
    return code.ahead.work_of_steps | code.loop.work_of_steps | code.after.work_of_steps


def numbers(code: Backward, prepared: Prepared, output: int) -> int:
    """How many numbers of work space a step of a row takes."""
    return (len(_kinds_of_chunk(code)) + len(prepared.gates.all)) * prepared.size + output


def _work_space(
    code: Backward, prepared: Prepared, chunk: int, output: int, columns: tuple[int, ...], dtype: Any
) -> dict[str, Any]:
    """Make the arrays that backward works in, for a chunk of steps."""
    gates, size = prepared.gates, prepared.size
    work = work_space(_kinds_of_chunk(code), (chunk,), size, columns, dtype)
    work |= {name: empty((chunk, output, *columns), dtype) for name in ("dy", "dprojected")}
    dgates = work["dgates"] = empty((chunk, len(gates.all) * size, *columns), dtype)
    work |= {name: dgates[:, k * size : (k + 1) * size] for k, name in enumerate(gates.gradient_names)}
    hoisted, of_output = len(gates.hoisted) * size, len(gates.of_output) * size
    return work | {"dstepwise": dgates[:, hoisted : hoisted + of_output], "dinner": dgates[:, hoisted + of_output :]}
