"""The BLAS's kernels: which are in use, which would be better, and how a process comes by them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.needs import need
from recurray import blas

AVX512 = "fpu avx2 avx512f avx512dq avx512cd avx512bw avx512vl avx512_bf16"
CPUS = {
    "with AVX-512": f"processor\t: 0\nmodel name\t: A\nflags\t\t: {AVX512}\nbugs\t\t: none\n",
    "Knights Landing": "processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512cd avx512er avx512pf\n",
    "with AVX2": "processor\t: 0\nflags\t\t: fpu avx2\nmodel name\t: not avx512f\n",
    "ARM": "processor\t: 0\nFeatures\t: fp asimd\n",
}


@pytest.fixture
def cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Have the system describe another CPU."""
    described = tmp_path / "cpuinfo"
    if request.param is not None:
        described.write_text(CPUS[request.param])
    monkeypatch.setattr(blas, "_CPUINFO", described)


@pytest.mark.parametrize("cpu", [*CPUS, None], indirect=True)
def test_what_the_cpu_has(cpu: None, request: pytest.FixtureRequest) -> None:
    assert blas.cpu_has_avx512() == (request.node.callspec.params["cpu"] == "with AVX-512")


@pytest.mark.parametrize(
    ("cpu", "kernels", "advised"),
    [
        ("with AVX-512", "Haswell", True),
        ("with AVX-512", "Zen", True),
        ("with AVX-512", "SkylakeX", False),
        ("with AVX-512", None, False),
        ("with AVX2", "Haswell", False),
        (None, "Haswell", False),
    ],
    indirect=["cpu"],
)
def test_advice(cpu: None, kernels: str | None, advised: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "in_use", lambda: blas.Blas("OpenBLAS", "1", kernels, 1))
    advice = blas.advice()
    assert (advice is not None) == advised
    if advice is not None:
        assert f"its {kernels} kernels" in advice
        assert "OPENBLAS_CORETYPE=SkylakeX" in advice
        assert "recurray.blas.use_best_kernels()" in advice


def test_without_threadpoolctl(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "find_spec", lambda name: None)
    found = blas.in_use()
    assert found.name
    assert (found.kernels, found.threads) == (None, None)
    assert blas.advice() is None


def test_it_is_too_late_once_numpy_is_loaded() -> None:
    import numpy  # noqa: F401

    with pytest.raises(RuntimeError, match=r"before NumPy is loaded.*OPENBLAS_CORETYPE=SkylakeX before Python starts"):
        blas.use_best_kernels()


def fresh(cpuinfo: Path, code: str, **variables: str) -> list[str]:
    """What a process prints that hasn't loaded NumPy, on a CPU that is described in a file."""
    environment = {name: value for name, value in os.environ.items() if name != blas.VARIABLE} | variables
    script = f"import os, pathlib\nimport recurray\nrecurray.blas._CPUINFO = pathlib.Path({str(cpuinfo)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


ASK = "print(recurray.blas.use_best_kernels(), os.environ.get('OPENBLAS_CORETYPE'))"


@pytest.mark.parametrize(
    ("described", "variables", "expected"),
    [
        ("with AVX-512", {}, "SkylakeX SkylakeX"),
        ("with AVX-512", {"OPENBLAS_CORETYPE": "Zen"}, "None Zen"),
        ("with AVX2", {}, "None None"),
        ("ARM", {}, "None None"),
    ],
)
def test_asking_for_the_best_kernels(tmp_path: Path, described: str, variables: dict[str, str], expected: str) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(CPUS[described])
    assert fresh(path, ASK, **variables) == [expected]


def test_numpy_then_uses_them(tmp_path: Path) -> None:
    """Where this machine's CPU has them; the other way round too: the variable decides."""
    need("threadpoolctl")
    path = tmp_path / "cpuinfo"
    show = "print(recurray.blas.in_use().kernels)"
    before = blas.in_use()
    if not (before.name == "OpenBLAS" and before.kernels in ("SkylakeX", *blas._WITHOUT_AVX512)):
        assert fresh(path, show) == [str(before.kernels)]  # another BLAS, or another kind of CPU: nothing to choose
        return
    assert fresh(path, show, OPENBLAS_CORETYPE="Haswell") == ["Haswell"]
    if blas.cpu_has_avx512():
        path.write_text(CPUS["with AVX-512"])
        assert fresh(path, f"{ASK}; {show}") == ["SkylakeX SkylakeX", "SkylakeX"]


def test_threads_are_limited_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    need("threadpoolctl")
    with blas.limited(2):
        with blas.limited(1):
            assert blas.in_use().threads == 1
        assert blas.in_use().threads == 2
    for wrong in (0, True, 1.0, "1"):
        with pytest.raises(ValueError, match="threads must be a whole number of at least 1"), blas.limited(wrong):  # type: ignore[arg-type]
            pass
    monkeypatch.setattr(blas, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install threadpoolctl"), blas.limited(1):
        pass
