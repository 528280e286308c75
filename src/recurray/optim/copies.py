"""Whether params are a layer's own or a copy, which no step would carry back into the layer."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from recurray.layers.layer import living_layers
from recurray.messages import outside_constructors


def warn_of_copy(params: Mapping[str, Any]) -> None:
    """Warn if ``params`` is a dict with arrays that are a layer's params, but not the layer's dict."""
    if not isinstance(params, dict):
        return
    own_params = [(layer, getattr(layer, "params", None)) for layer in living_layers()]
    if any(own is params for _, own in own_params):
        return
    arrays = {id(array) for array in params.values()}
    for layer, own in own_params:
        if isinstance(own, dict) and any(id(array) in arrays for array in own.values()):
            kind = type(layer).__name__
            warnings.warn(
                f"params are a copy of those of a layer, {kind}: no step will reach it. Give the optimizer "
                "layer.params itself; for several layers, the params of a Sequential, or an optimizer for each",
                stacklevel=outside_constructors(),
            )
            return
