"""Learning-rate schedules: the learning rate as a pure function of the number of steps taken.

A schedule is called with a step, counted from 0, and remembers nothing. So a resumed training needs no more than
its step count to go on with the same learning rates::

    schedule = rr.schedules.Cosine(lr=1e-3, steps=10_000)
    for step in range(10_000):
        optimizer.lr = schedule(step)
        ...
        optimizer.step(grads)

`ReduceOnPlateau` alone goes by what it is told, and has a state to be saved. Any function of the step count will do in
the place of the others. Each takes integers from 0 on: ``TypeError`` and
``ValueError`` for anything else, and ``ValueError`` where a learning rate that grows is beyond the largest number.
"""

from recurray.schedules.cycles import CosineRestarts, Cyclic, OneCycle
from recurray.schedules.decays import Cosine, Exponential, Step
from recurray.schedules.plateau import ReduceOnPlateau

__all__ = ["Cosine", "CosineRestarts", "Cyclic", "Exponential", "OneCycle", "ReduceOnPlateau", "Step"]
