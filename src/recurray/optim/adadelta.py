"""Adadelta."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class Adadelta(ElementwiseOptimizer):
    """Adadelta [1]_: steps in the params' own units, from the sizes of past steps and past gradients.

    v = rho v + (1 - rho) grad^2, step = grad sqrt(d + eps) / sqrt(v + eps), d = rho d + (1 - rho) step^2,
    and param = param - lr step.

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself. A step assigns new arrays to it.
    lr : float
        The factor on each step, 1 in the paper; the attribute ``lr`` may be set at any time.
    rho : float
        What the running means keep of their old value at each step.
    eps : float
        Added under both roots.
    weight_decay : float
        This times the param is added to its gradient.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] M. D. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, arXiv:1212.5701.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.Adadelta(params, rho=0.75)
    >>> optimizer.step({"w": np.array([1.0, -1e3])})
    >>> params["w"].round(3)
    array([0.998, 2.002])
    """

    _options = ("rho", "eps", "weight_decay")
    rho = Setting(hyperparameters.decay)
    eps = Setting(hyperparameters.not_negative)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        groups: Any = None,
    ) -> None:
        self.rho = rho
        self.eps = eps
        super().__init__(params, lr, weight_decay, groups)

    def _start(self, param: Array) -> Moments:
        xp = namespace_of(param)
        return {"mean_square": xp.zeros_like(param), "mean_squared_step": xp.zeros_like(param)}

    def _numbers(self) -> dict[str, float]:
        numbers = {"lr": self.lr, "rho": self.rho, "rest": 1.0 - self.rho, "eps": self.eps}
        return numbers | {"weight_decay": self.weight_decay}

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        xp = namespace_of(param)
        grad = self._with_weight_decay(grad, param, n.weight_decay)
        square = n.rho * moments["mean_square"] + n.rest * (grad * grad)
        step = xp.sqrt(moments["mean_squared_step"] + n.eps) / xp.sqrt(square + n.eps) * grad
        squared_step = n.rho * moments["mean_squared_step"] + n.rest * (step * step)
        return param - n.lr * step, {"mean_square": square, "mean_squared_step": squared_step}
