"""The scan backward: as `recurray_cupy.forward`, with the weights' gradients as single products after the loop.

T time, B batch, I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from typing import Any

from recurray.cells.cell import Cell, Weights
from recurray.scan import check_dy
from recurray_cupy.backward_step import params_of
from recurray_cupy.compiled import Compiled, Way, compiled
from recurray_cupy.forward import Scan, ScanCache
from recurray_cupy.launcher import Launcher
from recurray_cupy.library import Library, dtype_name
from recurray_cupy.products import BITS, Products, add_up_rows, joined
from recurray_cupy.strategies import FUSED, WHOLE


def backward(
    library: Library, cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...], *, strategy: str = FUSED
) -> tuple[Any, tuple[Any, ...], Weights]:
    """Backward through time; see `recurray.scan.backward`, and `recurray_cupy.strategies` for the strategy."""
    code, (steps, batch, features) = compiled(cell), cache.x.shape
    check_dy(dy, (steps, batch, cache.arrays["state_h"].shape[2]))
    arrays, products = _arrays(library, code, cache, dy, dend, strategy), Products(library, cache.rounded_to)
    scan = Scan(library, code, cache.prepared, products, arrays, cache.reverse, True, strategy)
    outer, inner, projection = scan.operands()
    some = bool(batch and steps)
    if some:
        options = {"dtype": dtype_name(cache.x.dtype), "batch": batch, "reverse": cache.reverse}
        if strategy == FUSED:
            _step_by_step(scan, outer, inner, projection, steps, options)
        else:
            _whole(scan, steps, options)
    dh, dx_gates = arrays["dh_bits"], arrays["dx_gates"]
    if dh is None and code.outer_gates:
        dh = products.operand(arrays["dh_gates"])
    if some and code.outer_gates:
        _product_of_the_last(scan, steps - 1 if cache.reverse else 0, dh, outer)
    dx_operand = dh if code.shares_gradients else products.operand(dx_gates)

    dx = library.empty(cache.x.dtype, cache.x.shape)
    products.plain(dx_operand, products.weight(cache.prepared, "input"), out=dx.reshape(steps * batch, features))
    dstart = tuple([library.array(arrays[place]) for place in code.gradients.values()])
    return dx, dstart, _weight_gradients(scan, cache, dx_operand, dh)


def _step_by_step(scan: Scan, outer: Any, inner: Any, projection: Any, steps: int, options: dict[str, Any]) -> None:
    """Run all steps, whose products are the library's, with the weights as operands."""
    library, code, products, arrays = scan.library, scan.code, scan.products, scan.arrays
    batch, ready = options["batch"], bool(products.rounded_to)
    kernels = code.backward(projected=projection is not None, rounded_to=products.rounded_to).kernels
    launch = [Launcher(library, each, arrays, units=scan.prepared.size, **options) for each in kernels]
    if outer is None and inner is None and projection is None:  # no step waits for another unit's gradient
        launch[0](0 if scan.reverse else steps - 1, steps)
        return

    def by_step(gates: str) -> Any:
        return arrays[gates].reshape(steps, batch, arrays[gates].shape[1])

    gather = of_projected = of_inner = of_outer = None
    if projection is not None:
        kernel = code.gather(products.rounded_to)
        gather = Launcher(library, kernel, arrays, units=arrays["dprojected"].shape[2], **options)
        of_projected = products.each_step(arrays["dprojected"], projection, arrays["doutput"], ready=ready)
    if inner is not None:
        gates = by_step("dinner_bits" if ready else "dinner_gates")
        of_inner = products.each_step(gates, inner, arrays["dinner"], ready=ready)
    if outer is not None:
        gates = by_step("dh_bits" if ready else "dh_gates")
        of_outer = products.each_step(gates, outer, arrays["product"], ready=ready)
    last = steps - 1 if scan.reverse else 0
    for t in range(steps) if scan.reverse else reversed(range(steps)):
        if gather is not None and of_projected is not None:
            gather(t)
            of_projected(t, 0)
        launch[0](t)
        if of_inner is not None:
            of_inner(t, 0)
            launch[1](t)
        if of_outer is not None and t != last:
            of_outer(t, 0)


def _whole(scan: Scan, steps: int, options: dict[str, Any]) -> None:
    """Run all steps by kernels that make the product themselves: that of a step is made ahead of the one before it."""
    last = steps - 1
    WHOLE[scan.strategy].run(
        scan.library,
        scan.code,
        scan.arrays | {"weight": scan.prepared.outer},
        way=Way.BACKWARD,
        rounded_to=scan.products.rounded_to,
        once=scan.prepared.once,
        units=scan.prepared.size,
        start=0 if scan.reverse else last,
        steps=steps,
        skip=0 if scan.reverse else last,
        **options,
    )


def _product_of_the_last(scan: Scan, t: int, dh: Any, outer: Any) -> None:
    """Add to the gradient of the start state what comes to it through the product, by the last step of the loop."""
    library, arrays, products = scan.library, scan.arrays, scan.products
    batch, through = arrays["d_h"].shape[0], arrays["product"]
    gates = dh[t * batch : (t + 1) * batch]
    if arrays["mask"] is None:
        products.plain(gates, outer, out=arrays["d_h"], add=True)
        return
    products.plain(gates, outer, out=through)
    d_h = library.array(arrays["d_h"])
    library.xp.add(d_h, library.array(through) * arrays["mask"], out=d_h)


