"""What every layer is: params on a backend, an explicit forward, and its backward."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping
from types import EllipsisType
from typing import Any, NoReturn, Self
from weakref import WeakValueDictionary

from recurray import checks
from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers import array_checks, draws, moving
from recurray.layers.draws import Generator
from recurray.layers.fixed_params import FixedParams, read_only
from recurray.messages import kind_of
from recurray.selector import get_backend

Directions = tuple[bool, ...]  # of the equal parts of an output's features: whether each runs from the end

_LIVING: WeakValueDictionary[int, Layer] = WeakValueDictionary()  # all layers there are, by their identity


def living_layers() -> list[Layer]:
    """Return the layers that there are: to say of an array whose param it is."""
    while True:
        try:
            return [*_LIVING.values()]
        except RuntimeError:  # another thread has made one meanwhile
            continue


class Layer(ABC):
    """Params, a backend, and a forward with its backward.

    A layer keeps nothing from call to call: what backward needs is in the cache that forward returns, and the
    state that a recurrent layer carries goes in and comes out by argument. So several threads can share a layer.

    Attributes
    ----------
    backend : Backend
        Where the params live and the layer runs.
    dtype : str
        "float32" or "float64": the precision of the params and of all that is computed.
    params : mapping of str to array
        The layer's params; gradients have the same names and shapes.
    recurrent : bool
        Whether it, or a layer in it, is recurrent: such a layer takes ``resets``.
    static_size : int
        How many features it takes that don't change over time, ``static``; 0 if it takes none.
    """

    backend: Backend
    dtype: str
    params: MutableMapping[str, Array]
    recurrent: bool = False  # whether it takes resets: where its rows are cut
    static_size: int = 0
    _declared: array_checks.Shapes | None = None  # of all params; None in a user's layer that doesn't tell
    _unsaid: frozenset[str] | None = None  # which of backend and dtype nobody has said; None: nobody knows
    _fixed: dict[str, Array] | None = None  # the params of a layer in a `Frozen`, which nobody changes

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a layer, a copy too, and count it among `living_layers`."""
        layer = super().__new__(cls)
        _LIVING[id(layer)] = layer
        return layer

    def runs_on(self, backend: Any, dtype: Any) -> None:
        """Take ``backend`` and ``dtype`` as they were given to the constructor.

        None is for the default, which gives way where a `Sequential` knows better.
        """
        self.dtype = checks.float_dtype("float32" if dtype is None else dtype)
        self.backend = get_backend(backend)
        given = {"backend": backend, "dtype": dtype}
        self._unsaid = frozenset(name for name, value in given.items() if value is None)

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, Any]:
        """Inference: the output and the final state; keeps nothing.

        Parameters are those of `forward`.
        """
        given = {"mask": mask, "resets": resets, "static": static}
        y, end, _ = self.run(x, state, lengths, training=False, rng=None, keep=False, **given)
        return y, end

    def forward(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        training: bool = True,
        rng: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, Any, Any]:
        """Run the layer and keep what `backward` needs.

        Parameters
        ----------
        x : array
            The input, of the layer's backend.
        state : optional
            The start state, for layers that have one; zeros if omitted.
        lengths : sequence or array of int, shape (batch,), optional
            How many steps of each row are valid, from the first on; all if omitted.
        training : bool
            Whether dropout is active.
        rng : numpy.random.Generator, optional
            Where dropout's draws come from; the layer's own generator if omitted.
        mask : array of bool, shape (batch, time), optional
            In place of ``lengths``, which steps are valid: (time, batch) where the layer has ``batch_first=False``. A
            step that isn't doesn't happen: the state stays, the output is zero, what the input holds is ignored, and
            nothing has a gradient.
        resets : array of bool, shape as that of ``mask``, optional
            For layers that are recurrent: True cuts the row before that step, whether the step is valid or not. The
            pieces don't see each other. The first piece in the order of the loop begins with ``state``, the others with
            the layer's own start: zero, or what is learned. Where a cut comes after the last valid step in that order,
            the final state is the layer's own start.
        static : array, shape (batch, features), optional
            For recurrent layers with ``static_size``, and these need it: input that doesn't change over time.

        Returns
        -------
        y : array
            The output. It may share memory with ``x`` and with the cache: copy it before writing to it.
        state
            The final state, None for layers that have none.
        cache
            What `backward` reads. It may refer to the params, ``x``, ``state`` and ``y``: until `backward` has run,
            these may be replaced, but not written to in place.
        """
        checks.flag("training", training)
        given = {"mask": mask, "resets": resets, "static": static}
        return self.run(x, state, lengths, training=training, rng=draws.checked(rng), keep=True, **given)

    @abstractmethod
    def run(
        self,
        x: Array,
        state: Any,
        lengths: Any,
        *,
        training: bool,
        rng: Any,
        keep: bool,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, Any, Any]:
        """Check the arguments, run, and return (y, state, cache); the cache may be None where ``keep`` is False."""

    @abstractmethod
    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Array, Any, dict[str, Array]]:
        """Gradients of a loss, given those of the output and of the final state.

        Parameters
        ----------
        cache
            What `forward` returned; it isn't changed and can be used again.
        dy : array
            The loss's gradient with respect to the output.
        dstate : optional
            The loss's gradient with respect to the final state; zeros if omitted.

        Returns
        -------
        dx : array
            The gradient with respect to the input (None where the input is integers). Where ``static`` was given to
            forward, `InputGradients`, with this as its ``x``, and the gradient with respect to that as its ``static``.
        dstate
            The gradient with respect to the start state, None for layers that have none.
        grads : dict of str to array
            The gradients with respect to the params, by their names.
        """

    def floats(self, name: str, value: Any, shape: tuple[int | str | EllipsisType, ...]) -> Array:
        """Check a floating-point array of the layer's backend and bring it to the layer's dtype.

        In ``shape`` a word stands for any size, and an ellipsis at the front for any axes.
        """
        return array_checks.floats(self.backend, self.dtype, name, value, shape)

    def check_cache(self, cache: Any, expected: type) -> None:
        """Check that a cache is of the kind that the layer's forward returns, with arrays as the layer makes them."""
        array_checks.cache(cache, expected)
        backend, xp = self.backend, self.backend.xp
        other = xp.float64 if self.dtype == "float32" else xp.float32
        for name, value in vars(cache).items():
            if hasattr(value, "dtype") and (
                not backend.owns(value) or not backend.on_device(value) or value.dtype == other
            ):
                raise ValueError(
                    f"cache must be of a layer on {backend!r} in {self.dtype}, but its {name} is "
                    f"{kind_of(value)} of {value.dtype}: it is another layer's"
                )

    @abstractmethod
    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""

    @property
    def streamable(self) -> bool:
        """Whether the output at a step depends only on that step and earlier ones, so that input may come in chunks."""
        return True

    def directions_after(self, before: Directions) -> Directions:
        """Which way in time the parts of its output run, given those of its input; none where that can't be said."""
        return ()

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

    def frozen(self) -> Frozen:
        """Return the layer as it is now, for inference alone: it holds copies of the params, which nobody changes.

        So what a backend makes of params, their order, packed or joined, is made once and kept, where a layer that is
        trained has it made at each call: calls of a few steps or rows are quicker. Outputs have the same bits.

        Returns
        -------
        Frozen
            It is called as the layer is, and has its attributes. It refuses to be trained: `Frozen.trainable` returns
            a layer that can be.

        Examples
        --------
        >>> import numpy as np
        >>> import recurray as rr
        >>> lstm = rr.LSTM(3, 5, backend="numpy", seed=0)
        >>> frozen = lstm.frozen()
        >>> frozen
        LSTM(3, 5, backend='numpy', dtype='float32').frozen()  # 200 params
        >>> x = np.ones((1, 4, 3), dtype="float32")
        >>> y, state = lstm(x)
        >>> bool((frozen(x)[0] == y).all())
        True
        >>> lstm.params["weight_hh_l0"][...] = 0  # of which the frozen one knows nothing
        >>> bool((frozen(x)[0] == y).all())
        True
        """
        return Frozen(self.to())

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

    def __repr__(self) -> str:
        options = self.options()
        count = self.param_count()
        text = ", ".join([*options, f"backend={self.backend.name!r}", f"dtype={self.dtype!r}"])
        return f"{type(self).__name__}({text})  # {count:,} params"

    def argument(self, name: str) -> Any:
        """What the constructor was given as ``name``, which the layer has as an attribute of that name."""
        return getattr(self, name)

    def options(self) -> list[str]:
        """The sizes and the options that differ from the defaults, as they would stand in the constructor's call.

        These are the constructor's arguments that the layer has as attributes of the same names.
        """
        from inspect import Parameter, signature  # costs more than all the rest

        found = []
        for name, argument in signature(type(self).__init__).parameters.items():
            if hasattr(self, name) and name not in ("backend", "dtype", "params"):
                value = self.argument(name)
                if argument.default is Parameter.empty:
                    found.append(repr(value))
                elif (value == argument.default) is not True:  # of an array it is an array
                    found.append(f"{name}={value!r}")
        return found


