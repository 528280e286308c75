"""A cell as a program: recorded once, and brought into the form that a backend makes its own code from.

Examples
--------
>>> from recurray.cells import RNNCell
>>> [(value.operation, *value.operands) for value in record(RNNCell()).step.values][-2:]
[('add', 1, 2), ('tanh', 3)]
"""

from recurray.program.ir import (
    ELEMENTWISE,
    FLAGS,
    INNER,
    INNER_BACKWARD,
    MEAN,
    PRODUCTS,
    Constant,
    Operand,
    Program,
    Value,
    is_value,
    values_of,
)
from recurray.program.liveness import Registers, parallel_copy
from recurray.program.merge import Gates, gates_of, has_one_gradient, merged_gates, with_sums
from recurray.program.record import Recording, RecordingError, record, record_formula
from recurray.program.segments import earliest_segments, latest_segments

__all__ = [
    "ELEMENTWISE",
    "FLAGS",
    "INNER",
    "INNER_BACKWARD",
    "MEAN",
    "PRODUCTS",
    "Constant",
    "Gates",
    "Operand",
    "Program",
    "Recording",
    "RecordingError",
    "Registers",
    "Value",
    "earliest_segments",
    "gates_of",
    "has_one_gradient",
    "is_value",
    "latest_segments",
    "merged_gates",
    "parallel_copy",
    "record",
    "record_formula",
    "values_of",
    "with_sums",
]
