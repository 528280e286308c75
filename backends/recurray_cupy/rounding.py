"""Rounding to the operands of tensor cores, in C++."""

from __future__ import annotations

# What only a GPU has; the tests have the same for a CPU.
F16_BITS = """#ifndef HOST
__device__ inline unsigned f16_bits(float number) {
    unsigned short bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number));
    return bits;
}
#endif
"""

NEAREST_BFLOAT16 = """__device__ inline unsigned nearest_bfloat16(float number) {
    union { float number; unsigned bits; } value;
    value.number = number;
    // To even, where two are as near.
    const unsigned nearest = value.bits + 0x7fff + ((value.bits >> 16) & 1);
    return number != number ? 0x7fc0 : nearest >> 16;
}
"""

FUNCTIONS = {"float16": ("f16_bits", F16_BITS), "bfloat16": ("nearest_bfloat16", NEAREST_BFLOAT16)}


def rounded_bits(rounded_to: str, number: str) -> str:
    """Write the bits of a number rounded to the nearest of a type, by a function of `rounding_text`."""
    return f"(unsigned short){FUNCTIONS[rounded_to][0]}({number})"


def rounding_text(rounded_to: str) -> str:
    """Return the text that a kernel with `rounded_bits` needs ahead of it."""
    return FUNCTIONS[rounded_to][1] if rounded_to else ""