class StatelessLayer(Layer):
    """A layer that carries nothing from call to call: subclasses say what it does to an array, and backward."""

    def __call__(
        self,
        x: Array,
        state: Any = None,
        lengths: Any = None,
        *,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, None]:
        """Inference: the output, and None for a state; see `Layer.__call__`."""
        if type(self).run is StatelessLayer.run and state is None and resets is None and static is None:
            return self.apply(x, lengths, False, None)[0], None
        y, _ = super().__call__(x, state, lengths, mask=mask, resets=resets, static=static)
        return y, None

    def run(
        self,
        x: Array,
        state: Any,
        lengths: Any,
        *,
        training: bool,
        rng: Any,
        keep: bool,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, None, Any]:
        """Run `apply`, and refuse what is for layers with a state; see `Layer.run`."""
        self._refuse("state", state)
        array_checks.not_recurrent(type(self).__name__, resets=resets, static=static)
        y, cache = self.apply(x, lengths, training, rng)
        return y, None, cache if keep else None

    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Array, None, dict[str, Array]]:
        """Gradients of the input and the params; see `Layer.backward`."""
        self._refuse("dstate", dstate)
        dx, grads = self.apply_backward(cache, dy)
        return dx, None, grads

    @abstractmethod
    def apply(self, x: Array, lengths: Any, training: bool, rng: Any) -> tuple[Array, Any]:
        """Check x, and ``lengths`` if they matter, and return (y, cache)."""

    @abstractmethod
    def apply_backward(self, cache: Any, dy: Array) -> tuple[Array, dict[str, Array]]:
        """Check dy and return (dx, grads)."""

    def _refuse(self, name: str, value: Any) -> None:
        if value is not None:
            raise ValueError(f"{name} must be None: {type(self).__name__} carries no state, got {type(value).__name__}")


