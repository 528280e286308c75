"""What several ranks that train one model do together; one alone does nothing of it."""

from __future__ import annotations

import functools
import hashlib
import json
import pickle
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, ParamSpec, TypeVar

import numpy as np

from recurray.arrays import to_numpy
from recurray.parallel import Communicator, MPICommunicator, as_communicator
from recurray.training import checkpoint
from recurray.training.batch import Generator
from recurray.training.checkpoint import Arrays
from recurray.training.pieces import Piece
from recurray.training.share import ALONE, Share
from recurray.training.update import Learned

P = ParamSpec("P")
R = TypeVar("R")


class Ranks:
    """The ranks as a training sees them.

    Parameters
    ----------
    communicator : Communicator
        Between them.
    """

    def __init__(self, communicator: Communicator) -> None:
        self._communicator = communicator
        self.alone = communicator.size == 1
        self.leads = communicator.rank == 0  # whether this one writes files, and draws the progress

    @property
    def signals(self) -> tuple[str, ...]:
        """What asks to stop; mpiexec passes Ctrl-C on as one or the other."""
        return ("SIGINT",) if self.alone else ("SIGINT", "SIGTERM")

    @property
    def share(self) -> Share:
        """Which rows of a batch are this rank's."""
        return ALONE if self.alone else Share(self._communicator.rank, self._communicator.size, self.check_same)

    def draws(self, rng: Generator) -> Generator:
        """A generator of this rank's for one call; ``rng`` stays the same on all ranks."""
        if self.alone:
            return rng
        return np.random.default_rng([int(rng.integers(2**63)), self._communicator.rank])

    def joined(self, learned: Learned, piece: Piece, *, last: bool) -> Learned:
        """What all ranks' parts of a batch say, as one: means by what counts on each rank.

        Raises
        ------
        ValueError
            The ranks' batches differ in the number of their rows, or end elsewhere.
        """
        if self.alone:
            return learned
        value, grads, weight, metrics, _ = learned
        rows = float(piece.batch.whole.rows if piece.batch.whole is not None else 0)
        means = [float(value), *map(float, metrics.values())]
        own = [number * weight if weight else 0.0 for number in means]
        total, all_rows, squares, ends, *sums = self._communicator.sums([weight, rows, rows * rows, float(last), *own])
        size = self._communicator.size
        if all_rows * all_rows != size * squares or ends not in (0, size):
            raise ValueError(
                "the ranks' batches differ in their rows or in their number: data must be the same on all ranks, whole "
                "batches, of which each rank takes its share"
            )
        means = [number / total if total else 0.0 for number in sums]
        grads = self._communicator.total(grads, weight / total if total else 0.0)
        return Learned(means[0], grads, total, dict(zip(metrics, means[1:], strict=True)))

    def sums(self, numbers: Sequence[float]) -> Sequence[float]:
        """Sums over all ranks."""
        return numbers if self.alone else self._communicator.sums(numbers)

    def any(self, flag: bool) -> bool:
        """Whether a flag is set on one rank at least."""
        return flag if self.alone else self._communicator.sums([float(flag)])[0] > 0

    def first(self, number: float) -> float:
        """The number that rank 0 has."""
        return number if self.alone else float(json.loads(self._communicator.broadcast(json.dumps(number).encode())))

    def found(self, text: str | None) -> str | None:
        """What the first rank that has found something says, and which rank that is."""
        if self.alone:
            return text
        for rank, said in enumerate(self._communicator.gather((text or "").encode())):
            if said:
                return f"{said.decode()} of rank {rank}'s part"
        return None

    def flat(self, state: Any, arrays: Arrays) -> Any:
        """Put the states that all ranks carry among ``arrays``, and return their form."""
        if self.alone:
            return checkpoint.flat(state, arrays)
        own: Arrays = {}
        form = checkpoint.flat(state, own, f"{checkpoint.STATE}{self._communicator.rank}.")
        forms = []
        for told in self._communicator.gather(pickle.dumps((form, own))):
            form, found = pickle.loads(told)  # noqa: S301 - from a rank of this training
            forms.append(form)
            arrays |= found
        return {"ranks": forms}

    def unflat(self, form: Any, arrays: Arrays, asarray: Callable[[Any], Any], goes_on: bool) -> Any:
        """Make this rank's state of what `flat` returned; it isn't needed where the next rows begin anew."""
        by_rank = isinstance(form, Mapping) and "ranks" in form
        forms = form["ranks"] if by_rank else [form]
        if len(forms) == self._communicator.size:
            return checkpoint.unflat(forms[self._communicator.rank], arrays, asarray)
        if goes_on:
            raise ValueError(
                f"the checkpoint holds the states that {len(forms)} ranks carried amid an epoch: go on with as many, "
                f"not {self._communicator.size}"
            )
        return None

    def check_same(self, facts: Mapping[str, Any]) -> None:
        """Refuse what differs between ranks; arrays are compared by their digests."""
        if not self.alone:
            self._communicator.check_same({name: _told(value) for name, value in facts.items()})


def together(call: Callable[P, R]) -> Callable[P, R]:
    """Make of a call with ``communicator=`` one that ends on all ranks where it fails on one."""

    @functools.wraps(call)
    def guarded(*args: P.args, **options: P.kwargs) -> R:
        given = options.get("communicator")
        communicator = as_communicator(given)
        options["communicator"] = communicator
        with communicator.together():
            result = call(*args, **options)
        if isinstance(communicator, MPICommunicator) and communicator is not given:
            communicator.close()
        return result

    return guarded


def _told(value: Any) -> str:
    """A value in words that are the same in each process."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        array = np.ascontiguousarray(to_numpy(value))
        digest = hashlib.blake2b(array.tobytes(), digest_size=6).hexdigest()
        return f"{array.dtype} {tuple(array.shape)} with the digest {digest}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_told(part)}" for name, part in value.items())
    if is_dataclass(value) and not isinstance(value, type):
        parts = ", ".join(f"{field.name}={_told(getattr(value, field.name))}" for field in fields(value))
        return f"{type(value).__name__}({parts})"
    if value is None or isinstance(value, (bool, int, float, str, tuple, list)):
        return repr(value)
    return getattr(value, "__qualname__", None) or type(value).__qualname__
