"""The network of an estimator: recurrent layers by name, what is read of a row, and a linear layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurray import cells, checks, layers
from recurray.architecture import arguments_of
from recurray.cells import Cell
from recurray.layers import Dropout, Layer, Linear, Recurrent, Sequential
from recurray.messages import shown

LAYERS = ("LSTM", "GRU", "RNN", "DiagonalLSTM")
CELLS = {"IndRNN": cells.IndRNNCell, "MGU": cells.MGUCell, "SLSTM": cells.SLSTMCell}  # that have no layer of their own
POOLINGS = {"final": layers.Final, "last": layers.Last, "mean": layers.Mean, "max": layers.Max}
OWN = ("num_layers", "bidirectional", "dropout", "batch_first", "backend", "dtype", "seed", "params", "static_size")


def make(estimator: Any, features: int, outputs: int, *, by_step: bool, seeds: Sequence[int]) -> Sequential:
    """Make the network that an estimator's parameters ask for.

    Parameters
    ----------
    estimator : object
        With the parameters of `recurray.sklearn.LSTMRegressor`.
    features, outputs : int
        Of a step, and of an answer.
    by_step : bool
        Whether there is an answer to each step, rather than to a row.
    seeds : sequence of 3 ints
        Of the recurrent layers, of the dropout before the last layer, and of that layer.

    Raises
    ------
    ValueError, TypeError
        A parameter is of the wrong kind, or there is no such layer.
    """
    dropout = checks.probability("dropout", estimator.dropout)
    pooling = POOLINGS[checks.choice("pooling", estimator.pooling, [*POOLINGS])]
    on = {"backend": estimator.backend, "dtype": estimator.dtype}
    found: list[Layer] = [*_recurrent(estimator, features, dropout, seeds[0], on)]
    width = found[-1].output_size * found[-1].directions  # type: ignore[attr-defined]
    if not by_step:
        found.append(pooling())
    if dropout:
        found.append(Dropout(dropout, seed=seeds[1]))
    return Sequential(*found, Linear(width, outputs, seed=seeds[2], **on))


def _recurrent(estimator: Any, features: int, dropout: float, seed: int, on: Mapping[str, Any]) -> Sequence[Layer]:
    """The recurrent layers: one layer with ``num_layers``, or as many of a kind that has no such argument."""
    size = checks.size("hidden_size", estimator.hidden_size)
    count = checks.size("num_layers", estimator.num_layers)
    bidirectional = checks.flag("bidirectional", estimator.bidirectional)
    kind, first = _kind(estimator.layer)
    options = _options(estimator.layer_options, kind)
    takes = arguments_of(kind).names
    if bidirectional and "bidirectional" not in takes:
        raise ValueError(f"a {kind.__name__} runs in one direction: bidirectional must be False")
    if "num_layers" in takes:
        options |= {"num_layers": count, "bidirectional": bidirectional, "dropout": dropout if count > 1 else 0.0}
        return [kind(*first, features, size, seed=seed, **options, **on)]
    found: list[Layer] = []
    for place in range(count):
        if place and dropout:
            found.append(Dropout(dropout, seed=[seed, count + place]))
        found.append(kind(*first, size if place else features, size, seed=[seed, place], **options, **on))
    return found


def _kind(layer: Any) -> tuple[Any, tuple[Any, ...]]:
    """The class of a layer's name, class or cell, and what it takes before the sizes."""
    if isinstance(layer, str) and layer in LAYERS:
        return getattr(layers, layer), ()
    if isinstance(layer, str) and layer in CELLS:
        return Recurrent, (CELLS[layer](),)
    if isinstance(layer, Cell):
        return Recurrent, (layer,)
    if isinstance(layer, type) and issubclass(layer, Recurrent) and layer is not Recurrent:
        return layer, ()
    known = ", ".join(map(repr, (*LAYERS, *CELLS)))
    raise ValueError(f"layer must be one of {known}, a class of recurrent layers or a cell, not {shown(layer)}")


def _options(given: Any, kind: Any) -> dict[str, Any]:
    """Check the layer's own options."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"layer_options must be a mapping of names to values, not {type(given).__name__}")
    takes = arguments_of(kind)
    known = [name for name in takes.names if name not in (*OWN, *takes.required)]
    for name in given:
        if name not in known:
            which = ", which is a parameter of the estimator" if name in OWN else ""
            raise ValueError(f"layer_options has {shown(name)}{which}; a {kind.__name__} has {', '.join(known)}")
    return dict(given)
