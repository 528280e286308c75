"""Finding a backend by its name."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recurray import environment
from recurray.arrays import Array, device_of, namespace_of
from recurray.backend import Backend, BackendUnavailableError
from recurray.messages import shown

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "recurray.backends"  # the entry points that packages announce their backends by

_ON_A_GPU = ": NVIDIA's GPUs are 'cupy'"
_MEANT = dict.fromkeys(("gpu", "cuda", "nvidia", "cudnn"), _ON_A_GPU)  # what others call it, and what it is here
_MEANT |= dict.fromkeys(("cpu", "np"), ": the CPU is 'numpy'")
_MEANT |= {
    name: f": give the namespace itself, {line}"
    for name, line in {
        "torch": "import torch; backend=torch",
        "pytorch": "import torch; backend=torch",
        "jax": "import jax; backend=jax.numpy",
        "jax.numpy": "import jax; backend=jax.numpy",
        "array_api_strict": "import array_api_strict; backend=array_api_strict",
    }.items()
}
_MEANT |= dict.fromkeys(("native", "c"), ": that is the engine of 'numpy', get_backend('numpy', engine='native')")


def get_backend(backend: str | Backend | ModuleType | None = None, device: Any = None, **options: Any) -> Backend:
    """Return the backend that ``backend`` names.

    Parameters
    ----------
    backend : str, Backend, array-API namespace or None
        "numpy", "cupy", or another installed backend's name; "auto" for "cupy" where a CUDA device answers and
        "numpy" elsewhere; a namespace such as ``torch`` or ``array_api_strict`` for the reference path on it;
        None for what the environment variable ``RECURRAY_BACKEND`` says, else "numpy".
    device : optional
        One of the library's devices, for CuPy's also its number; its default device if omitted.
    **options
        What else the backend's class takes, see `recurray_numpy.NumpyBackend` and `recurray_cupy.CupyBackend`; None
        is for its default.

    Raises
    ------
    BackendUnavailableError
        The backend can't run on this machine; the text says what to install.
    ValueError
        No backend has that name, or it takes no such option.
    TypeError
        ``backend`` is none of the above.

    Examples
    --------
    >>> import recurray as rr
    >>> rr.get_backend("numpy", engine="numpy")
    <recurray backend 'numpy' on cpu>
    """
    if backend is None:
        backend = environment.backend((*backend_names(), "auto")) or "numpy"
    options = {name: value for name, value in options.items() if value is not None}
    device = _hashable(device)
    try:
        hash((device, *options.values()))
    except TypeError:
        named = {"device": device, **options}
        wrong = next(name for name, value in named.items() if type(value).__hash__ is None)
        raise TypeError(f"{wrong} can't be a {type(named[wrong]).__name__}, {shown(named[wrong])}") from None
    if isinstance(backend, Backend):
        if device is not None and device != _hashable(backend.device):
            raise ValueError(f"the backend given is on {backend.device}, but device={shown(device)} was asked for")
        for name, value in options.items():
            if value != getattr(backend, name, None):
                raise ValueError(f"the backend given is {backend!r}, but {name}={shown(value)} was asked for")
        return backend
    if isinstance(backend, str):
        if backend == "auto":
            backend = "cupy" if "cupy" in _announced() and why_unavailable("cupy") is None else "numpy"
        return _named(backend, device, **options)
    if hasattr(backend, "asarray") and hasattr(backend, "__name__"):
        for name, value in options.items():
            raise ValueError(
                f"the reference path on a namespace takes no {name}, but {name}={shown(value)} was asked for"
            )
        return _on_namespace(backend, device)
    raise TypeError(
        "backend must be a name, a Backend, an array-API namespace or None, "
        f"not {type(backend).__name__} {shown(backend)}"
    )


def backend_of(array: Array) -> Backend:
    """Return the backend of an array's library, on its device."""
    xp = namespace_of(array)
    library = xp.__name__.removeprefix("array_api_compat.")  # jax.numpy is another library than numpy
    return get_backend(library if library in _announced() else xp, device_of(array))


def _hashable(device: Any) -> Any:
    """What stands for a device: of CuPy's, which can't be hashed, the number, which CuPy takes as well."""
    return device.id if type(device).__hash__ is None and isinstance(getattr(device, "id", None), int) else device


def available_backends() -> tuple[str, ...]:
    """Return the names of the installed backends that work on this machine.

    Examples
    --------
    >>> import recurray as rr
    >>> "numpy" in rr.available_backends()
    True
    """
    return tuple(name for name in backend_names() if why_unavailable(name) is None)


def backend_names() -> tuple[str, ...]:
    """Return the names of all installed backends, whether or not they work here."""
    return tuple(_announced())


def outlook(name: str) -> dict[str, list[tuple[str, str]]]:
    """Return what is expected of a backend's speed, where it works here on this machine, else in general."""
    try:
        kind = _announced()[name].load()
    except ImportError:
        return {}
    here = _named(name, None) if why_unavailable(name) is None else None
    return kind.outlook(here) if hasattr(kind, "outlook") else {}


def why_unavailable(name: str) -> str | None:
    """Return what keeps the backend ``name`` from running on this machine, None if nothing does."""
    try:
        _named(name, None)
    except BackendUnavailableError as error:
        return str(error)
    return None


@cache
def _announced() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a third of what importing recurray would cost

    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def _named(name: str, device: Any, **options: Any) -> Backend:
    announced = _announced()
    if name not in announced:
        known = ", ".join(repr(known) for known in (*announced, "auto"))
        meant = _MEANT.get(name.lower(), "")
        raise ValueError(f"there is no backend {shown(name)}{meant}; the installed ones are {known}")
    try:
        make = announced[name].load()
    except ImportError as error:
        raise BackendUnavailableError(f"the backend {name!r} can't be imported: {error}") from error
    if options:
        taken = _options_of(make)
        for option, value in options.items():
            if option not in taken:
                but = f"it takes {', '.join(taken)}" if taken else "it takes no options"
                raise ValueError(
                    f"the backend {name!r} takes no {option}, but {option}={shown(value)} was asked for: {but}"
                )
    backend: Backend = make(device=device, **options)
    backend.origin = partial(_named, name, device, **options), ()
    return backend


def _options_of(make: Callable[..., Backend]) -> list[str]:
    """What the maker of a backend takes besides the device, by name."""
    from inspect import Parameter, signature  # costs more than all the rest

    named = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)
    return [name for name, p in signature(make).parameters.items() if p.kind in named and name != "device"]


@cache
def _on_namespace(namespace: Any, device: Any) -> Backend:
    try:
        backend = Backend(namespace, device)
    except Exception as error:  # whatever the library raises
        name = getattr(namespace, "__name__", namespace)
        if device is None:
            raise TypeError(f"backend must be an array-API namespace, which {name} isn't: {error}") from error
        raise ValueError(f"{name} has no device {shown(device)}: {error}") from error
    backend.origin = _on_namespace_of, (namespace.__name__, device)
    return backend


def _on_namespace_of(name: str, device: Any) -> Backend:
    return _on_namespace(import_module(name), device)
