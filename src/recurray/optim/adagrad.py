"""Adagrad."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class Adagrad(ElementwiseOptimizer):
    """Adagrad [1]_: each gradient divided by the root of the sum of all its squares so far.

    s = s + grad^2 and param = param - lr_t grad / (sqrt(s) + eps), with lr_t = lr / (1 + (t - 1) lr_decay).

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself. A step assigns new arrays to it.
    lr : float
        The learning rate; the attribute ``lr`` may be set at any time.
    lr_decay : float
        How fast the learning rate falls with the step count t.
    weight_decay : float
        This times the param is added to its gradient.
    initial_accumulator_value : float
        The sum s before the first step.
    eps : float
        Added to the divisor.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] J. Duchi, E. Hazan and Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic
       Optimization", Journal of Machine Learning Research 12, 2011.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.Adagrad(params, lr=0.125)
    >>> optimizer.step({"w": np.array([1e-3, -1e3])})
    >>> params["w"].round(3)
    array([0.875, 2.125])
    """

    _options = ("lr_decay", "weight_decay", "initial_accumulator_value", "eps")
    lr_decay = Setting(hyperparameters.not_negative)
    initial_accumulator_value = Setting(hyperparameters.not_negative)
    eps = Setting(hyperparameters.not_negative)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        groups: Any = None,
    ) -> None:
        self.lr_decay = lr_decay
        self.initial_accumulator_value = initial_accumulator_value
        self.eps = eps
        super().__init__(params, lr, weight_decay, groups)

    def _start(self, param: Array) -> Moments:
        return {"sum_of_squares": namespace_of(param).full_like(param, self.initial_accumulator_value)}

    def _numbers(self) -> dict[str, float]:
        lr = self.lr / (1.0 + (self.step_count - 1) * self.lr_decay)
        return {"lr": lr, "weight_decay": self.weight_decay, "eps": self.eps}

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        grad = self._with_weight_decay(grad, param, n.weight_decay)
        total = moments["sum_of_squares"] + grad * grad
        return param - n.lr * grad / (namespace_of(param).sqrt(total) + n.eps), {"sum_of_squares": total}
