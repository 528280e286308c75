"""The layers of a stack as a wave: each works on some steps while the one below works on those that come next.

A layer's arrays are those of all its steps, as they are without a wave, and so are its cache and its products for the
weights' gradients. Two products may be rounded differently: those with the input's weights, which are made part by
part, and the recurrent ones of kernels that are laid out for a share of the GPU.

T time, B batch, I input, R size of the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from recurray.cells.cell import Cell, Weights
from recurray.stack import Backward, Forward, LayerBackward, LayerForward
from recurray_cupy.backward import ScanBackward
from recurray_cupy.forward import ScanCache, ScanForward, input_of, ragged
from recurray_cupy.library import Library


def forward(
    library: Library,
    cell: Cell,
    layers: Sequence[LayerForward],
    x: Any,
    *,
    part: int,
    lengths: Sequence[int] | None,
    keep: bool,
    stage: str,
    small: str,
) -> Forward:
    """Run a stack of layers of one direction; see `recurray.backend.Backend.stack_forward`.

    ``part`` is how many steps are run at a time; for ``stage`` and ``small`` see `ScanForward`.
    """
    xp, steps = library.xp, x.shape[0]
    rows = ragged(xp, lengths, steps)
    handed_on = [input_of(xp, x, rows)]  # x, and then each layer's output; held until all is done
    done: list[tuple[Any, tuple[Any, ...], ScanCache | None]] = []

    def run(layer: LayerForward) -> Iterator[None]:
        (own,) = layer.directions
        below = handed_on[-1]  # its padding is zero
        given = below if layer.dropout is None else xp.empty(below.shape, dtype=below.dtype)
        scan = ScanForward(
            library,
            cell,
            own.weights,
            given,
            own.start,
            rows=rows,
            keep=keep,
            draws=own.draws,
            output_mask=own.output_mask,
            stage=stage,
            small=small,
        )
        handed_on.append(scan.y)
        for low in range(0, steps, part):
            here = slice(low, min(low + part, steps))
            if layer.dropout is not None:
                given[here] = layer.dropout(below[here], here)
            scan.run(here.start, here.stop)
            yield
        done.append(scan.result())

    library.streams.wave([run(layer) for layer in layers])
    return handed_on[-1], [end for _, end, _ in done], [[cache] for _, _, cache in done]


def backward(
    library: Library, cell: Cell, layers: Sequence[LayerBackward], dy: Any, *, part: int, stage: str
) -> Backward:
    """Backward through a stack of layers of one direction; see `recurray.backend.Backend.stack_backward`.

    The last layer goes ahead, and time runs from the end.
    """
    xp, steps = library.xp, dy.shape[0]
    dy = xp.ascontiguousarray(dy)
    handed_on = [dy]  # the gradients of each layer's output, and then of x; held until all is done
    done: list[tuple[Any, tuple[Any, ...], Weights]] = []

    def run(layer: LayerBackward) -> Iterator[None]:
        (cache,), (dend,) = layer.caches, layer.dends
        scan = ScanBackward(library, cell, cache, handed_on[-1], dend, stage=stage)
        dx = scan.dx if layer.dropout is None else xp.empty(scan.dx.shape, dtype=scan.dx.dtype)
        handed_on.append(dx)
        for low in reversed(range(0, steps, part)):
            here = slice(low, min(low + part, steps))
            scan.run(here.start, here.stop)
            if layer.dropout is not None:
                dx[here] = layer.dropout(scan.dx[here], here)
            yield
        done.append(scan.result())

    library.streams.wave([run(layer) for layer in reversed(layers)])
    return handed_on[-1], [[(dstart, grads)] for _, dstart, grads in reversed(done)]
