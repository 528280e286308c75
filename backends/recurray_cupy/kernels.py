"""Kernels around the segments of a step: a thread for each element, or a block for each row."""

from __future__ import annotations

from collections.abc import Callable

from recurray_cupy.kernel import ELEMENT_OF_GRID, LENGTHS, Body, Kernel, variable
from recurray_cupy.rounding import rounding_text
from recurray_cupy.segments import Segments
from recurray_cupy.step import Load

LENGTH = "const int length = lengths ? lengths[b] : 2147483647;"


def element_kernel(name: str, segments: Segments, s: int) -> Kernel:
    """Write the launch that the segment ``s`` alone makes up, in which each thread has an element to itself.

    What is carried from step to step stays in registers. If there are several steps in a launch, no number is read
    that another thread has written.
    """
    step, body, is_last = segments.step, Body(), s == segments.count - 1
    carried = [each for each in step.carried if is_last or each.name in segments[s].reads]
    sums = list(enumerate(step.sums)) if is_last else []
    lengths = body.array(LENGTHS)
    before = []
    for each in carried:
        load = body.text(each.load)
        if each.name not in segments[s].reads:  # then only a row past its length wants it
            load = f"{lengths} ? {load} : (real)0"
        before.append(f"real {each.name} = {load};")
    before += [f"real sum{k} = {body.load(each.place)};" for k, each in sums]
    valid = [*segments.means_before(s, body), *segments.compute(s, body)]
    if is_last:
        valid += [f"{each.name} = {variable(each.value)};" for each in carried]
    valid += [f"sum{k} += {variable(each.value)};" for k, each in sums]
    lines = [
        LENGTH,
        "int t = start;",
        *before,
        f"for (int step = 0; step < steps; ++step, t += {step.stride}) {{",
        *indented(either(valid, segments.pad(s, body))),
        *(f"    {body.store(each.store)} = {each.name};" for each in carried if is_last and each.each_step),
        "}",
        *(f"{body.store(each.store)} = {each.name};" for each in carried if is_last and not each.each_step),
        *(f"{body.store(each.place)} = sum{k};" for k, each in sums),
    ]
    unit = ["const int u = (int)(e - (long long)b * units);"] if "u" in body.needs else []
    lines = [*ELEMENT_OF_GRID, "const int b = (int)(e / units);", *unit, *lines]
    return Kernel(name, tuple(lines), body.arguments(), ahead=rounding_text(step.rounded_to))


def row_kernel(name: str, segments: Segments, launch: range) -> Kernel:
    """Write a launch in which each block has a row to itself, so that its threads can work out means over the units.

    A thread has the same units in all segments and steps, so it reads nothing that another has written.
    """
    step, last = segments.step, segments.count - 1
    body = Body(carried={each.name: each.load for each in step.carried})
    body.array(LENGTHS)
    valid = segments.means_before(launch.start, body)
    for s in launch:
        means = segments[s].means

        def of_unit(s: int = s, means: list[int] = means) -> list[str]:
            lines = segments.compute(s, body)
            operands = [step.program.values[mean].operands[0] for mean in means]
            lines += [f"sums{s}[{k}] += {variable(operand)};" for k, operand in enumerate(operands)]
            if s == last:
                lines += [f"{body.store(each.store)} = {variable(each.value)};" for each in step.carried]
                lines += [f"{body.store(each.place)} += {variable(each.value)};" for each in step.sums]
            return lines

        if means:
            valid.append(f"real sums{s}[{len(means)}] = {{}};")
        valid += _for_each_unit(body, of_unit)
        if means:
            valid.append(f"block_sums(sums{s});")
        for k, mean in enumerate(means):
            valid.append(f"const real {variable(mean)} = sums{s}[{k}] / units;")
            if mean in segments.work_rows and last not in launch:
                valid.append(f"if (threadIdx.x == 0) {body.store(segments.work_rows[mean])} = {variable(mean)};")

    def past_length() -> list[str]:
        lines = [line for s in launch for line in segments.pad(s, body)]
        moved = [each for each in step.carried if last in launch and each.load != Load(each.store)]
        return lines + [f"{body.store(each.store)} = {body.text(each.load)};" for each in moved]

    lines = [
        "const int b = blockIdx.x;",
        LENGTH,
        "int t = start;",
        f"for (int step = 0; step < steps; ++step, t += {step.stride}) {{",
        *indented(either(valid, _for_each_unit(body, past_length))),  # all threads of the block take the same way
        "}",
    ]
    if "n" in body.needs:
        lines = ["const long long n = (long long)batch * units;", *lines]
    return Kernel(name, tuple(lines), body.arguments(), by_row=True, ahead=rounding_text(step.rounded_to))


def _for_each_unit(body: Body, write: Callable[[], list[str]]) -> list[str]:
    """Write a loop over a thread's units."""
    before, body.needs = body.needs, set()
    lines = write()
    element = ["const long long e = (long long)b * units + u;"] if "e" in body.needs else []
    body.needs |= before
    head = "for (int u = threadIdx.x; u < units; u += blockDim.x) {"
    return [head, *indented([*element, *lines]), "}"] if lines else []


def either(valid: list[str], past: list[str]) -> list[str]:
    """Write what is done within a row's length, and past it."""
    return ["if (t < length) {", *indented(valid), *(["} else {", *indented(past)] if past else []), "}"]


def indented(lines: list[str]) -> list[str]:
    """Indent lines, but for the preprocessor's."""
    return [line if line.startswith("#") else f"    {line}" for line in lines]
