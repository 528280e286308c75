"""Load models that others have published, and compare what comes out with what their own programs give.

python tests/reliability/published_models.py

The files come from PyPI when this runs (``pip download``); PyTorch and onnxruntime give what is expected:

- silero-vad 6.2.3 (MIT): the LSTM of its ONNX files, whole and streamed, beside onnxruntime.
- nnsplit 0.2.2 (MIT): embedding, two LSTMs both ways and a linear layer in float16, from a TorchScript archive, beside
  PyTorch.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import zipfile
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import recurray as rr
from recurray import convert

SILERO, NNSPLIT = "silero-vad==6.2.3", "nnsplit==0.2.2"
SECONDS = 2  # of audio, in chunks of 512 samples at 16 kHz with 64 of the chunk before
TOLERANCE = {"silero": 1e-5, "nnsplit": 1e-5}


def fetch(requirement: str, folder: Path) -> Path:
    """Download a package's wheel, and unpack it."""
    place = folder / requirement.partition("=")[0]
    options = ["--no-deps", "--only-binary=:all:", "--python-version", "3.7", "--quiet", "--disable-pip-version-check"]
    if requirement == SILERO:
        options = ["--no-deps", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "download", *options, "-d", str(place), requirement], check=True)
    (wheel,) = place.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(place)
    return place


def difference(a: Any, b: Any) -> float:
    """The largest."""
    return float(np.abs(np.asarray(a, "float64") - np.asarray(b, "float64")).max())


