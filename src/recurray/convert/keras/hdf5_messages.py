"""What an HDF5 object's header says, message by message: see `recurray.convert.keras.hdf5`."""

from __future__ import annotations

from dataclasses import dataclass, field

from recurray.files import FormatError

MOST_NODES = 10**6  # of all trees and headers: each is read once, but a tree may lead back into itself
MOST_AXES = 32
DEFLATE, SHUFFLE = 1, 2
# Floating-point types by precision, place and size of exponent and of mantissa, and the exponent's bias
FLOATS: dict[tuple[int, ...], str] = {
    (16, 10, 5, 0, 10, 15): "f2",
    (32, 23, 8, 0, 23, 127): "f4",
    (64, 52, 11, 0, 52, 1023): "f8",
    (16, 7, 8, 0, 7, 127): "bfloat16",
}


class Bytes:
    """Bytes from which nothing is taken beyond their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._nodes = 0

    def __len__(self) -> int:
        return len(self._data)

    def take(self, at: int, size: int) -> bytes:
        """Some of them."""
        if at + size > len(self._data):
            raise FormatError(
                f"it is damaged or cut short: byte {at + size:,} is beyond its end at {len(self._data):,}"
            )
        return self._data[at : at + size]

    def number(self, at: int, size: int) -> int:
        """A number of some bytes, the lowest first, without a sign."""
        return int.from_bytes(self.take(at, size), "little")

    def until_zero(self, at: int) -> str:
        """A name that a zero ends."""
        end = self._data.find(b"\0", at)
        if end < 0:
            raise FormatError("a name is damaged")
        try:
            return self._data[at:end].decode()
        except UnicodeDecodeError as error:
            raise FormatError(f"a name isn't text: {error}") from error

    def count(self) -> None:
        """Count what is read in loops, which a damaged file may make endless."""
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise FormatError(f"it is damaged, or has more than {MOST_NODES:,} parts")


@dataclass(frozen=True)
class Type:
    """A type of elements: section IV.A.2.d."""

    size: int
    number: str | None = None  # NumPy's name, or bfloat16 after the order of its bytes
    text: bool = False
    spaced: bool = False  # a text that spaces fill up
    elsewhere: bool = False  # a text that is kept in a heap
    opaque: bool = False


@dataclass
class Object:
    """A group or an array."""

    links: dict[str, int | None] = field(default_factory=dict)  # addresses; None is a link to another place
    attributes: list[Bytes] = field(default_factory=list)
    shape: tuple[int, ...] | None = None
    type: Type | None = None
    layout: Bytes | None = None
    filters: tuple[int, ...] = ()
    outside: bool = False


def shape_of(message: Bytes) -> tuple[int, ...] | None:
    """A shape, None of nothing at all: section IV.A.2.b."""
    version, axes = message.number(0, 1), message.number(1, 1)
    if version not in (1, 2) or axes > MOST_AXES:
        raise FormatError("a shape is damaged")
    if version == 2 and message.number(3, 1) == 2:
        return None
    start = 8 if version == 1 else 4
    return tuple(message.number(start + 8 * axis, 8) for axis in range(axes))


def type_of(message: Bytes) -> Type:
    """The type of elements: section IV.A.2.d."""
    kind, bits, size = message.number(0, 1) & 15, message.number(1, 3), message.number(4, 4)
    if kind == 1:
        precision = message.number(10, 2)
        places = tuple(message.number(at, 1) for at in range(12, 16))
        name = FLOATS.get((precision, *places, message.number(16, 4)))
        if name is None or message.number(8, 2) or bits & 0x40 or size * 8 != precision:
            return Type(size)
        return Type(size, f"{'>' if bits & 1 else '<'}{name}")
    if kind == 3:
        return Type(size, text=True, spaced=bits & 15 == 2)
    if kind == 5:
        return Type(size, opaque=True)
    if kind == 9 and bits & 15 == 1 and size == 16:
        return Type(size, text=True, elsewhere=True)
    return Type(size)


def filters_of(message: Bytes) -> tuple[int, ...]:
    """The filters that chunks went through, in order: section IV.A.2.l."""
    version, count = message.number(0, 1), message.number(1, 1)
    at = 8 if version == 1 else 2
    found = []
    for _ in range(count):
        number = message.number(at, 2)
        named = version == 1 or number >= 256
        length = message.number(at + 2, 2) if named else 0
        at += 4 if named else 2
        values = message.number(at + 2, 2)
        at += 4 + (-(-length // 8) * 8 if version == 1 else length) + 4 * values
        at += 4 if version == 1 and values % 2 else 0
        if number not in (DEFLATE, SHUFFLE):
            raise FormatError(f"an array is compressed by HDF5's filter {number}, which isn't read: gzip is")
        found.append(number)
    return tuple(found)


def link_of(message: Bytes) -> tuple[str, int | None]:
    """A member of a group, by its name: section IV.A.2.g."""
    flags = message.number(1, 1)
    at = 2
    kind = message.number(at, 1) if flags & 8 else 0
    at += (1 if flags & 8 else 0) + (8 if flags & 4 else 0) + (1 if flags & 16 else 0)
    width = 1 << (flags & 3)
    length = message.number(at, width)
    name = Bytes(message.take(at + width, length) + b"\0").until_zero(0)
    return name, None if kind else message.number(at + width + length, 8)
