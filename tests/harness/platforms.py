"""Where tests run: each backend that recurray can be given, and a reason where one isn't here.

Two environment variables steer it, both lists of names separated by commas:

- ``RECURRAY_TEST_REQUIRE``: what must be here. Its tests fail where they would have been skipped.
- ``RECURRAY_TEST_BACKENDS``: what to run on, all if it isn't set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import needs
from recurray.backend import Backend


class AbsentError(Exception):
    """This platform isn't here; the message says why."""


def _numpy() -> Backend:
    return rr.get_backend("numpy", engine="numpy")


def _native() -> Backend:
    try:
        return rr.get_backend("numpy", engine="native")
    except rr.BackendUnavailableError as error:
        raise AbsentError(str(error)) from error


def _numpy_readonly() -> Backend:
    class ReadOnlyNumpy(type(_numpy())):  # type: ignore[misc]
        """The NumPy backend, handing out arrays that can't be written to: params, inputs, states, gradients."""

        def asarray(self, x: Any, dtype: str | None = None) -> Any:
            result = super().asarray(x, dtype).view()
            result.flags.writeable = False
            return result

    return ReadOnlyNumpy(engine="numpy")


def _reference() -> Backend:
    return rr.get_backend(np)  # type: ignore[arg-type]


def _array_api_strict() -> Backend:
    return rr.get_backend(_imported("array_api_strict"))


def _device1() -> Backend:
    strict = _imported("array_api_strict")
    return rr.get_backend(strict, strict.Device("device1"))


def _torch() -> Backend:
    torch = _imported("torch")
    torch.set_num_threads(1)
    torch.set_warn_always(True)  # otherwise a warning fails the first test that meets it and none after it
    return rr.get_backend(torch)


def _jax() -> Backend:
    jax = _imported("jax")
    jax.config.update("jax_enable_x64", True)
    return rr.get_backend(jax.numpy)


def _cupy() -> Backend:
    try:
        return rr.get_backend("cupy")
    except rr.BackendUnavailableError as error:
        raise AbsentError(str(error)) from error


def _imported(name: str) -> Any:
    reason = needs.not_installed(name)
    if reason:
        raise AbsentError(reason)
    return import_module(name)


MAKERS: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "numpy-readonly": _numpy_readonly,
    "native": _native,  # the compiled engine, on NumPy arrays
    "reference": _reference,  # the reference path, on NumPy
    "array-api-strict": _array_api_strict,
    "device1": _device1,  # a second device of array-api-strict: shows whether anything crosses devices
    "torch": _torch,
    "jax": _jax,
    "cupy": _cupy,
}

QUICK_ON_JAX = ("test_backends.py", "test_bad_input.py", "test_losses.py")  # and what is slow
ON_DEFAULT_DEVICE = ("test_backends.py", "test_bad_input.py", "test_every_backend.py", "test_arrays_of_others.py")


def takes_long(platform: str, file: str) -> bool:
    """Whether a file's tests on a platform are left to ``-m long``.

    JAX compiles each operation for each shape; most files run on array-api-strict's second device, not on its first,
    which is the default, too.
    """
    if platform == "jax":
        return file not in QUICK_ON_JAX
    return platform == "array-api-strict" and file not in ON_DEFAULT_DEVICE


LIBRARIES = {"array-api-strict": "array_api_strict", "device1": "array_api_strict", "torch": "torch", "jax": "jax"}


def _listed(variable: str) -> tuple[str, ...]:
    names = needs.listed(variable)
    unknown = [name for name in names if name not in MAKERS]
    if unknown:
        raise pytest.UsageError(f"{variable} names {', '.join(unknown)}; known are {', '.join(MAKERS)}")
    return names


def required() -> tuple[str, ...]:
    """The platforms that must be here."""
    return _listed("RECURRAY_TEST_REQUIRE")


def platforms() -> tuple[str, ...]:
    """The platforms that tests are asked to run on, here or not."""
    return _listed("RECURRAY_TEST_BACKENDS") or tuple(MAKERS)


@cache
def _found(name: str) -> Backend | str:
    try:
        return MAKERS[name]()
    except AbsentError as reason:
        return str(reason)


def why_absent(name: str) -> str | None:
    """Why a platform isn't here, None if it is. To be quick, nothing is imported where its being installed will do."""
    module = LIBRARIES.get(name)
    if module is not None:
        return needs.not_installed(module)
    found = _found(name)
    return found if isinstance(found, str) else None


def here(*names: str) -> list[str]:
    """Those of the platforms ``names`` (of all, if none is given) to run tests on: that are asked for and here.

    One that must be here is among them even if it isn't, so that its tests fail.
    """
    asked = [name for name in names or platforms() if name in platforms()]
    return [name for name in asked if why_absent(name) is None or name in required()]


def obtain(name: str) -> Backend:
    """The backend of a platform; where it isn't here the test is skipped, or fails if the platform must be here."""
    found = _found(name)
    return found if isinstance(found, Backend) else needs.absent(name, found)
