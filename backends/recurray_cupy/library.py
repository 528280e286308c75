"""The array library and its compiler, behind an interface so small that NumPy and a C++ compiler can stand in for it.

Everything but what is in `Library` is tested on machines without a GPU: there kernels are compiled for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel

# What the driver says of a launch for which there is no room: out of resources, too many blocks that are to wait for
# each other.
REFUSED = (701, 720)

CUDA_R_16BF = 14  # CuPy 13 has no name for it

Function = Callable[[tuple[int], tuple[int], tuple[Any, ...]], None]  # of the grid, the block and the arguments


@dataclass(frozen=True)
class Device:
    """What a launch depends on of a GPU.

    Attributes
    ----------
    multiprocessors : int
    shared : int
        Bytes of shared memory that a block may have.
    threads : int
        Threads of a block.
    cooperative : bool
        Whether the blocks of a launch may wait for each other.
    tensor_cores : bool
        Whether it has those that the kernels use.
    """

    multiprocessors: int
    shared: int
    threads: int = 256
    cooperative: bool = True
    tensor_cores: bool = True


class KernelError(RuntimeError):
    """A kernel can't run; a slower strategy can."""


class CompilationError(KernelError):
    """A kernel doesn't compile."""


class DoesNotFitError(KernelError):
    """A layout needs more than the GPU has."""


class Library:
    """CuPy, which compiles by NVRTC, when a kernel is first wanted, and keeps the result on disk.

    A launch goes to CuPy's current stream and returns at once.

    Attributes
    ----------
    xp : module
        Its functions, by NumPy's names.
    plans : bool
        Whether kernels that make the recurrent product are written for one layout each, which makes them faster, and
        takes a compilation for each.
    fault : numpy.uintp
        The address of an integer that a kernel sets if it has waited in vain; see `found_fault`.
    """

    plans = True

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self._functions: dict[tuple[Kernel, str, int], Any] = {}  # by kernel, type of its elements and device
        self._shaped: dict[tuple[Kernel, str, int, Any, bool], Function] = {}
        self._devices: dict[int, Device] = {}
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
        """What a launch depends on of the current device."""
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

    def function(self, kernel: Kernel, dtype: str) -> Any:
        """Return the compiled kernel, for elements of ``dtype`` and the current device, or a `CompilationError`."""
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

    def shaped(self, kernel: Kernel, dtype: str, shape: Any, *, cooperative: bool) -> Function:
        """Return the compiled kernel, to be launched in ``shape``, which has blocks, threads and shared (memory).

        The driver is asked whether the blocks fit, all at once if they are ``cooperative``; it may be a
        `DoesNotFitError`. CuPy would make such a launch that is too large a smaller one, with wrong results.
        """
        import cupy

        key = kernel, dtype, cupy.cuda.runtime.getDevice(), shape, cooperative
        if key in self._shaped:
            return self._shaped[key]
        raw, driver = self.function(kernel, dtype), cupy.cuda.driver
        try:
            raw.max_dynamic_shared_size_bytes = self.device().shared  # other launches of the kernel may need more
            here = driver.occupancyMaxActiveBlocksPerMultiprocessor(raw.kernel.ptr, shape.threads, shape.shared)
        except driver.CUDADriverError as error:
            raise DoesNotFitError(f"{kernel.name} can't have the shared memory that it needs: {error}") from error
        room = here * self.device().multiprocessors
        wanted = shape.blocks if cooperative else 1
        if room < wanted:
            raise DoesNotFitError(f"{kernel.name} needs {wanted} blocks on the GPU at once, but {room} fit")
        function = raw.kernel

        def launch(grid: tuple[int], block: tuple[int], arguments: tuple[Any, ...]) -> None:
            try:
                function(grid, block, arguments, shared_mem=shape.shared, enable_cooperative_groups=cooperative)
            except driver.CUDADriverError as error:
                if error.status not in REFUSED:
                    raise
                raise DoesNotFitError(f"the GPU refuses to launch {kernel.name}: {error}") from error

        self._shaped[key] = launch
        return launch

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what launches at once, as a CUDA graph, all that ``work`` launches, which does nothing else."""
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

    def rounded_product(self, a: Any, b: Any, out: Any, *, rounded_to: str, transposed: str) -> None:
        """Write the product of two operands to ``out``, float32, by cuBLAS on the current stream.

        They are float16, or the bits of bfloat16; "a", "b" or neither is ``transposed``.
        """
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
        half = {"float16": runtime.CUDA_R_16F, "bfloat16": CUDA_R_16BF}[rounded_to]
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
