"""A training in a file: a model file of `recurray.save`, with all that going on needs beside the params.

The arrays that aren't params have names that begin with a colon, which no param's name does: ":optimizer.", ":state."
and ":best.". The rest is in the entry "training" of the file's content.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import numpy as np

from recurray import saving, sealed
from recurray.arrays import to_numpy
from recurray.files import FormatError
from recurray.messages import in_words, shown
from recurray.state import State

VERSION = 1
ENTRY = "training"
OPTIMIZER, STATE, BEST = ":optimizer.", ":state.", ":best."

Arrays = dict[str, Any]


class Files:
    """Where a training's checkpoints go: the last one, the best params, and earlier ones.

    Parameters
    ----------
    path : path-like
        The last checkpoint. Beside ``run.safetensors`` lie ``run.best.safetensors``, the best params as
        `recurray.save` writes them, and ``run.step-120.safetensors``, earlier checkpoints.
    keep : int
        How many checkpoints are kept, the last one among them.
    """

    def __init__(self, path: str | Path, keep: int) -> None:
        self.path, self.keep = Path(path), keep
        self._writer = sealed.Writer(path, saving.KIND)
        self._earlier: list[Path] = []

    def __enter__(self) -> Self:
        self._writer.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.__exit__()

    def beside(self, word: str) -> Path:
        """A file beside the last checkpoint."""
        return self.path.with_name(f"{self.path.stem}.{word}{self.path.suffix}")

    def check(self, data: bytes) -> None:
        """Find out, before any work, whether the checkpoint can be written."""
        self._writer.check(data)

    def write(self, data: bytes, step: int) -> None:
        """Write the last checkpoint; remove the oldest of those that are kept beside it."""
        if self.keep > 1:
            place = self.beside(f"step-{step}")
            with sealed.Writer(place, saving.KIND) as writer:
                writer.write(data)
            self._earlier = [*(path for path in self._earlier if path != place), place]
            while len(self._earlier) > self.keep:
                self._earlier.pop(0).unlink(missing_ok=True)
        self._writer.write(data)


def serialized(model: Any, arrays: Arrays, training: Mapping[str, Any]) -> bytes:
    """Return the bytes of a checkpoint: the model's, and ``arrays`` and ``training`` of `resuming.contents`."""
    params, content = saving.contents(model, {})
    return sealed.serialized(params | arrays, {**content, ENTRY: {"version": VERSION, **training}}, saving.KIND)


def read(path: str | Path) -> tuple[Arrays, Arrays, dict[str, Any]]:
    """Read a checkpoint: the params, the other arrays, and what `resuming.contents` told.

    Raises
    ------
    FormatError
        The file is damaged, or holds no training.
    OSError
        It can't be read.
    """
    arrays, content = sealed.load(path, saving.KIND)
    training = content.get(ENTRY)
    if not isinstance(training, dict):
        raise FormatError(f"{path} holds no training to go on with: it is a model that recurray.save wrote")
    if training.get("version") != VERSION:
        raise FormatError(f"{path} holds a training in a form that this version of recurray doesn't know")
    return *parted(arrays), training


def parted(arrays: Mapping[str, Any]) -> tuple[Arrays, Arrays]:
    """The params, and the arrays that belong to a training."""
    params = {name: value for name, value in arrays.items() if not name.startswith(":")}
    return params, {name: value for name, value in arrays.items() if name not in params}


def check_params(path: str | Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse the checkpoint of another model."""
    differ = [
        *(f"{name} isn't in it" for name in own if name not in saved),
        *(f"it has {name}, which the model lacks" for name in saved if name not in own),
        *(
            f"{name} is {in_words(saved[name].shape)} there and {in_words(own[name].shape)} here"
            for name in own
            if name in saved and tuple(saved[name].shape) != tuple(own[name].shape)
        ),
    ]
    if differ:
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise ValueError(f"{path} is the checkpoint of another model: {'; '.join(differ[:3])}{more}")


def check_options(path: str | Path, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse to go on with other options than a training began with, by which it would be another one."""
    differ = [f"{name}={own[name]!r}, not {saved.get(name)!r}" for name in own if saved.get(name) != own[name]]
    if differ:
        raise ValueError(
            f"{path} is of a training with other options, so going on would be another one: here {'; '.join(differ)}"
        )


def flat(state: Any, arrays: Arrays, name: str = STATE) -> Any:
    """Put a state's arrays among ``arrays``, and return its form: names of these, lists, null."""
    if state is None:
        return None
    if isinstance(state, State):
        return {"state": [flat(part, arrays, f"{name}{key}") for key, part in state._asdict().items()]}
    if isinstance(state, tuple):
        return {"tuple": [flat(part, arrays, f"{name}{place}.") for place, part in enumerate(state)]}
    arrays[name] = to_numpy(state)
    return name


def unflat(form: Any, arrays: Arrays, asarray: Callable[[Any], Any]) -> Any:
    """Make a state of its form again."""
    if form is None:
        return None
    if isinstance(form, str):
        return asarray(arrays[form])
    if not isinstance(form, dict) or [*form] not in (["state"], ["tuple"]):
        raise ValueError(f"expected the form of a state, not {shown(form)}")
    ((kind, parts),) = form.items()
    made = [unflat(part, arrays, asarray) for part in parts]
    return State(*made) if kind == "state" else tuple(made)


def within(arrays: Arrays, prefix: str) -> Arrays:
    """The arrays whose names begin with a prefix, by what follows."""
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}


def as_json(value: Any) -> Any:
    """Numbers, in dicts and lists, as JSON can hold them, which knows no infinity and no NaN."""
    if isinstance(value, dict):
        return {name: as_json(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(part) for part in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value.item() if isinstance(value, np.generic) else value


def from_json(value: Any) -> Any:
    """What `as_json` was given; an optimizer's name stays as it is."""
    if isinstance(value, dict):
        return {name: part if name == "optimizer" else from_json(part) for name, part in value.items()}
    if isinstance(value, list):
        return [from_json(part) for part in value]
    if isinstance(value, str):
        if value not in ("nan", "inf", "-inf"):
            raise ValueError(f"expected a number, not {shown(value)}")
        return float(value)
    return value


def generator_state(rng: np.random.Generator, state: Any) -> None:
    """Set a generator to a state that a file holds."""
    rng.bit_generator.state = state
    if rng.bit_generator.state != state:  # what doesn't fit is cut off
        raise ValueError("no generator has the state that it holds")
