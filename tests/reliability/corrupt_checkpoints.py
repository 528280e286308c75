"""Damage checkpoints at random, and see that each loads as what it says, or is refused by recurray's own error.

python tests/reliability/corrupt_checkpoints.py --count 4000

Half of them have bytes changed, lost, added or moved. The others are written with other contents, so that every digest
is right: settings, names, shapes, types and values that don't belong together, and any JSON where something else is
expected. Each is loaded as a model and resumed as a run. Memory and time are bounded.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recurray.language_model import checkpoint, model
from recurray.language_model.errors import CheckpointError
from recurray.language_model.settings import Settings
from recurray.language_model.training import Training
from reliability import damage
from reliability.damage import damaged, ends_of_safetensors, megabytes

TEXT = "the quick brown fox jumps over the lazy dog.\n" * 8
SETTINGS = Settings(hidden_size=8, embedding_size=3, layers=2, batch_size=2, steps=5, epochs=2, dropout=0.2)

Contents = tuple[dict[str, Any], dict[str, Any]]


@dataclass
class Figures(damage.Figures):
    """What was done and found."""

    unchanged: int = 0  # damaged where it doesn't matter: in a space of the header, say
    as_written: int = 0  # other contents, which belong together


def corrupt_checkpoints(count: int, seed: int = 0) -> Figures:
    """Do it ``count`` times."""
    figures, rng = Figures(), random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        training = Training(TEXT, SETTINGS)
        for progress in training.run():
            if progress.step == 5:
                break
        training.save(path)
        whole, contents = path.read_bytes(), checkpoint.load(path)
        _load(path)
        before, ends = megabytes(), ends_of_safetensors(whole)
        for number in range(count):
            if number % 2:
                how, data = damaged(rng, whole, ends, damage.WORDS)
                expected = contents
            else:
                how, expected = _changed(rng, contents)
                try:
                    data = checkpoint.serialized(*expected)
                except (ValueError, TypeError):  # JSON or the file can't hold it
                    data = b""
            path.write_bytes(data)
            with figures.reading(how, CheckpointError):
                _judge(figures, how, _load(path), expected, is_changed=not number % 2)
        figures.megabytes = megabytes() - before
    return figures


def _load(path: Path) -> tuple[Contents, dict[str, Any] | None, Contents | None]:
    """What is in a checkpoint: all, its model's params, and what a run that goes on from it would save."""
    contents = checkpoint.load(path)
    errors = []
    params, resumed = None, None
    try:
        params = model.load(path)[0].state_dict()
    except CheckpointError as error:
        errors.append(error)
    try:
        resumed = Training.resume(path, TEXT).contents()
    except CheckpointError as error:
        errors.append(error)
    if len(errors) == 2:
        raise errors[0]
    return contents, params, resumed


def _judge(figures: Figures, how: str, found: Any, expected: Contents, *, is_changed: bool) -> None:
    contents, params, resumed = found
    right = _same(contents[0], expected[0]) and contents[1] == expected[1]
    if params is not None:
        stored = {name.removeprefix("model."): v for name, v in expected[0].items() if name.startswith("model.")}
        right &= _same(params, stored)
    if resumed is not None:
        right &= _same(resumed[0], {name: expected[0].get(name) for name in resumed[0]})
        right &= all(resumed[1][name] == expected[1][name] for name in ("step", "position", "order", "dropout"))
    if not right:
        figures.wrong.append(how)
    elif is_changed:
        figures.as_written += 1
    else:
        figures.unchanged += 1


def _same(some: dict[str, Any], others: dict[str, Any]) -> bool:
    return some.keys() == others.keys() and all(
        value.dtype == others[name].dtype and np.array_equal(value, others[name], equal_nan=value.dtype.kind == "f")
        for name, value in some.items()
    )


# Contents


def _changed(rng: random.Random, contents: Contents) -> tuple[str, Contents]:
    """A way in which contents are changed, and the contents."""
    tensors, metadata = dict(contents[0]), copy.deepcopy(contents[1])
    hows = []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        change = rng.choice(CHANGES)
        hows.append(change.__name__)
        change(rng, tensors, metadata)
    return " and ".join(hows), (tensors, metadata)


