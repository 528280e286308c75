"""Arrays on the device of which CuPy needn't know: to make one of CuPy's takes the host several times as long.

A kernel or cuBLAS wants an address, and most of what a layer's call makes is for them alone.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

ALIGNED = 256  # bytes, as what a GPU allocates
PER_THREAD = 2  # the address of the default stream that each thread has of its own
MOST_ZEROS, MOST_BYTES = 16, 2**20  # arrays of zeros that are kept, and how large each is at most


class Part:
    """A contiguous array in the memory of a larger one.

    Attributes
    ----------
    memory : Any
        CuPy's pointer to where that begins.
    address : int
    shape : tuple of int
    dtype : Any
    """

    __slots__ = ("address", "dtype", "memory", "shape")

    def __init__(self, memory: Any, address: int, shape: tuple[int, ...], dtype: Any) -> None:
        self.memory, self.address, self.shape, self.dtype = memory, address, shape, dtype

    @classmethod
    def of(cls, array: Any) -> Part:
        """Return a contiguous array of CuPy's as a part."""
        return cls(array.data, array.data.ptr, array.shape, array.dtype)

    def array(self) -> Any:
        """Return it as an array of CuPy's."""
        import cupy

        memory = self.memory
        return cupy.ndarray(self.shape, self.dtype, memory + (self.address - memory.ptr))

    @property
    def ndim(self) -> int:
        """How many axes it has."""
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        """How large it is."""
        return prod(self.shape) * self.dtype.itemsize  # type: ignore[no-any-return]

    def reshape(self, *shape: int) -> Part:
        """The same numbers with other axes."""
        return Part(self.memory, self.address, shape, self.dtype)

    def __getitem__(self, which: int | slice) -> Part:
        """One of its first axis, or some of them, one after another."""
        shape = self.shape[1:]
        each = prod(shape) * self.dtype.itemsize
        if isinstance(which, int):
            return Part(self.memory, self.address + which * each, shape, self.dtype)
        first, last, _ = which.indices(self.shape[0])
        return Part(self.memory, self.address + first * each, (last - first, *shape), self.dtype)

    def __reduce__(self) -> Any:  # for copies too
        return Part.of, (self.array(),)


class Memory:
    """Memory of the current device, by CuPy's current allocator; what is copied is copied on the current stream.

    Attributes
    ----------
    apart : bool
        Whether each part has memory of its own, so that a check of every access sees what is beside it.
    """

    apart = False

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._current = cupy.cuda.get_current_stream
        self._zeros: dict[tuple[Any, ...], Any] = {}
        self._known = threading.local()  # the devices that a thread has begun to work with

    def stream(self) -> int:
        """The current stream's address, in a thread that has a context of the current device."""
        number = self._cupy.cuda.runtime.getDevice()
        if number not in self._known.__dict__.setdefault("devices", set()):
            self._cupy.cuda.runtime.memGetInfo()  # makes it, as CuPy does before a launch
            self._known.devices.add(number)
        return int(self._current().ptr)

    def queue(self) -> tuple[int, int, int]:
        """Return what names a stream: what was queued on it is done when what is queued there later begins."""
        stream = int(self._current().ptr)
        thread = threading.get_ident() if stream == PER_THREAD else 0
        return self._cupy.cuda.runtime.getDevice(), stream, thread

    def address(self, array: Any) -> int:
        """Where an array or a part begins on the device."""
        return array.address if type(array) is Part else array.data.ptr

    def parts(self, dtype: Any, shapes: Mapping[str, tuple[int, ...] | None]) -> dict[str, Any]:
        """Make arrays of these shapes in memory that they have together; None for None."""
        if self.apart:
            return {name: None if shape is None else self.part(dtype, shape) for name, shape in shapes.items()}
        found: dict[str, Any] = dict.fromkeys(shapes)
        size, places, end = dtype.itemsize, [], 0
        for name, shape in shapes.items():
            if shape is not None:
                places.append((name, shape, end))
                end += -(-prod(shape) * size // ALIGNED) * ALIGNED
        if not places:
            return found
        memory = self._allocated(end)
        begin = memory.ptr
        for name, shape, place in places:
            found[name] = Part(memory, begin + place, shape, dtype)
        return found

    def part(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Make one of them."""
        memory = self._allocated(prod(shape) * dtype.itemsize)
        return Part(memory, memory.ptr, shape, dtype)

    def _allocated(self, size: int) -> Any:
        return self._cupy.cuda.alloc(size)

    def empty(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Make an array of CuPy's, for a caller."""
        return self._cupy.empty(shape, dtype)

    def zeros(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Make one full of zeros."""
        made = self.part(dtype, shape)
        self.fill_zero(made)
        return made

    def kept_zeros(self, dtype: Any, shape: tuple[int, ...]) -> Any:
        """Return an array of zeros to which nobody writes, the same one each time on a stream unless it is large."""
        key = dtype, shape, *self.queue()
        found = self._zeros.get(key)
        if found is None:
            found = self._cupy.zeros(shape, dtype)
            if found.nbytes <= MOST_BYTES:
                if len(self._zeros) >= MOST_ZEROS:
                    self._zeros.clear()
                self._zeros[key] = found
        return found

    def release(self) -> None:
        """Let go of what is kept."""
        self._zeros.clear()

    def fill_zero(self, a: Any) -> None:
        """Make all numbers of an array or a part zero."""
        self._clear(self.address(a), a.nbytes)

    def _clear(self, address: int, size: int) -> None:
        if size:
            self._cupy.cuda.runtime.memsetAsync(address, 0, size, self._current().ptr)

    def array(self, part: Any) -> Any:
        """Return a part as an array of CuPy's; what is one already, or None, as it is."""
        return part.array() if type(part) is Part else part

    def copy(self, to: Any, a: Any) -> None:
        """Copy an array or a part to another one of the same shape."""
        if type(a) is not Part and not (a.flags.c_contiguous and a.dtype == to.dtype):
            self.array(to)[...] = a
        else:
            self._copy(self.address(to), self.address(a), a.nbytes)

    def _copy(self, to: int, address: int, size: int) -> None:
        if size:
            runtime = self._cupy.cuda.runtime
            runtime.memcpyAsync(to, address, size, runtime.memcpyDeviceToDevice, self._current().ptr)

    def copied(self, a: Any) -> Any:
        """Return a copy of a contiguous array or a part, an array of CuPy's."""
        result = self.empty(a.dtype, a.shape)
        self._copy(self.address(result), self.address(a), a.nbytes)
        return result

    def stacked(self, values: Sequence[Any]) -> Any:
        """Return arrays of one shape and dtype along a new first axis: of a single one a view."""
        if len(values) == 1:
            return values[0].reshape(1, *values[0].shape)
        if not all(value.flags.c_contiguous for value in values):
            return self._cupy.stack(values)
        result = self._cupy.empty((len(values), *values[0].shape), values[0].dtype)
        to = result.data.ptr
        for value in values:
            size = value.nbytes
            self._copy(to, value.data.ptr, size)
            to += size
        return result
