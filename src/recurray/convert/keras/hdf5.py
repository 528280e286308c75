"""What Keras keeps in HDF5 (groups, attributes of text, arrays of floating-point numbers), read from a file's bytes.

HDF5's own library crashes on damaged files; this reads the part of the format that Keras writes, trusts no number in a
file, and takes memory for what the file holds alone. What would lead out of the file is refused.

The format is "HDF5 File Format Specification Version 3.0", The HDF Group, whose sections the comments name. In all of
it, addresses and lengths have eight bytes.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.convert.keras.hdf5_messages import (
    MOST_NODES,
    SHUFFLE,
    Bytes,
    Object,
    Type,
    filters_of,
    link_of,
    shape_of,
    type_of,
)
from recurray.files import FormatError
from recurray.messages import in_words, shown

SIGNATURE = b"\x89HDF\r\n\x1a\n"
UNDEFINED = 2**64 - 1
FREE = 2**26  # bytes that the arrays of any file may have
EXPANSION = 16  # how many times larger than the file all its arrays may be, beyond that
MOST_TEXT = 2**26  # bytes of one attribute
# Messages of an object's header
SPACE, LINK_INFO, TYPE, LINK, EXTERNAL, LAYOUT = 0x01, 0x02, 0x03, 0x06, 0x07, 0x08
FILTERS, ATTRIBUTE, CONTINUED, SYMBOLS, ATTRIBUTE_INFO = 0x0B, 0x0C, 0x10, 0x11, 0x15


class Hdf5:
    """An HDF5 file.

    Parameters
    ----------
    data : bytes
        All of the file.

    Raises
    ------
    FormatError
        From any method: it isn't such a file, is damaged, or holds what isn't read.
    """

    def __init__(self, data: bytes) -> None:
        self._bytes = Bytes(data)
        self._left = FREE + EXPANSION * len(data)
        self._objects: dict[int, Object] = {}
        self._root = self._start()

    def has(self, path: str) -> bool:
        """Whether there is a group or an array."""
        return self._find(path) is not None

    def names(self, path: str) -> list[str]:
        """What a group holds; nothing if it isn't there."""
        found = self._find(path)
        return [] if found is None else list(found.links)

    def text(self, path: str, name: str) -> str | None:
        """An attribute that is a text; None if it isn't there."""
        found = self._attribute(path, name)
        if found is not None and len(found) != 1:
            raise FormatError(f"the attribute {name} of {shown(path)} must be one text, not {len(found)}")
        return None if found is None else found[0]

    def texts(self, path: str, name: str) -> list[str] | None:
        """An attribute that is a list of texts, in numbered pieces where it is long; None if it isn't there."""
        found = self._attribute(path, name)
        if found is not None:
            return found
        pieces: list[str] = []
        number = 0
        while (more := self._attribute(path, f"{name}{number}")) is not None:
            pieces += more
            number += 1
        return pieces if number else None

    def array(self, path: str) -> NDArray[Any]:
        """An array of floating-point numbers.

        Raises
        ------
        FormatError
            It isn't there, isn't floating-point, lies outside the file, or is too large for it.
        """
        what = f"the array {shown(path)}"
        found = self._find(path)
        if found is None or found.layout is None or found.shape is None or found.type is None:
            raise FormatError(f"{what} is missing")
        name, item = found.type.number, found.type.size
        if found.type.opaque and item == 2 and self._attribute(path, "dtype") == ["bfloat16"]:
            name = "<bfloat16"
        if name is None:
            raise FormatError(f"{what} must be of floating-point numbers of 2, 4 or 8 bytes")
        if found.outside:
            raise FormatError(f"{what} lies in another file, which isn't opened")
        size = math.prod(found.shape) * item
        if size > self._left:
            raise FormatError(f"{what} of shape {in_words(found.shape)} is far larger than its file")
        self._left -= size
        values = self._values(what, found.layout, found.shape, found.filters, item)
        if name.endswith("bfloat16"):  # the upper half of a float32
            halves = values.view(f"{name[0]}u2").astype(np.uint32)
            return (halves << 16).view(np.float32).reshape(found.shape)
        return values.view(name).astype(name[1:], copy=False).reshape(found.shape)

    # Objects ----------------------------------------------------------------------------------------------------------

    def _start(self) -> Object:
        """The root group, from the superblock: section II.A."""
        data = self._bytes
        if data.take(0, 8) != SIGNATURE:
            raise FormatError("it isn't an HDF5 file")
        version = data.number(8, 1)
        if version in (0, 1):
            sizes, base = 13, 24 + 4 * version
            root = base + 32 + 8  # after four addresses, a name's offset
        elif version in (2, 3):
            sizes, base, root = 9, 12, 36
        else:
            raise FormatError(f"its HDF5 superblock is of version {version}, which isn't read")
        if data.take(sizes, 2) != b"\x08\x08" or data.number(base, 8):
            raise FormatError("its HDF5 addresses aren't of eight bytes from the file's beginning")
        return self._object(data.number(root, 8))

    def _find(self, path: str) -> Object | None:
        """The object at a path of names; None if there is none."""
        at = self._root
        for name in filter(None, path.split("/")):
            if name not in at.links:
                return None
            address = at.links[name]
            if address is None:
                raise FormatError(f"{shown(path)} is a link to another place, which isn't followed")
            at = self._object(address)
        return at

    def _object(self, address: int) -> Object:
        if address not in self._objects:
            self._objects[address] = made = Object()
            for kind, at, size, shared in self._messages(address):
                self._add(made, kind, Bytes(self._bytes.take(at, size)), shared)
        return self._objects[address]

    def _messages(self, address: int) -> Iterator[tuple[int, int, int, bool]]:
        """The messages of an object's header: kind, place, size, and whether it stands elsewhere. Section IV.A.1."""
        data = self._bytes
        newer = data.take(address, 4) == b"OHDR"
        blocks: list[tuple[int, int]] = []
        ordered = 0
        if newer:
            flags = data.number(address + 5, 1)
            at = address + 6 + (16 if flags & 0x20 else 0) + (4 if flags & 0x10 else 0)
            width = 1 << (flags & 3)
            blocks.append((at + width, data.number(at, width)))
            ordered = 2 if flags & 4 else 0
        elif data.number(address, 1) == 1:
            blocks.append((address + 16, data.number(address + 8, 4)))
        else:
            raise FormatError("an object's header is damaged")
        head = 4 + ordered if newer else 8
        total = 0
        for at, size in blocks:  # which grows
            end = at + size
            total += size
            if total > len(data):
                raise FormatError("an object's header is damaged: it leads back into itself")
            while at + head <= end:
                data.count()
                if newer:
                    kind, length, flags = data.number(at, 1), data.number(at + 1, 2), data.number(at + 3, 1)
                else:
                    kind, length, flags = data.number(at, 2), data.number(at + 2, 2), data.number(at + 4, 1)
                at += head
                if at + length > end:
                    raise FormatError("an object's header is damaged")
                if kind == CONTINUED:
                    there, extent = data.number(at, 8), data.number(at + 8, 8)
                    if newer and data.take(there, 4) != b"OCHK":
                        raise FormatError("an object's header is damaged")
                    blocks.append((there + 4, extent - 8) if newer else (there, extent))
                yield kind, at, length, bool(flags & 2)
                at += length

    def _add(self, made: Object, kind: int, message: Bytes, shared: bool) -> None:
        """Take a message of an object's header into account: sections IV.A.2.b and following."""
        if shared and kind in (SPACE, TYPE, FILTERS, ATTRIBUTE):
            raise FormatError("an object's header shares its messages with others, which isn't read")
        if kind == SPACE:
            made.shape = shape_of(message)
        elif kind == TYPE:
            made.type = type_of(message)
        elif kind == LAYOUT:
            made.layout = message
        elif kind == FILTERS:
            made.filters = filters_of(message)
        elif kind == EXTERNAL:
            made.outside = True
        elif kind == ATTRIBUTE:
            made.attributes.append(message)
        elif kind == SYMBOLS:
            self._symbols(made, message.number(0, 8), self._heap(message.number(8, 8)))
        elif kind == LINK:
            name, address = link_of(message)
            made.links[name] = address
        elif kind in (LINK_INFO, ATTRIBUTE_INFO):
            at = 2 + ((8 if kind == LINK_INFO else 2) if message.number(1, 1) & 1 else 0)
            if message.number(at, 8) != UNDEFINED:
                raise FormatError(
                    "names are kept as only the newest HDF5 files have them, which isn't read: h5repack helps"
                )

    # Groups -----------------------------------------------------------------------------------------------------------

    def _heap(self, address: int) -> Bytes:
        """The names of a group: section III.D."""
        data = self._bytes
        if data.take(address, 4) != b"HEAP":
            raise FormatError("a group's names are damaged")
        return Bytes(data.take(data.number(address + 24, 8), data.number(address + 8, 8)))

    def _symbols(self, made: Object, tree: int, names: Bytes) -> None:
        """The members of a group: sections III.A.1 and III.B."""
        data = self._bytes
        for _, address in self._leaves(tree, kind=0, key=8):
            if data.take(address, 4) != b"SNOD":
                raise FormatError("a group is damaged")
            for at in range(address + 8, address + 8 + 40 * data.number(address + 6, 2), 40):
                data.count()
                name = names.until_zero(data.number(at, 8))
                linked = data.number(at + 16, 4) == 2
                made.links[name] = None if linked else data.number(at + 8, 8)

    def _leaves(self, tree: int, kind: int, key: int, deep: int = 16) -> Iterator[tuple[int, int]]:
        """Where the keys and what they are of stand, in the order of a tree: section III.A.1."""
        data = self._bytes
        data.count()
        if not deep or data.take(tree, 4) != b"TREE" or data.number(tree + 4, 1) != kind:
            raise FormatError("a tree of addresses is damaged")
        level, used = data.number(tree + 5, 1), data.number(tree + 6, 2)
        for at in range(tree + 24, tree + 24 + used * (key + 8), key + 8):
            address = data.number(at + key, 8)
            if level:
                yield from self._leaves(address, kind, key, deep - 1)
            else:
                data.count()
                yield at, address

    # Attributes -------------------------------------------------------------------------------------------------------

    def _attribute(self, path: str, name: str) -> list[str] | None:
        """The texts of an attribute; None if it isn't there. Section IV.A.2.m."""
        found = self._find(path)
        for message in found.attributes if found is not None else ():
            version = message.number(0, 1)
            if version not in (1, 2, 3):
                raise FormatError(f"an attribute of {shown(path)} is damaged")
            sizes = [message.number(at, 2) for at in (2, 4, 6)]
            step = [-(-size // 8) * 8 for size in sizes] if version == 1 else sizes
            at = 9 if version == 3 else 8
            if message.until_zero(at) != name:
                continue
            if version > 1 and message.number(1, 1) & 3:
                raise FormatError(f"the attribute {name} of {shown(path)} is of a type that is kept elsewhere")
            kind = type_of(Bytes(message.take(at + step[0], sizes[1])))
            shape = shape_of(Bytes(message.take(at + step[0] + step[1], sizes[2])))
            return self._texts(f"the attribute {name} of {shown(path)}", kind, shape, message, at + sum(step))
        return None

    def _texts(self, what: str, kind: Type, shape: tuple[int, ...] | None, message: Bytes, at: int) -> list[str]:
        if shape is None or 0 in shape:  # an empty list is stored as one of numbers
            return []
        if not kind.text:
            raise FormatError(f"{what} must be text")
        found: list[str] = []
        total = 0
        for place in range(math.prod(shape)):
            self._bytes.count()
            start = at + place * kind.size
            part = message.take(start, kind.size)
            if kind.elsewhere:
                length, address, index = struct.unpack("<IQI", part)
                part = self._of_heap(address, index, length) if length else b""
            total += len(part)
            if total > MOST_TEXT:
                raise FormatError(f"{what} is too long")
            text = part.rstrip(b" ") if kind.spaced else part.partition(b"\0")[0]
            try:
                found.append(text.decode())
            except UnicodeDecodeError as error:
                raise FormatError(f"{what} isn't text: {error}") from error
        return found

    def _of_heap(self, address: int, index: int, length: int) -> bytes:
        """An object of a global heap: section III.E."""
        data = self._bytes
        if data.take(address, 4) != b"GCOL":
            raise FormatError("a text is damaged")
        at, end = address + 16, address + data.number(address + 8, 8)
        while at + 16 <= end:
            data.count()
            number, size = data.number(at, 2), data.number(at + 8, 8)
            if number == index and number:
                if length > size:
                    break
                return data.take(at + 16, length)
            if not number:
                break
            at += 16 + -(-size // 8) * 8
        raise FormatError("a text is damaged")

    # Arrays -----------------------------------------------------------------------------------------------------------

    def _values(
        self, what: str, layout: Bytes, shape: tuple[int, ...], filters: tuple[int, ...], item: int
    ) -> NDArray[Any]:
        """An array's bytes, in order: section IV.A.2.i."""
        size = math.prod(shape) * item
        version, kind = layout.number(0, 1), layout.number(1, 1)
        if version not in (3, 4) or kind > 2 or (version == 4 and kind == 2):
            raise FormatError(f"{what} is kept in a way that isn't read: h5repack helps")
        if kind == 2:
            return self._from_chunks(what, layout, shape, filters, item)
        if filters:
            raise FormatError(f"{what} is damaged: it is compressed, but not in chunks")
        if kind == 0:
            held, data = layout.number(2, 2), layout.take(4, layout.number(2, 2))
        else:
            address, held = layout.number(2, 8), layout.number(10, 8)
            if address == UNDEFINED and size:
                raise FormatError(f"{what} was never written")
            data = self._bytes.take(address, size) if size else b""
        if held != size:
            raise FormatError(f"{what} of shape {in_words(shape)} has {held} bytes in place of {size}")
        return np.frombuffer(data, np.uint8)

    def _from_chunks(
        self, what: str, layout: Bytes, shape: tuple[int, ...], filters: tuple[int, ...], item: int
    ) -> NDArray[Any]:
        """Put chunks together, none of which is unpacked beyond a chunk's size."""
        axes = layout.number(2, 1) - 1
        chunk = tuple(layout.number(11 + 4 * axis, 4) for axis in range(axes))
        size = math.prod(chunk) * item
        if axes != len(shape) or not size or size > FREE:
            raise FormatError(f"{what} is damaged: chunks of shape {in_words(chunk)} in an array of {in_words(shape)}")
        counts = [-(-axis // step) for axis, step in zip(shape, chunk, strict=True)]
        if math.prod(counts) > MOST_NODES:
            raise FormatError(f"{what} has more than {MOST_NODES:,} chunks")
        missing = {
            tuple(place * step for place, step in zip(index, chunk, strict=True)) for index in np.ndindex(*counts)
        }
        values = np.empty((*shape, item), np.uint8)
        for key, address in self._leaves(layout.number(3, 8), kind=1, key=8 + 8 * (axes + 1)):
            stored, skipped = self._bytes.number(key, 4), self._bytes.number(key + 4, 4)
            offset = tuple(self._bytes.number(key + 8 + 8 * axis, 8) for axis in range(axes))
            if offset not in missing:
                raise FormatError(f"{what} is damaged: it has a chunk twice, or outside")
            missing.remove(offset)
            part = self._bytes.take(address, stored)
            for number, name in reversed(list(enumerate(filters))):
                if not skipped >> number & 1:
                    part = _undone(what, name, part, size, item)
            if len(part) != size:
                raise FormatError(f"{what} is damaged: a chunk has {len(part)} bytes in place of {size}")
            within = tuple(slice(at, min(at + step, axis)) for at, step, axis in zip(offset, chunk, shape, strict=True))
            kept = tuple(slice(0, cut.stop - cut.start) for cut in within)
            values[within] = np.frombuffer(part, np.uint8).reshape(*chunk, item)[kept]
        if missing:
            raise FormatError(f"{what} isn't whole: {len(missing)} chunks are missing")
        return values.reshape(-1)


def _undone(what: str, number: int, data: bytes, size: int, item: int) -> bytes:
    """Undo one filter of a chunk of ``size`` bytes, of items of ``item`` bytes."""
    if number == SHUFFLE:
        whole = len(data) // item * item
        return np.frombuffer(data[:whole], np.uint8).reshape(item, -1).T.tobytes() + data[whole:]
    try:
        inflated = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error as error:
        raise FormatError(f"{what} is damaged: {error}") from error
    if len(inflated) > size:
        raise FormatError(f"{what} is damaged: a chunk is compressed from more bytes than it has")
    return inflated
