"""Lowering a part of a recorded program to NumPy calls into buffers that are there already.

A buffer whose value has had its last use is written over where that is allowed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial

from recurray.arrays import WHOLE
from recurray.program import (
    FLAGS,
    INNER,
    INNER_BACKWARD,
    MEAN,
    Constant,
    Operand,
    Program,
    Registers,
    Value,
    parallel_copy,
)
from recurray_numpy.calls import FLAG, FLOATS, ROW, Array, Call, Kind, Number, Source
from recurray_numpy.names import of_cell, shared

NAMES = {"abs": "absolute"}  # what NumPy calls otherwise
SPREAD = "spread"  # an operation of this module's own: a ROW's number for each unit
Goals = list[tuple[Operand, Array]]  # values, and the arrays that they must end in


class Lowering:
    """A part of a program, ahead of the loop, in it or after it, as calls.

    Parameters
    ----------
    program : Program
    prefix : str
        What the names of its work space and numbers begin with.
    places : mapping of int to Array
        Where the values that are there already are.
    vector : bool
        Whether the batch is one row, so that arrays are vectors.
    timed : bool
        Whether the calls are for many steps at once, so that the work space has the steps along its first axis.
    each_step : bool
        Whether the inner gates of all steps are kept.
    masked : bool
        Whether what the inner gates' product is with is multiplied by ``output_mask``.

    Attributes
    ----------
    calls : list of Call
    places : dict of int to Array
        Where each value is.
    """

    def __init__(
        self,
        program: Program,
        prefix: str,
        places: Mapping[int, Array],
        *,
        vector: bool,
        timed: bool = False,
        each_step: bool = True,
        masked: bool = False,
    ) -> None:
        self.prefix, self.vector, self.masked = prefix, vector, masked
        self.calls: list[Call] = []
        self.values, self.kinds = list(program.values), kinds(program, places)
        self._new = partial(Array, timed=timed, is_work=True)
        self._of_inner = partial(Array, timed=each_step)
        self._work: set[Array] = set()
        self._numbers: dict[float, Number] = {}
        self._registers = Registers({k: place for k, place in places.items() if k < len(program.values)})
        self._has_inner = False  # whether the inner gates' product is among the calls

    @property
    def places(self) -> dict[int, Array]:
        """Where each value is."""
        return self._registers.places

    def lower(
        self,
        order: Iterable[int],
        *,
        reusable: Iterable[Array] = (),
        targets: Mapping[int, Array] | None = None,
        kept: Iterable[int] = (),
        instead: Mapping[int, Iterable[Array]] | None = None,
    ) -> None:
        """Add the calls that compute the values ``order``.

        Parameters
        ----------
        order : iterable of int
            Which values, in an order in which each needs only earlier ones.
        reusable : iterable of Array
            Arrays that may be written over once their value has had its last use, besides the work space.
        targets : mapping of int to Array
            Where values must be at the end. A target may be the place of an earlier value; that value is then
            written over only after its last use.
        kept : iterable of int
            Values that must still be where they are at the end.
        instead : mapping of int to iterable of Array
            Places that will do as well as a value's target, if one of the value's operands can be written over there.
        """
        order, targets, instead = self._spread(list(order)), dict(targets or {}), instead or {}
        registers, reusable = self._registers, set(reusable)
        registers.expect([*(operand for k in order for operand in self.values[k].operands), *{*kept, *targets}])
        moves = {value: target for value, target in targets.items() if value not in order}  # handed on as they are
        for value in order:
            operation, operands, kind = self.values[value].operation, self.values[value].operands, self.kinds[value]
            number = self.filled if operation in ("maximum", "minimum") and kind == FLOATS else self.number
            sources = [number(a.number) if isinstance(a, Constant) else registers.places[a] for a in operands]
            in_one_call = operation not in ("where", INNER, INNER_BACKWARD, MEAN)
            if in_one_call:  # elsewhere a later call would read what an earlier one has written over
                registers.spend(operands)
            ready = [a for a in sources if isinstance(a, Array) and a in reusable | self._work and a.kind == kind]
            in_place = [a for a in ready if in_one_call and not registers.is_live(a)]
            target = next((a for a in in_place if a in instead.get(value, ())), targets.get(value))
            if operation == INNER:
                place = self._of_inner(of_cell("h", self.values[value].name).name)
            elif target is not None and not registers.is_live(target):
                place = target
            else:
                place = in_place[0] if in_place else self._take(kind)
            if target is not None and target != place:
                moves[value] = target
            if not in_one_call:
                registers.spend(operands)
            registers.put(value, place)
            self._compute(value, sources, place)
        copies = [(registers.places[value], target) for value, target in moves.items()]
        for source, to in parallel_copy(copies, aside=lambda source: self._take(source.kind)):
            self.call("copyto", source, to)
        registers.places.update(moves)

    def copy(self, copies: Goals) -> None:
        """Copy values, wherever they are, and constants."""
        for value, to in copies:
            source = self.number(value.number) if isinstance(value, Constant) else self.places[value]
            if source != to:
                self.call("copyto", source, to)

    def call(self, function: str, *arguments: Source, where: Source | None = None) -> None:
        """Add a call, whose output is the last argument."""
        if function == "negative":  # see `recurray_numpy.calls.negation`
            function, arguments = "multiply", (arguments[0], self.number(-1.0), arguments[1])
        self.calls.append(Call(function, arguments[:-1], arguments[-1], where))

    def product(self, weight: str, a: Source, to: Array) -> None:
        """Add a product with a weight."""
        self.call("dot", a, shared(weight), to) if self.vector else self.call("matmul", shared(weight), a, to)

    def logistic(self, a: Array) -> None:
        """Add 1 / (1 + exp(-a)), in place of what is -a; exp overflows where that is far above 0, as it should."""
        one = self.number(1.0)
        self.call("exp", a, a)
        self.call("add", a, one, a)
        self.call("divide", one, a, a)

    def bounded_logistic(self, a: Source, most: Array, divisor: Array, to: Array) -> None:
        """Add exp(a) / (1 + exp(a)), with an a of at most ``most``, so that nothing overflows.

        For single rows: leaving overflows aside takes longer than the further call. ``divisor`` is work space.
        """
        self.call("minimum", a, most, to)
        self.call("exp", to, to)
        self.call("add", to, self.number(1.0), divisor)
        self.call("divide", to, divisor, to)

    def number(self, number: float) -> Number:
        """Return a number."""
        return self._numbers.setdefault(number, Number(f"{self.prefix}_constant{len(self._numbers)}", number))

    def filled(self, number: float) -> Array:
        """Return an array full of a number, which NumPy's maximum and minimum take 3 times as fast."""
        name = f"{self.prefix}_filled{number!r}".replace("-", "m").replace(".", "_").replace("+", "")
        self._work.add(found := self._new(name, kind=number))
        return found

    def _take(self, kind: Kind) -> Array:
        """Return work space that is free."""

        def make() -> Array:
            self._work.add(made := self._new(f"{self.prefix}{len(self._work)}", kind=kind))
            return made

        return self._registers.take(make, fits=lambda a: a in self._work and a.kind == kind)

    def _spread(self, order: list[int]) -> list[int]:
        """Let a ROW that is used several times be copied to all units first; return the order with that.

        NumPy takes more than twice as long where one operand has to be repeated.
        """
        if self.vector:
            return order
        uses = Counter(
            operand
            for k in order
            if self.kinds[k] == FLOATS and self.values[k].operation != MEAN
            for operand in self.values[k].reads
            if self.kinds[operand] == ROW
        )
        spread: dict[Operand, int] = {}
        result = []
        for k in order:
            if self.kinds[k] == FLOATS:
                for operand in self.values[k].reads:
                    if uses[operand] > 1 and operand not in spread:
                        spread[operand] = len(self.values)
                        result.append(len(self.values))
                        self.values.append(Value(SPREAD, (operand,)))
                        self.kinds.append(FLOATS)
                operands = tuple(spread.get(operand, operand) for operand in self.values[k].operands)
                self.values[k] = replace(self.values[k], operands=operands)
            result.append(k)
        return result

    def _compute(self, k: int, sources: list[Source], place: Array) -> None:
        """Add the calls for a value."""
        operation, operands = self.values[k].operation, self.values[k].operands
        if operation == "where":
            condition, chosen, other = sources
            if operands[1:] == (Constant(1.0), Constant(0.0)):  # writing under a mask takes 10 times as long
                self.call("copyto", condition, place)
            else:
                self.call("copyto", other, place)
                self.call("copyto", chosen, place, where=condition)
        elif operation == SPREAD:
            self.call("copyto", *sources, place)
        elif operation == MEAN:
            self.call("mean_over_vector" if self.vector else "mean_over_units", *sources, place)
        elif operation == INNER:
            self._inner(*sources)
        elif operation == INNER_BACKWARD:
            for source, gate in zip(sources, self.values[k].gates, strict=True):
                if source != of_cell("dh", gate):
                    self.call("copyto", source, of_cell("dh", gate))
            self.product("w_inner", Array("dinner"), place)
            if self.masked:
                self.call("multiply", place, shared("output_mask"), place)
        elif operation == "logistic" and self.vector:
            divisor = self._take(FLOATS)
            self._registers.free.append(divisor)
            self.bounded_logistic(sources[0], self.filled(WHOLE), divisor, place)
        elif operation == "logistic":
            self.call("negative", *sources, place)
            self.logistic(place)
        else:
            self.call(NAMES.get(operation, operation), *sources, place)

    def _inner(self, operand: Source) -> None:
        """Add the product of all inner gates, when the first is wanted."""
        inner, masked = self._of_inner("inner"), self._of_inner("inner_operand")
        if self._has_inner:
            return
        self._has_inner = True
        if self.masked:
            self.call("multiply", operand, shared("output_mask"), masked)
        self.product("w_inner", masked if self.masked else operand, inner)
        self.call("add", inner, shared("b_inner"), inner)


def targets_of(goals: Goals) -> tuple[dict[int, Array], Goals]:
    """Split goals: by value its first array; and those that are left, constants, and values that have an array."""
    targets: dict[int, Array] = {}
    copies: Goals = []
    for value, place in goals:
        if isinstance(value, Constant) or value in targets:
            copies.append((value, place))
        else:
            targets[value] = place
    return targets, copies


def kinds(program: Program, places: Mapping[int, Array]) -> list[Kind]:
    """Return the kind of array that each value wants."""
    found: list[Kind] = []
    for k, value in enumerate(program.values):
        kinds_of_operands = {found[operand] for operand in value.reads}
        if value.operation in FLAGS:
            found.append(FLAG)
        elif value.operation == "input" and k in places:
            found.append(places[k].kind)
        else:
            found.append(ROW if value.operation == MEAN or kinds_of_operands == {ROW} else FLOATS)
    return found
