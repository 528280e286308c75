"""From an ONNX file to layers: a recurrent node, and what stands around it in a straight line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from recurray.convert.onnx.attributes import attributes, label, shown_node
from recurray.convert.onnx.graph import Scope, open_graph, scopes
from recurray.convert.onnx.node import is_recurrent, recurrent
from recurray.convert.onnx.step import Axes, Made, Step, down, is_output, up
from recurray.convert.result import Converted, check_path, made_with
from recurray.files import FormatError
from recurray.layers import Final, Layer, Sequential
from recurray.messages import shown

_PLAIN: tuple[Axes, ...] = (("B", "T", "F"), ("T", "B", "F"), ("B", "F"), ("B", "T"), ("T", "B"))  # what models take
_WORDS = {"B": "batch", "T": "time", "F": "features", "D": "directions", "H": "units"}


def from_onnx(
    path: str | Path,
    node: str | None = None,
    *,
    batch_first: bool | None = None,
    backend: Any = None,
    dtype: Any = None,
) -> Converted:
    """Make layers of an ONNX file.

    What is read are ONNX's LSTM, GRU and RNN with all their attributes, onnxruntime's DynamicQuantizeLSTM, and what
    stands in a straight line around them: Gather of a table (an embedding), MatMul, Gemm and Add with constants,
    LayerNormalization, functions of each element, Softmax, the last step, and changes of shape between these. Anything
    else ends the line, and is named. Weights may be wrapped in Constant, Unsqueeze, Transpose, DequantizeLinear and the
    like, and a node may stand in the branches of an If or in a loop's body.

    Parameters
    ----------
    path : path-like
        The file. Weights in a file beside it are read too, where that lies in the same folder.
    node : str, optional
        The name of the recurrent node, or of one of its outputs, to be read alone. If omitted, all of the file's
        recurrent nodes, which must stand in one line, and what stands around them.
    batch_first : bool, optional
        The layout of the model; if omitted, that of the file where the line begins: the node's own, where no
        transposition stands before it.
    backend : str, Backend, namespace or None
        See `recurray.get_backend`.
    dtype : {"float32", "float64"}, optional
        If omitted, float64 where the weights are, else float32.

    Returns
    -------
    Converted
        ``before`` and ``after`` name the nodes that the line follows, and that follow it; the report tells what
        becomes of states and lengths that are inputs in the file.

    Raises
    ------
    FormatError
        The file can't be read, has no recurrent node, or one that can't be said in recurray's layers.
    ValueError
        There is no such node, or there are several, and not in one line; the message names them.
    OSError
        The file can't be opened.
    ImportError
        The onnx package is missing.

    Notes
    -----
    Where ONNX leaves something open, onnxruntime decides: ``input_forget=1`` is f = 1 - i, and ``clip`` doesn't hold
    for an LSTM's c on its way to the output. The operators are defined at https://onnx.ai/onnx/operators.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import recurray as rr
    >>> from recurray import convert
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder, "model.onnx")
    ...     convert.to_onnx(rr.Sequential(rr.LSTM(3, 5, seed=0), rr.Linear(5, 2, seed=1)), path)
    ...     convert.from_onnx(path, node="0").model
    LSTM(3, 5, batch_first=False, backend='numpy', dtype='float32')  # 200 params
    """
    check_path(path)
    options = {"batch_first": batch_first, **made_with(backend, dtype)}
    try:
        top = open_graph(path)
        every = list(scopes(top))
        found = [(scope, own) for scope in every for own in scope.nodes if is_recurrent(own)]
        if not found:
            kinds = sorted({str(own.op_type) for scope in every for own in scope.nodes})
            raise FormatError(f"it has no LSTM, GRU or RNN; there are {', '.join(kinds)[:300]}")
        line = _longest(found) if node is None else _Line(*_chosen(found, node))
        return line.converted(str(path), options)
    except FormatError as error:
        message = str(error)
        raise FormatError(message if message.startswith(str(path)) else f"{path}: {message}") from error.__cause__
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError) as error:  # an input that isn't there, say
        raise FormatError(f"{path}: a node isn't as ONNX defines it ({error})") from error
    except RecursionError as error:
        raise FormatError(f"{path}: its nodes follow each other, or stand in each other, too deeply") from error


def _chosen(found: list[tuple[Scope, Any]], name: str) -> tuple[Scope, Any]:
    fitting = [(scope, own) for scope, own in found if name in (own.name, *own.output)]
    if len(fitting) != 1:
        there = ", ".join(repr(label(own)) for _, own in found)
        raise ValueError(f"node must name one recurrent node, not {shown(name)}; there are {there}")
    return fitting[0]


def _longest(found: list[tuple[Scope, Any]]) -> _Line:
    """The line that has all recurrent nodes."""
    for scope, own in found:
        if all(other is scope for other, _ in found):
            line = _Line(scope, own)
            line.extend_down()
            if line.recurrent == len(found):
                line.extend_up()
                return line
    names = ", ".join(repr(label(own)) for _, own in found)
    raise ValueError(f"there are {len(found)} recurrent nodes, not in one line: give node=, one of {names}")


class _Line:
    """Nodes that follow each other, from a recurrent one on, in steps."""

    def __init__(self, scope: Scope, node: Any) -> None:
        self.scope = scope
        self.steps = [_recurrent_step(scope, node)]
        self.recurrent = 1

    def extend_down(self) -> None:
        """Take what follows, as long as it is one node that can be said."""
        pending = 0  # where the final output of a recurrent node is to become (batch, features), from which step on
        while True:
            last = self.steps[-1]
            value, axes = last.end, last.behind
            if last.nodes and is_recurrent(last.nodes[-1]):
                node = last.nodes[-1]
                sizes = _sizes(self.scope, node)
                if not self._used(value) and len(node.output) > 1 and self._used(node.output[1]):
                    value, pending = node.output[1], len(self.steps)
                    axes = ("B", "D", "H") if axes[0] == "B" else ("D", "B", "H")
            step = self._next_recurrent(value, axes) or down(self.scope, value, axes, sizes)
            if step is None:
                break
            self.steps.append(step)
            if pending and step.behind == ("B", "F"):
                made_by = Step((), step.end, step.end, step.behind, step.behind, _final)
                self.steps.append(made_by)
                pending = 0
        if pending:
            del self.steps[pending:]
        while self.steps[-1].make is None and self.steps[-1].behind not in _PLAIN and len(self.steps) > 1:
            if is_recurrent(self.steps[-1].nodes[0]):
                break
            del self.steps[-1]

    def _next_recurrent(self, value: str, axes: Axes) -> Step | None:
        followers = self.scope.consumers.get(value, [])
        if len(followers) != 1 or is_output(self.scope, value) or not is_recurrent(followers[0]):
            return None
        step = _recurrent_step(self.scope, followers[0])
        if step.begin != value or step.before != axes:
            return None
        self.recurrent += 1
        return step

    def extend_up(self) -> None:
        """Take what stands before, as long as it can be said."""
        while (step := up(self.scope, self.steps[0].begin, self.steps[0].before)) is not None:
            if any(step.nodes[0] is own for later in self.steps for own in later.nodes):
                raise FormatError("its nodes follow each other in a circle")
            self.steps.insert(0, step)
        while self.steps[0].make is None and self.steps[0].before not in _PLAIN:
            del self.steps[0]

    def _used(self, value: str) -> bool:
        return bool(value) and (value in self.scope.consumers or is_output(self.scope, value))

    # The result

    def converted(self, path: str, options: Mapping[str, Any]) -> Converted:
        """Make the layers, and tell of them."""
        first = self.steps[0].before
        batch_first = options["batch_first"]
        if batch_first is None:
            batch_first = first.index("B") < first.index("T")
        given = {**options, "batch_first": batch_first}
        dtype = options["dtype"]
        layers: list[Layer | None] = []
        notes: list[tuple[str, ...]] = []
        for step in self.steps:
            made = None
            notes.append(())
            if step.nodes and is_recurrent(step.nodes[0]):
                own = recurrent(self.scope, step.nodes[0], **given)
                made, notes[-1], dtype = own.layer, own.notes, own.layer.dtype
                given["dtype"] = dtype
            layers.append(made)
        try:
            for place, step in enumerate(self.steps):
                if step.make is not None:
                    layers[place] = step.make(Made(batch_first, options["backend"], dtype))
            kept = [layer for layer in layers if layer is not None]
            model = kept[0] if len(kept) == 1 else Sequential(*kept)
        except (ValueError, TypeError) as error:
            raise FormatError(f"its layers can't be made, or don't fit each other: {error}") from error
        words = [f"{path}:"]
        for step, layer, own_notes in zip(self.steps, layers, notes, strict=True):
            if layer is not None:
                words.append(f"{', '.join(map(shown_node, step.nodes)) or 'its final output'}: {layer!r}")
            words += [f"    {note}" for note in own_notes]
        words += self._axes_in_words(first, batch_first)
        before, after = self._around()
        words += [f"before it: {', '.join(before) or 'nothing'}", f"after it: {', '.join(after) or 'nothing'}"]
        return Converted(model, before, after, "\n".join(words))

    def _axes_in_words(self, first: Axes, batch_first: bool) -> Iterator[str]:
        own = tuple(axis for axis in (("B", "T", "F") if batch_first else ("T", "B", "F")) if axis in first)
        if own != first:
            yield f"its input is {_in_words(first)} in the file; the model's is {_in_words(own)}"
        last = self.steps[-1].behind
        behind = ("B", "F") if "T" not in last else ("B", "T", "F") if batch_first else ("T", "B", "F")
        if last != behind:
            yield f"its output is {_in_words(last)} in the file; the model's is {_in_words(behind)}"

    def _around(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The nodes that the line follows, and that follow it, but for what only makes weights."""
        scope, own = self.scope, {id(node) for step in self.steps for node in step.nodes}
        above = _reached([self.steps[0].begin], lambda value: [scope.producers.get(value)], lambda node: node.input)
        ends = [name for step in self.steps for node in step.nodes for name in node.output]
        below = _reached(ends, lambda value: scope.consumers.get(value, []), lambda node: node.output)
        holders: list[str] = []
        around: Scope | None = scope
        while around is not None and around.holder is not None:
            holders.insert(0, f"within {shown_node(around.holder)}")
            around = around.parent
        before = [node for node in scope.nodes if id(node) in above - own and node.op_type != "Constant"]
        after = [node for node in scope.nodes if id(node) in below - own - above]
        return (*holders, *map(shown_node, before)), tuple(map(shown_node, after))


