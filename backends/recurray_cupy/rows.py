"""Kernels in which each block has a row to itself, so that its threads can work out a mean over the units."""

from __future__ import annotations

from recurray_cupy.elements import LENGTH, mentions, written_by
from recurray_cupy.kernel import Kernel, kernel
from recurray_cupy.stretches import Stretches


def row_kernel(name: str, stretches: Stretches, launch: range) -> Kernel:
    """Write a launch of one or several stretches, with the means that are known at their ends.

    A thread has the same units in all stretches and steps, so it reads nothing that another has written.
    """
    step, count = stretches.step, stretches.schedule.count
    valid: list[str] = []
    finished: list[str] = []
    if launch.start:  # means from the first launch
        valid += [f"const real v{k} = {place};" for k, place in stretches.work_rows.items()]
    for s in launch:
        text = stretches.texts[s]
        finished += text.finished
        body = [*text.lines, *text.stores]
        body += [f"sums{s}[{k}] += {value};" for k, value in enumerate(text.means.values())]
        if s == count - 1:
            body += [f"{each.store} = {value};" for each, value in zip(step.carried, text.carried, strict=True)]
            body += [f"{each.place} += {value};" for each, value in zip(step.sums, text.sums, strict=True)]
            finished += [f"{each.store} = {each.load};" for each in step.carried if each.store != each.load]
        if text.means:
            valid.append(f"real sums{s}[{len(text.means)}] = {{}};")
        valid += _for_each_unit(body)
        if text.means:
            valid.append(f"block_sums(sums{s});")
        for k, mean in enumerate(text.means):
            valid.append(f"const real v{mean} = sums{s}[{k}] / units;")
            if mean in stretches.work_rows and launch.stop < count:
                valid.append(f"if (threadIdx.x == 0) {stretches.work_rows[mean]} = v{mean};")

    lines = [
        "const int b = blockIdx.x;",
        LENGTH,
        "int t = start;",
        f"for (int step = 0; step < steps; ++step, t += {step.stride}) {{",
        "    if (t < length) {",  # all threads of the block take the same way
        *(f"        {line}" for line in valid),
        *(["    } else {", *(f"        {line}" for line in _for_each_unit(finished))] if finished else []),
        "    }",
        "}",
    ]
    if mentions(lines, "n"):
        lines = ["const long long n = (long long)batch * units;", *lines]
    return kernel(name, lines, written_by(lines), by_row=True)


def _for_each_unit(body: list[str]) -> list[str]:
    element = ["const long long e = (long long)b * units + u;"] if mentions(body, "e") else []
    head = "for (int u = threadIdx.x; u < units; u += blockDim.x) {"
    return [head, *(f"    {line}" for line in (*element, *body)), "}"]
