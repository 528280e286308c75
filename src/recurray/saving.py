"""Models in files: params, architecture and what else belongs to them in one safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recurray import __version__, architecture, sealed
from recurray.files import FormatError
from recurray.layers import Layer
from recurray.selector import get_backend
from recurray.tensor_files import Header

__all__ = ["Description", "describe", "load", "save"]

FORMAT = "recurray model"
VERSION = 1
KIND = "model file"


def save(model: Layer, path: str | Path, metadata: Mapping[str, Any] | None = None) -> None:
    """Write a model to a file, from which `load` makes it again: its params, its layers' classes and all their options.

    The file is the whole former one or the whole new one at every moment, also of a crash or a power cut: it is written
    beside, flushed to the disk and renamed. It is a safetensors file, which other programs read; names are those of
    `Layer.state_dict`. It holds a digest of each array and of everything else.

    Not in it are the backend, the states of generators (a loaded model's dropout draws from new ones), an optimizer,
    and a state. An argument that says how params start, ``seed`` or ``forget_bias``, is in the params by now.

    Parameters
    ----------
    model : Layer
        A layer, a `Sequential` or a `Model`. A cell, activation function or layer of a class of your own must have the
        arguments of its constructor as attributes of the same names.
    path : path-like
        Where to; a symbolic link is followed.
    metadata : mapping of str to JSON values, optional
        What else is to be in the file, for `describe`: anything that JSON can hold, except infinities and NaN.

    Raises
    ------
    OSError
        The file can't be written: no space, no permission, no such folder, it is read-only, another process is writing
        it. A former one is untouched.
    TypeError, ValueError
        An option or metadata can't be told in JSON, or two params are one array without having been tied.

    Examples
    --------
    >>> import os, tempfile
    >>> import numpy as np
    >>> import recurray as rr
    >>> model = rr.Sequential(rr.LSTM(3, 5, gate_activation=("leaky_relu", 0.2), seed=0), rr.Last(), rr.Linear(5, 2))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "model.safetensors")
    ...     rr.save(model, path, {"classes": ["up", "down"]})
    ...     again = rr.load(path)
    ...     rr.saving.describe(path).metadata
    {'classes': ['up', 'down']}
    >>> again
    Sequential(
        0: LSTM(3, 5, gate_activation=('leaky_relu', 0.2), backend='numpy', dtype='float32')  # 200 params
        1: Last(backend='numpy', dtype='float32')  # 0 params
        2: Linear(5, 2, backend='numpy', dtype='float32')  # 12 params
    )  # 212 params
    >>> x = np.ones((4, 6, 3), dtype="float32")
    >>> bool((model(x)[0] == again(x)[0]).all())
    True
    """
    if not isinstance(model, Layer):
        raise TypeError(f"model must be a recurray layer, not {type(model).__name__}")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, not {type(metadata).__name__}")
    params, content = contents(model, metadata or {})
    try:
        data = sealed.serialized(params, content, KIND)
    except (TypeError, ValueError, RecursionError) as error:
        raise type(error)(f"this can't be written to a {KIND}: {error}") from error
    with sealed.Writer(path, KIND) as writer:
        writer.write(data)


def contents(model: Layer, metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the arrays and the rest of what a model's file holds."""
    _refuse_ties(model)
    content = {
        "format": FORMAT,
        "version": VERSION,
        "written_by": f"recurray {__version__}",
        "model": architecture.described(model),
        "metadata": dict(metadata),
    }
    return model.state_dict(), content


