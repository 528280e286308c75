"""Products of a few rows with weights as they stand: x @ weight.T + bias.

N rows, I input, R output.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from recurray_native import library
from recurray_native.arguments import FLOATS, check_array
from recurray_native.structures import address

FEW = 4  # rows; from more on BLAS is quicker
MOST = 2**16  # numbers of the weight; larger ones BLAS shares out among threads


def is_small(rows: int, weight: Any) -> bool:
    """Whether the engine makes a product, in whatever call: so that it has the same bits in all."""
    return 0 < rows <= FEW and weight.dtype in FLOATS and 0 < weight.size <= MOST


def check_affine(weight: Any, bias: Any, features: int, dtype: Any) -> None:
    """Refuse weights that aren't for ``features`` features."""
    check_array("weights.input", weight, (len(weight), features), dtype)
    if bias is not None:
        check_array("weights.input_bias", bias, (len(weight),), dtype)


def affine(level: str, x: Any, weight: Any, bias: Any) -> Any:
    """The product of an x (N, I); see `recurray.backend.Backend.affine`."""
    (rows, features), outputs, dtype = x.shape, len(weight), x.dtype
    check_affine(weight, bias, features, dtype)
    y = np.empty((rows, outputs), dtype)
    given = [np.ascontiguousarray(a) for a in (x, weight)]
    added = None if bias is None else np.ascontiguousarray(bias)
    library.library().recurray_affine(
        library.number(level),
        dtype == FLOATS[1],
        *(rows, features, outputs),
        *map(address, given),
        None if added is None else address(added),
        address(y),
    )
    return y
