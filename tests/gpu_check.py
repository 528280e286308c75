"""Everything that needs a GPU, in one script: ``python tests/gpu_check.py FOLDER``. It has not been run on a GPU yet.

It proves first: each strategy is compared with the one before, options with none. Then it times the strategies and
``torch.nn.LSTM``, whose kernels are cuDNN's, where PyTorch finds the GPU, and says whether the rule for making
``strategy="auto"`` the default holds (`gpu.verdict.RULE`). Then come the tests marked ``gpu``, several layers and
directions, the diagonal LSTM against the GPU's memory, small sizes under ``compute-sanitizer`` where there is one, and
the tests of every layer. It goes on after a failure, even one that takes its process along or hangs.

It ends within ten minutes, and writes FOLDER/report.md line by line, with the tests' output and the times as JSON
beside it: a kill at any moment leaves what there was. Its tables, with date, machine and versions, are what
docs/performance.md is to hold. It works in a checkout that isn't installed, without a network; it needs NumPy, CuPy,
pytest, and array-api-compat or SciPy, which has a copy of it.

``--small`` takes problems of a few numbers and ends in some two minutes on an emulated device: it shows that the script
works, and its times mean nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "backends"), str(ROOT / "tests")]

from gpu.report import Report  # noqa: E402 - the checkout needn't be installed

PROOFS = (
    "Each strategy, compared with the one before",
    "Rounded products, several layers and directions, compared with fused",
    "What the rule chooses, by default and by auto",
    "Tests of the CuPy backend on a GPU",
    "Small sizes under compute-sanitizer",
)


def main() -> int:
    """Run all sections; 1 if any has failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write report.md")
    parser.add_argument("--small", action="store_true", help="problems of a few numbers, to try the script itself")
    parser.add_argument("--minutes", type=float, default=8.5, help="when to stop")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="sections with such a word in their titles"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    report = Report(given.folder, time.monotonic() + 60 * given.minutes, given.small)
    with tempfile.TemporaryDirectory() as found_by:
        announce(Path(found_by))
        sys.path.append(found_by)
        os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:3], os.environ.get("PYTHONPATH", ""), found_by])
        run(report, given.only)
    report.add(f"# {'FAILED: ' + ', '.join(report.failed) if report.failed else 'All passed'}")
    return 1 if report.failed else 0


def run(report: Report, only: list[str]) -> None:
    """Do the sections, what matters most first; or those alone in whose titles one of the words is."""
    layers = [f"tests/library/layers/test_{name}.py" for name in ("every_layer", "layers", "lstm")]
    on_gpu = ["tests/cupy_backend/test_cupy_gpu.py", "-m", "gpu"]
    if report.small:
        layers, on_gpu = [layers[0], "-k", "RNN"], [*on_gpu, "-k", "sum_rows or projection"]

    def apart(module: str, name: str, seconds: float) -> Callable[[], None]:
        return lambda: report.apart(_call, module, name, seconds=seconds * (3 if report.small else 1))

    sections: list[tuple[str, Callable[[], None]]] = [
        ("Machine", apart("gpu_check", "machine", 60)),
        (PROOFS[0], apart("gpu.compare", "compare_strategies", 100)),
        ("One layer, by each strategy and by cuDNN", apart("gpu.times", "layers", 170)),
        (PROOFS[1], apart("gpu.compare", "compare_options", 60)),
        (PROOFS[2], apart("gpu.compare", "compare_choices", 40)),
        (PROOFS[3], lambda: run_tests(report, "gpu", on_gpu, seconds=140)),
        ("Several layers and both directions", apart("gpu.times", "stacks", 60)),
        ("Diagonal LSTM, against the memory's bandwidth", apart("gpu.times", "diagonal", 40)),
        ("A step of the LSTM, part by part", apart("gpu.times", "parts", 30)),
        (PROOFS[4], lambda: sanitize(report, seconds=min(80, report.left()))),
        ("Every layer in float32 and float64, compared with NumPy", apart("gpu.compare", "compare_layers", 60)),
        ("Tests of every layer on this backend", lambda: run_tests(report, "layers", layers, seconds=600)),
    ]
    for title, work in sections:
        if not only or any(word in title for word in only):
            with report.section(title):
                work()
            if "by cuDNN" in title:
                with report.section("The rule for the default, so far"):
                    judge(report)
    with report.section("The rule for the default"):
        judge(report)


def judge(report: Report) -> None:
    """Say whether auto may become the default, by what is known."""
    from gpu.verdict import RULE, Timed, verdict

    path = report.folder / "layers.json"
    timed = [Timed(**each) for each in json.loads(path.read_text())] if path.exists() else []
    missing = [f"{title} ({'failed' if title in report.failed else 'not done'})" for title in PROOFS]
    missing = [text for title, text in zip(PROOFS, missing, strict=True) if title not in report.done]
    report.add(RULE)
    note = "\n\n(These are times of problems of a few numbers: they mean nothing.)" if report.small else ""
    report.add("\n".join(verdict(timed, missing)) + note)


