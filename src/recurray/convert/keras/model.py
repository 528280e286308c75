"""A whole model of Keras as a `recurray.Sequential`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from recurray import checks, layers
from recurray.arrays import Array, namespace_of
from recurray.convert.keras import activations, pointwise, recurrent
from recurray.convert.keras.chain import makes_mask, straight
from recurray.convert.keras.container import Container, opened
from recurray.convert.keras.made import Made, Place
from recurray.convert.keras.options import Node
from recurray.convert.keras.weights import Weights
from recurray.convert.result import Converted
from recurray.files import FormatError
from recurray.layers import Layer, array_checks
from recurray.messages import shown
from recurray.selector import get_backend

WITHOUT_ARRAYS = (*pointwise.NOTHING, *activations.LAYERS, "Masking")
KNOWN = (*recurrent.KINDS, *pointwise.KINDS)


@dataclass(frozen=True)
class KerasModel(Converted):
    """A model that was read from a file of Keras.

    Attributes
    ----------
    model : Sequential
        The file's layers, one after the other.
    before, after : tuple of str
        The names of the layers that stand before and after these in the file and can't be said here.
    report : str
        A line for each layer: what it was, what it became, and what whoever uses it has to know.
    mask_value : float or None
        What the steps hold that the file's Masking layer leaves out; None where there is none.
    mask_zero : bool
        Whether the file's Embedding leaves out steps that are 0.
    """

    mask_value: float | None = None
    mask_zero: bool = False

    def mask(self, x: Array) -> Array | None:
        """The mask that the file's Masking layer, or its Embedding with mask_zero, makes of an input.

        Parameters
        ----------
        x : array
            The model's input: (batch, time, features), or integers (batch, time) for an Embedding.

        Returns
        -------
        array of bool, shape (batch, time), or None
            False at the steps that are left out, for ``model(x, mask=...)``; None where the file has no mask.

        Raises
        ------
        ValueError, TypeError
            x isn't an array of the model's backend, or of another kind or shape than the model takes.

        Examples
        --------
        >>> import numpy as np
        >>> import recurray as rr
        >>> from recurray.convert import KerasModel
        >>> converted = KerasModel(rr.LSTM(2, 3, seed=0), (), (), "", mask_value=0.0)
        >>> converted.mask(np.array([[[0.0, 0.0], [0.0, 1.0]]])).tolist()
        [[False, True]]
        """
        if self.mask_zero:
            x = array_checks.array(self.model.backend, "x", x)
            if not self.model.backend.xp.isdtype(x.dtype, "integral"):
                raise TypeError(f"x must be integers, for an Embedding, not {x.dtype}")
            return x != 0
        if self.mask_value is None:
            return None
        x = self.model.floats("x", x, ("batch", "time", "features"))
        return namespace_of(x).any(x != self.mask_value, axis=-1)


def from_keras(
    path: str | os.PathLike[str],
    *,
    architecture: Any = None,
    keras_version: str | None = None,
    backend: Any = None,
    dtype: str | None = None,
) -> KerasModel:
    """Read a model that Keras saved, without Keras, TensorFlow or h5py: nothing in the file is run.

    Parameters
    ----------
    path : path-like
        A ``.keras`` file, an ``.h5`` file of a whole model or of weights (Keras 1 and 2), or a ``.weights.h5`` file.
        Which it is, is told by its content.
    architecture : JSON text, mapping or sequence, optional
        For a file of weights alone, the layers that these are of: what ``model.to_json()`` or ``model.get_config()``
        gave, or a list of classes and options, as in ``[("LSTM", {"units": 50, "recurrent_activation": "sigmoid",
        "return_sequences": True}), ("Dense", {"units": 2})]``. What isn't said has Keras's default of today; but the
        gates' function has to be said, because its default changed in Keras 2.3.
    keras_version : str, optional
        Which Keras wrote it, "2.2.4" say, where the file doesn't tell. Of use for hard_sigmoid alone, which is
        0.2 x + 0.5 up to Keras 2, and x / 6 + 0.5 since.
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}, optional
        That of the file's layers if omitted, float32 in the place of shorter ones.

    Returns
    -------
    KerasModel
        ``model``, a `recurray.Sequential`; ``before`` and ``after``, the names of layers that can't be said here;
        ``report``, in words; and ``mask(x)``, for a model with Masking or with Embedding(mask_zero=True).

    Raises
    ------
    FormatError
        The file is damaged, or holds what can't be said: the layer and the option are named. Nothing is
        guessed.
    OSError
        It can't be opened.
    ValueError, TypeError
        An argument is of the wrong kind, or ``architecture`` or ``keras_version`` is given for a file that says it
        itself.
    BackendUnavailableError
        The backend can't run on this machine.

    Notes
    -----
    Models in a straight line are read: a Sequential, a functional model without branches, and these within each other.
    Layers: LSTM, GRU, SimpleRNN, RNN of one of their cells, CuDNNLSTM, CuDNNGRU, Bidirectional (all ways to merge),
    Dense, Embedding, LayerNormalization, BatchNormalization (as in inference), Dropout, Masking, TimeDistributed,
    activations. Layers that can't be said may stand before the first recurrent layer and after the last: they are named
    in ``before`` and ``after``.

    Three things differ from Keras. Outputs stay at their time where Keras's ``go_backwards=True`` returns them turned
    round. The output is zero at masked steps, where Keras repeats the output before. And a state is what the call
    returns, whatever ``return_state`` says.

    Examples
    --------
    >>> import numpy as np
    >>> from recurray import convert
    >>> converted = convert.from_keras("tests/library/convert/model.keras")
    >>> print(converted.report)
    written by Keras 3.15.1
    masking (Masking): nothing; the model is called with the mask that mask(x) gives
    bidirectional (Bidirectional): GRU(2, 3, bidirectional=True), Final(), Merge('sum')
    dense (Dense): Linear(3, 2), Activation('softmax')
    >>> x = np.ones((4, 6, 2), "float32")
    >>> y, state = converted.model(x, mask=converted.mask(x))
    >>> y.shape
    (4, 2)

    References
    ----------
    The formats are those of ``keras/src/saving/saving_lib.py`` and ``keras/src/legacy/saving/legacy_h5_format.py`` of
    Keras 3, and ``keras/engine/saving.py`` of Keras 2.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise TypeError(f"path must be a path, not {type(path).__name__} {shown(path)}")
    if keras_version is not None and (
        not isinstance(keras_version, str) or activations.major_of(keras_version) is None
    ):
        raise ValueError(f"keras_version must be a version, '2.2.4' say, not {shown(keras_version)}")
    placed = {"backend": get_backend(backend)}
    dtype = None if dtype is None else checks.float_dtype(dtype)
    try:
        with opened(path) as container:
            return _model(container, architecture, keras_version, placed, dtype)
    except FormatError as error:
        raise FormatError(f"can't convert {path}: {error}") from error


