"""What all optimizers share: the params, the checks of the gradients, the step count, and the state to resume from."""

from __future__ import annotations

import copy
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from typing import Any, ClassVar, Self

from recurray.arrays import Array
from recurray.optim import hyperparameters
from recurray.optim import state as states
from recurray.optim.arrays import Moments, Updated, agreeing, check_names, checked, float_array
from recurray.optim.copies import check_not_fixed, check_owner, owner
from recurray.optim.groups import checked_groups, group_of_each
from recurray.optim.hyperparameters import Setting
from recurray.signals import held_back


class Optimizer(ABC):
    """An update rule for params, and what it keeps of past gradients: its moments.

    To write one of your own, say how the moments of a param start (`_start`), and what a step makes of a param, its
    gradient and its moments (`_update`). The constructor takes the params, ``lr``, and by keyword the names listed in
    ``_options``, each of which becomes an attribute before ``super().__init__`` is called.

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself; a copy is refused. A step assigns
        ``params[name] = new`` and writes to no array that anyone else holds. NumPy's small arrays are views of one.
    lr : float
        The learning rate, at least 0.
    weight_decay : float
        This times the param is added to its gradient (`AdamW` does otherwise).
    groups : mapping of str to mapping, optional
        What holds for some params in place of the optimizer's settings, by a pattern of their names as in
        `fnmatch`: ``{"encoder.*": {"lr_factor": 0.1}, "*.bias*": {"weight_decay": 0.0}}``. A group sets ``lr_factor``,
        which ``lr`` is multiplied by, ``frozen``, and any option of the optimizer. Params that are frozen aren't
        stepped, and their gradients may be missing.

    Attributes
    ----------
    lr : float
        The learning rate; may be set at any time, by a schedule say.
    groups : dict of str to dict
        The groups; may be set at any time, to freeze params or to thaw them.
    step_count : int
        How many steps have been taken.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, ``params`` isn't a mutable mapping of floating-point arrays, or it holds
        a layer's arrays without being what the layer reads; a group fits no param, or two fit one.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> model = rr.Model(encoder=rr.LSTM(3, 5, seed=0), head=rr.Linear(5, 2, seed=1))
    >>> optimizer = rr.optim.Adam(model.params, groups={"encoder.*": {"frozen": True}, "*.bias": {"weight_decay": 0.0}})
    >>> optimizer.step({"head.weight": np.ones((2, 5), "float32"), "head.bias": np.ones(2, "float32")})
    >>> optimizer.groups = {"encoder.*": {"lr_factor": 0.1}}  # and now all of it, at a tenth of the learning rate
    """

    _options: ClassVar[tuple[str, ...]] = ("weight_decay",)  # the constructor's arguments after params and lr
    _counters: ClassVar[tuple[str, ...]] = ("step_count",)  # numbers that change with every step
    lr = Setting(hyperparameters.not_negative)
    weight_decay = Setting(hyperparameters.not_negative)
    step_count = Setting(hyperparameters.count)

    def __init__(self, params: MutableMapping[str, Array], lr: float, weight_decay: float, groups: Any = None) -> None:
        if not isinstance(params, MutableMapping):
            raise TypeError(f"params must be a mutable mapping of names to arrays, not {type(params).__name__}")
        checked = {name: float_array(f"the param {name!r}", param) for name, param in params.items()}
        self._owner = owner(params)
        self.params = params
        self.lr = lr
        self.weight_decay = weight_decay
        self.step_count = 0
        self._moments: dict[str, Moments] = {name: {} for name in checked}
        self._counted: dict[str, tuple[Any, ...]] = {}  # the counters of params that have been frozen at a step
        self._made: dict[Any, Any] = {}  # what `_prepared` keeps for the next step
        self._kinds: set[tuple[type, Any]] = set()  # types and dtypes of arrays that have been checked
        self.groups = groups
        self._check_settings()
        self._started_for: Any = None
        self._complete_moments()

    @property
    def groups(self) -> dict[str, dict[str, Any]]:
        """Settings for some of the params, by patterns of their names."""
        return {pattern: dict(settings) for pattern, settings in self._groups.items()}

    @groups.setter
    def groups(self, groups: Mapping[str, Mapping[str, Any]] | None) -> None:
        found = checked_groups(groups, self._options)
        group_of = group_of_each(self._moments, found)
        check_not_fixed(self.params, [name for name, group in group_of.items() if not group.frozen])
        for group in {id(group): group for group in group_of.values()}.values():
            self._with(group.options)._check_settings()
        self._groups, self._group_of = found, group_of

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled and copied: the layer in place of a reference to it, nothing that a step makes again."""
        return vars(self) | {"_made": {}, "_owner": self._owner and self._owner()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._owner = state["_owner"] and weakref.ref(state["_owner"])

    def _with(self, settings: Mapping[str, Any]) -> Self:
        """A copy with other settings."""
        other = copy.copy(self)
        for name, value in settings.items():
            setattr(other, name, value)
        return other

    def step(self, grads: Mapping[str, Array]) -> None:
        """Take a step: replace each param by what the update rule makes of it and its gradient.

        Parameters
        ----------
        grads : mapping of str to array
            The gradients, with exactly the params' names, shapes, dtypes and devices. Those of params that are frozen
            may be missing, and aren't looked at.

        Raises
        ------
        ValueError
            Names, shapes or devices differ, hyperparameters don't go together, or the layer whose params these were is
            gone, or has been given another mapping of params.
        TypeError
            Array libraries or dtypes differ.

        Notes
        -----
        Whatever is raised on the way, nothing has been changed then, nor has the step been counted. Only Ctrl-C, where
        it comes while numbers are written over, waits for the end of the step, which has been taken then.
        """
        if self._owner is not None:
            check_owner(self._owner(), self.params)
        params, grads = self._checked(grads)
        self._check_settings()
        self._complete_moments()
        before = self._counters_now()
        is_taken = False
        try:
            self._count_step()
            parts = [
                (rule, rule._prepared(names, params, grads, self._moments, self._made))
                for names, rule in self._rules(grads, before)
            ]
            with held_back():
                self._take(parts, before)
                is_taken = True
        finally:
            if not is_taken:
                self._set_counters(before)

    def _take(self, parts: Sequence[tuple[Self, Callable[[], Updated]]], before: tuple[Any, ...]) -> None:
        """Take a step that has been prepared: nothing may be raised any more."""
        updated: Updated = {}
        counted: dict[str, tuple[Any, ...]] = {}
        for rule, take in parts:
            own = take()
            updated |= own
            if rule is not self:
                counted |= {name: rule._counters_now() for name in own if name in self._counted}
        for name, (param, moments) in updated.items():
            self.params[name], self._moments[name] = param, moments
        if len(updated) < len(self._moments):
            self._counted = {name: before for name in self._moments if name not in updated} | self._counted
        self._counted |= counted

    def _rules(self, names: Mapping[str, Any], before: tuple[Any, ...]) -> list[tuple[tuple[str, ...], Self]]:
        """Which params are stepped alike, and the optimizer with the settings and the counters that are theirs."""
        if not self._groups and not self._counted:
            return [(tuple(names), self)]
        alike: dict[Any, list[str]] = {}
        for name in names:
            group, counters = self._group_of[name], self._counted.get(name)
            alike.setdefault((id(group), counters), []).append(name)
        found = []
        for (_, counters), own in alike.items():
            group = self._group_of[own[0]]
            rule = self._with({"lr": self.lr * group.lr_factor, **group.options})
            rule._check_settings()
            rule._set_counters(before if counters is None else counters)
            rule._count_step()
            found.append((tuple(own), rule))
        return found

    def _counters_now(self) -> tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self._counters)

    def _set_counters(self, values: tuple[Any, ...]) -> None:
        for name, value in zip(self._counters, values, strict=True):
            setattr(self, name, value)

    def _prepared(
        self,
        names: Sequence[str],
        params: Mapping[str, Array],
        grads: Mapping[str, Array],
        moments: Mapping[str, Moments],
        made: dict[Any, Any],
    ) -> Callable[[], Updated]:
        """Prepare a step of the params of these names as far as anything can be raised; return what takes it.

        ``made`` keeps what is made for it until a setting changes.
        """
        found = {name: self._updated(name, params[name], grads[name], moments[name]) for name in names}
        return lambda: found

    def _updated(self, name: str, before: Array, grad: Array, moments: Moments) -> tuple[Array, Moments]:
        """A param and its moments after a step, of the same dtypes as before."""
        return checked(name, before, *self._update(before, grad, moments))

    def _count_step(self) -> None:
        self.step_count += 1

    def _check_settings(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise ``ValueError`` where hyperparameters don't go together, each of which has been checked by itself."""

    def _values(self) -> tuple[Any, ...]:
        return (*(getattr(self, name) for name in self._options), self._groups)

    def _complete_moments(self) -> None:
        """Bring the moments in line with hyperparameters changed since: start those now needed, drop the rest."""
        if self._values() != self._started_for:
            for name, have in self._moments.items():
                rule = self._with(self._group_of[name].options)
                started = rule._start(float_array(f"the param {name!r}", self.params[name]))
                self._moments[name] = {moment: have.get(moment, value) for moment, value in started.items()}
            self._started_for = self._values()
            self._made.clear()

    @abstractmethod
    def _start(self, param: Array) -> Moments:
        """Return the moments of a param before the first step, by their names, each of the param's shape."""

    @abstractmethod
    def _update(self, param: Array, grad: Array, moments: Moments) -> tuple[Array, Moments]:
        """Return the new param and its new moments; ``step_count`` counts this step already."""

    def _with_weight_decay(self, grad: Array, param: Array, number: Any = None) -> Array:
        """The gradient and the weight decay; ``number`` stands for that where the formula is recorded."""
        return grad + (self.weight_decay if number is None else number) * param if self.weight_decay else grad

    def state_dict(self) -> dict[str, Any]:
        """Return all that is needed to go on as if there had been no interruption, bit for bit.

        Returns
        -------
        state : dict
            Under "settings" a dict of plain values, fit for JSON: the optimizer's name, ``lr``, its other
            hyperparameters, ``step_count``. Under each other key, "<moment>.<name of the param>", a NumPy array: a
            copy, in C order, fit for safetensors.

        Examples
        --------
        >>> import numpy as np
        >>> import recurray as rr
        >>> optimizer = rr.optim.SGD({"w": np.array([1.0, 2.0])}, lr=0.5, momentum=0.5)
        >>> optimizer.step({"w": np.array([1.0, 0.0])})
        >>> state = optimizer.state_dict()
        >>> sorted(state)
        ['settings', 'velocity.w']
        >>> state["settings"]["optimizer"], state["settings"]["step_count"], state["velocity.w"]
        ('SGD', 1, array([1., 0.]))
        """
        self._complete_moments()
        return states.state_of(self)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what `state_dict` returned: moments, step count, ``lr`` and all other hyperparameters.

        Parameters
        ----------
        state : mapping
            As `state_dict` makes it, for params of the same names and shapes. Its arrays may be of any
            library; they are copied to the params' devices, and converted to their dtypes.

        Raises
        ------
        ValueError
            It is the state of another kind of optimizer, a setting or an array is missing, unknown or out of its
            range, a shape differs, or a number is too large for float32; then nothing has been changed.
        TypeError
            Something in it isn't of the kind that it should be; then nothing has been changed.
        """
        states.load(self, state)

    def to(self, params: MutableMapping[str, Array]) -> Self:
        """Return the same optimizer for ``params``, those of the same model on another backend or in another precision.

        It goes on from the step that this one has come to, with copies of its moments.

        Parameters
        ----------
        params : mutable mapping of str to array
            With the same names and shapes: ``model.to(...).params``.

        Raises
        ------
        ValueError, TypeError
            Names or shapes differ, or ``params`` isn't a mutable mapping of floating-point arrays.

        Examples
        --------
        >>> import numpy as np
        >>> import recurray as rr
        >>> model = rr.Linear(3, 2, seed=0)
        >>> optimizer = rr.optim.Adam(model.params, lr=0.1)
        >>> model = model.to(dtype="float64")
        >>> optimizer = optimizer.to(model.params)
        """
        other = type(self)(params, **{name: getattr(self, name) for name in ("lr", *self._options)})
        other.load_state_dict(self.state_dict())
        return other

    def _checked(self, grads: Mapping[str, Array]) -> tuple[Mapping[str, Array], Mapping[str, Array]]:
        """Check the gradients; return the params as they are now and the gradients, plain arrays."""
        if not isinstance(grads, Mapping):
            raise TypeError(f"grads must be a mapping of names to arrays, not {type(grads).__name__}")
        frozen = {name for name, group in self._group_of.items() if group.frozen} if self._groups else ()
        wanted = [name for name in self._moments if name not in frozen] if frozen else self._moments
        try:
            params = {name: self.params[name] for name in self._moments}
            is_complete = len(self.params) == len(params)
        except KeyError:
            is_complete = False
        if not is_complete:
            check_names("params since the optimizer was made", self._moments, self.params)
        if len(wanted) != len(grads) or not all(map(grads.__contains__, wanted)):
            given = {name: grad for name, grad in grads.items() if name not in frozen}
            check_names("grads", dict.fromkeys(wanted), given)
        params, grads = {name: params[name] for name in wanted}, {name: grads[name] for name in wanted}
        return agreeing(params, grads, self._kinds)

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={getattr(self, name)!r}" for name in ("lr", *self._options))
        return f"{type(self).__name__}({options})  # {self.step_count} steps, {len(self._moments)} params"
