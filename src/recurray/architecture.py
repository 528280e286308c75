"""A model's architecture as JSON: its layers' classes and options, and the model made of these again.

What is told of an object is its constructor's arguments, which it has as attributes of the same names; so a new option
is told of by itself. A class of recurray's goes by its name. Any other has to be handed in where a model is made: no
name in a file imports anything.
"""

from __future__ import annotations

import inspect
import math
import numbers
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from recurray import activations, cells, layers
from recurray.activations import Function
from recurray.backend import Backend
from recurray.cells import Activations, Cell
from recurray.layers import Layer
from recurray.layers.layer import Frozen
from recurray.messages import shown

ENTRY_POINTS = "recurray.cells"  # the group in which packages announce classes of theirs
START = ("params", "seed", "forget_bias")  # arguments that say how a layer starts, which its params have by now

HOMES = {"layer": layers, "cell": cells, "function": activations}  # where recurray's own classes are
BASES: dict[str, type] = {"layer": Layer, "cell": Cell, "function": Function}


class Arguments(NamedTuple):
    """What a constructor takes: names of arguments, those without default, the names after a * and after a **."""

    names: tuple[str, ...]
    required: tuple[str, ...]
    star: str | None
    others: str | None


def arguments_of(kind: type) -> Arguments:
    """Return what a class's constructor takes."""
    function = getattr(kind, "__init__")  # noqa: B009 - mypy minds, of an instance
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    code = getattr(function, "__code__", None)
    if code is None:  # object's own
        return Arguments((), (), None, None)
    positional = code.co_varnames[1 : code.co_argcount]
    keywords = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    after = list(code.co_varnames[code.co_argcount + code.co_kwonlyargcount :])
    star = after.pop(0) if code.co_flags & inspect.CO_VARARGS else None
    with_default = positional[len(positional) - len(function.__defaults__ or ()) :]
    required = [name for name in positional if name not in with_default]
    required += [name for name in keywords if name not in (function.__kwdefaults__ or {})]
    others = after.pop(0) if code.co_flags & inspect.CO_VARKEYWORDS else None
    return Arguments((*positional, *keywords), tuple(required), star, others)


# To JSON --------------------------------------------------------------------------------------------------------------


def described(model: Layer) -> dict[str, Any]:
    """Return a model's architecture.

    Raises
    ------
    TypeError, ValueError
        An option can't be told in JSON, or an argument isn't kept.

    Examples
    --------
    >>> import recurray as rr
    >>> from recurray.architecture import described
    >>> described(rr.Linear(3, 2))
    {'layer': 'Linear', 'options': {'in_features': 3, 'out_features': 2, 'bias': True, 'dtype': 'float32'}}
    """
    found: dict[str, Any] = _object("layer", model)
    return found


def _object(what: str, given: Any) -> dict[str, Any]:
    if isinstance(given, Frozen):
        given = given.trainable()
    kind = type(given)
    name, takes = kind.__name__, arguments_of(kind)
    inside = _layers_of(given, takes)
    if takes.others and inside is None:
        raise TypeError(
            f"{name} can't be told in a file: its constructor takes any arguments, **, none of them by name"
        )
    options = {}
    for argument in takes.names:
        if argument in ("backend", *START):
            continue
        if not hasattr(given, argument):
            raise TypeError(
                f"{name} can't be told in a file: its constructor takes {argument!r}, which it must keep as an "
                "attribute of that name"
            )
        value = given.argument(argument) if isinstance(given, Layer) else getattr(given, argument)
        options[argument] = _value(f"{argument} of {name}", value)
    found: dict[str, Any] = {what: name}
    if getattr(HOMES[what], name, None) is not kind:
        found["own"] = True
    found["options"] = options
    if isinstance(inside, Mapping):
        found["layers"] = {"mapping": [[part, _object("layer", layer)] for part, layer in inside.items()]}
    elif inside is not None:
        found["layers"] = [_object("layer", layer) for layer in inside]
    return found