def _any_json(rng: random.Random) -> Any:
    return damage.any_json(rng, ("Adam",), "abc")


def _setting(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if isinstance(metadata.get("settings"), dict) and metadata["settings"]:
        metadata["settings"][rng.choice(sorted(metadata["settings"]))] = _any_json(rng)


def _no_setting(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if isinstance(metadata.get("settings"), dict) and metadata["settings"]:
        del metadata["settings"][rng.choice(sorted(metadata["settings"]))]


def _large_setting(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if isinstance(metadata.get("settings"), dict):
        name = rng.choice(("hidden_size", "embedding_size", "layers", "batch_size", "steps", "epochs"))
        metadata["settings"][name] = rng.choice((64, 100, 4096, 2**17, 2**20))


def _entry(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    metadata[rng.choice([*sorted(metadata), "more"])] = _any_json(rng)


def _no_entry(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if metadata:
        del metadata[rng.choice(sorted(metadata))]


def _deep_entry(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    """Somewhere in a generator's or the optimizer's state."""
    node = metadata.get(rng.choice(("order", "dropout", "optimizer")))
    while isinstance(node, dict) and node:
        name = rng.choice(sorted(node))
        if not isinstance(node[name], dict) or rng.random() < 0.3:
            node[name] = _any_json(rng)
            return
        node = node[name]


def _no_tensor(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        del tensors[rng.choice(sorted(tensors))]


def _renamed(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        value = tensors.pop(rng.choice(sorted(tensors)))
        tensors[rng.choice(("x", "", "model.", "model.x", ":state.1.h", ":optimizer.x", "__metadata", *tensors))] = (
            value
        )


def _reshaped(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        name = rng.choice(sorted(tensors))
        value = tensors[name]
        shapes = ((-1,), (1, -1), value.shape[::-1], (*value.shape, 1), (0, 2**40), (0,), ())
        shape = rng.choice(shapes)
        fits = -1 in shape or np.prod(shape, dtype=object) == value.size
        tensors[name] = value.reshape(shape) if fits else np.zeros(shape, value.dtype)


def _other_type(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        name = rng.choice(sorted(tensors))
        with np.errstate(invalid="ignore"):
            tensors[name] = tensors[name].astype(rng.choice(("float64", "float32", "int32", "int64", "uint8", "bool")))


def _not_finite(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    name = rng.choice([name for name, value in tensors.items() if value.dtype.kind == "f" and value.size] or [None])
    if name is not None:
        tensors[name] = tensors[name].copy()
        tensors[name].flat[rng.randrange(tensors[name].size)] = rng.choice((np.nan, np.inf, -np.inf))


def _other_values(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        name = rng.choice(sorted(tensors))
        tensors[name] = (tensors[name] * rng.choice((0, -1, 3))).astype(tensors[name].dtype)


def _swapped(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    if tensors:
        one, other = rng.choice(sorted(tensors)), rng.choice(sorted(tensors))
        tensors[one], tensors[other] = tensors[other], tensors[one]


def _vocabulary(rng: random.Random, tensors: dict[str, Any], metadata: dict[str, Any]) -> None:
    had = metadata.get("vocabulary")
    if isinstance(had, str):
        metadata["vocabulary"] = rng.choice((had[::-1], had[1:], had + "é", had + had[:1], "", had[:-1] + "\ud800"))


CHANGES = (
    _setting, _no_setting, _large_setting, _entry, _no_entry, _deep_entry, _no_tensor, _renamed, _reshaped, _other_type,
    _not_finite, _other_values, _swapped, _vocabulary,
)  # fmt: skip


if __name__ == "__main__":
    assert __doc__
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--count", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    found = corrupt_checkpoints(**vars(parser.parse_args()))
    print(json.dumps(asdict(found)))
    sys.exit(not found.good())
