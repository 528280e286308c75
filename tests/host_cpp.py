"""CUDA kernels on the CPU: their very text is compiled as C++ for the host and run by `HostLibrary`.

`HostLibrary` stands in for CuPy in the CuPy backend's scan, so that all of it but the launches themselves is tested
on a machine without a GPU. Threads of a block run one after another, or as real threads with a real barrier where the
kernel has one. Arrays start as NaN, so that reading what nobody has written shows, between guards that show writing
past their ends.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel

HEAD = """
#include <math.h>
#include <pthread.h>  // compiles several times faster than <thread> and <barrier>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(threads)
#define __restrict__

struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx, blockDim;
static pthread_barrier_t meeting;
static void __syncthreads() { pthread_barrier_wait(&meeting); }

template <class Call>
static void one_by_one(unsigned blocks, unsigned threads, Call call) {
    blockDim.x = threads;
    for (blockIdx.x = 0; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x) call();
}

template <class Call>
struct Thread {
    unsigned blocks, threads, number;
    Call* call;
    pthread_t handle;

    static void* run(void* self) {
        const Thread& own = *(Thread*)self;
        blockDim.x = own.threads;
        threadIdx.x = own.number;
        for (blockIdx.x = 0; blockIdx.x < own.blocks; ++blockIdx.x) {
            (*own.call)();
            __syncthreads();  // the next block's shared memory is the same
        }
        return nullptr;
    }
};

template <class Call>
static void together(unsigned blocks, unsigned threads, Call call) {
    pthread_barrier_init(&meeting, nullptr, threads);
    Thread<Call>* all = new Thread<Call>[threads];
    for (unsigned k = 0; k < threads; ++k) {
        all[k].blocks = blocks, all[k].threads = threads, all[k].number = k, all[k].call = &call;
        pthread_create(&all[k].handle, nullptr, Thread<Call>::run, &all[k]);
    }
    for (unsigned k = 0; k < threads; ++k) pthread_join(all[k].handle, nullptr);
    delete[] all;
    pthread_barrier_destroy(&meeting);
}
"""

GUARD, GUARDS = 123456.0, 8


def compiler() -> str | None:
    """Where g++ is, None if it isn't here."""
    return shutil.which("g++")


class HostLibrary:
    """NumPy arrays, and kernels compiled for the host.

    Parameters
    ----------
    folder : Path
        Where to compile.
    row_threads : int
        How many threads a block of a kernel with a barrier has at most: few, because they are real ones, and because
        each then has several units.

    Attributes
    ----------
    launched : list of str
        The names of the kernels launched.
    """

    def __init__(self, folder: Path, row_threads: int = 3) -> None:
        self.folder = folder
        self.row_threads = row_threads
        self.xp = Namespace()
        self.launched: list[str] = []
        self._functions: dict[str, Any] = {}

    def prepare(self, kernels: Iterable[Kernel], dtype: str) -> None:
        """Compile many kernels at once, which is many times faster than one by one."""
        fresh = {kernel.source(dtype): kernel for kernel in kernels}
        fresh = {source: kernel for source, kernel in fresh.items() if source not in self._functions}
        if not fresh:
            return
        parts = [HEAD]
        for k, (source, kernel) in enumerate(fresh.items()):
            arguments = []
            for j, argument in enumerate(kernel.arguments):
                kind = argument.type.replace("real", f"k{k}::real")
                arguments.append(f"*({kind}*)a[{j}]")
            launch = "together" if kernel.by_row else "one_by_one"
            text = source.replace('extern "C"', "")  # which would make functions of one name one function
            parts.append(f"namespace k{k} {{\n{text}\n}}")
            parts.append(
                f'extern "C" void run_{k}(unsigned blocks, unsigned threads, void** a) {{\n'
                f"    {launch}(blocks, threads, [=] {{ k{k}::{kernel.name}({', '.join(arguments)}); }});\n}}"
            )
        name = self.folder / f"kernels_{len(self._functions)}"
        name.with_suffix(".cpp").write_text("\n".join(parts))
        command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror"]
        command += ["-o", str(name.with_suffix(".so")), str(name.with_suffix(".cpp"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        library = ctypes.CDLL(str(name.with_suffix(".so")))
        for k, (source, kernel) in enumerate(fresh.items()):
            self._functions[source] = self._wrapped(getattr(library, f"run_{k}"), kernel, dtype)

    def function(self, kernel: Kernel, dtype: str) -> Any:
        """The compiled kernel."""
        source = kernel.source(dtype)
        if source not in self._functions:
            self.prepare([kernel], dtype)
        return self._functions[source]

    def _wrapped(self, run: Any, kernel: Kernel, dtype: str) -> Any:
        types = {"real": np.dtype(dtype), "int": np.dtype(np.int32), "long long": np.dtype(np.int64)}

        def launch(grid: tuple[int], block: tuple[int], values: tuple[Any, ...]) -> None:
            (blocks,), (threads,) = grid, block
            self.launched.append(kernel.name)
            assert len(values) == len(kernel.arguments)
            boxes: list[Any] = []
            for argument, value in zip(kernel.arguments, values, strict=True):
                if not argument.is_array:
                    assert value.dtype == types[argument.element], argument
                    boxes.append(np.array(value))
                elif isinstance(value, np.ndarray):
                    assert value.dtype == types[argument.element], argument
                    assert value.flags.c_contiguous, argument
                    boxes.append(np.array(value.ctypes.data, np.uintp))
                else:
                    assert isinstance(value, np.uintp), argument
                    assert value == 0, argument
                    boxes.append(np.array(value))
            pointers = (ctypes.c_void_p * len(boxes))(*(box.ctypes.data for box in boxes))
            run(blocks, min(threads, self.row_threads) if kernel.by_row else threads, pointers)

        return launch


class Namespace:
    """NumPy, but what it makes empty is full of NaN, and stands between guards.

    Attributes
    ----------
    used : set of str
        The names of the functions that were asked for.
    """

    def __init__(self) -> None:
        self.used: set[str] = set()
        self._buffers: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        self.used.add(name)
        return getattr(np, name)

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of NaN."""
        return self._guarded(shape, dtype, np.nan)

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Any:
        """An array of zeros."""
        return self._guarded(shape, dtype, 0.0)

    def _guarded(self, shape: tuple[int, ...], dtype: Any, value: float) -> Any:
        size = int(np.prod(shape, dtype=int))
        buffer = np.full(size + 2 * GUARDS, GUARD, dtype)
        buffer[GUARDS : GUARDS + size] = value
        self._buffers.append(buffer)
        return buffer[GUARDS : GUARDS + size].reshape(shape)

    def check_guards(self) -> None:
        """Assert that nothing was written past the ends of an array."""
        for buffer in self._buffers:
            assert (buffer[:GUARDS] == GUARD).all()
            assert (buffer[-GUARDS:] == GUARD).all()
        self._buffers.clear()