def _layers_of(given: Any, takes: Arguments) -> Any:
    """The layers that an object is made of: a sequence of what its constructor took by *, a mapping by **; or None."""
    if takes.star:
        return getattr(given, takes.star)
    named = getattr(given, takes.others, None) if takes.others else None
    is_layers = isinstance(named, Mapping) and all(isinstance(layer, Layer) for layer in named.values())
    return named if is_layers else None


def _value(name: str, value: Any) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    if isinstance(value, numbers.Real):
        if not math.isfinite(value):
            raise ValueError(f"{name} can't be told in a file: it is {value!r}")
        return float(value)
    if isinstance(value, Activations):
        return {"activations": {gate: _value(name, own) for gate, own in value._asdict().items()}}
    if isinstance(value, (tuple, list)):
        return [_value(name, own) for own in value]
    for what, base in BASES.items():
        if isinstance(value, base):
            return _object(what, value)
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {"mapping": [[key, _value(name, own)] for key, own in value.items()]}  # which keeps their order
    raise TypeError(f"{name} can't be told in a file: it is {type(value).__name__} {shown(value)}")


# From JSON ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Classes:
    """Classes that aren't recurray's, by name: those handed in, then those that packages announce."""

    given: Mapping[str, type]

    @classmethod
    def of(cls, given: Any) -> Classes:
        """Check what was handed in: a class, several, or a mapping of names to classes."""
        if given is None:
            return cls({})
        if isinstance(given, type):
            given = (given,)
        try:
            named = (
                dict(given) if isinstance(given, Mapping) else {getattr(kind, "__name__", ""): kind for kind in given}
            )
        except TypeError:
            raise TypeError(f"cells must be classes, or a mapping of names to them, not {shown(given)}") from None
        for name, kind in named.items():
            if not (isinstance(name, str) and isinstance(kind, type) and issubclass(kind, tuple(BASES.values()))):
                raise TypeError(f"cells must be classes of cells, activation functions or layers, not {shown(kind)}")
        return cls(named)

    def find(self, what: str, name: str) -> type:
        """Return the class of a name.

        Raises
        ------
        ValueError
            There is none.
        """
        kind = self.given.get(name) or self._announced(name)
        if kind is None:
            raise ValueError(f"it has a {what} {shown(name)} that isn't recurray's: hand in its class, cells=[{name}]")
        if not issubclass(kind, BASES[what]):
            raise ValueError(f"{shown(kind)} is no {what}")
        return kind

    def _announced(self, name: str) -> type | None:
        from importlib.metadata import entry_points

        for point in entry_points(group=ENTRY_POINTS, name=name):
            kind = point.load()
            if isinstance(kind, type):
                return kind
        return None