def _call(report: Report, module: str, name: str) -> None:
    """Import what a section needs in its own process alone, so that a fault there leaves the others their turn."""
    from importlib import import_module

    getattr(import_module(module), name)(report)


def announce(folder: Path) -> None:
    """Make a folder in which a checkout finds what an installation would give it.

    That is what backends there are, and array-api-compat where SciPy alone has a copy of it.
    """
    info = folder / "recurray-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recurray\nVersion: 0\n")
    points = "[recurray.backends]\nnumpy = recurray_numpy:NumpyBackend\ncupy = recurray_cupy:CupyBackend\n"
    (info / "entry_points.txt").write_text(points)
    scipy = find_spec("scipy")
    if find_spec("array_api_compat") is None and scipy is not None and scipy.origin is not None:
        copy = Path(scipy.origin).parent / "_lib" / "array_api_compat"
        if copy.is_dir():
            (folder / "array_api_compat").symlink_to(copy)


def machine(report: Report) -> None:
    """Tell what this is run on."""
    import cupy
    import numpy as np

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    compat = find_spec("array_api_compat")
    where = "not here, but it is needed" if compat is None else str(Path(str(compat.origin)).resolve())
    found = [
        ("date", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"),
        ("command", " ".join(["python", *sys.argv])),
        ("GPU", f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}"),
        ("multiprocessors, MHz", f"{properties['multiProcessorCount']}, {properties['clockRate'] / 1000:.0f}"),
        ("CuPy", cupy.__version__),
        ("CUDA run time, driver's", f"{cupy.cuda.runtime.runtimeGetVersion()}, {cupy.cuda.runtime.driverGetVersion()}"),
        ("Python, NumPy", f"{platform.python_version()}, {np.__version__}"),
        ("array-api-compat", where),
    ]
    report.table(("what", "which"), found)
    try:
        import torch

        cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else "no GPU"
        report.add(f"PyTorch {torch.__version__}, its cuDNN: {cudnn}")
    except Exception as error:  # missing, or broken: the rest can do without
        report.add(f"PyTorch isn't here: {error}")


def run_tests(report: Report, name: str, arguments: list[str], *, seconds: float) -> None:
    """Run pytest by itself; its output goes to a file."""
    environment = os.environ | {"RECURRAY_TEST_BACKENDS": "cupy,reference", "RECURRAY_TEST_REQUIRE": "cupy"}
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", "-W", "default"]
    if find_spec("xdist") and not report.small:
        command += ["-n", "8"]  # most of the time goes to the compiler
    log, seconds = report.folder / f"{name}.txt", min(seconds, report.left() - 5)
    with log.open("w") as file:
        try:
            code = subprocess.run(
                [*command, *arguments],
                cwd=ROOT,
                env=environment,
                stdout=file,
                stderr=file,
                timeout=max(1, seconds),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    lines = log.read_text().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    report.add("\n".join(["```", *failures[:20], *lines[-1:], "```"]))
    if code:
        what = f"ended with the code {code}" if code >= 0 else f"took over {seconds:.0f} s"
        raise RuntimeError(f"pytest {what}; see {log.name}")


def sanitize(report: Report, *, seconds: float) -> None:
    """Run `gpu.small` under each of compute-sanitizer's tools, where it can run."""
    until, wrong = time.monotonic() + seconds, []
    program = [sys.executable, str(ROOT / "tests" / "gpu" / "small.py")]
    # By itself first, which compiles all kernels.
    found = subprocess.run(program, check=False, capture_output=True, text=True, timeout=seconds)
    if found.returncode:
        raise RuntimeError(f"{program[-1]} by itself: {found.stderr[-2000:]}")
    sanitizer = shutil.which("compute-sanitizer") or shutil.which("/usr/local/cuda/bin/compute-sanitizer")
    if sanitizer is None:
        report.add("compute-sanitizer isn't here: the program ran without it.")
        return
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        log = report.folder / f"{tool}.txt"
        left = max(1.0, until - time.monotonic())
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", *program]
        try:
            with log.open("w") as file:
                code = subprocess.run(command, stdout=file, stderr=file, timeout=left, check=False).returncode
        except subprocess.TimeoutExpired:
            report.add(f"{tool}: not done in {left:.0f} s")
            wrong.append(tool)
            continue
        text = log.read_text()
        if "Device not supported" in text:
            report.add("compute-sanitizer can't run here: the device is not supported.")
            return
        report.add(f"{tool}: {' '.join(text.splitlines()[-1:])}")
        wrong += [tool] if code else []
    if wrong:
        raise RuntimeError(f"compute-sanitizer found something, or didn't end: {', '.join(wrong)}")


if __name__ == "__main__":
    sys.exit(main())
