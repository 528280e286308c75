"""CUDA kernels on the CPU: their very text is compiled as C++ for the host and run by `HostLibrary`.

`HostLibrary` stands in for CuPy in the CuPy backend's scan, so that all of it but the launches themselves is tested
on a machine without a GPU. Threads of a block run one after another, or as real threads with a real barrier where the
kernel has one; where a kernel makes the recurrent product, all blocks run at once. Arrays start as NaN, so that reading
what nobody has written shows, between guards that show writing past their ends.
"""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from recurray_cupy.kernel import Kernel
from recurray_cupy.library import Device, DoesNotFitError, in_memory
from recurray_cupy.persistent.layout import Layout

HEAD = """
#include <math.h>
#include <pthread.h>  // compiles several times faster than <thread> and <barrier>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(...)
#define __restrict__

struct Index { unsigned x; };
static thread_local Index threadIdx, blockIdx, blockDim;

// A barrier of two that take turns: with one alone ThreadSanitizer lets a thread that is late to leave it take note of
// what others have done since, up to the next time, and doesn't see the race there.
struct Meeting {
    pthread_barrier_t turns[2];
    void begin(unsigned threads) {
        for (pthread_barrier_t& turn : turns) pthread_barrier_init(&turn, nullptr, threads);
    }
    void end() {
        for (pthread_barrier_t& turn : turns) pthread_barrier_destroy(&turn);
    }
};
static Meeting meeting;
static thread_local Meeting* own_meeting = &meeting;
static thread_local unsigned turn;
static void __syncthreads() { pthread_barrier_wait(&own_meeting->turns[turn++ % 2]); }

// What only a GPU has, for kernels that make the recurrent product themselves.
#define HOST
#ifndef PATIENCE
#define PATIENCE 60000000000LL  // nanoseconds
#endif
static thread_local char* shared_memory;
static unsigned glance(const unsigned* place) { return __atomic_load_n(place, __ATOMIC_RELAXED); }
static unsigned acquire(const unsigned* place) { return __atomic_load_n(place, __ATOMIC_ACQUIRE); }
static void release_one(unsigned* place) { __atomic_fetch_add(place, 1, __ATOMIC_RELEASE); }
static void relax() { sched_yield(); }
static long long clock64() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

// Tensor cores: what the 32 threads of a warp have in registers they lay out before one another.
struct Warp {
    pthread_barrier_t meeting;
    unsigned a[32][4], b[32][2];
};
static thread_local Warp* own_warp;

static unsigned f16_bits(float number) {
    const unsigned sign = signbit(number) ? 0x8000 : 0;
    const float a = fabsf(number);
    if (a != a) return 0x7e00;
    if (a >= 65520) return sign | 0x7c00;
    if (a < 0x1p-14f) return sign | (unsigned)nearbyintf(a * 0x1p24f);
    const int e = ilogbf(a);
    return sign | (unsigned)(((e + 14) << 10) + (int)nearbyintf(ldexpf(a, 10 - e)));
}
static float f16_value(unsigned bits) {
    const int e = bits >> 10 & 31, m = bits & 1023;
    const float a = e == 31 ? (m ? NAN : INFINITY) : e ? ldexpf(1024 + m, e - 25) : ldexpf(m, -24);
    return bits & 0x8000 ? -a : a;
}
static unsigned bf16_bits(float number) {
    unsigned bits;
    memcpy(&bits, &number, 4);
    return number != number ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
static float bf16_value(unsigned bits) {
    bits <<= 16;
    float number;
    memcpy(&number, &bits, 4);
    return number;
}

// mma.m16n8k16, by the layout in the PTX manual: element (row, k) of a, (k, column) of b, (row, column) of c.
template <class Value>
static void multiply_tile_by_threads(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2], Value value) {
    const unsigned lane = threadIdx.x % 32;
    memcpy(own_warp->a[lane], a, sizeof a);
    memcpy(own_warp->b[lane], b, sizeof b);
    pthread_barrier_wait(&own_warp->meeting);
    for (unsigned i = 0; i < 4; ++i) {
        const unsigned row = lane / 4 + 8 * (i / 2), column = lane % 4 * 2 + i % 2;
        for (unsigned k = 0; k < 16; ++k) {
            const unsigned one = own_warp->a[row % 8 * 4 + k % 8 / 2][row / 8 + 2 * (k / 8)];
            const unsigned other = own_warp->b[column * 4 + k % 8 / 2][k / 8];
            c[i] += value(one >> 16 * (k % 2) & 0xffff) * value(other >> 16 * (k % 2) & 0xffff);
        }
    }
    pthread_barrier_wait(&own_warp->meeting);
}
static float power_of_two(float a) { return exp2f(a); }
static float inverse(float a) { return 1 / a; }

// A copy may be made when it is begun, or not before it is waited for: of two that follow each other, one each.
struct Copy {
    void* to;
    const void* from;
    int size;
};
static thread_local Copy copies[4096];
static thread_local int begun, ended[4096], groups, made;
template <int BYTES>
static void copy(void* to, const void* from) {
    if ((size_t)to % BYTES || (size_t)from % BYTES || begun - made >= 4096) abort();
    if (begun % 2) memcpy(to, from, BYTES);
    copies[begun++ % 4096] = {to, from, BYTES};
}
static void end_group() { ended[groups++ % 4096] = begun; }
static void await_groups(int but) {
    const int here = groups > but ? ended[(groups - 1 - but) % 4096] : 0;
    for (; made < here; ++made)
        if (made % 2 == 0) memcpy(copies[made % 4096].to, copies[made % 4096].from, copies[made % 4096].size);
}
#define HOST_TENSOR_CORES(TYPE)                                                                      \\
    static unsigned rounded(float a, float b) { return TYPE##_bits(a) | TYPE##_bits(b) << 16; }    \\
    static void multiply_tile(float (&c)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {     \\
        multiply_tile_by_threads(c, a, b, TYPE##_value);                                           \\
    }

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
    meeting.begin(threads);
    Thread<Call>* all = new Thread<Call>[threads];
    for (unsigned k = 0; k < threads; ++k) {
        all[k].blocks = blocks, all[k].threads = threads, all[k].number = k, all[k].call = &call;
        pthread_create(&all[k].handle, nullptr, Thread<Call>::run, &all[k]);
    }
    for (unsigned k = 0; k < threads; ++k) pthread_join(all[k].handle, nullptr);
    delete[] all;
    meeting.end();
}

// All threads of all blocks at once. A block's shared memory begins as NaN.
template <class Call>
struct GridThread {
    unsigned block, threads, number;
    Call* call;
    char* shared;
    Meeting* meeting;
    Warp* warp;
    pthread_t handle;

    static void* run(void* self) {
        const GridThread& own = *(GridThread*)self;
        blockIdx.x = own.block, blockDim.x = own.threads, threadIdx.x = own.number;
        shared_memory = own.shared, own_meeting = own.meeting, own_warp = own.warp;
        (*own.call)();
        return nullptr;
    }
};

template <class Call>
static void grid_together(unsigned shared, unsigned blocks, unsigned threads, Call call) {
    Meeting* meetings = new Meeting[blocks];
    GridThread<Call>* all = new GridThread<Call>[blocks * threads];
    char** memory = new char*[blocks];
    for (unsigned b = 0; b < blocks; ++b) {
        meetings[b].begin(threads);
        memory[b] = (char*)aligned_alloc(128, (shared + 255) / 128 * 128);
        memset(memory[b], 0xff, (shared + 255) / 128 * 128);
    }
    const unsigned warps = (threads + 31) / 32;
    Warp* all_warps = new Warp[blocks * warps];
    for (unsigned k = 0; k < blocks * warps; ++k) pthread_barrier_init(&all_warps[k].meeting, nullptr, 32);
    for (unsigned k = 0; k < blocks * threads; ++k) {
        all[k].warp = &all_warps[k / threads * warps + k % threads / 32];
        all[k].block = k / threads, all[k].threads = threads, all[k].number = k % threads, all[k].call = &call;
        all[k].shared = memory[k / threads], all[k].meeting = &meetings[k / threads];
        if (pthread_create(&all[k].handle, nullptr, GridThread<Call>::run, &all[k])) abort();
    }
    for (unsigned k = 0; k < blocks * threads; ++k) pthread_join(all[k].handle, nullptr);
    for (unsigned b = 0; b < blocks; ++b) {
        for (unsigned k = shared; k < (shared + 255) / 128 * 128; ++k)
            if (memory[b][k] != (char)0xff) abort();  // written past its end
        free(memory[b]);
        meetings[b].end();
    }
    for (unsigned k = 0; k < blocks * warps; ++k) pthread_barrier_destroy(&all_warps[k].meeting);
    delete[] all_warps;
    delete[] meetings;
    delete[] all;
    delete[] memory;
}
"""

