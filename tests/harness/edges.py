"""Every size at which the code goes on in another way, and problems on both sides of each: what `test_edges` runs.

A size is taken from where it stands, so that a changed one moves its problems along.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import recurray_cupy.forward
import recurray_cupy.kernel
import recurray_cupy.persistent.layout
import recurray_numpy.buffers
import recurray_numpy.forward
import recurray_numpy.prepared
import recurray_numpy.products
from recurray.backend import Backend
from recurray.cells import Cell, DiagonalLSTMCell, GRUCell, LSTMCell, RNNCell
from recurray_cupy.backend import CupyBackend

ENGINE = Path(__file__).resolve().parents[2] / "backends" / "recurray_native"  # which need not be installed
C = "\n".join(path.read_text() for path in sorted((ENGINE / "c").iterdir()))
PYTHON = "\n".join(path.read_text() for path in sorted(ENGINE.glob("*.py")))


@cache
def in_c(name: str) -> int:
    """A constant of the engine, out of its text."""
    found = re.findall(rf"\b{name} = ([0-9]+)(?: << ([0-9]+))?(?: / sizeof\(real\))?[,; ]", C)
    assert len(found) == 1, (name, found)
    number, shift = found[0]
    return int(number) << int(shift or 0)


def in_python(name: str) -> int:
    """A constant of the engine's Python part."""
    (found,) = re.findall(rf"^{name} = ([0-9]+)\b", PYTHON, re.MULTILINE)
    return int(found)


class Sizes(NamedTuple):
    """A problem's."""

    batch: int
    steps: int
    units: int = 3
    features: int = 2


@dataclass(frozen=True)
class Edge:
    """A size, and problems around it."""

    name: str
    value: int
    cell: Cell
    problems: tuple[Sizes, ...]
    parts: bool = False  # whether it is a number of steps, which every library's scan is asked about

    def __str__(self) -> str:
        return self.name


def around(edge: int) -> tuple[int, int, int]:
    """One less, it, one more."""
    return edge - 1, edge, edge + 1


def steps(edge: int, batch: int, **sizes: int) -> tuple[Sizes, ...]:
    """Problems whose steps are around an edge, and beyond twice as many."""
    return tuple(Sizes(batch, count, **sizes) for count in (*around(edge), 2 * edge + 1))


def rows(edge: int, count: int, **sizes: int) -> tuple[Sizes, ...]:
    """Problems whose batches are around an edge, and beyond twice as large."""
    return tuple(Sizes(batch, count, **sizes) for batch in (*around(edge), 2 * edge + 1))


