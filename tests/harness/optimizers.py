"""The optimizers with their options."""

from __future__ import annotations

from typing import Any

# The most moments that each optimizer can have, and everything switched on.
RICHEST: dict[str, dict[str, Any]] = {
    "SGD": {"momentum": 0.9, "weight_decay": 0.1, "nesterov": True},
    "Adam": {"weight_decay": 0.1, "amsgrad": True},
    "AdamW": {"weight_decay": 0.1, "amsgrad": True},
    "NAdam": {"weight_decay": 0.1, "momentum_decay": 0.5},
    "RMSprop": {"weight_decay": 0.1, "momentum": 0.6, "centered": True},
    "Adagrad": {"weight_decay": 0.1, "lr_decay": 0.2, "initial_accumulator_value": 0.4},
    "Adadelta": {"weight_decay": 0.1, "rho": 0.6},
}
