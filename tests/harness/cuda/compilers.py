"""Compiling kernels for GPUs that need not be here."""

from __future__ import annotations

import subprocess

from harness.cuda import nvrtc
from recurray_cupy.compiled import Way
from recurray_cupy.persistent.of_cell import recurrence_of

ARCHITECTURES = ("sm_75", "sm_80", "sm_86", "sm_89", "sm_90", "sm_100", "sm_120")


def nvcc(folder, text, *options):
    """Compile by nvcc, warnings being errors; what it says."""
    (folder / "kernels.cu").write_text(text)
    command = ["nvcc", "-std=c++17", "-ftz=true", "-Werror=all-warnings", *options, str(folder / "kernels.cu")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def recurrences(pairs, dtype="float32", ways=(Way.TRAINING, Way.BACKWARD), rounded_to=""):
    """Text of the kernels forward and backward, in namespaces of their own."""
    kernels = [
        recurrence_of(cell, way, rounded_to=rounded_to).kernel(tile, 256) for cell, tile in pairs for way in ways
    ]
    sources = dict.fromkeys(kernel.source(dtype).replace('extern "C"', "") for kernel in kernels)
    return "\n".join(f"namespace k{k} {{\n{source}\n}}" for k, source in enumerate(sources)), len(sources)


def compile_for_gpus(pairs, architecture, **options):
    """Compile kernels to a cubin; none may spill registers or have more than there are."""
    text, count = recurrences(pairs, **options)
    resources = nvrtc.resources_of(text, architecture)
    assert len(resources) == count
    for name, (registers, spilled) in resources.items():
        assert registers <= 255, name  # 256 threads have no more each
        assert not spilled, name
