"""The activations of a bidirectional layer's second direction, as users give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from recurray import checks
from recurray.activations import activation
from recurray.messages import shown


def checked(given: Any, options: Sequence[str], bidirectional: bool) -> dict[str, Any] | None:
    """Check the argument ``reverse_activations``: a mapping of those of a layer's options that differ in reverse.

    Parameters
    ----------
    given : mapping of str to spec, or None
    options : sequence of str
        The layer's options that are activations.
    bidirectional : bool
        Whether the layer has a second direction.

    Returns
    -------
    dict or None
        None where nothing differs.
    """
    if given is None:
        return None
    if not isinstance(given, Mapping):
        raise TypeError(
            f"reverse_activations must be a mapping of options, {{{options[0]!r}: 'relu'}} say, not {shown(given)}"
        )
    unknown = [name for name in given if name not in options]
    if unknown:
        raise ValueError(
            f"reverse_activations must have names among {', '.join(map(repr, options))}, not {shown(unknown[0])}"
        )
    if not checks.flag("bidirectional", bidirectional):
        raise ValueError("reverse_activations are those of the second direction: they need bidirectional=True")
    for name, spec in given.items():
        if not isinstance(spec, Mapping) or "name" in spec:  # else it is by gate, which the layer sees to
            activation(spec, f"reverse_activations[{name!r}]")
    return dict(given) or None
