"""Layers: params on a backend, an explicit forward and its backward."""

from typing import TYPE_CHECKING

from recurray.lazy import lazy

if TYPE_CHECKING:
    from recurray.layers.activation import Activation
    from recurray.layers.diagonal_lstm import DiagonalLSTM
    from recurray.layers.dropout import Dropout
    from recurray.layers.embedding import Embedding
    from recurray.layers.gru import GRU
    from recurray.layers.last import Final, Last
    from recurray.layers.layer import Layer
    from recurray.layers.layer_norm import LayerNorm
    from recurray.layers.linear import Linear
    from recurray.layers.lstm import LSTM
    from recurray.layers.merge import Merge
    from recurray.layers.model import Model
    from recurray.layers.pooling import Max, Mean
    from recurray.layers.recurrent import Recurrent
    from recurray.layers.rnn import RNN
    from recurray.layers.sequential import Sequential
    from recurray.layers.stateless import StatelessLayer

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "DiagonalLSTM",
    "Dropout",
    "Embedding",
    "Final",
    "Last",
    "Layer",
    "LayerNorm",
    "Linear",
    "Max",
    "Mean",
    "Merge",
    "Model",
    "Recurrent",
    "Sequential",
    "StatelessLayer",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "Activation": "activation",
            "DiagonalLSTM": "diagonal_lstm",
            "Dropout": "dropout",
            "Embedding": "embedding",
            "Final": "last",
            "GRU": "gru",
            "LSTM": "lstm",
            "Last": "last",
            "Layer": "layer",
            "LayerNorm": "layer_norm",
            "Linear": "linear",
            "Max": "pooling",
            "Mean": "pooling",
            "Merge": "merge",
            "Model": "model",
            "RNN": "rnn",
            "Recurrent": "recurrent",
            "Sequential": "sequential",
            "StatelessLayer": "stateless",
        },
    )
