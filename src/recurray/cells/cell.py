"""What a cell is: the pointwise mathematics of one time step and its derivative, on arrays of any library.

B batch, I input, H hidden units, R size of the output (H, or the projection's). The scan that runs a cell over
time does everything that is not pointwise: the products with the weights, the loop, masks, sums. (One operation across
the units is allowed in a step, their mean, for layer normalisation.)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import namedtuple
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from keyword import iskeyword
from typing import Any, ClassVar
from unicodedata import normalize

from recurray import checks
from recurray.arrays import Array
from recurray.messages import shown

Draws = Mapping[str, "Array | float"]  # a cell's draws by name: (T, B, H) of 0 and 1, or their mean


@dataclass(frozen=True)
class Weights:
    """One direction of one layer's params, or their gradients, by what the scan does with them."""

    input: Array  # (input gates * H, I)
    recurrent: Array | None = None  # (recurrent gates * H, R)
    input_bias: Array | None = None  # (input gates * H,), or of each row of the batch, (B, input gates * H)
    recurrent_bias: Array | None = None  # (recurrent gates * H,)
    projection: Array | None = None  # (R, H): the output is projection @ h
    pointwise: Mapping[str, Array] = field(default_factory=dict)  # name -> (rows, H), read by the cell itself
    kept: dict[Any, Any] | None = field(default=None, repr=False, compare=False)  # see `once`; None if they may change
    kept_matrices: dict[Any, Any] | None = field(default=None, repr=False, compare=False)  # the same of all but biases

    def once(self, name: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` makes of the weights: kept by ``name`` where they are a frozen layer's, so that nobody changes
        them, else made at each call. Nobody writes to it.
        """
        if self.kept is None:
            return make()
        found = self.kept.get(name)
        return self.kept.setdefault(name, make()) if found is None else found

    def __add__(self, other: Weights) -> Weights:
        """Add up gradients, field by field."""
        sums: dict[str, Any] = {}
        for own in fields(self):
            if own.name.startswith("kept"):
                continue
            a, b = getattr(self, own.name), getattr(other, own.name)
            if own.name == "pointwise":
                sums[own.name] = {name: a[name] + b[name] for name in a}
            else:
                sums[own.name] = None if a is None else a + b
        return Weights(**sums)


@dataclass(frozen=True)
class CellGradients:
    """What `Cell.step_backward` returns. What isn't named has no gradient."""

    x: Mapping[str, Array]  # by input gate
    h: Mapping[str, Array]  # by recurrent gate
    before: Mapping[str, Array]  # by state; not counting what comes through the recurrent product
    params: Mapping[str, Mapping[str, Array]] = field(default_factory=dict)  # by pointwise param and row


class Cell(ABC):
    """The pointwise mathematics of one time step and its derivative.

    A cell without options, or a frozen dataclass of them, compares by value, so that layers share what a backend
    makes of it. A cell is written in plain arithmetic on arrays and the functions of `recurray.arrays`, elementwise
    alone, without branching on values. So a backend can run it as it stands, or record it once and
    generate faster code from what it does.

    Attributes
    ----------
    input_gates : tuple of str
        Blocks of H rows of the input product ``x @ weight.T + bias``, in the order of the weight's rows.
    recurrent_gates : tuple of str
        The like for the product with the previous output; empty if the cell has none.
    states : tuple of str
        What is carried from step to step; the first is "h", the output.
    inner_gates : tuple of str
        Those of the recurrent gates whose product isn't with the previous output but with what `inner` returns.
    pointwise : dict of str to tuple of str
        Params that the cell reads itself: their names, and the names of their rows of H numbers.
    draws : dict of str to float
        Random numbers that come with the input, and their probability: each element is 1 with that probability, else
        0, in training; in inference it is the probability itself.
    sequence_draws : tuple of str
        Those of the draws that are the same at each step of a sequence. The others are drawn anew for each step.
    """

    states: ClassVar[tuple[str, ...]] = ("h",)

    def __post_init__(self) -> None:
        """Check the options of a cell that is a dataclass: each is of the type that it is declared to have."""
        for option in fields(self):  # type: ignore[arg-type]  # it is called for dataclasses alone
            declared = option.type if isinstance(option.type, str) else getattr(option.type, "__name__", "")
            value = getattr(self, option.name)
            if declared == "bool":
                checks.flag(option.name, value)
            if declared == "float" or (declared == "float | None" and value is not None):
                object.__setattr__(self, option.name, checks.finite(option.name, value))
            if declared == "Cell" and not isinstance(value, Cell):
                raise TypeError(f"{option.name} must be a recurray.Cell, not {type(value).__name__} {shown(value)}")

    @property
    @abstractmethod
    def input_gates(self) -> tuple[str, ...]:
        """Blocks of the input product."""

    @property
    def recurrent_gates(self) -> tuple[str, ...]:
        """Blocks of the recurrent product."""
        return ()

    @property
    def inner_gates(self) -> tuple[str, ...]:
        """Blocks of the recurrent product that are with what `inner` returns."""
        return ()

    @property
    def outer_gates(self) -> tuple[str, ...]:
        """Blocks of the recurrent product that are with the previous output."""
        return tuple(gate for gate in self.recurrent_gates if gate not in self.inner_gates)

    @property
    def recurrent_params(self) -> tuple[str, ...]:
        """Those of the pointwise params that are recurrent weights, in place of a recurrent product's."""
        return ()

    @property
    def draws(self) -> Mapping[str, float]:
        """Random numbers that come with the input, and the probability that one is 1."""
        return {}

    @property
    def sequence_draws(self) -> tuple[str, ...]:
        """Those of the draws that are the same at each step of a sequence."""
        return ()

    @property
    def pointwise(self) -> Mapping[str, tuple[str, ...]]:
        """The cell's own params and the names of their rows."""
        return {}

    @abstractmethod
    def step(self, x: Any, h: Any, before: Any, params: Any) -> tuple[dict[str, Array], dict[str, Array]]:
        """One time step.

        Parameters
        ----------
        x, h : named tuple of array, each (B, H)
            The input's and the recurrent product, by gate, biases included; with x come the draws.
        before : named tuple of array, each (B, H)
            The states before the step.
        params : named tuple of named tuple of array, each (H,)
            The pointwise params, by name and row.

        Returns
        -------
        after : dict of str to array
            The states after the step.
        saved : dict of str to array
            What `step_backward` reads, apart from the states before the step and the params.
        """

    @abstractmethod
    def step_backward(self, d: Any, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of what went into `step`, given those of the states after it.

        What doesn't depend on ``d`` is best kept together by parentheses, ``dc * (g * (i * (1 - i)))``: a backend
        can then compute it for many steps at once, outside the time loop.

        Parameters
        ----------
        d : named tuple of array, each (B, H)
            The gradients of the states after the step.
        saved, before, params : named tuple
            As in `step`.
        """

    def inner(self, x: Any, h: Any, before: Any, params: Any) -> Array:
        """What the product of the inner gates is with, (B, H).

        Parameters are those of `step`, without the inner gates in ``h``.
        """
        raise TypeError(f"{type(self).__name__} has inner gates {self.inner_gates} but no method inner")

    def inner_backward(self, d: Array, saved: Any, before: Any, params: Any) -> CellGradients:
        """Gradients of what went into `inner`, given that of its result; to be added to `step_backward`'s.

        Parameters
        ----------
        d : array, (B, H)
            The gradient of what `inner` returned.
        saved, before, params : named tuple
            As in `step_backward`.
        """
        raise TypeError(f"{type(self).__name__} has inner gates {self.inner_gates} but no method inner_backward")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def added(first: CellGradients, second: CellGradients) -> CellGradients:
    """Add up two results, name by name."""

    def sums(a: Mapping[str, Array], b: Mapping[str, Array]) -> dict[str, Array]:
        return {**a, **b, **{name: a[name] + b[name] for name in a if name in b}}

    params = {
        name: sums(first.params.get(name, {}), second.params.get(name, {}))
        for name in {**first.params, **second.params}
    }
    return CellGradients(sums(first.x, second.x), sums(first.h, second.h), sums(first.before, second.before), params)


def check_declared(cell: Cell) -> None:
    """Refuse a cell whose attributes don't say what a layer has to know, or contradict each other."""
    kind = type(cell).__name__

    def words(attribute: str, given: Any, least: int = 0) -> tuple[str, ...]:
        if not isinstance(given, tuple) or not all(isinstance(word, str) for word in given):
            raise TypeError(f"{kind}.{attribute} must be a tuple of texts, not {shown(given)}")
        for word in given:
            if not word.isidentifier() or iskeyword(word) or word.startswith("_"):
                raise ValueError(f"{kind}.{attribute} must have names fit for attributes, not {word!r}")
        if len(given) < least or len(set(given)) < len(given):
            few = "at least one name" if len(given) < least else "each name once"
            raise ValueError(f"{kind}.{attribute} must have {few}, not {shown(given)}")
        return given

    def mapping(attribute: str, given: Any) -> Mapping[str, Any]:
        if not isinstance(given, Mapping):
            raise TypeError(f"{kind}.{attribute} must be a mapping of names, not {shown(given)}")
        words(attribute, tuple(given))
        return given

    def among(attribute: str, given: Any, others: str, known: Any) -> None:
        extra = set(words(attribute, given)) - set(known)
        if extra:
            raise ValueError(f"{kind}.{attribute} must be among its {others}, but has {', '.join(sorted(extra))}")

    if words("states", cell.states, least=1)[0] != "h":
        raise ValueError(f'{kind}.states must begin with "h", the output, but is {shown(cell.states)}')
    gates, draws = words("input_gates", cell.input_gates, least=1), mapping("draws", cell.draws)
    words("recurrent_gates", cell.recurrent_gates)
    words("input_gates and draws", (*gates, *draws))
    among("inner_gates", cell.inner_gates, "recurrent_gates", cell.recurrent_gates)
    for name, rows in mapping("pointwise", cell.pointwise).items():
        words(f"pointwise[{name!r}]", rows, least=1)
    among("recurrent_params", cell.recurrent_params, "pointwise", cell.pointwise)
    for name, probability in draws.items():
        if not 0 <= checks.finite(f"{kind}.draws[{name!r}]", probability) <= 1:
            raise ValueError(f"{kind}.draws[{name!r}] must be a probability, not {shown(probability)}")
    among("sequence_draws", cell.sequence_draws, "draws", draws)
    try:
        hash(cell)
    except TypeError:
        raise TypeError(
            f"{kind} can't be hashed: a cell with options is a frozen dataclass of them, tuples in place of lists"
        ) from None


@cache
def named(names: tuple[str, ...]) -> Any:
    """Return a named tuple type with the fields ``names``, the same one each time.

    Asked for another, its values raise an ``AttributeError`` that tells their names.
    """
    for name in names:
        if normalize("NFKC", str(name)) != name:  # Python does so in a program's text, and would look for another name
            raise ValueError(f"the name {name!r} must be a text that Unicode's NFKC leaves as it is")
    # The fields are known only at run time.
    own = {"__slots__": (), "__reduce__": _by_names, "__getattr__": _no_such}
    return type("named", (namedtuple("named", names),), own)  # noqa: PYI024


def _no_such(value: Any, name: str) -> Any:
    names = ", ".join(map(repr, value._fields)) or "nothing"
    raise AttributeError(f"there is no {name!r} here, but {names}", name=name, obj=None)


def _by_names(value: Any) -> Any:
    return _of_names, (value._fields, tuple(value))


def _of_names(names: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return named(names)(*values)
