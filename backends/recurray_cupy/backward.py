"""The scan backward: as `recurray_cupy.forward`, with the weights' gradients as single products after the loop.

T time, B batch, I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from typing import Any

from recurray.cells.cell import Cell, Weights
from recurray_cupy.backward_step import params_of
from recurray_cupy.compiled import Compiled, compiled
from recurray_cupy.expressions import identifier
from recurray_cupy.forward import ScanCache
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library
from recurray_cupy.prepared import joined
from recurray_cupy.products import Products
from recurray_cupy.recurrence_launch import run_recurrence


def backward(
    library: Library, cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...], *, stage: str = "fused"
) -> tuple[Any, tuple[Any, ...], Weights]:
    """Backward through time; see `recurray.scan.backward`, and `recurray_cupy.stages` for the stage."""
    xp, texts, prepared = library.xp, compiled(cell), cache.prepared
    arrays = _arrays(xp, texts, cache, dy, dend)
    if cache.x.shape[0] and cache.x.shape[1]:
        if stage == "fused":
            _run(library, texts, cache, arrays)
        else:
            _run_whole(library, texts, cache, arrays, persistent=stage == "persistent")
    products = Products(library, cache.small)
    dx = xp.empty((cache.x.shape[0] * cache.x.shape[1], cache.x.shape[2]), dtype=cache.x.dtype)
    products.plain(products.operand(arrays["dx_gates"]), products.operand(prepared.input), out=dx)
    dx = dx.reshape(cache.x.shape)
    dstart = {name: arrays[f"d_{identifier(name)}"] for name in cell.states}
    if cell.outer_gates:
        through, mask = arrays["product"], arrays["mask"]
        dstart["h"] = dstart["h"] + (through if mask is None else through * mask)
    return dx, tuple(dstart.values()), _weight_gradients(xp, products, cell, cache, arrays)


def _arrays(xp: Any, texts: Compiled, cache: ScanCache, dy: Any, dend: tuple[Any, ...]) -> dict[str, Any]:
    """Make the arrays that the kernels read and write; see `recurray_cupy.backward_step`."""
    cell, size, dtype = texts.cell, cache.prepared.size, cache.x.dtype
    steps, batch, _ = cache.x.shape
    output = cache.arrays["state_h"].shape[2]
    projected = cache.prepared.projection is not None
    launches = texts.backward(projected=projected)

    def empty(*shape: int) -> Any:
        return xp.empty(shape, dtype=dtype)

    arrays = cache.prepared.arrays | cache.arrays
    for name, value in zip(cell.states, dend, strict=True):  # copies, in which the kernels write
        arrays[f"d_{identifier(name)}"] = xp.array(value, dtype=dtype, order="C")
    arrays |= {
        "dy": xp.ascontiguousarray(dy, dtype=dtype),
        "dx_gates": empty(steps * batch, len(cell.input_gates) * size),
        "product": xp.zeros((batch, output), dtype=dtype) if cell.outer_gates else None,
        "dinner_gates": empty(steps * batch, len(cell.inner_gates) * size) if cell.inner_gates else None,
        "dinner": empty(batch, size) if cell.inner_gates else None,
        "dprojected": empty(steps, batch, output) if projected else None,
        "doutput": empty(batch, size) if projected else None,
        "dparams": xp.zeros((len(params_of(cell)), batch, size), dtype=dtype),
        "work": empty(launches.work, batch, size),
        "work_rows": empty(launches.work_rows, batch),
    }
    if texts.shares_gradients:
        arrays["dh_gates"] = arrays["dx_gates"]
    else:
        arrays["dh_gates"] = empty(steps * batch, len(cell.outer_gates) * size) if cell.outer_gates else None
    return arrays


def _run(library: Library, texts: Compiled, cache: ScanCache, arrays: dict[str, Any]) -> None:
    """Run the loop."""
    cell, prepared, reverse = texts.cell, cache.prepared, cache.reverse
    steps, batch, _ = cache.x.shape
    projection, dprojected = prepared.projection, arrays["dprojected"]
    products = Products(library, cache.small)
    outer, inner, onto = (
        None if a is None else products.operand(a) for a in (prepared.outer, prepared.inner, projection)
    )
    options: dict[str, Any] = {"dtype": str(cache.x.dtype), "batch": batch, "reverse": reverse}
    launch = [
        Launcher(library, kernel, arrays, units=prepared.size, **options)
        for kernel in texts.backward(projected=projection is not None).kernels
    ]
    last = 0 if reverse else steps - 1
    if not (cell.recurrent_gates or projection is not None):  # nothing in a step waits for another unit's gradient
        launch[0](last, steps)
        return
    gather = None
    if projection is not None:
        gather = Launcher(library, texts.gather, arrays, units=dprojected.shape[2], **options)
    for t in range(steps) if reverse else reversed(range(steps)):
        here = slice(t * batch, (t + 1) * batch)
        if gather is not None:
            gather(t)
            products.plain(products.operand(dprojected[t]), onto, out=arrays["doutput"])
        launch[0](t)
        if inner is not None:
            products.plain(products.operand(arrays["dinner_gates"][here]), inner, out=arrays["dinner"])
            if arrays["mask"] is not None:
                library.xp.multiply(arrays["dinner"], arrays["mask"], out=arrays["dinner"])
            launch[1](t)
        if outer is not None:
            products.plain(products.operand(arrays["dh_gates"][here]), outer, out=arrays["product"])


def _run_whole(
    library: Library, texts: Compiled, cache: ScanCache, arrays: dict[str, Any], *, persistent: bool
) -> None:
    """Run the loop by kernels that make the product themselves: that of a step is made ahead of the one before it."""
    prepared, reverse = cache.prepared, cache.reverse
    steps, batch, _ = cache.x.shape
    last = 0 if reverse else steps - 1
    run_recurrence(
        library,
        texts.recurrence(keep=None, small=cache.small),
        arrays | {"weight": prepared.outer},
        persistent=persistent,
        dtype=str(cache.x.dtype),
        batch=batch,
        units=prepared.size,
        reverse=reverse,
        start=last,
        steps=steps,
        skip=last,
    )
    t = steps - 1 if reverse else 0
    products, gates = Products(library, cache.small), arrays["dh_gates"][t * batch : (t + 1) * batch]
    products.plain(products.operand(gates), products.operand(prepared.outer), out=arrays["product"])


def _weight_gradients(xp: Any, products: Products, cell: Cell, cache: ScanCache, arrays: dict[str, Any]) -> Weights:
    """The weights' gradients, each a single product or sum over all T * B rows."""
    weights, size, reverse = cache.weights, cache.prepared.size, cache.reverse
    steps, batch, features = cache.x.shape
    count = steps * batch
    dx_gates = arrays["dx_gates"]
    dinput_bias: Any = None if weights.input_bias is None else dx_gates.sum(axis=0)

    recurrent, recurrent_bias = [], []  # by part of the gates
    if cell.outer_gates:
        h = arrays["state_h"][reverse : steps + reverse]  # before each step
        if arrays["mask"] is not None:
            h = h * arrays["mask"]
        dgates = arrays["dh_gates"]
        recurrent.append((cell.outer_gates, products.of_transposed(dgates, h.reshape(count, h.shape[2]))))
        if weights.recurrent_bias is not None:
            shared = dgates is dx_gates and dinput_bias is not None
            recurrent_bias.append((cell.outer_gates, dinput_bias.copy() if shared else dgates.sum(axis=0)))
    if cell.inner_gates:
        dgates = arrays["dinner_gates"]
        recurrent.append((cell.inner_gates, products.of_transposed(dgates, arrays["inner"].reshape(count, size))))
        if weights.recurrent_bias is not None:
            recurrent_bias.append((cell.inner_gates, dgates.sum(axis=0)))

    dprojection = None
    if weights.projection is not None:
        dprojected = arrays["dprojected"].reshape(count, weights.projection.shape[0])
        dprojection = products.of_transposed(dprojected, arrays["output"].reshape(count, size))
    dparams = arrays["dparams"].sum(axis=1)  # over the batch
    pointwise, first = {}, 0
    for name, rows in cell.pointwise.items():
        pointwise[name] = dparams[first : first + len(rows)]
        first += len(rows)
    return Weights(
        input=products.of_transposed(dx_gates, cache.x.reshape(count, features)),
        input_bias=dinput_bias,
        recurrent=joined(xp, cell.recurrent_gates, recurrent) if recurrent else None,
        recurrent_bias=joined(xp, cell.recurrent_gates, recurrent_bias) if recurrent_bias else None,
        projection=dprojection,
        pointwise=pointwise,
    )