def load(path: str | Path, backend: Any = None, cells: Any = None) -> Layer:
    """Make the model again that `save` wrote.

    Nothing in a file is run or imported, and its digests say of every bit whether it is as it was written. Memory is
    taken for what the file holds alone.

    Parameters
    ----------
    path : path-like
        The file.
    backend : str, Backend, namespace or None
        Where the model is to be; see `recurray.get_backend`.
    cells : class, sequence of classes, or mapping of str to class, optional
        The classes of cells, activation functions and layers of your own that the model has. Those of installed
        packages are found by themselves where these announce them as entry points of the group ``recurray.cells``.

    Raises
    ------
    FormatError
        The file isn't one that `save` wrote, is damaged, or holds what this version doesn't know.
    OSError
        It can't be read.
    BackendUnavailableError
        The backend can't run on this machine.
    ValueError, TypeError
        There is no such backend, or ``cells`` are no classes.

    See Also
    --------
    save : With an example.
    """
    classes = architecture.Classes.of(cells)
    on = None if backend is None else get_backend(backend)
    arrays, content = sealed.load(path, KIND)
    _check(path, content)
    params = {name: value for name, value in arrays.items() if not name.startswith(":")}  # others are a training's
    try:
        return architecture.Maker(on, params, classes).model(content["model"])
    except (ValueError, TypeError, RecursionError) as error:
        raise FormatError(f"{path} holds no model that can be made here: {error}") from error
    except MemoryError as error:
        raise FormatError(f"{path} holds a model that is too large for this machine's memory") from error


@dataclass(frozen=True)
class Description:
    """What a file of `save` says of itself.

    Attributes
    ----------
    metadata : dict
        What was handed to `save`.
    written_by : str
        Which version wrote it.
    model : dict
        The architecture, as JSON.
    shapes : dict of str to tuple of int
        The params' shapes.
    dtypes : dict of str to str
        Their types, by the names of safetensors.
    """

    metadata: dict[str, Any]
    written_by: str
    model: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]


def describe(path: str | Path) -> Description:
    """Read what a file of `save` says of itself, without its arrays.

    Raises
    ------
    FormatError
        The file isn't one that `save` wrote, or its header is damaged.
    OSError
        It can't be read.

    See Also
    --------
    save : With an example.
    """
    header, content = sealed.load_metadata(path, KIND)
    _check(path, content)
    return _description(header, content)


def _description(header: Header, content: Mapping[str, Any]) -> Description:
    entries = header.entries.items()
    return Description(
        content["metadata"],
        content["written_by"],
        content["model"],
        {name: entry.shape for name, entry in entries},
        {name: entry.dtype for name, entry in entries},
    )


def _check(path: str | Path, content: Mapping[str, Any]) -> None:
    """Check that a sealed file's content is that of a model."""
    if content.get("format") != FORMAT:
        what = content.get("format")
        known = f"it holds a {what}, which `recurray sample` reads" if what == "character language model" else ""
        raise FormatError(f"{path} isn't a file that recurray.save wrote{': ' + known if known else ''}")
    if content.get("version") != VERSION:
        raise FormatError(
            f"{path} was written by {content.get('written_by')}, in a form that {__version__} doesn't know"
        )
    kinds = {"model": dict, "metadata": dict, "written_by": str}
    if any(not isinstance(content.get(name), kind) for name, kind in kinds.items()):
        raise FormatError(f"{path} is incomplete")


def _refuse_ties(model: Layer) -> None:
    """Refuse two params that are one array: from the file they would come back as two."""
    seen: dict[int, str] = {}
    for name, value in dict(model.params).items():  # held: an address is no other array's meanwhile
        pointer = _address(value)
        if pointer in seen:
            raise ValueError(
                f"the params {seen[pointer]!r} and {name!r} are one array, which would be two in a file: say so where "
                f"the model is made, by tie={{{name!r}: {seen[pointer]!r}}}, or give one of them a copy"
            )
        seen[pointer] = name


def _address(value: Any) -> int:
    """What two arrays have in common that share their memory: where it begins if that is told, else who they are."""
    for interface in ("__array_interface__", "__cuda_array_interface__"):
        told = getattr(value, interface, None)
        if isinstance(told, Mapping) and all(told["shape"]):
            return int(told["data"][0])
    return id(value)
