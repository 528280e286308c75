"""How params start out."""

from __future__ import annotations

from typing import Any

import numpy as np


def zeros(shape: tuple[int, ...]) -> Any:
    """Return a param that starts as zeros."""
    return np.zeros(shape)


def ones(shape: tuple[int, ...]) -> Any:
    """Return a param that starts as ones."""
    return np.ones(shape)


def orthogonal_blocks(rng: np.random.Generator, shape: tuple[int, ...], size: int) -> Any:
    """Draw a matrix whose blocks of ``size`` rows have orthonormal rows, or columns where these are fewer.

    References
    ----------
    Saxe, McClelland & Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
    2014; uniformly distributed by the signs of R's diagonal: Mezzadri, "How to generate random matrices from the
    classical compact groups", 2007.

    Examples
    --------
    >>> import numpy as np
    >>> blocks = orthogonal_blocks(np.random.default_rng(0), (6, 3), 3)
    >>> bool(np.allclose(blocks[3:] @ blocks[3:].T, np.eye(3)))
    True
    """
    rows, columns = shape
    blocks = []
    for _ in range(rows // size):
        tall = rng.standard_normal((max(size, columns), min(size, columns)))
        q, r = np.linalg.qr(tall)
        q = q * np.sign(np.diagonal(r))
        blocks.append(q if size >= columns else q.T)
    return np.concatenate(blocks)
