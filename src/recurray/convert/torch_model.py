"""From the names and shapes of a PyTorch state dict to layers."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from recurray import checks, files, tensor_files
from recurray.activations import activation
from recurray.arrays import to_numpy
from recurray.convert import torch_file
from recurray.convert.result import Converted, made_with
from recurray.files import FormatError
from recurray.layers import GRU, LSTM, RNN, Layer, LayerNorm, Linear, Sequential
from recurray.messages import in_words, shown

_RECURRENT = re.compile(r"(.*?)(weight_ih|weight_hh|bias_ih|bias_hh|weight_hr)(?:_l(\d{1,4})(_reverse)?)?", re.DOTALL)
_KINDS: dict[int, type[LSTM | GRU | RNN]] = {4: LSTM, 3: GRU, 1: RNN}  # by gates
_REWRITTEN = {  # what stands in a param's place, by the end of its name: how to get the param itself
    "_g": "torch.nn.utils.remove_weight_norm",
    "_v": "torch.nn.utils.remove_weight_norm",
    "_orig": "torch.nn.utils.remove_spectral_norm, or torch.nn.utils.prune.remove",
    "_raw": "what wrapped the weight, as AWD-LSTM's WeightDrop does",
}


def from_torch(
    source: str | Path | Mapping[str, Any],
    prefix: str | Sequence[str] | None = None,
    *,
    nonlinearity: Any = None,
    eps: float = 1e-5,
    batch_first: bool = True,
    backend: Any = None,
    dtype: Any = None,
) -> Converted:
    """Make layers of what PyTorch saved, without PyTorch.

    The names and shapes in a state dict tell what each layer is, and not in which order the layers follow each
    other, nor what stands between: that is for ``prefix`` to say.

    Parameters
    ----------
    source : path-like or mapping of str to array
        A file that ``torch.save`` wrote, of a state dict alone or within dictionaries with other things (``.pt``,
        ``.pth``, ``.bin``; PyTorch's older form too), a ``.safetensors`` file, or a state dict itself. Nothing in a
        file is run; one that holds anything but tensors, numbers and texts, such as a whole model, is refused.
    prefix : str or sequence of str, optional
        What stands before ``weight_ih_l0``, or before ``weight``, in the names: ``"encoder.lstm"``. Several, in the
        order in which the layers follow each other, make a `recurray.Sequential`. If omitted, the file's one recurrent
        layer.
    nonlinearity : str, optional
        "tanh" or "relu", which must be said for an ``nn.RNN``: its weights don't tell.
    eps : float
        That of an ``nn.LayerNorm``, which its weights don't tell either.
    batch_first : bool
        The layout of the layer that is made, which the weights don't tell: it can be chosen freely.
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}, optional
        If omitted, float64 where a weight is, else float32, which float16 and bfloat16 become exactly.

    Returns
    -------
    Converted
        ``before`` and ``after`` have the names of all other tensors, by their place in the file.

    Raises
    ------
    FormatError
        The file can't be read, or its weights aren't those of a layer that recurray has.
    ValueError, TypeError
        An argument is of the wrong kind, or says too little; the message says what to add.
    OSError
        The file can't be opened.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray import convert
    >>> state_dict = {f"net.lstm.{name}": value for name, value in rr.LSTM(3, 5, seed=0).state_dict().items()}
    >>> state_dict |= {f"net.head.{name}": value for name, value in rr.Linear(5, 2, seed=1).state_dict().items()}
    >>> converted = convert.from_torch(state_dict)
    >>> converted.model, converted.after
    (LSTM(3, 5, backend='numpy', dtype='float32')  # 200 params, ('net.head.weight', 'net.head.bias'))
    >>> convert.from_torch(state_dict, prefix=["net.lstm", "net.head"]).model
    Sequential(
        0: LSTM(3, 5, backend='numpy', dtype='float32')  # 200 params
        1: Linear(5, 2, backend='numpy', dtype='float32')  # 12 params
    )  # 212 params
    """
    own = {"eps": eps, "nonlinearity": nonlinearity, "batch_first": batch_first, **made_with(backend, dtype)}
    if nonlinearity is not None:
        activation(nonlinearity, "nonlinearity")
    checks.flag("batch_first", batch_first)
    if not isinstance(source, (str, os.PathLike, Mapping)):
        raise TypeError(f"source must be a path, or a mapping of names to arrays, not {type(source).__name__}")
    tensors = _named(source) if isinstance(source, Mapping) else read_tensors(source)
    label = "the mapping" if isinstance(source, Mapping) else str(source)
    try:
        groups = _groups(tensors)
        prefixes = _prefixes(prefix, groups)
        layers = [_layer(tensors, groups, name, own) for name in prefixes]
    except FormatError as error:
        raise FormatError(f"{label}: {error}") from error.__cause__
    used = {name for _, names in layers for name in names}
    places = [place for place, name in enumerate(tensors) if name in used]
    others = [(place, name) for place, name in enumerate(tensors) if name not in used]
    made = [layer for layer, _ in layers]
    model = made[0] if isinstance(prefix, str) or prefix is None else Sequential(*made)
    return Converted(
        model,
        tuple(name for place, name in others if place < places[0]),
        tuple(name for place, name in others if place > places[0]),
        _report(label, prefixes, made, len(others), own),
    )


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read all tensors of a file that PyTorch or safetensors wrote, by name, as NumPy arrays.

    bfloat16 becomes float32, which is exact. Of dictionaries within dictionaries the keys are joined by dots.

    Raises
    ------
    FormatError
        The file can't be read; see `from_torch`.
    OSError
        It can't be opened.
    """
    with files.reading(path):
        with files.open_file(path) as file:
            start = file.read(9)
        return tensor_files.read(path)[0] if start[8:] == b"{" else torch_file.read(path)


def _named(mapping: Mapping[Any, Any]) -> dict[str, Any]:
    for name in mapping:
        if not isinstance(name, str):
            raise TypeError(f"a state dict has names that are text, not {shown(name)}")
    return dict(mapping)


# Which layers there are -----------------------------------------------------------------------------------------------


def _groups(tensors: Mapping[str, Any]) -> dict[str, list[str]]:
    """The recurrent layers' prefixes, and the names of their params."""
    groups: dict[str, list[str]] = {}
    for name in tensors:
        match = _RECURRENT.fullmatch(name)
        if match and (match[1] == "" or match[1].endswith(".")):
            groups.setdefault(match[1].removesuffix("."), []).append(name)
    return groups


def _prefixes(prefix: str | Sequence[str] | None, groups: Mapping[str, list[str]]) -> list[str]:
    if isinstance(prefix, str):
        return [prefix.removesuffix(".")]
    if prefix is not None:
        if not isinstance(prefix, (list, tuple)) or not prefix or not all(isinstance(name, str) for name in prefix):
            raise TypeError(f"prefix must be a text or a list of them, not {shown(prefix)}")
        return [name.removesuffix(".") for name in prefix]
    if len(groups) == 1:
        return list(groups)
    if not groups:
        raise FormatError("it has no recurrent layer: no names with weight_ih_l0; give prefix= for another layer")
    raise ValueError(f"there are several recurrent layers: give prefix=, one of {', '.join(map(repr, groups))}")


def _layer(
    tensors: Mapping[str, Any],
    groups: Mapping[str, list[str]],
    prefix: str,
    own: Mapping[str, Any],
) -> tuple[Layer, list[str]]:
    """One layer, and the names of its params in the file."""
    start = f"{prefix}." if prefix else ""
    _refuse_rewritten(tensors, start)
    if prefix in groups:
        names = groups[prefix]
        params = {name.removeprefix(start): to_numpy(tensors[name], repr(name)) for name in names}
        return _recurrent(prefix, params, own), names
    names = [name for name in tensors if name.startswith(start) and "." not in name.removeprefix(start)]
    params = {name.removeprefix(start): to_numpy(tensors[name], repr(name)) for name in names}
    if not params:
        nearest = sorted({name.rpartition(".")[0] for name in tensors})
        raise ValueError(f"prefix {prefix!r}: no names begin so; there are {shown(nearest)}")
    return _plain(prefix, params, own), names


def _refuse_rewritten(tensors: Mapping[str, Any], start: str) -> None:
    """Refuse weights that PyTorch computes from others before it runs the layer."""
    for name in tensors:
        own = name.removeprefix(start)
        if not name.startswith(start):
            continue
        if own.startswith("parametrizations."):
            raise FormatError(
                f"{name!r} is a parametrization: apply torch.nn.utils.parametrize.remove_parametrizations to the "
                "layer, and save it again"
            )
        for end, remedy in _REWRITTEN.items():
            if own.endswith(end) and "." not in own and own.startswith("weight"):
                raise FormatError(
                    f"{name!r} isn't a weight, but what one is computed from: undo {remedy}, and save again"
                )


def _dtype(params: Mapping[str, Any], dtype: Any) -> Any:
    if dtype is not None:
        return dtype
    return "float64" if any(str(value.dtype).endswith("float64") for value in params.values()) else "float32"


def _shape(name: str, value: Any, dimensions: int) -> tuple[int, ...]:
    shape = tuple(int(size) for size in value.shape)
    if len(shape) != dimensions or 0 in shape:
        raise FormatError(f"{name} has the shape {shape}, where {dimensions} axes were expected")
    return shape


# One layer ------------------------------------------------------------------------------------------------------------


def _recurrent(prefix: str, given: Mapping[str, Any], own: Mapping[str, Any]) -> Layer:
    params = {name if "_l" in name else f"{name}_l0": value for name, value in given.items()}  # a cell's have no number
    for name in ("weight_ih_l0", "weight_hh_l0"):
        if name not in params:
            raise FormatError(f"{prefix!r} has no {name}")
    rows, features = _shape("weight_ih_l0", params["weight_ih_l0"], 2)
    _, output = _shape("weight_hh_l0", params["weight_hh_l0"], 2)
    projected = "weight_hr_l0" in params
    hidden = _shape("weight_hr_l0", params["weight_hr_l0"], 2)[1] if projected else output
    gates, rest = divmod(rows, hidden)
    if rest or gates not in _KINDS or (projected and gates != 4):
        raise FormatError(
            f"{prefix!r} has {rows} rows of input weights for {hidden} hidden units: an LSTM has 4 times as many, a "
            "GRU 3 times, an RNN as many"
        )
    kind = _KINDS[gates]
    numbers = [int(match[3]) for name in params if (match := _RECURRENT.fullmatch(name)) and match[3]]
    options: dict[str, Any] = {
        "num_layers": max(numbers) + 1,
        "bidirectional": any(name.endswith("_reverse") for name in params),
        "bias": "bias_ih_l0" in params,
        "batch_first": own["batch_first"],
    }
    _check_shapes(prefix, params, _shapes(options, features, rows, output, hidden if projected else 0))
    if projected:
        options["proj_size"] = output
    if kind is RNN:
        if own["nonlinearity"] is None:
            raise ValueError(
                f"{prefix!r} is an RNN, whose weights don't tell its function: give nonlinearity='tanh' or 'relu'"
            )
        options["nonlinearity"] = own["nonlinearity"]
    return _made(prefix, kind, (features, hidden), options, params, own)


def _shapes(
    options: Mapping[str, Any], features: int, rows: int, output: int, projected: int
) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The names and shapes that the params of such a layer have."""
    for layer in range(options["num_layers"]):
        for direction in ("", "_reverse")[: 1 + options["bidirectional"]]:
            end = f"_l{layer}{direction}"
            yield f"weight_ih{end}", (rows, features if layer == 0 else output * (1 + options["bidirectional"]))
            yield f"weight_hh{end}", (rows, output)
            if options["bias"]:
                yield from ((f"{name}{end}", (rows,)) for name in ("bias_ih", "bias_hh"))
            if projected:
                yield f"weight_hr{end}", (output, projected)


def _check_shapes(prefix: str, params: Mapping[str, Any], expected: Iterator[tuple[str, tuple[int, ...]]]) -> None:
    """Check, before a layer is made, that all its params are there."""
    known = set()
    for name, shape in expected:
        if name not in params:
            raise FormatError(f"{prefix!r} has no {name}")
        given = tuple(params[name].shape)
        if given != shape:
            raise FormatError(f"{prefix!r}: {name} must have the shape {in_words(shape)}, not {in_words(given)}")
        known.add(name)
    if unknown := set(params) - known:
        raise FormatError(f"{prefix!r} has {', '.join(sorted(unknown))[:200]}, which fit no such layer")


def _plain(prefix: str, params: Mapping[str, Any], own: Mapping[str, Any]) -> Layer:
    weight = params.get("weight")
    dimensions = len(weight.shape) if weight is not None else 0
    if set(params) == {"weight", "bias"} and dimensions == 2:
        return _made(prefix, Linear, _shape("weight", weight, 2)[::-1], {}, params, own)
    if set(params) == {"weight", "bias"} and dimensions == 1:
        return _made(prefix, LayerNorm, _shape("weight", weight, 1), {"eps": own["eps"]}, params, own)
    if set(params) == {"weight"} and dimensions == 2:
        raise FormatError(
            f"{prefix!r} is an embedding or a linear layer without bias, which look alike: make it yourself, "
            f"rr.Embedding(..., params={{'weight': ...}}), from recurray.convert.read_tensors"
        )
    raise FormatError(
        f"{prefix!r} has {', '.join(f'{name} {tuple(value.shape)}' for name, value in params.items())[:200]}: that is "
        "neither an LSTM, GRU, RNN, Linear nor LayerNorm"
    )


def _made(
    prefix: str,
    kind: type[Any],
    sizes: Sequence[int],
    options: Mapping[str, Any],
    params: Mapping[str, Any],
    own: Mapping[str, Any],
) -> Layer:
    try:
        layer: Layer = kind(
            *sizes, **options, backend=own["backend"], dtype=_dtype(params, own["dtype"]), params=params
        )
    except (ValueError, TypeError) as error:
        raise FormatError(f"{prefix!r} doesn't fit together: {error}") from error
    return layer


def _report(label: str, prefixes: Sequence[str], layers: Sequence[Layer], others: int, own: Mapping[str, Any]) -> str:
    lines = [f"{label}: {others} other tensors are left alone."]
    for prefix, layer in zip(prefixes, layers, strict=True):
        lines.append(f"{prefix or '(no prefix)'}: {layer!r}")
        if isinstance(layer, RNN):
            lines.append(f"    its function is {own['nonlinearity']!r}, as was said; the file doesn't tell")
        if isinstance(layer, LayerNorm):
            lines.append(f"    its eps is {own['eps']}, as was said or is usual; the file doesn't tell")
    lines.append("Dropout isn't in a state dict: a layer that is to be trained on needs its options again.")
    return "\n".join(lines)
