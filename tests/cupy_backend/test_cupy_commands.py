"""The command line with ``--backend cupy``: the numbers of NumPy's, however long it takes."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from harness import obtain
from harness.needs import need
from harness.small_run import SMALL_RUN, write_text
from recurray.command_line import main

pytestmark = pytest.mark.gpu

SMALL = [*SMALL_RUN, "--epochs", "0.3"]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    obtain("cupy")
    monkeypatch.chdir(tmp_path)
    write_text(tmp_path)


def test_info_says_that_it_works(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info"]) == 0
    assert re.search(r"^  cupy +works", capsys.readouterr().out, flags=re.MULTILINE)


def test_a_model_trained_on_it_is_numpys_and_writes_the_same_text(capsys: pytest.CaptureFixture[str]) -> None:
    safetensors = need("safetensors.numpy")
    for backend in ("numpy", "cupy"):
        train = [
            "train",
            "text.txt",
            *SMALL,
            "--dropout",
            "0.3",
            "--backend",
            backend,
            "--out",
            f"{backend}.safetensors",
        ]
        assert main(train) == 0
    said = capsys.readouterr().out
    (ours, theirs) = re.findall(r"^    this model +(\d\.\d{3})$", said, flags=re.MULTILINE)
    assert abs(float(ours) - float(theirs)) < 0.002
    found, expected = (safetensors.load_file(f"{backend}.safetensors") for backend in ("cupy", "numpy"))
    assert list(found) == list(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-4 * max(1.0, np.abs(value).max(initial=0)))
    texts = []
    for backend in ("numpy", "cupy"):
        arguments = ["--prompt", "The ", "--length", "30", "--seed", "1", "--backend", backend]
        assert main(["sample", "numpy.safetensors", *arguments]) == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("The ")


@pytest.mark.parametrize("strategy", ["persistent", "step", "reference"])
def test_the_benchmark_compares_the_numbers_of_strategies(strategy: str, capsys: pytest.CaptureFixture[str]) -> None:
    need("threadpoolctl")
    sizes = ["--sizes", "2,6,5,7", "--repeats", "1", "--seconds", "0.01"]
    assert main(["bench", "--backend", "cupy", *sizes, "--strategy", strategy, "--against", "fused"]) == 0
    out = capsys.readouterr().out
    assert "fused" in out
    assert "differ" not in out
