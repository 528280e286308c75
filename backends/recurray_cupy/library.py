"""The array library and its compiler, behind an interface so small that NumPy and a C++ compiler can stand in for it.

Everything but what is in `CupyLibrary` is tested on machines without a GPU: there kernels are compiled for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from recurray_cupy.graphs import Graphs
from recurray_cupy.kernel import Kernel
from recurray_cupy.launcher import Launcher
from recurray_cupy.layout import Device, Layout
from recurray_cupy.rounding import rounding_kernel

# What the driver says of a launch for which there is no room: out of resources, too many blocks that are to wait for
# each other.
REFUSED = (701, 720)

CUDA_R_16BF = 14  # CuPy 13 has no name for it

Function = Callable[[tuple[int], tuple[int], tuple[Any, ...]], None]  # of the grid, the block and the arguments


class Library(Protocol):
    """An array library in which kernels can run.

    Attributes
    ----------
    xp : module
        Its functions, by NumPy's names.
    fault : numpy.uintp
        The address of an integer that a kernel sets if it has waited in vain; see `found_fault`.
    """

    xp: Any
    fault: Any

    def describe(self) -> str:
        """What the current device is, and by which versions it is used."""

    def device(self) -> Device:
        """What a layout depends on of the current device."""

    def function(self, kernel: Kernel, dtype: str) -> Function:
        """Return the compiled kernel, for elements of ``dtype``.

        Raises
        ------
        CompilationError
            The kernel doesn't compile.
        """

    def laid_out(self, kernel: Kernel, dtype: str, layout: Layout, *, cooperative: bool) -> Function:
        """Return a kernel that makes the recurrent product itself, to be launched with the layout's grid and block.

        Raises
        ------
        CompilationError
            The kernel doesn't compile.
        DoesNotFitError
            The blocks need more than the device has; if ``cooperative``, all of them at once.
        """

    def repeat(self, launch: Launch, starts: range) -> None:
        """Launch a step after another."""

    def found_fault(self) -> bool:
        """Tell whether a kernel has waited in vain since this was asked the last time."""

    def rounded(self, a: Any, small: str) -> Any:
        """Return the matrix ``a``, float32, as an operand of `rounded_product`, rounded to ``small``."""

    def rounded_product(self, a: Any, b: Any, out: Any, *, small: str, transposed: str) -> None:
        """Write the product of two operands, of which "a", "b" or neither is ``transposed``, to ``out``, float32."""


class Launch(Protocol):
    """A launch with all its arguments but the step."""

    grid: tuple[int]
    function: Function
    arguments: tuple[Any, ...]

    def __call__(self, start: int) -> None:
        """Launch it for the step ``start``."""


class KernelError(RuntimeError):
    """A kernel can't run; a slower strategy can."""


class CompilationError(KernelError):
    """A kernel doesn't compile."""


class DoesNotFitError(KernelError):
    """A layout needs more than the GPU has."""


