"""Models of other libraries, read from their files and written to them without those libraries."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.convert.result import Converted

__all__ = ["Converted"]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(__name__, {"Converted": "result"})
