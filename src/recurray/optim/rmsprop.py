"""RMSprop."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray import checks
from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class RMSprop(ElementwiseOptimizer):
    """RMSprop [1]_: each gradient divided by a running root mean square of itself.

    v = alpha v + (1 - alpha) grad^2 and param = param - lr grad / (sqrt(v) + eps). Centered [2]_, the square of a
    running mean of the gradient is subtracted from v, which leaves its variance. With momentum, a velocity
    u = momentum u + grad / (sqrt(v) + eps) takes the quotient's place.

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself. A step assigns new arrays to it.
    lr : float
        The learning rate; the attribute ``lr`` may be set at any time.
    alpha : float
        What the running means keep of their old value at each step.
    eps : float
        Added to the divisor.
    weight_decay : float
        This times the param is added to its gradient.
    momentum : float
        How much of the velocity is kept.
    centered : bool
        Whether to divide by the standard deviation.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    Notes
    -----
    A variance that rounding has made negative counts as 0; PyTorch's square root makes it NaN.

    References
    ----------
    .. [1] T. Tieleman and G. Hinton, "Lecture 6.5 - rmsprop", Coursera: Neural Networks for Machine Learning, 2012.
    .. [2] A. Graves, "Generating Sequences With Recurrent Neural Networks", 2013, arXiv:1308.0850, equations 38 to 41.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.RMSprop(params, lr=0.125, alpha=0.75)
    >>> optimizer.step({"w": np.array([1e-3, -1e3])})
    >>> params["w"].round(3)
    array([0.75, 2.25])
    """

    _options = ("alpha", "eps", "weight_decay", "momentum", "centered")
    alpha = Setting(hyperparameters.decay)
    eps = Setting(hyperparameters.not_negative)
    momentum = Setting(hyperparameters.not_negative)
    centered = Setting(checks.flag)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        groups: Any = None,
    ) -> None:
        self.alpha = alpha
        self.eps = eps
        self.momentum = momentum
        self.centered = centered
        super().__init__(params, lr, weight_decay, groups)

    def _start(self, param: Array) -> Moments:
        names = ["mean_square"]
        if self.centered:
            names.append("mean_gradient")
        if self.momentum:
            names.append("velocity")
        return {name: namespace_of(param).zeros_like(param) for name in names}

    def _numbers(self) -> dict[str, float]:
        return {
            "lr": self.lr,
            "alpha": self.alpha,
            "rest": 1.0 - self.alpha,
            "momentum": self.momentum,
            "weight_decay": self.weight_decay,
            "eps": self.eps,
        }

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        xp = namespace_of(param)
        grad = self._with_weight_decay(grad, param, n.weight_decay)
        square = n.alpha * moments["mean_square"] + n.rest * (grad * grad)
        new = {"mean_square": square}
        if self.centered:
            mean = n.alpha * moments["mean_gradient"] + n.rest * grad
            new["mean_gradient"] = mean
            square = xp.maximum(square - mean * mean, xp.zeros_like(square))
        divisor = xp.sqrt(square) + n.eps
        if not self.momentum:
            return param - n.lr * grad / divisor, new
        new["velocity"] = velocity = n.momentum * moments["velocity"] + grad / divisor
        return param - n.lr * velocity, new
