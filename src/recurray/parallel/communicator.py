"""What ranks need of each other, and the communicator of one that is alone."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from recurray import checks
from recurray.arrays import Array, namespace_of


class ParallelError(RuntimeError):
    """Another rank doesn't answer."""


class Communicator(ABC):
    """Ranks that train one model together: each has one, and all call the same methods in the same order.

    Attributes
    ----------
    rank : int
        This rank's number, from 0 on.
    size : int
        How many ranks there are.
    """

    rank: int
    size: int

    @abstractmethod
    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the sums over all ranks, in float64, as many as there are numbers."""

    @abstractmethod
    def total(self, arrays: Mapping[str, Array], share: float) -> dict[str, Array]:
        """Return the sums over all ranks of arrays times the rank's share: the same bits on each.

        Parameters
        ----------
        arrays : mapping of str to array
            Gradients: the same names, shapes and dtypes on each rank.
        share : float
            Of all that counts, what counts on this rank. Where it is 0 the arrays aren't read, and may hold NaN.
        """

    @abstractmethod
    def gather(self, text: bytes) -> list[bytes]:
        """Return what each rank has given, in their order, on all ranks."""

    def broadcast(self, text: bytes) -> bytes:
        """Return what rank 0 has given, on all ranks."""
        return self.gather(text if self.rank == 0 else b"")[0]

    def barrier(self) -> None:
        """Return when all ranks have come here."""
        self.gather(b"")

    def check_same(self, facts: Mapping[str, str]) -> None:
        """Refuse, on all ranks, facts that aren't the same on all.

        Raises
        ------
        ValueError
            With the name of the first that differs, and what which ranks have.
        """
        found = [json.loads(text) for text in self.gather(json.dumps(dict(facts)).encode())]
        for name in dict.fromkeys(name for each in found for name in each):
            ranks: dict[str, list[int]] = {}
            for rank, each in enumerate(found):
                ranks.setdefault(each.get(name, "none"), []).append(rank)
            if len(ranks) > 1:
                said = "; ".join(f"{value} on rank {', '.join(map(str, which))}" for value, which in ranks.items())
                raise ValueError(f"the ranks differ in {name}: {said}")

    @contextmanager
    def together(self) -> Iterator[None]:
        """Within this, an exception that not all ranks raise ends all of them, with a message."""
        try:
            yield
        except BaseException as error:
            self.failed(error)
            raise

    @abstractmethod
    def failed(self, error: BaseException) -> None:
        """Return where all ranks have failed by now, and each can raise what it has; else end all."""


class Serial(Communicator):
    """One rank, alone.

    Examples
    --------
    >>> import recurray as rr
    >>> alone = rr.parallel.Serial()
    >>> alone.rank, alone.size, alone.sums([1.0, 2.0])
    (0, 1, [1.0, 2.0])
    """

    rank, size = 0, 1

    def sums(self, numbers: Sequence[float]) -> list[float]:
        """Return the numbers."""
        return list(numbers)

    def total(self, arrays: Mapping[str, Array], share: float) -> dict[str, Array]:
        """Return the arrays times the share: themselves where that is 1."""
        share = checks.finite("share", share)
        if share == 1:
            return dict(arrays)
        if not share:
            return {name: namespace_of(value).zeros_like(value) for name, value in arrays.items()}
        return {name: value * share for name, value in arrays.items()}

    def gather(self, text: bytes) -> list[bytes]:
        """Return the one text."""
        return [text]

    def failed(self, error: BaseException) -> None:
        """Leave the exception to whoever called."""
