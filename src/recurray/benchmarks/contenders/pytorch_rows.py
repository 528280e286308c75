"""How PyTorch's modules are given rows that aren't all valid from the first step to the last.

Rows that end early are packed sequences; those that begin late are moved to the front before, and back after. With
holes, or where rows are cut, there is a loop over the steps, as users write it.

T time, B batch. Arrays are time-major.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import Data, Problem

Rows = Callable[[Any, Any, Any], tuple[Any, Any]]  # from module, x and state to y and the final state


def rows_of(problem: Problem, data: Data, **options: Any) -> Rows:
    """Return the function that runs a module over a problem's rows; ``options`` are those of its tensors."""
    if data.lengths is not None:
        return _packed(data.lengths, problem.steps)
    if problem.gaps == "left":
        return _moved(data.gaps["mask"], options["device"])
    if problem.gaps:
        return _looped(problem, data, **options)
    return lambda module, x, state: module(x, state)


def _packed(lengths: Sequence[int], steps: int) -> Rows:
    import torch

    count = torch.tensor(lengths)

    def run(module: Any, x: Any, state: Any) -> tuple[Any, Any]:
        packed = torch.nn.utils.rnn.pack_padded_sequence(x, count)
        y, end = module(packed, state)
        return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=steps)[0], end

    return run


def _moved(mask: Any, device: str) -> Rows:
    import torch

    steps, batch = mask.shape
    lengths = mask.sum(axis=0)  # falling
    time, row = np.arange(steps)[:, None], torch.arange(batch, device=device)
    first = steps - lengths
    to_front = torch.from_numpy(np.minimum(time + first, steps - 1)).to(device)
    back = torch.from_numpy(np.where(mask, time - first, steps - 1)).to(device)  # where it is zero, if there is padding
    packed = _packed(lengths.tolist(), steps)

    def run(module: Any, x: Any, state: Any) -> tuple[Any, Any]:
        y, end = packed(module, x[to_front, row], state)
        return y[back, row], end

    return run


def _looped(problem: Problem, data: Data, **options: Any) -> Rows:
    import torch

    def at_each_step(name: str) -> list[Any]:
        """By step (B, 1), or None where the step is as any other."""
        if name not in data.gaps:
            return [None] * problem.steps
        flags = data.gaps[name] if name == "mask" else ~data.gaps[name]
        return [None if step.all() else torch.from_numpy(step[:, None]).to(options["device"]) for step in flags]

    happens, goes_on, has_c = at_each_step("mask"), at_each_step("resets"), KINDS[problem.layer].has_c

    def run(module: Any, x: Any, state: Any) -> tuple[Any, Any]:
        zeros = torch.zeros(problem.layers, problem.batch, problem.hidden, **options)
        now = (zeros,) * (2 if has_c else 1) if state is None else state if has_c else (state,)
        ys = []
        for t in range(problem.steps):
            if (kept := goes_on[t]) is not None:
                now = tuple(part * kept for part in now)
            y, after = module(x[t : t + 1], now if has_c else now[0])
            after = after if has_c else (after,)
            if (valid := happens[t]) is not None:
                after = tuple(torch.where(valid, new, old) for new, old in zip(after, now, strict=True))
                y = y * valid
            ys.append(y)
            now = after
        return torch.cat(ys), now if has_c else now[0]

    return run
