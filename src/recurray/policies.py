"""Policies: distributions of actions, as policy gradients need them.

An algorithm computes its loss from log-probabilities of actions that were taken, and perhaps from entropies, and knows
the loss's gradient with respect to these; `backward` brings it to what a model has put out. PPO's [1]_, say::

    policy = rr.policies.Categorical(logits)
    ratio = xp.exp(policy.log_probability(actions) - old_log_probability)
    inside = (advantage >= 0) & (ratio < 1.2) | (advantage < 0) & (ratio > 0.8)
    dlog_probability = xp.where(inside, -advantage * ratio, 0.0) / count
    dlogits = policy.backward(actions, dlog_probability, dentropy)

.. [1] J. Schulman, F. Wolski, P. Dhariwal, A. Radford and O. Klimov, "Proximal Policy Optimization Algorithms", 2017,
   arXiv:1707.06347.
"""

from __future__ import annotations

import math
from typing import Any

from recurray.arrays import (
    Array,
    Namespace,
    below_largest,
    device_of,
    in_order,
    is_tracer,
    namespace_of,
    on_host,
    on_one_device,
    plain,
    rows,
    sum_over_rows,
    to_numpy,
)
from recurray.messages import in_words, kind_of

__all__ = ["Categorical", "Gaussian"]


class Categorical:
    """One of several actions, with the probabilities softmax(logits), the actions on the last axis.

    Parameters
    ----------
    logits : array, shape (..., actions)
        float32 or float64. Minus infinity rules an action out.

    Raises
    ------
    ValueError, TypeError
        ``logits`` isn't such an array, or has no action.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> policy = rr.policies.Categorical(np.log([[0.5, 0.25, 0.25]]))
    >>> actions = policy.sample(np.random.default_rng(0))
    >>> actions
    array([1])
    >>> policy.log_probability(actions).round(3), policy.entropy().round(3)
    (array([-1.386]), array([1.04]))
    >>> policy.backward(actions, np.ones(1))
    array([[-0.5 ,  0.75, -0.25]])
    """

    def __init__(self, logits: Array) -> None:
        self._xp, logits = _floats("logits", logits)
        if not logits.shape or not logits.shape[-1]:
            raise ValueError(f"logits must have actions on the last axis, but the shape is {in_words(logits.shape)}")
        self.logits = logits
        xp, shifted = self._xp, below_largest(in_order(logits))
        exponentials = xp.exp(shifted)
        total = xp.sum(exponentials, axis=-1, keepdims=True)
        self.probabilities = exponentials / total
        self._log = shifted - xp.log(total)  # log-probabilities

    def sample(self, rng: Any) -> Array:
        """Draw an action for each row, int64 (...), by a NumPy generator: the same on every backend.

        Raises
        ------
        ValueError
            A row's probabilities are NaN.
        """
        import numpy as np

        probabilities = to_numpy(self.probabilities, "the probabilities").astype(np.float64)
        if not np.isfinite(probabilities).all():
            raise ValueError("logits must give each row a distribution, but one row's probabilities are NaN")
        bounds = np.cumsum(probabilities, axis=-1)
        drawn = rng.random((*probabilities.shape[:-1], 1)) * bounds[..., -1:]
        last = probabilities.shape[-1] - 1 - np.argmax(probabilities[..., ::-1] > 0, axis=-1)  # that is possible
        action = np.asarray(np.minimum((drawn >= bounds).sum(axis=-1), last), dtype=np.int64)
        return _like(self._xp, action, self.logits)

    def log_probability(self, actions: Array) -> Array:
        """Return the logarithms of the actions' probabilities, of the shape (...).

        Parameters
        ----------
        actions : array of int, shape (...)
            From 0 on.

        Raises
        ------
        ValueError
            The shape doesn't fit, or there is no such action (checked on the host; on a GPU the result is NaN).
        TypeError
            ``actions`` is no array of the logits' library, or holds no integers.
        """
        xp, chosen = self._xp, self._chosen(actions)
        found = xp.sum(xp.where(chosen, self._log, xp.zeros_like(self._log)), axis=-1)
        return xp.where(xp.any(chosen, axis=-1), found, xp.full_like(found, math.nan))

    def entropy(self) -> Array:
        """Return each row's entropy, -sum p log p, of the shape (...); an action that is ruled out adds nothing."""
        return 0.0 - self._xp.sum(self._terms(), axis=-1)

    def backward(self, actions: Array, dlog_probability: Array | None = None, dentropy: Array | None = None) -> Array:
        """Return the gradient with respect to the logits.

        Parameters
        ----------
        actions : array of int, shape (...)
            Those that `log_probability` was given.
        dlog_probability, dentropy : array, shape (...), optional
            The gradients with respect to the log-probabilities and entropies; none if omitted.

        Returns
        -------
        array, shape (..., actions)

        Raises
        ------
        ValueError, TypeError
            As in `log_probability`; a gradient's shape or library doesn't fit.
        """
        xp, p = self._xp, self.probabilities
        chosen, shape = self._chosen(actions), tuple(self.logits.shape[:-1])
        gradient = xp.zeros_like(p)
        if dlog_probability is not None:
            d = _gradient(xp, "dlog_probability", dlog_probability, self.logits, shape)
            gradient = gradient + d[..., None] * (xp.astype(chosen, p.dtype) - p)
        if dentropy is not None:
            d = _gradient(xp, "dentropy", dentropy, self.logits, shape)
            gradient = gradient - d[..., None] * (self._terms() + p * self.entropy()[..., None])
        return gradient

    def _terms(self) -> Array:
        """P log p, (..., actions)."""
        ruled_out = self.probabilities == 0
        return self.probabilities * self._xp.where(ruled_out, self._xp.zeros_like(self._log), self._log)

    def _chosen(self, actions: Array) -> Array:
        """Check actions; return where they are, (..., actions)."""
        xp, count = self._xp, self.logits.shape[-1]
        actions = _array(xp, "actions", actions, self.logits)
        if not xp.isdtype(actions.dtype, "integral"):
            raise TypeError(f"actions must be integers, not {actions.dtype}")
        _shape("actions", actions, tuple(self.logits.shape[:-1]))
        numbers = xp.arange(count, device=device_of(self.logits))
        actions = xp.astype(xp.asarray(actions), numbers.dtype)
        if on_host(actions) and math.prod(actions.shape):
            least, largest = xp.min(actions), xp.max(actions)
            if not is_tracer(least) and not (int(least) >= 0 and int(largest) < count):
                wrong = int(least) if int(least) < 0 else int(largest)
                raise ValueError(f"actions must be from 0 to {count - 1}, but there is {wrong}")
        return actions[..., None] == numbers


