"""Damage to files, and what is counted and bounded while they are read: what the scripts ``corrupt_*.py`` share."""

from __future__ import annotations

import random
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

MOST_SECONDS = 10.0  # for a file
WORDS = (  # that mean something in JSON
    b'"', b"{", b"[", b"null", b"-1", b"1e999", b'"shape":[9223372036854775807]', b"9" * 40, b"9" * 5000, b"\\ud800",
    b"[" * 3000,
)  # fmt: skip


@dataclass
class Figures:
    """What was done and found. The last two must be empty, and the two before them bounded."""

    most_megabytes: ClassVar[int] = 256

    count: int = 0
    refused: int = 0
    megabytes: int = 0  # most memory, beyond what was taken before
    slowest: float = 0.0  # seconds
    wrong: list[str] = field(default_factory=list)  # loaded as something else
    raw_errors: dict[str, int] = field(default_factory=dict)

    def good(self) -> bool:
        """Whether nothing is wrong."""
        bounded = self.megabytes <= self.most_megabytes and self.slowest <= MOST_SECONDS
        return bounded and not self.wrong and not self.raw_errors

    @contextmanager
    def reading(self, how: str, refusal: type[Exception]) -> Iterator[None]:
        """Count a file that is read in the block, damaged as ``how`` says, and how that ends."""
        start = time.monotonic()
        self.count += 1
        try:
            yield
        except refusal:
            self.refused += 1
        except Exception as error:  # what must not be
            words = f"{type(error).__name__} of {how}: {error}"[:300]
            self.raw_errors[words] = self.raw_errors.get(words, 0) + 1
        self.slowest = max(self.slowest, round(time.monotonic() - start, 3))


def damaged(
    rng: random.Random, whole: bytes, ends: Sequence[int] = (), words: Sequence[bytes] = ()
) -> tuple[str, bytes]:
    """A way in which bytes are damaged, and the bytes.

    Parameters
    ----------
    ends : sequence of int, optional
        Before one of which the damage begins: it comes thicker where it is more dangerous. The end of all if omitted.
    words : sequence of bytes, optional
        What may come in the place of some bytes.
    """
    if not whole:
        return "nothing", b""
    data = bytearray(whole)
    end = rng.choice(ends or (len(data),))
    place, length = rng.randrange(end), rng.choice((1, 2, 8, 64, 512))
    piece = data[place : place + length]
    hows = ["flipped", "cut", "longer", "lost", "added", "moved", "doubled", "zeros", "ones", "noise", "number"]
    how = rng.choice([*hows, "words"] if words else hows)
    if how == "flipped":
        for _ in range(rng.choice((1, 1, 2, 8))):
            data[rng.randrange(end)] ^= 1 << rng.randrange(8)
    elif how == "cut":
        del data[place:]
    elif how == "longer":
        data += rng.randbytes(length)
    elif how == "lost":
        del data[place : place + length]
    elif how == "added":
        data[place:place] = rng.randbytes(length)
    elif how == "moved":
        del data[place : place + length]
        there = rng.randrange(len(data) + 1)
        data[there:there] = piece
    elif how == "doubled":
        data[place:place] = piece
    elif how == "number":
        number = rng.choice((2**64 - 1, 2**63 - 1, 0, place, rng.randrange(len(data)), rng.randrange(2**40)))
        data[place : place + 8] = number.to_bytes(8, "little")
    elif how == "words":
        data[place : place + rng.randrange(4)] = rng.choice(words)
    else:
        new = {"zeros": bytes(len(piece)), "ones": b"\xff" * len(piece), "noise": rng.randbytes(len(piece))}
        data[place : place + length] = new[how]
    return how, bytes(data)


def ends_of_safetensors(whole: bytes) -> tuple[int, int, int]:
    """Where the length of the header, the header and the whole end."""
    return 8, 8 + int.from_bytes(whole[:8], "little"), len(whole)


def any_json(rng: random.Random, words: Sequence[str], keys: Sequence[str], depth: int = 0) -> Any:
    """Any JSON, with some of these words and keys in it."""
    values: list[Callable[[], Any]] = [
        lambda: rng.choice((None, True, False, "", "x", "0", "\x00", "ü", "float64", *words, [], {}, 0, 1, -1)),
        lambda: rng.choice((0.5, -0.0, 1e-320, 1e308, 2**31, 2**63, 2**64, 2**200, 10**400, -(2**63))),
        lambda: rng.randrange(-5, 300),
        lambda: rng.random(),
    ]
    if depth < 3:
        values.append(lambda: [any_json(rng, words, keys, depth + 1) for _ in range(rng.randrange(4))])
        values.append(
            lambda: {rng.choice(keys): any_json(rng, words, keys, depth + 1) for _ in range(rng.randrange(4))}
        )
    return rng.choice(values)()


def megabytes() -> int:
    """The most memory that this process has had."""
    try:
        from resource import RUSAGE_SELF, getrusage
    except ImportError:  # Windows
        return 0
    return getrusage(RUSAGE_SELF).ru_maxrss // (1024 if sys.platform != "darwin" else 2**20)
