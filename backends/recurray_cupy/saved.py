"""Where what a step saves for backward is kept.

Not twice: what is a state or a constant as well is read from there.
"""

from __future__ import annotations

from dataclasses import dataclass

from recurray.cells.cell import Cell
from recurray.program import Constant, Operand, Program
from recurray_cupy.expressions import identifier, literal, rows_of
from recurray_cupy.step import Goal


@dataclass(frozen=True)
class Saved:
    """Where saved values are.

    Attributes
    ----------
    places : dict of str to str
        By name.
    goals : tuple of Goal
        What forward stores.
    by_row : set of str
        The names of those that are the same for all units of a row.
    slots, row_slots : int
        How many are stored in an array `saved` (T, slots, B, H) and in `saved_rows` (T, row_slots, B).
    """

    places: dict[str, str]
    goals: tuple[Goal, ...]
    by_row: frozenset[str]
    slots: int
    row_slots: int


def before(state: str) -> str:
    """Where a state before the step is, in an array (T + 1, B, H)."""
    return f"state_{identifier(state)}[(long long)(t + reverse) * n + e]"


def after(state: str) -> str:
    """Where a state after the step is."""
    return f"state_{identifier(state)}[(long long)(t + 1 - reverse) * n + e]"


def timed(array: str) -> str:
    """The element of an array (T, B, H)."""
    return f"{array}[(long long)t * n + e]"


def save(cell: Cell, step: Program, *, projected: bool) -> Saved:
    """Say where the values are that a cell's step saves."""
    there: dict[Operand, str] = {}
    for k, value in enumerate(step.values):
        if value.operation == "input":
            group, _, name = value.name.partition(".")
            if group == "before":
                there[k] = before(name)
    for state in cell.states:
        there.setdefault(
            step.outputs[f"after.{state}"], timed("output") if projected and state == "h" else after(state)
        )

    rows = rows_of(step, set())
    wanted = {name.removeprefix("saved."): value for name, value in step.outputs.items() if name.startswith("saved.")}
    stored = [value for value in dict.fromkeys(wanted.values()) if isinstance(value, int) and value not in there]
    by_row = [value for value in stored if value in rows]
    by_element = [value for value in stored if value not in rows]
    for k, place in enumerate(by_element):
        there[place] = f"saved[((long long)t * {len(by_element)} + {k}) * n + e]"
    for k, place in enumerate(by_row):
        there[place] = f"saved_rows[((long long)t * {len(by_row)} + {k}) * batch + b]"
    return Saved(
        places={
            name: literal(value.number) if isinstance(value, Constant) else there[value]
            for name, value in wanted.items()
        },
        goals=tuple(Goal(value, there[value], otherwise=None, by_row=value in rows) for value in stored),
        by_row=frozenset(name for name, value in wanted.items() if value in rows),
        slots=len(by_element),
        row_slots=len(by_row),
    )
