"""The scan backward: as `recurray_cupy.forward`, with the weights' gradients as single products after the loop.

T time, B batch, I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from typing import Any

from recurray.arrays import sum_over_rows
from recurray.cells.cell import Cell, Weights
from recurray.scan import bias_gradient, check_dy
from recurray_cupy.backward_step import params_of
from recurray_cupy.compiled import Compiled, Way, compiled
from recurray_cupy.forward import Scan, ScanCache
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library, dtype_name
from recurray_cupy.products import Products, joined
from recurray_cupy.step import identifier
from recurray_cupy.strategies import FUSED, WHOLE


def backward(
    library: Library, cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...], *, strategy: str = FUSED
) -> tuple[Any, tuple[Any, ...], Weights]:
    """Backward through time; see `recurray.scan.backward`, and `recurray_cupy.strategies` for the strategy."""
    xp, code, (steps, batch, features) = library.xp, compiled(cell), cache.x.shape
    check_dy(dy, (steps, batch, cache.arrays["state_h"].shape[2]))
    arrays, products = _arrays(xp, code, cache, dy, dend), Products(library, cache.rounded_to)
    scan = Scan(library, code, cache.prepared, products, arrays, cache.reverse, True, strategy)
    if batch and steps:
        run = _step_by_step if strategy == FUSED else _whole
        run(scan, steps, {"dtype": dtype_name(cache.x.dtype), "batch": batch, "reverse": cache.reverse})

    dx = xp.empty(cache.x.shape, dtype=cache.x.dtype)
    weight = products.operand(cache.prepared.input)
    products.plain(products.operand(arrays["dx_gates"]), weight, out=dx.reshape(steps * batch, features))
    dstart = {name: arrays[f"d_{identifier(name)}"] for name in cell.states}
    if cell.outer_gates:
        through, mask = arrays["product"], arrays["mask"]
        dstart["h"] = dstart["h"] + (through if mask is None else through * mask)
    return dx, tuple(dstart.values()), _weight_gradients(xp, products, cell, cache, arrays)


def _step_by_step(scan: Scan, steps: int, options: dict[str, Any]) -> None:
    """Run all steps, whose products are the library's."""
    library, code, products, arrays = scan.library, scan.code, scan.products, scan.arrays
    batch, mask = options["batch"], arrays["mask"]
    outer, inner, projection = scan.operands()
    kernels = code.backward(projected=projection is not None).kernels
    launch = [Launcher(library, each, arrays, units=scan.prepared.size, **options) for each in kernels]
    if outer is None and inner is None and projection is None:  # no step waits for another unit's gradient
        launch[0](0 if scan.reverse else steps - 1, steps)
        return
    gather = of_projected = of_inner = of_outer = None
    if projection is not None:
        gather = Launcher(library, code.gather, arrays, units=arrays["dprojected"].shape[2], **options)
        of_projected = products.each_step(arrays["dprojected"], projection, arrays["doutput"])
    if inner is not None:
        of_inner = products.each_step(arrays["dinner_gates"].reshape(steps, batch, -1), inner, arrays["dinner"])
    if outer is not None:
        of_outer = products.each_step(arrays["dh_gates"].reshape(steps, batch, -1), outer, arrays["product"])
    for t in range(steps) if scan.reverse else reversed(range(steps)):
        if gather is not None and of_projected is not None:
            gather(t)
            of_projected(t, 0)
        launch[0](t)
        if of_inner is not None:
            of_inner(t, 0)
            if mask is not None:
                library.xp.multiply(arrays["dinner"], mask, out=arrays["dinner"])
            launch[1](t)
        if of_outer is not None:
            of_outer(t, 0)


def _whole(scan: Scan, steps: int, options: dict[str, Any]) -> None:
    """Run all steps by kernels that make the product themselves: that of a step is made ahead of the one before it."""
    products, outer, batch, last = scan.products, scan.prepared.outer, options["batch"], steps - 1
    WHOLE[scan.strategy].run(
        scan.library,
        scan.code.cell,
        scan.arrays | {"weight": outer},
        way=Way.BACKWARD,
        rounded_to=products.rounded_to,
        units=scan.prepared.size,
        start=0 if scan.reverse else last,
        steps=steps,
        skip=0 if scan.reverse else last,
        **options,
    )
    t = last if scan.reverse else 0  # the last of the loop, after which no step makes its product
    gates = products.operand(scan.arrays["dh_gates"][t * batch : (t + 1) * batch])
    products.plain(gates, products.operand(outer), out=scan.arrays["product"])


def _arrays(xp: Any, code: Compiled, cache: ScanCache, dy: Any, dend: tuple[Any, ...]) -> dict[str, Any]:
    """Make the arrays that the kernels read and write; see `recurray_cupy.backward_step`."""
    cell, size, dtype = code.cell, cache.prepared.size, cache.x.dtype
    steps, batch, _ = cache.x.shape
    output = cache.arrays["state_h"].shape[2]
    projected = cache.prepared.projection is not None
    launches = code.backward(projected=projected)

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
    if code.shares_gradients:
        arrays["dh_gates"] = arrays["dx_gates"]
    else:
        arrays["dh_gates"] = empty(steps * batch, len(cell.outer_gates) * size) if cell.outer_gates else None
    return arrays


def _weight_gradients(xp: Any, products: Products, cell: Cell, cache: ScanCache, arrays: dict[str, Any]) -> Weights:
    """The weights' gradients, each a single product or sum over all T * B rows."""
    weights, size, reverse = cache.weights, cache.prepared.size, cache.reverse
    steps, batch, features = cache.x.shape
    count = steps * batch
    dx_gates = arrays["dx_gates"]
    bias = weights.input_bias
    dinput_bias: Any = None if bias is None else bias_gradient(bias, dx_gates, steps)

    recurrent, recurrent_bias = [], []  # by part of the gates
    if cell.outer_gates:
        h = arrays["state_h"][reverse : steps + reverse]  # before each step
        if arrays["mask"] is not None:
            h = h * arrays["mask"]
        dgates = arrays["dh_gates"]
        recurrent.append((cell.outer_gates, products.of_transposed(dgates, h.reshape(count, h.shape[2]))))
        if weights.recurrent_bias is not None:
            shared = dgates is dx_gates and bias is not None and bias.ndim == 1
            recurrent_bias.append((cell.outer_gates, dinput_bias.copy() if shared else sum_over_rows(dgates)))
    if cell.inner_gates:
        dgates = arrays["dinner_gates"]
        recurrent.append((cell.inner_gates, products.of_transposed(dgates, arrays["inner"].reshape(count, size))))
        if weights.recurrent_bias is not None:
            recurrent_bias.append((cell.inner_gates, sum_over_rows(dgates)))

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
