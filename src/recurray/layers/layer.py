"""What every layer is: params on a backend, an explicit forward, and its backward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import MutableMapping
from types import EllipsisType
from typing import Any, Self
from weakref import WeakValueDictionary

from recurray import checks
from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers import array_checks, draws
from recurray.layers.draws import Generator
from recurray.layers.frozen import InferenceAlone
from recurray.layers.params_on_backend import ParamsOnBackend
from recurray.messages import kind_of

Directions = tuple[bool, ...]  # of the equal parts of an output's features: whether each runs from the end

_LIVING: WeakValueDictionary[int, Layer] = WeakValueDictionary()  # all layers there are, by their identity


def living_layers() -> list[Layer]:
    """Return the layers that there are: to say of an array whose param it is."""
    while True:
        try:
            return [*_LIVING.values()]
        except RuntimeError:  # another thread has made one meanwhile
            continue


class Layer(ParamsOnBackend, ABC):
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

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Make a layer, a copy too, and count it among `living_layers`."""
        layer = super().__new__(cls)
        _LIVING[id(layer)] = layer
        return layer

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

    def _part(self) -> Any:
        """What it is to a plan of several layers, a `Part`; None where its calls are its own matter."""
        return None

    def _plans_of_all(self) -> Any:
        """Its plans, where every call with x and state alone may go by these; else None."""
        return None

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


class Frozen(InferenceAlone, Layer):
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
