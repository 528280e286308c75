"""Finding a backend by its name."""

from __future__ import annotations

import os
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from recurray.backend import Backend, BackendUnavailableError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "recurray.backends"  # the entry points that packages announce their backends by
VARIABLE = "RECURRAY_BACKEND"


def get_backend(backend: str | Backend | ModuleType | None = None, device: Any = None, **options: Any) -> Backend:
    """Return the backend that ``backend`` names.

    Parameters
    ----------
    backend : str, Backend, array-API namespace or None
        "numpy", "cupy", or another installed backend's name; "auto" for "cupy" where a CUDA device answers and
        "numpy" elsewhere; a namespace such as ``torch`` or ``array_api_strict`` for the reference path on it;
        None for what the environment variable ``RECURRAY_BACKEND`` says, else "numpy".
    device : optional
        One of the library's devices (for CuPy a device's number); its default device if omitted.
    **options
        What else the backend that is named takes: for "numpy" ``engine``, "numpy" or "native", to have recurrences run
        by NumPy or by the compiled engine; by default the engine runs them where it is installed.

    Raises
    ------
    BackendUnavailableError
        The backend can't run on this machine; the text says what to install.
    ValueError
        No backend has that name.
    TypeError
        ``backend`` is none of the above.

    Examples
    --------
    >>> import recurray as rr
    >>> rr.get_backend("numpy")
    <recurray backend 'numpy' on cpu>
    """
    if backend is None:
        backend = os.environ.get(VARIABLE) or "numpy"
    if options and not isinstance(backend, str):
        raise TypeError(f"{', '.join(options)}: options are for a backend that is named, not for {backend!r}")
    if isinstance(backend, Backend):
        if device is not None and device != backend.device:
            raise ValueError(f"the backend given is on {backend.device}, but device={device!r} was asked for")
        return backend
    if isinstance(backend, str):
        if backend == "auto":
            return _automatic(device, **options)
        return _named(backend, device, **options)
    if hasattr(backend, "asarray") and hasattr(backend, "__name__"):
        return _on_namespace(backend, device)
    raise TypeError(
        f"backend must be a name, a Backend, an array-API namespace or None, not {type(backend).__name__} {backend!r}"
    )


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


def why_unavailable(name: str) -> str | None:
    """Return what keeps the backend ``name`` from running on this machine, None if nothing does."""
    try:
        _named(name, None)
    except BackendUnavailableError as error:
        return str(error)
    return None


def _automatic(device: Any, **options: Any) -> Backend:
    if "cupy" in _announced() and why_unavailable("cupy") is None:
        return _named("cupy", device, **options)
    return _named("numpy", device, **options)


@cache
def _announced() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # a third of what importing recurray would cost

    return {point.name: point for point in entry_points(group=GROUP)}


@cache
def _named(name: str, device: Any, **options: Any) -> Backend:
    announced = _announced()
    if name not in announced:
        known = ", ".join(repr(known) for known in (*announced, "auto"))
        raise ValueError(f"there is no backend {name!r}; the installed ones are {known}")
    try:
        make = announced[name].load()
    except ImportError as error:
        raise BackendUnavailableError(f"the backend {name!r} can't be imported: {error}") from error
    backend: Backend = make(device=device, **options)
    return backend


@cache
def _on_namespace(namespace: Any, device: Any) -> Backend:
    return Backend(namespace, device)
