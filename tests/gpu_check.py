"""Everything that needs a GPU, in one script: ``python tests/gpu_check.py FOLDER``. It has not been run on a GPU yet.

It compares layers with NumPy and each stage with the one before, times the LSTM against ``torch.nn.LSTM`` and the
diagonal LSTM against the GPU's memory, runs the tests marked ``gpu`` and those of every layer on the CuPy backend, and
small sizes under ``compute-sanitizer``. It goes on after a failure, even one that takes its process along or hangs. It
ends within ten minutes, and writes FOLDER/report.md as it goes, with the tests' output and the numbers as JSON beside
it. What ``recurray bench`` has printed there, with date, machine, versions and command, is what docs/performance.md is
to hold. It works in a checkout that isn't installed; it needs NumPy, CuPy, array-api-compat and pytest, and PyTorch and
threadpoolctl for the comparison.

With ``--backend numpy`` it runs on the CPU, on smaller problems, to see that the script itself works.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Report:
    """Writes report.md, anew after each section, so that it is there whatever happens."""

    folder: Path
    deadline: float
    parts: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    def left(self) -> float:
        """Seconds left."""
        return self.deadline - time.monotonic()

    def add(self, text: str) -> None:
        self.parts.append(text)
        (self.folder / "report.md").write_text("\n\n".join(self.parts) + "\n")
        print(text, flush=True)

    def table(self, head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> None:
        lines = [head, ("---",) * len(head), *rows]
        self.add("\n".join(f"| {' | '.join(map(str, line))} |" for line in lines))

    def save(self, name: str, what: Any) -> None:
        """Write numbers to a file beside the report."""
        (self.folder / name).write_text(json.dumps(what, indent=1) + "\n")

    def apart(self, work: Callable[..., None], *args: Any, seconds: float = 120.0) -> None:
        """Do a section's work in a process of its own, as after an error on the GPU one is often good for nothing."""
        context = multiprocessing.get_context("fork")  # nothing here has touched the GPU
        receive, send = context.Pipe(duplex=False)
        process = context.Process(target=_work_apart, args=(send, self.folder, self.deadline, work, args))
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
                self.add(text)
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
        self.add(f"({time.monotonic() - began:.0f} s)")


class _Sent(Report):
    """A report whose text another process adds to its own."""

    def __init__(self, send: Any, folder: Path, deadline: float) -> None:
        super().__init__(folder, deadline)
        self.send = send

    def add(self, text: str) -> None:
        self.send.send(("text", text))


def _work_apart(send: Any, folder: Path, deadline: float, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        work(_Sent(send, folder, deadline), *args)
        send.send(("done", ""))
    except BaseException:
        send.send(("error", traceback.format_exc()[-4000:]))


def main() -> int:
    """Run all sections; 1 if any has failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="where to write report.md")
    parser.add_argument("--backend", default="cupy", choices=["cupy", "numpy"])
    parser.add_argument("--minutes", type=float, default=9.0, help="when to stop")
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORD", help="sections with such a word in their titles"
    )
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    report = Report(given.folder, time.monotonic() + 60 * given.minutes)
    with tempfile.TemporaryDirectory() as announced:
        sys.path[:0] = [str(ROOT / "src"), str(ROOT / "backends"), str(ROOT / "tests"), announce(Path(announced))]
        os.environ["PYTHONPATH"] = os.pathsep.join([*sys.path[:4], os.environ.get("PYTHONPATH", "")])
        run(report, given.backend, given.only)
    report.add(f"# {'FAILED: ' + ', '.join(report.failed) if report.failed else 'All passed'}")
    return 1 if report.failed else 0


def run(report: Report, backend: str, only: list[str]) -> None:
    """Do the sections, what matters most first; or those alone in whose titles one of the words is."""
    import gpu_times

    on_gpu = backend == "cupy"
    precisions, sizes = (["float32", "bfloat16", "float16"], "gpu") if on_gpu else (["float32"], "2,16,8,16")
    against = ["torch", "fused"] if on_gpu else ["torch"]
    both, wave = ["--two-streams"], ["--wave", "auto", "--compare", str(report.folder / "layers.json")]
    layers = ["tests/test_every_layer.py", "tests/test_layers.py", "tests/test_lstm.py"]
    for_gpus: list[tuple[str, Callable[[], None]]] = [
        (
            "Rounded products, two streams and waves, compared with the stage fused",
            lambda: report.apart(compare_options, seconds=60),
        ),
        (
            "Both directions on two streams, against torch.nn.LSTM",
            lambda: bench(report, backend, "both", "gpu-both", precisions[:2], ["torch"], both, seconds=40),
        ),
        (
            "Layers one after another, against torch.nn.LSTM",
            lambda: bench(report, backend, "layers", "gpu-layers", precisions[:1], ["torch"], seconds=40),
        ),
        (
            "Layers as a wave, against torch.nn.LSTM, and compared with one after another",
            lambda: bench(report, backend, "wave", "gpu-layers", precisions[:1], ["torch"], wave, seconds=40),
        ),
        ("A step of the LSTM, part by part", lambda: report.apart(gpu_times.parts, seconds=30)),
    ]
    sections: list[tuple[str, Callable[[], None]]] = [
        ("Machine", lambda: report.apart(machine, backend)),
        ("Each stage, compared with the one before", lambda: report.apart(compare_stages, backend)),
        (
            "LSTM, against torch.nn.LSTM",
            lambda: bench(report, backend, "lstm", sizes, precisions, against, seconds=180),
        ),
        (
            "Tests of the CuPy backend on a GPU",
            lambda: run_tests(report, "gpu", ["tests/test_cupy_gpu.py", "-m", "gpu"], backend, seconds=120),
        ),
        ("Diagonal LSTM, against the memory's bandwidth", lambda: report.apart(gpu_times.diagonal, backend)),
        *(for_gpus if on_gpu else []),
        ("Small sizes under compute-sanitizer", lambda: sanitize(report, backend, seconds=min(80, report.left()))),
        ("Every layer in float32 and float64, compared with NumPy", lambda: report.apart(compare_layers, backend)),
        ("Tests of every layer on this backend", lambda: run_tests(report, "layers", layers, backend, seconds=600)),
    ]
    for title, work in sections:
        if not only or any(word in title for word in only):
            with report.section(title):
                work()


def announce(folder: Path) -> str:
    """Say what backends there are as an installed package does, for a checkout that isn't installed."""
    info = folder / "recurray-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: recurray\nVersion: 0\n")
    points = "[recurray.backends]\nnumpy = recurray_numpy:NumpyBackend\ncupy = recurray_cupy:CupyBackend\n"
    (info / "entry_points.txt").write_text(points)
    return str(folder)


