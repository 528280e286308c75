"""What the README and the pages in docs say: examples run, links lead somewhere, what is named exists.

Examples with ``>>>`` are run by pytest's doctest; here are the blocks of plain Python.
"""

from __future__ import annotations

import re
import tomllib
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import recurray as rr
from harness import obtain
from recurray import layouts
from recurray.command_line import _COMMANDS
from recurray.layouts.rows import ROWS

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
PUBLIC_MODULES = {"recurray.checks"} | {f"recurray.{name}" for name in rr.__all__}
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def named(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def plain_blocks() -> list[str]:
    blocks = [
        block
        for page in PAGES
        for block in re.findall(r"^```python\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    ]
    return [block for block in blocks if ">>>" not in block]


@pytest.mark.parametrize("backend_name", ["numpy", "cupy"])
def test_example_learns(backend_name: str) -> None:
    (block,) = [block for block in plain_blocks() if f'backend="{backend_name}"' in block]
    obtain(backend_name)  # skips, or fails where it must be here
    names: dict[str, Any] = {}
    exec(block, names)
    assert float(names["loss"]) < 0.05


def test_no_other_block_is_left_out() -> None:
    assert len(plain_blocks()) == 2


def names_used(text: str) -> set[str]:
    """What a page uses of the library, with its module: "recurray.LSTM", "recurray.arrays.rows"."""
    modules = "|".join(name for name in rr.__all__ if isinstance(getattr(rr, name), ModuleType))
    used = {f"recurray.{name}" for name in re.findall(rf"\brr\.((?:(?:{modules})\.)?\w+)", text)}
    for module, names in re.findall(r"from (recurray(?:\.\w+)*) import ([\w, ]+)$", text, re.MULTILINE):
        used |= {f"{module}.{name}" for name in names.split(", ")}
    return used | set(re.findall(r"`(recurray\.\w+\.\w+)[`(]", text))


@pytest.mark.parametrize(
    "page", [ROOT / name for name in ("README.md", "docs/guide.md", "docs/extending.md")], ids=named
)
def test_what_a_page_uses_is_public(page: Path) -> None:
    used = names_used(text_of(page))
    assert len(used) > 3
    for name in used:
        module, _, own = name.rpartition(".")
        is_module = f"{module}.{own}" in PUBLIC_MODULES
        assert is_module or own in import_module(module).__all__, name


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", text_of(page)):
        if target.startswith("https://"):
            continue
        path, _, heading = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        assert not heading or heading in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to a page's headings."""
    headings = re.findall(r"^#+ (.+)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_what_is_named_exists(page: Path) -> None:
    text = text_of(page)
    files = [path.as_posix() for top in ("src", "backends", "tests", "examples") for path in (ROOT / top).rglob("*.py")]
    files += [path.as_posix() for path in ROOT.glob("*.py")]
    for name in re.findall(r"\w[\w/]*\.py\b", text):
        assert any(path.endswith(f"/{name}") for path in files), name
    for name in re.findall(r"`(?:\.venv/bin/)?recurray ([a-z]+)", text):
        assert name in _COMMANDS, name
    for extras in re.findall(r'"(?:\.|recurray)\[([\w,]+)\]"', text):
        assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"]), extras
    for name in re.findall(r"\brr\.([A-Za-z_]+)", text):
        assert hasattr(rr, name), name


def test_versions_are_one() -> None:
    sections = re.findall(r"^## \[(\d[^\]]*)\]", text_of(ROOT / "CHANGELOG.md"), re.MULTILINE)
    assert PROJECT["version"] == rr.__version__ == sections[0]


def row_of_table(row: layouts.Layout) -> str:
    """A layout as a line of the table in docs/exchange.md."""
    shown = [part for part in row.parts if not part.gates or part.gates[0] == row.parts[0].gates[0]]
    arrays = ", ".join(f"`{part.name}` {part.shape_in_words}" for part in shown)
    biases = {field for part in row.parts for field in part.fields if "bias" in field}
    gates = [gate or "unused" for gate in row.gates]
    alone = len({part.name for part in row.parts if "input" in part.fields}) > 1
    ways = {"names": "as `_l1_reverse`", "axis": "directions along a first axis", "packed": f"packed in `{row.packed}`"}
    notes = [
        ways.get(row.apart, ""),
        *(f"{gate} is 1 - ours" for gate in row.negated),
        *(f"+{value:g} on {gate}" for gate, value in row.added.items()),
        *(f"{name}={value}" for name, value in row.fixed.items() if name != "coupled" or value),
        *(
            f"{part.name}: {' '.join(gate or 'unused' for gate in part.gates)}"
            for part in row.parts
            if part.fields == ("peephole",) and len(part.gates) > 1
        ),
        "one bias" if len(biases) == 1 else "",
        "and so on for each gate" if alone else "",
    ]
    return f"| `{row.name}` | {' '.join(gates)} | {arrays} | {', '.join(filter(None, notes))} |"


def test_the_table_of_layouts_has_them_all() -> None:
    page = text_of(ROOT / "docs" / "exchange.md")
    libraries = {row.name.partition(".")[0] for row in ROWS}
    lines = [line for line in page.splitlines() if line.startswith("| `") and line[3:].partition(".")[0] in libraries]
    assert lines == [row_of_table(row) for row in ROWS]
