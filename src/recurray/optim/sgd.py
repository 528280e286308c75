"""Stochastic gradient descent, plain, with momentum, and with Nesterov's."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray import checks
from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class SGD(ElementwiseOptimizer):
    """Stochastic gradient descent.

    With momentum [1]_ the velocity v = momentum v + (1 - dampening) grad takes the gradient's place, at the first
    step v = grad; with ``nesterov`` grad + momentum v does. Then param = param - lr v.

    Parameters
    ----------
    params : mutable mapping of str to array
        The arrays to be updated, float32 or float64: a model's ``params`` itself. A step assigns new arrays to it.
    lr : float
        The learning rate; the attribute ``lr`` may be set at any time.
    momentum : float
        How much of the velocity is kept.
    dampening : float
        How much of the gradient is left out of the velocity.
    weight_decay : float
        This times the param is added to its gradient.
    nesterov : bool
        Whether the momentum is Nesterov's. It needs momentum, and no dampening.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] I. Sutskever, J. Martens, G. Dahl and G. Hinton, "On the importance of initialization and momentum in deep
       learning", ICML 2013. As in PyTorch the velocity isn't scaled by the learning rate.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.SGD(params, lr=0.5, momentum=0.5)
    >>> for _ in range(2):
    ...     optimizer.step({"w": np.array([1.0, 0.0])})
    >>> params["w"]
    array([-0.25,  2.  ])
    """

    _options = ("momentum", "dampening", "weight_decay", "nesterov")
    momentum = Setting(hyperparameters.not_negative)
    dampening = Setting(hyperparameters.not_negative)
    nesterov = Setting(checks.flag)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        groups: Any = None,
    ) -> None:
        self.momentum = momentum
        self.dampening = dampening
        self.nesterov = nesterov
        super().__init__(params, lr, weight_decay, groups)

    def _check_settings(self) -> None:
        if self.nesterov and (self.momentum == 0.0 or self.dampening != 0.0):
            raise ValueError(
                "nesterov needs momentum above 0 and no dampening, "
                f"not momentum={self.momentum!r}, dampening={self.dampening!r}"
            )

    def _start(self, param: Array) -> Moments:
        return {"velocity": namespace_of(param).zeros_like(param)} if self.momentum else {}

    def _numbers(self) -> dict[str, float]:
        share = 1.0 if self.step_count == 1 else 1.0 - self.dampening
        return {"lr": self.lr, "momentum": self.momentum, "share": share, "weight_decay": self.weight_decay}

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        grad = self._with_weight_decay(grad, param, n.weight_decay)
        if not self.momentum:
            return param - n.lr * grad, {}
        velocity = n.momentum * moments["velocity"] + n.share * grad
        direction = grad + n.momentum * velocity if self.nesterov else velocity
        return param - n.lr * direction, {"velocity": velocity}