class Maker:
    """Makes a model of what `described` returned, on a backend, with its params by name.

    Parameters
    ----------
    backend : Backend or None
        What the layers are made on.
    params : mapping of str to array
        The model's params. What they are not of is refused before memory is taken for it.
    classes : Classes
        The classes that aren't recurray's.
    """

    def __init__(self, backend: Backend | None, params: Mapping[str, Any], classes: Classes) -> None:
        self._backend, self._classes, self._params = backend, classes, dict(params)

    def model(self, description: Any) -> Layer:
        """Make the model.

        Raises
        ------
        ValueError, TypeError
            The description isn't one, or not of these params.
        """
        model: Layer = self._object("layer", description, self._params, "")
        return model

    def _object(self, what: str, given: Any, params: dict[str, Any] | None, place: str) -> Any:
        """Make a layer, cell or function; ``params`` are a layer's, which stands at ``place``, None if nowhere."""
        if not isinstance(given, dict) or not isinstance(given.get("options"), dict):
            raise ValueError(f"there is no {what} where one should be, but {shown(given)}")
        name, own = given.get(what), given.get("own", False)
        if not isinstance(name, str) or set(given) - {what, "own", "options", "layers"}:
            raise ValueError(f"there is no {what} where one should be, but {shown(given)}")
        kind = self._classes.find(what, name) if own else _own_class(what, name)
        takes = arguments_of(kind)
        if unknown := sorted(set(given["options"]) - set(takes.names) | set(given["options"]) & {"backend", *START}):
            raise ValueError(f"{name} has no {', '.join(map(shown, unknown))} here: a later version may have")
        options = {argument: self._value(value) for argument, value in given["options"].items()}
        if "layers" in given:
            in_order, by_name = self._inside(name, given["layers"], takes, params, options.get("tie"), place)
            try:
                return kind(*in_order, **by_name, **options)
            except (TypeError, ValueError) as error:
                raise ValueError(f"{name}: {error}") from error
        if "backend" in takes.names and what == "layer":
            options["backend"] = self._backend
        takes_params = "params" in takes.names
        if takes_params and params is not None:
            options["params"] = params
            layers = options.get("num_layers", 1)
            if isinstance(layers, int) and layers > max(1, len(params)):  # or their names alone take memory
                raise ValueError(f"{name}: there are no params for num_layers={shown(layers)}")
        if params and not (takes_params or own):
            raise ValueError(_nowhere(place, params))
        try:
            made = kind(**options)
            if own and params is not None and not takes_params:
                made = made if self._backend in (None, made.backend) else made.to(self._backend)
                made.load_state_dict(params)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{name}: {error}") from error
        return made

    def _inside(
        self, name: str, given: Any, takes: Arguments, params: dict[str, Any] | None, tie: Any, place: str
    ) -> tuple[list[Any], dict[str, Any]]:
        """Make the layers that a layer is made of: those that its constructor takes in order, and those by name."""
        if isinstance(given, list) and takes.star:
            named = {str(number): layer for number, layer in enumerate(given)}
        elif isinstance(given, dict) and takes.others:
            named = dict(self._pairs(given))
        else:
            raise ValueError(f"{name} isn't made of layers")
        parts: dict[str, dict[str, Any]] = {part: {} for part in named}
        all_params = dict(params or {})
        if isinstance(tie, dict):  # the constructor checks it, and makes one array of two again
            all_params |= {tied: all_params[source] for tied, source in tie.items() if source in all_params}
        for param, value in all_params.items():
            part, _, own = param.partition(".")
            if part not in parts:
                raise ValueError(_nowhere(place, [param]))
            parts[part][own] = value
        made = {
            part: self._object("layer", layer, None if params is None else parts[part], f"{place}{part}.")
            for part, layer in named.items()
        }
        return (list(made.values()), {}) if isinstance(given, list) else ([], made)

    def _pairs(self, given: dict[str, Any]) -> list[tuple[str, Any]]:
        """The items of a mapping, in their order."""
        pairs = given.get("mapping")
        if not isinstance(pairs, list):
            return []
        return [
            (pair[0], pair[1]) for pair in pairs if isinstance(pair, list) and len(pair) == 2 and type(pair[0]) is str
        ]

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return tuple(map(self._value, value))
        if not isinstance(value, dict):
            return value
        for what in BASES:
            if what in value:
                return self._object(what, value, None, "")
        if value.keys() == {"mapping"} and isinstance(value["mapping"], list):
            return {key: self._value(own) for key, own in self._pairs(value)}
        if value.keys() == {"activations"} and isinstance(value["activations"], dict):
            return Activations(**{gate: self._value(own) for gate, own in value["activations"].items()})
        raise ValueError(f"an option is {shown(value)}, which this version doesn't know")


def _nowhere(place: str, params: Iterable[str]) -> str:
    return f"no layer has the params {', '.join(place + name for name in sorted(params))}"[:200]


def _own_class(what: str, name: str) -> type:
    home = HOMES[what]
    kind = getattr(home, name) if name in home.__all__ else None
    if not (isinstance(kind, type) and issubclass(kind, BASES[what])) or inspect.isabstract(kind):
        raise ValueError(f"there is no {what} {shown(name)} here: a later version may have it")
    return kind
