"""The structures of `c/engine.h`, mirrored."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from ctypes import POINTER, Array, Structure, addressof, c_char, c_double, c_int32, c_int64, c_void_p, sizeof
from dataclasses import dataclass
from typing import Any

from recurray_native.program import Code

POINTER_SIZE = sizeof(c_void_p)
POINTER_CODE = next(code for code in "ILQ" if array(code).itemsize == POINTER_SIZE)
_char_in = c_char.from_buffer


class CSlot(Structure):
    """`Slot`."""

    _fields_ = (("kind", c_int32), ("index", c_int32))


class CInstruction(Structure):
    """`Instruction`."""

    _fields_ = tuple((name, c_int32) for name in ("operation", "to", "a", "b", "c", "d", "e"))


class CProgram(Structure):
    """`Program`."""

    _fields_ = (
        *((name, c_int64) for name in ("slots", "segments", "tiles", "wides", "sums")),
        ("slot", POINTER(CSlot)),
        ("code", POINTER(CInstruction)),
        ("segment_end", POINTER(c_int64)),
        ("inner_segment", c_int64),
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
        ("bias_row", c_int64),
        ("sums_by_row", c_void_p),
        ("y_row", c_int64),
        ("ready", c_void_p),
    )


class CElementwise(Structure):
    """`Elementwise`."""

    _fields_ = (
        *((name, c_int64) for name in ("sets", "arrays", "given", "numbers", "threads")),
        *((name, c_void_p) for name in ("size", "array", "number")),
        ("program", CProgram),
    )


class CChain(Structure):
    """`Chain`."""

    _fields_ = (
        *((name, c_int64) for name in ("level", "is_double", "count")),
        *((name, c_void_p) for name in ("task", "prepared")),
    )


@dataclass(frozen=True)
class Listing:
    """A program as the engine reads it, what its pointers point to, and a task to begin with.

    Attributes
    ----------
    program : CProgram
    constants : array of double
    task : CTask
        All that is the same in every call.
    kept : tuple
        What pointers point to.
    """

    program: CProgram
    constants: Any
    task: CTask
    kept: tuple[Any, ...]

    def begin(self) -> CTask:
        """A task to be filled in."""
        return CTask.from_buffer_copy(self.task)


def numbers(values: Sequence[int]) -> Array[c_int64]:
    """An array of whole numbers."""
    return (c_int64 * len(values))(*values)


def address(a: Any) -> int:
    """The address of a contiguous array, which the caller holds while the address is in use."""
    try:
        return addressof(_char_in(a))  # which refuses what isn't contiguous
    except TypeError:  # it isn't to be written to; this takes four times as long
        if not a.flags.c_contiguous:
            raise
        found: int = a.ctypes.data
        return found


def tables(task: CTask, **addresses: Sequence[int]) -> Any:
    """Have fields of a task point to lists of addresses, which are returned: the caller holds them."""
    together = [each for listed in addresses.values() for each in listed]
    found = array(POINTER_CODE, together)  # much faster than an array of ctypes'
    at = found.buffer_info()[0]
    for name, listed in addresses.items():
        setattr(task, name, at)
        at += len(listed) * POINTER_SIZE
    return found


def program_of(code: Code) -> tuple[CProgram, tuple[Any, ...]]:
    """Bring a program into the engine's form; also return what its pointers point to."""
    slots = (CSlot * len(code.slots))(*(CSlot(slot.kind, slot.index) for slot in code.slots))
    instructions = (CInstruction * len(code.instructions))(*(CInstruction(*line) for line in code.instructions))
    ends = numbers(code.segment_ends)
    program = CProgram(
        *(len(slots), len(ends), code.tiles, code.wides, code.sums),
        *(slots, instructions, ends),
        *(code.inner_segment, code.inner_slot),
    )
    return program, (slots, instructions, ends)


def listing_of(
    code: Code, *, input_gates: Sequence[int], recurrent_gates: Sequence[int], params: int, states: int, terms: int
) -> Listing:
    """Bring a program into the engine's form, and what is the same in all its calls.

    ``input_gates`` and ``recurrent_gates`` are which gates of the weights make each block of the products, -1 for none.
    """
    program, kept = program_of(code)
    of_input, of_recurrent = numbers(input_gates), numbers(recurrent_gates)
    constants = (c_double * len(code.constants))(*code.constants)
    task = CTask(
        blocks=len(of_input),
        inner_blocks=len(of_recurrent) - len(of_input),
        terms=terms,
        input_gate=addressof(of_input),
        recurrent_gate=addressof(of_recurrent),
        params=params,
        constants=len(constants),
        constant=addressof(constants),
        states=states,
        program=program,
    )
    return Listing(program, constants, task, (*kept, of_input, of_recurrent))
