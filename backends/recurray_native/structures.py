"""The structures of `c/engine.h`, mirrored."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import POINTER, Array, Structure, c_double, c_int32, c_int64, c_void_p
from dataclasses import dataclass
from typing import Any

from recurray_native.plan import Plan
from recurray_native.program import Code


class CSlot(Structure):
    """`Slot`."""

    _fields_ = (("kind", c_int32), ("index", c_int32))


class CInstruction(Structure):
    """`Instruction`."""

    _fields_ = tuple((name, c_int32) for name in ("operation", "to", "a", "b", "c"))


class CProgram(Structure):
    """`Program`."""

    _fields_ = (
        *((name, c_int64) for name in ("slots", "stages", "tiles", "wides", "sums")),
        ("slot", POINTER(CSlot)),
        ("code", POINTER(CInstruction)),
        ("stage_end", POINTER(c_int64)),
        ("inner_stage", c_int64),
        ("inner_slot", c_int64),
    )


class CTask(Structure):
    """`Task`."""

    _fields_ = (
        *((name, c_int64) for name in ("steps", "batch", "rows", "features", "units", "outputs", "threads")),
        *((name, c_void_p) for name in ("counts", "offsets", "lengths", "ends")),
        *((name, c_int64) for name in ("blocks", "inner_blocks", "terms")),
        *((name, c_void_p) for name in ("input_gate", "recurrent_gate")),
        *(
            (name, c_void_p)
            for name in ("input_weight", "input_bias", "recurrent_weight", "recurrent_bias", "projection")
        ),
        *((name, c_int64) for name in ("params", "constants")),
        *((name, c_void_p) for name in ("param", "constant")),
        ("states", c_int64),
        *((name, c_void_p) for name in ("first", "last", "x", "mask", "packed", "h_before", "output", "inner_operand")),
        *(
            (name, c_void_p)
            for name in ("y", "dy", "dx", "d_input_weight", "d_recurrent_weight", "d_projection", "sums")
        ),
        ("program", CProgram),
    )


@dataclass(frozen=True)
class Listing:
    """A program as the engine reads it, and what its pointers point to."""

    program: CProgram
    constants: Any
    kept: tuple[Any, ...]


@dataclass(frozen=True)
class Blocks:
    """The blocks of the products as the engine reads them."""

    count: int
    inner: int
    input_gate: Any
    recurrent_gate: Any


def numbers(values: Sequence[int]) -> Array[c_int64]:
    """An array of whole numbers."""
    return (c_int64 * len(values))(*values)


def pointers(addresses: Sequence[int]) -> Array[c_void_p]:
    """An array of addresses."""
    return (c_void_p * len(addresses))(*addresses)


def listing_of(code: Code) -> Listing:
    """Bring a program into the engine's form."""
    slots = (CSlot * len(code.slots))(*(CSlot(slot.kind, slot.index) for slot in code.slots))
    instructions = (CInstruction * len(code.instructions))(*(CInstruction(*line) for line in code.instructions))
    ends = numbers(code.stage_ends)
    constants = (c_double * len(code.constants))(*code.constants)
    program = CProgram(
        *(len(slots), len(ends), code.tiles, code.wides, code.sums),
        *(slots, instructions, ends),
        *(code.inner_stage, code.inner_slot),
    )
    return Listing(program, constants, (slots, instructions, ends))


def blocks_of(plan: Plan) -> Blocks:
    """Bring a plan's blocks into the engine's form."""
    inputs = numbers([block.input for block in plan.blocks])
    recurrents = numbers([block.recurrent for block in plan.blocks + plan.inner])
    return Blocks(len(plan.blocks), len(plan.inner), inputs, recurrents)
