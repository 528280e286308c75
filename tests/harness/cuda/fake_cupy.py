"""What of CuPy the tests imitate: what neither the package alone nor one device with all its libraries can show.

That is several devices, drivers that are too old or refuse, libraries that aren't there. `differences` compares an
imitation with the package: an imitation written by the same hands makes the same mistakes as what it is to test.
"""

from __future__ import annotations

import ctypes
import inspect
import re
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

from recurray_cupy.library import Device


class CUDARuntimeError(RuntimeError):
    pass


class CUDADriverError(RuntimeError):
    def __init__(self, status: int) -> None:
        super().__init__(f"CUDA_ERROR_{status}")
        self.status = status


class CompileException(Exception):  # noqa: N818 - CuPy's name
    pass


class Runtime:
    """A machine with a number of devices, or without a driver."""

    CUDARuntimeError = CUDARuntimeError

    def __init__(self, count: int | None = 1, driver: int = 13020) -> None:
        self._count, self._driver, self.number = count, driver, 0

    def getDevice(self) -> int:  # noqa: N802
        return self.number

    def driverGetVersion(self) -> int:  # noqa: N802
        return self._driver

    def runtimeGetVersion(self) -> int:  # noqa: N802
        return 13020

    def memGetInfo(self) -> tuple[int, int]:  # noqa: N802
        return 1, 2

    def getDeviceCount(self) -> int:  # noqa: N802
        if self._count is None:
            raise CUDARuntimeError("cudaErrorInsufficientDriver")
        return self._count


class NoCompiler:
    """A machine without NVRTC."""

    def getVersion(self) -> tuple[int, int]:  # noqa: N802
        raise RuntimeError('Failure finding "libnvrtc.so.13"')


def machine(count: int | None, driver: int = 13020) -> Any:
    """CuPy, as far as it can be had on a machine with so many devices, without NVRTC."""
    cuda = SimpleNamespace(runtime=Runtime(count, driver), nvrtc=NoCompiler())
    return SimpleNamespace(__version__="14.2.0", cuda=cuda)


class Memory(bytearray):
    """Memory of the host."""

    ptr = 4096


class RawKernel:
    """A kernel; what its launches were is in the `launched` of its `FakeCupy`."""

    def __init__(self, cupy: FakeCupy, code: str, name: str) -> None:
        self._cupy, self._code, self._name = cupy, code, name
        self.kernel = SimpleNamespace(ptr=1)

    def compile(self) -> None:
        if self._cupy.fails:
            raise CompileException("no such operator")
        self._cupy.compiled.append((self._code, self._name))

    @property
    def max_dynamic_shared_size_bytes(self) -> int:
        return self._cupy.shared

    @max_dynamic_shared_size_bytes.setter
    def max_dynamic_shared_size_bytes(self, size: int) -> None:
        if size > self._cupy.most_shared:
            raise CUDADriverError(1)
        self._cupy.shared = size


class Driver:
    """The functions of the driver."""

    CUDADriverError = CUDADriverError

    def __init__(self, cupy: FakeCupy) -> None:
        self._cupy = cupy

    def occupancyMaxActiveBlocksPerMultiprocessor(self, func: int, block: int, shared: int) -> int:  # noqa: N802
        return 1

    def launchKernel(  # noqa: N802
        self,
        f: int,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared: int,
        stream: int,
        pointers: int,
        extra: int,
    ) -> None:
        assert extra == 0
        self._launched(grid_x, block_x, shared, stream, pointers, cooperative=False)

    def launchCooperativeKernel(  # noqa: N802
        self,
        f: int,
        grid_x: int,
        grid_y: int,
        grid_z: int,
        block_x: int,
        block_y: int,
        block_z: int,
        shared: int,
        stream: int,
        pointers: int,
    ) -> None:
        self._launched(grid_x, block_x, shared, stream, pointers, cooperative=True)

    def _launched(
        self, blocks: int, threads: int, shared: int, stream: int, pointers: int, *, cooperative: bool
    ) -> None:
        if self._cupy.refuses is not None:
            raise self._cupy.refuses
        assert shared <= self._cupy.shared
        places = (ctypes.c_uint64 * 4).from_address(pointers)  # of an array, a number, the step and how many there are
        given = [ctypes.c_uint64.from_address(places[0]).value]
        given += [ctypes.c_int.from_address(place).value for place in places[1:]]
        self._cupy.launched.append((blocks, threads, shared, stream, cooperative, given))


