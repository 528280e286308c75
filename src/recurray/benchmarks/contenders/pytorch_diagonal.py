"""The diagonal LSTM in eager PyTorch, which has none of its own."""

from __future__ import annotations

from typing import Any

from recurray.benchmarks.problems import Problem


def make(problem: Problem, **options: Any) -> Any:
    """Return a module with `recurray.DiagonalLSTM`'s params (the projection shared) and ``torch.nn.LSTM``'s call.

    ``options`` are the device and the precision of the params.
    """
    import torch

    class DiagonalLSTM(torch.nn.Module):
        """All products and input terms before the loop; in it, only what depends on the step before."""

        def __init__(self) -> None:
            super().__init__()
            for name, shape in {
                "weight_in": (problem.hidden, problem.inputs),
                "u": (4, problem.hidden),
                "w": (4, problem.hidden),
                "b": (4, problem.hidden),
            }.items():
                value = torch.empty(shape, **options)
                self.register_parameter(name, torch.nn.Parameter(value))

        def forward(self, x: Any, state: Any = None) -> Any:
            z = x @ self.weight_in.T  # (T, B, H)
            a_x = z.unsqueeze(2) * self.u + self.b  # (T, B, 4, H), gates i f g o
            zeros = z.new_zeros(z.shape[1:])
            h, c = (zeros, zeros) if state is None else (state[0][0], state[1][0])
            outputs = []
            for a_t in a_x.unbind(0):  # indexing with t would make backward's cost grow with the square of T
                i, f, g, o = (a_t + self.w * h.unsqueeze(1)).unbind(1)
                c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
                h = torch.sigmoid(o) * torch.tanh(c)
                outputs.append(h)
            return torch.stack(outputs), (h.unsqueeze(0), c.unsqueeze(0))

    return DiagonalLSTM()
