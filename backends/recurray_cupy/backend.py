"""CuPy as a backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from recurray import chunks, install
from recurray.backend import Backend, BackendUnavailableError
from recurray.cells import LSTMCell
from recurray.cells.cell import Cell, Weights
from recurray.elementwise import Elementwise, Formula
from recurray.program import RecordingError
from recurray.scan import Cache, Gradients
from recurray_cupy.backward import backward
from recurray_cupy.compiled import Way, compiled
from recurray_cupy.elementwise import MOST, KernelElementwise
from recurray_cupy.forward import ScanCache, forward
from recurray_cupy.graphs import graphs_of
from recurray_cupy.kernel import REALS
from recurray_cupy.library import A100, H200, CompilationError, Device, KernelError, Library, dtype_name
from recurray_cupy.norm import norm
from recurray_cupy.products import sum_rows
from recurray_cupy.strategies import (
    AUTO,
    DEFAULT,
    REFERENCE,
    STEP,
    Call,
    check_strategy,
    estimates,
    prepare,
    strategies_for,
)
from recurray_cupy.taped import TapedCache, Tapes

Result = TypeVar("Result")

SMALL = ("float16", "bfloat16")  # what operands may be rounded to
EXAMPLES = ((1, 128), (16, 512), (64, 1024), (1, 2048))  # of rows and units, for which a strategy is told
MOST_KNOWN = 1024
SLOWLY = "slowly, by the reference path"
INSTALL = f"install CuPy for your CUDA driver: {install.with_extra('cupy13')}, or with cupy12 for CUDA 12"


class CupyBackend(Backend):
    """CuPy on one CUDA device.

    Cells are recorded, and kernels written from them. How a recurrence then runs is its strategy, see
    `recurray_cupy.strategies`: a rule chooses it by the sizes, and ``strategy=`` overrides the rule. What a strategy
    can't do, a cell that can't be recorded, a kernel that doesn't compile or doesn't fit on the GPU, a slower one does,
    after one warning. Work is queued on CuPy's current stream and returns before it is done, as in CuPy itself.

    It has run with the real CuPy on an emulated device, not yet on a GPU.

    Parameters
    ----------
    device : int, optional
        The device's number; CuPy's current device if omitted.
    strategy : {"default", "auto", "persistent", "step", "fused", "reference"}
        The fastest strategy to use. "auto" leaves it to the rule; so does "default", among those in which no block of
        threads waits for another: a barrier between blocks is to run on a GPU before it is anybody's default.
    compute_dtype : {"float16", "bfloat16"}, optional
        What the operands of recurrences' products are rounded to, where their arrays are float32: sums, states, params
        and gradients stay float32. Products then run on tensor cores. The strategy "reference" doesn't round.

    Attributes
    ----------
    strategy, compute_dtype : str

    Raises
    ------
    BackendUnavailableError
        CuPy, the compiler NVRTC or cuBLAS isn't installed, no CUDA device answers, the driver is too old, or the
        device has no tensor cores for ``compute_dtype``.
    ValueError, TypeError
        There is no such strategy, or an option is of the wrong kind.
    """

    steps_together = 512

    def __init__(
        self,
        device: int | None = None,
        strategy: str = DEFAULT,
        compute_dtype: str | None = None,
    ) -> None:
        self.strategy = check_strategy(strategy)
        if compute_dtype not in (None, *SMALL):
            raise ValueError(f"compute_dtype must be {' or '.join(map(repr, SMALL))} or None, not {compute_dtype!r}")
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
            self.library = Library()
            if compute_dtype is not None and not self.library.device().tensor_cores:
                raise BackendUnavailableError(
                    f"compute_dtype={compute_dtype!r} needs a GPU of compute capability 8.0 or above; "
                    f"{self.device} has {self.device.compute_capability}"
                )
        self._tapes = Tapes(self.library)
        self._known: dict[Any, Alike] = {}
        self._refused: set[tuple[Cell, str, str]] = set()  # cell, dtype and a strategy whose kernels don't compile
        self._warned: set[tuple[Cell, str, str]] = set()  # cell, dtype and text

    def __repr__(self) -> str:
        half = "" if self.compute_dtype is None else f", {self.compute_dtype}"
        return f"<recurray backend {self.name!r} on {self.device}, strategy {self.strategy!r}{half}>"

    def asarray(self, x: Any, dtype: str | None = None) -> Any:
        """Return ``x`` (an array of any library, a list, a number) as a CuPy array on this backend's device."""
        with self.device:
            if self.owns(x) and not self.on_device(x):
                return self._cupy.array(x, dtype=dtype)  # from device to device
            return super().asarray(x, dtype)

    def owns(self, a: Any) -> bool:
        """Tell whether ``a`` is a CuPy array (on whatever device)."""
        return isinstance(a, self._cupy.ndarray)

    def on_device(self, a: Any) -> bool:
        """Tell whether the CuPy array ``a`` lives on this backend's device."""
        return bool(a.device == self.device)

    def zeros(self, shape: tuple[int, ...], dtype: str) -> Any:
        """Return zeros to which nobody writes: the same array each time."""
        with self.device:
            return self.library.kept_zeros(getattr(self.xp, dtype), shape)

    def stacked(self, values: Sequence[Any]) -> Any:
        """Return arrays of one shape and dtype along a new first axis."""
        if len(values) == 1:
            return self.library.stacked(values)
        with self.device:
            return self.library.stacked(values)

    def to_numpy(self, a: Any) -> Any:
        """Return a NumPy copy of ``a``."""
        if not self.owns(a):
            return super().to_numpy(a)
        result = self._cupy.asnumpy(a)
        self.check_fault()
        return result

    def synchronize(self) -> None:
        """Wait until the current stream of this backend's device has done what it was given."""
        with self.device:
            self._cupy.cuda.get_current_stream().synchronize()
        self.check_fault()

    def check_ready(self) -> None:
        """Refuse to run a layer while the current stream is being captured: CuPy's cuBLAS can't be."""
        with self.device:
            capturing = self._cupy.cuda.get_current_stream().is_capturing()
        if capturing:
            raise RuntimeError(
                "layers can't be captured in a CUDA graph, as CuPy can't capture cuBLAS, which makes their products: "
                "call the layer outside the capture; with strategy='step' its steps are a graph of their own"
            )

    def release_memory(self) -> None:
        """Give back the memory that is kept for later calls: graphs of steps, zeros, and CuPy's memory pool's."""
        super().release_memory()
        with self.device:
            self.device.synchronize()  # as another thread's may be running
            graphs_of(self.library).release()
            self.library.release()
            self._cupy.get_default_memory_pool().free_all_blocks()

    def scan_forward(
        self,
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        *,
        recompute: int | None = None,
        **options: Any,
    ) -> tuple[Any, tuple[Any, ...], Cache | None]:
        """Run a cell over time; see `recurray.scan.forward`."""
        self.check_fault()
        with self.device:
            way = Way.TRAINING if options.get("keep", True) else Way.INFERENCE

            def like() -> Alike:
                return self._alike(cell, x, start[0].shape[1], weights.projection is not None, way)

            if recompute is None and self.library.tapes:
                settings = self.strategy, self.compute_dtype
                try:
                    found = self._tapes.forward(
                        settings, lambda: self._first(like()), cell, weights, x, start, **options
                    )
                except KernelError:  # which the scan without a tape finds too
                    found = None
                if found is not None:
                    y, end, kept = found
                    return y, end, None if kept is None else DeviceCache(self, KernelCache(self, cell, kept))
            alike = like()

            def run(strategy: str) -> tuple[Any, tuple[Any, ...], Any]:
                if strategy == REFERENCE:
                    scan = super(CupyBackend, self).scan_forward
                    y, end, cache = scan(cell, weights, x, start, recompute=recompute, **options)
                    return y, tuple(a.copy() for a in end), cache
                self._compile(alike, strategy)
                scan = partial(self._run_kernels, strategy, alike.call.rounded_to)
                if recompute is None:
                    return scan(cell, weights, x, start, **options)
                return chunks.forward(
                    scan, self.steps_together, cell, weights, x, start, recompute=recompute, **options
                )

            y, end, cache = self._by_strategies(alike, alike.strategies, run)
        return y, end, None if cache is None else DeviceCache(self, cache)

    def _run_kernels(
        self,
        strategy: str,
        rounded_to: str,
        cell: Cell,
        weights: Weights,
        x: Any,
        start: tuple[Any, ...],
        **options: Any,
    ) -> tuple[Any, tuple[Any, ...], KernelCache | None]:
        """Run a cell over time by kernels."""
        y, end, cache = forward(
            self.library, cell, weights, x, start, strategy=strategy, rounded_to=rounded_to, **options
        )
        return y, end, None if cache is None else KernelCache(self, cell, cache)

    def kernels_backward(self, cell: Cell, cache: ScanCache | TapedCache, dy: Any, dend: tuple[Any, ...]) -> Gradients:
        """Backward through time by kernels, from what kernels have kept."""

        def like() -> Alike:
            return self._alike(cell, dy, dy.shape[2], cache.projected, Way.BACKWARD)

        if isinstance(cache, TapedCache):
            settings = self.strategy, self.compute_dtype
            try:
                found = self._tapes.backward(settings, lambda: self._first(like()), cache, dy, dend)
            except KernelError:
                found = None
            if found is not None:
                return found
            cache = cache.whole()
        alike, whole = like(), cache

        def run(strategy: str) -> Gradients:
            self._compile(alike, strategy)
            return backward(self.library, cell, whole, dy, dend, strategy=strategy)

        strategies = tuple([strategy for strategy in alike.strategies if strategy != REFERENCE])
        return self._by_strategies(alike, strategies, run)

    def strategy_of(self, cell: Cell, batch: int, units: int, dtype: str = "float32", *, backward: bool = False) -> str:
        """Return the strategy by which a recurrence of these sizes would run, if nothing stands in its way."""
        with self.device:
            way = Way.BACKWARD if backward else Way.TRAINING
            return self._strategies(Call(cell, dtype, (1, batch), units, False, way, self._rounded_to(dtype)))[0]

    @classmethod
    def outlook(cls, here: Backend | None = None) -> dict[str, list[tuple[str, str]]]:
        """What the rule chooses for an LSTM in training, forward, and the microseconds of a step that it expects."""
        if isinstance(here, cls):
            with here.device:
                devices = {f"{here.library.describe().partition(' (')[0]}": here.library.device()}
        else:
            devices = {"an H200": H200, "an A100": A100}
        found = {}
        for name, device in devices.items():
            found[f"CuPy's strategies on {name}: us of a step, LSTM, forward in training; estimated"] = [
                (f"H {units}, B {batch}", "; ".join(expected(batch, units, small, device) for small in ("", SMALL[1])))
                for batch, units in EXAMPLES
            ]
        return found

    def describe(self) -> str:
        """Where this backend works, and by which strategies."""
        examples = ", ".join(f"{units}: {self.strategy_of(LSTMCell(), 64, units)}" for units in (128, 512, 1024, 2048))
        with self.device:
            where = self.library.describe()
        return f"{where}; strategy {self.strategy!r} (for an LSTM of 64 rows, by its units: {examples})"

    def _alike(self, cell: Cell, x: Any, units: int, projected: bool, way: Way) -> Alike:
        """What is known of calls that are like one with an input or an output's gradient of the shape of ``x``."""
        steps, batch, _ = x.shape
        key = id(cell), x.dtype, steps > 0, batch, units, projected, way, self.strategy, self.compute_dtype
        found = self._known.get(key)
        if found is None:
            dtype = dtype_name(x.dtype)
            call = Call(cell, dtype, (min(steps, 1), batch), units, projected, way, self._rounded_to(dtype))
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            found = self._known[key] = Alike(call, self._strategies(call), set())
        return found

    def _strategies(self, call: Call) -> tuple[str, ...]:
        """The strategies to try for a call."""
        if self.strategy == REFERENCE:
            return (REFERENCE,)
        try:
            compiled(call.cell)
        except RecordingError as error:
            self._warn(call, SLOWLY, error)
            return (REFERENCE,)
        if call.dtype not in REALS:
            self._warn(call, SLOWLY, f"there are kernels for {' and '.join(REALS)}, not for {call.dtype}")
            return (REFERENCE,)
        found = strategies_for(self.strategy, call, self.library.device())
        return tuple(strategy for strategy in found if (call.cell, call.dtype, strategy) not in self._refused)

    def _rounded_to(self, dtype: str) -> str:
        """What the operands of products of arrays are rounded to; empty if they aren't."""
        return (self.compute_dtype or "") if dtype == "float32" else ""

    def _by_strategies(self, alike: Alike, strategies: tuple[str, ...], run: Callable[[str], Result]) -> Result:
        """Run by the first of the strategies that can."""
        call, refusals = alike.call, list[KernelError]()
        for strategy in strategies:
            try:
                result = run(strategy)
            except KernelError as error:
                refusals.append(error)
                if isinstance(error, CompilationError):
                    self._refused.add((call.cell, call.dtype, strategy))
                    self._known.clear()
                continue
            if refusals:
                self._warn(call, SLOWLY if strategy == REFERENCE else f"by the strategy {strategy!r}", refusals[0])
            return result
        raise refusals[-1]

    def _first(self, alike: Alike) -> tuple[str, str] | None:
        """The first of the strategies that can be compiled, and what it rounds to; None where no kernels run."""
        for strategy in alike.strategies:
            if strategy == REFERENCE:
                break
            try:
                self._compile(alike, strategy)
            except KernelError:
                continue
            return strategy, alike.call.rounded_to
        return None

    def _compile(self, alike: Alike, strategy: str) -> None:
        """Compile what a strategy needs before anything runs, and what it needs backward if that is to follow."""
        if strategy in alike.ready:
            return
        call = alike.call
        prepare(self.library, strategy, call)
        if call.way is not Way.BACKWARD:
            keep = call.way is Way.TRAINING
            kernels = compiled(call.cell).kernels(keep=keep, projected=call.projected, rounded_to=call.rounded_to)
            for kernel in kernels:
                self.library.function(kernel, call.dtype)
        alike.ready.add(strategy)

    def _warn(self, call: Call, how: str, why: Any) -> None:
        text = f"{type(call.cell).__name__} runs {how}: {why}"
        if (call.cell, call.dtype, text) not in self._warned:
            self._warned.add((call.cell, call.dtype, text))
            warnings.warn(text, stacklevel=5)

    def check_fault(self) -> None:
        """Raise an error if a kernel has waited in vain since this was called the last time."""
        if self.library.found_fault():
            self.strategy = STEP
            raise RuntimeError(
                "a kernel of the strategy 'persistent' waited in vain for others of its blocks; what has been computed "
                "since the last synchronisation is wrong, and NaN where it comes from that kernel. "
                "From now on this backend uses the strategy 'step'."
            )

    def elementwise(self, formula: Formula, arrays: Sequence[str], numbers: Sequence[str]) -> Elementwise:
        """Return what runs a formula number by number; see `recurray.backend.Backend.elementwise`."""
        return KernelElementwise(self.library, self.xp, self.device, formula, arrays, numbers)

    def norm(self, arrays: Sequence[Any]) -> Any:
        """Return the root of the sum of all squares; see `recurray.backend.Backend.norm`."""
        with self.device:
            if all(str(array.dtype) == "float32" and array.size <= MOST for array in arrays):
                return norm(self.library, arrays)
            return super().norm(arrays)

    def sum_rows(self, values: Any, index: Any, count: int) -> Any:
        """Add up the rows of ``values`` by ``index``, without atomic additions: equal calls give equal bits."""
        with self.device:
            if str(values.dtype) in REALS:
                return sum_rows(self.library, values, index, count)
            return super().sum_rows(values, index, count)


