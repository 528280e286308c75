"""Run the engine on random cells, shapes and options, in float32 and float64, with one thread and several.

    python random_shapes.py [count] [seed]

Compares built-in cells with the reference path. (A random cell may make anything of a rounding.) Meant to be run under
sanitizers, see sanitizers.sh; it needs the repository's tests folder on the path, for its cells.
"""

from __future__ import annotations

import sys

import numpy as np

from harness.cells import CELLS
from harness.compare_scans import both_ways, run, scan_arguments
from harness.random_cell import RandomCell
from recurray_native import Engine, library, set_num_threads


def main(count: int, seed: int) -> None:
    """Run ``count`` random problems."""
    rng = np.random.default_rng(seed)
    engines = [Engine(level=level) for level in library.levels()]
    for number in range(count):
        cell = CELLS[rng.integers(len(CELLS))] if rng.random() < 0.5 else RandomCell(int(rng.integers(200)))
        large = rng.random() < 0.2  # large enough for several threads
        few = rng.random() < 0.2  # so few rows that weights are used as they stand
        batch, steps = rng.integers(1, 3, 2) if few else (rng.integers(0, 40 if large else 9), rng.integers(0, 9))
        size, features = rng.integers(1, (300 if few else 140) if large else 40, 2)
        set_num_threads(int(rng.integers(1, 5)))
        weights, x, start, lengths = scan_arguments(
            cell,
            rng,
            batch=int(batch),
            steps=int(steps),
            size=int(size),
            features=int(features),
            bias=(True, True, "by row", False)[rng.integers(4)],
            ragged=rng.random() < 0.5,
            dtype=("float32", "float64")[rng.integers(2)],
        )
        for field in ("input", "recurrent"):
            if getattr(weights, field) is not None:
                getattr(weights, field)[...] *= (size + features) ** -0.5
        engine = engines[rng.integers(len(engines))]
        reverse, masked = bool(rng.random() < 0.5), bool(rng.random() < 0.3)
        if cell in CELLS and weights.input.dtype == np.float64:
            both_ways(
                *(engine.scan_forward, cell, weights, x, start, lengths),
                rng=rng,
                reverse=reverse,
                masked=masked,
            )
            continue
        shape = (*x.shape[:2], size)
        draws = {name: (rng.random(shape) < p).astype(x.dtype) for name, p in cell.draws.items()}
        mask = ((rng.random(start[0].shape) < 0.5) * 2.0).astype(x.dtype) if masked else None
        options = {"lengths": lengths, "reverse": reverse, "draws": draws, "output_mask": mask}
        with np.errstate(all="ignore"):
            run(engine.scan_forward, cell, weights, x, start, **options)
        if number % 500 == 499:
            sys.stdout.write(f"{number + 1} problems\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 1000, int(sys.argv[2]) if len(sys.argv) > 2 else 0)