class FakeCupy:
    """CuPy with several devices of so many multiprocessors, as far as compiling and launching kernels goes.

    Attributes
    ----------
    fails : bool
        Whether kernels don't compile.
    refuses : Exception or None
        What a launch raises.
    most_shared : int
        How much shared memory the driver allows.
    """

    def __init__(self, device: Device) -> None:
        self.fails, self.refuses, self.most_shared, self.shared = False, None, 100_000, 0
        self.compiled: list[tuple[str, str]] = []
        self.launched: list[Any] = []
        sizes = {
            "MultiProcessorCount": device.multiprocessors,
            "MaxSharedMemoryPerBlockOptin": device.shared,
            "L2CacheSize": device.cache,
        }
        self.cuda = SimpleNamespace(
            runtime=Runtime(),
            compiler=SimpleNamespace(CompileException=CompileException),
            driver=Driver(self),
            get_current_stream=lambda device_id=-1: SimpleNamespace(ptr=7),
            alloc_pinned_memory=lambda size: Memory(size),
            Device=lambda device: SimpleNamespace(attributes=sizes | {"CooperativeLaunch": 1}, compute_capability="90"),
        )

    def RawKernel(self, code: str, name: str) -> RawKernel:  # noqa: N802 - CuPy's name
        return RawKernel(self, code, name)


OWN = {
    "fails",
    "refuses",
    "most_shared",
    "shared",
    "compiled",
    "launched",
    "number",
    "order",
    "numbers",
    "allocator",
    "device",
}


def differences(fake: Any, real: Any, name: str) -> Iterator[str]:
    """What the imitation of something has that it hasn't, or has in another way.

    Of classes and functions what can be called in one way must be callable so in the other. Values must be of the same
    type. `OWN` are the names by which tests steer an imitation.
    """
    for own in dir(fake):
        if own.startswith("_") or own in OWN:
            continue
        place, have = f"{name}.{own}", getattr(fake, own)
        if not hasattr(real, own):
            yield f"there is no {place}"
            continue
        there = getattr(real, own)
        if isinstance(have, SimpleNamespace | Runtime | NoCompiler | Driver):
            yield from differences(have, there, place)
        elif inspect.isclass(have) and issubclass(have, Exception):
            if not (inspect.isclass(there) and issubclass(there, have.__mro__[1])):
                yield f"{place} is no {have.__mro__[1].__name__}"
        elif callable(have):
            wanted, known = inspect.signature(have).parameters, parameters_of(there)
            if not callable(there):
                yield f"{place} can't be called"
            elif known is not None:
                by_name = [p.name for p in wanted.values() if p.default is not p.empty and p.name not in known]
                if by_name or len(wanted) > len(known):
                    yield f"{place} takes {', '.join(known)}, not {', '.join(wanted)}"
        elif isinstance(have, dict):
            yield from (f"{place} has no {key}" for key in have if key not in there)
        elif type(have) is not type(there):
            yield f"{place} is a {type(there).__name__}, not a {type(have).__name__}"


def parameters_of(function: Any) -> list[str] | None:
    """The names of what a function takes; of a compiled one from the first line of its docstring, where that has it."""
    if not (inspect.isroutine(function) or inspect.isclass(function)):
        function = type(function).__call__
    try:
        found = list(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        written = re.match(r"[\w.]+\((.*)\)", (function.__doc__ or "").strip().partition("\n")[0])
        if written is None:
            return None
        found = [part.partition("=")[0].split()[-1] for part in written[1].split(",") if part.strip(" *")]
    if "kwargs" in found:  # whatever it is
        return None
    return [name for name in found if name != "self"]
