"""Products of matrices by the library, with operands as they are or rounded to float16 or bfloat16.

Rounded operands are multiplied with sums in float32, and so is the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from recurray_cupy.library import Library


@dataclass(frozen=True)
class Products:
    """The products of a layer.

    Attributes
    ----------
    library : Library
    small : str
        What operands are rounded to, "float16" or "bfloat16"; empty if they aren't.
    """

    library: Library
    small: str = ""

    def operand(self, a: Any) -> Any:
        """What is made of a matrix to be an operand; worth while for one that comes again."""
        return self.library.rounded(a, self.small) if self.small else a

    def with_transposed(self, a: Any, b: Any, out: Any) -> None:
        """Write to ``out`` (m, n) the product of the operands ``a`` (m, k) and ``b`` (n, k) transposed."""
        if self.small:
            self.library.rounded_product(a, b, out, small=self.small, transposed="b")
        else:
            a.dot(b.T, out=out)

    def plain(self, a: Any, b: Any, out: Any) -> None:
        """Write to ``out`` (m, n) the product of the operands ``a`` (m, k) and ``b`` (k, n)."""
        if self.small:
            self.library.rounded_product(a, b, out, small=self.small, transposed="")
        else:
            a.dot(b, out=out)

    def of_transposed(self, a: Any, b: Any) -> Any:
        """Return the product (m, n) of the matrices ``a`` (k, m) transposed and ``b`` (k, n)."""
        if not self.small:
            return a.T.dot(b)
        out = self.library.xp.empty((a.shape[1], b.shape[1]), dtype=a.dtype)
        self.library.rounded_product(self.operand(a), self.operand(b), out, small=self.small, transposed="a")
        return out
