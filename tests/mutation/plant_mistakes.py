"""Plants mistakes and sees whether the tests catch them.

python tests/mutation/plant_mistakes.py [--anew] [--all] [words]

Each mistake is planted in a copy of the library by replacing a few words of its text, and its tests are run on the
copy. The words replaced must occur exactly once, so that this script notices when the code moves. It prints a table of
mistakes and the tests that caught them, and ends with an error if one wasn't caught. Those that `more_mistakes` has
planted anew are among them with ``--all``, and alone with ``--anew``.

A mistake in the compiled engine is compiled, for the instruction set that every processor has, without optimizing; a
process that crashes has caught it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from queue import Queue

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mutation.mistake import Mistake
from mutation.more_mistakes import ANEW, SURVIVORS

ROOT = Path(__file__).resolve().parents[2]
WORKERS = min(4, os.cpu_count() or 1)
COMPILER = os.environ.get("CC", "cc")
LIBRARY = Path("backends", "recurray_native", "librecurray_native.so")

# Runs pytest after making sure that the library under test is the copy in the current folder.
RUN = """
import os, sys, pytest, recurray, recurray_numpy
for module in (recurray, recurray_numpy):
    assert module.__file__.startswith(os.getcwd() + os.sep), module.__file__
raise SystemExit(pytest.main(["-q", "-x", "--tb=line", "-p", "no:cacheprovider", "-m", "not slow", *sys.argv[1:]]))
"""

LISTED = "tests/mutation/test_mistakes.py::"
EVERY = "tests/library/layers/test_every_layer.py::"
GAPS = "tests/library/layers/test_gaps.py::"
LOOP = (f"{GAPS}test_it_is_the_loop",)
PADDING = (f"{EVERY}test_padding_reaches_nothing",)
REVERSE = ("tests/library/layers/test_lstm.py::test_backwards_in_time_is_forwards_on_turned_rows",)
LARGE = ("tests/library/layers/test_layers.py::test_activation_of_large_numbers",)
DROPS = ("tests/library/layers/test_layers.py::test_dropout_drops_and_scales",)
ONE_BY_ONE = ("tests/library/layers/test_layers.py::test_sequential_is_its_layers_one_by_one",)
BAD = "tests/library/layers/test_bad_input.py::"
CHECK = "tests/library/layers/test_gradient_check.py::"
BACKENDS = "tests/library/test_backends.py::"

MOVING = "tests/library/layers/test_moving.py::"

SCAN = "src/recurray/scan.py"
PIECES = "src/recurray/layers/pieces.py"
FILES = "src/recurray/files.py"
STACK = "src/recurray/stack.py"
UPDATE = "src/recurray/cells/lstm_update.py"
DIAGONAL_CELL = "src/recurray/cells/diagonal_lstm.py"
RECURRENT_FORM = "src/recurray/layers/recurrent_form.py"
RECURRENT_FORWARD = "src/recurray/layers/recurrent_forward.py"
RECURRENT_BACKWARD = "src/recurray/layers/recurrent_backward.py"
DROPOUT_CELL = "src/recurray/cells/recurrent_dropout.py"
LAST = "src/recurray/layers/last.py"
SEQUENTIAL = "src/recurray/layers/sequential.py"
CONTAINER = "src/recurray/layers/container.py"
JOINED_PARAMS = "src/recurray/layers/joined_params.py"
PARAMS = "src/recurray/layers/params_on_backend.py"
JOINING = "src/recurray/layers/joining.py"
CHECKS = "src/recurray/layers/array_checks.py"
NORM = "src/recurray/layers/layer_norm.py"
ACTIVATIONS = "src/recurray/activations/"
GRADIENT_CHECK = "src/recurray/gradient_check.py"
ARRAYS = "src/recurray/arrays.py"
BACKEND = "src/recurray/backend.py"
DROPOUT = "src/recurray/layers/dropout.py"
EMBEDDING = "src/recurray/layers/embedding.py"
LINEAR = "src/recurray/layers/linear.py"
MERGE = "src/recurray/layers/merge.py"
KERAS = "src/recurray/convert/keras/"
FROM_KERAS = "tests/library/convert/test_from_keras.py::"


def listed(test: str) -> tuple[str, ...]:
    """The test that `test_mistakes` has for a mistake."""
    return (f"{LISTED}test_{test}",)


def formula(case: str) -> tuple[str, ...]:
    """The test of a case's results by its formula."""
    return (f"{EVERY}test_results_are_those_of_the_formula[reference-{case}]",)


def differences(case: str) -> tuple[str, ...]:
    """The test of a case's gradients by finite differences."""
    return (f"{EVERY}test_gradients_are_those_of_finite_differences[{case}-reference]",)