class Frozen(Layer):
    """A layer for inference alone, whose params stay as they are; `Layer.frozen` returns one.

    It is called as the layer that it was made of is, gives the same bits, and has its attributes, but its params are
    read-only copies. Several threads can share it, and it can be streamed, copied, pickled, moved by `to`, and stand in
    a `Sequential` that isn't trained. `recurray.save` writes what it was made of, so that `recurray.load` returns a
    layer that can be trained.

    Parameters
    ----------
    layer : Layer
        The layer, which is the new one's own from here on.

    Raises
    ------
    TypeError
        From `forward` and `backward`: there is nothing to be trained; and where a param is replaced.
    ValueError
        From a NumPy array of the params, where it is written to.

    Notes
    -----
    The layers of a frozen `Model` can be run by `forward` in its own forward; they do so as in inference, and give no
    cache.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> model = rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Last(), rr.Linear(5, 2, seed=1)).frozen()
    >>> y, state = model(np.ones((4, 6, 3), dtype="float32"))
    >>> y.shape
    (4, 2)
    >>> model.forward(np.ones((4, 6, 3), dtype="float32"))
    Traceback (most recent call last):
    TypeError: a frozen Sequential is for inference alone: call it; its trainable() returns one that can be trained
    """

    def __init__(self, layer: Layer) -> None:
        layer._fix()
        self._layer = layer
        self.backend, self.dtype = layer.backend, layer.dtype
        self.recurrent, self.static_size = layer.recurrent, layer.static_size
        self._unsaid = layer._unsaid

    def __call__(self, x: Any, state: Any = None, *args: Any, **options: Any) -> Any:
        """Run the layer; see `Layer.__call__`."""
        return self._layer(x, state, *args, **options)

    def forward(self, *args: Any, **options: Any) -> Any:
        """Refuse: it keeps nothing for backward."""
        self._refuse()

    def run(
        self,
        x: Array,
        state: Any,
        lengths: Any,
        *,
        training: bool,
        rng: Any,
        keep: bool,
        mask: Any = None,
        resets: Any = None,
        static: Any = None,
    ) -> tuple[Array, Any, None]:
        """Run the layer, in inference alone; see `Layer.run`."""
        if training or keep:
            self._refuse()
        return (*self._layer(x, state, lengths, mask=mask, resets=resets, static=static), None)

    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> NoReturn:
        """Refuse: there is nothing to be trained."""
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise TypeError(
            f"a frozen {type(self._layer).__name__} is for inference alone: call it; "
            "its trainable() returns one that can be trained"
        )

    def trainable(self) -> Layer:
        """Return a layer of the same kind, with copies of the params, that can be trained."""
        return self._layer.to()

    def frozen(self) -> Self:
        """Return itself: it stays as it is."""
        return self

    def copy_on(self, backend: Backend, dtype: str) -> Self:
        """Also frozen; see `Layer.copy_on`."""
        return type(self)(self._layer.copy_on(backend, dtype))

    def __reduce__(self) -> Any:  # for copies too: what backends have made of the params isn't copied
        return type(self), (self._layer.copy_on(self.backend, self.dtype),)

    @property
    def params(self) -> Any:
        """The layer's params, read-only; of arrays that can't be protected, copies."""
        return self._layer.params

    @params.setter
    def params(self, given: Any) -> None:
        array_checks.names_of_params(self._param_shapes, given)
        self._layer.params.update(given)  # which refuses

    def checked_params(self) -> dict[str, Array]:
        """The params, which nobody has changed."""
        return self._layer.checked_params()

    @property
    def _param_shapes(self) -> array_checks.Shapes:
        return self._layer._param_shapes

    @property
    def streamable(self) -> bool:
        """Whether input may come in chunks."""
        return self._layer.streamable

    def directions_after(self, before: Directions) -> Directions:
        """Those of the layer; see `Layer.directions_after`."""
        return self._layer.directions_after(before)

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return self._layer.random_input(rng, batch, steps)

    def __getattr__(self, name: str) -> Any:
        """Return what else the layer has: its sizes, options and methods."""
        if name.startswith("_"):
            raise AttributeError(f"a frozen layer has no {name!r}")
        return getattr(self._layer, name)

    def __repr__(self) -> str:
        text, mark, count = repr(self._layer).rpartition("  # ")
        return f"{text}.frozen(){mark}{count}"
