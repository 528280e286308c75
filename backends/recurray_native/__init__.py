"""A compiled engine for recurray's NumPy backend: recurrences on the CPU, with SIMD instructions and threads."""

from recurray_native.engine import Engine
from recurray_native.library import UnavailableError
from recurray_native.threads import get_num_threads, set_num_threads

__all__ = ["Engine", "UnavailableError", "get_num_threads", "set_num_threads"]
