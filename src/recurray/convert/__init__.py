"""Models of other libraries, read from their files and written to them without those libraries."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.convert.keras.model import KerasModel, from_keras
    from recurray.convert.kinds import kind_of
    from recurray.convert.onnx.model import from_onnx
    from recurray.convert.onnx.write import to_onnx
    from recurray.convert.result import Converted
    from recurray.convert.rtneural import from_rtneural, to_rtneural
    from recurray.convert.torch_model import from_torch, read_tensors

__all__ = [
    "Converted",
    "KerasModel",
    "from_keras",
    "from_onnx",
    "from_rtneural",
    "from_torch",
    "kind_of",
    "read_tensors",
    "to_onnx",
    "to_rtneural",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Converted": "result",
            "KerasModel": "keras.model",
            "from_keras": "keras.model",
            "from_onnx": "onnx.model",
            "from_rtneural": "rtneural",
            "from_torch": "torch_model",
            "kind_of": "kinds",
            "read_tensors": "torch_model",
            "to_onnx": "onnx.write",
            "to_rtneural": "rtneural",
        },
    )
