"""The array library and its compiler, behind an interface so small that NumPy and a C++ compiler can stand in for it.

Everything but what is in `Library` is tested on machines without a GPU: there kernels are compiled for the host.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np

from recurray_cupy.kernel import Kernel
from recurray_cupy.parts import Memory

# What the driver says of a launch for which there is no room: out of resources, too many blocks that are to wait for
# each other.
REFUSED = (701, 720)

CUDA_R_16BF = 14  # CuPy 13 has no name for it
MOST_KEPT = 1024  # of what is decided once

ONE, ZERO = ({kind: np.array(number, kind) for kind in ("float32", "float64")} for number in (1, 0))
TABLE = (
    480  # arguments of a kernel, at most, that are handed over by a table: a launch that writes it has 4 KiB of them
)

# One thread writes what a launch was given to where launches of a graph read it.
WRITE_TABLE = """
struct Given { unsigned long long values[%d]; };
extern "C" __global__ void write_table(unsigned long long* table, const Given given) {
#pragma unroll
    for (int k = 0; k < %d; ++k) table[k] = given.values[k];
}
"""


@dataclass(frozen=True)
class Function:
    """A compiled kernel, and how its blocks are launched.

    Attributes
    ----------
    raw : Any
        CuPy's.
    pointer : int
        The driver's.
    name : str
    shared : int
        Bytes of shared memory of a block that the launch asks for.
    cooperative : bool
        Whether its blocks wait for each other.
    """

    raw: Any
    pointer: int
    name: str
    shared: int = 0
    cooperative: bool = False


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
    clock : float
        Of a second. What a driver says is the most that there can be; this is for an H200 under load.
    cache : int
        Bytes of the second-level cache.
    """

    multiprocessors: int
    shared: int
    threads: int = 256
    cooperative: bool = True
    tensor_cores: bool = True
    clock: float = 1.755e9
    cache: int = 50 * 2**20


H200 = Device(multiprocessors=132, shared=232_448)
A100 = Device(multiprocessors=108, shared=166_912, clock=1.41e9, cache=40 * 2**20)


class KernelError(RuntimeError):
    """A kernel can't run; a slower strategy can."""


class CompilationError(KernelError):
    """A kernel doesn't compile."""


class DoesNotFitError(KernelError):
    """A layout needs more than the GPU has."""


def refusal(error: Any, name: str) -> Exception:
    """Return what to raise for an error of the driver's at a launch: for want of room, what a slower strategy mends."""
    if error.status not in REFUSED:
        return error  # type: ignore[no-any-return]
    return DoesNotFitError(f"the GPU refuses to launch {name}: {error}")


