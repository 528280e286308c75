"""Benchmarks: recurray's layers against those of other libraries, in one process, on the same numbers.

``recurray bench`` or ``python -m recurray.benchmarks``. `machine` says what the numbers were measured on.
"""
