"""Draw models of Keras, with and without masks, save them, and compare what Keras computes with what is read.

python tests/reliability/keras_layers.py --count 300

Each has a recurrent layer (LSTM, GRU in both forms, SimpleRNN, bidirectional with every way to merge) with random
options amid other layers, in a ``.keras``, ``.h5`` or ``.weights.h5`` file, as a Sequential or a functional model.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import keras_models
from recurray import convert

MASKS = (None, *keras_models.MASKS)
MOST = {"float32": 1e-5, "float64": 1e-5}  # both sides round


@dataclass(frozen=True)
class Found:
    """What came out for a model."""

    difference: float  # the largest, relative to the largest number of Keras's where that is above 1
    dtype: str
    text: str

    @property
    def equal(self) -> bool:
        """Whether it is rounding."""
        return self.difference < MOST[self.dtype]


def compare(seed: int, mask: str | None, folder: Path) -> Found:
    """Draw a model, save it and convert it; at steps that a mask leaves out nothing is compared, see `from_keras`."""
    problem = keras_models.draw(seed, mask)
    form = keras_models.FORMS[seed % len(keras_models.FORMS)]
    path, more = problem.saved(folder, form)
    converted = convert.from_keras(path, **more)
    x = problem.x if problem.x.dtype.kind == "i" else problem.x.astype(converted.model.dtype)
    made = converted.mask(x)
    if mask is not None:
        assert (made == problem.mask).all(), problem.text
    y, _ = converted.model(x, mask=made)
    expected = problem.output()[0]
    if "runs backwards in time" in converted.report:
        expected = expected[:, ::-1]
    if problem.mask is not None and expected.ndim == 3:
        y, expected = y[problem.mask], expected[problem.mask]
    assert y.shape == expected.shape, problem.text
    difference = np.abs(y - expected).max() / max(1.0, np.abs(expected).max())
    return Found(float(difference), converted.model.dtype, f"{problem.text} in {form}, mask {mask}, seed {seed}")


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    worst, bad = dict.fromkeys(MOST, 0.0), []
    kinds: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number in range(arguments.count):
            found = compare(arguments.seed + number, MASKS[number % len(MASKS)], Path(folder))
            kinds[found.text.partition("(")[0] + (" masked" if number % len(MASKS) else "")] += 1
            worst[found.dtype] = max(worst[found.dtype], found.difference)
            if not found.equal:
                bad.append(found)
    for found in bad:
        print(f"{found.difference:.1e} {found.text}")
    print(", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items())))
    equal = arguments.count - len(bad)
    largest = ", ".join(f"{difference:.1e} in {dtype}" for dtype, difference in worst.items())
    print(f"{equal} of {arguments.count} equal Keras; the largest difference is {largest}")
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
