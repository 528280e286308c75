"""NAdam: Adam with Nesterov's momentum."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class NAdam(ElementwiseOptimizer):
    """NAdam [1]_: Adam that looks ahead, with the momentum that it will have at the next step.

    The momentum of step t is mu_t = beta1 (1 - 0.96^(t momentum_decay) / 2), and M_t the product of the first t of
    them. With Adam's means m and v, v divided by 1 - beta2^t,
    param = param - lr ((1 - mu_t) / (1 - M_t) grad + mu_{t+1} / (1 - M_{t+1}) m) / (sqrt(v) + eps).

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself. A step assigns new arrays to it.
    lr : float
        The learning rate; the attribute ``lr`` may be set at any time.
    betas : pair of float
        What the two means keep of their old value at each step, beta1 and beta2.
    eps : float
        Added to the divisor.
    weight_decay : float
        This times the param is added to its gradient.
    momentum_decay : float
        How fast the momentum approaches beta1 from its half.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] T. Dozat, "Incorporating Nesterov Momentum into Adam", ICLR 2016 workshop.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.NAdam(params, lr=0.125)
    >>> optimizer.step({"w": np.array([1e-3, -1e3])})
    >>> params["w"].round(3)
    array([0.868, 2.132])
    """

    _options = ("betas", "eps", "weight_decay", "momentum_decay")
    _counters = ("step_count", "momentum_product")
    betas = Setting(hyperparameters.decays)
    eps = Setting(hyperparameters.not_negative)
    momentum_decay = Setting(hyperparameters.not_negative)
    momentum_product = Setting(hyperparameters.not_negative)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        groups: Any = None,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.momentum_decay = momentum_decay
        self.momentum_product = 1.0
        super().__init__(params, lr, weight_decay, groups)

    def _start(self, param: Array) -> Moments:
        xp = namespace_of(param)
        return {"first_moment": xp.zeros_like(param), "second_moment": xp.zeros_like(param)}

    def _count_step(self) -> None:
        super()._count_step()
        self.momentum_product *= self._momentum(self.step_count)

    def _momentum(self, step: int) -> float:
        return float(self.betas[0] * (1.0 - 0.5 * 0.96 ** (step * self.momentum_decay)))

    def _numbers(self) -> dict[str, float]:
        beta1, beta2 = self.betas
        now, ahead = self._momentum(self.step_count), self._momentum(self.step_count + 1)
        return {
            "beta1": beta1,
            "rest1": 1.0 - beta1,
            "beta2": beta2,
            "rest2": 1.0 - beta2,
            "of_grad": self.lr * (1.0 - now) / (1.0 - self.momentum_product),
            "of_first": self.lr * ahead / (1.0 - self.momentum_product * ahead),
            "correction": 1.0 / (1.0 - beta2**self.step_count),
            "weight_decay": self.weight_decay,
            "eps": self.eps,
        }

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        grad = self._with_weight_decay(grad, param, n.weight_decay)
        first = n.beta1 * moments["first_moment"] + n.rest1 * grad
        second = n.beta2 * moments["second_moment"] + n.rest2 * (grad * grad)
        divisor = namespace_of(param).sqrt(second * n.correction) + n.eps
        new = {"first_moment": first, "second_moment": second}
        return param - (n.of_grad * grad + n.of_first * first) / divisor, new
