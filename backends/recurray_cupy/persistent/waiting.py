"""How the blocks with the same rows wait for each other's steps."""

from __future__ import annotations

from recurray_cupy.kernel import Body
from recurray_cupy.step import Array, Place

ARRIVALS, FAULT = Array("arrivals", "unsigned"), Array("fault", "int")
_OF_ROWS = Place(ARRIVALS, "32 * row_group", "")  # the counter of the blocks with the same rows


def wait(body: Body, ahead: str) -> list[str]:
    """Have the first of the block's threads wait, and tell the others; see `Recurrence._counted_ahead`."""
    arrivals, fault = body.store(_OF_ROWS), body.store(Place(FAULT, "0", ""))
    return [
        f"const int times = step + {ahead};",
        "if (times && unit_groups > 1 && !failed) {",
        "    if (threadIdx.x == 0)",
        f"        *gave_up = !wait_for(&{arrivals}, (unsigned)times * unit_groups, &{fault});",
        "    __syncthreads();",
        "    failed = *gave_up;",
        "}",
    ]


def say(body: Body, when: str) -> list[str]:
    """Once all of the block's threads have written their parts, say so."""
    return ["__syncthreads();", f"if ({when} && threadIdx.x == 0)", f"    release_one(&{body.store(_OF_ROWS)});"]
