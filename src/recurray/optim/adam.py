"""Adam, and AdamW, which decays the weights apart from the gradients."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

from recurray import checks
from recurray.arrays import Array, namespace_of
from recurray.optim import hyperparameters
from recurray.optim.arrays import Moments
from recurray.optim.elementwise import ElementwiseOptimizer
from recurray.optim.hyperparameters import Setting


class Adam(ElementwiseOptimizer):
    """Adam [1]_: steps of about the learning rate, whatever the scale of the gradients.

    It keeps running means of each gradient and of its square, m = beta1 m + (1 - beta1) grad and
    v = beta2 v + (1 - beta2) grad^2, and divides them by 1 - beta1^t and 1 - beta2^t because they started at 0;
    then param = param - lr m / (sqrt(v) + eps).

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
    amsgrad : bool
        Whether v is replaced by the largest v so far [2]_.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] D. P. Kingma and J. Ba, "Adam: A Method for Stochastic Optimization", ICLR 2015, arXiv:1412.6980.
    .. [2] S. J. Reddi, S. Kale and S. Kumar, "On the Convergence of Adam and Beyond", ICLR 2018, arXiv:1904.09237.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.Adam(params, lr=0.125)
    >>> optimizer.step({"w": np.array([1e-3, -1e3])})
    >>> params["w"].round(3)
    array([0.875, 2.125])
    """

    _options = ("betas", "eps", "weight_decay", "amsgrad")
    betas = Setting(hyperparameters.decays)
    eps = Setting(hyperparameters.not_negative)
    amsgrad = Setting(checks.flag)

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        amsgrad: bool = False,
        groups: Any = None,
    ) -> None:
        self.betas = betas
        self.eps = eps
        self.amsgrad = amsgrad
        super().__init__(params, lr, weight_decay, groups)

    def _start(self, param: Array) -> Moments:
        names = ("first_moment", "second_moment", *(("largest_second_moment",) if self.amsgrad else ()))
        return {name: namespace_of(param).zeros_like(param) for name in names}

    def _numbers(self) -> dict[str, float]:
        (beta1, beta2), steps = self.betas, self.step_count
        root = (1.0 - beta2**steps) ** 0.5  # by which numerator and divisor are multiplied: that saves a division
        return {
            "beta1": beta1,
            "rest1": 1.0 - beta1,
            "beta2": beta2,
            "rest2": 1.0 - beta2,
            "rate": self.lr * root / (1.0 - beta1**steps),
            "eps": self.eps * root,
            "decay": self._decay(),
        }

    def _decay(self) -> float:
        return self.weight_decay

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        return self._adam(param, self._with_weight_decay(grad, param, n.decay), moments, n)

    def _adam(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        xp = namespace_of(param)
        first = n.beta1 * moments["first_moment"] + n.rest1 * grad
        second = n.beta2 * moments["second_moment"] + n.rest2 * (grad * grad)
        new = {"first_moment": first, "second_moment": second}
        if self.amsgrad:
            second = xp.maximum(moments["largest_second_moment"], second)
            new["largest_second_moment"] = second
        return param - n.rate * first / (xp.sqrt(second) + n.eps), new


class AdamW(Adam):
    """Adam with decoupled weight decay [1]_: each step first multiplies the param by 1 - lr weight_decay.

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
        How fast the params decay; it doesn't pass through the means.
    amsgrad : bool
        Whether v is replaced by the largest v so far.
    groups : mapping of str to mapping, optional
        Settings for some of the params, by patterns of their names; see `Optimizer`.

    Raises
    ------
    ValueError, TypeError
        A hyperparameter is out of its range, or ``params`` isn't a mutable mapping of floating-point arrays; see
        `Optimizer`.

    References
    ----------
    .. [1] I. Loshchilov and F. Hutter, "Decoupled Weight Decay Regularization", ICLR 2019, arXiv:1711.05101.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> params = {"w": np.array([1.0, 2.0])}
    >>> optimizer = rr.optim.AdamW(params, lr=0.5, weight_decay=0.5)
    >>> optimizer.step({"w": np.array([0.0, 0.0])})
    >>> params["w"]
    array([0.75, 1.5 ])
    """

    def __init__(
        self,
        params: MutableMapping[str, Array],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        groups: Any = None,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, groups)

    def _decay(self) -> float:
        return 1.0 - self.lr * self.weight_decay

    def _formula(self, param: Array, grad: Array, moments: Mapping[str, Array], n: Any) -> tuple[Array, Moments]:
        return self._adam(n.decay * param, grad, moments, n)
