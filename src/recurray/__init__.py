"""Recurrent networks with explicit gradients on the Python array API: NumPy on the CPU, CuPy on CUDA GPUs."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:  # what type checkers see; at run time each name is imported when it is first used
    from recurray import (
        blas,
        cells,
        convert,
        forecast,
        layouts,
        losses,
        optim,
        parallel,
        plot,
        policies,
        saving,
        schedules,
        sklearn,
    )
    from recurray.backend import Backend, BackendUnavailableError
    from recurray.cells import Cell, CellGradients
    from recurray.files import FormatError
    from recurray.gradient_check import GradientReport, check_gradients
    from recurray.layers import (
        GRU,
        LSTM,
        RNN,
        Activation,
        DiagonalLSTM,
        Dropout,
        Embedding,
        Final,
        Last,
        Layer,
        LayerNorm,
        Linear,
        Max,
        Mean,
        Merge,
        Model,
        Recurrent,
        Sequential,
    )
    from recurray.layers.static_input import InputGradients
    from recurray.masks import lengths_to_mask
    from recurray.saving import load, save
    from recurray.selector import available_backends, get_backend
    from recurray.state import State
    from recurray.streaming import Streaming
    from recurray.trace import Trace
    from recurray.training import History, Run, TrainingError, fit

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
    "Final",
    "FormatError",
    "GradientReport",
    "History",
    "InputGradients",
    "Last",
    "Layer",
    "LayerNorm",
    "Linear",
    "Max",
    "Mean",
    "Merge",
    "Model",
    "Recurrent",
    "Run",
    "Sequential",
    "State",
    "Streaming",
    "Trace",
    "TrainingError",
    "available_backends",
    "blas",
    "cells",
    "check_gradients",
    "convert",
    "fit",
    "forecast",
    "get_backend",
    "layouts",
    "lengths_to_mask",
    "load",
    "losses",
    "optim",
    "parallel",
    "plot",
    "policies",
    "save",
    "saving",
    "schedules",
    "sklearn",
]

if not TYPE_CHECKING:  # or type checkers would take any name for known
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Activation": "layers",
            "Backend": "backend",
            "BackendUnavailableError": "backend",
            "Cell": "cells",
            "CellGradients": "cells",
            "DiagonalLSTM": "layers",
            "Dropout": "layers",
            "Embedding": "layers",
            "Final": "layers",
            "FormatError": "files",
            "GRU": "layers",
            "GradientReport": "gradient_check",
            "History": "training",
            "InputGradients": "layers.static_input",
            "LSTM": "layers",
            "Last": "layers",
            "Layer": "layers",
            "LayerNorm": "layers",
            "Linear": "layers",
            "Max": "layers",
            "Mean": "layers",
            "Merge": "layers",
            "Model": "layers",
            "RNN": "layers",
            "Recurrent": "layers",
            "Run": "training",
            "Sequential": "layers",
            "State": "state",
            "Streaming": "streaming",
            "Trace": "trace",
            "TrainingError": "training",
            "available_backends": "selector",
            "blas": "blas",
            "cells": "cells",
            "check_gradients": "gradient_check",
            "convert": "convert",
            "fit": "training",
            "forecast": "forecast",
            "get_backend": "selector",
            "layouts": "layouts",
            "lengths_to_mask": "masks",
            "load": "saving",
            "losses": "losses",
            "optim": "optim",
            "parallel": "parallel",
            "plot": "plot",
            "policies": "policies",
            "save": "saving",
            "saving": "saving",
            "schedules": "schedules",
            "sklearn": "sklearn",
        },
    )