class Library(Memory):
    """CuPy, which compiles by NVRTC, when a kernel is first wanted, and keeps the result on disk.

    A launch goes to CuPy's current stream and returns at once.

    Attributes
    ----------
    xp : module
        Its functions, by NumPy's names.
    plans : bool
        Whether kernels that make the recurrent product are written for one layout each, which makes them faster, and
        takes a compilation for each.
    tapes : bool
        Whether calls that come again are noted, see `recurray_cupy.tape`.
    fault : int
        The address of an integer that a kernel sets if it has waited in vain; see `found_fault`.
    """

    plans = tapes = True

    def __init__(self) -> None:
        import cupy

        super().__init__(cupy)
        self.xp = cupy
        self._functions: dict[tuple[Kernel, str, int], Function] = {}  # by kernel, type of its elements and device
        self._writers: dict[tuple[int, int], Function] = {}  # what writes so many arguments, by device
        self._tf32 = bool(int(os.environ.get("CUPY_TF32", "0")))  # noqa: TID251 - as in CuPy's own products
        self._kept: dict[Hashable, tuple[Any, Any]] = {}
        self._multiplying: dict[tuple[Any, str], tuple[Any, ...]] = {}
        self._shaped: dict[tuple[Kernel, str, int, Any, bool], Function] = {}
        self._devices: dict[int, Device] = {}
        # Memory of the host that all devices can write to, so that nothing has to wait to read it.
        self._memory = cupy.cuda.alloc_pinned_memory(4)
        self._fault = np.frombuffer(self._memory, np.int32, 1)
        self._fault[0] = 0
        self.fault = int(self._memory.ptr)

    def describe(self) -> str:
        """What the current device is, and by which versions it is used."""
        runtime = self._cupy.cuda.runtime
        properties = runtime.getDeviceProperties(runtime.getDevice())
        version, driver = runtime.runtimeGetVersion(), runtime.driverGetVersion()
        cuda = f"CUDA {version // 1000}.{version % 1000 // 10}, driver's {driver // 1000}.{driver % 1000 // 10}"
        return f"{properties['name'].decode()} ({cuda}, CuPy {self._cupy.__version__})"

    def device(self) -> Device:
        """What a launch depends on of the current device."""
        number = self._cupy.cuda.runtime.getDevice()
        if number not in self._devices:
            device = self._cupy.cuda.Device(number)
            attributes = device.attributes
            self._devices[number] = Device(
                multiprocessors=attributes["MultiProcessorCount"],
                shared=attributes["MaxSharedMemoryPerBlockOptin"],
                cooperative=bool(attributes["CooperativeLaunch"]),
                tensor_cores=int(device.compute_capability) >= 80,  # text, such as "90"
                cache=attributes["L2CacheSize"],
            )
        return self._devices[number]

    def function(self, kernel: Kernel, dtype: str) -> Function:
        """Return the compiled kernel, for elements of ``dtype`` and the current device, or a `CompilationError`."""
        key = kernel, dtype, self._cupy.cuda.runtime.getDevice()
        found = self._functions.get(key)
        if found is None:
            raw = self._cupy.RawKernel(kernel.source(dtype), kernel.name)
            try:
                raw.compile()
            except (self._cupy.cuda.compiler.CompileException, self._cupy.cuda.driver.CUDADriverError) as error:
                raise CompilationError(f"the kernel {kernel.name} doesn't compile: {error}") from error
            found = self._functions[key] = Function(raw, raw.kernel.ptr, kernel.name)
        return found

    def shaped(self, kernel: Kernel, dtype: str, shape: Any, *, cooperative: bool) -> Function:
        """Return the compiled kernel, to be launched in ``shape``, which has blocks, threads and shared (memory).

        The driver is asked whether the blocks fit, all at once if they are ``cooperative``; it may be a
        `DoesNotFitError`. Otherwise a launch that is too large would be refused, or wait for ever.
        """
        key = kernel, dtype, self._cupy.cuda.runtime.getDevice(), shape, cooperative
        if key in self._shaped:
            return self._shaped[key]
        raw, driver = self.function(kernel, dtype).raw, self._cupy.cuda.driver
        try:
            raw.max_dynamic_shared_size_bytes = self.device().shared  # other launches of the kernel may need more
            here = driver.occupancyMaxActiveBlocksPerMultiprocessor(raw.kernel.ptr, shape.threads, shape.shared)
        except driver.CUDADriverError as error:
            raise DoesNotFitError(f"{kernel.name} can't have the shared memory that it needs: {error}") from error
        room = here * self.device().multiprocessors
        wanted = shape.blocks if cooperative else 1
        if room < wanted:
            raise DoesNotFitError(f"{kernel.name} needs {wanted} blocks on the GPU at once, but {room} fit")
        found = self._shaped[key] = Function(raw, raw.kernel.ptr, kernel.name, shape.shared, cooperative)
        return found

    def bound(
        self, function: Function, blocks: int, threads: int, packed: bytes, values: Any
    ) -> Callable[[int, int], None]:
        """Return what launches a kernel on the current stream, given the step to start with and how many there are.

        A launch by CuPy's own means takes the host several times as long: it looks at each argument anew.

        Parameters
        ----------
        function : Function
        blocks, threads : int
        packed : bytes
            The arguments as `Kernel.packing` puts them.
        values
            What mustn't go away while it may be launched.
        """
        given, error_of_driver = Arguments(packed), self._cupy.cuda.driver.CUDADriverError
        launch, shape = self.launching(function, blocks, threads, given.address)

        def run(step: int, steps: int = 1, keep: Any = values) -> None:
            given.start.value, given.count.value = step, steps
            try:
                launch(*shape)
            except error_of_driver as error:
                raise refusal(error, function.name) from error

        return run

    def launching(
        self, function: Function, blocks: int, threads: int, address: int
    ) -> tuple[Callable[..., None], tuple[int, ...]]:
        """Return what launches a kernel on the current stream, and what that is called with.

        ``address`` is that of the addresses of the arguments.
        """
        driver = self._cupy.cuda.driver
        launch = driver.launchCooperativeKernel if function.cooperative else driver.launchKernel
        more = () if function.cooperative else (0,)  # no other way of handing arguments over
        return launch, (function.pointer, blocks, 1, 1, threads, 1, 1, function.shared, self.stream(), address, *more)

    @property
    def actual(self) -> Library:
        """The library that launches: itself."""
        return self

    def hand_over(self, packed: bytes, values: Any, run: Callable[[bytes], None]) -> None:
        """Have ``run`` do what a kernel's packed arguments are for; ``values`` are these, unpacked."""
        run(packed)

    def order(self) -> tuple[int, int, int]:
        """Return what names an order of work: what has the same is done one after another, as it was given."""
        return self._cupy.cuda.runtime.getDevice(), self.stream(), threading.get_ident()

    def writer(self, table: Any) -> Callable[[bytes], None]:
        """Return what writes arguments to a table, on the stream that is the current one now; a thread's own."""
        ready: dict[int, tuple[Any, ...]] = {}  # by their bytes

        def write(packed: bytes) -> None:
            size = len(packed)
            if size not in ready:
                count = 32 * -(-size // 256)
                key = count, self._cupy.cuda.runtime.getDevice()
                if key not in self._writers:
                    raw = self._cupy.RawKernel(WRITE_TABLE % (count, count), "write_table")
                    self._writers[key] = Function(raw, raw.kernel.ptr, "write_table")
                # The second argument is all that comes after the first.
                given = Arguments(table.data.ptr.to_bytes(8, sys.byteorder) + bytes(8 * count))
                ready[size] = given, *self.launching(self._writers[key], 1, 1, given.address)
            given, launch, shape = ready[size]
            given.memory[8 : 8 + size] = packed
            launch(*shape)

        return write

    def captured(self, work: Callable[[], None]) -> Callable[[], None]:
        """Return what launches at once, as a CUDA graph, all that ``work`` launches, which does nothing else."""
        stream = self._cupy.cuda.Stream(non_blocking=True)  # the default stream can't be captured
        with stream:
            stream.begin_capture()
            try:
                work()
            finally:
                graph = stream.end_capture()

        def replay() -> None:
            graph.launch(self._cupy.cuda.get_current_stream())

        return replay

    def product(
        self, a: Any, b: Any, out: Any, *, rounded_to: str = "", transposed: str = "", add: bool = False
    ) -> None:
        """Write the product of two matrices to ``out``, or ``add`` it, by cuBLAS on the current stream.

        All are contiguous; "a", "b" or neither is ``transposed``. With ``rounded_to`` the operands are the bits of
        numbers of that type, and ``out`` is float32.
        """
        self.bound_product(a, b, out, rounded_to=rounded_to, transposed=transposed, add=add)(0, 0)

    def bound_product(
        self, a: Any, b: Any, out: Any, *, rounded_to: str = "", transposed: str = "", add: bool = False
    ) -> Callable[[int, int], None]:
        """Return what makes such a product of the i-th of the matrices ``a`` and writes it to the j-th of ``out``.

        What isn't an array of three axes is one matrix, and its number is 0.
        """
        (*_, rows, columns), (*_, height, width) = out.shape, a.shape
        depth = height if transposed == "a" else width
        if not rows * columns or (add and not depth):
            return lambda i, j: None
        apart = height * width * a.dtype.itemsize if a.ndim > 2 else 0
        then = rows * columns * out.dtype.itemsize if out.ndim > 2 else 0
        first, second, third = self.address(b), self.address(a), self.address(out)
        if not depth:
            size = rows * columns * out.dtype.itemsize
            return lambda i, j: self._clear(third + j * then, size)
        # cuBLAS has the columns of a matrix one after another: to it all are transposed, and it is given b times a.
        key = out.dtype, rounded_to
        if key not in self._multiplying:
            self._multiplying[key] = self._how_to_multiply(dtype_name(out.dtype), rounded_to)
        multiply, given, made, compute, how, one, zero = self._multiplying[key]
        handle = self._cupy.cuda.device.get_cublas_handle()
        from_b, to_out = transposed == "b", transposed == "a"
        sizes = handle, from_b, to_out, columns, rows, depth, one, first, given, b.shape[-1]
        rest, last = (given, width, one if add else zero), (made, columns, compute, how)

        def run(i: int, j: int, keep: Any = (a, b, out)) -> None:
            multiply(*sizes, second + i * apart, *rest, third + j * then, *last)

        return run

    def _how_to_multiply(self, kind: str, rounded_to: str) -> tuple[Any, ...]:
        """Return cuBLAS's function, and what it is told of the types."""
        cublas, runtime = self._cupy.cuda.cublas, self._cupy.cuda.runtime
        types = {"float16": runtime.CUDA_R_16F, "bfloat16": CUDA_R_16BF}
        types |= {"float32": runtime.CUDA_R_32F, "float64": runtime.CUDA_R_64F}
        if kind == "float64":
            compute = cublas.CUBLAS_COMPUTE_64F
        elif not rounded_to and self._tf32:
            compute = cublas.CUBLAS_COMPUTE_32F_FAST_TF32
        else:
            compute = cublas.CUBLAS_COMPUTE_32F
        one, zero = ONE[kind].ctypes.data, ZERO[kind].ctypes.data
        return cublas.gemmEx, types[rounded_to or kind], types[kind], compute, cublas.CUBLAS_GEMM_DEFAULT, one, zero

    def kept(self, key: Hashable, make: Callable[[], Any], holding: Any) -> Any:
        """Return what ``make`` returns, which is asked once for the key on this device.

        ``holding`` are the objects that stand in the key by their identity: to hash a cell takes longer than a launch.
        """
        key = key, self._cupy.cuda.runtime.getDevice()
        found = self._kept.get(key)
        if found is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[key] = make(), holding
        return found[0]

    def found_fault(self) -> bool:
        """Tell whether a kernel has waited in vain since this was asked the last time."""
        found = bool(self._fault[0])
        self._fault[0] = 0
        return found


class Arguments:
    """A launch's arguments in the host's memory, which another launch gets when nobody has them any more.

    They are as `Kernel.packing` puts them, and behind them is how many steps there are.
    """

    _spare: ClassVar[dict[int, list[Any]]] = {}  # by their bytes

    def __init__(self, packed: bytes) -> None:
        size = len(packed)
        try:
            self._own = self._spare[size].pop()
        except (KeyError, IndexError):
            memory, pointers = in_memory(packed + bytes(8))
            start, count = (ctypes.c_int.from_buffer(memory, size + place) for place in (-8, 0))
            self._own = memory, pointers, start, count, ctypes.addressof(pointers)
        self.memory, _, self.start, self.count, self.address = self._own
        self.memory[:size] = packed

    def __del__(self) -> None:
        self._spare.setdefault(len(self._own[0]) - 8, []).append(self._own)


@cache  # NumPy takes microseconds to say it
def dtype_name(dtype: Any) -> str:
    """The name of a dtype."""
    return str(dtype)


def in_memory(packed: bytes) -> tuple[bytearray, ctypes.Array[ctypes.c_uint64]]:
    """Return arguments of 8 bytes each where they can be written to, and the address of each."""
    given = bytearray(packed)
    began = ctypes.addressof(ctypes.c_char.from_buffer(given))
    return given, (ctypes.c_uint64 * (len(packed) // 8))(*range(began, began + len(packed), 8))
