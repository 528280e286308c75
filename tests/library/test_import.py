"""What an import loads: nothing that isn't used, and above all not NumPy before the user wants it."""

from __future__ import annotations

import importlib
import subprocess
import sys
from types import ModuleType

import pytest

import recurray
import recurray.cells
import recurray.layers

LAZY = [recurray, recurray.cells, recurray.layers]
PROGRAMS = {"recurray.benchmarks", "recurray.command_line", "recurray.language_model"}
UNUSED = PROGRAMS | {
    "array_api_compat",
    "cupy",
    "importlib.metadata",
    "recurray.gradient_check",
    "recurray.losses",
    "recurray.optim",
    "recurray.plot",
    "recurray.policies",
    "recurray.schedules",
    "recurray.sklearn",
    "recurray.streaming",
    "recurray.trace",
    "recurray_cupy",
    "recurray_numpy",
    "sklearn",
    "torch",
}


def loaded_by(code: str) -> set[str]:
    """The modules that a new process has loaded after ``code``, beyond those that it starts with."""
    script = f"import sys\nbefore = set(sys.modules)\n{code}\nprint(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_library_alone_loads_nothing_but_the_standard_librarys_modules() -> None:
    loaded = loaded_by("import recurray; recurray.__version__")
    assert {name for name in loaded if name.startswith("recurray")} == {"recurray", "recurray.lazy"}
    assert {name.partition(".")[0] for name in loaded} <= {"recurray", *sys.stdlib_module_names}
    assert not loaded & {"dataclasses", "importlib.metadata", "inspect"}


def test_the_blas_module_loads_no_numpy() -> None:
    assert "recurray.blas" in (loaded := loaded_by("import recurray; recurray.blas.cpu_has_avx512()"))
    assert "numpy" not in loaded


@pytest.mark.parametrize("name", ["LSTM", "GRU", "DiagonalLSTM", "Recurrent"])
def test_a_layer_loads_what_it_needs(name: str) -> None:
    loaded = loaded_by(f"import numpy, recurray as rr; rr.{name}")
    assert "recurray.layers.recurrent" in loaded
    assert not loaded & UNUSED
    others = {
        "recurray.layers.embedding",
        "recurray.layers.linear",
        "recurray.layers.sequential",
        "recurray.cells.slstm",
    }
    assert not loaded & others


def test_computing_on_numpy_loads_no_other_array_library() -> None:
    loaded = loaded_by(
        "import numpy as np, recurray as rr\n"
        "layer = rr.LSTM(3, 4)\n"
        "y, _, cache = layer.forward(np.ones((2, 5, 3), dtype='float32'), lengths=[5, 2])\n"
        "loss, dy = rr.losses.mse(y, y)\n"
        "dx, _, grads = layer.backward(cache, dy)\n"
        "rr.optim.Adam(layer.params, lr=0.1).step(grads)\n"
        "rr.Streaming(layer)(y[:, :, :3])\n"
    )
    assert "recurray_numpy" in loaded
    used = {"importlib.metadata", "recurray.losses", "recurray.optim", "recurray.streaming", "recurray_numpy"}
    assert not loaded & (UNUSED - used)


def test_computing_on_a_namespace_loads_no_backend_of_another() -> None:
    loaded = loaded_by(
        "import array_api_strict as xp, recurray as rr\n"
        "layer = rr.LSTM(3, 4, backend=xp)\n"
        "y, _, cache = layer.forward(xp.ones((2, 5, 3)), lengths=[5, 2])\n"
        "layer.backward(cache, y)\n"
    )
    packages = {name.partition(".")[0] for name in loaded}
    assert "array_api_strict" in packages
    assert not packages & {"recurray_numpy", "recurray_native", "recurray_cupy"}


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_every_public_name_is_there(package: ModuleType) -> None:
    for name in package.__all__:
        package.__dict__.pop(name, None)
        value = getattr(package, name)
        home = value if isinstance(value, ModuleType) else importlib.import_module(value.__module__)
        assert home.__name__.startswith(f"{package.__name__}.")
        assert value is home or vars(home)[name] is value
        assert vars(package)[name] is value  # from now on
    assert set(package.__all__) <= set(dir(package))


@pytest.mark.parametrize("package", LAZY, ids=lambda package: package.__name__)
def test_other_names_are_unknown(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'LSMT'"):
        package.LSMT  # noqa: B018
    assert not hasattr(package, "__wrapped__")


def test_import_of_all_names() -> None:
    names: dict[str, object] = {}
    exec("from recurray import *", names)
    assert set(recurray.__all__) <= set(names)
