"""Every kind of kernel once, on small sizes, for compute-sanitizer: ``compute-sanitizer python tests/gpu/small.py``.

It has not been run on a GPU yet.
"""

from __future__ import annotations

import sys
import warnings

import numpy as np

import recurray as rr
from recurray.cells import DiagonalLSTMCell, GRUCell, LSTMCell


def main() -> None:
    ways = [("persistent", None), ("persistent", "bfloat16"), ("step", None), ("fused", None), ("fused", "bfloat16")]
    cells = (LSTMCell(), GRUCell(), LSTMCell(layer_norm=True), GRUCell(reset_after=False), DiagonalLSTMCell(True))
    rng = np.random.default_rng(0)
    for strategy, small in ways:
        backend = rr.get_backend("cupy", strategy=strategy, compute_dtype=small)
        for cell in cells:
            # Few blocks and many, units and rows that don't divide evenly, rows of several lengths.
            for batch, units, lengths in [(5, 70, [4, 0, 2, 4, 1]), (20, 200, None)]:
                layer = rr.Recurrent(cell, 3, units, bidirectional=units == 70, backend=backend, seed=0)
                x = backend.asarray(rng.standard_normal((batch, 4, 3)), "float32")
                with warnings.catch_warnings(action="ignore"):  # not every strategy can run every cell
                    for _ in range(2):  # the second time as a graph
                        y, _, cache = layer.forward(x, None, lengths)
                        layer.backward(cache, y)
        embedding = rr.Embedding(7, 3, backend=backend, seed=0)
        y, _, cache = embedding.forward(backend.asarray([[0, 3, 3], [6, 1, 0]]))
        embedding.backward(cache, y)
        backend.synchronize()
    sys.stdout.write("done\n")


if __name__ == "__main__":
    main()
