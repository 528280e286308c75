"""What an activation function is: a function and its backward, which reads what went in or what came out."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import astuple, dataclass
from typing import Any, ClassVar

from recurray.arrays import Array


@dataclass(frozen=True)  # for those that have no parameters too
class Function(ABC):
    """A function of arrays and its backward: a dataclass of its parameters, which compares by value."""

    name: ClassVar[str]

    @property
    def from_input(self) -> bool:
        """Whether backward reads what went in, x, rather than what came out, y."""
        return False

    @abstractmethod
    def forward(self, x: Array) -> Array:
        """From x to y."""

    @abstractmethod
    def backward(self, dy: Array, kept: Array) -> Array:
        """From the gradient of y to that of x, given y, or x where ``from_input``."""

    def kept(self, x: Array, y: Array) -> Array:
        """That of the two which backward reads."""
        return x if self.from_input else y


class Elementwise(Function):
    """A function of each element, in such terms that a cell that uses it can be recorded."""

    @abstractmethod
    def derivative(self, kept: Array) -> Array:
        """The slope, given y, or x where ``from_input``."""

    def backward(self, dy: Array, kept: Array) -> Array:
        """From the gradient of y to that of x, given y, or x where ``from_input``."""
        return dy * self.derivative(kept)

    @property
    def spec(self) -> Any:
        """What `activation` makes this of: the name, followed by the parameters where they aren't the default ones.

        A function that isn't this package's is its own.
        """
        if type(self).__module__.rpartition(".")[0] != __package__:
            return self
        return self.name if type(self)() == self else (self.name, *astuple(self))
