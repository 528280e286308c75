"""Steps that are a launch each, as CUDA graphs that are good for any arrays.

A launch in a graph has its arguments in it, and an array library hands out other addresses at each call. So these
launches read theirs from a table on the device, which is written ahead of a graph's launch; in the graph is only how
many steps on from the first they are. A call is cut into graphs of 512, 256, ... 8 steps, what is left is launched one
by one: so calls of all lengths have them in common.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, proxy

import numpy as np

from recurray_cupy.kernel import INTEGERS, Kernel
from recurray_cupy.launcher import Launcher, packed
from recurray_cupy.library import TABLE, DoesNotFitError, Library

Work = Callable[[], None]

MOST, MOST_NAMES = 128, 1024  # graphs that are kept, and tables; names of work
SIZES = tuple(2**k for k in range(9, 2, -1))  # of steps


def pieces(steps: int) -> Iterator[tuple[int, int]]:
    """Cut steps into those of graphs, and the rest: where each begins, and how many it has.

    Examples
    --------
    >>> list(pieces(1100))
    [(0, 512), (512, 512), (1024, 64), (1088, 8), (1096, 4)]
    """
    begin = 0
    for size in SIZES:
        while steps - begin >= size:
            yield begin, size
            begin += size
    if begin < steps:
        yield begin, steps - begin


class Graphs:
    """Graphs of work that comes again and again.

    The second time that work comes with the same key it is captured, and from then on replayed.

    Parameters
    ----------
    capture : callable
        From work, which launches kernels and does nothing else, to what replays it.

    Attributes
    ----------
    run_graphs : bool
        Whether it does; else all work is done as it comes.
    """

    def __init__(self, capture: Callable[[Work], Work]) -> None:
        self._capture = capture
        self._known: OrderedDict[Hashable, Work | None] = OrderedDict()
        self._tables: OrderedDict[Hashable, Any] = OrderedDict()
        self._names: dict[Hashable, object] = {}
        self.run_graphs = True

    def run(self, key: Hashable, work: Work) -> None:
        """Do the work; once work with this key has been captured, replay it."""
        if not self.run_graphs:
            work()
            return
        replay = self._known.get(key)
        if replay is None and key in self._known:
            try:
                replay = self._capture(work)
            except Exception as error:  # whatever it is, the work can be done without
                self.run_graphs = False
                self._known.clear()
                warnings.warn(
                    f"steps are launched one by one: they can't be captured as a graph: {error}", stacklevel=2
                )
        if self.run_graphs:
            _put(self._known, key, replay)
        (replay or work)()

    def name(self, key: Hashable) -> Hashable:
        """Return what is to be used in a key's place: a kernel's takes long to be looked up."""
        if len(self._names) >= MOST_NAMES:
            self._names.clear()
        return self._names.setdefault(key, object())

    def table(self, library: Library, order: Hashable) -> tuple[Any, Callable[[bytes], None]]:
        """Return the table of an order of work, in which nothing reads it any more when it is written anew.

        With it comes what writes arguments to it.
        """
        found = self._tables.get(order)
        if found is None:
            table = library.xp.zeros((TABLE,), dtype=np.uint64)
            found = table, library.writer(table)
        _put(self._tables, order, found)
        return found

    def release(self) -> None:
        """Let go of all graphs and tables; none of them may be running."""
        self._known, self._tables = OrderedDict(), OrderedDict()  # another thread may be about to put one there


def _put(kept: OrderedDict[Hashable, Any], key: Hashable, value: Any) -> None:
    """Keep a value as the last that was wanted, and no more than `MOST`."""
    kept[key] = value
    kept.move_to_end(key)
    if len(kept) > MOST:
        kept.popitem(last=False)


def launch_steps(library: Library, kernel: Kernel, arrays: Mapping[str, Any], starts: range, **options: Any) -> None:
    """Launch a kernel once for each step, in the order of ``starts``.

    Parameters
    ----------
    library : Library
    kernel : Kernel
        One whose arguments come by a table, of as many as there is room for in one.
    arrays : mapping
        By the names of the arguments of the kernel that it was made of; see `Launcher`.
    starts : range
    options
        See `Launcher`.

    Raises
    ------
    DoesNotFitError
        It has too many arguments for a table.
    """
    if len(kernel.given) > TABLE:
        raise DoesNotFitError(f"{kernel.name} has {len(kernel.given)} arguments, of which a table holds {TABLE}")
    actual = library.actual
    graphs, order = graphs_of(actual), actual.order()
    sizes = {name: options.get(name, 0) for name in INTEGERS}
    given = {**arrays, **sizes, **options["integers"]}
    name = graphs.name((order, kernel, options["dtype"], options["shape"], starts.step))

    def launch(count: int) -> None:
        table, _ = graphs.table(actual, order)
        one = Launcher(actual, kernel.by_table, {"given": table, "step_of_graph": 0}, **options)
        for k in range(count):
            one(k * starts.step)

    for begin, count in pieces(len(starts)):
        values = [starts[begin] if name == "start" else given[name] for name in kernel.given]
        key, work = (name, count), partial(launch, count)
        by_graph = count in SIZES

        def run(arguments: bytes, key: Hashable = key, work: Work = work, by_graph: bool = by_graph) -> None:
            graphs.table(actual, order)[1](arguments)
            if by_graph:
                graphs.run(key, work)
            else:
                work()

        library.hand_over(packed(library, kernel, options["dtype"], values), values, run)


_GRAPHS: WeakKeyDictionary[Any, Graphs] = WeakKeyDictionary()


def graphs_of(library: Library) -> Graphs:
    """Return the graphs of a library's launches."""
    if library not in _GRAPHS:
        weak = proxy(library)  # or the library would be held for ever
        _GRAPHS[library] = Graphs(lambda work: weak.captured(work))
    return _GRAPHS[library]
