"""Arrays of recurrent layers as other libraries lay them out, and as ours: read and written.

A library's convention is a row of data: the order of its gates, what is transposed, which gate is one minus ours, how
biases are split and what the library adds to them. Nothing of the library is needed. docs/exchange.md has the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from recurray.checks import finite
from recurray.layouts.layout import Layout, Part
from recurray.layouts.reading import Arrays, Direction, by_place, misfit, numbers
from recurray.layouts.rows import ROWS
from recurray.layouts.writing import arrays_of
from recurray.messages import shown

if TYPE_CHECKING:
    from recurray.layers import Recurrent

__all__ = ["Layout", "Part", "find", "names", "read", "write"]

SYMMETRIC = ("sigmoid", "hard_sigmoid")  # f(-x) = 1 - f(x)


def names() -> tuple[str, ...]:
    """Return the names of the layouts that there are.

    Examples
    --------
    >>> from recurray import layouts
    >>> "keras.gru" in layouts.names()
    True
    """
    return tuple(dict.fromkeys(row.name for row in ROWS))


def find(name: str) -> tuple[Layout, ...]:
    """Return the rows of a name: more than one where a library has several forms under it.

    Raises
    ------
    ValueError
        There is none.

    Examples
    --------
    >>> from recurray import layouts
    >>> [(row.kind, row.gates, dict(row.options)) for row in layouts.find("keras.gru")]
    [('GRU', ('z', 'r', 'n'), {'reset_after': True}), ('GRU', ('z', 'r', 'n'), {'reset_after': False})]
    """
    found = tuple(row for row in ROWS if row.name == name)
    if not found:
        raise ValueError(f"there is no layout {shown(name)}; there are {', '.join(names())}")
    return found


def read(name: str, arrays: Any, **facts: Any) -> tuple[dict[str, Any], Arrays]:
    """Bring a recurrent layer's arrays from another library's layout to ours.

    Parameters
    ----------
    name : str
        The layout, one of `names`.
    arrays : mapping of str to array, or sequence of these
        The library's arrays by the library's names, of any array library and any floating-point type. Where each
        direction or layer has arrays of its own: a mapping for each, first layer first, and within a layer forwards
        before reverse.
    **facts
        What the arrays don't tell: any option of the layer, as the constructor takes it, is handed on. Some decide how
        the arrays are read: ``bidirectional`` where each direction has a mapping, ``reset_after``, ``coupled``,
        ``gate_activation``, and for libraries that add a number to the forget gate ``forget_bias``, that number.

    Returns
    -------
    options : dict
        Keyword arguments for `recurray.LSTM`, `recurray.GRU` or `recurray.RNN`, whichever the row's ``kind`` names.
        With float64 arrays ``dtype`` is among them.
    params : dict of str to numpy.ndarray
        The layer's params: copies, in C order.

    Raises
    ------
    ValueError, TypeError
        An array is missing, unknown or of the wrong shape or type, or a fact contradicts the arrays.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> from recurray import layouts
    >>> arrays = {"kernel": np.ones((3, 15)), "recurrent_kernel": np.ones((5, 15)), "bias": np.zeros((2, 15))}
    >>> options, params = layouts.read("keras.gru", arrays, dtype="float32")
    >>> options
    {'input_size': 3, 'hidden_size': 5, 'num_layers': 1, 'bidirectional': False, 'bias': True, 'reset_after': True, \
'dtype': 'float32'}
    >>> rr.GRU(**options, params=params)
    GRU(3, 5, backend='numpy', dtype='float32')  # 150 params
    """
    rows = find(name)
    several = not isinstance(arrays, Mapping) and isinstance(arrays, Sequence) and not isinstance(arrays, str)
    if several and not arrays:
        raise ValueError("there are no arrays: give a mapping for each layer and direction")
    given = (
        [numbers(own, f"arrays[{place}]") for place, own in enumerate(arrays)]
        if several
        else [numbers(arrays, "arrays")]
    )
    by_layer = by_place(rows[0], given, facts)
    row = _chosen(rows, by_layer[0][0], facts)
    found = [[Direction(row, own) for own in layer] for layer in by_layer]
    added = _added(row, facts)
    _check_negated(row, facts.get("gate_activation"))
    for direction in (direction for layer in found for direction in layer):
        for gate, value in added.items():
            direction.add(gate, value)
    options = _options(row, found) | {"dtype": None}
    for fact, value in facts.items():
        if fact == "forget_bias" and row.added:
            continue
        if fact == "forget_bias":
            raise ValueError(f"{name} adds nothing to the forget gate: what its biases start as is in the arrays")
        if options.get(fact) is not None and value != options[fact]:
            raise ValueError(f"{fact} is {shown(value)}, but the arrays are of a layer with {options[fact]}")
        options[fact] = value
    if options["dtype"] is None:
        del options["dtype"]
        if any(direction.dtype == "float64" for layer in found for direction in layer):
            options["dtype"] = "float64"
    coupled = bool(row.fixed.get("coupled"))
    has = {"bias": options["bias"], "peepholes": options.get("peepholes", False), "coupled": coupled}
    params: Arrays = {}
    for number, layer in enumerate(found):
        for reverse, direction in enumerate(layer):
            params |= direction.params(f"_l{number}{'_reverse' if reverse else ''}", **has)
    return options, params


def write(name: str, layer: Recurrent, **facts: Any) -> Any:
    """Bring a layer's params to another library's layout.

    What isn't in a library's arrays, such as activations, has to be said to that library by its own arguments.

    Parameters
    ----------
    name : str
        The layout, one of `names`.
    layer : LSTM, GRU or RNN
        The layer.
    **facts
        ``forget_bias``, for libraries that add a number to the forget gate: that number.

    Returns
    -------
    dict of str to numpy.ndarray, or list of these
        The library's arrays by the library's names, in C order. Where each direction or layer has arrays of its own and
        there are several: a dict for each, in the order that `read` takes.

    Raises
    ------
    ValueError
        The layout can't say what the layer is: it has no place for a projection, say.
    TypeError
        It is another kind of layer.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray import layouts
    >>> arrays = layouts.write("onnx.lstm", rr.LSTM(3, 5, bidirectional=True, seed=0))
    >>> {name: array.shape for name, array in arrays.items()}
    {'W': (2, 20, 3), 'R': (2, 20, 5), 'B': (2, 40)}
    """
    from recurray import layers

    rows = find(name)
    kind = getattr(layers, rows[0].kind)
    if not isinstance(layer, kind):
        raise TypeError(f"{name} is a layout of {rows[0].kind}, not of {type(layer).__name__}")
    fits = [row for row in rows if all(getattr(layer, fact) == value for fact, value in row.fixed.items())]
    if not fits:
        wanted = " or ".join(f"{fact}={value}" for row in rows for fact, value in row.fixed.items())
        raise ValueError(f"{name} is a layout of {rows[0].kind} with {wanted}, which this layer isn't")
    row = fits[0]
    added = _added(row, facts)
    if unknown := set(facts) - ({"forget_bias"} if row.added else set()):
        raise TypeError(f"{name} is written without {', '.join(sorted(unknown))}")
    _check_negated(row, getattr(layer, "gate_activation", None))
    form, params = layer._param_form, layer.state_dict()
    gates = layer.cell.input_gates
    found = [
        [
            arrays_of(row, form.of_direction(params, number, reverse), gates, added)
            for reverse in range(layer.directions)
        ]
        for number in range(layer.num_layers)
    ]
    return _packed(row, found)


def _packed(row: Layout, found: list[list[Arrays]]) -> Any:
    if row.apart == "names":
        return {
            f"{name}_l{number}{'_reverse' if reverse else ''}": array
            for number, layer in enumerate(found)
            for reverse, own in enumerate(layer)
            for name, array in own.items()
        }
    import numpy as np

    if row.apart == "packed":
        own = [arrays[part.name] for layer in found for arrays in layer for part in row.parts]
        return {row.packed: np.concatenate([array.reshape(-1) for array in own])}
    if row.apart == "axis":
        packed = [{name: np.stack([own[name] for own in layer]) for name in layer[0]} for layer in found]
    else:
        packed = [own for layer in found for own in layer]
    return packed[0] if len(packed) == 1 else packed


def _chosen(rows: Sequence[Layout], arrays: Arrays, facts: Mapping[str, Any]) -> Layout:
    """Of several forms, the one that the arrays have and the facts agree with."""
    agreeing = [
        row
        for row in rows
        if all(facts.get(fact, row.presumed.get(fact, value)) == value for fact, value in row.fixed.items())
    ]
    if not agreeing:
        raise ValueError(f"{rows[0].name} is laid out for {' or '.join(_said(row) for row in rows)}")
    fits = [row for row in agreeing if misfit(row, arrays) is None]
    if len(fits) > 1:
        raise ValueError(f"these arrays may be of {' or '.join(_said(row) for row in fits)}: say which")
    return fits[0] if fits else agreeing[0]  # which then says what is wrong


def _said(row: Layout) -> str:
    return ", ".join(f"{fact}={value}" for fact, value in row.fixed.items())


def _added(row: Layout, facts: Mapping[str, Any]) -> Mapping[str, float]:
    if row.added and "forget_bias" in facts:
        return {"f": finite("forget_bias", facts["forget_bias"])}
    return row.added


def _check_negated(row: Layout, activation: Any) -> None:
    """Refuse an activation of a gate that is one minus ours and isn't so for the negative sum."""
    if row.negated and activation is not None:
        from recurray.activations import activation as made

        known = [made(name) for name in SYMMETRIC]
        by_gate = isinstance(activation, Mapping) and "name" not in activation
        given = [activation.get(gate, "sigmoid") for gate in row.negated] if by_gate else [activation]
        if any(made(own) not in known for own in given):
            raise ValueError(
                f"{row.name} has one minus our gate {', '.join(row.negated)}, which with {shown(activation)} no "
                f"weights can say: that takes {' or '.join(SYMMETRIC)}"
            )


def _options(row: Layout, found: list[list[Direction]]) -> dict[str, Any]:
    """What the arrays tell of the layer."""
    first, everything = found[0][0], [direction for layer in found for direction in layer]
    sizes = first.hidden_size, first.output_size
    for number, layer in enumerate(found):
        features = first.input_size if number == 0 else first.output_size * len(layer)
        for direction in layer:
            if (direction.hidden_size, direction.output_size) != sizes or direction.input_size != features:
                raise ValueError(
                    f"layer {number} has {direction.input_size} features and {direction.hidden_size} units, which must "
                    f"be {features} and {sizes[0]} to go with the others"
                )
    options: dict[str, Any] = {
        "input_size": first.input_size,
        "hidden_size": first.hidden_size,
        "num_layers": len(found),
        "bidirectional": len(found[0]) == 2,
        "bias": any(direction.has("input_bias", "recurrent_bias") for direction in everything),
    }
    options |= {fact: value for fact, value in row.fixed.items() if fact != "coupled" or value}
    if first.projection is not None:
        options["proj_size"] = first.output_size
    if any(direction.has("peephole") for direction in everything):
        options["peepholes"] = True
    return options