def machine(report: Report, backend: str) -> None:
    """Tell what this is run on."""
    import numpy as np

    found = [("Python", platform.python_version()), ("NumPy", np.__version__)]
    found.append(("array-api-compat", "here" if find_spec("array_api_compat") else "not here, but it is needed"))
    if backend == "cupy":
        import cupy

        properties = cupy.cuda.runtime.getDeviceProperties(0)
        found += [
            ("CuPy", cupy.__version__),
            ("CUDA run time", str(cupy.cuda.runtime.runtimeGetVersion())),
            ("CUDA of the driver", str(cupy.cuda.runtime.driverGetVersion())),
            ("GPU", f"{properties['name'].decode()}, compute capability {properties['major']}.{properties['minor']}"),
        ]
    try:
        import torch

        found += [("PyTorch", torch.__version__), ("its cuDNN", str(torch.backends.cudnn.version()))]
    except ImportError as error:
        found.append(("PyTorch", f"not here: {error}"))
    report.table(("what", "which"), found)


def run_tests(report: Report, name: str, arguments: list[str], backend: str, *, seconds: float) -> None:
    """Run pytest by itself; its output goes to a file."""
    environment = os.environ | {"RECURRAY_TEST_BACKENDS": f"{backend},reference", "RECURRAY_TEST_REQUIRE": backend}
    if backend == "numpy" and "gpu" in arguments:
        environment |= {"RECURRAY_TEST_REQUIRE": ""}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "--tb=short",
        "-p",
        "no:cacheprovider",
        "-W",
        "default",
        *(["-n", "8"] if find_spec("xdist") else []),  # most of the time goes to the compiler
        *arguments,
    ]
    log, seconds = report.folder / f"{name}.txt", min(seconds, report.left() - 5)
    with log.open("w") as file:
        try:
            code = subprocess.run(
                command, cwd=ROOT, env=environment, stdout=file, stderr=file, timeout=max(1, seconds), check=False
            ).returncode
        except subprocess.TimeoutExpired:
            code = -1
    lines = log.read_text().splitlines()
    failures = [line for line in lines if line.startswith(("FAILED", "ERROR"))]
    report.add("\n".join(["```", *failures[:20], *lines[-1:], "```"]))
    if code:
        what = f"ended with the code {code}" if code >= 0 else f"took over {seconds:.0f} s"
        raise RuntimeError(f"pytest {what}; see {log.name}")


# Numbers --------------------------------------------------------------------------------------------------------------

ALLOWED = {"float32": 1e-3, "float64": 1e-10}  # relative to the largest element


