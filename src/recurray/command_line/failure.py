"""How a command says that it can't do what was asked."""

from __future__ import annotations


class Failure(Exception):  # noqa: N818 - what is raised is a result for the user, not a fault of the program
    """A message for the user and an exit code."""

    def __init__(self, message: str, code: int = 1) -> None:
        super().__init__(message)
        self.code = code