MISTAKES = [
    # Those that hand-written LSTMs are known to make
    Mistake(
        "gates are split along the batch",
        SCAN,
        "return {gate: a[..., k * size : (k + 1) * size] for k, gate in enumerate(gates)}",
        "return dict(zip(gates, namespace_of(a).reshape(a, (len(gates), a.shape[0], size)), strict=True))",
        listed("gates_split_along_the_batch"),
    ),
    Mistake(
        "no recurrence",
        SCAN,
        "        now = after\n",
        "",
        listed("a_step_reads_its_own_state_instead_of_the_one_before"),
    ),
    Mistake(
        "the output is never written",
        SCAN,
        "ys.append(y)",
        "ys.append(xp.zeros_like(y))",
        listed("the_output_is_never_written"),
    ),
    Mistake(
        "the caller's state is written to",
        SCAN,
        "        now = after\n",
        "        for name in cell.states:\n            now[name][...] = after[name]\n",
        listed("the_callers_state_is_written_to"),
    ),
    Mistake(
        "the incoming gradient is taken for the gates",
        UPDATE,
        "c_prev, i, g, o, out = before.c, saved.i, saved.g, saved.o, saved.out",
        "c_prev, i, g, o, out = before.c, d.h, d.h, d.h, saved.out",
        listed("backward_takes_the_incoming_gradient_for_the_gates"),
    ),
    Mistake(
        "input and state change places backward",
        SCAN,
        "dx = xp.reshape(da_x @ weights.input, x.shape)",
        "square = weights.recurrent is not None and weights.recurrent.shape == weights.input.shape\n"
        "    dx = xp.reshape(da_x @ (weights.recurrent if square else weights.input), x.shape)",
        listed("input_and_state_are_stacked_in_one_order_forward_and_another_backward"),
    ),
    Mistake(
        "index -1 at the first step, backward",
        SCAN,
        "{name: cache.states[name][k] for name in cell.states}",
        "{name: cache.states[name][k - 1 if k == 0 else k] for name in cell.states}",
        listed("index_minus_1_at_the_first_step"),
    ),
    Mistake(
        "index -1 at the first step, forward",
        SCAN,
        "now = dict(zip(cell.states, start, strict=True))",
        "now = {name: xp.zeros_like(value) for name, value in zip(cell.states, start, strict=True)}",
        listed("index_minus_1_at_the_first_step"),
    ),
    Mistake(
        "the next step's dh is dropped",
        SCAN,
        '{"h": carried["h"] + dy[t, ...]}',
        '{"h": dy[t, ...]}',
        listed("the_gradient_of_the_next_step_is_dropped"),
    ),
    Mistake(
        "the next step's dc is dropped",
        UPDATE,
        "dc = d.c + dc_seen",
        "dc = dc_seen",
        listed("the_gradient_of_the_next_step_is_dropped"),
    ),
    Mistake(
        "a bias gets another's gradient",
        SCAN,
        "input_bias=None if weights.input_bias is None else bias_gradient(weights.input_bias, da_x, steps)",
        "input_bias=None if weights.input_bias is None else xp.roll(bias_gradient(weights.input_bias, da_x, steps), 1)",
        listed("a_bias_gets_anothers_gradient"),
    ),
    Mistake(
        "rows are taken for time",
        RECURRENT_FORM,
        "return self.backend.xp.permute_dims(a, (1, 0, 2)) if self.batch_first else a",
        "return a",
        listed("rows_are_taken_for_time"),
    ),
    Mistake(
        "state leaks from call to call",
        RECURRENT_FORWARD,
        'starts = self._start_states(params, batch) if state is None else form.split("state", state, batch)',
        'starts = self._start_states(params, batch) if state is None else form.split("state", state, batch)\n'
        '            starts = self.__dict__.get("leaked", starts) if state is None else starts\n'
        "            self.leaked = [tuple(a + 0.1 for a in start) for start in starts]",
        listed("state_leaks_from_call_to_call"),
    ),
    Mistake(
        "an optimizer step for each sample",
        "src/recurray/training/run.py",
        "        self.optimizer.step(grads)\n",
        "        for _ in range(2):\n            self.optimizer.step(grads)\n",
        listed("an_optimizer_step_for_each_sample"),
    ),
    Mistake(
        "the sigmoid overflows",
        ARRAYS,
        "e = xp.exp(clamp(a, None, WHOLE))",
        "e = xp.exp(a)",
        listed("the_sigmoid_overflows"),
    ),
    Mistake(
        "the sigmoid loses what is tiny",
        ARRAYS,
        "return e / (1 + e)",
        "return 0.5 * xp.tanh(0.5 * a) + 0.5",
        ("tests/library/test_precision.py::test_functions_are_as_precise_where_they_are_tiny",),
    ),
    Mistake(
        "rows are added up one by one",
        ARRAYS,
        "while a.shape[0] > 2 * AT_A_TIME:",
        "while False:",
        ("tests/library/test_sums.py::test_linear_adds_up_many_rows",),
    ),
    Mistake(
        "float32 becomes float64",
        ARRAYS,
        "return e / (1 + e)",
        "return e / (xp.asarray(1.0) + e)",
        listed("float32_becomes_float64"),
    ),
    Mistake(
        "tests with zero states",
        "tests/harness/problems.py",
        "start={name: rng.standard_normal(value.shape)",
        "start={name: 0 * rng.standard_normal(value.shape)",
        listed("tests_with_zero_states_and_gradients_alone"),
    ),
    Mistake(
        "tests with zero gradients of the final state",
        "tests/harness/problems.py",
        "dend={name: rng.standard_normal(value.shape)",
        "dend={name: 0 * rng.standard_normal(value.shape)",
        listed("tests_with_zero_states_and_gradients_alone"),
    ),
    # The LSTM's mathematics
    Mistake(
        "gates in another order", UPDATE, 'else ("i", "f", "g", "o")', 'else ("i", "f", "o", "g")', formula("lstm")
    ),
    Mistake("c without forgetting", UPDATE, "c = f * c_prev + i * g", "c = c_prev + i * g", formula("lstm")),
    Mistake("h without tanh", UPDATE, '{"h": o * out, "c": c}', '{"h": o * c, "c": c}', formula("lstm")),
    Mistake("di with another gate's slope", UPDATE, '_slope("i", g', '_slope("f", g', formula("lstm")),
    Mistake(
        "df with c for c_prev",
        UPDATE,
        '_slope("f", c_prev,',
        '_slope("f", saved.f * c_prev + i * g,',
        formula("lstm"),
    ),
    Mistake("dg without tanh's slope", UPDATE, 'self._slope("g", i, saved)', "i", formula("lstm")),
    Mistake("do from dc", UPDATE, '{"o": d.h * h_by_o}', '{"o": dc * h_by_o}', formula("lstm")),
    Mistake("tanh's slope", f"{ACTIVATIONS}smooth.py", "return 1 - y * y", "return 1 - y", formula("lstm")),
    Mistake("sigmoid's slope", f"{ACTIVATIONS}smooth.py", "return y * (1 - y)", "return y", formula("lstm")),
    Mistake("dc_prev without f", UPDATE, "return da, dc * c_by_c, grads", "return da, dc, grads", formula("lstm")),
    # The diagonal LSTM's
    Mistake(
        "a gate missing from dh",
        DIAGONAL_CELL,
        "total(da[k] * w[k] for k in self.gates)",
        "total(da[k] * w[k] for k in self.gates[:-1])",
        formula("diagonal"),
    ),
    Mistake(
        "a gate missing from dz",
        DIAGONAL_CELL,
        "total(dx[k] for k in self.gates)",
        "total(dx[k] for k in self.gates[1:])",
        formula("diagonal"),
    ),
    Mistake(
        "dw from h after the step",
        DIAGONAL_CELL,
        "da[k] * before.h",
        "da[k] * (saved.o * saved.out)",
        formula("diagonal"),
    ),
    Mistake("du without z", DIAGONAL_CELL, 'da[k] * product["z"', 'da[k] + 0 * product["z"', formula("diagonal")),
    Mistake("no bias", DIAGONAL_CELL, "(driven[k] + b[k])", "driven[k]", formula("diagonal")),
    # The scan
    Mistake(
        "the recurrent bias is left out",
        SCAN,
        "return weights.recurrent, weights.recurrent_bias",
        "return weights.recurrent, None",
        formula("lstm"),
    ),
    Mistake(
        "outputs past the length",
        SCAN,
        "            y = xp.where(valid[t, ...], y, xp.zeros_like(y))\n",
        "",
        formula("lstm ragged"),
    ),
    Mistake(
        "the state moves on past the length",
        SCAN,
        "after = {name: xp.where(valid[t, ...], after[name], now[name]) for name in cell.states}",
        "after = {name: after[name] for name in cell.states}",
        formula("lstm ragged"),
    ),
    Mistake(
        "the first padded step counts",
        SCAN,
        "return time < xp.reshape(",
        "return time <= xp.reshape(",
        formula("lstm ragged"),
    ),
    Mistake(
        "padding of x gets in",
        SCAN,
        "x = xp.where(valid, x, xp.zeros_like(x))",
        "x = xp.where(valid, x, x)",
        PADDING,
    ),
    Mistake(
        "padding of dy gets in",
        SCAN,
        "d = {name: xp.where(valid[t, ...], value, xp.zeros_like(value)) for name, value in d.items()}",
        "d = dict(d)",
        PADDING,
    ),
    Mistake(
        "padding of dy times zero gets in",
        SCAN,
        "d = {name: xp.where(valid[t, ...], value, xp.zeros_like(value)) for name, value in d.items()}",
        "d = {name: xp.astype(valid[t, ...], value.dtype) * value for name, value in d.items()}",
        PADDING,
    ),
    Mistake(
        "the gradient stops at padding",
        SCAN,
        "dbefore = {name: xp.where(valid[t, ...], dbefore[name], carried[name]) for name in cell.states}",
        "dbefore = dict(dbefore)",
        formula("lstm ragged"),
    ),
    Mistake(
        "no direction runs backwards",
        SCAN,
        "in reversed(range(steps)) if reverse else range(steps):",
        "in range(steps):",
        REVERSE,
    ),
    Mistake("reverse outputs in the order of the loop", SCAN, "ys[::-1] if reverse else ys", "ys", REVERSE),
    Mistake("backward of reverse takes the wrong steps", SCAN, "t = steps - 1 - k if reverse else k", "t = k", REVERSE),
    Mistake("dW of reverse in the wrong order", SCAN, "da_x if reverse else da_x[::-1]", "da_x[::-1]", REVERSE),
    Mistake(
        "dU with h after the step", SCAN, 'cache.states["h"][:steps]', 'cache.states["h"][-steps:]', formula("lstm")
    ),
    Mistake("dU in the wrong order", SCAN, "_stack(da[::-1], like", "_stack(da, like", formula("lstm")),
    Mistake(
        "the projection's gradient in the wrong order",
        SCAN,
        "_stack(dprojected[::-1]",
        "_stack(dprojected",
        formula("lstm projected"),
    ),
    Mistake(
        "pointwise gradients of one step alone",
        SCAN,
        "of_steps.append(sum_over_rows(grads.params[name][row]))",
        "of_steps[:] = [sum_over_rows(grads.params[name][row])]",
        formula("diagonal"),
    ),
    # The layer around the scan
    Mistake(
        "dropout before the first layer",
        RECURRENT_FORWARD,
        "self.dropout and layer > 0",
        "self.dropout and layer >= 0",
        ("tests/library/layers/test_lstm.py::test_dropout_stands_between_the_layers",),
    ),
    Mistake(
        "dropout in inference",
        RECURRENT_FORWARD,
        "rng = (rng or self.rng) if training else None",
        "rng = rng or self.rng",
        (f"{EVERY}test_rows_do_not_know_of_each_other[reference-lstm with dropout]",),
    ),
    Mistake(
        "no dropout backward",
        STACK,
        "dy = dropped(dy, layer.kept, dropout)",
        "dy = dy",
        differences("recurrent with every dropout"),
    ),
    Mistake(
        "the given generator is ignored",
        RECURRENT_FORWARD,
        "(rng or self.rng) if training",
        "self.rng if training",
        ("tests/library/layers/test_lstm.py::test_dropout_stands_between_the_layers",),
    ),
    Mistake("one direction's dx alone", STACK, "dxs[0] + dxs[1]", "dxs[0]", formula("lstm bidirectional")),
    Mistake(
        "directions change places in the gradients",
        RECURRENT_BACKWARD,
        "self._named_grads(\n                    total[place], *place, ",
        "self._named_grads(\n                    total[place], layer, self.directions - 1 - direction, ",
        formula("lstm bidirectional"),
    ),
    Mistake(
        "both directions start from one state",
        RECURRENT_FORWARD,
        "starts[layer * self.directions + direction]",
        "starts[layer * self.directions]",
        formula("lstm bidirectional"),
    ),
    Mistake(
        "upper layers don't know the lengths",
        STACK,
        "**options,",
        '**(options | {"lengths": None} if ends else options),',
        formula("lstm of everything"),
    ),
    Mistake(
        "the forget bias counts twice",
        "src/recurray/layers/lstm.py",
        '"recurrent_bias": 0.0}',
        '"recurrent_bias": value}',
        ("tests/library/layers/test_lstm.py::test_forget_bias",),
    ),
    Mistake(
        "recurrent dropout forward alone",
        SCAN,
        "_masked(da_outer[-1] @ outer[0], cache.output_mask)",
        "da_outer[-1] @ outer[0]",
        differences("recurrent with every dropout"),
    ),
    Mistake(
        "dU without recurrent dropout",
        SCAN,
        "_masked(h, cache.output_mask) for h in",
        "h for h in",
        differences("recurrent with every dropout"),
    ),
    Mistake(
        "weight dropout forward alone",
        RECURRENT_BACKWARD,
        "values[field] = dropped(values[field], kept, self.weight_dropout)",
        "values[field] = values[field] / (1 - self.weight_dropout)",
        differences("recurrent with every dropout"),
    ),
    Mistake(
        "recurrent dropout drawn anew at each step",
        "src/recurray/layers/draws.py",
        "own = (1, *shape[1:]) if name in cell.sequence_draws else shape",
        "own = shape",
        formula("indrnn with recurrent dropout and zoneout"),
    ),
    Mistake(
        "recurrent dropout without scaling",
        DROPOUT_CELL,
        "x.recurrent_dropout / (1 - self.p)",
        "x.recurrent_dropout",
        formula("indrnn with recurrent dropout and zoneout"),
    ),
    Mistake(
        "dh without recurrent dropout",
        DROPOUT_CELL,
        '"h": grads.before["h"] * factor}',
        '"h": grads.before["h"]}',
        formula("indrnn with recurrent dropout and zoneout"),
    ),
    Mistake(
        "dw without recurrent dropout",
        DROPOUT_CELL,
        "self.cell.step_backward(d, saved, _seen(before, factor), params)",
        "self.cell.step_backward(d, saved, before, params)",
        formula("indrnn with recurrent dropout and zoneout"),
    ),
    Mistake(
        "zoneout keeps what recurrent dropout left",
        DROPOUT_CELL,
        "        return replace(cell, cell=with_recurrent_dropout(cell.cell, p))\n",
        "        found = RecurrentDropoutCell(cell.cell, p)\n"
        "        object.__setattr__(found, 'cell', cell)\n        return found\n",
        formula("indrnn with recurrent dropout and zoneout"),
    ),
    Mistake(
        "zoneout's gradient is kept twice",
        "src/recurray/cells/zoneout.py",
        "kept[name] = whole - taken",
        "kept[name] = whole",
        formula("gru with recurrent dropout and zoneout"),
    ),
    Mistake(
        "zoneout keeps to rounding alone",
        "src/recurray/cells/zoneout.py",
        "keep * getattr(before, name) + take * after[name]",
        "after[name] + keep * (getattr(before, name) - after[name])",
        ("tests/library/test_cells.py::test_zoneout_keeps_units_as_they_were",),
    ),
    Mistake(
        "a learned start state without a gradient",
        RECURRENT_BACKWARD,
        "        if state_given:\n            totals",
        "        if True:\n            totals",
        differences("recurrent that learns its start"),
    ),
    # Gaps and cuts
    Mistake(
        "a cut comes after its step",
        PIECES,
        "part = cuts.reshape(-1)[at]",
        "part = (cuts - steps.resets).reshape(-1)[at]",
        LOOP,
    ),
    Mistake(
        "gaps hide cuts", PIECES, "np.cumsum(steps.resets, axis=1)", "np.cumsum(steps.resets & valid, axis=1)", LOOP
    ),
    Mistake(
        "cuts after the last valid step are forgotten",
        PIECES,
        "back_joined[some] = part[first_of_row + counts[some] - 1] == all_cuts[some]",
        "back_joined[some] = True",
        LOOP,
    ),
    Mistake(
        "in reverse the first piece has the state",
        PIECES,
        "self.at_back if is_reverse(number) else self.at_front",
        "self.at_front",
        LOOP,
    ),
    Mistake(
        "the own start has no gradient from cuts",
        PIECES,
        "own.append(tuple(sum_over_rows(_where(~at, value)) for value in pieces))",
        "own.append(tuple(sum_over_rows(_where(~at, value)) * 0 for value in pieces))",
        formula("lstm with gaps, cut, of everything"),
    ),
    Mistake(
        "the own start has no gradient from final states",
        PIECES,
        "down.append(tuple(sum_over_rows(_where(~joined, value)) for value in d))",
        "down.append(tuple(sum_over_rows(_where(~joined, value)) * 0 for value in d))",
        formula("lstm with gaps, cut, of everything"),
    ),
    Mistake(
        "a final state's gradient reaches every piece",
        PIECES,
        "self._in_groups([_where(at, self.by_piece(value)) for value in d])",
        "self._in_groups([self.by_piece(value) for value in d])",
        formula("lstm cut"),
    ),
    Mistake(
        "gaps pass on another step where no piece has padding",
        PIECES,
        "if not self.has_zero:",
        "if False:",
        (f"{GAPS}test_a_gap_is_zero_where_all_pieces_are_as_long",),
    ),
    Mistake(
        "weights are dropped anew for each group",
        RECURRENT_FORWARD,
        "if place not in in_use:",
        "if True:",
        (f"{GAPS}test_weights_are_dropped_once_a_call",),
    ),
    Mistake(
        "the mean of all steps",
        "src/recurray/layers/pooling.py",
        "weight = already / whole",
        "weight = already * 0",
        formula("mean"),
    ),
    Mistake(
        "final takes the last step of both", LAST, "first if reverse else last, dtype", "last, dtype", formula("final")
    ),
    # The other layers
    Mistake(
        "last takes the step before",
        PIECES,
        "[length - 1 for length in lengths]",
        "[length - 2 for length in lengths]",
        formula("last"),
    ),
    Mistake(
        "last ignores the lengths",
        PIECES,
        "[self.steps] * self.batch if self.lengths is None else self.lengths\n            return",
        "[self.steps] * self.batch\n            return",
        formula("last ragged"),
    ),
    Mistake(
        "last forgets the state",
        LAST,
        "xp.where(carried, before, xp.concat(parts, axis=-1))",
        "xp.concat(parts, axis=-1)",
        formula("last ragged"),
    ),
    Mistake(
        "last forgets dstate",
        LAST,
        "dy = dy + array_checks.state_of_h(",
        "dy = dy + 0 * array_checks.state_of_h(",
        formula("last"),
    ),
    Mistake(
        "last passes dstart on for all rows",
        LAST,
        "xp.where(cache.carried, dy, xp.zeros_like(dy))",
        "dy",
        formula("last"),
    ),
    Mistake(
        "layer norm without the mean's gradient",
        NORM,
        "(d - along_mean - along_scale)",
        "(d - along_scale)",
        formula("layer norm"),
    ),
    Mistake(
        "layer norm without the scale's gradient",
        NORM,
        "(d - along_mean - along_scale)",
        "(d - along_mean)",
        formula("layer norm"),
    ),
    Mistake("layer norm's gradient without the weight", NORM, "d = dy * cache.weight", "d = dy", formula("layer norm")),
    Mistake(
        "eps outside the root",
        NORM,
        "keepdims=True) + self.eps)",
        "keepdims=True)) + self.eps",
        ("tests/library/layers/test_layers.py::test_layer_norm_of_what_does_not_vary",),
    ),
    Mistake(
        "halves that are every other feature",
        MERGE,
        "x[..., :size], x[..., size:]",
        "x[..., ::2], x[..., 1::2]",
        formula("merge ave"),
    ),
    Mistake(
        "a mean's gradient isn't halved",
        MERGE,
        'dy if self.mode == "sum" else 0.5 * dy',
        "dy",
        differences("merge ave"),
    ),
    Mistake(
        "a product's gradient takes each half for the other",
        MERGE,
        "dy * cache.x[..., size:], dy * cache.x[..., :size]",
        "dy * cache.x[..., :size], dy * cache.x[..., size:]",
        differences("merge mul"),
    ),
    Mistake("linear's bias gets the mean", LINEAR, "sum_over_rows(dy)", "xp.mean(dy, axis=0)", formula("linear")),
    Mistake("dropout without scaling", ARRAYS, "where(kept, a / (1 - p),", "where(kept, a,", DROPS),
    Mistake(
        "dropout drops the others", "src/recurray/layers/draws.py", ">= np.float32(drop)", "< np.float32(drop)", DROPS
    ),
    Mistake(
        "dropout draws anew backward",
        DROPOUT,
        "return dy if cache.kept is None else dropped(",
        "return dy if True else dropped(",
        differences("dropout"),
    ),
    Mistake(
        "embedding's range is one too far",
        EMBEDDING,
        "< self.num_embeddings):",
        "<= self.num_embeddings):",
        (f"{BAD}test_other_layers",),
    ),
    Mistake(
        "embedding adds repeated integers once",
        BACKEND,
        "numbers[None, :], values.dtype), values)",
        "numbers[None, :], values.dtype), values) / xp.maximum(xp.sum(index[:, None] == numbers, axis=0), 1)[:, None]",
        formula("embedding"),
    ),
    Mistake(
        "softmax's sum",
        f"{ACTIVATIONS}last_axis.py",
        "y * (dy - namespace_of(y).sum(in_order(dy * y), axis=-1, keepdims=True))",
        "y * dy",
        formula("activation softmax"),
    ),
    Mistake(
        "log_softmax overflows",
        f"{ACTIVATIONS}last_axis.py",
        "shifted = below_largest(in_order(x))",
        "shifted = x",
        LARGE,
    ),
    Mistake(
        "softplus overflows",
        f"{ACTIVATIONS}smooth.py",
        "return positive_part(x) + xp.log1p(xp.exp(-xp.abs(x)))",
        "return xp.log1p(xp.exp(x))",
        LARGE,
    ),
    Mistake(
        "sequential keeps the lengths to itself",
        SEQUENTIAL,
        "layer.run(x, start, lengths,",
        "layer.run(x, start, None,",
        ONE_BY_ONE,
    ),
    Mistake(
        "sequential forgets dstate",
        SEQUENTIAL,
        "cache.layers[place], dx, dends[place])",
        "cache.layers[place], dx, None)",
        ONE_BY_ONE,
    ),
    Mistake(
        "sequential is always training",
        SEQUENTIAL,
        "training=training, rng=rng",
        "training=True, rng=rng",
        (f"{EVERY}test_inference_is_forward_without_dropout",),
    ),
    Mistake(
        "tied params: the gradient of one alone",
        CONTAINER,
        "found[source] + value if source in found else value",
        "value",
        ("tests/library/layers/test_model.py",),
    ),
    Mistake(
        "tied params: what is written reaches one of them",
        JOINED_PARAMS,
        "for each in (name, *self._tied.get(name, ())):",
        "for each in (name,):",
        ("tests/library/layers/test_model.py",),
    ),
    # What is kept, given out and taken in
    Mistake(
        "state_dict gives the params themselves",
        BACKEND,
        'return np.array(to_numpy(a, "a"), order="C")',
        'return to_numpy(a, "a")',
        (f"{EVERY}test_state_dict_holds_copies",),
    ),
    Mistake(
        "loading keeps the caller's arrays",
        CHECKS,
        "backend.asarray(value.copy(), dtype)",
        "backend.asarray(value, dtype)",
        (f"{EVERY}test_state_dict_holds_copies",),
    ),
    Mistake(
        "params missing on load are kept",
        CHECKS,
        "    if missing or unknown:",
        "    if unknown:",
        (f"{BAD}test_params",),
    ),
    Mistake(
        "wrong shapes pass",
        CHECKS,
        "h != w and isinstance(w, int)",
        "h < w and isinstance(w, int)",
        (f"{BAD}test_calls",),
    ),
    Mistake(
        "lengths too large pass", CHECKS, "if not 0 <= length <= steps:", "if not 0 <= length:", (f"{BAD}test_calls",)
    ),
    Mistake(
        "integers pass for floats",
        CHECKS,
        'value.dtype, "real floating"',
        'value.dtype, "numeric"',
        (f"{BAD}test_calls",),
    ),
    Mistake(
        "other devices pass",
        CHECKS,
        "if not backend.on_device(value):",
        "if False:",
        (f"{BAD}test_arrays_on_another_device",),
        backends="array-api-strict,device1",
    ),
    Mistake(
        "backward takes the params of now",
        LINEAR,
        "dy @ cache.weight, x.shape",
        'dy @ self.params["weight"], x.shape',
        (f"{EVERY}test_backward_goes_with_the_params_of_its_forward",),
    ),
    # Moving
    Mistake(
        "a moved layer shares its params",
        "src/recurray/layers/moving.py",
        "return backend.xp.astype(value, value.dtype)",
        "return value",
        (f"{MOVING}test_a_moved_layer_shares_no_array",),
    ),
    Mistake(
        "a moved layer keeps the precision",
        PARAMS,
        "self.dtype if dtype is None else checks.float_dtype(dtype),",
        "self.dtype,",
        (f"{MOVING}test_a_layer_in_another_precision",),
    ),
    Mistake(
        "a moved layer shares its generator",
        PARAMS,
        "        other._own_generators()\n",
        "",
        (f"{MOVING}test_dropout_goes_on_from_where_it_was",),
    ),
    Mistake(
        "a moved Sequential shares its layers' generators",
        CONTAINER,
        "            layer._own_generators()",
        "            pass",
        (f"{MOVING}test_dropout_goes_on_from_where_it_was",),
    ),
    Mistake(
        "a moved layer keeps the form of its state",
        RECURRENT_FORM,
        "        other._state_form = other._made_state_form()\n",
        "",
        (f"{MOVING}test_a_layer_in_another_precision",),
    ),
    Mistake(
        "a moved layer shares its short way",
        RECURRENT_FORM,
        "self._plans, self._identity = Plans(), self._made_identity()",
        "self._identity = self._made_identity()",
        (f"{MOVING}test_single_steps_of_a_moved_layer",),
    ),
    Mistake(
        "a cell isn't tried where it goes",
        RECURRENT_FORM,
        "                check_cell(cell, backend)\n",
        "                pass\n",
        (f"{MOVING}test_a_cell_is_tried_where_it_goes",),
    ),
    Mistake(
        "a moved layer counts as one that nobody gave a backend",
        PARAMS,
        "other._unsaid = self._unsaid - said",
        "other._unsaid = self._unsaid",
        (f"{MOVING}test_what_contradicts_itself_is_refused",),
    ),
    Mistake(
        "numbers too large for float32 pass",
        "src/recurray/layers/moving.py",
        "if largest > FLOAT32_MAX:",
        "if False:",
        (f"{MOVING}test_numbers_too_large_for_float32",),
    ),
    Mistake(
        "a moved stream forgets its state",
        "src/recurray/streaming.py",
        "model.as_state(self.state)",
        "None",
        (f"{MOVING}test_a_stream_moves_between_two_chunks",),
    ),
    Mistake(
        "a moved optimizer forgets its moments",
        "src/recurray/optim/optimizer.py",
        "        other.load_state_dict(self.state_dict())\n",
        "",
        (f"{MOVING}test_training_goes_on_elsewhere",),
    ),
    Mistake(
        "a follower has a generator of its own",
        JOINING,
        "layer.copy_on(at, own)",
        "layer.to(at, own)",
        (f"{MOVING}test_a_layer_without_params_serves_two_models",),
    ),
    Mistake(
        "layers without params keep their precision",
        JOINING,
        'own = dtype if "dtype" in follows[name] else layer.dtype',
        "own = layer.dtype",
        (f"{MOVING}test_layers_without_params_follow_the_others",),
    ),
    Mistake(
        "a layer is copied only where the default isn't what it is given",
        JOINING,
        "layer.to(at) if name in told else",
        "layer.to(at) if name in told and layer.backend is not at else",
        (f"{MOVING}test_a_layer_that_was_given_the_sequentials_backend_is_a_copy_whatever_the_default",),
    ),
    Mistake(
        "within another Sequential what was said is forgotten",
        CONTAINER,
        'self._unsaid -= {"backend"}',
        "pass",
        (f"{MOVING}test_within_another_what_was_said_counts",),
    ),
    Mistake(
        "layers on other backends are taken along",
        JOINING,
        "if asked is not None and own != asked:",
        "if False:",
        (f"{MOVING}test_what_contradicts_itself_is_refused",),
    ),
    Mistake(
        "streaming forgets the state",
        "src/recurray/streaming.py",
        "y, self.state = self.model(",
        "y, _ = self.model(",
        ("tests/library/layers/test_streaming.py::test_every_cutting_gives_the_uncut_sequence",),
    ),
    Mistake(
        "streaming ignores the lengths",
        "src/recurray/streaming.py",
        "(x, self.state, lengths, mask",
        "(x, self.state, mask",
        ("tests/library/layers/test_streaming.py::test_ragged_rows",),
    ),
    # Finding backends
    Mistake(
        "the environment is ignored",
        "src/recurray/selector.py",
        'environment.backend((*backend_names(), "auto")) or "numpy"',
        '"numpy"',
        (f"{BACKENDS}test_none_is_numpy_or_what_the_environment_says",),
    ),
    Mistake(
        "auto is always numpy",
        "src/recurray/selector.py",
        'if "cupy" in _announced() and why',
        "if False and why",
        (f"{BACKENDS}test_auto_where_a_cuda_device_answers",),
    ),
    Mistake(
        "everything is imported",
        ARRAYS,
        "from typing import Any\n",
        "from typing import Any\n\nimport array_api_compat\n",
        (f"{BACKENDS}test_importing_and_using_numpy_imports_no_other_library",),
    ),
    Mistake(
        "a device is left behind",
        BACKEND,
        "dtype=wanted, device=self.device)",
        "dtype=wanted)",
        (f"{BACKENDS}test_arrays_in_and_out",),
        backends="device1",
    ),
    # The gradient check
    Mistake(
        "cells of wrong shapes pass",
        "src/recurray/layers/trial.py",
        "if tuple(value.shape) != shape:",
        "if len(value.shape) != len(shape):",
        ("tests/library/test_cells.py::test_a_gradient_of_the_wrong_kind_is_told_by_name",),
    ),
    Mistake(
        "both directions run the first one's cell",
        RECURRENT_FORWARD,
        "cell = self.cells[direction]",
        "cell = self.cells[0]",
        ("tests/library/layers/test_directions.py::test_each_direction_has_its_cell",),
    ),
    Mistake(
        "layers take any cell",
        RECURRENT_FORM,
        "        check_cell(cell, self.backend)\n",
        "",
        ("tests/library/test_cells.py::test_what_cannot_be_gone_on_with_is_refused",),
    ),
    Mistake(
        "the check passes all",
        GRADIENT_CHECK,
        " and error <= tolerance * scale + FLOOR",
        "",
        (f"{CHECK}test_one_element_that_is_off",),
    ),
    Mistake(
        "the check passes NaN",
        GRADIENT_CHECK,
        '"" if np.isfinite(found).all() else',
        '"" if True else',
        (f"{CHECK}test_an_element_that_is_no_number",),
    ),
    Mistake(
        "the check draws anew in every run",
        GRADIENT_CHECK,
        "np.random.default_rng(seed)  # the same",
        "rng  # not the same",
        (f"{CHECK}test_every_layer_passes[lstm with dropout-numpy]",),
        backends="numpy",
    ),
    # Files, and other processes
    Mistake(
        "a forked child waits for the pool's lock",
        "backends/recurray_numpy/buffers.py",
        "            os.register_at_fork(after_in_child=begin_anew)",
        "            pass",
        ("tests/library/test_fork.py::test_a_fork_amid_the_pool_of_buffers",),
    ),
    Mistake(
        "the file isn't flushed before it is renamed",
        FILES,
        "                os.fsync(file.fileno())",
        "                pass",
        ("tests/library/test_files.py::test_file_then_folder_are_flushed_to_the_disk",),
    ),
    Mistake(
        "the folder isn't flushed",
        FILES,
        "        _flush_directory(path.parent)",
        "        pass",
        ("tests/library/test_files.py::test_file_then_folder_are_flushed_to_the_disk",),
    ),
    Mistake(
        "the temporary file's name can be guessed",
        FILES,
        "{secrets.token_hex(4)}",
        "{0:08x}",
        ("tests/library/test_files.py::test_temporary_names_are_not_to_be_guessed",),
    ),
    Mistake(
        "two may write one file",
        FILES,
        "fcntl.LOCK_EX | fcntl.LOCK_NB",
        "fcntl.LOCK_SH | fcntl.LOCK_NB",
        ("tests/library/test_files.py::test_two_cannot_write_the_same_file_at_the_same_time",),
    ),
    Mistake(
        "what a killed run leaves stays",
        FILES,
        "        self._remove_unfinished()\n",
        "",
        ("tests/library/test_files.py::test_a_killed_process_keeps_nobody_off_and_its_files_go",),
    ),
    Mistake(
        "a private file becomes everybody's",
        FILES,
        "                    _take_permissions(temporary, self.path, former)",
        "                    pass",
        ("tests/library/test_files.py::test_permissions_stay",),
    ),
    Mistake(
        "the check beforehand doesn't rename",
        FILES,
        '                self._put(iter(lambda: file.read(_BLOCK), b""), self.path)',
        "                pass",
        ("tests/library/test_files.py::test_the_check_renames_as_the_writing_does",),
    ),
    Mistake(
        "a header has no limit",
        "src/recurray/sealed.py",
        "HEADER_LIMIT = 8 * 2**20",
        "HEADER_LIMIT = 2**40",
        ("tests/library/command_line/test_streams_and_sources.py::test_a_long_header_is_refused_before_it_is_read",),
    ),
    Mistake(
        "params that aren't finite are saved",
        "src/recurray/language_model/training.py",
        '            raise self._stopped(f"{named} isn\'t finite any more")',
        "            pass",
        ("tests/library/language_model/test_saving.py::test_params_that_are_not_finite_never_become_the_checkpoint",),
    ),
    Mistake(
        "a terminal is sent control characters",
        "src/recurray/command_line/output.py",
        "printable(text) if stream.isatty() else text",
        "text",
        (
            "tests/library/command_line/test_streams_and_sources.py::test_a_terminal_is_sent_no_control_characters_of_a_model",
        ),
    ),
    Mistake(
        "Keras: the hard sigmoid of Keras 3 alone",
        f"{KERAS}activations.py",
        "return OF_KERAS_3 if major >= 3 else OF_KERAS_2",
        "return OF_KERAS_3",
        (f"{FROM_KERAS}test_hard_sigmoid_is_that_of_the_version",),
    ),
    Mistake(
        "Keras: PyTorch's leaky_relu",
        f"{KERAS}activations.py",
        '("leaky_relu", 0.2)',
        '("leaky_relu", 0.01)',
        (f"{FROM_KERAS}test_leaky_relu",),
    ),
    Mistake(
        "Keras: layers in the order of their names",
        f"{KERAS}weights.py",
        "dict(zip(tops, groups, strict=True))",
        "dict(zip(tops, sorted(groups), strict=True))",
        (f"{FROM_KERAS}test_layers_are_in_the_order_of_the_file",),
    ),
    Mistake(
        "Keras: directions change places",
        f"{KERAS}weights.py",
        'name.split("/")) else 1',
        'name.split("/")) else 0',
        (f"{FROM_KERAS}test_directions_are_told_by_their_names",),
    ),
    Mistake(
        "Keras 1: gates as they follow each other in the file",
        f"{KERAS}weights.py",
        '("ifco", "zrh")',
        '("icfo", "zrh")',
        (f"{FROM_KERAS}test_keras_1",),
    ),
    Mistake(
        "Keras: what go_backwards returns isn't turned round",
        f"{KERAS}recurrent.py",
        "reverse = form.backwards != place.flipped",
        "reverse = form.backwards",
        (f"{FROM_KERAS}test_directions_turned_round",),
    ),
    Mistake(
        "Keras: a mask of steps that are nowhere the value",
        f"{KERAS}model.py",
        "namespace_of(x).any(x != self.mask_value, axis=-1)",
        "namespace_of(x).all(x != self.mask_value, axis=-1)",
        (f"{FROM_KERAS}test_a_file_of_keras_3",),
    ),
    Mistake(
        "HDF5: bytes that were shuffled stay so",
        f"{KERAS}hdf5.py",
        "reshape(item, -1).T",
        "reshape(-1, item).T",
        ("tests/library/convert/test_keras_hdf5.py::test_arrays_are_those_of_h5py",),
    ),
    Mistake(
        "HDF5: links are followed",
        f"{KERAS}hdf5.py",
        "None if linked else data.number(at + 8, 8)",
        "data.number(at + 8, 8)",
        ("tests/library/convert/test_keras_hdf5.py::test_what_leads_out_of_the_file_is_refused",),
    ),
    Mistake(
        "ONNX: parameters taken from the end",
        "src/recurray/convert/onnx/node.py",
        "left[key].pop(0)",
        "left[key].pop()",
        ("tests/library/convert/test_from_onnx.py::test_alpha_and_beta_are_taken_in_order",),
    ),
    Mistake(
        "ONNX: HardSigmoid is PyTorch's",
        "src/recurray/convert/onnx/node.py",
        '("alpha", "beta"), (0.2, 0.5)',
        '("alpha", "beta"), (1 / 6, 0.5)',
        ("tests/library/convert/test_from_onnx.py::test_hard_sigmoid_is_onnx_s",),
    ),
    Mistake(
        "ONNX: zero points added",
        "src/recurray/convert/onnx/folding.py",
        "x.astype(np.int32) - (0 if",
        "x.astype(np.int32) + (0 if",
        ("tests/library/convert/test_from_onnx.py::test_weights_wrapped_in_other_nodes",),
    ),
    Mistake(
        "ONNX: Gemm's weights the wrong way round",
        "src/recurray/convert/onnx/step.py",
        'weight if given.get("transB", 0) else weight.T',
        'weight.T if given.get("transB", 0) else weight',
        ("tests/library/convert/test_from_onnx.py::test_the_final_output_goes_on",),
    ),
    Mistake(
        "ONNX: a step beyond a row's last",
        "src/recurray/convert/onnx/write.py",
        'self.node("Sub", [lengths, one])',
        'self.node("Add", [lengths, one])',
        ("tests/library/convert/test_to_onnx.py::test_a_model_of_many_layers",),
    ),
    Mistake(
        "ONNX: what lies past a row is kept",
        "src/recurray/convert/onnx/write.py",
        "            if self.lengths and not isinstance(layers[-1]",
        "            if False and not isinstance(layers[-1]",
        ("tests/library/convert/test_to_onnx.py::test_what_lies_past_a_row_s_length_is_zero",),
    ),
    Mistake(
        "PyTorch's files: views from the beginning",
        "src/recurray/convert/torch_file.py",
        "as_strided(values[offset:]",
        "as_strided(values[0:]",
        ("tests/library/convert/test_from_torch.py::test_views_and_shared_storages",),
    ),
    Mistake(
        "PyTorch's files: bfloat16 a bit too low",
        "src/recurray/convert/torch_file.py",
        "<< 16",
        "<< 15",
        ("tests/library/convert/test_from_torch.py::test_every_precision",),
    ),
    Mistake(
        "PyTorch's files: views past their storage",
        "src/recurray/convert/torch_file.py",
        "count > whole or last >= whole",
        "count > whole",
        ("tests/library/convert/test_from_torch.py::test_hostile_files_are_refused_and_nothing_runs",),
    ),
    Mistake(
        "RTNeural: skip forgotten",
        "src/recurray/convert/rtneural.py",
        "if skip else ()",
        "if False else ()",
        ("tests/library/convert/test_rtneural.py::test_guitarml",),
    ),
]


