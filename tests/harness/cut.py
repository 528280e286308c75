"""A formula for rows with gaps and cuts: pieces are taken out by hand, row by row, and each is run alone."""

from __future__ import annotations

from typing import Any

import numpy as np

from harness.problems import Formula, flags

Results = tuple[np.ndarray, dict[str, np.ndarray]]


def pieces_of(mask: Any, resets: Any) -> list[tuple[list[int], bool, bool]]:
    """A row's pieces: their steps, and whether one begins at the row's front, ends at its back, with no cut between.

    The first and the last are there even if there is no valid step.
    """
    pieces: list[list[int]] = [[]]
    for t in range(len(mask)):
        if resets[t]:
            pieces.append([])
        if mask[t]:
            pieces[-1].append(t)
    return [(piece, k == 0, k == len(pieces) - 1) for k, piece in enumerate(pieces)]


def by_hand(formula: Formula, mask: tuple[str, ...] | None, resets: tuple[str, ...] | None, kind: str = "") -> Formula:
    """The formula of the same layer with gaps and cuts. ``kind`` is "reverse" for a layer of that one direction."""

    def cut(params: dict[str, np.ndarray], x: Any, start: dict[str, np.ndarray], lengths: Any) -> Results:
        batch, steps = x.shape[:2]
        valid = np.ones((batch, steps), bool) if mask is None else flags(mask, batch, steps)
        cuts = np.zeros((batch, steps), bool) if resets is None else flags(resets, batch, steps)
        suffix = [name.removeprefix("weight_ih") for name in params if name.startswith("weight_ih")] or [""]
        runs_back = [kind == "reverse" or name.endswith("_reverse") for name in suffix]
        kept = {name: np.array(value, dtype=complex) for name, value in start.items()}
        end = {name: value.copy() for name, value in kept.items()}
        y: Any = None
        for row in range(batch):
            for chosen, front, back in pieces_of(valid[row], cuts[row]):
                begin = {}
                for name, value in kept.items():
                    begin[name] = np.zeros((len(runs_back), 1, value.shape[2]), dtype=complex)
                    for place, reverse in enumerate(runs_back):
                        if back if reverse else front:
                            begin[name][place, 0] = value[place, row]
                        elif f"start_{name}{suffix[place]}" in params:
                            begin[name][place, 0] = params[f"start_{name}{suffix[place]}"]
                order = chosen[::-1] if kind == "reverse" else chosen
                found = begin
                if chosen:
                    own, found = formula(params, x[row : row + 1, order], begin, None)
                    y = np.zeros((batch, steps, own.shape[2]), dtype=complex) if y is None else y
                    y[row, order] = own[0]
                for name in kept:
                    for place, reverse in enumerate(runs_back):
                        if front if reverse else back:
                            end[name][place, row] = found[name][place, 0]
        return y, end

    return cut
