"""Optimizers: each takes a mapping of params and, step after step, gradients of the same names and shapes.

The formulas, arguments and defaults are those of ``torch.optim``::

    optimizer = rr.optim.Adam(model.params, lr=1e-3)
    y, state, cache = model.forward(x)
    loss, dy = rr.losses.mse(y, target)
    dx, dstate, grads = model.backward(cache, dy)
    grads, norm = rr.optim.clip_grad_norm(grads, max_norm=1.0)
    optimizer.step(grads)

No array that anyone else holds is written to: a step puts new arrays into the mapping, which is the model's own.
"""

from recurray.optim.adadelta import Adadelta
from recurray.optim.adagrad import Adagrad
from recurray.optim.adam import Adam, AdamW
from recurray.optim.clipping import clip_grad_norm, clip_grad_value
from recurray.optim.loss_scaler import LossScaler
from recurray.optim.nadam import NAdam
from recurray.optim.optimizer import Optimizer
from recurray.optim.rmsprop import RMSprop
from recurray.optim.sgd import SGD

__all__ = [
    "SGD",
    "Adadelta",
    "Adagrad",
    "Adam",
    "AdamW",
    "LossScaler",
    "NAdam",
    "Optimizer",
    "RMSprop",
    "clip_grad_norm",
    "clip_grad_value",
]