GUARD, GUARDS = 12345.0, 8

COMPILED: dict[tuple[str, tuple[str, ...]], Any] = {}  # functions of all libraries, by text and options

SMALL = Device(multiprocessors=4, shared=20_000, threads=4)


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
    gpu : Device
        What kernels that make the recurrent product themselves are laid out for: a few small blocks.
    options : tuple of str
        More of the compiler's.
    plans : bool
        Whether such kernels are written for one layout each. Many tests share those for all sizes.

    Attributes
    ----------
    launched : list of str
        The names of the kernels launched, but for what adds up a bias's gradient.
    layouts : list of Layout
        Of those of them that have one.
    """

    tapes = False

    def __init__(
        self,
        folder: Path,
        row_threads: int = 3,
        gpu: Device = SMALL,
        options: tuple[str, ...] = (),
        plans: bool = False,
    ) -> None:
        self.folder = folder
        self.row_threads = row_threads
        self.xp = Namespace()
        self.gpu, self.options, self.plans = gpu, options, plans
        self.launched: list[str] = []
        self.layouts: list[Layout] = []
        self._functions: dict[str, Any] = {}
        self._fault = np.zeros(1, np.int32)
        self.fault = self._fault.ctypes.data

    def prepare(self, kernels: Iterable[Kernel], dtype: str) -> None:
        """Compile many kernels at once, which is many times faster than one by one."""
        fresh = {kernel.source(dtype): kernel for kernel in kernels}
        fresh = {source: kernel for source, kernel in fresh.items() if source not in self._functions}
        missing = {source: kernel for source, kernel in fresh.items() if (source, self.options) not in COMPILED}
        if missing:
            self._compile(missing)
        for source, kernel in fresh.items():
            self._functions[source] = self._wrapped(COMPILED[source, self.options], kernel, dtype)

    def _compile(self, missing: dict[str, Kernel]) -> None:
        parts = [HEAD]
        for k, (source, kernel) in enumerate(missing.items()):
            arguments = []
            for j, argument in enumerate(kernel.arguments):
                kind = argument.type.replace("real", f"k{k}::real")
                arguments.append(f"*({kind}*)a[{j}]")
            launch = "together(" if kernel.by_row else "one_by_one("
            launch = "grid_together(shared, " if kernel.threads else launch
            text = source.replace('extern "C"', "")  # which would make functions of one name one function
            parts.append(f"namespace k{k} {{\n{text}\n}}")
            parts.append(
                f'extern "C" void run_{k}(unsigned blocks, unsigned threads, unsigned shared, void** a) {{\n'
                f"    (void)shared;\n"
                f"    {launch}blocks, threads, [=] {{ k{k}::{kernel.name}({', '.join(arguments)}); }});\n}}"
            )
        name = self.folder / f"kernels_{len(COMPILED)}"
        name.with_suffix(".cpp").write_text("\n".join(parts))
        command = ["g++", "-std=c++20", "-O0", "-shared", "-fPIC", "-pthread", "-Wall", "-Werror"]
        command += ["-Wno-unused-function", "-Wno-unknown-pragmas", *self.options]
        command += ["-o", str(name.with_suffix(".so")), str(name.with_suffix(".cpp"))]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[:4000]
        library = ctypes.CDLL(str(name.with_suffix(".so")))
        for k, source in enumerate(missing):
            COMPILED[source, self.options] = getattr(library, f"run_{k}")

    def function(self, kernel: Kernel, dtype: str) -> Any:
        """The compiled kernel."""
        source = kernel.source(dtype)
        if source not in self._functions:
            self.prepare([kernel], dtype)
        return self._functions[source]

    def describe(self) -> str:
        return "a CPU"

    def device(self) -> Device:
        return self.gpu

    def shaped(self, kernel: Kernel, dtype: str, layout: Layout, *, cooperative: bool) -> Any:
        """The compiled kernel, for a layout."""
        if layout.blocks > (self.gpu.multiprocessors if cooperative else 2**31):
            raise DoesNotFitError(f"{layout.blocks} blocks don't fit")
        function = self.function(kernel, dtype)

        def launch(blocks: int, threads: int, pointers: Any, values: list[Any]) -> None:
            assert (blocks, threads) == (layout.blocks, kernel.threads)
            self.layouts.append(layout)
            function(blocks, threads, pointers, values, shared=layout.shared)

        return launch

    def bound(self, function: Any, blocks: int, threads: int, packed: bytes, values: list[Any]) -> Any:
        """What launches a kernel from a step on."""
        given, pointers = in_memory(packed + bytes(8))

        def run(step: int, steps: int = 1) -> None:
            struct.pack_into("=i4xi4x", given, len(packed) - 8, step, steps)
            function(blocks, threads, pointers, values)

        return run

    def address(self, array: Any) -> int:
        """Where an array begins."""
        return int(array.ctypes.data)

    def part(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """An array."""
        return self.xp.empty(shape, dtype)

    def empty(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """An array."""
        return self.xp.empty(shape, dtype)

    def parts(self, dtype: Any, shapes: dict[str, tuple[int, ...] | None]) -> dict[str, Any]:
        """Arrays, each with memory of its own."""
        return {name: None if shape is None else self.part(dtype, shape) for name, shape in shapes.items()}

    def zeros(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """An array of zeros."""
        return self.xp.zeros(shape, dtype)

    def kept_zeros(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Zeros to which nobody writes."""
        zeros = np.zeros(shape, dtype)
        zeros.flags.writeable = False
        return zeros

    def fill_zero(self, a: Any) -> None:
        """Make an array's numbers zero."""
        a.fill(0)

    def array(self, part: Any) -> Any:
        """A part as an array, which it is."""
        return part

    def copy(self, to: Any, a: Any) -> None:
        """Copy an array to another one of the same shape."""
        assert to.shape == a.shape
        to[...] = a

    def copied(self, a: Any) -> Any:
        """A copy."""
        return a.copy()

    def stacked(self, values: Any) -> Any:
        """Arrays along a new first axis, of a single one a view."""
        return values[0][None] if len(values) == 1 else np.stack(values)

    def kept(self, key: Any, make: Any, holding: Any) -> Any:
        """What is decided for a call, each time anew: tests force it to be something else."""
        return make()

    def order(self) -> str:
        """The name of the only order of work there is."""
        return "one after another"

    def queue(self) -> str:
        """The name of the only stream."""
        return "host"

    @property
    def actual(self) -> HostLibrary:
        """Itself."""
        return self

    def hand_over(self, packed: bytes, values: Any, run: Any) -> None:
        """What is done with a kernel's arguments."""
        run(packed)

    def writer(self, table: Any) -> Any:
        """What writes a kernel's arguments to a table."""

        def write(packed: bytes) -> None:
            table[: len(packed) // 8] = np.frombuffer(packed, np.uint64)

        return write

    def captured(self, work: Any) -> Any:
        return work

    def product(
        self, a: Any, b: Any, out: Any, *, rounded_to: str = "", transposed: str = "", add: bool = False
    ) -> None:
        """The product of two matrices."""
        if add:
            product = np.empty_like(out)
            self.bound_product(a, b, product, rounded_to=rounded_to, transposed=transposed)(0, 0)
            out += product
        else:
            self.bound_product(a, b, out, rounded_to=rounded_to, transposed=transposed)(0, 0)

    def bound_product(self, a: Any, b: Any, out: Any, *, rounded_to: str = "", transposed: str = "") -> Any:
        """What makes a product of one of several matrices."""
        for matrix in (a, b, out):
            assert matrix.flags.c_contiguous
        left, right, result = (matrix if matrix.ndim > 2 else matrix[None] for matrix in (a, b, out))

        def run(i: int, j: int) -> None:
            one, other = left[i], right[0]
            if rounded_to:
                assert a.dtype == b.dtype == np.uint16
                one, other = (numbers_of(bits, rounded_to) for bits in (one, other))
            np.matmul(one.T if transposed == "a" else one, other.T if transposed == "b" else other, out=result[j])

        return run

    def found_fault(self) -> bool:
        """Whether a kernel has waited in vain, since this was asked the last time."""
        found = bool(self._fault[0])
        self._fault[0] = 0
        return found

    def _wrapped(self, run: Any, kernel: Kernel, dtype: str) -> Any:
        types = {"real": np.dtype(dtype), "int": np.dtype(np.int32), "long long": np.dtype(np.int64)}
        types |= {"unsigned": np.dtype(np.uint32), "unsigned short": np.dtype(np.uint16)}
        types |= {"unsigned long long": np.dtype(np.uint64), "double": np.dtype(np.float64)}

        def launch(blocks: int, threads: int, pointers: Any, values: list[Any], shared: int = 0) -> None:
            if kernel.name != "add_up_rows":
                self.launched.append(kernel.name)
            assert len(values) == len(kernel.arguments) - 1
            for argument, value in zip(kernel.arguments, values, strict=False):
                if isinstance(value, np.ndarray):
                    assert argument.is_array
                    assert value.dtype == types[argument.element], argument
                elif argument.is_array:
                    assert value is None or argument.name == "fault", argument
            run(blocks, min(threads, self.row_threads) if kernel.by_row else threads, shared, pointers)

        return launch


def numbers_of(bits: Any, rounded_to: str) -> Any:
    """The numbers of the bits of a type of half a word."""
    if rounded_to == "float16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << 16).view(np.float32)


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
        """An array of NaN, or of a number if it can have none."""
        return self._guarded(shape, dtype, np.nan if np.dtype(dtype).kind == "f" else 77)

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
