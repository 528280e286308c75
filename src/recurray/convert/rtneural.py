"""RTNeural's JSON, which audio plug-ins read: its own form, and PyTorch state dicts in JSON, GuitarML's among them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from recurray import checks, files, layouts
from recurray.convert.result import Converted, check_path, made_with
from recurray.convert.torch_model import from_torch
from recurray.files import FormatError
from recurray.layers import GRU, LSTM, Activation, Dropout, Layer, Linear, Sequential
from recurray.messages import shown

_MOST_BYTES = 2**28  # of a file; numbers of 20 letters take a few times as much in memory
_DENSE = ("dense", "time-distributed-dense")
_FUNCTIONS = {"tanh": "tanh", "relu": "relu", "sigmoid": "sigmoid", "softmax": "softmax", "elu": "elu"}
_LAYOUTS = {"lstm": "keras.lstm", "gru": "keras.gru"}
_KNOWN = (*_DENSE, *_LAYOUTS, "activation", *_FUNCTIONS)


def from_rtneural(
    path: str | Path,
    prefix: str | Sequence[str] | None = None,
    *,
    batch_first: bool = True,
    backend: Any = None,
    dtype: Any = None,
) -> Converted:
    """Make layers of a JSON file that RTNeural reads.

    Parameters
    ----------
    path : path-like
        The file: RTNeural's own form, with the layers in their order (dense, time-distributed-dense, lstm, gru and
        activations); GuitarML's, with ``model_data`` and ``state_dict``; or a PyTorch state dict alone.
    prefix : str or sequence of str, optional
        For a state dict alone, which layers to take, in their order: see `recurray.convert.from_torch`.
    batch_first : bool
        The layout of the model.
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}, optional
        float32 if omitted.

    Returns
    -------
    Converted
        ``before`` and ``after`` have the layers of the file that recurray has none for, and GuitarML's ``skip``, which
        adds the input to the output.

    Raises
    ------
    FormatError
        The file can't be read, or its sizes don't fit together.
    ValueError, TypeError
        ``prefix`` is missing where it is needed, or given where it has no meaning.
    OSError
        The file can't be opened.

    References
    ----------
    Chowdhury, "RTNeural: fast neural inferencing for real-time systems", 2021; its ``model_loader.h``. Weights lie
    as in Keras.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import recurray as rr
    >>> from recurray import convert
    >>> model = rr.Sequential(rr.LSTM(1, 8, seed=0), rr.Linear(8, 1, seed=1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "amp.json")
    ...     convert.to_rtneural(model, path)
    ...     convert.from_rtneural(path).model
    Sequential(
        0: LSTM(1, 8, backend='numpy', dtype='float32')  # 352 params
        1: Linear(8, 1, backend='numpy', dtype='float32')  # 9 params
    )  # 361 params
    """
    check_path(path)
    made = {"batch_first": checks.flag("batch_first", batch_first), **made_with(backend, dtype or "float32")}
    content = _parsed(path)
    try:
        if "layers" in content:
            if prefix is not None:
                raise TypeError("prefix is for a state dict: this file says which layers follow each other")
            return _own_form(str(path), content, made)
        if "state_dict" in content:
            if prefix is not None:
                raise TypeError("prefix is for a state dict alone: this file says what its layers are")
            return _guitarml(str(path), content, made)
        tensors = {name: _array(name, value) for name, value in content.items()}
        return from_torch(tensors, prefix, **made)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from error.__cause__


def to_rtneural(model: Layer, path: str | Path) -> None:
    """Write a model to a JSON file that RTNeural reads.

    A former file is replaced, once the new one is whole.

    Parameters
    ----------
    model : Layer
        `LSTM` and `GRU`, in one direction, `Linear`, `Activation`, `Dropout` (which does nothing in inference), or a
        `recurray.Sequential` of these.
    path : path-like
        Where to.

    Raises
    ------
    ValueError
        RTNeural has no word for something in the model, which the message names.
    TypeError
        It isn't a layer.
    OSError
        The file can't be written.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import recurray as rr
    >>> from recurray import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "amp.json")
    ...     convert.to_rtneural(rr.GRU(1, 2, seed=0), path)
    ...     path.read_text()[:60]
    '{"in_shape": [null, null, 1], "layers": [{"type": "gru", "ac'
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a recurray layer, not {type(model).__name__}")
    leaves = [*_leaves(model, "")]
    described = [part for place, layer in leaves for part in _described(place, layer)]
    if not described or (not hasattr(leaves[0][1], "input_size") and not hasattr(leaves[0][1], "in_features")):
        raise ValueError("RTNeural needs a model that begins with a layer that knows its input's size")
    first = leaves[0][1]
    size = getattr(first, "input_size", None) or getattr(first, "in_features", None)
    width = size
    for part in described:  # a function has as many features as it is given
        width = part["shape"][2] = part["shape"][2] or width
    for name, value in model.state_dict().items():
        if not np.isfinite(value).all():
            raise ValueError(f"the param {name} holds NaN or infinity, which JSON has no numbers for")
    text = json.dumps({"in_shape": [None, None, size], "layers": described}, allow_nan=False)
    with files.Destination(path) as destination:
        destination.replace(text.encode())