def _reached(values: list[str], nodes_of: Any, values_of: Any) -> set[int]:
    """The nodes that are reached from values, by identity."""
    found: set[int] = set()
    left = list(values)
    while left:
        for node in nodes_of(left.pop()):
            if node is not None and id(node) not in found:
                found.add(id(node))
                left.extend(values_of(node))
    return found


def _recurrent_step(scope: Scope, node: Any) -> Step:
    batch_first = bool(attributes(node).get("layout", 0))
    before = ("B", "T", "F") if batch_first else ("T", "B", "F")
    behind = ("B", "T", "D", "H") if batch_first else ("T", "D", "B", "H")
    if not node.input or not node.output:
        raise FormatError(f"the node {shown_node(node)} has no inputs or outputs")
    return Step((node,), node.input[0], node.output[0], before, behind)


def _sizes(scope: Scope, node: Any) -> dict[str, int]:
    """The sizes of the axes D and H of a recurrent node's outputs."""
    weights = scope.constant(node.input[2]) if len(node.input) > 2 else None
    if weights is None or weights.ndim != 3:
        raise FormatError(f"the node {shown_node(node)} has no constant weights R")
    hidden = weights.shape[1] if node.op_type == "DynamicQuantizeLSTM" else weights.shape[2]
    return {"D": weights.shape[0], "H": hidden}


def _final(made: Made) -> Layer:
    return Final(batch_first=made.batch_first)


def _in_words(axes: Axes) -> str:
    return f"({', '.join(_WORDS[axis] for axis in axes)})"
