"""Cells that do arbitrary elementwise arithmetic: what a backend's code for recorded cells is tried on.

Their backward isn't the derivative of their step. That doesn't matter where two ways of running a cell are compared.
"""

from __future__ import annotations

import numpy as np

from recurray.arrays import mean_over_units, namespace_of, sigmoid, tanh
from recurray.cells import Cell, CellGradients


class RandomCell(Cell):
    """A cell with random gates, states and params whose steps are random programs."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed = seed
        self.states = ("h", "c", "n")[: rng.integers(1, 4)]
        gates = list("pqrst")
        self._input_gates = tuple(rng.permutation(gates)[: rng.integers(1, 5)].tolist())
        self._recurrent_gates = tuple(rng.permutation(gates)[: rng.integers(0, 5)].tolist())
        rows = {"u": ("a", "b"), "w": ("a",)}
        self._pointwise = {name: rows[name] for name in ("u", "w")[: rng.integers(0, 3)]}
        self._inner_gates = ()
        if self._recurrent_gates and rng.random() < 0.4:
            self._inner_gates = self._recurrent_gates[: rng.integers(1, 3)]
        self._draws = {"m": 0.3} if rng.random() < 0.4 else {}
        self.means = rng.random() < 0.4
        self.sums = rng.random() < 0.7  # whether gates come as x.k + h.k where they can

    @property
    def input_gates(self):
        return self._input_gates

    @property
    def recurrent_gates(self):
        return self._recurrent_gates

    @property
    def inner_gates(self):
        return self._inner_gates

    @property
    def draws(self):
        return self._draws

    @property
    def pointwise(self):
        return self._pointwise

    def inner(self, x, h, before, params):
        first = getattr(x, self.input_gates[0])
        return tanh(first * before[0] + (h[0] if h else before[-1]))

    def inner_backward(self, d, saved, before, params):
        first = self.input_gates[0]
        dh = {} if not self.outer_gates else {self.outer_gates[0]: d * saved[0]}
        return CellGradients(x={first: d * before[0]}, h=dh, before={"h": tanh(d)})

    def step(self, x, h, before, params):
        rng = np.random.default_rng([self.seed, 1])
        pool = [*before]
        for gate in self.input_gates:
            both = gate in self.recurrent_gates
            value = getattr(x, gate)
            if both and self.sums:
                value = value + getattr(h, gate)
                if rng.random() < 0.7:
                    value = sigmoid(value) if rng.random() < 0.5 else tanh(value)
            elif both:
                pool.append(getattr(h, gate))
            pool.append(value)
        pool += [getattr(h, gate) for gate in self.recurrent_gates if gate not in self.input_gates]
        if self.draws:
            pool += [x.m * before[0] + (1 - x.m) * pool[-1]]
        pool += [row for param in params for row in param]
        if self.means:
            pool += [pool[len(self.states)] - mean_over_units(pool[len(self.states)])]
        saved_inputs = pool[rng.integers(len(self.states))]
        _grow(pool, rng, 12)
        after = {name: tanh(pool[-1 - rng.integers(6)] + before[0]) for name in self.states}
        if len(self.states) == 3 and rng.random() < 0.3:
            after |= {"c": before.n, "n": before.c}  # states handed on, crosswise
        saved = {f"s{k}": tanh(pool[-1 - rng.integers(len(pool) // 2)] + before[0]) for k in range(rng.integers(1, 4))}
        saved |= {"s_state": after["h"], "s_before": saved_inputs}
        saved["s_gate"] = pool[len(self.states)] * 1.0
        if self.means:
            saved["s_mean"] = 1 / (1.5 + tanh(mean_over_units(pool[-1] + before[0])))
        return after, saved

    def step_backward(self, d, saved, before, params):
        rng = np.random.default_rng([self.seed, 2])
        fixed = [*saved, *before, *(row for param in params for row in param)]
        if self.means:
            fixed += [fixed[0] * mean_over_units(fixed[1] + before[0])]
        _grow(fixed, rng, 5)
        pool = [*d, *fixed]
        _grow(pool, rng, 10)

        def some():  # zero where d is, as derivatives are
            return tanh(pool[-1 - rng.integers(9)]) * (d[0] if rng.random() < 0.5 else d[-1]) * before[0]

        if self.means:
            pool.append(d[0] - mean_over_units(d[0] * pool[len(d)]))

        dz = {gate: some() for gate in dict.fromkeys(self.input_gates + self.recurrent_gates)}
        dx = {gate: dz[gate] for gate in self.input_gates}
        dh = {gate: dz[gate] if self.sums or rng.random() < 0.3 else some() for gate in self.recurrent_gates}
        dbefore = {name: tanh(some()) for name in self.states if rng.random() < 0.8}
        dparams = {name: {row: some() for row in rows} for name, rows in self.pointwise.items()}
        return CellGradients(x=dx, h=dh, before=dbefore, params=dparams)


def _grow(pool, rng, count):
    """Append values computed from those in the pool; all stay of moderate size."""
    for _ in range(count):
        a, b, c = (pool[k] for k in rng.integers(len(pool), size=3))
        xp = namespace_of(a)
        kind = rng.integers(9)
        if kind == 0:
            pool.append(tanh(a) * b)
        elif kind == 1:
            pool.append(sigmoid(a - b))
        elif kind == 2:
            pool.append(a + b * 0.5)
        elif kind == 3:
            pool.append(xp.maximum(a, 0.1 * b))
        elif kind == 4:
            pool.append(a / (1.5 + xp.abs(b)))
        elif kind == 5:
            pool.append(xp.where(a > b, c * 1.0, tanh(b)))
        elif kind == 6:
            pool.append(1 - tanh(a) * tanh(a))
        elif kind == 7:
            pool.append(xp.exp(-xp.abs(a)) * c)
        else:
            pool.append(xp.where((a > 0.1) & (b <= c), 0.5 - a, -b))
