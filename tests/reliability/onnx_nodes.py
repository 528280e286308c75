"""Draw ONNX nodes at random, with any attributes and inputs, and compare what recurray and onnxruntime make of them.

python tests/reliability/onnx_nodes.py --count 10000
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness.onnx_nodes import Node, drawn

TOLERANCE = 2e-5  # relative to the largest number, or to 1


@dataclass
class Figures:
    """What was done and found."""

    count: int = 0
    equal: int = 0
    not_finite: int = 0  # in onnxruntime: functions without bounds, over and over
    largest: float = 0.0  # difference, of those that are equal
    departures: dict[str, int] = field(default_factory=dict)  # how often, by what it is

    def depart(self, words: str) -> None:
        """Count a departure."""
        self.departures[words] = self.departures.get(words, 0) + 1

    def good(self) -> bool:
        """Whether all are equal."""
        return not self.departures and self.equal > self.count * 0.9


def compare(count: int, seed: int = 0) -> Figures:
    """Do it ``count`` times."""
    found = Figures()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "node.onnx")
        for number in range(count):
            node = drawn(np.random.default_rng([seed, number]))
            node.save(path)
            _compare_one(node, path, f"--seed {seed}, node {number}", found)
    return found


def _compare_one(node: Node, path: Path, name: str, found: Figures) -> None:
    found.count += 1
    expected = node.by_onnxruntime(path)
    sizes = [float(np.abs(value).max()) for value in expected]
    if not np.isfinite(sizes).all() or max(sizes) > 1e4:
        found.not_finite += 1
        return
    try:
        results = node.by_recurray(path)
    except ValueError as error:
        found.depart(f"refused: {error}")
        return
    difference = max(
        float(np.abs(own - value).max()) / max(1.0, size)
        for own, value, size in zip(results, expected, sizes, strict=True)
    )
    if difference <= TOLERANCE:
        found.equal += 1
        found.largest = max(found.largest, difference)
    else:
        found.depart(f"{difference:.1e} in {name}: {node.kind} {node.attributes}, {sorted(node.feed)}")


def main() -> int:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    found = compare(arguments.count, arguments.seed)
    print(json.dumps(asdict(found)))
    return 0 if found.good() else 1


if __name__ == "__main__":
    sys.exit(main())