def compare_layers(report: Report, backend: str) -> None:
    """Compare layers of several blocks of threads, ragged and not, with the NumPy backend."""
    import numpy as np

    import recurray as rr
    from cells import CELLS

    makers: dict[str, Callable[..., Any]] = {
        f"{cell}": lambda cell=cell, **options: rr.Recurrent(cell, 50, 200, **options) for cell in CELLS
    }
    makers["LSTM, 2 layers, both directions"] = lambda **options: rr.LSTM(50, 200, 2, bidirectional=True, **options)
    makers["LSTM, projected"] = lambda **options: rr.LSTM(50, 200, proj_size=70, **options)
    rows, wrong = [], []
    for name, make in makers.items():
        errors = {}
        for dtype in ALLOWED:
            for lengths in (None, [0, 20, 1, 17, 20, 19, 2]):
                rng = np.random.default_rng(1)
                found = [results(make(backend=be, dtype=dtype, seed=0), lengths, rng) for be in ("numpy", backend)]
                error = max(
                    float(np.abs(a - b).max(initial=0)) / max(1.0, float(np.abs(a).max(initial=0)))
                    for a, b in zip(*found, strict=True)
                )
                errors[dtype] = max(error, errors.get(dtype, 0.0))
        bad = [dtype for dtype, error in errors.items() if not error <= ALLOWED[dtype]]
        wrong += [f"{name} {dtype}" for dtype in bad]
        rows.append((name, *(f"{error:.1e}" for error in errors.values()), "WRONG" if bad else "ok"))
    report.table(("layer", *ALLOWED, ""), rows)
    if wrong:
        raise AssertionError(f"further from NumPy than {ALLOWED}: {', '.join(wrong)}")


STAGES = ("persistent", "step", "fused", "reference")
STAGE_SIZES = [(3, 301), (1, 128), (64, 128), (16, 256), (1, 512), (64, 512), (256, 512)]  # rows and units
STAGE_SIZES += [(1, 1024), (64, 1024), (256, 1024), (1, 2048), (64, 2048)]


def compare_stages(report: Report, backend: str) -> None:
    """Compare the LSTM and the GRU by each stage with the next slower one, over 200 steps."""
    import recurray as rr
    from cells import GRUCell, LSTMCell

    stages = STAGES if backend == "cupy" else (None,)
    rows, wrong = [], []
    for cell, sizes in ((LSTMCell(), STAGE_SIZES), (GRUCell(), STAGE_SIZES[:6:2])):
        for batch, units in sizes if backend == "cupy" else [(3, 20)]:
            found = [of_stage(rr, backend, stage, cell, batch, units) for stage in reversed(stages)]
            errors = []
            for slower, faster in pairwise(found):
                pairs = zip(slower, faster, strict=True)
                errors.append(max(float(abs(a - b).max()) / max(1.0, float(abs(a).max())) for a, b in pairs))
            bad = [error for error in errors if not error <= ALLOWED["float32"]]
            wrong += [f"{cell} {batch} x {units}"] * bool(bad)
            rows.append((cell, batch, units, *(f"{error:.1e}" for error in errors), "WRONG" if bad else "ok"))
    heads = [f"{faster} to {slower}" for slower, faster in pairwise(STAGES[::-1])]
    report.table(("cell", "B", "H", *(heads if backend == "cupy" else []), ""), rows)
    if wrong:
        raise AssertionError(f"further from the stage before than {ALLOWED['float32']}: {', '.join(wrong)}")


def compare_options(report: Report) -> None:
    """Compare what else there is to choose with the stage fused in float32."""
    import recurray as rr
    from cells import LSTMCell

    rows, wrong = [], []
    both, stack = {"bidirectional": True}, {"num_layers": 4}
    choices = [({"stage": "persistent", "compute_dtype": small}, both, 3e-2) for small in ("float16", "bfloat16")]
    for stage in ("persistent", "step", "fused"):
        choices.append(({"stage": stage, "two_streams": True}, both, 1e-3))
        choices += [({"stage": stage, "wave": part}, stack, 1e-3) for part in (32, 77)]
    choices.append(({"stage": "persistent", "wave": "auto"}, stack, 1e-3))
    for batch, units in STAGE_SIZES[:6]:
        cell = LSTMCell()
        expected = [of_stage(rr, "cupy", "fused", cell, batch, units, layer) for layer in (both, stack)]
        for options, layer, allowed in choices:
            worst, right = 0.0, expected[layer is stack]
            for _ in range(3):  # a mistake between two streams needn't show each time
                found = of_stage(rr, "cupy", cell=cell, batch=batch, units=units, layer=layer, **options)
                errors = [
                    float(abs(a - b).max()) / max(1.0, float(abs(a).max())) for a, b in zip(right, found, strict=True)
                ]
                worst = max(worst, *(error if error == error else float("inf") for error in errors))
            wrong += [] if worst <= allowed else [f"{options} {batch} x {units}"]
            rows.append((batch, units, " ".join(map(str, options.values())), f"{worst:.1e}", allowed))
    report.table(("B", "H", "options", "difference", "allowed"), rows)
    if wrong:
        raise AssertionError(f"further from the stage fused than allowed: {', '.join(wrong)}")


