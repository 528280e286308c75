"""PyTorch's pickles, read as data: nothing that they name is imported or called.

A pickle is a program for a machine with a stack. This one knows the instructions that build dictionaries, lists,
tuples, numbers and texts, and of the functions and classes that a program may name only those of `KNOWN`, whose work it
does itself: it makes a description of a tensor, which `recurray.convert.torch_file` checks and reads.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from recurray.files import FormatError

TYPES = {  # of storages: bytes of an element
    "FloatStorage": 4,
    "DoubleStorage": 8,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
_MOST_INSTRUCTIONS = 2_000_000  # some 50 make a tensor
_SAVE_ITS_STATE = "save its state_dict() instead: torch.save(model.state_dict(), path)"


@dataclass(frozen=True)
class Storage:
    """A run of elements of one type, which lies elsewhere in the file."""

    kind: str  # a name of TYPES
    key: str
    size: int  # elements


@dataclass(frozen=True)
class Tensor:
    """A view of a storage, as the pickle describes it; nothing of it has been checked."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


@dataclass(frozen=True)
class _Global:
    """A function or class, by its name."""

    name: str


class _Record(dict[Any, Any]):
    """An object of a class that TorchScript defines within its file: its attributes, by name."""


class _Mark:
    """Where on the stack a group of values begins."""


_MARK = _Mark()


def _tensor(*arguments: Any) -> Tensor:
    return Tensor(*arguments[:4])


def _first(value: Any, *_: Any) -> Any:
    return value


def _dictionary(items: Any = ()) -> dict[Any, Any]:
    made: dict[Any, Any] = {}
    _set_items(made, [part for item in items for part in _pair(item)])
    return made


def _pair(item: Any) -> tuple[Any, Any]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        raise FormatError("a dictionary's items aren't pairs")
    return item[0], item[1]


def _size(items: Any = ()) -> tuple[Any, ...]:
    return tuple(items)


# name: (what does its work, the least and the most number of arguments)
KNOWN: dict[str, tuple[Callable[..., Any], int, int]] = {
    "collections.OrderedDict": (_dictionary, 0, 1),
    "torch._utils._rebuild_tensor": (_tensor, 4, 4),
    "torch._utils._rebuild_tensor_v2": (_tensor, 4, 7),
    "torch._utils._rebuild_parameter": (_first, 3, 3),
    "torch.nn.parameter.Parameter": (_first, 1, 2),
    "torch.Size": (_size, 0, 1),
    "torch.jit._pickle.restore_type_tag": (_first, 2, 2),
    **{f"torch.jit._pickle.build_{kind}list": (_first, 1, 1) for kind in ("int", "double", "bool", "tensor")},
}


def read(file: io.BytesIO, *, script: bool = False) -> Any:
    """Read the pickle that begins where ``file`` stands, and leave ``file`` behind it.

    Parameters
    ----------
    file : io.BytesIO
        What to read from.
    script : bool
        Whether it is TorchScript's, in which objects of the classes that a program beside it defines are read as
        dictionaries of their attributes.

    Returns
    -------
    object
        Dictionaries, lists, tuples, sets as lists, numbers, texts, None, `Tensor` and `Storage`. They can contain
        each other in circles.

    Raises
    ------
    FormatError
        It isn't a pickle, or one that would do anything else.
    """
    machine = _Machine(script)
    try:
        for count, (instruction, argument, _) in enumerate(pickletools.genops(file)):
            if count == _MOST_INSTRUCTIONS:
                raise FormatError(f"its pickle has more than {_MOST_INSTRUCTIONS:,} instructions")
            machine.run(instruction.name, argument)
    except FormatError:
        raise
    except Exception as error:  # an instruction cut short, a text that isn't one, a stack that is empty
        raise FormatError(f"its pickle is damaged ({type(error).__name__})") from error
    return machine.result()