class Gaussian:
    """Actions of real numbers, each normally distributed by itself, an action's numbers on the last axis.

    Parameters
    ----------
    mean : array, shape (..., size)
        float32 or float64.
    log_deviation : array, shape (size,) or (..., size)
        Logarithms of the standard deviations: a param of its own, as is usual in PPO, or an output of the model.

    Raises
    ------
    ValueError, TypeError
        The two aren't such arrays, of one library and dtype.

    Examples
    --------
    >>> import numpy as np
    >>> import recurray as rr
    >>> policy = rr.policies.Gaussian(np.zeros((1, 2)), np.zeros(2))
    >>> policy.log_probability(np.array([[1.0, 0.0]])).round(3), policy.entropy().round(3)
    (array([-2.338]), array([2.838]))
    >>> policy.backward(np.array([[1.0, 0.0]]), np.ones(1))
    (array([[1., 0.]]), array([ 0., -1.]))
    """

    def __init__(self, mean: Array, log_deviation: Array) -> None:
        self._xp, self.mean = _floats("mean", mean)
        xp, shape = self._xp, tuple(self.mean.shape)
        if not shape:
            raise ValueError("mean must have an action's numbers on its last axis, but its shape is ()")
        self.log_deviation = _array(xp, "log_deviation", log_deviation, self.mean)
        if self.log_deviation.dtype != self.mean.dtype:
            raise TypeError(f"log_deviation must be {self.mean.dtype} as mean is, not {self.log_deviation.dtype}")
        if tuple(self.log_deviation.shape) not in (shape, shape[-1:]):
            wanted, found = in_words(shape[-1:]), in_words(self.log_deviation.shape)
            raise ValueError(f"log_deviation must have the shape {wanted} or {in_words(shape)}, not {found}")

    def sample(self, rng: Any) -> Array:
        """Draw an action for each row, (..., size), by a NumPy generator: the same on every backend."""
        noise = _like(self._xp, rng.standard_normal(tuple(self.mean.shape)), self.mean)
        return self.mean + self._xp.exp(self.log_deviation) * noise

    def log_probability(self, actions: Array) -> Array:
        """Return the logarithms of the actions' densities, of the shape (...).

        Parameters
        ----------
        actions : array, shape (..., size)
            Of the mean's library and dtype.

        Raises
        ------
        ValueError, TypeError
            The shape, the library or the dtype doesn't fit.
        """
        xp, distance = self._xp, self._distance(actions)
        terms = 0.5 * distance * distance + self.log_deviation + 0.5 * math.log(2 * math.pi)
        return 0.0 - xp.sum(terms, axis=-1)

    def entropy(self) -> Array:
        """Return each row's entropy, of the shape (...)."""
        xp = self._xp
        terms = xp.zeros_like(self.mean) + self.log_deviation + 0.5 * math.log(2 * math.pi * math.e)
        return xp.sum(terms, axis=-1)

    def backward(
        self, actions: Array, dlog_probability: Array | None = None, dentropy: Array | None = None
    ) -> tuple[Array, Array]:
        """Return the gradients with respect to the mean and the log deviation, in their shapes.

        Parameters
        ----------
        actions : array, shape (..., size)
            Those that `log_probability` was given.
        dlog_probability, dentropy : array, shape (...), optional
            The gradients with respect to the log-probabilities and entropies; none if omitted.

        Raises
        ------
        ValueError, TypeError
            As in `log_probability`; a gradient's shape or library doesn't fit.
        """
        xp, shape = self._xp, tuple(self.mean.shape[:-1])
        distance = self._distance(actions)
        dmean = dlog = xp.zeros_like(self.mean)
        if dlog_probability is not None:
            d = _gradient(xp, "dlog_probability", dlog_probability, self.mean, shape)[..., None]
            dmean = d * distance / xp.exp(self.log_deviation)
            dlog = d * (distance * distance - 1.0)
        if dentropy is not None:
            dlog = dlog + _gradient(xp, "dentropy", dentropy, self.mean, shape)[..., None]
        if self.log_deviation.shape != self.mean.shape:
            dlog = sum_over_rows(rows(dlog))
        return dmean, dlog

    def _distance(self, actions: Array) -> Array:
        """How many deviations actions are from the mean."""
        actions = _gradient(self._xp, "actions", actions, self.mean, tuple(self.mean.shape))
        return (actions - self.mean) / self._xp.exp(self.log_deviation)


