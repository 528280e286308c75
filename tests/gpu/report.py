"""The report that `gpu_check` writes as it goes, so that what has been found is there whatever happens after it."""

from __future__ import annotations

import json
import multiprocessing
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Report:
    """Writes report.md, anew after each line.

    Attributes
    ----------
    small : bool
        Whether this is to show that the script works, on problems of a few numbers, rather than what it finds.
    failed, done : list of str
        Titles of sections.
    """

    folder: Path
    deadline: float
    small: bool = False
    parts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def add(self, text: str) -> None:
        """Add a paragraph."""
        self._write("\n\n" * bool(self.parts) + text)

    def table(self, head: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> None:
        """Add a table; each row is there once it has been made."""
        self.add("\n".join(f"| {' | '.join(line)} |" for line in (head, ("---",) * len(head))))
        for row in rows:
            self._write(f"\n| {' | '.join(map(str, row))} |")

    def _write(self, text: str) -> None:
        self.parts.append(text)
        whole = self.folder / "report.md"
        fresh = whole.with_suffix(".new")
        fresh.write_text("".join(self.parts) + "\n")
        fresh.replace(whole)
        print(text.removeprefix("\n"), flush=True)

    def save(self, name: str, what: Any) -> None:
        """Write numbers to a file beside the report."""
        fresh = self.folder / f"{name}.new"
        fresh.write_text(json.dumps(what, indent=1) + "\n")
        fresh.replace(self.folder / name)

    def apart(self, work: Callable[..., None], *args: Any, seconds: float = 120.0) -> None:
        """Do a section's work in a process of its own, as after an error on the GPU one is often good for nothing."""
        context = multiprocessing.get_context("fork")  # nothing here has touched the GPU
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_work_apart, args=(send, self, work, args))
        process.start()
        send.close()
        until = min(time.monotonic() + seconds, self.deadline)
        error = "its process has ended without a word"
        try:
            while True:
                if not receive.poll(max(0.0, until - time.monotonic())):
                    error = f"not done in {seconds:.0f} s, or by the end"
                    break
                kind, text = receive.recv()
                if kind == "done":
                    return
                if kind == "error":
                    error = text
                    break
                self._write(text)
        except EOFError:
            pass
        finally:
            process.kill()
            process.join()
        raise RuntimeError(error)

    @contextmanager
    def section(self, title: str) -> Iterator[None]:
        """A section. A failure in it is reported, and ends it alone; so does the end of the time."""
        self.add(f"## {title}")
        began = time.monotonic()
        try:
            yield
        except Exception:
            self.failed.append(title)
            self.add(f"FAILED:\n\n```\n{traceback.format_exc()[-4000:]}```")
        else:
            self.done.append(title)
        self.add(f"({time.monotonic() - began:.0f} s)")


class _Sent(Report):
    """A report whose text another process adds to its own."""

    def __init__(self, send: Any, report: Report) -> None:
        super().__init__(report.folder, report.deadline, report.small, ["..."])
        self.send = send

    def _write(self, text: str) -> None:
        self.send.send(("text", text))


def _work_apart(send: Any, report: Report, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        work(_Sent(send, report), *args)
        send.send(("done", ""))
    except BaseException:
        send.send(("error", traceback.format_exc()[-4000:]))
