"""What can go wrong for reasons outside the program; each message is written for the user."""

import recurray.training
from recurray.files import FormatError


class LanguageModelError(Exception):
    """What all errors here have in common."""


class TextError(LanguageModelError, ValueError):
    """The text can't be read, or is too short for what was asked."""


class CheckpointError(LanguageModelError, FormatError):
    """The checkpoint can't be written or read, or isn't the right one."""


class TrainingError(LanguageModelError, recurray.training.TrainingError):
    """Training can't go on."""