def of_steps_and_rows(edge: int, batch: int, **sizes: int) -> tuple[Sizes, ...]:
    """Problems whose steps times rows are around an edge, one step at a time."""
    return tuple(Sizes(batch, count, **sizes) for count in (*around(edge // batch), 2 * edge // batch + 1))


COLUMNS = recurray_numpy.products.COLUMNS
ROW_STEPS = recurray_numpy.forward.TOGETHER
MANY = recurray_numpy.prepared.PREPARE_FROM
PARTS = in_python("TOGETHER")
SMALL, PLAIN, DEEP = RNNCell(), LSTMCell(), LSTMCell(layer_norm=True)
DIAGONAL, INNER = DiagonalLSTMCell(shared=True), GRUCell(reset_after=False)

BATCH_CHUNK = 16  # the most steps of a batch that the NumPy engine works on at a time: in `chunk_of`

IN_NUMPY = [
    Edge("columns of a product", COLUMNS, PLAIN, of_steps_and_rows(COLUMNS, 32)),
    Edge("columns of a product, in a row", COLUMNS, SMALL, tuple(Sizes(1, n) for n in around(COLUMNS))),
    Edge("columns of a product, in one step", COLUMNS, SMALL, rows(COLUMNS, 1)),
    Edge("columns of a product, in a chunk", COLUMNS, PLAIN, (Sizes(COLUMNS // 2 + 1, 3), Sizes(200, 17))),
    Edge("columns of a product, projected", COLUMNS, PLAIN, of_steps_and_rows(COLUMNS, 128)),
    Edge("columns of a product, of inner gates", COLUMNS, INNER, of_steps_and_rows(COLUMNS, 64)),
    Edge("steps of a row together", ROW_STEPS, PLAIN, steps(ROW_STEPS, 1)),
    Edge("steps of a row's copy of weights", MANY, PLAIN, steps(MANY, 1)),
    Edge("steps of a row's copy of weights, inner", MANY, INNER, steps(MANY, 1)),
    Edge("steps of a batch's chunk", BATCH_CHUNK, PLAIN, steps(BATCH_CHUNK, 3)),
    Edge("steps of a batch's chunk, ahead", BATCH_CHUNK, DIAGONAL, steps(BATCH_CHUNK, 3)),
    Edge("steps of an engine's part", PARTS, PLAIN, steps(PARTS, 2), parts=True),
    Edge("steps of a part", Backend.steps_together, DEEP, steps(Backend.steps_together, 3), parts=True),
]

PANEL_ROWS = in_c("DEPTH")
CHUNK, LEAST_CHUNK = in_c("CHUNK_ROWS"), in_c("LEAST_CHUNK_ROWS")
TILE_ROWS, FEW_ROWS, ROWS_EACH = in_c("TILE_ROWS"), in_c("FEW_ROWS"), in_c("ROWS_EACH")
STRETCH, BLOCK = in_c("STRETCH"), in_c("BLOCK")
TILE = in_c("TILE_SIZE")  # bytes
GATES = in_c("GATES_SIZE")  # bytes
DOUBLE = 8
MOST_LANES = 16  # of float32, in 64 bytes
LONGEST_PANEL = 64  # columns: four vectors of them

IN_C = [
    Edge("depth of a panel, of x", PANEL_ROWS, SMALL, tuple(Sizes(5, 3, 3, n) for n in around(PANEL_ROWS))),
    Edge("depth of a panel, twice", PANEL_ROWS, PLAIN, (Sizes(7, 2, 5, 2 * PANEL_ROWS + 1),)),
    Edge("depth of a panel, of h", PANEL_ROWS, SMALL, tuple(Sizes(3, 2, n) for n in around(PANEL_ROWS))),
    Edge("depth of a panel, of all gates", PANEL_ROWS // 4, PLAIN, tuple(Sizes(3, 2, n) for n in (120, 128, 136))),
    Edge("rows of a chunk", CHUNK, PLAIN, of_steps_and_rows(CHUNK, 8)),
    Edge("rows of a chunk, in one step", CHUNK, SMALL, rows(CHUNK, 2)),
    Edge("rows of a chunk with means", CHUNK, DEEP, (Sizes(8, 27), Sizes(8, 28), Sizes(8, 33), Sizes(8, 70))),
    Edge("rows of a chunk at least", LEAST_CHUNK, DIAGONAL, of_steps_and_rows(LEAST_CHUNK, 4)),
    Edge("rows of a chunk at least, in one step", LEAST_CHUNK, DIAGONAL, rows(LEAST_CHUNK, 3)),
    Edge("rows of a tile", TILE_ROWS, PLAIN, rows(TILE_ROWS, 3)),
    Edge("rows of a tile, inner gates", TILE_ROWS, INNER, rows(TILE_ROWS, 3)),
    Edge("rows of a hoisted chunk", TILE_ROWS, PLAIN, steps(TILE_ROWS, 1)),
    Edge("rows of a hoisted chunk of several", TILE_ROWS, DIAGONAL, of_steps_and_rows(TILE_ROWS, 3)),
    Edge("few rows", FEW_ROWS, PLAIN, tuple(Sizes(1, n, 16, 16) for n in around(FEW_ROWS))),
    Edge("few rows of one step", FEW_ROWS, INNER, tuple(Sizes(n, 1, 16, 16) for n in around(FEW_ROWS))),
    Edge("few rows, units and features in part vectors", FEW_ROWS, PLAIN, (Sizes(2, 2, 17, 19), Sizes(4, 1, 9, 7))),
    Edge("rows of a stretch", STRETCH, PLAIN, (*rows(STRETCH, 1), *rows(STRETCH, 3))),
    Edge("units of a block", BLOCK, PLAIN, tuple(Sizes(3, 3, n) for n in (*around(BLOCK), 2 * BLOCK + 1))),
    Edge("units of a block, means", BLOCK, DEEP, tuple(Sizes(3, 3, n) for n in (*around(BLOCK), 2 * BLOCK + 1))),
    Edge("numbers of a tile", TILE // DOUBLE, DIAGONAL, tuple(Sizes(3, 3, n) for n in (*around(TILE // DOUBLE), 1025))),
    Edge("rows of a tile of numbers", TILE // DOUBLE // BLOCK, PLAIN, rows(TILE // DOUBLE // BLOCK, 3)),
    Edge(
        "bytes of a tile's gates",
        GATES // DOUBLE // (4 * BLOCK),
        PLAIN,
        tuple(Sizes(n, 2, 3 * BLOCK + 1) for n in (*around(GATES // DOUBLE // (4 * BLOCK) // 2), *around(BLOCK))),
    ),
    Edge("lanes of a vector", MOST_LANES, PLAIN, tuple(Sizes(2, 3, n, n + 1) for n in (*range(1, 10), *around(16)))),
    Edge(
        "columns of a register tile",
        LONGEST_PANEL,
        SMALL,
        tuple(Sizes(2, 3, n, 4) for edge in (8, 16, 32) for n in around(edge)),
    ),
    Edge("rows of a register tile", 6, PLAIN, tuple(Sizes(n, 2, 9, 5) for n in range(1, 14))),
    Edge("panels of one row", BLOCK, SMALL, tuple(Sizes(1, 9, n, 5) for n in (15, 16, 17, 31, 33, 127, 128, 129, 257))),
]

FOUR = recurray_cupy.persistent.layout.FOUR
ON_GPU = [
    Edge(
        "threads of a block of elements",
        recurray_cupy.kernel.ELEMENT_BLOCK,
        PLAIN,
        tuple(Sizes(3, 2, n) for n in (*around(recurray_cupy.kernel.ELEMENT_BLOCK // 3), 86)),
    ),
    Edge(
        "threads of a row's block",
        recurray_cupy.kernel.ROW_BLOCK,
        DEEP,
        tuple(Sizes(2, 2, n) for n in around(recurray_cupy.kernel.ROW_BLOCK)),
    ),
    Edge("numbers read at a time", FOUR, PLAIN, tuple(Sizes(2, 3, n, n) for n in (*around(FOUR), *around(4 * FOUR)))),
    Edge("steps of a part", CupyBackend.steps_together, SMALL, steps(CupyBackend.steps_together, 2), parts=True),
]

EDGES = [*IN_NUMPY, *IN_C]
AGREE = {"ROWS_EACH": "ROWS_EACH", "LEAST_ROWS": "CHUNK_ROWS"}  # the same size in Python and in C


def named(edges: Iterable[Edge]) -> list[Edge]:
    """Edges, after a check that each name stands for one."""
    found = list(edges)
    assert len({edge.name for edge in found}) == len(found)
    return found
