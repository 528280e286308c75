"""Models of other libraries, read from their files and written to them without those libraries."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.convert.result import Converted
    from recurray.convert.torch_model import from_torch, read_tensors

__all__ = ["Converted", "from_torch", "read_tensors"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__, {"Converted": "result", "from_torch": "torch_model", "read_tensors": "torch_model"}
    )