def of_stage(
    rr: Any,
    backend: str,
    stage: str | None,
    cell: Any,
    batch: int,
    units: int,
    layer: dict[str, Any] | None = None,
    **more: Any,
) -> list[Any]:
    """The output and all gradients of a layer by one stage."""
    import numpy as np

    chosen = rr.get_backend(backend, stage=stage, **more)
    model = rr.Recurrent(cell, 16, units, backend=chosen, seed=0, **(layer or {}))
    be, rng = model.backend, np.random.default_rng(5)
    x = be.asarray(rng.standard_normal((batch, 200, 16)), "float32")
    y, _, cache = model.forward(x)
    dx, _, grads = model.backward(cache, be.asarray(rng.standard_normal(y.shape), "float32"))
    return [be.to_numpy(a) for a in (y, dx, *grads.values())]


def sanitize(report: Report, backend: str, *, seconds: float) -> None:
    """Run `gpu_small` under each of compute-sanitizer's tools."""
    until, wrong = time.monotonic() + seconds, []
    program = [sys.executable, str(ROOT / "tests" / "gpu_small.py")]
    if backend == "numpy":
        subprocess.run([*program, "numpy"], check=True, capture_output=True, timeout=seconds)
        return
    subprocess.run(program, check=True, capture_output=True, timeout=seconds)  # compiles all kernels, which CuPy keeps
    sanitizer = shutil.which("compute-sanitizer") or "/usr/local/cuda/bin/compute-sanitizer"
    for tool in ("memcheck", "racecheck", "synccheck", "initcheck"):
        log = report.folder / f"{tool}.txt"
        left = max(1.0, until - time.monotonic())
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", *program]
        try:
            with log.open("w") as file:
                code = subprocess.run(command, stdout=file, stderr=file, timeout=left, check=False).returncode
            outcome = log.read_text().splitlines()[-1:]
        except subprocess.TimeoutExpired:
            code, outcome = -1, [f"not done in {left:.0f} s"]
        report.add(f"{tool}: {' '.join(outcome)}")
        wrong += [tool] if code else []
    if wrong:
        raise RuntimeError(f"compute-sanitizer found something, or didn't end: {', '.join(wrong)}")


def bench(
    report: Report,
    backend: str,
    name: str,
    sizes: str,
    precisions: list[str],
    against: list[str],
    options: list[str] | None = None,
    *,
    seconds: float,
) -> None:
    """Run `recurray bench`, and when time is up interrupt it, so that it shows what it has."""
    command = [sys.executable, "-m", "recurray.benchmarks", "--backend", backend, "--sizes", sizes]
    command += ["--dtype", *precisions, "--against", *against, "--repeats", "3", "--seconds", "1", *(options or [])]
    command += ["--stage", "auto"] if backend == "cupy" else ["--threads", "1"]
    command += ["--json", str(report.folder / f"{name}.json")]
    log, seconds = report.folder / f"{name}.txt", min(seconds, report.left() - 20)
    with log.open("w") as shown, (report.folder / f"{name}.err.txt").open("w") as told:
        running = subprocess.Popen(command, stdout=shown, stderr=told, cwd=ROOT)
        try:
            code = running.wait(max(1.0, seconds))
        except subprocess.TimeoutExpired:
            running.send_signal(signal.SIGINT)
            try:
                code = running.wait(20)
            except subprocess.TimeoutExpired:
                running.kill()
                code = running.wait()
    report.add(log.read_text() or "(no output)")
    if code:
        end = (report.folder / f"{name}.err.txt").read_text()[-1500:]
        raise RuntimeError(f"{' '.join(command)} ended with the code {code} after up to {seconds:.0f} s: {end}")


def results(layer: Any, lengths: Any, rng: Any) -> list[Any]:
    """The output, the final state and all gradients, as NumPy arrays."""
    import numpy as np

    backend = layer.backend
    x, other = np.random.default_rng(2).standard_normal((7, 20, 50)), np.random.default_rng(3)
    y, state, cache = layer.forward(backend.asarray(x, layer.dtype), None, lengths, True, np.random.default_rng(4))
    dy = other.standard_normal(y.shape)
    dx, dstate, grads = layer.backward(cache, backend.asarray(dy, layer.dtype))
    arrays = [y, *state, dx, *dstate, *grads.values()]
    return [backend.to_numpy(a) for a in arrays if a is not None]


if __name__ == "__main__":
    sys.exit(main())