# Reading --------------------------------------------------------------------------------------------------------------


def _parsed(path: str | Path) -> dict[str, Any]:
    with files.reading(path):
        data = files.read_bytes(path, _MOST_BYTES)
    try:
        content = json.loads(data.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: it isn't JSON, or is damaged: {str(error)[:100]}") from error
    if not isinstance(content, dict):
        raise FormatError(f"{path}: it holds a {type(content).__name__}, where RTNeural has names with values")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"it has the number {name}")


def _array(name: str, value: Any) -> NDArray[np.float64]:
    """Nested lists of numbers as an array."""
    try:
        if not isinstance(value, list):
            raise TypeError("it isn't a list")
        array = np.asarray(value)
        if array.dtype.kind not in "if" or not np.isfinite(array).all():
            raise TypeError("it has something else than numbers")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(f"{shown(name)} must be numbers in lists of equal lengths: {str(error)[:100]}") from error
    return array.astype("float64")


def _own_form(path: str, content: Mapping[str, Any], made: Mapping[str, Any]) -> Converted:
    described = content["layers"]
    if not isinstance(described, list) or not all(isinstance(part, dict) for part in described):
        raise FormatError("its layers must be a list of names with values")
    kinds = [str(part.get("type"))[:50] for part in described]
    begin, end = _known_run(kinds)
    size = (
        _size("in_shape", content.get("in_shape")) if begin == 0 else _size("shape", described[begin - 1].get("shape"))
    )
    layers: list[Layer] = []
    words = [f"{path}:"]
    for number, part in enumerate(described[begin:end], begin):
        try:
            own, size = _layer(part, size, made)
        except (ValueError, TypeError) as error:
            raise FormatError(f"layer {number} ({kinds[number]}): {error}") from error
        layers += own
        words += [f"layer {number} ({kinds[number]}): {layer!r}" for layer in own]
    names = [f"layer {number} ({kind})" for number, kind in enumerate(kinds)]
    before, after = tuple(names[:begin]), tuple(names[end:])
    words += [f"before it: {', '.join(before) or 'nothing'}", f"after it: {', '.join(after) or 'nothing'}"]
    return Converted(layers[0] if len(layers) == 1 else Sequential(*layers), before, after, "\n".join(words))


def _known_run(kinds: Sequence[str]) -> tuple[int, int]:
    """The layers that follow each other and that recurray has, with all recurrent ones among them."""
    places = [place for place, kind in enumerate(kinds) if kind in _LAYOUTS]
    if not places:
        raise FormatError(f"it has no lstm or gru; there are {', '.join(kinds)[:200] or 'no layers'}")
    begin, end = places[0], places[-1] + 1
    for kind in kinds[begin:end]:
        if kind not in _KNOWN:
            raise FormatError(f"it has {kind!r} between its recurrent layers, which recurray has no layer for")
    while begin and kinds[begin - 1] in _KNOWN:
        begin -= 1
    while end < len(kinds) and kinds[end] in _KNOWN:
        end += 1
    return begin, end


def _size(name: str, shape: Any) -> int:
    if not isinstance(shape, list) or not shape or type(shape[-1]) is not int or shape[-1] < 1:
        raise FormatError(f"its {name} must end with a number of features, not {shown(shape)}")
    return shape[-1]


def _layer(part: Mapping[str, Any], size: int, made: Mapping[str, Any]) -> tuple[list[Layer], int]:
    """A layer of the file, with the function behind it, and how many features come out."""
    kind, said = part["type"], _size("shape", part.get("shape"))
    name = part.get("activation", "")
    if kind == "activation" or kind in _FUNCTIONS:
        if said != size:
            raise FormatError(f"its shape says {said} features, and {size} come in")
        return _function(name if kind == "activation" else kind), size
    given = part.get("weights")
    if not isinstance(given, list):
        raise FormatError("it has no weights")
    weights = [_array(f"weights[{place}]", value) for place, value in enumerate(given)]
    layer: Layer
    without = {key: value for key, value in made.items() if key != "batch_first"}
    if kind in _DENSE:
        if len(weights) != 2 or weights[0].shape != (size, said) or weights[1].shape != (said,):
            have = ", ".join(str(array.shape) for array in weights)[:200]
            raise FormatError(f"its weights must have the shapes ({size}, {said}), ({said},), not {have}")
        layer = Linear(size, said, params={"weight": weights[0].T, "bias": weights[1]}, **without)
        return [layer, *_function(name)], said
    if name not in ("tanh", ""):
        raise FormatError(f"its activation is {shown(name)}, where RTNeural has tanh")
    if len(weights) != 3:
        raise FormatError(f"it must have 3 arrays of weights, not {len(weights)}")
    arrays = dict(zip(("kernel", "recurrent_kernel", "bias"), weights, strict=True))
    facts: dict[str, Any] = {"dtype": made["dtype"]} | ({"reset_after": True} if kind == "gru" else {})
    options, params = layouts.read(_LAYOUTS[kind], arrays, **facts)
    if (options["input_size"], options["hidden_size"]) != (size, said):
        raise FormatError(
            f"its weights are of {options['input_size']} features and {options['hidden_size']} units, but {size} "
            f"features come in, and its shape says {said}"
        )
    rest = {key: value for key, value in made.items() if key != "dtype"}
    layer = LSTM(**options, **rest, params=params) if kind == "lstm" else GRU(**options, **rest, params=params)
    return [layer], said


