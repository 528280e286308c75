"""What is said of how another library lays a recurrent layer's arrays out.

I input features, H hidden units, R size of the output (H, or the projection's), D directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

UNUSED = ""  # in the place of a gate: a block that nothing reads
GATES = {"LSTM": ("i", "f", "g", "o"), "GRU": ("r", "z", "n"), "RNN": ("a",)}  # ours, in our order
BIASES = ("input_bias", "recurrent_bias")


@dataclass(frozen=True)
class Part:
    """One array of another library, as blocks of gates.

    Attributes
    ----------
    name : str
        The array's.
    fields : tuple of str
        What each gate's block holds, side by side: "input" (H, I), "recurrent" (H, R), "input_bias",
        "recurrent_bias", "peephole" (H, 1); or "projection" (R, H) alone, which has no gates.
    gates : tuple of str
        By our names, in the order of the blocks.
    form : str
        How the blocks lie:

        - "rows": one below the other, (gates * H, fields);
        - "columns": the transpose of that, (fields, gates * H);
        - "flat": first all gates of the first field, then of the next, along one axis;
        - "cudnn": (I, gates * H), each (I, H) of which has the memory of an (H, I);
        - "beside": (H, gates * H), blocks (H, H) side by side.
    optional : bool
        Whether it may be missing.
    """

    name: str
    fields: tuple[str, ...]
    gates: tuple[str, ...] = ()
    form: str = "rows"
    optional: bool = False

    @property
    def axes(self) -> int:
        """How many axes the array has."""
        return 1 if self.form == "flat" else 2

    @property
    def shape_in_words(self) -> str:
        """Its shape, as (4H, I)."""
        if self.fields == ("projection",):
            return "(R, H)" if self.form == "rows" else "(H, R)"
        count = len(self.gates) * (len(self.fields) if self.form == "flat" else 1)
        rows = "H" if count == 1 else f"{count}H"
        if self.form == "flat":
            return f"({rows},)"
        narrow = len([name for name in self.fields if name not in ("input", "recurrent")])
        widths = [{"input": "I", "recurrent": "R"}[name] for name in self.fields if name in ("input", "recurrent")]
        across = " + ".join([*widths, *([str(narrow)] if narrow else [])])
        return f"({rows}, {across})" if self.form == "rows" else f"({across}, {rows})"


@dataclass(frozen=True)
class Layout:
    """How a library lays out the arrays of one kind of layer: data alone, which `read` and `write` go by.

    Attributes
    ----------
    name : str
        "keras.gru" and so on.
    kind : str
        "LSTM", "GRU" or "RNN".
    parts : tuple of Part
        The arrays of one direction of one layer.
    apart : str
        How layers and directions are told apart: "names" (by the end of a name, ``_l1_reverse``), "axis" (directions
        along a first axis; each layer has arrays of its own), "packed" (all parts of all of them one after the other)
        or "" (each direction of each layer has its own arrays).
    packed : str
        The name of the one array in which all parts are packed.
    negated : tuple of str
        The gates that are one minus ours: their weights and biases change sign.
    added : mapping of str to float
        What the library adds to a gate's sum, which isn't in its arrays.
    options : mapping of str to value
        Options of the layer that the arrays are laid out for.
    presumed : mapping of str to value
        What some of these, or ``coupled``, are where nobody says it and the arrays don't tell.
    source : str
        Where this is written down.
    """

    name: str
    kind: str
    parts: tuple[Part, ...]
    apart: str = ""
    packed: str = ""
    negated: tuple[str, ...] = ()
    added: Mapping[str, float] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    presumed: Mapping[str, Any] = field(default_factory=dict)
    source: str = ""

    @property
    def gates(self) -> tuple[str, ...]:
        """The gates, by our names, in the order of the blocks."""
        found: dict[str, None] = {}
        for part in self.parts:
            if "input" in part.fields:
                found |= dict.fromkeys(part.gates)
        return tuple(found)

    @property
    def fixed(self) -> dict[str, Any]:
        """The options of a layer whose arrays are laid out so."""
        return {"coupled": "f" not in self.gates, **self.options} if self.kind == "LSTM" else dict(self.options)

    def has(self, name: str, gate: str) -> bool:
        """Whether an array has a gate's block of a field."""
        return any(name in part.fields and gate in part.gates for part in self.parts)