def _arrays(
    library: Library, code: Compiled, cache: ScanCache, dy: Any, dend: tuple[Any, ...], strategy: str
) -> dict[str, Any]:
    """Make the arrays that the kernels read and write; see `recurray_cupy.backward_step`."""
    size, dtype = cache.prepared.size, cache.x.dtype
    steps, batch, _ = cache.x.shape
    output, inner = cache.arrays["state_h"].shape[2], bool(code.inner_gates)
    projected = cache.prepared.projection is not None
    launches = code.backward(projected=projected)

    arrays = cache.prepared.arrays | cache.arrays
    gradients = dict(zip(code.gradients.values(), dend, strict=True))
    arrays |= library.parts(dtype, {place: value.shape for place, value in gradients.items()})
    for place, value in gradients.items():  # copies, in which the kernels write
        library.copy(arrays[place], value)
    shares = code.shares_gradients
    rounds = cache.rounded_to and strategy == FUSED  # operands that its kernels write
    zero = {
        "product": (batch, output) if code.outer_gates else None,
        "dparams": (len(params_of(code.cell)), batch, size) if code.params else None,
    }
    arrays |= library.parts(
        dtype,
        zero
        | {
            "dx_gates": (steps * batch, len(code.input_gates) * size),
            "dh_gates": (steps * batch, len(code.outer_gates) * size) if code.outer_gates and not shares else None,
            "dinner_gates": (steps * batch, len(code.inner_gates) * size) if inner else None,
            "dinner": (batch, size) if inner else None,
            "dprojected": (steps, batch, output) if projected and not rounds else None,
            "doutput": (batch, size) if projected else None,
            "work": (launches.work, batch, size) if launches.work else None,
            "work_rows": (launches.work_rows, batch) if launches.work_rows else None,
        },
    )
    if shares:
        arrays["dh_gates"] = arrays["dx_gates"]
    for name in zero:
        if arrays[name] is not None:
            library.fill_zero(arrays[name])
    arrays["dh_bits"] = library.part(BITS, arrays["dh_gates"].shape) if rounds and code.outer_gates else None
    arrays["dinner_bits"] = library.part(BITS, arrays["dinner_gates"].shape) if rounds and inner else None
    if rounds and projected:
        arrays["dprojected"] = library.part(BITS, (steps, batch, output))
    arrays["dy"] = library.xp.ascontiguousarray(dy, dtype=dtype)
    return arrays


def _weight_gradients(scan: Scan, cache: ScanCache, dx: Any, dh: Any) -> Weights:
    """The weights' gradients, each a single product or sum over all T * B rows.

    ``dx`` and ``dh`` are the gradients of the gates' parts as operands.
    """
    library, code, products, arrays, reverse = scan.library, scan.code, scan.products, scan.arrays, scan.reverse
    xp, weights, size = library.xp, cache.weights, cache.prepared.size
    steps, batch, features = cache.x.shape
    count = steps * batch
    dx_gates, bias, dinput_bias = arrays["dx_gates"], weights.input_bias, None
    if bias is not None:
        rows = dx_gates if bias.ndim == 1 else dx_gates.reshape(steps, batch * bias.shape[1])
        dinput_bias = add_up_rows(library, rows).reshape(*bias.shape)

    recurrent, recurrent_bias = [], []  # by part of the gates
    if code.outer_gates:
        h = arrays["state_h"][reverse : steps + reverse]  # before each step
        if arrays["mask"] is not None:
            h = library.array(h) * arrays["mask"]
        dgates = arrays["dh_gates"]
        recurrent.append((code.outer_gates, products.of_transposed(dh, h.reshape(count, h.shape[2]))))
        if weights.recurrent_bias is not None:
            shared = dgates is dx_gates and bias is not None and bias.ndim == 1
            own = library.copied(dinput_bias) if shared else add_up_rows(library, dgates)
            recurrent_bias.append((code.outer_gates, own))
    if code.inner_gates:
        dgates, operand = arrays["dinner_gates"], arrays["dinner_bits"]
        operand = products.operand(dgates) if operand is None else operand
        product = products.of_transposed(operand, arrays["inner"].reshape(count, size))
        recurrent.append((code.inner_gates, product))
        if weights.recurrent_bias is not None:
            recurrent_bias.append((code.inner_gates, add_up_rows(library, dgates)))

    dprojection = None
    if weights.projection is not None:
        dprojected = arrays["dprojected"].reshape(count, weights.projection.shape[0])  # an operand
        dprojection = products.of_transposed(dprojected, arrays["output"].reshape(count, size))
    pointwise, first = {}, 0
    if code.params:
        dparams = library.array(arrays["dparams"]).sum(axis=1)  # over the batch
        for name, own in code.cell.pointwise.items():
            pointwise[name] = dparams[first : first + len(own)]
            first += len(own)
    return Weights(
        input=products.of_transposed(dx, cache.x.reshape(count, features)),
        input_bias=dinput_bias,
        recurrent=joined(xp, code.recurrent_gates, recurrent) if recurrent else None,
        recurrent_bias=joined(xp, code.recurrent_gates, recurrent_bias) if recurrent_bias else None,
        projection=dprojection,
        pointwise=pointwise,
    )
