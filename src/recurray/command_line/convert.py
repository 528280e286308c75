"""``recurray convert``: a model of another library's becomes recurray's file, or the other way round."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import recurray
from recurray import convert
from recurray.command_line import options
from recurray.command_line.failure import Failure
from recurray.command_line.output import say
from recurray.convert import Converted, kind_of

_WRITERS = (".safetensors", ".onnx", ".json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "source",
        metavar="IN",
        type=options.path,
        help="the file to read: of recurray, PyTorch (.pt, .pth, .safetensors), Keras (.keras, .h5), ONNX or RTNeural "
        "(.json); what it is is told from its content",
    )
    parser.add_argument(
        "target",
        metavar="OUT",
        type=options.path,
        help="the file to write: .safetensors for recurray's own, .onnx, or .json for RTNeural's",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    parser.add_argument(
        "--prefix",
        action="append",
        metavar="NAME",
        help="of a PyTorch state dict, the layer whose params' names begin so; several, in their order, if given again",
    )
    parser.add_argument("--node", metavar="NAME", help="of an ONNX file, the recurrent node to take alone")
    parser.add_argument("--nonlinearity", metavar="NAME", help="the function of a PyTorch RNN, tanh or relu")
    parser.add_argument("--lengths", action="store_true", help="write an ONNX file with the rows' lengths as an input")
    parser.add_argument(
        "--no-state", action="store_true", help="write an ONNX file without states as inputs and outputs"
    )


def run(args: argparse.Namespace) -> int:
    """Convert, tell what was read, and return the exit code."""
    suffix = Path(args.target).suffix.lower()
    if suffix not in _WRITERS:
        raise Failure(f"OUT must end with {', '.join(_WRITERS)}, not {suffix or 'nothing'}", code=2)
    if Path(args.target).exists() and not args.force:
        raise Failure(f"{args.target} exists: give another OUT, or --force to replace it", code=2)
    try:
        converted = _read(args)
        _write(converted, args, suffix)
    except ImportError as error:
        raise Failure(str(error), code=2) from None
    except (ValueError, TypeError) as error:
        raise Failure(str(error)) from None
    say(f"{converted.report}\nwritten: {args.target}\n")
    return 0


def _read(args: argparse.Namespace) -> Converted:
    kind = kind_of(args.source)
    given: dict[str, Any] = {}
    if args.prefix is not None:
        given["prefix"] = args.prefix[0] if len(args.prefix) == 1 else args.prefix
    if args.node is not None:
        given["node"] = args.node
    if args.nonlinearity is not None:
        given["nonlinearity"] = args.nonlinearity
    allowed = {"torch": {"prefix", "nonlinearity"}, "onnx": {"node"}, "rtneural": {"prefix"}}.get(kind, set())
    if unknown := set(given) - allowed:
        raise Failure(f"--{', --'.join(sorted(unknown))}: {args.source} isn't a file that it is for", code=2)
    readers: dict[str, Callable[..., Converted]] = {
        "recurray": _own,
        "torch": convert.from_torch,
        "onnx": convert.from_onnx,
        "rtneural": convert.from_rtneural,
        "keras": _keras,
    }
    return readers[kind](args.source, **given)


def _keras(path: str) -> Converted:
    found = convert.from_keras(path)
    return Converted(found.model, tuple(found.before), tuple(found.after), found.report)


def _own(path: str) -> Converted:
    model = recurray.load(path)
    return Converted(model, (), (), f"{path}: {model!r}")


def _write(converted: Converted, args: argparse.Namespace, suffix: str) -> None:
    if (args.lengths or args.no_state) and suffix != ".onnx":
        raise Failure("--lengths and --no-state are for an OUT that ends with .onnx", code=2)
    if suffix == ".onnx":
        convert.to_onnx(converted.model, args.target, state=not args.no_state, lengths=args.lengths)
    elif suffix == ".json":
        convert.to_rtneural(converted.model, args.target)
    else:
        recurray.save(converted.model, args.target)
