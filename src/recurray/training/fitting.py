"""The call that trains a model: its arguments, checked before work starts."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recurray import checks, losses
from recurray.layers import Layer
from recurray.messages import shown
from recurray.training import progress as displays
from recurray.training.batch import Form
from recurray.training.best import Best
from recurray.training.checkpoint import Files
from recurray.training.data import source as source_of
from recurray.training.data import split
from recurray.training.history import History
from recurray.training.pieces import Cut
from recurray.training.ranks import Ranks, together
from recurray.training.run import Run
from recurray.training.setup import Plan, Setup
from recurray.training.update import Loss, Model, accuracy


@together
def fit(
    model: Any,
    loss: Loss | str,
    optimizer: Any,
    data: Any,
    *,
    epochs: int | None = None,
    steps: int | None = None,
    batch_size: int = 32,
    shuffle: bool = True,
    validation: Any = None,
    metrics: Mapping[str, Callable[..., Any]] | Sequence[str] | str | None = None,
    every: int | None = None,
    schedule: Any = None,
    clip_norm: float | None = None,
    clip_value: float | None = None,
    accumulate: int = 1,
    chunk: int | None = None,
    burn_in: int = 0,
    carry: bool = False,
    patience: int | None = None,
    monitor: str | None = None,
    mode: str = "min",
    restore_best: bool | None = None,
    callbacks: Any = (),
    checkpoint: Any = None,
    checkpoint_every: int | None = None,
    keep: int = 1,
    overwrite: bool = False,
    resume: Any = None,
    seed: Any = 0,
    progress: bool = True,
    communicator: Any = None,
) -> History:
    """Train a model: batches, epochs, validation, early stopping, the best params.

    The same arguments, seed, backend and machine give the same bits. The model's params change in place; what is
    returned is a table of what happened.

    Parameters
    ----------
    model : Layer
        What is trained. Of a class of your own it needs ``params``, ``backend``, and ``forward``, ``backward`` and a
        call of a layer's form.
    loss : callable or str
        ``loss(prediction, target)`` returns a value, a mean, and its gradient: one of `recurray.losses`, or its name.
        Where rows have lengths or a mask and the prediction has a step for each of theirs (and three axes), it is
        called with ``mask``, which says what counts.
    optimizer : Optimizer
        Made with ``model.params``.
    data : tuple, mapping, iterable or callable
        ``(x, target)``, or a mapping with "x" and "target" and of "lengths", "mask", "resets", "static" (see
        `Layer.forward`) and "target_mask" (what of the loss counts) those that there are: arrays with all rows, also
        of files that are mapped into memory. Where ``x`` is a list of arrays (steps, features), its rows are ragged;
        ``target`` is then an array, or a list with an array for each row; batches are of rows of similar lengths.
        Else an iterable of batches, each a tuple or mapping, or a function that makes one for each epoch, of a
        `numpy.random.Generator`, which is ``seed``'s and the same where a training is gone on with: what an iterable
        draws by one of its own isn't known here, and is another order then. NumPy's arrays are taken to the model's
        backend batch by batch.
    epochs, steps : int
        When it ends: after so many epochs, or so many updates; one of them, or both for what comes first.
    batch_size : int
        Rows of a batch; the last of an epoch may have fewer.
    shuffle : bool
        Whether each epoch draws an order of its own.
    validation : optional
        Data that isn't trained on, as ``data``; or a number between 0 and 1, the share of rows that is held out.
    metrics : mapping of str to callable, or str, optional
        What else is measured, by ``metric(prediction, target)`` (with ``mask`` as the loss); "accuracy" is known.
    every : int, optional
        Updates from one row of the history, and one validation, to the next; if omitted there is one for each epoch.
    schedule : callable, optional
        From the number of updates done to the learning rate, see `recurray.schedules`; or an object whose
        ``observe(value)`` is told the monitored value after each row and returns it.
    clip_norm, clip_value : float, optional
        See `recurray.optim.clip_grad_norm` and `recurray.optim.clip_grad_value`; values are clipped first.
    accumulate : int
        Batches to an update: as one that is so many times as large.
    chunk : int, optional
        Truncated backpropagation: rows are cut into chunks of so many steps, with an update for each; the state is
        carried from chunk to chunk, gradients aren't.
    burn_in : int
        The first steps of each row only warm the state up: they count in no loss and have no gradient.
    carry : bool
        Whether the state is carried from batch to batch of an epoch, for streams that are cut into batches.
    patience : int, optional
        So many rows of the history without a better one end the training.
    monitor : str, optional
        The column of the history by which one is better; if omitted "validation_loss", without validation "loss".
    mode : {"min", "max"}
        Whether less is better, or more.
    restore_best : bool, optional
        Whether the model ends with the params of the best row; if omitted, where there is ``patience``.
    callbacks : callable, or sequence of these
        Functions of the `Run`, called after each row of the history; or objects with ``on_step`` or ``on_epoch``.
    checkpoint : path-like, optional
        A file to go on from, written at each row of the history, at the end, and where Ctrl-C comes. It is a file of
        `recurray.save`, so `recurray.load` makes the model of it too. Where there is validation, the best params lie
        beside it as a file of their own: "run.best.safetensors" beside "run.safetensors".
    checkpoint_every : int, optional
        Every so many updates it is written too.
    keep : int
        How many checkpoints are kept: earlier ones have their update in their name, "run.step-120.safetensors".
    overwrite : bool
        Whether a checkpoint that is there already, and isn't gone on from, may be replaced.
    resume : path-like or True, optional
        The checkpoint to go on from, True for ``checkpoint`` itself if it is there. With the same model, data and
        options, and on the same machine, all ends in the same bits as if there had been no interruption; ``epochs``
        and ``steps`` may be more than they were.
    seed : int
        Decides the order of rows and what dropout draws.
    progress : bool
        Whether a terminal shows how far it is; it needs rich, and is quiet where there is no terminal.
    communicator : Communicator or mpi4py.MPI.Comm, optional
        Several processes train one model: each calls this with the same arguments, and takes its share of the rows of
        each batch, whose rows on all ranks ``batch_size`` counts. Gradients are averaged by what counts on each rank,
        so the result is that of one process, to rounding; dropout draws on each rank apart. Rank 0 writes the files.
        Where ranks differ, or one fails, all end. See `recurray.parallel`.

    Returns
    -------
    history : History
        A row for each epoch.

    Raises
    ------
    TrainingError
        A loss or gradient became NaN or infinite: the text says in which epoch and batch, and at which param.
    ValueError, TypeError
        Data don't fit together, hold NaN, or an argument is out of its range.
    FormatError
        The checkpoint to go on from is damaged.
    OSError
        A checkpoint can't be read or written, or is there already.
    KeyboardInterrupt
        Ctrl-C: the update has been finished, and the checkpoint written.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> x = np.random.default_rng(0).standard_normal((64, 10, 1)).astype("float32")
    >>> target = x.sum(axis=1)
    >>> model = rr.Sequential(rr.LSTM(1, 16, seed=0), rr.Last(), rr.Linear(16, 1, seed=1))
    >>> history = rr.fit(model, "mse", rr.optim.Adam(model.params, lr=1e-2), (x, target), epochs=20, validation=0.25)
    >>> len(history), history["validation_loss"][-1] < history["validation_loss"][0]
    (20, True)
    """
    batch_first = getattr(model, "batch_first", True) is not False
    for name in ("params", "backend", "forward", "backward"):
        if not hasattr(model, name):
            raise TypeError(f"model must be a layer, with {name}, not {type(model).__name__} {shown(model)}")
    if getattr(optimizer, "step", None) is None:
        raise TypeError(f"optimizer must be one of recurray.optim, not {type(optimizer).__name__} {shown(optimizer)}")
    _check_params(model, optimizer)
    if epochs is None and steps is None:
        raise ValueError("say when training ends: by epochs, or by steps")
    batch_size = checks.size("batch_size", batch_size)
    seed = checks.size("seed", seed, least=0, most=None)
    mode = checks.choice("mode", mode, ("min", "max"))
    plan = Plan(
        epochs=_optional("epochs", epochs, least=0),
        steps=_optional("steps", steps, least=0),
        every=_optional("every", every),
        accumulate=checks.size("accumulate", accumulate),
        clip_norm=_limit("clip_norm", clip_norm),
        clip_value=_limit("clip_value", clip_value),
        schedule=_schedule(schedule),
    )
    cut = Cut(
        _optional("chunk", chunk),
        checks.size("burn_in", burn_in, least=0),
        checks.flag("carry", carry),
        batch_first,
    )
    if isinstance(validation, float):
        if not 0 < validation < 1:
            raise ValueError(f"validation must be data, or a share between 0 and 1, not {validation!r}")
        rng = np.random.default_rng(np.random.SeedSequence(seed).spawn(4)[3])
        data, validation = split(data, validation, rng, batch_first=batch_first)
    shuffle = checks.flag("shuffle", shuffle)
    ranks = Ranks(communicator)
    form = Form(batch_size, shuffle, batch_first, ranks.share)
    source = source_of("data", data, form)
    held = None if validation is None else source_of("validation", validation, replace(form, shuffle=False))
    patience = _optional("patience", patience)
    restore = patience is not None if restore_best is None else checks.flag("restore_best", restore_best)
    best = Best(monitor or ("loss" if held is None else "validation_loss"), mode, patience, restore)
    wrapped = Model(model, _loss(loss), _metrics(metrics))
    show = displays.choose(checks.flag("progress", progress) and ranks.leads, plan.epochs)
    calls = [callbacks] if callable(callbacks) or not isinstance(callbacks, Sequence) else list(callbacks)
    every_update = _optional("checkpoint_every", checkpoint_every)
    files = _files(model, checkpoint, checks.size("keep", keep))
    begin = _resumed(checkpoint, resume, checks.flag("overwrite", overwrite))
    run = Run(Setup(wrapped, optimizer, source, held, cut, plan, best, seed, ranks), calls, show)
    if begin is not None:
        run.restore(begin)
    if files is not None:
        run.write_to(files, every_update)
    return run.train()


def _files(model: Any, path: Any, keep: int) -> Files | None:
    if path is None:
        return None
    if not isinstance(model, Layer):
        raise TypeError(f"a checkpoint needs a model that recurray.save can write, a layer, not {type(model).__name__}")
    return Files(path, keep)


def _resumed(path: Any, resume: Any, overwrite: bool) -> Path | None:
    """The checkpoint to go on from; refuse to replace another one."""
    if resume is True:
        if path is None:
            raise ValueError("resume=True goes on from the checkpoint, so say which: checkpoint=path")
        resume = path if Path(path).exists() else None
    if path is not None and Path(path).is_file() and not overwrite and (resume is None or not _same(resume, path)):
        raise FileExistsError(f"{path} is there already: resume=True goes on from it, overwrite=True replaces it")
    return None if resume is None else Path(resume)


def _same(one: Any, other: Any) -> bool:
    return Path(one).exists() and Path(one).samefile(other)


def _check_params(model: Any, optimizer: Any) -> None:
    """Refuse an optimizer of other params, which would train nothing."""
    if optimizer.params is model.params:
        return
    own = model.params
    for name, value in optimizer.params.items():
        if name not in own or own[name] is not value:
            raise ValueError(
                f"the optimizer isn't this model's: its param {shown(name)} isn't one of the model's: "
                "make it with model.params"
            )


def _optional(name: str, value: Any, least: int = 1) -> int | None:
    return None if value is None else checks.size(name, value, least)


def _limit(name: str, value: Any) -> float | None:
    if value is None:
        return None
    number = checks.number(name, value)
    if not number > 0:
        raise ValueError(f"{name} must be above 0, not {shown(value)}")
    return None if math.isinf(number) else number


def _schedule(schedule: Any) -> Any:
    if schedule is None or callable(schedule) or hasattr(schedule, "observe"):
        return schedule
    raise TypeError(f"schedule must be a function of the number of updates, not {type(schedule).__name__}")


def _loss(loss: Any) -> Loss:
    if isinstance(loss, str):
        return getattr(losses, checks.choice("loss", loss, losses.__all__))  # type: ignore[no-any-return]
    if not callable(loss):
        raise TypeError(f"loss must be one of recurray.losses, or a function like these, not {type(loss).__name__}")
    return loss  # type: ignore[no-any-return]


def _metrics(metrics: Any) -> dict[str, Callable[..., Any]]:
    known = {"accuracy": accuracy}
    if metrics is None:
        return {}
    if isinstance(metrics, Mapping):
        for name, metric in metrics.items():
            if not isinstance(name, str) or not callable(metric):
                raise TypeError(f"metrics must map names to functions, not {shown(name)} to {type(metric).__name__}")
        return dict(metrics)
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    return {name: known[checks.choice("metrics", name, tuple(known))] for name in names}