@contextmanager
def planted(tree: Path, mistake: Mistake) -> Iterator[None]:
    """Make the mistake in a copy of the library, for as long as this is open."""
    path = tree / mistake.file
    in_c, library = path.parent.name == "c", tree / LIBRARY
    text, times = path.read_text(), path.stat()
    if text.count(mistake.old) != 1:
        raise LookupError(f"{mistake.file} has {text.count(mistake.old)} times, not once: {mistake.old}")
    try:
        path.write_text(text.replace(mistake.old, mistake.new))
        os.utime(path, (times.st_atime, times.st_mtime + 1000))  # so that what was compiled before isn't taken for it
        if in_c:
            sound = library.rename(library.with_suffix(".sound"))
            compile_engine(tree)
        yield
    finally:
        path.write_text(text)
        os.utime(path, (times.st_atime, times.st_mtime))
        if in_c:
            sound.replace(library)


def compile_engine(tree: Path) -> None:
    """Compile the engine of a copy, for the portable instruction set alone."""
    engine = tree / "backends" / "recurray_native"
    built = tree / "built"
    built.mkdir(exist_ok=True)
    dispatch = (
        (engine / "c" / "dispatch.c")
        .read_text()
        .replace("defined(__x86_64__)", "0")
        .replace("defined(__aarch64__)", "0")
    )
    (built / "dispatch.c").write_text(dispatch)
    command = [
        COMPILER,
        "-O1",
        "-std=gnu11",
        "-fPIC",
        "-fvisibility=hidden",
        "-w",
        "-pthread",
        f"-I{engine / 'c'}",
    ]
    level = ["-DLEVEL=portable", "-DVECTOR_BYTES=16", "-DROWS=4", "-DVECTORS=2", "-c", str(engine / "c" / "level.c")]
    for double in (0, 1):
        subprocess.run([*command, *level, f"-DDOUBLE={double}", "-o", str(built / f"{double}.o")], check=True)
    sources = [built / "dispatch.c", engine / "c" / "memory.c", engine / "c" / "pool.c", built / "0.o", built / "1.o"]
    (tree / LIBRARY).unlink(missing_ok=True)  # a process may have it in use
    subprocess.run([*command, "-shared", *map(str, sources), "-o", str(tree / LIBRARY), "-lm"], check=True)


