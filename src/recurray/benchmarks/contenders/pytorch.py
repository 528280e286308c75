"""PyTorch on the CPU: ``torch.nn.LSTM`` and ``GRU`` (oneDNN), and in eager mode the cells that it doesn't have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from recurray.benchmarks.contenders.base import Contender, Job
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import Data, Problem


class PyTorch(Contender):
    """PyTorch on the CPU, forward in inference mode."""

    name = "torch"

    @property
    def packages(self) -> tuple[str, ...]:
        """PyTorch alone."""
        return ("torch",)

    def describe(self) -> str:
        """Return the version, and the widest instructions that it found."""
        import torch

        return f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Return a context in which it uses ``count`` threads."""
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(count)
        try:
            yield
        finally:
            torch.set_num_threads(before)

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Make the module and its tensors."""
        import torch

        module = _MODULES[problem.layer](problem)
        module.load_state_dict({name: torch.from_numpy(value) for name, value in data.params.items()})
        x, dy = torch.from_numpy(data.x), torch.from_numpy(data.dy)
        given = tuple(torch.from_numpy(part) for part in (data.h, data.c) if part is not None)
        state = None if not given else given if KINDS[problem.layer].has_c else given[0]
        lengths = None if data.lengths is None else torch.tensor(data.lengths)
        names = [name for name, _ in module.named_parameters()]
        inputs = [x.requires_grad_(mode == "training"), *module.parameters()]

        def run() -> Any:
            if lengths is None:
                return module(x, state)
            packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths)
            y, end = module(packed, state)
            return torch.nn.utils.rnn.pad_packed_sequence(y, total_length=problem.steps)[0], end

        def forward() -> Any:
            nonlocal state
            y, end = run()
            if problem.carried:
                state = end
            return {"y": y, **dict(zip("hc", end if isinstance(end, tuple) else (end,), strict=False))}

        def training() -> Any:
            y, _ = run()
            dx, *grads = torch.autograd.grad(y, inputs, dy)
            return {"y": y, "dx": dx, **dict(zip(names, grads, strict=True))}

        def numbers(results: Any) -> dict[str, Any]:
            return {name: value.detach().numpy() for name, value in results.items()}

        if mode == "forward":
            return Job(forward, numbers, around=torch.inference_mode)
        return Job(training, numbers, around=nullcontext)

    def refuses(self, problem: Problem, mode: str) -> str | None:
        """Refuse what no module is written for."""
        if problem.layer not in _MODULES:
            return f"no module for the layer {problem.layer!r}"
        if problem.ragged and problem.layer not in _OWN:
            return "only torch.nn's own modules take packed sequences"
        return None


def _stack(problem: Problem) -> Any:
    import torch

    return getattr(torch.nn, _OWN[problem.layer])(
        problem.inputs,
        problem.hidden,
        problem.layers,
        bidirectional=problem.bidirectional,
        dtype=getattr(torch, problem.dtype),
    )


def _diagonal(problem: Problem) -> Any:
    from recurray.benchmarks.contenders.pytorch_diagonal import make

    return make(problem)


_OWN = {"lstm": "LSTM", "gru": "GRU"}
_MODULES = {"lstm": _stack, "gru": _stack, "diagonal": _diagonal}
