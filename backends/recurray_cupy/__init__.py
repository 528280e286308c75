"""The CuPy backend: recurrences on a CUDA GPU. Importing it doesn't import CuPy; making a backend does."""

from recurray_cupy.backend import CupyBackend

__all__ = ["CupyBackend"]
