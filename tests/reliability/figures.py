"""The figures of docs/reliability.md, all or some: ``python tests/reliability/figures.py [--share X] [part ...]``.

Each part is a script of its own here, which does so much at random and counts what went wrong. This runs them one after
another, prints a table, and ends with an error if anything went wrong. All take some two hours of two processors.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

TESTS = Path(__file__).resolve().parents[1]
PARTS = {  # what is done: the script, and how much of it
    "mutants": ("mutation/plant_mistakes.py", "--anew", None),
    "kills": ("reliability/kill_trainers.py", "--kills", 360),
    "corruptions": ("reliability/corrupt_checkpoints.py", "--count", 4_000),
    "models": ("reliability/corrupt_models.py", "--count", 3_000),
    "nodes": ("reliability/onnx_nodes.py", "--count", 10_000),
    "calls": ("reliability/fuzz_api.py", "--calls", 50_000),
    "load": ("reliability/load.py", "--seconds", 1_200),
}


def main() -> int:
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--share", type=float, default=1.0, help="of the amounts, to try it out (default: 1)")
    args = parser.parse_args()
    print(
        f"{datetime.date.today()}, commit {commit()}, Python {platform.python_version()}, NumPy {np.__version__}, ",
        end="",
    )
    print(f"{platform.system()} {platform.machine()}, {os.cpu_count()} processors\n", flush=True)
    print("| part | command | seconds | found |\n|---|---|---|---|", flush=True)
    failed = [name for name in args.parts or PARTS if not passes(name, args.share)]
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nNothing went wrong.")
    return 1 if failed else 0


def passes(name: str, share: float) -> bool:
    """Run a part, print its row, and tell whether nothing went wrong."""
    script, option, amount = PARTS[name]
    command = [script, option] if amount is None else [script, option, str(max(1, round(amount * share)))]
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, TESTS / command[0], *command[1:]], capture_output=True, text=True, check=False
    )
    last = (done.stdout.strip() or done.stderr.strip() or "nothing").splitlines()[-1].strip("{}").replace('"', "")
    print(f"| {name} | `tests/{' '.join(command)}` | {time.monotonic() - began:,.0f} | {last} |", flush=True)
    if done.returncode:
        print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
    return done.returncode == 0


def commit() -> str:
    """What is checked out, or where there is no repository, nothing."""
    found = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=TESTS, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or "unknown"


if __name__ == "__main__":
    sys.exit(main())