def run(tree: Path, tests: list[str], backends: str, compiled: bool = False) -> tuple[int, str]:
    """Run tests on the copy; return pytest's exit status (or -1) and the first test that failed (or the last lines).

    A test that fails because what was planted is no sound code catches nothing.
    What Python compiles is kept if ``compiled``: not of a planted mistake, which it would outlive.
    """
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(tree / folder) for folder in ("src", "backends")),
        "PYTHONDONTWRITEBYTECODE": "" if compiled else "1",
        "COLUMNS": "500",  # so that pytest doesn't cut off its lines
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "RECURRAY_TEST_BACKENDS": backends,
    }
    for variable in ("RECURRAY_TEST_REQUIRE", "RECURRAY_BACKEND", "RECURRAY_NATIVE_LEVEL", "PYTEST_ADDOPTS"):
        environment.pop(variable, None)
    done = subprocess.run(
        [sys.executable, "-c", RUN, *tests], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    lines = (done.stdout + done.stderr).strip().splitlines()
    if done.returncode < 0:
        return 1, f"the process ended by signal {-done.returncode}"
    for line in lines:
        if line.startswith("FAILED "):
            test, _, error = line.removeprefix("FAILED ").partition(" - ")
            broken = error.startswith(("NameError", "AttributeError", "SyntaxError", "ImportError"))
            return (-1, line) if broken else (done.returncode, test)
    return done.returncode, "\n".join(lines[-15:])


def copy(source: Path, target: Path) -> Path:
    """Copy the library and its tests, and what has been compiled of them."""
    for part in ("src", "backends", "tests"):
        shutil.copytree(source / part, target / part)
    shutil.copy(source / "pyproject.toml", target)
    return target


def main(words: list[str]) -> int:
    """Plant the mistakes whose names have all the words."""
    known = ANEW if "--anew" in words else [*MISTAKES, *SURVIVORS, *(ANEW if "--all" in words else ())]
    words = [word for word in words if word not in ("--anew", "--all")]
    chosen = [mistake for mistake in known if all(word in mistake.name for word in words)]
    if shutil.which(COMPILER) is None:
        print(f"There is no C compiler {COMPILER}: mistakes in the compiled engine aren't tried")
        chosen = [mistake for mistake in chosen if "native" not in mistake.backends]
    width = max((len(mistake.name) for mistake in chosen), default=0)
    began = time.perf_counter()
    caught = 0
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(WORKERS) as pool:
        first = copy(ROOT, Path(folder).resolve() / "0")
        if any("native" in mistake.backends for mistake in chosen):
            compile_engine(first)
        free: Queue[Path] = Queue()
        free.put(first)
        for number in range(1, WORKERS):
            free.put(copy(first, first.with_name(str(number))))

        def without(tests: list[str], backends: str) -> tuple[int, str]:
            tree = free.get()
            try:
                return run(tree, tests, backends, compiled=True)
            finally:
                free.put(tree)

        sound = []
        for backends in sorted({mistake.backends for mistake in chosen}):
            tests = sorted({test for mistake in chosen if mistake.backends == backends for test in mistake.tests})
            shares = [share for k in range(WORKERS) if (share := tests[k::WORKERS])]
            sound += [pool.submit(without, share, backends) for share in shares]
        for done in sound:
            status, found = done.result()
            if status != 0:
                print(f"The tests fail without a mistake: {found}")
                return 1

        def attempt(mistake: Mistake) -> tuple[int, str]:
            tree = free.get()
            try:
                with planted(tree, mistake):
                    return run(tree, list(mistake.tests), mistake.backends)
            except LookupError as error:
                return -1, str(error)
            finally:
                free.put(tree)

        for mistake, (status, found) in zip(chosen, pool.map(attempt, chosen), strict=True):
            missed = f"NOT CAUGHT by {', '.join(mistake.tests)}"
            outcome = {0: missed, 1: found}.get(status, f"COULD NOT BE TRIED: {found}")
            print(f"{mistake.name:{width}}  {outcome}", flush=True)
            caught += status == 1
    print(f"{caught} of {len(chosen)} mistakes caught in {time.perf_counter() - began:.0f} s")
    return 0 if chosen and caught == len(chosen) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
