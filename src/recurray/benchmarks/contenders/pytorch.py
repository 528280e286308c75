"""PyTorch: ``torch.nn.LSTM`` and ``GRU`` (oneDNN, or cuDNN), and in eager mode the cells that it doesn't have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from recurray.benchmarks.contenders.base import Contender, Job, nothing
from recurray.benchmarks.contenders.pytorch_rows import rows_of
from recurray.benchmarks.kinds import KINDS
from recurray.benchmarks.problems import Data, Problem


class PyTorch(Contender):
    """PyTorch, forward in inference mode.

    Parameters
    ----------
    device : {"cpu", "cuda"}
    """

    name = "torch"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def packages(self) -> tuple[str, ...]:
        """PyTorch alone."""
        return ("torch",)

    def unavailable(self) -> str | None:
        """Tell whether it finds the GPU."""
        import torch

        found = self.device == "cpu" or torch.cuda.is_available()
        return None if found else "PyTorch finds no GPU: install its build for CUDA"

    def describe(self) -> str:
        """Return the version, and the widest instructions that it found, or cuDNN's version."""
        import torch

        if self.device == "cuda":
            cudnn: Any = torch.backends.cudnn
            return f"{torch.__version__} (cuDNN {cudnn.version()}, float32 without TF32)"
        return f"{torch.__version__} ({torch.backends.cpu.get_cpu_capability()})"

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Return a context in which it uses ``count`` threads, and on a GPU no less precision than float32's."""
        import torch

        before = torch.get_num_threads(), torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
        torch.set_num_threads(count)
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        try:
            yield
        finally:
            torch.set_num_threads(before[0])
            torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before[1:]

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Make the module and its tensors."""
        import torch

        options: dict[str, Any] = {"device": self.device, "dtype": getattr(torch, problem.dtype)}
        module = _MODULES[problem.layer](problem, **options)
        params = {name: torch.from_numpy(value) for name, value in data.params.items()}
        linear = {name: params.pop(f"linear.{name}").to(**options) for name in ("weight", "bias") if problem.linear}
        module.load_state_dict(params)
        x, dy = torch.from_numpy(data.x).to(**options), torch.from_numpy(data.dy).to(**options)
        given = tuple(torch.from_numpy(part).to(**options) for part in (data.h, data.c) if part is not None)
        state = None if not given else given if KINDS[problem.layer].has_c else given[0]
        rows = rows_of(problem, data, **options)
        names = [name for name, _ in module.named_parameters()]
        inputs = [x.requires_grad_(mode == "training"), *module.parameters()]

        def forward() -> Any:
            nonlocal state
            y, end = rows(module, x, state)
            if problem.carried:
                state = end
            if linear:
                y = torch.nn.functional.linear(y, **linear)
            return {"y": y, **dict(zip("hc", end if isinstance(end, tuple) else (end,), strict=False))}

        def training() -> Any:
            y, _ = rows(module, x, state)
            dx, *grads = torch.autograd.grad(y, inputs, dy)
            return {"y": y, "dx": dx, **dict(zip(names, grads, strict=True))}

        def numbers(results: Any) -> dict[str, Any]:
            exact = getattr(torch, problem.array_dtype)
            return {name: value.detach().to("cpu", exact).numpy() for name, value in results.items()}

        wait = torch.cuda.synchronize if self.device == "cuda" else nothing
        if mode == "forward":
            return Job(forward, numbers, around=torch.inference_mode, synchronize=wait)
        return Job(training, numbers, around=nullcontext, synchronize=wait)

    def refuses(self, problem: Problem, mode: str) -> str | None:
        """Refuse what no module is written for."""
        if problem.layer not in _MODULES:
            return f"no module for the layer {problem.layer!r}"
        if (problem.ragged or problem.gaps == "left") and problem.layer not in _OWN:
            return "only torch.nn's own modules take packed sequences"
        if problem.gaps in ("holes", "resets") and (problem.layer not in _OWN or problem.bidirectional):
            return "a loop over the steps is written for one direction of torch.nn's own modules"
        if self.device == "cuda" and problem.layer not in _OWN and problem.steps > _MOST_EAGER_STEPS:
            return f"in eager mode more than {_MOST_EAGER_STEPS} steps, of many launches each, take too long"
        return None


_MOST_EAGER_STEPS = 5000


def _stack(problem: Problem, **options: Any) -> Any:
    import torch

    return getattr(torch.nn, _OWN[problem.layer])(
        problem.inputs,
        problem.hidden,
        problem.layers,
        bidirectional=problem.bidirectional,
        **options,
    )


def _diagonal(problem: Problem, **options: Any) -> Any:
    from recurray.benchmarks.contenders.pytorch_diagonal import make

    return make(problem, **options)


_OWN = {"lstm": "LSTM", "gru": "GRU"}
_MODULES = {"lstm": _stack, "gru": _stack, "diagonal": _diagonal}
