"""The array library and its compiler, behind an interface so small that NumPy and a C++ compiler can stand in for it.

Everything but what is in `CupyLibrary` is tested on machines without a GPU: there kernels are compiled for the host.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from recurray_cupy.kernel import Kernel

Function = Callable[[tuple[int], tuple[int], tuple[Any, ...]], None]  # of the grid, the block and the arguments


class Library(Protocol):
    """An array library in which kernels can run.

    Attributes
    ----------
    xp : module
        Its functions, by NumPy's names.
    """

    xp: Any

    def function(self, kernel: Kernel, dtype: str) -> Function:
        """Return the compiled kernel, for elements of ``dtype``.

        Raises
        ------
        CompilationError
            The kernel doesn't compile.
        """


class CompilationError(RuntimeError):
    """A kernel doesn't compile."""


class CupyLibrary:
    """CuPy, which compiles by NVRTC, when a kernel is first wanted, and keeps the result on disk.

    A launch goes to CuPy's current stream and returns at once.
    """

    def __init__(self) -> None:
        import cupy

        self.xp = cupy
        self._functions: dict[tuple[str, int], Any] = {}  # by text and device

    def function(self, kernel: Kernel, dtype: str) -> Function:
        """Return the compiled kernel, for elements of ``dtype`` and the current device."""
        import cupy

        key = kernel.source(dtype), cupy.cuda.runtime.getDevice()
        found = self._functions.get(key)
        if found is None:
            found = cupy.RawKernel(key[0], kernel.name)
            try:
                found.compile()
            except (cupy.cuda.compiler.CompileException, cupy.cuda.driver.CUDADriverError) as error:
                raise CompilationError(f"the kernel {kernel.name} doesn't compile: {error}") from error
            self._functions[key] = found
        function: Function = found
        return function
