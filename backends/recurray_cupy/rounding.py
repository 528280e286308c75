"""Rounding float32 to bfloat16."""

from __future__ import annotations

from functools import cache

from recurray_cupy.kernel import Kernel, kernel


@cache  # a step may need it: writing it would take the host longer than running it takes the GPU
def rounding_kernel() -> Kernel:
    """Write the kernel: ``values`` (B, H), float32, to their nearest bfloat16, as bits, ``rounded`` (B, H)."""
    lines = [
        "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
        "if (e >= (long long)batch * units) return;",
        "union { float number; unsigned bits; } value;",
        "value.number = values[e];",
        "const bool nan = value.number != value.number;",
        "const unsigned nearest = value.bits + 0x7fff + ((value.bits >> 16) & 1);  // to even, where two are as near",
        "rounded[e] = (unsigned short)(nan ? 0x7fc0 : nearest >> 16);",
    ]
    return kernel("to_bfloat16", lines, {"rounded"})
