"""What the commands write: any text, to whatever standard output is, and no control characters to a terminal."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

# All but tab and line end; among them those that change the direction of what follows.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def say(text: str, to: TextIO | None = None) -> None:
    """Write text to standard output, or to the stream ``to``."""
    stream = to or sys.stdout
    stream.write(printable(text) if stream.isatty() else text)


def printable(text: str) -> str:
    r"""Return text with escapes in the place of control characters, which a file's name or a model may hold.

    Examples
    --------
    >>> from recurray.command_line.output import printable
    >>> print(printable("a\x1b[31mb\nc\u202e"))
    a\x1b[31mb
    c\u202e
    """
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Let standard streams that are closed lead nowhere, and the others take what their encoding lacks as escapes."""
    with ExitStack() as stack:
        for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
            stream = getattr(sys, name)
            if stream is None:
                # In this order each takes the number of the one that is closed, which a file would take otherwise.
                setattr(sys, name, stack.enter_context(Path(os.devnull).open(mode, encoding="utf-8")))
                stack.callback(setattr, sys, name, None)
            elif mode == "w" and hasattr(stream, "reconfigure"):
                stack.callback(stream.reconfigure, errors=stream.errors)
                stream.reconfigure(errors="backslashreplace")
        yield
