#!/usr/bin/env python3
"""Run the checks that every change must pass, with the tools of the environment that Python runs in.

python check.py            format, lint, types, imports, tests and the examples in the docs
python check.py --slow     the slow tests too
python check.py --fix      first let ruff repair and format what it can

The tools come with the extra "dev": pip install -e ".[dev]"
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent

PROCESSES = ["-n", "auto"]  # as many as there are processors, each with one thread for its products
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

FIXES = {
    "repair": ["-m", "ruff", "check", "--fix"],
    "format all": ["-m", "ruff", "format"],
}
CHECKS = {
    "format": ["-m", "ruff", "format", "--check"],
    "lint": ["-m", "ruff", "check"],
    "types": ["-m", "mypy"],
    "imports": ["-c", "from importlinter.cli import lint_imports_command as run; run()", "--no-logo"],
    "tests": ["-m", "pytest", "-q", *PROCESSES],
}
SLOW = {"slow tests": ["-m", "pytest", "-q", *PROCESSES, "-m", "slow"]}


def main() -> int:
    """Run all steps, also after one has failed; return 1 if any has."""
    assert __doc__
    parser = argparse.ArgumentParser(
        description=__doc__.partition("\n")[0], epilog='The tools come with pip install -e ".[dev]".'
    )
    parser.add_argument("--slow", action="store_true", help="run the slow tests too")
    parser.add_argument("--fix", action="store_true", help="first let ruff repair and format what it can")
    args = parser.parse_args()

    steps = (FIXES if args.fix else {}) | CHECKS | (SLOW if args.slow else {})
    failed = [name for name, arguments in steps.items() if not passes(name, arguments)]
    print(f"\nFailed: {', '.join(failed)}" if failed else "\nAll checks passed")
    return 1 if failed else 0


def passes(name: str, arguments: list[str]) -> bool:
    """Run one step and tell whether it succeeded."""
    print(f"\n== {name}", flush=True)
    start = time.monotonic()
    environment = ONE_THREAD | os.environ
    code = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, check=False).returncode
    result = "ok" if code == 0 else f"FAILED with exit code {code}"
    print(f"-- {name}: {result}, {time.monotonic() - start:.0f} s", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main())
