"""A gate: an activation of a pre-activation, perhaps within bounds; forward, and its slope."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from recurray.activations import Elementwise, activation
from recurray.arrays import Array, clamp, namespace_of


@lru_cache(maxsize=256)
def function_of(spec: Any) -> Elementwise:
    """Return what `activation` makes of what can be hashed, as a cell's options can: each step asks for it."""
    return activation(spec)


def gate(name: str, a: Array, function: Elementwise, bound: float | None, saved: dict[str, Array]) -> Array:
    """Return the function of ``a``, clamped to [-bound, bound]; put into ``saved`` what `gate_slope` reads.

    That is the result by its name, and what the function was given, "a_<name>", if that matters.
    """
    if bound is not None:
        a = clip(a, bound)
    if bound is not None or function.from_input:
        saved[f"a_{name}"] = a
    y = saved[name] = function.forward(a)
    return y


def gate_slope(name: str, factor: Array, function: Elementwise, bound: float | None, saved: Any) -> Array:
    """Return the derivative of ``factor`` times a gate by its pre-activation: 0 where that was clamped."""
    a = f"a_{name}"
    slope = function.backward(factor, getattr(saved, a if function.from_input else name))
    return slope if bound is None else slope * within(getattr(saved, a), bound)


def clip(a: Array, bound: float) -> Array:
    """Clamp a to [-bound, bound]."""
    return clamp(a, -bound, bound)


def within(a: Array, bound: float) -> Array:
    """The derivative of `clip`, from what came out of it: 1 within the bound, else 0."""
    xp = namespace_of(a)
    return xp.where(xp.abs(a) < bound, xp.ones_like(a), xp.zeros_like(a))