def _model(
    container: Container, architecture: Any, version: str | None, placed: dict[str, Any], dtype: str | None
) -> KerasModel:
    """Convert an open file."""
    said, version = _said(container, architecture, version)
    chain = straight(said)
    nodes = chain.nodes
    begin, end = _known_part(nodes)
    dtypes = {name for node in nodes if (name := _dtype_of(node)) is not None}
    placed = placed | {"dtype": dtype or ("float64" if dtypes == {"float64"} else "float32")}
    weights = Weights(container, list(filter(_has_arrays, nodes[begin:end])))
    lines = [f"written by Keras {version}" if version else "the file doesn't tell which Keras wrote it"]
    if short := sorted(dtypes - {"float32", "float64"}):
        lines.append(f"Keras computes it in {', '.join(short)}; here it is {placed['dtype']}")
    found: list[Layer] = []
    masking: Node | None = None
    place = Place(axes=3 if any(map(_recurrent, nodes)) else 0, masked=False, flipped=False, last=False)
    for number, node in enumerate(nodes[begin:end], begin):
        if makes_mask(node):
            if begin or masking or any(not isinstance(layer, layers.Dropout) for layer in found):
                raise node.refuse("it makes a mask of what other layers have computed, which can't be said here")
            masking = node
        place = replace(place, masked=place.masked or makes_mask(node), last=number == len(nodes) - 1)
        made = _made(node, weights, version, place, placed)
        place = replace(place, axes=made.axes, masked=place.masked and made.axes != 2, flipped=made.flipped)
        found += made.layers
        became = ", ".join(map(_shown, made.layers)) or "nothing"
        lines.append("; ".join((f"{node.name} ({node.kind}): {became}", *made.remarks)))
    if not found:
        raise FormatError("it has no layer that computes anything")
    before, after = (tuple(node.name for node in part) for part in (nodes[:begin], nodes[end:]))
    lines += _remarks(place, chain.outputs, nodes)
    for names, where in ((before, "before"), (after, "after")):
        if names:
            lines.append(
                f"not in the model, {where} it: "
                + ", ".join(map(str, nodes[:begin] if names is before else nodes[end:]))
            )
    return KerasModel(
        layers.Sequential(*found),
        before,
        after,
        "\n".join(lines),
        mask_value=masking.number("mask_value", 0.0) if masking and masking.kind == "Masking" else None,
        mask_zero=masking is not None and masking.kind == "Embedding",
    )