class _Machine:
    """The stack, and what is remembered to be used again."""

    def __init__(self, script: bool) -> None:
        self.script = script
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self.stack) != 1:
            raise FormatError("its pickle is damaged: it doesn't end with one value")
        return self.stack[0]

    def run(self, name: str, argument: Any) -> None:
        stack = self.stack
        if name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _LITERALS:
            stack.append(argument)
        elif name == "MARK":
            stack.append(_MARK)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            stack.append(self.memo[int(argument)])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[int(argument)] = stack[-1]
        elif name == "MEMOIZE":
            self.memo[len(self.memo)] = stack[-1]
        elif name == "POP":
            stack.pop()
        elif name == "POP_MARK":
            self.group()
        elif name in ("GLOBAL", "STACK_GLOBAL"):
            stack.append(self.named(argument))
        elif name in _BUILDERS:
            _BUILDERS[name](self)
        elif name not in ("PROTO", "FRAME", "STOP"):
            raise FormatError(f"its pickle has the instruction {name}, which no tensors need")

    def group(self) -> list[Any]:
        """Take from the stack what lies above the last mark."""
        stack = self.stack
        place = next(place for place in range(len(stack) - 1, -1, -1) if stack[place] is _MARK)
        taken = stack[place + 1 :]
        del stack[place:]
        return taken

    def named(self, argument: Any) -> _Global:
        if argument is None:
            own, module = self.stack.pop(), self.stack.pop()
        else:
            module, own = argument.split(" ", 1)
        if not isinstance(module, str) or not isinstance(own, str):
            raise FormatError("its pickle is damaged: a name isn't a text")
        name = f"{module}.{own}"[:200]
        known = name in KNOWN or (module in ("torch", "torch.storage") and own in TYPES)
        if not known and not (self.script and module.startswith("__torch__")):
            raise FormatError(
                f"it holds {name}, which isn't a plain tensor: to read it would be to import and run something, and "
                f"nothing of the file was run. Where PyTorch and that are installed, {_SAVE_ITS_STATE}"
            )
        return _Global(name)

    # Values from those that lie on the stack

    def reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        work = KNOWN.get(function.name) if isinstance(function, _Global) else None
        if work is None or not isinstance(arguments, tuple) or not work[1] <= len(arguments) <= work[2]:
            raise FormatError("its pickle is damaged: it calls what isn't a function, or with the wrong arguments")
        self.stack.append(work[0](*arguments))

    def new_object(self) -> None:
        arguments, kind = self.stack.pop(), self.stack.pop()
        if not isinstance(kind, _Global) or not kind.name.startswith("__torch__") or arguments != ():
            raise FormatError("its pickle is damaged: it makes an object of what isn't a class")
        self.stack.append(_Record())

    def build(self) -> None:
        """Set attributes: a record's are its content; an ordered dictionary's are the versions of modules."""
        attributes, target = self.stack.pop(), self.stack[-1]
        if not isinstance(target, dict):
            raise FormatError("its pickle is damaged: it sets attributes of what has none")
        if isinstance(target, _Record):
            if not isinstance(attributes, dict):
                raise FormatError("its pickle has an object that isn't described by its attributes")
            target.update(attributes)

    def storage(self) -> None:
        """What lies elsewhere in the file: ("storage", type, key, device, size), and in old files a view of it."""
        given = self.stack.pop()
        if not isinstance(given, tuple) or len(given) not in (5, 6) or given[0] != "storage":
            raise FormatError("its pickle is damaged: it refers to something that isn't a storage")
        _, kind, key, _, size, *view = given
        own = kind.name.rpartition(".")[2] if isinstance(kind, _Global) else None
        if own not in TYPES or not isinstance(key, str) or type(size) is not int or size < 0:
            raise FormatError("its pickle is damaged: it describes a storage wrongly")
        if view not in ([], [None]):
            raise FormatError(
                f"it has a view of a storage, as PyTorch before 0.4 wrote it: load it there, and {_SAVE_ITS_STATE}"
            )
        self.stack.append(Storage(own, key, size))

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set_items(self.stack[-1], [key, value])

    def set_items(self) -> None:
        items = self.group()
        _set_items(self.stack[-1], items)

    def dictionary(self) -> None:
        made: dict[Any, Any] = {}
        _set_items(made, self.group())
        self.stack.append(made)

    def append(self) -> None:
        value = self.stack.pop()
        self.extend([value])

    def appends(self) -> None:
        self.extend(self.group())

    def extend(self, values: list[Any]) -> None:
        if not isinstance(self.stack[-1], list):
            raise FormatError("its pickle is damaged: it adds to what isn't a list")
        self.stack[-1].extend(values)

    def list_(self) -> None:
        self.stack.append(self.group())

    def tuple_(self) -> None:
        self.stack.append(tuple(self.group()))

    def tuple_of(self, count: int) -> None:
        if len(self.stack) < count:
            raise FormatError("its pickle is damaged: a tuple has too few values")
        taken = self.stack[-count:]
        del self.stack[-count:]
        self.stack.append(tuple(taken))


_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_LITERALS = {
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
}
_BUILDERS: dict[str, Callable[[_Machine], None]] = {
    "REDUCE": _Machine.reduce,
    "NEWOBJ": _Machine.new_object,
    "BUILD": _Machine.build,
    "BINPERSID": _Machine.storage,
    "SETITEM": _Machine.set_item,
    "SETITEMS": _Machine.set_items,
    "DICT": _Machine.dictionary,
    "APPEND": _Machine.append,
    "APPENDS": _Machine.appends,
    "ADDITEMS": _Machine.appends,
    "LIST": _Machine.list_,
    "TUPLE": _Machine.tuple_,
    "TUPLE1": lambda machine: machine.tuple_of(1),
    "TUPLE2": lambda machine: machine.tuple_of(2),
    "TUPLE3": lambda machine: machine.tuple_of(3),
}


def _set_items(target: Any, items: list[Any]) -> None:
    """Put keys and values, which alternate, into a dictionary. Keys are simple: comparing them takes no time."""
    if not isinstance(target, dict) or len(items) % 2:
        raise FormatError("its pickle is damaged: it sets items of what isn't a dictionary")
    for key, value in zip(items[::2], items[1::2], strict=True):
        if not isinstance(key, (str, bytes, int, float, type(None))):
            raise FormatError("its pickle has a dictionary whose keys aren't texts or numbers")
        target[key] = value
