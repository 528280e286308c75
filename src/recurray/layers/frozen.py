"""How a frozen layer runs: by the layer that it holds, in inference alone."""

from __future__ import annotations

from typing import Any, NoReturn, Self

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.layers import array_checks
from recurray.layers.draws import Generator


class InferenceAlone:
    """The methods of `Frozen`: what asks or calls goes to the layer that it holds, what trains is refused."""

    _layer: Any

    def __init__(self, layer: Any) -> None:
        layer._fix()
        self.backend, self.dtype = layer.backend, layer.dtype
        self.recurrent, self.static_size = layer.recurrent, layer.static_size
        self._unsaid, self._fixed, self._plans = layer._unsaid, layer._fixed, layer._plans_of_all()
        self._layer = layer

    def __call__(self, x: Any, state: Any = None, *args: Any, **options: Any) -> Any:
        """Run the layer; see `Layer.__call__`."""
        if self._plans is not None and not args and not options:
            found = self._plans.run(self._layer, x, state)
            if found is not None:
                return found
        return self._layer(x, state, *args, **options)

    def _part(self) -> Any:
        return self._layer._part()

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

    def trainable(self) -> Any:
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

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute that the layer doesn't have: what is set here would change nothing there."""
        if not name.startswith("_") and name != "params" and hasattr(vars(self).get("_layer"), name):
            kind = type(self._layer).__name__
            raise AttributeError(
                f"a frozen {kind} stays as it is: change {name} of the layer that it was made of, and freeze that again"
            )
        super().__setattr__(name, value)

    def checked_params(self) -> dict[str, Array]:
        """The params, which nobody has changed."""
        found: dict[str, Array] = self._layer.checked_params()
        return found

    @property
    def _param_shapes(self) -> array_checks.Shapes:
        found: array_checks.Shapes = self._layer._param_shapes
        return found

    @property
    def streamable(self) -> bool:
        """Whether input may come in chunks."""
        return bool(self._layer.streamable)

    def directions_after(self, before: tuple[bool, ...]) -> tuple[bool, ...]:
        """Those of the layer; see `Layer.directions_after`."""
        found: tuple[bool, ...] = self._layer.directions_after(before)
        return found

    def random_input(self, rng: Generator, batch: int, steps: int) -> Any:
        """Return a random input, a NumPy array, that the layer takes."""
        return self._layer.random_input(rng, batch, steps)

    def __getattr__(self, name: str) -> Any:
        """Return what else the layer has: its sizes, options and methods."""
        if name.startswith("_"):
            raise AttributeError(f"a frozen layer has no {name!r}")
        return getattr(self._layer, name)

    def __dir__(self) -> list[str]:
        """What else the layer has, too."""
        return sorted({*super().__dir__(), *(name for name in dir(self._layer) if not name.startswith("_"))})

    def __repr__(self) -> str:
        text, mark, count = repr(self._layer).rpartition("  # ")
        return f"{text}.frozen(){mark}{count}"
