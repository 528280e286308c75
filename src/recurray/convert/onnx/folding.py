"""What weights are wrapped in, computed: changes of shape, concatenations, scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.convert.onnx.attributes import attributes, need_onnx
from recurray.files import FormatError

GROWTH = 16  # how many times the files' size what is computed of constants may be


@dataclass
class Budget:
    """How many bytes may still be computed."""

    left: int

    def take(self, size: int) -> None:
        """Refuse to go beyond it."""
        self.left -= size
        if self.left < 0:
            raise FormatError(f"what its constants come to is more than {GROWTH} times the file's size")


def plain(value: NDArray[Any]) -> NDArray[Any]:
    """An array of a type that NumPy has itself: bfloat16 and smaller ones become float32."""
    return value if value.dtype.kind in "fiubSUO" else value.astype("float32")


def _axes(node: Any, axes: Any) -> Any:
    """The axes of Squeeze and Unsqueeze: an attribute before version 13, an input since."""
    if axes is None:
        axes = attributes(node).get("axes")
    return None if axes is None else tuple(int(axis) for axis in np.asarray(axes).reshape(-1))


def _unsqueeze(budget: Budget, node: Any, x: Any, axes: Any = None) -> Any:
    return np.expand_dims(x, _axes(node, axes))


def _squeeze(budget: Budget, node: Any, x: Any, axes: Any = None) -> Any:
    return np.squeeze(x, _axes(node, axes))


def _transpose(budget: Budget, node: Any, x: Any) -> Any:
    return np.transpose(x, attributes(node).get("perm"))


def _reshape(budget: Budget, node: Any, x: Any, shape: Any) -> Any:
    wanted = [x.shape[axis] if size == 0 else int(size) for axis, size in enumerate(shape)]
    return x.reshape(wanted)


def _concat(budget: Budget, node: Any, *parts: Any) -> Any:
    budget.take(sum(part.nbytes for part in parts))
    return np.concatenate(parts, axis=attributes(node)["axis"])


def _slice(budget: Budget, node: Any, x: Any, *given: Any) -> Any:
    if not given:  # before version 10
        said = attributes(node)
        given = said["starts"], said["ends"], said.get("axes")
    starts, ends, axes, steps = (None if part is None else [int(n) for n in part] for part in (*given, None, None)[:4])
    for place, (start, end) in enumerate(zip(starts or (), ends or (), strict=True)):
        step = 1 if steps is None else steps[place]
        cut = slice(start, end if step > 0 or end > -(2**31) else None, step)
        axis = place if axes is None else axes[place] % x.ndim
        x = x[(slice(None),) * axis + (cut,)]
    return x


def _cast(budget: Budget, node: Any, x: Any) -> Any:
    kind = np.dtype(need_onnx().helper.tensor_dtype_to_np_dtype(attributes(node)["to"]))
    budget.take(x.size * max(kind.itemsize, 4))
    return plain(x.astype(kind))


def _dequantize(budget: Budget, node: Any, x: Any, scale: Any, zero: Any = None) -> Any:
    axis = attributes(node).get("axis", 1)
    return dequantized(budget, x, scale, zero, axis)


def dequantized(budget: Budget, x: Any, scale: Any, zero: Any, axis: int) -> NDArray[np.float32]:
    """``(x - zero) * scale``, where scale and zero are one number or one for each place along an axis."""
    budget.take(8 * x.size)
    if scale.size == 1:
        scale, zero = scale.reshape(()), None if zero is None else zero.reshape(())
    elif scale.ndim == 1:
        shape = [-1 if place == axis % x.ndim else 1 for place in range(x.ndim)]
        scale, zero = scale.reshape(shape), None if zero is None else zero.reshape(shape)
    else:
        raise FormatError("it has weights that are quantised in blocks")
    shifted = x.astype(np.int32) - (0 if zero is None else zero.astype(np.int32))
    return np.asarray(shifted * scale.astype(np.float32), np.float32)


FOLDING: dict[str, Any] = {
    "Identity": lambda budget, node, x: x,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Reshape": _reshape,
    "Concat": _concat,
    "Slice": _slice,
    "Cast": _cast,
    "DequantizeLinear": _dequantize,
}
