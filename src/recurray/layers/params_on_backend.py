"""What a layer holds: params on a backend, which are set, read, loaded, and taken to another backend."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any, Self

from recurray import checks
from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers import array_checks, draws, moving
from recurray.layers.fixed_params import FixedParams, read_only
from recurray.selector import get_backend


class ParamsOnBackend:
    """Params by name, all on one backend and in one dtype; `Layer` adds forward and backward."""

    backend: Backend
    dtype: str
    params: MutableMapping[str, Array]
    _declared: array_checks.Shapes | None = None  # of all params; None in a user's layer that doesn't tell
    _unsaid: frozenset[str] | None = None  # which of backend and dtype nobody has said; None: nobody knows
    _fixed: dict[str, Array] | None = None  # the params of a layer in a `Frozen`, which nobody changes

    def runs_on(self, backend: Any, dtype: Any) -> None:
        """Take ``backend`` and ``dtype`` as they were given to the constructor.

        None is for the default, which gives way where a `Sequential` knows better.
        """
        self.dtype = checks.float_dtype("float32" if dtype is None else dtype)
        self.backend = get_backend(backend)
        given = {"backend": backend, "dtype": dtype}
        self._unsaid = frozenset(name for name, value in given.items() if value is None)

    def param_count(self) -> int:
        """How many numbers the params hold."""
        return sum(math.prod(shape) for shape in self._param_shapes.values())

    def state_dict(self) -> dict[str, Any]:
        """Copies of the params as NumPy arrays, in C order."""
        return {name: self.backend.to_numpy(value) for name, value in self.checked_params().items()}

    def load_state_dict(self, mapping: Mapping[str, Any]) -> None:
        """Replace every param by the array of the same name in ``mapping`` (of any library or device).

        Raises
        ------
        ValueError
            A name is missing or unknown, or a shape differs; then no param is changed.
        TypeError
            A value isn't a floating-point array.
        """
        loaded = array_checks.params_to_load(self.backend, self.dtype, self._param_shapes, mapping)
        if isinstance(self.params, MutableMapping):
            self.params.update(loaded)
        else:
            self.params = loaded

    @property
    def _param_shapes(self) -> array_checks.Shapes:
        """The shapes of all params, whatever `params` holds by now."""
        if self._declared is not None:
            return self._declared
        return {name: tuple(value.shape) for name, value in self.params.items()}

    def start_params(
        self,
        shapes: array_checks.Shapes,
        drawn: Callable[[], Mapping[str, Any]],
        given: Mapping[str, Any] | None = None,
    ) -> None:
        """Set the params to those that are given, or else to what is drawn, NumPy arrays of these shapes.

        Whether they can be held, and those given fit, is seen before any memory is taken.
        """
        array_checks.memory(shapes)
        self._declared = dict(shapes)
        if given is not None:
            self.params = array_checks.params_to_load(self.backend, self.dtype, shapes, given)
            return
        self.params = {name: self.backend.asarray(value, self.dtype) for name, value in drawn().items()}

    def checked_params(self) -> dict[str, Array]:
        """The params, which anyone may have replaced: whatever reads them does so by this."""
        if self._fixed is not None:
            return self._fixed
        return array_checks.params(self.backend, self.dtype, self._param_shapes, self.params)

    def to(self, backend: Any = None, dtype: Any = None) -> Self:
        """Return the same layer on another backend, or in another precision.

        It has the same options, copies of the params, and copies of the generators in the state that they are in: the
        two layers share no array that anyone writes to. An optimizer goes along by `recurray.optim.Optimizer.to`, a
        state by `as_state`. Where arrays come from a device, the host waits for it.

        Parameters
        ----------
        backend : str, Backend, namespace or None
            See `recurray.get_backend`; the layer's own if omitted.
        dtype : {"float32", "float64"}, optional
            The precision; the layer's own if omitted.

        Raises
        ------
        BackendUnavailableError
            The backend can't run on this machine.
        ValueError, TypeError
            There is no such backend or dtype, or a param holds a finite number that is too large for float32.

        Examples
        --------
        >>> import array_api_strict
        >>> import recurray as rr
        >>> lstm = rr.LSTM(3, 5, seed=0)
        >>> lstm.to(array_api_strict, "float64")
        LSTM(3, 5, backend='array_api_strict', dtype='float64')  # 200 params
        """
        other = self.copy_on(
            self.backend if backend is None else get_backend(backend),
            self.dtype if dtype is None else checks.float_dtype(dtype),
        )
        other._own_generators()
        if self._unsaid is not None:
            said = {name for name, value in (("backend", backend), ("dtype", dtype)) if value is not None}
            other._unsaid = self._unsaid - said
        return other

    def astype(self, dtype: str) -> Self:
        """Return the same layer in the precision ``dtype`` ("float32" or "float64"): `to`, with a dtype alone."""
        return self.to(dtype=dtype)

    def as_state(self, state: Any) -> Any:
        """Return a copy of a state, of any backend and precision, as one that this layer takes.

        Parameters
        ----------
        state : State or tuple or None
            What a layer of the same form returned: the one that this is a copy of, say.

        Raises
        ------
        ValueError, TypeError
            Something in it isn't a floating-point array, or holds a finite number that is too large for float32.

        Examples
        --------
        >>> import array_api_strict, numpy as np
        >>> import recurray as rr
        >>> lstm = rr.LSTM(3, 5, backend="numpy", seed=0)
        >>> y, state = lstm(np.ones((1, 4, 3)))
        >>> type(lstm.to(array_api_strict).as_state(state).h)
        <class 'array_api_strict._array_object.Array'>
        """
        return moving.state(self.backend, self.backend, self.dtype, "state", state)

    def _fix(self) -> None:
        """Have the params stay as they are: for a `Frozen`, which alone holds the layer."""
        self._fixed = read_only(self.checked_params())
        self.params = FixedParams(self._fixed)

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """A copy on a backend and in a dtype, that has params of its own and shares the rest.

        A layer that holds other arrays, or layers, brings these along here.
        """
        other = copy.copy(self)
        other._fixed = None
        other.backend, other.dtype = backend, dtype
        other.params = {
            name: moving.array(self.backend, backend, dtype, f"the param {name!r}", value)
            for name, value in self.checked_params().items()
        }
        return other

    def _own_generators(self) -> None:
        """Give the layer its own copies of its generators."""
        vars(self).update(draws.copy_of_each(vars(self)))
