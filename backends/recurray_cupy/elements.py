"""Kernels in which each thread has an element to itself, through all the steps of a launch."""

from __future__ import annotations

import re

from recurray_cupy.kernel import Kernel, kernel
from recurray_cupy.step import Step
from recurray_cupy.stretches import Stretches

ELEMENT = (
    "const long long n = (long long)batch * units;",
    "const long long e = (long long)blockIdx.x * blockDim.x + threadIdx.x;",
    "if (e >= n) return;",
    "const int b = (int)(e / units);",
)
UNIT = "const int u = (int)(e - (long long)b * units);"
LENGTH = "const int length = lengths ? lengths[b] : 2147483647;"


def element_kernel(name: str, stretches: Stretches, s: int) -> Kernel:
    """Write the launch that the stretch ``s`` alone makes up.

    What is carried from step to step stays in registers. If there are several steps in a launch, no number is read
    that another thread has written.
    """
    step, text = stretches.step, stretches.texts[s]
    is_last = s == stretches.schedule.count - 1
    before, after = _carried(step, text.lines, is_last=is_last)
    valid = [*text.lines, *text.stores]
    if s:  # means from the first launch
        valid = [*(f"const real v{k} = {place};" for k, place in stretches.work_rows.items()), *valid]
    if is_last:
        valid += [f"{each.name} = {value};" for each, value in zip(step.carried, text.carried, strict=True)]
        valid += [f"sum{k} += {value};" for k, value in enumerate(text.sums)]
        before += [f"real sum{k} = {each.place};" for k, each in enumerate(step.sums)]
        after += [f"{each.place} = sum{k};" for k, each in enumerate(step.sums)]

    lines = [
        LENGTH,
        "int t = start;",
        *before,
        f"for (int step = 0; step < steps; ++step, t += {step.stride}) {{",
        "    if (t < length) {",
        *(f"        {line}" for line in valid),
        *(["    } else {", *(f"        {line}" for line in text.finished)] if text.finished else []),
        "    }",
        *(f"    {each.store} = {each.name};" for each in step.carried if is_last and each.each_step),
        "}",
        *after,
    ]
    lines = [*ELEMENT, *([UNIT] if mentions(lines, "u") else []), *lines]
    return kernel(name, lines, written_by(lines))


def _carried(step: Step, lines: list[str], *, is_last: bool) -> tuple[list[str], list[str]]:
    """What reads the carried numbers ahead of the steps, and stores them after the last."""
    before, after = [], []
    for each in step.carried:
        if mentions(lines, each.name):
            before.append(f"real {each.name} = {each.load};")
        elif is_last:  # then only a row past its length wants it
            before.append(f"real {each.name} = lengths ? {each.load} : (real)0;")
        if is_last and not each.each_step:
            after.append(f"{each.store} = {each.name};")
    return before, after


def mentions(lines: list[str], word: str) -> bool:
    """Tell whether a word is in the lines."""
    return re.search(rf"\b{word}\b", "\n".join(lines)) is not None


def written_by(lines: list[str]) -> set[str]:
    """Return the arrays that lines write to."""
    return set(re.findall(r"(\w+)\[[^=;]*\] \+?= ", " ; ".join(lines)))
