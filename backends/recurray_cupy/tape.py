"""What a scan asks of the device, noted once and asked again: calls of one form differ in their addresses alone.

A scan is run with a `Recorder` in place of the library: it has no memory and launches nothing, but gives out addresses
that aren't any, and notes what is asked for. A `Tape` then does that with true addresses, which takes the host a
fraction of the scan's own time: which kernels, layouts and sizes there are is in the notes.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from recurray_cupy.library import Function, Library, refusal
from recurray_cupy.parts import Part

APART = 2**44  # the addresses that are given out are multiples of it, and what is added is an offset
HANDLE = -1  # where among a tape's numbers that of cuBLAS is
ADDRESS = 9  # which argument of a launch says where the kernel's are
Note = tuple[Callable[..., Any], list[Any], list[tuple[int, int]]]  # a function, its arguments, and where which of the
# tape's numbers are among these


class Imagined(NamedTuple):
    """Memory of a recorder's."""

    ptr: int


class Namespace:
    """What of CuPy's own functions can be noted: those that copy. Arrays that are given are contiguous."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def ascontiguousarray(self, a: Part, dtype: Any = None) -> Part:
        """The same."""
        if dtype is not None and a.dtype != dtype:
            raise TypeError(f"a tape is of one dtype, but {a.dtype} was to be {dtype}")
        return a

    def concatenate(self, parts: Sequence[Part]) -> Part:
        """Parts one after another along their first axis."""
        rows = [part.shape[0] for part in parts]
        result: Part = self._recorder.part(parts[0].dtype, (sum(rows), *parts[0].shape[1:]))
        for k, part in enumerate(parts):
            self._recorder.copy(result[sum(rows[:k]) : sum(rows[: k + 1])], part)
        return result


class Recorder(Library):
    """A library that notes what it is asked for.

    Parameters
    ----------
    actual : Library
        Which compiles kernels, and lays them out.
    given : int
        How many addresses there are already: of the arrays that come from outside.
    """

    def __init__(self, actual: Library, given: int) -> None:
        vars(self).update(vars(actual))
        self._actual, self.given = actual, given
        self.xp = Namespace(self)
        self._multiplying = {}
        self.sizes: list[int] = []  # of the memory that is asked for
        self.notes: list[Note] = []
        self.packed = bytearray()  # the arguments of all kernels, of eight bytes each
        self.slots: list[tuple[int, int]] = []  # which of them are addresses, and which addresses
        self.numbers: list[int] = []  # addresses that are arguments of CuPy's functions
        self.launches: list[tuple[list[Any], int]] = []  # what kernels are launched with, and where theirs begin

    @property
    def actual(self) -> Library:
        """The library that launches."""
        return self._actual

    def _allocated(self, size: int) -> Imagined:
        self.sizes.append(size)
        return Imagined(APART * (self.given + len(self.sizes)))

    def empty(self, dtype: Any, shape: tuple[int, ...]) -> Part:
        """Make a part, of which a caller's array is to be made."""
        return self.part(dtype, shape)  # type: ignore[no-any-return]

    def array(self, part: Any) -> Any:
        """The part itself: nothing of CuPy's own works on it."""
        return part

    def _note(self, function: Callable[..., Any], *arguments: Any, addresses: Sequence[int]) -> None:
        """Note a call; ``addresses`` tells which of the arguments are some."""
        places = [(place, len(self.numbers) + k) for k, place in enumerate(addresses)]
        self.numbers += [arguments[place] for place in addresses]
        self.notes.append((function, list(arguments), places))

    def _copy(self, to: int, address: int, size: int) -> None:
        runtime = self._cupy.cuda.runtime
        kind = runtime.memcpyDeviceToDevice
        self._note(runtime.memcpyAsync, to, address, size, kind, self.stream(), addresses=(0, 1))

    def _clear(self, address: int, size: int) -> None:
        self._note(self._cupy.cuda.runtime.memsetAsync, address, 0, size, self.stream(), addresses=(0,))

    def _how_to_multiply(self, kind: str, rounded_to: str) -> tuple[Any, ...]:
        multiply, *rest = super()._how_to_multiply(kind, rounded_to)

        def note(*arguments: Any) -> None:
            self._note(multiply, *arguments, addresses=(7, 10, 14))
            self.notes[-1][2].append((0, HANDLE))

        return note, *rest

    def _pack(self, packed: bytes | bytearray, values: Sequence[Any]) -> int:
        """Note a kernel's arguments; return where they begin."""
        begin = len(self.packed)
        self.packed += packed
        parts = [(begin // 8 + k, value.address) for k, value in enumerate(values) if type(value) is Part]
        self.slots += parts
        return begin

    def bound(
        self, function: Function, blocks: int, threads: int, packed: bytes, values: Any
    ) -> Callable[[int, int], None]:
        """Return what notes a launch; see `Library.bound`."""

        def run(step: int, steps: int = 1) -> None:
            given = bytearray(packed + bytes(8))
            struct.pack_into("=i4xi4x", given, len(packed) - 8, step, steps)
            launch, arguments = self._actual.launching(function, blocks, threads, 0)
            self.notes.append((launch, list(arguments), []))
            self.launches.append((self.notes[-1][1], self._pack(given, values)))

        return run

    def hand_over(self, packed: bytes, values: Sequence[Any], run: Callable[[bytes], None]) -> None:
        """Note it; see `Library.hand_over`."""
        begin, of_all = self._pack(packed, values), self.packed
        end = len(of_all)
        self.notes.append((lambda: run(bytes(of_all[begin:end])), [], []))


class Tape:
    """What was noted, to be asked of the device again and again, by one thread at a time.

    Attributes
    ----------
    count : int
        How many addresses those of its parts are counted from.
    nbytes : int
        About how much memory it holds.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._sizes, self._notes = recorder.sizes, recorder.notes
        self.count = recorder.given + len(recorder.sizes)
        cuda = recorder._cupy.cuda
        self._alloc, self._handle, self._error = cuda.alloc, cuda.device.get_cublas_handle, cuda.driver.CUDADriverError
        packed = np.frombuffer(memoryview(recorder.packed), np.uint64)
        self._packed, self._slots = packed, np.array([slot for slot, _ in recorder.slots], np.intp)
        self._pointers = packed.ctypes.data + 8 * np.arange(len(packed), dtype=np.uint64)
        for arguments, begin in recorder.launches:
            arguments[ADDRESS] = self._pointers.ctypes.data + begin
        addresses = np.array([*(address for _, address in recorder.slots), *recorder.numbers], np.uint64)
        self._which, self._offsets = (addresses // APART).astype(np.intp) - 1, addresses % APART
        self._bases = np.zeros(self.count, np.uint64)
        self._pack = struct.Struct(f"={len(self._bases)}Q").pack_into
        self.nbytes = 5 * packed.nbytes + 24 * len(addresses) + 500 * len(self._notes)

    def __call__(self, given: Sequence[int]) -> tuple[list[int], list[Any]]:
        """Do it all, given the addresses; return these with those of the memory that was asked for, and that memory.

        Raises
        ------
        DoesNotFitError
            The GPU refuses a launch for want of room.
        """
        memory = [self._alloc(size) for size in self._sizes]
        bases = [*given, *[each.ptr for each in memory]]
        self._pack(self._bases.data, 0, *bases)
        addresses = self._bases[self._which]
        addresses += self._offsets
        slots = self._slots
        self._packed[slots] = addresses[: len(slots)]
        numbers = [*addresses[len(slots) :].tolist(), self._handle()]
        try:
            for function, arguments, places in self._notes:
                for place, k in places:
                    arguments[place] = numbers[k]
                function(*arguments)
        except self._error as error:
            raise refusal(error, "a kernel") from error
        return bases, memory
