"""The NumPy backend: recurrences on the CPU with NumPy alone."""

from recurray_numpy.backend import NumpyBackend

__all__ = ["NumpyBackend"]
