"""Layer normalisation within a cell: over the units, of several blocks of units together."""

from __future__ import annotations

from collections.abc import Mapping

from recurray.arrays import Array, mean_over_units, namespace_of

EPSILON = 1e-5  # added to the variance


def normalise(blocks: Mapping[str, Array]) -> tuple[dict[str, Array], Array]:
    """Bring the units of all blocks, (B, H) each, to mean 0 and variance 1 in each row of the batch.

    Returns
    -------
    normal : dict of str to array
        The blocks, brought to that.
    scale : array, (B, 1)
        1 / standard deviation.
    """
    mean = _mean(blocks)
    centred = {name: a - mean for name, a in blocks.items()}
    variance = _mean({name: a * a for name, a in centred.items()})
    scale = 1 / namespace_of(mean).sqrt(variance + EPSILON)
    return {name: a * scale for name, a in centred.items()}, scale


def normalise_backward(dnormal: Mapping[str, Array], normal: Mapping[str, Array], scale: Array) -> dict[str, Array]:
    """From the gradients of what `normalise` returned, and that itself, to the gradients of what it was given."""
    mean = scale * _mean(dnormal)
    slope = scale * _mean({name: d * normal[name] for name, d in dnormal.items()})
    return {name: scale * d - (mean + slope * normal[name]) for name, d in dnormal.items()}


def _mean(blocks: Mapping[str, Array]) -> Array:
    """Mean over the units of all blocks, (B, 1)."""
    first, *others = blocks.values()
    if not others:
        return mean_over_units(first)
    for other in others:
        first = first + other
    return mean_over_units(first) * (1 / len(blocks))
