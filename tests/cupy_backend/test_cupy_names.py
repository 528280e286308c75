"""What the CuPy backend, and the tests of it, take from CuPy is there under that name. No GPU is needed, only CuPy.

Names are found in the text: what is reached from ``cupy`` through attributes, directly or by way of a local name. What
is an attribute of an object (an array, a stream, an event) is looked for on its class.
"""

from __future__ import annotations

import ast
import importlib
import inspect
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.cuda.fake_cupy import FakeCupy, differences, machine
from harness.needs import need
from recurray_cupy.library import Device

ROOT = Path(__file__).resolve().parents[2]
FILES = [*sorted((ROOT / "backends" / "recurray_cupy").rglob("*.py")), *sorted((ROOT / "tests").rglob("*.py"))]
# What isn't called cupy, but is it or a part of it.
ROOTS = {
    "backends/recurray_cupy": {"xp": "cupy", "self.xp": "cupy", "library.xp": "cupy", "self._library.xp": "cupy"},
    "backends/recurray_cupy/backend.py": {"self._cupy": "cupy"},
}
# Of an object that a call of CuPy's returns: the class whose attributes it has.
RETURNED = {
    "cupy.cuda.Device": "cupy.cuda.Device",
    "cupy.cuda.Stream": "cupy.cuda.Stream",
    "cupy.cuda.Event": "cupy.cuda.Event",
    "cupy.cuda.get_current_stream": "cupy.cuda.Stream",
    "cupy.RawKernel": "cupy.RawKernel",
    "cupy.get_default_memory_pool": "cupy.cuda.MemoryPool",
    "cupy.cuda.MemoryPool": "cupy.cuda.MemoryPool",
    "cupy.empty": "cupy.ndarray",
    "cupy.asarray": "cupy.ndarray",
    "cupy.ascontiguousarray": "cupy.ndarray",
}
OF_OBJECTS = {"cupy.cuda.Stream.ptr"}  # what a class doesn't show, as each object is given it when it is made


class Uses(ast.NodeVisitor):
    """The dotted names from ``cupy`` on that a file uses, each with its line."""

    def __init__(self, roots: dict[str, str]) -> None:
        self.known, self.found = dict(roots), dict[str, int]()

    def chain(self, node: ast.expr) -> str | None:
        """What an expression is called from ``cupy`` on; None if it isn't reached from there."""
        if isinstance(node, ast.Call):
            called = self.chain(node.func)
            return RETURNED.get(called or "")
        if isinstance(node, ast.Name):
            return self.known.get(node.id)
        if isinstance(node, ast.Attribute):
            own = self.known.get(ast.unparse(node))
            inner = self.chain(node.value)
            return own or (None if inner is None else f"{inner}.{node.attr}")
        return None

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            if name.name.partition(".")[0] in ("cupy", "cupyx"):
                self.known[name.asname or name.name.partition(".")[0]] = name.name
                self.found.setdefault(name.name, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if (node.module or "").partition(".")[0] in ("cupy", "cupyx"):
            for name in node.names:
                self.known[name.asname or name.name] = f"{node.module}.{name.name}"
                self.found.setdefault(f"{node.module}.{name.name}", node.lineno)

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        (target,), value = node.targets[:1], node.value
        pairs = [(target, value)]
        if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
            pairs = list(zip(target.elts, value.elts, strict=False))  # one of them may be starred
        for name, what in pairs:
            chain = self.chain(what)
            if isinstance(name, ast.Name) and chain is not None:
                self.known[name.id] = chain

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        before = dict(self.known)  # a function's own names end with it
        self.generic_visit(node)
        self.known = before | {name: chain for name, chain in self.known.items() if name in ("cupy", "cp", "cupyx")}

    def visit_Attribute(self, node: ast.Attribute) -> None:
        chain = self.chain(node)
        if chain is not None:
            self.found.setdefault(chain, node.lineno)
        self.generic_visit(node)


def uses(path: Path) -> dict[str, int]:
    """The names of CuPy's that a file uses, each with its line."""
    place = path.relative_to(ROOT).as_posix()
    roots: dict[str, str] = {}
    for prefix, names in ROOTS.items():
        if place.startswith(prefix):
            roots |= names
    visitor = Uses(roots)
    visitor.visit(ast.parse(path.read_text(encoding="utf-8")))
    return visitor.found


def what_is_missing(cupy: Any, chain: str) -> str | None:
    """Follow a dotted name as far as it leads through modules and classes; what isn't there."""
    first, *rest = chain.split(".")
    here = cupy if first == "cupy" else importlib.import_module(first)
    done = first
    for name in rest:
        if not (inspect.ismodule(here) or inspect.isclass(here)):
            return None  # an object's attribute: calling it shows it
        try:
            here = getattr(here, name)
        except ImportError:
            return None  # what wraps a library that isn't here
        except AttributeError:
            if f"{done}.{name}" in OF_OBJECTS:
                return None
            try:
                here = importlib.import_module(f"{done}.{name}")
            except ImportError:
                return f"{done} has no {name}"
        done += f".{name}"
    return None


def test_what_is_used_of_cupy_is_there() -> None:
    cupy = need("cupy")
    used = {(name, path): line for path in FILES for name, line in uses(path).items()}
    for name in (
        "cupy.cuda.runtime.getDeviceCount",
        "cupy.cuda.MemoryPool",
        "cupy.ascontiguousarray",
        "cupy.RawKernel",
    ):
        assert any(found == name for found, _ in used), name  # it can find what there is
    missing = [
        f"{path.relative_to(ROOT)}:{line}: {problem}"
        for (name, path), line in used.items()
        if (problem := what_is_missing(cupy, name)) is not None
    ]
    assert not missing, "\n".join(missing)


@pytest.mark.parametrize("text", ["cupy.cuda.runtime.getDevices()", "cupy.cuda.Stream().is_captured()", "cupy.ndarry"])
def test_a_name_that_is_not_there_is_found(text: str) -> None:
    cupy = need("cupy")
    visitor = Uses({})
    visitor.visit(ast.parse(f"import cupy\n{text}"))
    assert any(what_is_missing(cupy, name) for name in visitor.found)


def test_imitations_have_what_cupy_has() -> None:
    """As far as it can be seen without a GPU; see also ``test_cupy_package``."""
    cupy = need("cupy")
    for fake in (FakeCupy(Device(multiprocessors=10, shared=100_000)), machine(1)):
        assert not list(differences(fake, cupy, "cupy"))


def test_an_imitation_of_what_is_not_there_is_found() -> None:
    cupy = need("cupy")
    wrong = {
        "Streams": lambda: None,
        "Stream": lambda blocking=True: None,
        "runtime": SimpleNamespace(CUDARuntimeError=KeyError, getDevice=0),
    }
    found = list(differences(SimpleNamespace(**wrong), cupy.cuda, "cuda"))
    assert len(found) == 4, found
