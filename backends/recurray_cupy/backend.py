"""CuPy as a backend."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from recurray import install, parts, stack
from recurray.backend import Backend, BackendUnavailableError
from recurray.cells import LSTMCell
from recurray.cells.cell import Cell, Weights
from recurray.program import RecordingError
from recurray_cupy import wave
from recurray_cupy.backward import backward
from recurray_cupy.compiled import compiled
from recurray_cupy.forward import ScanCache, forward
from recurray_cupy.library import CompilationError, CupyLibrary, DoesNotFitError, KernelError, Library
from recurray_cupy.prelude import REALS
from recurray_cupy.recurrence_launch import ready
from recurray_cupy.stages import AUTO, FUSED, ITEMSIZE, PERSISTENT, REFERENCE, STEP, WHOLE, check_stage, stages_for
from recurray_cupy.sum_rows import sum_rows
from recurray_cupy.tensor_core_text import NAMES
from recurray_cupy.wave_plan import part_steps

Result = TypeVar("Result")

SLOWLY = "slowly, by the reference path"
INSTALL = f"install CuPy for your CUDA driver: {install.with_extra('cupy13')}, or with cupy12 for CUDA 12"


@dataclass(frozen=True)
class Call:
    """What the stage of a scan depends on."""

    cell: Cell
    dtype: str
    shape: tuple[int, int]  # steps and rows
    units: int
    projected: bool


class CupyBackend(Backend):
    """CuPy on one CUDA device.

    Cells are recorded, and kernels written from them. How a recurrence then runs is its stage, see
    `recurray_cupy.stages`: a rule chooses it by the sizes, and ``stage=`` overrides the rule. What a stage can't do,
    a cell that can't be recorded, a kernel that doesn't compile or doesn't fit on the GPU, a slower one does, after one
    warning. Work is queued on CuPy's current stream and returns before it is done, as CuPy's own functions do.

    It has run with the real CuPy on an emulated device, not yet on a GPU.

    Parameters
    ----------
    device : int, optional
        The device's number; CuPy's current device if omitted.
    stage : {"auto", "persistent", "step", "fused", "reference"}
        The fastest stage to use; "auto" leaves it to the rule. "fused" unless you say otherwise: the faster ones make a
        product and a barrier of their own, and are to run on a GPU before they are anybody's default.
    compute_dtype : {"float16", "bfloat16"}, optional
        What the operands of recurrences' products are rounded to, where their arrays are float32: sums, states, params
        and gradients stay float32. Products then run on tensor cores. The stage "reference" doesn't round.
    two_streams : bool
        Whether the two directions of a layer run at the same time, see `recurray_cupy.streams`. They don't unless you
        say so, for the same reason.
    wave : int or "auto", optional
        Layers of one direction at the same time, see `recurray_cupy.wave`: how many steps one works on while the layer
        above works on those before. "auto" leaves it to a rule, `recurray_cupy.wave_plan`, by which layers may also run
        one after another. They do unless you say otherwise.

    Attributes
    ----------
    stage, compute_dtype : str
    two_streams : bool
    wave : int, str or None

    Raises
    ------
    BackendUnavailableError
        CuPy, the compiler NVRTC or cuBLAS isn't installed, no CUDA device answers, the driver is too old, or the
        device has no tensor cores for ``compute_dtype``.
    ValueError, TypeError
        There is no such stage, or an option is of the wrong kind.
    """

    steps_together = 512

    def __init__(
        self,
        device: int | None = None,
        stage: str = FUSED,
        compute_dtype: str | None = None,
        *,
        two_streams: bool = False,
        wave: int | str | None = None,
    ) -> None:
        self.stage = check_stage(stage)
        if not isinstance(two_streams, bool):
            raise TypeError(f"two_streams must be True or False, not {two_streams!r}")
        self.two_streams = two_streams
        self.wave = _check_wave(wave)
        if compute_dtype not in (None, *NAMES):
            raise ValueError(f"compute_dtype must be {' or '.join(map(repr, NAMES))} or None, not {compute_dtype!r}")
        self.compute_dtype = compute_dtype
        try:
            import cupy
        except ImportError as error:
            raise BackendUnavailableError(f"CuPy can't be imported ({error}); {INSTALL}") from error
        try:
            count = cupy.cuda.runtime.getDeviceCount()
        except cupy.cuda.runtime.CUDARuntimeError as error:
            raise BackendUnavailableError(
                f"CuPy {cupy.__version__} is installed, but no CUDA device answers ({error}); {driver_advice(cupy)}"
            ) from error
        if count == 0:
            raise BackendUnavailableError(f"CuPy {cupy.__version__} is installed, but this machine has no CUDA device")
        if device is not None and not 0 <= device < count:
            raise BackendUnavailableError(f"there is no CUDA device {device}; this machine has {count}")
        try:
            cupy.cuda.nvrtc.getVersion()
            _ = cupy.cuda.cublas  # loads it
        except (RuntimeError, ImportError, OSError) as error:
            raise BackendUnavailableError(
                f"CuPy {cupy.__version__} is installed, but CUDA's NVRTC or cuBLAS isn't ({error}); "
                'install them with CuPy\'s extra ctk (pip install "cupy-cuda13x[ctk]"), or the CUDA toolkit'
            ) from error
        from array_api_compat import cupy as namespace

        self._cupy = cupy
        self.name = "cupy"
        self.xp = namespace
        self.device = cupy.cuda.Device() if device is None else cupy.cuda.Device(device)
        with self.device:
            self.library: Library = CupyLibrary()
            if compute_dtype is not None and not self.library.device().tensor_cores:
                raise BackendUnavailableError(
                    f"compute_dtype={compute_dtype!r} needs a GPU of compute capability 8.0 or above; "
                    f"{self.device} has {self.device.compute_capability}"
                )
        self._refused: set[tuple[Cell, str, str]] = set()  # cell, dtype and a stage whose kernels don't compile
        self._warned: set[tuple[Cell, str, str]] = set()  # cell, dtype and text

    def __repr__(self) -> str:
        half = "" if self.compute_dtype is None else f", {self.compute_dtype}"
        return f"<recurray backend {self.name!r} on {self.device}, stage {self.stage!r}{half}>"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return ``x`` (an array of any library, a list, a number) as a CuPy array on this backend's device."""
        with self.device:
            if self.owns(x) and not self.on_device(x):
                return self._cupy.array(x, dtype=dtype)  # from device to device
            return super().asarray(x, dtype)

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is a CuPy array (on whatever device)."""
        return isinstance(a, self._cupy.ndarray)

    def to_numpy(self, a: Any) -> Any:
        """Return a NumPy copy of ``a``."""
        if not self.owns(a):
            return super().to_numpy(a)
        result = self._cupy.asnumpy(a)
        self._check_fault()
        return result

    def synchronize(self) -> None:
        """Wait until the current stream of this backend's device has done what it was given."""
        with self.device:
            self._cupy.cuda.get_current_stream().synchronize()
        self._check_fault()

    def check_ready(self) -> None:
        """Refuse to run a layer while the current stream is being captured: CuPy's cuBLAS can't be."""
        with self.device:
            capturing = self._cupy.cuda.get_current_stream().is_capturing()
        if capturing:
            raise RuntimeError(
                "layers can't be captured in a CUDA graph, as CuPy can't capture cuBLAS, which makes their products: "
                "call the layer outside the capture; with stage='step' its steps are a graph of their own"
            )

    def release_memory(self) -> None:
        """Give back the memory that CuPy's memory pool keeps for later arrays."""
        with self.device:
            self._cupy.get_default_memory_pool().free_all_blocks()

    def scan_forward(
        self, cell: Cell, weights: Weights, x: Any, start: tuple[Any, ...], **options: Any
    ) -> tuple[Any, tuple[Any, ...], Any]:
        """Run a cell over time; see `recurray.scan.forward`."""
        self._check_fault()
        call = Call(cell, str(x.dtype), x.shape[:2], start[0].shape[1], weights.projection is not None)

        def run(stage: str) -> tuple[Any, tuple[Any, ...], Any]:
            if stage == REFERENCE:
                return super(CupyBackend, self).scan_forward(cell, weights, x, start, **options)
            self._compile(call, stage, keep=options.get("keep", True))
            scan = partial(forward, self.library, stage=stage, small=self._small(call))
            together = self.steps_together if options.get("recompute") else sys.maxsize
            return parts.forward(scan, together, cell, weights, x, start, **options)

        with self.device:
            return self._by_stages(call, self._stages(call, keep=options.get("keep", True)), run)

    def scan_backward(
        self, cell: Cell, cache: Any, dy: Any, dend: tuple[Any, ...]
    ) -> tuple[Any, tuple[Any, ...], Weights]:
        """Backward through time; see `recurray.scan.backward`."""
        self._check_fault()
        with self.device:
            if not isinstance(cache, ScanCache):
                return super().scan_backward(cell, cache, dy, dend)
            call = Call(cell, str(dy.dtype), dy.shape[:2], dy.shape[2], cache.weights.projection is not None)

            def run(stage: str) -> tuple[Any, tuple[Any, ...], Weights]:
                self._compile(call, stage, keep=None)
                return backward(self.library, cell, cache, dy, dend, stage=stage)

            stages = self._stages(call, keep=None)
            return self._by_stages(call, tuple(stage for stage in stages if stage != REFERENCE), run)

    def together(self, works: Sequence[Callable[[], Result]]) -> list[Result]:
        """Do pieces of work that don't depend on each other, at the same time if that is wanted; see `Streams`."""
        if not self.two_streams:
            return super().together(works)
        with self.device:
            return self.library.streams.together(works)

    def stack_forward(
        self,
        cell: Cell,
        layers: Iterable[stack.LayerForward],
        x: Any,
        *,
        lengths: Sequence[int] | None = None,
        keep: bool = True,
        recompute: int | None = None,
    ) -> stack.Forward:
        """Run a stack of layers, as a wave if that is wanted; see `recurray.backend.Backend.stack_forward`."""
        if self.wave is not None:
            layers = list(layers)
            first = layers[0].directions[0]
            projected = first.weights.projection is not None
            call = Call(cell, str(x.dtype), x.shape[:2], first.start[0].shape[1], projected)
            recomputed = keep and recompute is not None and x.shape[0] > self.steps_together  # in parts of its own
            fit = not recomputed and all(len(layer.directions) == 1 for layer in layers)

            def run(stage: str, part: int) -> stack.Forward:
                options: dict[str, Any] = {"stage": stage, "small": self._small(call), "part": part}
                return wave.forward(self.library, cell, layers, x, lengths=lengths, keep=keep, **options)

            found = self._as_wave(call, len(layers), run, keep=keep) if fit else None
            if found is not None:
                return found
        return super().stack_forward(cell, layers, x, lengths=lengths, keep=keep, recompute=recompute)

    def stack_backward(self, cell: Cell, layers: Sequence[stack.LayerBackward], dy: Any) -> stack.Backward:
        """Backward through a stack, as a wave if that is wanted."""
        caches = [cache for layer in layers for cache in layer.caches]
        if len(caches) == len(layers) and all(isinstance(cache, ScanCache) for cache in caches):
            projected = caches[0].weights.projection is not None
            call = Call(cell, str(dy.dtype), dy.shape[:2], dy.shape[2], projected)

            def run(stage: str, part: int) -> stack.Backward:
                return wave.backward(self.library, cell, layers, dy, stage=stage, part=part)

            found = self._as_wave(call, len(layers), run, keep=None)
            if found is not None:
                return found
        return super().stack_backward(cell, layers, dy)

    def _as_wave(
        self, call: Call, layers: int, run: Callable[[str, int], Result], *, keep: bool | None
    ) -> Result | None:
        """Run layers of one direction by a stage and in parts of so many steps; None if they had better not."""
        with self.device:
            if self.wave is None or layers < 2 or not all(call.shape) or not self.library.streams.can_fork():
                return None
            self._check_fault()
            stages = [stage for stage in self._stages(call, keep=keep, count=layers) if stage != REFERENCE]

            def run_if_it_pays(stage: str) -> Result | None:
                part = self._part_steps(call, stage, layers, keep=keep)
                if part >= call.shape[0]:
                    return None
                self._compile(call, stage, keep=keep, count=layers)
                return run(stage, part)

            try:
                return self._by_stages(call, tuple(stages), run_if_it_pays) if stages else None
            except KernelError as error:
                self._warn(call, "layer after layer", error)
                return None

    def _part_steps(self, call: Call, stage: str, layers: int, *, keep: bool | None) -> int:
        """How many steps of a layer are run at a time; all of them if not as a wave."""
        if isinstance(self.wave, int):
            return self.wave
        if stage != PERSISTENT:  # with a launch for each step it is the host that takes the time
            return call.shape[0]
        recurrence = compiled(call.cell).recurrence(keep=keep, small=self._small(call))
        work = recurrence.work(call.shape[1], call.units, ITEMSIZE[call.dtype])
        return part_steps(work, self.library.device(), layers=layers, steps=call.shape[0])

    def stage_of(self, cell: Cell, batch: int, units: int, dtype: str = "float32", *, backward: bool = False) -> str:
        """Return the stage by which a recurrence of these sizes would run, if nothing stands in its way."""
        with self.device:
            call = Call(cell, dtype, (1, batch), units, projected=False)
            return self._stages(call, keep=None if backward else True)[0]

    def wave_of(
        self, cell: Cell, layers: int, steps: int, batch: int, units: int, dtype: str = "float32"
    ) -> int | None:
        """Return how many steps a layer of a stack of these sizes would work on at a time, None if on all of them."""
        with self.device:
            call = Call(cell, dtype, (steps, batch), units, projected=False)
            part = self._part_steps(call, self._stages(call, keep=True, count=layers)[0], layers, keep=True)
        return None if part >= steps else part

    def describe(self) -> str:
        """Where this backend works, and by which stages."""
        examples = ", ".join(f"{units}: {self.stage_of(LSTMCell(), 64, units)}" for units in (128, 512, 1024, 2048))
        streams = "two streams" if self.two_streams else "one stream"
        with self.device:
            where = self.library.describe()
        stages = f"stage {self.stage!r} (for an LSTM of 64 rows, by its units: {examples})"
        return f"{where}; {stages}; {streams}; layers {self._describe_wave()}"

    def _describe_wave(self) -> str:
        if self.wave is None:
            return "one after another"
        if isinstance(self.wave, int):
            return f"as a wave, {self.wave} steps at a time"
        found, steps = [], 512
        for units in (128, 512, 1024, 2048):
            part = self.wave_of(LSTMCell(), 4, steps, 1, units)
            found.append(f"{units}: {'none' if part is None else f'{part} steps'}")
        sizes = f"for an LSTM of 4 layers and 1 row, {steps} steps, by its units: {', '.join(found)}"
        return f"as a wave where it pays ({sizes})"

    def _stages(self, call: Call, *, keep: bool | None, count: int | None = None) -> tuple[str, ...]:
        """The stages to try for a call, forward with or without a cache, or with None for ``keep`` backward.

        ``count`` is how many like this run at the same time, by default as many as streams are in use.
        """
        if self.stage == REFERENCE:
            return (REFERENCE,)
        try:
            texts = compiled(call.cell)
        except RecordingError as error:
            self._warn(call, SLOWLY, error)
            return (REFERENCE,)
        if call.dtype not in REALS:
            self._warn(call, SLOWLY, f"there are kernels for {' and '.join(REALS)}, not for {call.dtype}")
            return (REFERENCE,)
        recurrence = None
        if all(call.shape) and call.units and texts.no_recurrence(projected=call.projected) is None:
            recurrence = texts.recurrence(keep=keep, small=self._small(call))
        found = stages_for(
            self.stage,
            call.cell,
            recurrence,
            call.shape[1],
            call.units,
            call.dtype,
            self.library.device(),
            count or self.library.streams.count,
        )
        return tuple(stage for stage in found if (call.cell, call.dtype, stage) not in self._refused)

    def _small(self, call: Call) -> str:
        """What the operands of a call's products are rounded to; empty if they aren't."""
        return (self.compute_dtype or "") if call.dtype == "float32" else ""

    def _by_stages(self, call: Call, stages: tuple[str, ...], run: Callable[[str], Result]) -> Result:
        """Run by the first of the stages that can."""
        refusals: list[KernelError] = []
        for stage in stages:
            try:
                result = run(stage)
            except KernelError as error:
                refusals.append(error)
                if isinstance(error, CompilationError):
                    self._refused.add((call.cell, call.dtype, stage))
                continue
            if refusals:
                self._warn(call, SLOWLY if stage == REFERENCE else f"by the stage {stage!r}", refusals[0])
            return result
        raise refusals[-1]

    def _compile(self, call: Call, stage: str, *, keep: bool | None, count: int | None = None) -> None:
        """Compile what a stage needs before anything runs, and what it needs backward if that is to follow."""
        texts = compiled(call.cell)
        why_not = texts.no_recurrence(projected=call.projected)
        if stage in WHOLE and why_not is not None:
            raise DoesNotFitError(why_not)
        if stage in WHOLE and all(call.shape):
            recurrence = texts.recurrence(keep=keep, small=self._small(call))
            sizes = {"batch": call.shape[1], "units": call.units, "count": count or self.library.streams.count}
            ready(self.library, recurrence, persistent=stage == PERSISTENT, dtype=call.dtype, **sizes)
        if keep is not None:
            for kernel in texts.kernels(keep=keep, projected=call.projected):
                self.library.function(kernel, call.dtype)

    def _warn(self, call: Call, how: str, why: Any) -> None:
        text = f"{type(call.cell).__name__} runs {how}: {why}"
        if (call.cell, call.dtype, text) not in self._warned:
            self._warned.add((call.cell, call.dtype, text))
            warnings.warn(text, stacklevel=5)

    def _check_fault(self) -> None:
        """Raise an error if a kernel has waited in vain since this was called the last time."""
        if self.library.found_fault():
            self.stage = STEP
            raise RuntimeError(
                "a kernel of the stage 'persistent' waited in vain for others of its blocks; what has been computed "
                "since the last synchronisation is wrong, and NaN where it comes from that kernel. "
                "From now on this backend uses the stage 'step'."
            )

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` by ``index``, without atomic additions: equal calls give equal bits."""
        with self.device:
            if str(values.dtype) in REALS:
                return sum_rows(self.library, values, index, count)
            return super().sum_rows(values, index, count)


def _check_wave(wave: Any) -> int | str | None:
    """Return ``wave`` if it can be one."""
    if wave in (None, AUTO) or (isinstance(wave, int) and not isinstance(wave, bool) and wave > 0):
        return wave  # type: ignore[no-any-return]
    kind = ValueError if isinstance(wave, int | str) and not isinstance(wave, bool) else TypeError
    raise kind(f"wave must be a positive number of steps, {AUTO!r} or None, not {wave!r}")


def driver_advice(cupy: Any) -> str:
    """What to do where no device answers, by what is known of the driver."""
    runtime = cupy.cuda.runtime
    driver, wanted = runtime.driverGetVersion(), runtime.runtimeGetVersion()
    if not driver:
        return "there is no NVIDIA driver: nvidia-smi shows one where there is"
    if driver // 1000 < wanted // 1000:
        return (
            f"the driver is for CUDA {driver // 1000}.{driver % 1000 // 10}, and this CuPy needs CUDA "
            f"{wanted // 1000}: update the driver, or install the CuPy for it"
        )
    return "check with nvidia-smi that a device is there and free"