class CupyLibrary:
    """CuPy, which compiles by NVRTC, when a kernel is first wanted, and keeps the result on disk.

    A launch goes to CuPy's current stream and returns at once.
    """

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self._functions: dict[tuple[Kernel, str, int], Any] = {}  # by kernel, type of its elements and device
        self._laid_out: dict[tuple[Kernel, str, int, Layout, bool], Function] = {}
        self._devices: dict[int, Device] = {}
        self._graphs = Graphs(_captured)
        # Memory of the host that all devices can write to, so that nothing has to wait to read it.
        self._memory = cupy.cuda.alloc_pinned_memory(4)
        self._fault = np.frombuffer(self._memory, np.int32, 1)
        self._fault[0] = 0
        self.fault = np.uintp(self._memory.ptr)

    def describe(self) -> str:
        """What the current device is, and by which versions it is used."""
        import cupy

        runtime = cupy.cuda.runtime
        properties = runtime.getDeviceProperties(runtime.getDevice())
        version, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        cuda = f"CUDA {version // 1000}.{version % 1000 // 10}, driver's {driver // 1000}.{driver % 1000 // 10}"
        return f"{properties['name'].decode()} ({cuda}, CuPy {cupy.__version__})"

    def device(self) -> Device:
        """What a layout depends on of the current device."""
        import cupy

        number = cupy.cuda.runtime.getDevice()
        if number not in self._devices:
            device = cupy.cuda.Device(number)
            attributes = device.attributes
            self._devices[number] = Device(
                multiprocessors=attributes["MultiProcessorCount"],
                shared=attributes["MaxSharedMemoryPerBlockOptin"],
                cooperative=bool(attributes["CooperativeLaunch"]),
                tensor_cores=int(device.compute_capability) >= 80,  # text, such as "90"
            )
        return self._devices[number]

    def function(self, kernel: Kernel, dtype: str) -> Function:
        """Return the compiled kernel, for elements of ``dtype`` and the current device."""
        function: Function = self._compiled(kernel, dtype)
        return function

    def _compiled(self, kernel: Kernel, dtype: str) -> Any:
        import cupy

        key = kernel, dtype, cupy.cuda.runtime.getDevice()
        found = self._functions.get(key)
        if found is None:
            found = cupy.RawKernel(kernel.source(dtype), kernel.name)
            try:
                found.compile()
            except (cupy.cuda.compiler.CompileException, cupy.cuda.driver.CUDADriverError) as error:
                raise CompilationError(f"the kernel {kernel.name} doesn't compile: {error}") from error
            self._functions[key] = found
        return found

    def laid_out(self, kernel: Kernel, dtype: str, layout: Layout, *, cooperative: bool) -> Function:
        """Return a kernel that makes the recurrent product itself, after asking the driver whether its blocks fit.

        CuPy would make a cooperative launch that is too large a smaller one, after a warning, with wrong results.
        """
        import cupy

        key = kernel, dtype, cupy.cuda.runtime.getDevice(), layout, cooperative
        if key in self._laid_out:
            return self._laid_out[key]
        raw, driver = self._compiled(kernel, dtype), cupy.cuda.driver
        try:
            raw.max_dynamic_shared_size_bytes = self.device().shared  # other layouts of the kernel may need more
            here = driver.occupancyMaxActiveBlocksPerMultiprocessor(raw.kernel.ptr, layout.threads, layout.shared)
        except driver.CUDADriverError as error:
            raise DoesNotFitError(f"{kernel.name} can't have the shared memory that it needs: {error}") from error
        room = here * self.device().multiprocessors
        wanted = layout.blocks if cooperative else 1
        if room < wanted:
            raise DoesNotFitError(f"{kernel.name} needs {wanted} blocks on the GPU at once, but {room} fit")
        function = raw.kernel

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            try:
                function(grid, block, arguments, shared_mem=layout.shared, enable_cooperative_groups=cooperative)
            except driver.CUDADriverError as error:
                if error.status not in REFUSED:
                    raise
                raise DoesNotFitError(f"the GPU refuses to launch {kernel.name}: {error}") from error

        self._laid_out[key] = launch
        return launch

    def repeat(self, launch: Launch, starts: range) -> None:
        """Launch a step after another, as a graph where the same arrays have come before."""

        def all_steps() -> None:
            for start in starts:
                launch(start)

        self._graphs.run((launch.function, starts, *map(_identity, launch.arguments)), all_steps)

    def rounded(self, a: Any, small: str) -> Any:
        """Return the matrix ``a``, float32, as an operand of `rounded_product`: bfloat16 as its bits."""
        a = self.xp.ascontiguousarray(a)
        if small == "float16":
            return a.astype(np.float16)
        result = self.xp.empty(a.shape, dtype=np.uint16)
        if a.size:
            arrays = {"values": a, "rounded": result}
            options: dict[str, Any] = {"dtype": "float32", "batch": a.shape[0], "units": a.shape[1], "reverse": False}
            Launcher(self, rounding_kernel(), arrays, **options)(0)
        return result

    def rounded_product(self, a: Any, b: Any, out: Any, *, small: str, transposed: str) -> None:
        """Write the product of two operands to ``out``, float32, by cuBLAS on the current stream."""
        import cupy

        rows, columns = out.shape
        depth = a.shape[0] if transposed == "a" else a.shape[1]
        if not rows * columns:
            return
        if not depth:
            out.fill(0)
            return
        # cuBLAS has the columns of a matrix one after another: to it all are transposed, and it is given b times a.
        cublas, runtime = cupy.cuda.cublas, cupy.cuda.runtime
        half = {"float16": runtime.CUDA_R_16F, "bfloat16": CUDA_R_16BF}[small]
        one, zero = np.ones((), np.float32), np.zeros((), np.float32)
        cublas.gemmEx(
            cupy.cuda.device.get_cublas_handle(),
            int(transposed == "b"),
            int(transposed == "a"),
            columns,
            rows,
            depth,
            one.ctypes.data,
            b.data.ptr,
            half,
            b.shape[1],
            a.data.ptr,
            half,
            a.shape[1],
            zero.ctypes.data,
            out.data.ptr,
            runtime.CUDA_R_32F,
            columns,
            cublas.CUBLAS_COMPUTE_32F,
            cublas.CUBLAS_GEMM_DEFAULT,
        )

    def found_fault(self) -> bool:
        """Tell whether a kernel has waited in vain since this was asked the last time."""
        found = bool(self._fault[0])
        self._fault[0] = 0
        return found


def _identity(argument: Any) -> Any:
    """What tells an argument of a kernel from others: an array's address, a number's type and value."""
    return argument.data.ptr if hasattr(argument, "data") and hasattr(argument.data, "ptr") else str(argument)


def _captured(work: Callable[[], None]) -> Callable[[], None]:
    """Launches as one graph."""
    import cupy

    stream = cupy.cuda.Stream(non_blocking=True)  # the default stream can't be captured
    with stream:
        stream.begin_capture()
        try:
            work()
        finally:
            graph = stream.end_capture()

    def replay() -> None:
        graph.launch(cupy.cuda.get_current_stream())

    return replay
