"""Recurrent networks with explicit gradients on the Python array API: NumPy on the CPU, CuPy on CUDA GPUs."""

from recurray import cells, losses, optim, plot, schedules
from recurray.backend import Backend, BackendUnavailableError
from recurray.cells import Cell, CellGradients
from recurray.gradient_check import GradientReport, check_gradients
from recurray.layers import (
    GRU,
    LSTM,
    RNN,
    Activation,
    DiagonalLSTM,
    Dropout,
    Embedding,
    Last,
    Layer,
    LayerNorm,
    Linear,
    Recurrent,
    Sequential,
)
from recurray.selector import available_backends, get_backend
from recurray.state import State
from recurray.streaming import Streaming
from recurray.trace import Trace

__version__ = "0.1.0"

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "Backend",
    "BackendUnavailableError",
    "Cell",
    "CellGradients",
    "DiagonalLSTM",
    "Dropout",
    "Embedding",
    "GradientReport",
    "Last",
    "Layer",
    "LayerNorm",
    "Linear",
    "Recurrent",
    "Sequential",
    "State",
    "Streaming",
    "Trace",
    "available_backends",
    "cells",
    "check_gradients",
    "get_backend",
    "losses",
    "optim",
    "plot",
    "schedules",
]
