"""Models of other libraries, read from their files and written to them without those libraries."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.convert.result import Converted
    from recurray.convert.rtneural import from_rtneural, to_rtneural
    from recurray.convert.torch_model import from_torch, read_tensors

__all__ = ["Converted", "from_rtneural", "from_torch", "read_tensors", "to_rtneural"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Converted": "result",
            "from_rtneural": "rtneural",
            "from_torch": "torch_model",
            "read_tensors": "torch_model",
            "to_rtneural": "rtneural",
        },
    )
