"""recurray itself, and its reference path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import recurray as rr
from recurray.benchmarks.contenders.base import Contender, Job
from recurray.benchmarks.problems import Data, Problem


class Own(Contender):
    """recurray's layers on one of its backends.

    Parameters
    ----------
    backend : Backend or str
    name : str
    options : mapping, optional
        What the layers are made with beyond what the problem says.
    frozen : bool
        Whether inference is that of frozen layers; see `Layer.frozen`.
    """

    def __init__(
        self,
        backend: rr.Backend | str,
        name: str = "recurray",
        options: Mapping[str, Any] | None = None,
        *,
        frozen: bool = False,
    ) -> None:
        self.name, self.frozen = name, frozen
        self.backend = rr.get_backend(backend)
        self.options = dict(options or {})

    @contextmanager
    def threads(self, count: int) -> Iterator[None]:
        """Return a context in which NumPy's BLAS, an engine, and any other pool uses ``count`` threads."""
        from threadpoolctl import threadpool_limits

        of_engine = getattr(self.backend, "threads", nullcontext)
        with threadpool_limits(limits=count), of_engine(count):
            yield

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Make the layer and put its numbers on the backend."""
        backend, dtype = self._backend_for(problem), problem.array_dtype
        if problem.linear:
            layer = problem.make_layer(backend, **self.options)
            layer.load_state_dict(dict(zip(layer.params, data.params.values(), strict=True)))
        else:
            layer = problem.make_layer(backend, params=data.params, **self.options)
        called = layer.frozen() if self.frozen and mode == "forward" else layer
        lengths, gaps = (
            data.lengths,
            data.gaps,
        )  # the rest of the data isn't held: of it the layer and the backend have their own
        x, dy = backend.asarray(data.x, dtype), backend.asarray(data.dy, dtype)
        state: Any = None
        if data.h is not None:
            state = rr.State(*(None if part is None else backend.asarray(part, dtype) for part in (data.h, data.c)))
            state = (state, None) if problem.linear else state

        def forward() -> Any:
            nonlocal state
            y, end = called(x, state, lengths, **gaps)
            if problem.carried:
                state = end
            if problem.linear:
                end = end[0]
            return {"y": y, "h": end.h, "c": end.c}

        def training() -> Any:
            y, _, cache = layer.forward(x, state, lengths, **gaps)
            dx, _, grads = layer.backward(cache, dy)
            return {"y": y, "dx": dx, **grads}

        def numbers(results: Any) -> dict[str, Any]:
            return {name: backend.to_numpy(value) for name, value in results.items() if value is not None}

        return Job({"forward": forward, "training": training}[mode], numbers, synchronize=backend.synchronize)

    def _backend_for(self, problem: Problem) -> rr.Backend:
        """The backend, with products in the problem's precision."""
        if problem.compute_dtype is None:
            return self.backend
        return on_device(self.backend, compute_dtype=problem.compute_dtype)


def on_device(backend: rr.Backend, **options: Any) -> rr.Backend:
    """Return a backend like ``backend``, "cupy", with other options."""
    return rr.get_backend("cupy", backend.device.id, **({"strategy": backend.strategy} | options))  # type: ignore[attr-defined]


class Reference(Own):
    """The reference path, written for any array library, on the namespace of a backend."""

    def __init__(self, backend: rr.Backend) -> None:
        super().__init__(rr.get_backend(backend.xp), "reference")
        self._waits = backend

    def prepare(self, problem: Problem, mode: str, data: Data, threads: int) -> Job:
        """Make the layer and put its numbers on the backend."""
        job = super().prepare(problem, mode, data, threads)
        return Job(job.call, job.numbers, synchronize=self._waits.synchronize)  # its own has nothing to wait for
