"""Layers by name, for a model that says itself how they run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray.arrays import Array
from recurray.layers.container import Container
from recurray.layers.draws import Generator
from recurray.layers.layer import Frozen, Layer
from recurray.messages import shown


class Model(Container):
    """Layers by name that are trained, moved and saved as one; a subclass says how they run.

    A subclass writes `forward` and `backward`, which may take and return what suits it; in them its layers are
    attributes by their names, and `joined` makes the gradients of the model of those of its layers. One optimizer
    steps all of them, one `recurray.optim.clip_grad_norm` clips them, `recurray.save` writes them to one file.

    Parameters
    ----------
    backend : str, Backend, namespace or None
        The backend for all layers that were made without one; of those that have params, the model has copies. If
        omitted, they keep the default that they were made on. See `recurray.get_backend`.
    tie : mapping of str to str, optional
        Params that are one array with another, by its name, as ``{"output.weight": "embedding.weight"}``. They have
        the other's values from here on, aren't in `params` nor in files, and their gradients are added to the other's.
        Write to the other through the model's params, not the layer's own.
    **layers : Layer
        At least one, all of one backend and dtype; a model may stand in a model. Those without params take backend
        and dtype from the others where they weren't given any.

    Attributes
    ----------
    layers : dict of str to Layer
        What the model runs: layers as they were given, but for those that were brought to another backend or dtype.
        Each is an attribute of the model too.
    params : mapping of str to array
        The layers' own params, read and written through, named by the layer: "encoder.weight_ih_l0".

    Raises
    ------
    ValueError, TypeError
        There are no layers, they differ in backend or dtype, one has the name of something that the class has, or
        params that can't be tied are to be.
    BackendUnavailableError
        The backend can't run on this machine.

    Notes
    -----
    The model keeps its layers in an order of its own: `to` makes new ones, so that a subclass should always go by the
    attributes, and never keep a layer elsewhere.

    `recurray.load` makes a model again by its class, handed in as ``cells=``: a subclass with a constructor of its own
    must have its arguments as attributes of the same names.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> class Seq2Seq(rr.Model):
    ...     def forward(self, source, target, rng=None):
    ...         encoded, state, encoding = self.encoder.forward(source, rng=rng)
    ...         y, state, decoding = self.decoder.forward(target, state, rng=rng)
    ...         y, _, output = self.output.forward(y)
    ...         return y, state, (encoding, decoding, output, np.zeros_like(encoded))
    ...
    ...     def backward(self, cache, dy, dstate=None):
    ...         encoding, decoding, output, nothing = cache
    ...         dy, _, of_output = self.output.backward(output, dy)
    ...         dtarget, dstate, of_decoder = self.decoder.backward(decoding, dy, dstate)
    ...         dsource, dstate, of_encoder = self.encoder.backward(encoding, nothing, dstate)
    ...         grads = self.joined(encoder=of_encoder, decoder=of_decoder, output=of_output)
    ...         return dsource, dstate, grads
    >>> model = Seq2Seq(encoder=rr.LSTM(3, 5, seed=0), decoder=rr.LSTM(2, 5, seed=1), output=rr.Linear(5, 2, seed=2))
    >>> model
    Seq2Seq(
        encoder: LSTM(3, 5, backend='numpy', dtype='float32')  # 200 params
        decoder: LSTM(2, 5, backend='numpy', dtype='float32')  # 180 params
        output: Linear(5, 2, backend='numpy', dtype='float32')  # 12 params
    )  # 392 params
    >>> optimizer = rr.optim.Adam(model.params)
    >>> y, state, cache = model.forward(np.ones((4, 6, 3), "float32"), np.ones((4, 7, 2), "float32"))
    >>> dx, dstate, grads = model.backward(cache, np.ones_like(y))
    >>> optimizer.step(grads)
    """

    def __init__(self, *, backend: Any = None, tie: Mapping[str, str] | None = None, **layers: Layer) -> None:
        kind = type(self).__name__
        if not layers:
            raise ValueError(f"a {kind} needs at least one layer, by name: {kind}(encoder=..., decoder=...)")
        for name in layers:
            if not name.isidentifier() or name.startswith("_") or hasattr(type(self), name) or name in vars(self):
                raise ValueError(f"a layer of {kind} can't be named {shown(name)}: give it another name")
        self._hold(layers, backend, tie)

    @property
    def layers(self) -> dict[str, Layer]:
        """The layers, by name."""
        return dict(self._parts)

    def __getattr__(self, name: str) -> Any:
        """Return the layer of that name."""
        parts = vars(self).get("_parts", {})
        if name in parts:
            return parts[name]
        raise AttributeError(f"{type(self).__name__} has no {name!r}")

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute that isn't a layer."""
        if name in vars(self).get("_parts", {}):
            raise AttributeError(
                f"the layer {name!r} of a {type(self).__name__} stays: load_state_dict replaces params"
            )
        super().__setattr__(name, value)

    def _frozen_part(self, layer: Layer) -> Layer:
        return FrozenPart(layer._layer if isinstance(layer, Frozen) else layer)

    def joined(self, **grads: Mapping[str, Array]) -> dict[str, Array]:
        """Return the gradients of the layers as those of the model, by the names of `params`.

        Parameters
        ----------
        **grads : mapping of str to array
            By layer, what its backward returned as ``grads``. What a layer that isn't given would have is left out;
            an optimizer takes that where the params are frozen.

        Returns
        -------
        grads : dict of str to array
            Gradients of params that are tied are added up.

        Raises
        ------
        ValueError, TypeError
            The model has no such layer, or a gradient has a name that no param of its layer has.

        Examples
        --------
        >>> import numpy as np
        >>> import recurray as rr
        >>> layers = {"embedding": rr.Embedding(7, 3, seed=0), "output": rr.Linear(3, 7, bias=False, seed=1)}
        >>> model = rr.Model(**layers, tie={"output.weight": "embedding.weight"})
        >>> grads = model.joined(embedding={"weight": np.ones((7, 3))}, output={"weight": np.ones((7, 3))})
        >>> {name: float(value[0, 0]) for name, value in grads.items()}
        {'embedding.weight': 2.0}
        """
        for name, own in grads.items():
            if name not in self._parts:
                raise ValueError(f"there is no layer {shown(name)}; there are {', '.join(self._parts)}")
            if not isinstance(own, Mapping):
                raise TypeError(f"the gradients of {name} must be a mapping, as backward returns, not {shown(own)}")
            unknown = sorted(set(own) - set(self._parts[name]._param_shapes))
            if unknown:
                raise ValueError(f"the layer {name} has no params {', '.join(map(shown, unknown))}")
        return self._joined(grads)

    @property
    def recurrent(self) -> bool:  # type: ignore[override]  # a layer's own is a constant
        """Whether a layer in it is recurrent."""
        return any(layer.recurrent for layer in self._parts.values())

    @property
    def streamable(self) -> bool:
        """Whether input may come in chunks: a subclass says so where it may."""
        return False

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
        """Run the subclass's `forward`; see `Layer.run`."""
        if type(self).forward is Layer.forward:
            raise TypeError(f"{type(self).__name__} doesn't say how its layers run: write forward in a subclass")
        given = {"mask": mask, "resets": resets, "static": static}
        given = {name: value for name, value in given.items() if value is not None}
        return self.forward(x, state, lengths, training=training, rng=rng, **given)

    def backward(self, cache: Any, dy: Array, dstate: Any = None) -> tuple[Any, Any, dict[str, Array]]:
        """Gradients of the input, the start state and the params: a subclass says which; see `Layer.backward`."""
        raise TypeError(f"{type(self).__name__} doesn't say how its layers run: write backward in a subclass")

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input of the first layer, a NumPy array."""
        return next(iter(self._parts.values())).random_input(rng, batch, steps)


class FrozenPart(Frozen):
    """A layer of a frozen `Model`, which may run it by `forward`."""

    def forward(self, *args: Any, **options: Any) -> Any:
        """Run the layer in inference, and give no cache."""
        return self._forward(*args, **options)

    def _forward(
        self, x: Array, state: Any = None, lengths: Any = None, training: bool = True, rng: Any = None, **given: Any
    ) -> tuple[Array, Any, None]:
        return (*self._layer(x, state, lengths, **given), None)