def _function(name: Any) -> list[Layer]:
    if name in ("", "linear", None):
        return []
    if not isinstance(name, str) or name not in _FUNCTIONS:
        raise FormatError(f"its activation must be one of {', '.join(_FUNCTIONS)}, not {shown(name)}")
    return [Activation(_FUNCTIONS[name])]


def _guitarml(path: str, content: Mapping[str, Any], made: Mapping[str, Any]) -> Converted:
    said, given = content.get("model_data"), content["state_dict"]
    if not isinstance(said, dict) or not isinstance(given, dict):
        raise FormatError("GuitarML's form has model_data and state_dict, each of names with values")
    if said.get("unit_type") not in ("LSTM", "GRU"):
        raise FormatError(f"its unit_type must be LSTM or GRU, not {shown(said.get('unit_type'))}")
    tensors = {name: _array(name, value) for name, value in given.items()}
    found = from_torch(tensors, ["rec", "lin"] if "lin.weight" in tensors else ["rec"], **made)
    assert isinstance(found.model, Sequential)  # noqa: S101
    recurrent: Any = found.model.layers[0]
    sizes = {
        "input_size": recurrent.input_size,
        "hidden_size": recurrent.hidden_size,
        "num_layers": recurrent.num_layers,
    }
    if type(recurrent).__name__ != said["unit_type"]:
        raise FormatError(f"its unit_type is {said['unit_type']}, but its weights are a {type(recurrent).__name__}'s")
    for name, size in sizes.items():
        if said.get(name, size) != size:
            raise FormatError(f"its {name} is {shown(said[name])}, but its weights are of {size}")
    skip = said.get("skip", 0)
    if type(skip) is not int or skip < 0:
        raise FormatError(f"its skip must be a number of features, not {shown(skip)}")
    adds = (f"skip={skip}: the first {skip} features of the input are added to the output",) if skip else ()
    report = found.report.replace("the mapping", path) + "".join(f"\nafter it: {words}" for words in adds)
    return Converted(found.model, found.before, (*found.after, *adds), report)


# Writing --------------------------------------------------------------------------------------------------------------


def _leaves(layer: Layer, place: str) -> Iterator[tuple[str, Layer]]:
    if not isinstance(layer, Sequential):
        yield place, layer
        return
    for number, inner in enumerate(layer.layers):
        yield from _leaves(inner, f"{place}.{number}" if place else str(number))


def _described(place: str, layer: Layer) -> Iterator[dict[str, Any]]:
    """A layer as RTNeural has it: as many as it is deep; where the size is None, it is that of the one before."""
    named = f"{type(layer).__name__}" + (f" (layer {place})" if place else "")
    if type(layer) is Linear:
        params = layer.state_dict()
        bias = params.get("bias", np.zeros(layer.out_features))
        yield _part("dense", layer.out_features, [params["weight"].T, bias])
    elif type(layer) is Activation:
        if layer.name not in _FUNCTIONS or (layer.name == "elu" and layer.alpha not in (None, 1.0)):
            raise ValueError(f"RTNeural has no word for {named} {layer.name!r} with these parameters")
        yield {"type": "activation", "activation": layer.name, "shape": [None, None, None], "weights": []}
    elif isinstance(layer, (LSTM, GRU)) and type(layer) in (LSTM, GRU):
        yield from _recurrent(layer, named)
    elif type(layer) is not Dropout:
        raise ValueError(f"RTNeural has no word for {named}")


def _recurrent(layer: LSTM | GRU, named: str) -> Iterator[dict[str, Any]]:
    kind = type(layer).__name__.lower()
    plain = type(layer)(layer.input_size, layer.hidden_size, layer.num_layers, bias=layer.bias, seed=0)
    if layer.cell != plain.cell or layer.bidirectional or layer.proj_size or _more(layer):
        raise ValueError(f"RTNeural has only the usual {type(layer).__name__} in one direction, which {named} isn't")
    arrays = layouts.write(_LAYOUTS[kind], layer)
    for own in arrays if isinstance(arrays, list) else [arrays]:
        shape = (2, 3 * layer.hidden_size) if kind == "gru" else (4 * layer.hidden_size,)
        bias = own.get("bias", np.zeros(shape))
        yield _part(kind, layer.hidden_size, [own["kernel"], own["recurrent_kernel"], bias], "tanh")


def _more(layer: Layer) -> bool:
    return any(getattr(layer, option, False) for option in ("learned_state", "reverse", "static_size"))


def _part(kind: str, size: int, weights: Sequence[NDArray[Any]], function: str = "") -> dict[str, Any]:
    values = [array.tolist() for array in weights]
    return {"type": kind, "activation": function, "shape": [None, None, size], "weights": values}
