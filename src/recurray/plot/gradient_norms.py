"""The norm of each param's gradient, which shows where it vanishes or explodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recurray.arrays import to_numpy
from recurray.messages import shown
from recurray.plot.drawing import COLOURS, FEW, listed, new_figure


def gradient_norms(grads: Any, *, names: Sequence[str] | None = None) -> Any:
    """Draw the root of the sum of squares of each param's gradient, on a logarithmic axis.

    One backward is drawn as a point for each param; several are drawn over time, up to 8 params as lines, more as a map
    with a line of pixels for each.

    Parameters
    ----------
    grads : mapping of str to array, or sequence of such mappings
        What ``backward`` returned by param, of one or of several updates. A number in an array's place is its norm, so
        that a training needn't keep the arrays.
    names : sequence of str, optional
        Which params; all if omitted.

    Returns
    -------
    matplotlib.figure.Figure
        Its ``savefig`` writes it to a file.

    Raises
    ------
    ImportError
        matplotlib isn't installed.
    ValueError, TypeError
        There is nothing to draw, a param isn't in all mappings, or something is no gradient.

    Notes
    -----
    A logarithmic axis doesn't have 0, infinity and NaN: they are told in the point's place; lines and maps have a gap.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> lstm = rr.LSTM(3, 5, seed=0)
    >>> y, state, cache = lstm.forward(np.ones((2, 7, 3), dtype="float32"))
    >>> _, _, grads = lstm.backward(cache, y)
    >>> rr.plot.gradient_norms(grads).savefig("norms.png")  # doctest: +SKIP
    """
    one = isinstance(grads, Mapping)
    updates = [grads] if one else listed("grads", grads)
    for update in updates:
        if not isinstance(update, Mapping):
            raise TypeError(
                f"gradients must be a mapping of names to arrays, not {type(update).__name__} {shown(update)}"
            )
    chosen = listed("names", (updates[0] if updates else ()) if names is None else names)
    for update in updates:
        missing = [name for name in chosen if name not in update]
        if missing:
            raise ValueError(f"there is no gradient of {shown(missing[0])}, but of {', '.join(map(repr, update))}")
    if not updates or not chosen:
        raise ValueError("there is nothing to draw: no gradients")
    norms = np.array([[_norm(name, update[name]) for name in chosen] for update in updates])  # (updates, params)
    labels = [str(name) for name in chosen]
    return _of_one(labels, norms[0]) if one else _over_time(labels, norms)


def _norm(name: str, gradient: Any) -> float:
    """Return the norm of a gradient, however large or small its numbers are."""
    values = to_numpy(gradient, f"the gradient of {name}")
    if values.dtype.kind not in "fiu":
        raise TypeError(f"the gradient of {name} must be numbers, not {values.dtype}")
    values = np.abs(values.astype("float64"))
    largest = float(values.max(initial=0.0))
    if largest == 0 or not np.isfinite(largest):
        return largest
    return largest * float(np.sqrt(np.sum((values / largest) ** 2)))


def _of_one(labels: Sequence[str], norms: Any) -> Any:
    figure = new_figure("gradient_norms", 6.4, 0.9 + 0.22 * len(labels))
    axis = figure.subplots()
    drawn = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    axis.plot(drawn, range(len(labels)), "o", color=COLOURS[0], markersize=5)
    if np.isfinite(drawn).any():
        axis.set_xscale("log")
    else:
        axis.set_xticks([])
    for place, norm in enumerate(norms):
        if not (np.isfinite(norm) and norm > 0):
            axis.text(0.02, place, f"{norm:g}", transform=axis.get_yaxis_transform(), va="center", fontsize="small")
    axis.set_yticks(range(len(labels)), labels, fontsize="small")
    axis.set_ylim(len(labels) - 0.4, -0.6)
    axis.set_xlabel("norm of the gradient")
    axis.grid(alpha=0.25)
    return figure


def _over_time(labels: Sequence[str], norms: Any) -> Any:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import MaxNLocator

    drawn = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    some = bool(np.isfinite(drawn).any())
    if len(labels) <= FEW:
        figure = new_figure("gradient_norms", 7.5, 3.2)
        axis = figure.subplots()
        for place, (values, label, colour) in enumerate(zip(drawn.T, labels, COLOURS, strict=False)):
            hides = any(np.array_equal(values, other, equal_nan=True) for other in drawn.T[:place])  # two biases, say
            style = {"linestyle": (0, (4, 4)) if hides else "-", "marker": "." if len(values) <= 30 else None}
            axis.plot(values, color=colour, linewidth=1.2, label=label, **style)
        if some:
            axis.set_yscale("log")
        axis.set_ylabel("norm of the gradient")
        axis.grid(alpha=0.25)
        figure.legend(loc="outside right upper", fontsize="small")
    else:
        figure = new_figure("gradient_norms", 8.0, 0.8 + 0.2 * len(labels))
        axis = figure.subplots()
        ends = {"vmin": np.nanmin(drawn), "vmax": np.nanmax(drawn)} if some else {"vmin": 0.1, "vmax": 1.0}
        image = axis.imshow(drawn.T, aspect="auto", interpolation="nearest", cmap="viridis", norm=LogNorm(**ends))
        axis.set_yticks(range(len(labels)), labels, fontsize="small")
        figure.colorbar(image, ax=axis, pad=0.01, label="norm of the gradient")
    if len(norms) == 1:
        axis.set_xlim(-0.5, 0.5)
    axis.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axis.set_xlabel("update")
    return figure
