"""``recurray inspect``: what a file holds, and what of it would load."""

from __future__ import annotations

import argparse
import json
import math
import shutil
import textwrap
from collections.abc import Iterator, Mapping
from inspect import Parameter, signature
from typing import Any

from recurray import architecture, convert, files, sealed
from recurray.command_line import options
from recurray.command_line.failure import Failure
from recurray.command_line.output import say
from recurray.convert import kinds
from recurray.language_model.model import FORMAT as CHARACTER_MODEL
from recurray.saving import FORMAT as MODEL

_MOST = 40  # arrays that are shown
_INDENT = "  "

Line = tuple[int, str]  # how far it stands in, and the text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "file",
        metavar="FILE",
        type=options.path,
        help="a file of recurray, PyTorch, Keras, ONNX or RTNeural; what it is is told from its content",
    )
    parser.add_argument("--all", action="store_true", help=f"show all arrays, not {_MOST} of them")


def run(args: argparse.Namespace) -> int:
    """Print what is in the file, and return the exit code."""
    width = max(20, shutil.get_terminal_size().columns)
    most = math.inf if args.all else _MOST
    try:
        kind = convert.kind_of(args.file)
        lines = [(0, f"{args.file}: {kinds.KINDS[kind]}"), *_LOOKS.get(kind, _foreign)(args.file, kind, most)]
    except ImportError as error:
        raise Failure(str(error), code=2) from None
    except OSError as error:
        raise Failure(files.reason(error)) from None
    except ValueError as error:
        raise Failure(str(error)) from None
    for depth, text in lines:
        say("\n".join(_wrapped(depth, text, width)) + "\n")
    return 0


def _wrapped(depth: int, text: str, width: int) -> list[str]:
    """Break a line, what goes on standing further in."""
    first = _INDENT * min(depth, 4)
    found = []
    for line in text.splitlines() or [""]:
        own = first + line[: len(line) - len(line.lstrip())][: width // 3]
        found += textwrap.wrap(
            line.strip(), width, initial_indent=own, subsequent_indent=own + _INDENT, break_on_hyphens=False
        ) or [""]
    return found


# recurray's own ------------------------------------------------------------------------------------------------------


def _own(path: str, kind: str, most: float) -> Iterator[Line]:
    tensors, content = sealed.load(path)
    if content.get("format") == MODEL:
        yield 1, f"a model, which recurray.load reads; written by {content.get('written_by')}"
        yield from _layer("", content.get("model"), 1)
        if content.get("metadata"):
            yield 1, f"metadata: {_json(content['metadata'])}"
    elif content.get("format") == CHARACTER_MODEL:
        yield 1, f"a {CHARACTER_MODEL}, which recurray sample and recurray train --resume read"
        yield 1, f"step: {_json(content.get('step'))}"
        yield 1, f"settings: {_json(content.get('settings'))}"
    else:
        yield 1, "of a form that this version doesn't know"
    yield 1, "intact: every digest is right"
    yield from _arrays(tensors, most)


def _layer(place: str, described: Any, depth: int) -> Iterator[Line]:
    """A layer of the description in the file, which isn't made."""
    if not isinstance(described, dict):
        return
    own = " (a class of the writer's own, to be handed in)" if described.get("own") else ""
    yield depth, f"{place}{_call('layer', described)}{own}"
    inside = described.get("layers")
    named = inside.get("mapping") if isinstance(inside, dict) else enumerate(inside if isinstance(inside, list) else [])
    for name, layer in named or ():
        yield from _layer(f"{name}: ", layer, depth + 1)


def _call(what: str, described: Mapping[str, Any]) -> str:
    """A layer, cell or function as its constructor's call, of recurray's own without what is as by default."""
    name, given = described.get(what), described.get("options")
    if not isinstance(name, str) or not isinstance(given, dict):
        return str(name)
    home = architecture.HOMES[what]
    kind = getattr(home, name) if name in home.__all__ and not described.get("own") else None
    defaults = {argument: own.default for argument, own in signature(kind).parameters.items()} if kind else {}
    names = [*(argument for argument in defaults if argument in given), *sorted(set(given) - set(defaults))]
    shown = [
        _told(given[argument]) if defaults.get(argument) is Parameter.empty else f"{argument}={_told(given[argument])}"
        for argument in (names if kind else given)
        if argument not in defaults or given[argument] != defaults[argument]
    ]
    return f"{name}({', '.join(shown)})"


def _told(value: Any) -> str:
    if isinstance(value, dict):
        for what in architecture.HOMES:
            if what in value:
                return _call(what, value)
        value = next(iter(value.values()), None)
    return _json(value)


def _json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 500 else f"{text[:497]}..."


# Others --------------------------------------------------------------------------------------------------------------


def _torch(path: str, kind: str, most: float) -> Iterator[Line]:
    yield from _arrays(convert.read_tensors(path), most)
    yield from _foreign(path, kind, most)


def _foreign(path: str, kind: str, most: float) -> Iterator[Line]:
    """What the file's reader makes of it."""
    reader = getattr(convert, f"from_{kind}", None)
    if reader is None:
        yield 1, "this version has no reader for it"
        return
    try:
        converted = reader(path)
    except ValueError as error:
        if kind != "torch":  # whose arrays are known to be readable
            raise
        yield 1, f"convert.from_{kind} doesn't load it as it is: {str(error).removeprefix(f'{path}: ')}"
        return
    yield 1, f"convert.from_{kind} loads:"
    yield 2, repr(converted.model)
    yield 1, converted.report


def _arrays(arrays: Mapping[str, Any], most: float) -> Iterator[Line]:
    count, size = (sum(getattr(array, what) for array in arrays.values()) for what in ("size", "nbytes"))
    yield 1, f"{len(arrays):,} arrays, {count:,} numbers, {size:,} bytes"
    for number, (name, array) in enumerate(arrays.items()):
        if number >= most:
            yield 2, f"and {len(arrays) - number:,} more; --all shows them"
            return
        yield 2, f"{name} {array.shape} {array.dtype}"


_LOOKS = {"recurray": _own, "torch": _torch}