def _said(container: Container, architecture: Any, version: str | None) -> tuple[Any, str | None]:
    """The architecture and the version, each from the file or from whoever calls."""
    if container.version is not None and version is not None:
        raise ValueError(
            f"keras_version is given as {version!r}, but the file says {container.version!r}: leave it out"
        )
    version = container.version or version
    if container.architecture is not None:
        if architecture is not None:
            raise ValueError("architecture is given, but the file says its own: leave it out")
        return container.architecture, version
    if architecture is None:
        raise FormatError(
            f"it has weights alone, of {', '.join(map(shown, container.groups()[:12])) or 'nothing'}, and doesn't say "
            "what is computed with them: give architecture, what model.to_json() gave, or a list of layers"
        )
    if isinstance(architecture, (str, bytes)):
        try:
            architecture = json.loads(architecture)
        except (ValueError, RecursionError) as error:
            raise FormatError(f"architecture isn't JSON: {error}") from error
    told = architecture.get("keras_version") if isinstance(architecture, Mapping) else None
    return architecture, version or (told if isinstance(told, str) else None)


def _has_arrays(node: Node) -> bool:
    return (node.inner("layer") if node.kind == "TimeDistributed" else node).kind not in WITHOUT_ARRAYS


def _recurrent(node: Node) -> bool:
    return node.kind in recurrent.KINDS


def _known_part(nodes: Sequence[Node]) -> tuple[int, int]:
    """From where to where layers can be said, all that are recurrent among them."""
    places = [place for place, node in enumerate(nodes) if _recurrent(node)]
    first, last = (places[0], places[-1]) if places else (0, len(nodes) - 1)
    for node in nodes[first : last + 1]:
        if node.kind not in KNOWN:
            raise node.refuse("it can't be said here, and stands among layers that can")
    begin, end = first, last + 1
    while begin and nodes[begin - 1].kind in KNOWN:
        begin -= 1
    while end < len(nodes) and nodes[end].kind in KNOWN:
        end += 1
    for node in nodes[:begin]:
        if makes_mask(node):
            raise node.refuse("it makes a mask ahead of a layer that can't be said here")
    return begin, end


def _made(node: Node, weights: Weights, version: str | None, place: Place, placed: dict[str, Any]) -> Made:
    make = recurrent.made if _recurrent(node) else pointwise.made
    try:
        return make(node, weights, version, place, placed)
    except FormatError:
        raise
    except (TypeError, ValueError, MemoryError) as error:  # what a layer's constructor refuses
        raise node.refuse(str(error) or type(error).__name__) from error


def _shown(layer: Layer) -> str:
    """A layer with the options that are its own."""
    return f"{type(layer).__name__}({', '.join(layer.options())})"


def _remarks(place: Place, outputs: Sequence[tuple[str, int]], nodes: Sequence[Node]) -> list[str]:
    """What is to be known of the model's output."""
    lines = []
    if place.axes == 3 and place.masked:
        lines.append("at masked steps the output is zero, where Keras repeats what it was or computes on with that")
    if place.flipped:
        lines.append("Keras's own output runs backwards in time, y[:, ::-1]: here it stays at its time")
    names = {node.name: node for node in nodes}
    for name, number in outputs:
        if number and (name in names and names[name].option("merge_mode", "concat") is not None):
            lines.append(f"Keras's model also gives a state of {name}: it is in the state that a call returns")
    return lines


def _dtype_of(node: Node) -> str | None:
    """The precision that a layer computes in, if it says so."""
    policy = node.option("dtype", None)
    if isinstance(policy, Mapping):
        options = policy.get("config")
        policy = options.get("name") if isinstance(options, Mapping) else None
    return policy if isinstance(policy, str) and node.kind != "Embedding" else None