class Alike(NamedTuple):
    """What is known of calls that are alike but for how many steps they have, if there are any."""

    call: Call
    strategies: tuple[str, ...]  # to try
    ready: set[str]  # those of them for which all is compiled


class KernelCache(NamedTuple):
    """What kernels have kept, and the backend whose kernels go backward from there."""

    backend: CupyBackend
    cell: Cell
    scan: ScanCache | TapedCache

    def backward(self, dy: Any, dend: tuple[Any, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""
        return self.backend.kernels_backward(self.cell, self.scan, dy, dend)


class DeviceCache(NamedTuple):
    """A scan's cache, and the backend whose device is the current one while it goes backward."""

    backend: CupyBackend
    cache: Cache

    def backward(self, dy: Any, dend: tuple[Any, ...]) -> Gradients:
        """Backward through time; see `recurray.scan.backward`."""
        self.backend.check_fault()
        with self.backend.device:
            dx, dstart, grads = self.cache.backward(dy, dend)
            mine = {id(value) for value in dend}  # which the reference path hands back where there are no steps
            return dx, tuple([value.copy() if id(value) in mine else value for value in dstart]), grads


def expected(batch: int, units: int, rounded_to: str, device: Device) -> str:
    """Say what the rule chooses for an LSTM in training, forward, and what it expects.

    Examples
    --------
    >>> expected(16, 512, "", H200)
    'float32: step 6.8, auto persistent 2.4'
    """
    call, said = Call(LSTMCell(), "float32", (1, batch), units, False, Way.TRAINING, rounded_to), []
    for strategy in (DEFAULT, AUTO):
        first = strategies_for(strategy, call, device)[0]
        time = estimates(call, device, waiting=True)[first]
        said.append(f"{first} {time:.1f}")
    return f"{rounded_to or 'float32'}: {', auto '.join(said)}"


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
