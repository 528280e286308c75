"""Activation functions by name, each with its backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from recurray.arrays import Array, namespace_of, sigmoid, tanh


class Function(NamedTuple):
    """An activation function and its backward."""

    forward: Callable[[Array], Array]  # x -> y
    backward: Callable[[Array, Array, Array], Array]  # dy, x, y -> dx


def _relu(x: Array) -> Array:
    return namespace_of(x).maximum(x, namespace_of(x).zeros_like(x))


def _relu_backward(dy: Array, x: Array, y: Array) -> Array:
    xp = namespace_of(x)
    return xp.where(x > 0, dy, xp.zeros_like(dy))


def _softsign(x: Array) -> Array:
    return x / (1 + namespace_of(x).abs(x))


def _softsign_backward(dy: Array, x: Array, y: Array) -> Array:
    shrink = 1 / (1 + namespace_of(x).abs(x))
    return dy * shrink * shrink


def _softplus(x: Array) -> Array:
    xp = namespace_of(x)
    return _relu(x) + xp.log1p(xp.exp(-xp.abs(x)))  # log(1 + exp(x)), without overflow


def _softplus_backward(dy: Array, x: Array, y: Array) -> Array:
    return dy * sigmoid(x)


def _hard_sigmoid(x: Array) -> Array:
    xp = namespace_of(x)
    return xp.clip(x / 6 + 0.5, 0.0, 1.0)


def _hard_sigmoid_backward(dy: Array, x: Array, y: Array) -> Array:
    xp = namespace_of(x)
    return xp.where((x > -3) & (x < 3), dy / 6, xp.zeros_like(dy))


def _elu(x: Array) -> Array:
    xp = namespace_of(x)
    return xp.where(x > 0, x, xp.expm1(xp.minimum(x, xp.zeros_like(x))))


def _elu_backward(dy: Array, x: Array, y: Array) -> Array:
    xp = namespace_of(x)
    return dy * xp.where(x > 0, xp.ones_like(y), y + 1)


def log_softmax(x: Array) -> Array:
    """Logarithm of the softmax over the last axis, without overflow."""
    xp = namespace_of(x)
    shifted = x - xp.max(x, axis=-1, keepdims=True)
    return shifted - xp.log(xp.sum(xp.exp(shifted), axis=-1, keepdims=True))


def _log_softmax_backward(dy: Array, x: Array, y: Array) -> Array:
    xp = namespace_of(x)
    return dy - xp.exp(y) * xp.sum(dy, axis=-1, keepdims=True)


def _softmax(x: Array) -> Array:
    return namespace_of(x).exp(log_softmax(x))


def _softmax_backward(dy: Array, x: Array, y: Array) -> Array:
    return y * (dy - namespace_of(x).sum(dy * y, axis=-1, keepdims=True))


FUNCTIONS = {
    "tanh": Function(tanh, lambda dy, x, y: dy * (1 - y * y)),
    "sigmoid": Function(sigmoid, lambda dy, x, y: dy * (y * (1 - y))),
    "relu": Function(_relu, _relu_backward),
    "elu": Function(_elu, _elu_backward),
    "softplus": Function(_softplus, _softplus_backward),
    "softsign": Function(_softsign, _softsign_backward),
    "hard_sigmoid": Function(_hard_sigmoid, _hard_sigmoid_backward),
    "softmax": Function(_softmax, _softmax_backward),
    "log_softmax": Function(log_softmax, _log_softmax_backward),
}
