"""All that going on with a training needs: taken out of it, and put into one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from recurray.arrays import to_numpy
from recurray.files import FormatError
from recurray.training import checkpoint
from recurray.training.checkpoint import BEST, OPTIMIZER, Arrays, as_json, from_json, within
from recurray.training.history import History
from recurray.training.position import Position
from recurray.training.setup import Setup


def stand_of(setup: Setup, position: Position) -> tuple[Arrays, dict[str, Any]]:
    """Return what the next updates depend on beside the model: arrays, and what JSON can hold."""
    own = dict(setup.optimizer.state_dict())
    arrays, training = position.contents(setup.ranks)
    schedule = setup.plan.schedule
    training |= {
        "optimizer": as_json(own.pop("settings")),
        "schedule": as_json(schedule.state_dict()) if hasattr(schedule, "state_dict") else None,
        "options": setup.options(),
    }
    return arrays | {OPTIMIZER + name: value for name, value in own.items()}, training


def take_stand(setup: Setup, position: Position, arrays: Arrays, training: Mapping[str, Any]) -> None:
    """Take over what `stand_of` returned."""
    moments = within(arrays, OPTIMIZER)
    setup.optimizer.load_state_dict({"settings": from_json(training["optimizer"]), **moments})
    if training["schedule"] is not None:
        if not hasattr(setup.plan.schedule, "load_state_dict"):
            raise ValueError("it holds the state of a schedule, and this one has none")
        setup.plan.schedule.load_state_dict(from_json(training["schedule"]))
    asarray = setup.model.model.backend.asarray
    position.take(arrays, training, setup.ranks, asarray, carries=setup.cut.carries)


def contents(setup: Setup, position: Position, history: History, seconds: float) -> tuple[Arrays, dict[str, Any]]:
    """Return all that going on needs beside the model: arrays, and what JSON can hold."""
    arrays, training = stand_of(setup, position)
    training |= {
        "history": as_json(history.rows),
        "best": history.best,
        "waited": setup.best.waited,
        "seconds": seconds,
    }
    return arrays | {BEST + name: to_numpy(value) for name, value in (setup.best.params or {}).items()}, training


def restore(path: Any, setup: Setup, position: Position, history: History) -> float:
    """Go on from where a checkpoint ends; return how many seconds the training has taken.

    Raises
    ------
    ValueError
        It is of another model, optimizer, or training.
    FormatError
        It is damaged.
    """
    model, best = setup.model.model, setup.best
    params, arrays, training = checkpoint.read(path)
    checkpoint.check_params(path, params, model.params)
    checkpoint.check_options(path, training.get("options", {}), setup.options())
    try:
        take_stand(setup, position, arrays, training)
        history.rows = from_json(training["history"])
        history.best, best.waited = training["best"], training["waited"]
        kept = within(arrays, BEST)
        best.params = {name: model.backend.asarray(value) for name, value in kept.items()} or None
        seconds = training["seconds"]
    except (KeyError, AttributeError, TypeError) as error:
        raise FormatError(f"{path} holds no training that can be gone on with here: {error}") from error
    model.load_state_dict(params)
    return float(seconds)
