"""Layers: params on a backend, an explicit forward and its backward."""

from recurray.layers.activation import Activation
from recurray.layers.diagonal_lstm import DiagonalLSTM
from recurray.layers.dropout import Dropout
from recurray.layers.embedding import Embedding
from recurray.layers.gru import GRU
from recurray.layers.last import Last
from recurray.layers.layer import Layer
from recurray.layers.layer_norm import LayerNorm
from recurray.layers.linear import Linear
from recurray.layers.lstm import LSTM
from recurray.layers.recurrent import Recurrent
from recurray.layers.rnn import RNN
from recurray.layers.sequential import Sequential

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Activation",
    "DiagonalLSTM",
    "Dropout",
    "Embedding",
    "Last",
    "Layer",
    "LayerNorm",
    "Linear",
    "Recurrent",
    "Sequential",
]