def _floats(name: str, array: Any) -> tuple[Namespace, Array]:
    array = plain(name, array)
    try:
        xp = namespace_of(array)
    except TypeError:
        raise TypeError(f"{name} must be an array of an array library, not {type(array).__name__}") from None
    if not any(array.dtype == dtype for dtype in (xp.float32, xp.float64)):
        raise TypeError(f"{name} must be float32 or float64, not {array.dtype}")
    return xp, array


def _array(xp: Namespace, name: str, array: Any, other: Array) -> Array:
    """Check that an array is of the library and on the device of another."""
    array = plain(name, array)
    try:
        same = namespace_of(array) is xp
    except TypeError:
        same = False
    if not same:
        raise TypeError(f"{name} must be an array of {kind_of(other)}'s library, not {kind_of(array)}")
    if not on_one_device(device_of(array), device_of(other)):
        raise ValueError(f"{name} must be on the device {device_of(other)}, not {device_of(array)}")
    return array


def _shape(name: str, array: Array, shape: tuple[int, ...]) -> None:
    if tuple(array.shape) != shape:
        raise ValueError(f"{name} must have the shape {in_words(shape)}, not {in_words(array.shape)}")


def _gradient(xp: Namespace, name: str, array: Any, other: Array, shape: tuple[int, ...]) -> Array:
    """Check floating-point numbers of a shape, and bring them to the dtype of another array."""
    array = _array(xp, name, array, other)
    if not xp.isdtype(array.dtype, "real floating"):
        raise TypeError(f"{name} must be floating-point numbers, not {array.dtype}")
    _shape(name, array, shape)
    return array if array.dtype == other.dtype else xp.astype(xp.asarray(array), other.dtype)


def _like(xp: Namespace, array: Any, other: Array) -> Array:
    """A NumPy array on the library and device of another, and of its dtype where it holds no integers."""
    dtype = xp.int64 if array.dtype.kind == "i" else other.dtype
    return xp.asarray(array, dtype=dtype, device=device_of(other))
