"""The scan backward: as `recurray_cupy.forward`, with the weights' gradients as single products after the loop.

T time, B batch, I input, H hidden units, R size of the output.
"""

from __future__ import annotations

from typing import Any

from recurray.arrays import sum_over_rows
from recurray.cells.cell import Cell, Weights
from recurray.scan import check_dy
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
    scan = ScanBackward(library, cell, cache, dy, dend, stage=stage)
    scan.run(0, cache.x.shape[0])
    return scan.result()


class ScanBackward:
    """A scan backward, whose steps are run part by part.

    Parameters
    ----------
    library : Library
    cell, cache, dend
        See `recurray.scan.backward`.
    dy : array, (T, B, R)
        A step's part has to be there when it is run, if it is contiguous; else all of it.
    stage : str
        See `recurray_cupy.stages`; not "reference".

    Attributes
    ----------
    dx : array, (T, B, I)
        The input's gradient, of the steps that have been run.
    """

    def __init__(
        self, library: Library, cell: Cell, cache: ScanCache, dy: Any, dend: tuple[Any, ...], *, stage: str = "fused"
    ) -> None:
        check_dy(dy, (*cache.x.shape[:2], cache.arrays["state_h"].shape[2]))
        self._library, self._texts, self._cache, self._stage = library, compiled(cell), cache, stage
        self._products, prepared = Products(library, cache.small), cache.prepared
        self._arrays = _arrays(library.xp, self._texts, cache, dy, dend)
        self._input = self._products.operand(prepared.input)
        self._outer, self._inner, self._projection = (
            None if a is None or stage != "fused" else self._products.operand(a)
            for a in (prepared.outer, prepared.inner, prepared.projection)
        )
        self.dx = library.xp.empty(cache.x.shape, dtype=cache.x.dtype)

    def run(self, low: int, high: int) -> None:
        """Run the steps from ``low`` to ``high``, which come next in the order of backward's loop."""
        products, arrays, (_, batch, features) = self._products, self._arrays, self._cache.x.shape
        if batch and high > low:
            run = self._step_by_step if self._stage == "fused" else self._whole
            run(low, high, {"dtype": str(self._cache.x.dtype), "batch": batch, "reverse": self._cache.reverse})
        dx_gates = products.operand(arrays["dx_gates"][low * batch : high * batch])
        products.plain(dx_gates, self._input, out=self.dx[low:high].reshape((high - low) * batch, features))

    def result(self) -> tuple[Any, tuple[Any, ...], Weights]:
        """Return the gradients of the input, the start state and the weights, once all steps have been run."""
        cell, arrays = self._texts.cell, self._arrays
        dstart = {name: arrays[f"d_{identifier(name)}"] for name in cell.states}
        if cell.outer_gates:
            through, mask = arrays["product"], arrays["mask"]
            dstart["h"] = dstart["h"] + (through if mask is None else through * mask)
        grads = _weight_gradients(self._library.xp, self._products, cell, self._cache, arrays)
        return self.dx, tuple(dstart.values()), grads

    def _step_by_step(self, low: int, high: int, options: dict[str, Any]) -> None:
        """Run steps whose products are the library's."""
        library, texts, arrays, reverse = self._library, self._texts, self._arrays, self._cache.reverse
        products, batch, dprojected = self._products, self._cache.x.shape[1], arrays["dprojected"]
        projected = self._projection is not None
        kernels = texts.backward(projected=projected).kernels
        launch = [Launcher(library, each, arrays, units=self._cache.prepared.size, **options) for each in kernels]
        if not (texts.cell.recurrent_gates or projected):  # no step waits for another unit's gradient
            launch[0](low if reverse else high - 1, high - low)
            return
        gather = Launcher(library, texts.gather, arrays, units=dprojected.shape[2], **options) if projected else None
        for t in range(low, high) if reverse else reversed(range(low, high)):
            here = slice(t * batch, (t + 1) * batch)
            if gather is not None:
                gather(t)
                products.plain(products.operand(dprojected[t]), self._projection, out=arrays["doutput"])
            launch[0](t)
            if self._inner is not None:
                products.plain(products.operand(arrays["dinner_gates"][here]), self._inner, out=arrays["dinner"])
                if arrays["mask"] is not None:
                    library.xp.multiply(arrays["dinner"], arrays["mask"], out=arrays["dinner"])
                launch[1](t)
            if self._outer is not None:
                products.plain(products.operand(arrays["dh_gates"][here]), self._outer, out=arrays["product"])

    def _whole(self, low: int, high: int, options: dict[str, Any]) -> None:
        """Run steps by kernels that make the product themselves: that of a step is made ahead of the one before it."""
        prepared, reverse, (steps, batch, _) = self._cache.prepared, self._cache.reverse, self._cache.x.shape
        run_recurrence(
            self._library,
            self._texts.recurrence(keep=None, small=self._cache.small),
            self._arrays | {"weight": prepared.outer},
            persistent=self._stage == "persistent",
            units=prepared.size,
            start=low if reverse else high - 1,
            steps=high - low,
            skip=0 if reverse else steps - 1,
            **options,
        )
        t = steps - 1 if reverse else 0  # the last of the loop, after which no step makes its product
        if low <= t < high:
            gates = self._products.operand(self._arrays["dh_gates"][t * batch : (t + 1) * batch])
            self._products.plain(gates, self._products.operand(prepared.outer), out=self._arrays["product"])


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


def _weight_gradients(xp: Any, products: Products, cell: Cell, cache: ScanCache, arrays: dict[str, Any]) -> Weights:
    """The weights' gradients, each a single product or sum over all T * B rows."""
    weights, size, reverse = cache.weights, cache.prepared.size, cache.reverse
    steps, batch, features = cache.x.shape
    count = steps * batch
    dx_gates = arrays["dx_gates"]
    dinput_bias: Any = None if weights.input_bias is None else sum_over_rows(dx_gates)

    recurrent, recurrent_bias = [], []  # by part of the gates
    if cell.outer_gates:
        h = arrays["state_h"][reverse : steps + reverse]  # before each step
        if arrays["mask"] is not None:
            h = h * arrays["mask"]
        dgates = arrays["dh_gates"]
        recurrent.append((cell.outer_gates, products.of_transposed(dgates, h.reshape(count, h.shape[2]))))
        if weights.recurrent_bias is not None:
            shared = dgates is dx_gates and dinput_bias is not None
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
