"""Optimizers that treat each number of a param by itself: a formula, which backends bring into a form of their own."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from recurray.arrays import Array
from recurray.backend import Backend
from recurray.cells.cell import named
from recurray.elementwise import Arrays, Elementwise
from recurray.optim.arrays import Moments, Updated, checked
from recurray.optim.flat import Flat
from recurray.optim.optimizer import Optimizer
from recurray.selector import backend_of


class ElementwiseOptimizer(Optimizer):
    """An optimizer whose update rule is `_formula`.

    The formula is recorded once for some settings, so it may branch on them, and on nothing else; what it computes with
    are arrays and `_numbers`, which may be others at each step. A class that writes an `_update` of its own is an
    optimizer like any other.
    """

    @abstractmethod
    def _numbers(self) -> dict[str, float]:
        """Return the numbers of a step, by name; ``step_count`` counts it already."""

    @abstractmethod
    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        """Return the new param and its new moments; ``n`` has the numbers as attributes."""

    def _update(self, param: Array, grad: Array, moments: Moments) -> tuple[Array, Moments]:
        numbers = self._numbers()
        return self._formula(param, grad, moments, named(tuple(numbers))(**numbers))

    def _prepared(
        self,
        names: Sequence[str],
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        moments: Mapping[str, Moments],
        made: dict[Any, Any],
    ) -> Callable[[], Updated]:
        if type(self)._update is not ElementwiseOptimizer._update:
            return super()._prepared(names, params, grads, moments, made)
        key = tuple([(name, type(p := params[name]), p.dtype, p.shape) for name in names])
        if key not in made:
            made[key] = self._parts(names, params, moments)
        numbers, parts = self._numbers(), made[key]
        found = [part.prepared(numbers, params, grads, moments) for part in parts]
        return found[0] if len(found) == 1 else lambda: {name: new for take in found for name, new in take().items()}

    def _parts(
        self, names: Sequence[str], params: Mapping[str, Array], moments: Mapping[str, Moments]
    ) -> list[Flat | _Apart]:
        """What steps the params, those of one backend and dtype together."""
        alike: dict[tuple[Backend, Any], list[str]] = {}
        for name in names:
            alike.setdefault((self._backend_of(params[name]), params[name].dtype), []).append(name)
        found: list[Flat | _Apart] = []
        for (backend, _), own in alike.items():
            kept = tuple(moments[own[0]])
            formula = self._with({})._of_arrays  # a copy's, so that this one isn't part of what it keeps
            run = backend.elementwise(formula, ("param", "grad", *kept), tuple(self._numbers()))
            if backend.in_place:
                found.append(Flat(run, {name: params[name] for name in own}, kept))
            else:
                found.append(_Apart(run, own))
        return found

    def _of_arrays(self, arrays: Arrays, n: Any) -> Arrays:
        """The formula as `Backend.elementwise` wants it."""
        moments = {name: array for name, array in arrays.items() if name not in ("param", "grad")}
        param, moments = self._formula(arrays["param"], arrays["grad"], moments, n)
        return {"stepped": param, **moments}

    def _backend_of(self, param: Array) -> Backend:
        """The backend of the layer whose params these are; else that of the param's library."""
        layer = self._owner and self._owner()
        own = getattr(layer if layer is not None else self.params, "backend", None)
        if isinstance(own, Backend) and own.owns(param) and own.on_device(param):
            return own
        return backend_of(param)


class _Apart:
    """Params that a backend steps into new arrays."""

    def __init__(self, run: Elementwise, names: Sequence[str]) -> None:
        self._run, self._names = run, names

    def prepared(
        self,
        numbers: Mapping[str, float],
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        moments: Mapping[str, Moments],
    ) -> Callable[[], Updated]:
        given = [{"param": params[name], "grad": grads[name], **moments[name]} for name in self._names]
        found: Updated = {}
        for name, results in zip(self._names, self._run(numbers, given), strict=True):
            kept = {moment: value for moment, value in results.items() if moment != "stepped"}
            found[name] = checked(name, params[name], results["stepped"], kept)
        return lambda: found
