"""What an optimizer's step costs on the params of an LSTM with a Linear on top, and what clipping the gradients does.

PyTorch has both in several forms: "foreach" makes a pass for each operation, "fused" one for all of them.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from typing import Any

import numpy as np

import recurray as rr
from recurray.benchmarks.contenders import Own, PyTorch
from recurray.benchmarks.contenders.base import Job
from recurray.benchmarks.loop import SIZES, model
from recurray.benchmarks.results import Case
from recurray.benchmarks.timing import Budget, interleaved

__all__ = ["NOTES", "SIZES", "Measured", "measure", "table"]

OURS, FORMS = "recurray", ("foreach", "fused")
CLIPPING, MAX_NORM = "clip_grad_norm", 1.0
STEPS: dict[str, tuple[str, dict[str, Any]]] = {
    "SGD": ("SGD", {}),
    "SGD, momentum": ("SGD", {"momentum": 0.9}),
    "Adam": ("Adam", {}),
    "Adam, amsgrad": ("Adam", {"amsgrad": True}),
    "AdamW": ("AdamW", {}),
    "NAdam": ("NAdam", {}),
    "RMSprop": ("RMSprop", {}),
    "Adagrad": ("Adagrad", {}),
    "Adadelta": ("Adadelta", {}),
}
NOTES = (
    f"{CLIPPING} scales all gradients down; PyTorch's does so in place, recurray's makes new arrays.\n"
    "A step of PyTorch's changes the params in place; one of recurray's puts new arrays beside those before.\n"
)
Array = Any


@dataclass(frozen=True)
class Measured:
    """Seconds of a step in each turn, by whose it is; and whether PyTorch's results were others than recurray's."""

    case: Case
    what: str
    seconds: Mapping[str, Sequence[float]]
    differs: bool = False


@dataclass
class _Jobs:
    calls: dict[str, Callable[[], Any]]
    results: dict[str, Callable[[], list[Array]]] = field(default_factory=dict)  # what they have made of the params


def measure(case: Case, own: Own, budget: Budget, report: Callable[[str], None]) -> list[Measured]:
    """Time the steps of all optimizers, side by side with PyTorch's where it is installed, and clipping."""
    with_torch = find_spec("torch") is not None and own.backend.name == "numpy"
    found = []
    with own.threads(case.threads):
        for what in (*STEPS, CLIPPING):
            report(f"{what}: {case}")
            jobs = _clipping(case, own) if what == CLIPPING else _step(what, case, own)
            if with_torch:
                theirs = _torch_clipping(case) if what == CLIPPING else _torch_step(what, case)
                jobs.calls |= theirs.calls
                jobs.results |= theirs.results
            differs = _differ(jobs)
            timed = {name: Job(call, dict, synchronize=own.backend.synchronize) for name, call in jobs.calls.items()}
            if with_torch:
                with PyTorch().threads(case.threads):
                    times = interleaved(timed, budget)
            else:
                times = interleaved(timed, budget)
            found.append(Measured(case, what, times, differs))
    return found


def table(results: Sequence[Measured]) -> str:
    """The results as a table in Markdown."""
    lines = ["| size | | recurray, us | PyTorch foreach, us | PyTorch fused, us |", "|---|---|---:|---:|---:|"]
    for result in results:
        medians = {name: f"{1e6 * statistics.median(times):,.0f}" for name, times in result.seconds.items()}
        cells = " | ".join(medians.get(name, "") for name in (OURS, *FORMS))
        note = ", **other numbers**" if result.differs else ""
        lines.append(f"| {result.case.problem.name} | {result.what}{note} | {cells} |")
    return "\n".join(lines) + "\n"


def _params(case: Case, own: Own) -> dict[str, Array]:
    return dict(model(case.problem, own.backend).state_dict())


def _grads(params: Mapping[str, Array]) -> dict[str, Array]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(value.shape).astype("float32") for name, value in params.items()}


def _step(what: str, case: Case, own: Own) -> _Jobs:
    kind, options = STEPS[what]
    layer = model(case.problem, own.backend)
    grads = {name: own.backend.asarray(grad) for name, grad in _grads(layer.state_dict()).items()}
    optimizer = getattr(rr.optim, kind)(layer.params, **options)
    return _Jobs(
        {OURS: lambda: optimizer.step(grads)},
        {OURS: lambda: [own.backend.to_numpy(value) for value in layer.params.values()]},
    )


def _clipping(case: Case, own: Own) -> _Jobs:
    grads = {name: own.backend.asarray(grad) for name, grad in _grads(_params(case, own)).items()}

    def clipped() -> list[Array]:
        return [own.backend.to_numpy(grad) for grad in rr.optim.clip_grad_norm(grads, MAX_NORM)[0].values()]

    return _Jobs({OURS: lambda: rr.optim.clip_grad_norm(grads, MAX_NORM)}, {OURS: clipped})


def _torch_params(case: Case) -> list[Any]:
    import torch

    params = _params(case, Own("numpy"))
    tensors = [torch.from_numpy(value).requires_grad_() for value in params.values()]
    for tensor, grad in zip(tensors, _grads(params).values(), strict=True):
        tensor.grad = torch.from_numpy(grad)
    return tensors


def _torch_step(what: str, case: Case) -> _Jobs:
    import torch

    kind, options = STEPS[what]
    options = {"lr": getattr(rr.optim, kind)({}).lr} | options
    jobs = _Jobs({})
    for form in FORMS:
        tensors = _torch_params(case)
        try:
            optimizer = getattr(torch.optim, kind)(tensors, **options, **{form: True})
        except (TypeError, RuntimeError):
            continue  # it isn't there in this form
        jobs.calls[form] = optimizer.step
        jobs.results[form] = partial(_copies, tensors)
    return jobs


def _copies(tensors: Sequence[Any]) -> list[Array]:
    return [tensor.detach().numpy().copy() for tensor in tensors]


def _torch_clipping(case: Case) -> _Jobs:
    import torch

    tensors = _torch_params(case)

    def call() -> Any:
        return torch.nn.utils.clip_grad_norm_(tensors, MAX_NORM, foreach=True)

    return _Jobs({FORMS[0]: call}, {FORMS[0]: lambda: _copies([tensor.grad for tensor in tensors])})


def _differ(jobs: _Jobs) -> bool:
    """Whether somebody's results differ from recurray's after two calls of each."""
    for call in jobs.calls.values():
        call()
        call()
    ours, *others = (result() for result in jobs.results.values())
    return not all(
        np.allclose(one, other, rtol=1e-4, atol=1e-5)
        for theirs in others
        for one, other in zip(ours, theirs, strict=True)
    )
