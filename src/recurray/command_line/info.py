"""``recurray info``: what runs here, and what is missing."""

from __future__ import annotations

import argparse
import platform
import shutil
import textwrap
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import numpy as np

import recurray
from recurray import blas, install
from recurray.command_line.output import say
from recurray.selector import backend_names, outlook, why_unavailable

_OPTIONAL = {  # package: (what it is for, the extra that installs it)
    "rich": ("the live display of recurray train", "train"),
    "onnx": ("ONNX files in recurray.convert", "onnx"),
    "torch": ("comparisons of recurray bench", "bench"),
    "threadpoolctl": ("the BLAS kernels shown here, and thread counts in recurray train and bench", "train"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments: there are none."""


def run(args: argparse.Namespace) -> int:
    """Print everything, and return the exit code."""
    advice = blas.advice()
    sections = {
        "": _versions(),
        "Backends": _backends(),
        "Engines of the numpy backend": list(_engines()),
        "CUDA devices": _cuda_devices(),
        **_outlooks(),
        "Optional packages": _packages(),
        "Advice": [] if advice is None else [("BLAS", advice)],
    }
    for title, rows in sections.items():
        if rows:
            say(f"\n{title}\n" if title else "")
            for name, value in rows:
                say(f"{'  ' if title else ''}{name:<14}{value}\n")
    return 0


def _versions() -> list[tuple[str, str]]:
    found = blas.in_use()
    more = f", {found.threads} threads" if found.kernels else ", kernels unknown"
    return [
        ("recurray", recurray.__version__),
        ("Python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("NumPy", f"{np.__version__}, BLAS {found}{more}"),
    ]


def _backends() -> list[tuple[str, str]]:
    rows = []
    for name in backend_names():
        reason = why_unavailable(name)
        rows.append((name, f"works, on {recurray.get_backend(name).describe()}" if reason is None else f"no: {reason}"))
    return rows


def _engines() -> Iterator[tuple[str, str]]:
    """What runs recurrences on NumPy arrays; the compiled engine where it is installed."""
    used = getattr(recurray.get_backend("numpy"), "engine", "numpy")
    found = sorted(metadata.entry_points(group="recurray.engines").names)
    for name in found:
        try:
            engine: Any = recurray.get_backend("numpy", engine=name)
        except recurray.BackendUnavailableError as error:
            yield name, f"no: {error}"
        else:
            yield name, f"{'in use' if used == name else 'not in use (RECURRAY_NATIVE)'}: {engine.description}"
    yield (
        "numpy",
        "in use for what a compiled engine can't run" if used != "numpy" else "in use: NumPy's own functions",
    )
    if "native" not in found:
        yield "native", f"missing: {install.NATIVE}  (a compiled engine, which is faster)"


def _cuda_devices() -> list[tuple[str, str]]:
    if "cupy" not in backend_names() or why_unavailable("cupy") is not None:
        return [("none", "that the cupy backend can use")]
    import cupy

    runtime = cupy.cuda.runtime
    rows = []
    for number in range(runtime.getDeviceCount()):
        properties = runtime.getDeviceProperties(number)
        memory = properties["totalGlobalMem"] / 2**30
        capability = f"{properties['major']}.{properties['minor']}"
        rows.append((str(number), f"{properties['name'].decode()}, {memory:.0f} GiB, compute capability {capability}"))
    return rows


def _outlooks() -> dict[str, list[tuple[str, str]]]:
    """What backends expect of their speed, in lines as wide as the terminal."""
    width = max(40, shutil.get_terminal_size().columns)
    found = {}
    for backend in backend_names():
        for title, rows in outlook(backend).items():
            lines = [(name, textwrap.fill(text, width - 16).replace("\n", "\n" + " " * 16)) for name, text in rows]
            found[textwrap.fill(title, width)] = lines
    return found


def _packages() -> list[tuple[str, str]]:
    rows = []
    for name, (purpose, extra) in _OPTIONAL.items():
        version = _version(name)
        missing = f"missing: {install.with_extra(extra)}"
        rows.append((name, f"{version or missing}  ({purpose})"))
    return rows


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