def silero(folder: Path) -> dict[str, Any]:
    """Silero's LSTM: from three of its files, the same weights; whole, streamed, and within the model as it is run."""
    data = fetch(SILERO, folder) / "silero_vad" / "data"
    rng = np.random.default_rng(0)
    chunks = (0.1 * rng.standard_normal((SECONDS * 16000 // 512, 576))).astype("float32")
    found: dict[str, Any] = {}

    name = "silero_vad_16k_sequence.onnx"
    session = exposed(data / name, "/Transpose_output_0", "/recurrent/LSTM_output_0")
    zeros = np.zeros((1, 1, 128), "float32")
    x, expected, h, c = session(
        ["/Transpose_output_0", "/recurrent/LSTM_output_0", "hn", "cn"], {"input": chunks, "h": zeros, "c": zeros}
    )
    lstm: Any = convert.from_onnx(data / name, node="/recurrent/LSTM").model
    y, end = lstm(x)
    streaming = rr.Streaming(lstm)
    found["whole"] = max(difference(y, expected[:, 0]), difference(end.h, h))
    found["streamed"] = difference(np.concatenate([streaming(step[None]) for step in x]), expected[:, 0])
    exact, exact_end = convert.from_onnx(data / name, node="/recurrent/LSTM", dtype="float64").model(
        x.astype("float64")
    )
    found["recurray beside float64"] = difference(y, exact)
    found["onnxruntime beside float64"] = difference(expected[:, 0], exact)
    found["c, of at most"] = float(np.abs(exact_end.c).max())
    found["c"] = difference(end.c, c)

    found["microseconds of a streamed step"] = speed(lstm, x[:1], folder / "lstm.onnx")

    branch = "If_0_then_branch__Inline_0__/decoder/rnn/LSTM"
    in_branch: Any = convert.from_onnx(data / "silero_vad.onnx", node=branch).model
    others = convert.from_torch(data / "silero_vad_16k.safetensors", "lstm_cell").model.params
    found["weights in a branch of silero_vad.onnx"] = largest_of(in_branch.params, lstm.params)
    found["weights in silero_vad_16k.safetensors"] = largest_of(others, lstm.params)
    return found


def speed(lstm: Any, x: Any, path: Path) -> dict[str, float]:
    """Medians of a step of the LSTM alone, in turns, one thread each: the same node in onnxruntime beside it."""
    import onnxruntime

    convert.to_onnx(lstm, path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names, zeros = ["y", "h_end", "c_end"], np.zeros((1, 1, 128), "float32")
    others = {kind: engine_of(lstm, kind) for kind in ("numpy", "native") if available(kind)}
    streams = {f"recurray, {kind}": rr.Streaming(layer) for kind, layer in others.items()}
    feed = {"x": x, "h": zeros, "c": zeros}

    def by_onnxruntime() -> None:
        _, feed["h"], feed["c"] = session.run(names, feed)

    calls = {name: partial(stream, x) for name, stream in streams.items()} | {"onnxruntime": by_onnxruntime}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(2000):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            times[name].append(time.perf_counter() - began)
    return {name: round(1e6 * float(np.median(values[100:])), 1) for name, values in times.items()}


def available(engine: str) -> bool:
    """Whether NumPy's backend has an engine."""
    try:
        rr.get_backend("numpy", engine=engine)
    except rr.BackendUnavailableError:
        return False
    return True


def engine_of(layer: Any, engine: str) -> Any:
    """The layer on an engine of NumPy's backend."""
    return layer.to(rr.get_backend("numpy", engine=engine))


def largest_of(some: Any, others: Any) -> float:
    """The largest difference between layers' params, both biases of a layer added up."""
    sums = [
        {"i": params["weight_ih_l0"], "h": params["weight_hh_l0"], "b": params["bias_ih_l0"] + params["bias_hh_l0"]}
        for params in (some, others)
    ]
    return max(difference(sums[0][name], sums[1][name]) for name in sums[0])


def exposed(path: Path, *names: str) -> Any:
    """Open a model with some values within it as outputs; return what runs it."""
    import onnx
    import onnxruntime

    onnxruntime.set_default_logger_severity(4)
    model = onnx.load(path)
    for name in names:
        model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    return onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"]).run


def nnsplit(folder: Path) -> dict[str, Any]:
    """All of nnsplit's English model; its program is bound to CUDA, so PyTorch's modules run its weights."""
    import torch

    path = fetch(NNSPLIT, folder) / "nnsplit" / "data" / "en" / "ts_cuda.pt"
    tensors = convert.read_tensors(path)
    table = tensors["embedding.weight"]
    embedding = rr.Embedding(*table.shape, params={"weight": table})
    rest: Any = convert.from_torch(path, ["lstm1", "lstm2", "out"]).model
    model = rr.Sequential(embedding, *rest.layers)

    state = torch.jit.load(str(path), map_location="cpu").state_dict()
    parts: dict[str, Any] = {
        "embedding": torch.nn.Embedding(*table.shape),
        "lstm1": torch.nn.LSTM(table.shape[1], 128, bidirectional=True, batch_first=True),
        "lstm2": torch.nn.LSTM(256, 64, bidirectional=True, batch_first=True),
        "out": torch.nn.Linear(128, len(tensors["out.bias"])),
    }
    for name, part in parts.items():
        own = {key.removeprefix(f"{name}."): value.float() for key, value in state.items() if key.startswith(name)}
        part.load_state_dict(own)
    text = b"This is a test This is another test. And a third one follows it without any dots"
    tokens = np.array([[byte + 2 if byte < 127 else 1 for byte in text]])
    with torch.no_grad():
        inner = parts["lstm2"](parts["lstm1"](parts["embedding"](torch.from_numpy(tokens)))[0])[0]
        expected = parts["out"](inner).numpy()
    dtypes = sorted({str(value.dtype) for value in tensors.values()})
    return {
        "outputs": difference(model(tokens)[0], expected),
        "of at most": float(np.abs(expected).max()),
        "of": dtypes,
    }


PARTS = {"silero": silero, "nnsplit": nnsplit}


def main() -> int:
    """Run it from the command line."""
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], metavar="part", help=f"of {', '.join(PARTS)}")
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name in parser.parse_args().parts or PARTS:
            found = PARTS[name](Path(folder))
            print(json.dumps({name: found}), flush=True)
            checked = [found[key] for key in ("whole", "streamed", "outputs") if key in found]
            wrong += [name for value in checked if not value < TOLERANCE[name]]
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
