"""What ends a training that can't go on."""


class TrainingError(RuntimeError):
    """Training can't go on: a loss or gradient is NaN or infinite; the text names epoch, batch and param."""
