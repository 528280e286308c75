"""The arrays of a file's layers, in either of Keras's ways of keeping them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recurray.convert.keras.container import Container
from recurray.convert.keras.options import Node
from recurray.files import FormatError
from recurray.messages import in_words, shown

Arrays = dict[str, NDArray[Any]]  # by their names in Keras of today

ROLE = re.compile(
    r"(?:^|[/_])(recurrent_kernel|kernel|bias|gamma|beta|moving_mean|moving_variance|embeddings|[WUb](?:_[icfozrh])?)(?:_\d+)?(?::\d+)?$"
)
KERAS_1 = {"W": "kernel", "U": "recurrent_kernel", "b": "bias"}
GATES_OF_KERAS_1 = ("ifco", "zrh")  # in the order that Keras 2 has them side by side


class Weights:
    """The arrays of a file.

    Parameters
    ----------
    container : Container
        The file.
    nodes : sequence of Node
        The layers, in order, that have arrays.
    """

    def __init__(self, container: Container, nodes: Sequence[Node]) -> None:
        self._arrays, self._root, self._by_names = container.arrays, container.root, container.by_names
        self._nodes = nodes
        self._groups: dict[str, str] | None = None  # by the layer or model of the top level; None: not matched yet

    def of(self, node: Node, roles: Sequence[str], parts: Sequence[str] = ("",)) -> list[Arrays]:
        """The arrays of a layer: for each of its parts, two where it has two directions, by their names.

        Parameters
        ----------
        node : Node
            The layer.
        roles : sequence of str
            The arrays' names, in the order of Keras.
        parts : sequence of str
            Where the arrays are, below the layer's place.
        """
        return self._named(node, roles, len(parts)) if self._by_names else self._placed(node, roles, parts)

    # By the layers' places: Keras 3 and the last of Keras 2 -----------------------------------------------------------

    def _placed(self, node: Node, roles: Sequence[str], parts: Sequence[str]) -> list[Arrays]:
        found = []
        for part in parts:
            group = "/".join(filter(None, (self._place(node), part, "vars")))
            there = self._arrays.names(group)
            if sorted(there) != sorted(map(str, range(len(roles)))):
                raise node.refuse(
                    f"there must be {len(roles)} arrays in {shown(group)}, {_these(roles)}, not {len(there)}"
                )
            found.append({role: self._arrays.array(f"{group}/{number}") for number, role in enumerate(roles)})
        return found

    def _place(self, node: Node) -> str:
        """The layer's group. Keras 2.12 numbers them otherwise: with each it counts a second one, that isn't there."""
        at = ""
        steps = node.place.split("/")
        for container, name in zip(steps[::2], steps[1::2], strict=True):
            older = f"{at}_layer_checkpoint_dependencies"
            if self._arrays.has(f"{at}{container}") or not self._arrays.has(older):
                at = f"{at}{container}/{name}/"
                continue
            kind, number = re.fullmatch(r"(.*?)(?:_(\d+))?", name).groups()  # type: ignore[union-attr]
            numbers = sorted(
                int(other.removeprefix(kind)[1:] or 0)
                for other in self._arrays.names(older)
                if re.fullmatch(rf"{re.escape(kind)}(_[0-9]{{1,9}})?", other)
            )
            wanted = int(number or 0)
            if wanted >= len(numbers):
                raise node.refuse(f"its arrays aren't in {shown(older)}")
            at = f"{older}/{kind}{f'_{numbers[wanted]}' if numbers[wanted] else ''}/"
        return at.rstrip("/")

    # By the layers' names: up to Keras 2 ------------------------------------------------------------------------------

    def _matched(self, nodes: Sequence[Node]) -> dict[str, str]:
        """The group of each layer or model of the top level: that of its name, or where names differ, by the order."""
        tops = list(dict.fromkeys(top_of(node) for node in nodes))
        names = self._arrays.texts(self._root, "layer_names") or []
        if set(tops) <= set(names):
            return {top: top for top in tops}
        groups = [name for name in names if self._weight_names(name)]
        if len(tops) != len(groups):
            raise FormatError(
                f"the architecture has arrays for {len(tops)} layers, {', '.join(map(shown, tops[:8]))}, "
                f"the file for {len(groups)}, {', '.join(map(shown, groups[:8]))}"
            )
        return dict(zip(tops, groups, strict=True))

    def _weight_names(self, group: str) -> list[str]:
        return self._arrays.texts(f"{self._root}/{group}", "weight_names") or []

    def _named(self, node: Node, roles: Sequence[str], parts: int) -> list[Arrays]:
        if self._groups is None:
            self._groups = self._matched(self._nodes)
        group = self._groups[top_of(node)]
        names = self._weight_names(group)
        if node.within:  # the group is a model's, with the arrays of all its layers
            names = [name for name in names if node.name in name.split("/")]
        found: list[Arrays] = [{} for _ in range(parts)]
        for name in names:
            role = ROLE.search(name)
            if role is None:
                raise node.refuse(f"what the array {shown(name)} is isn't known here")
            part = 0 if parts == 1 or any(step.startswith("forward_") for step in name.split("/")) else 1
            letter, _, gate = role[1].partition("_")
            known_as = role[1] if letter not in KERAS_1 else "_".join(filter(None, (KERAS_1[letter], gate)))
            if known_as in found[part]:
                raise node.refuse(f"it has two arrays that are its {known_as}")
            found[part][known_as] = self._arrays.array("/".join((self._root, group, name)))
        if "embeddings" in roles:
            found = [
                {"embeddings" if role == "kernel" else role: array for role, array in own.items()} for own in found
            ]
        found = [_of_gates(node, own) for own in found]
        for own in found:
            if set(own) != set(roles):
                raise node.refuse(f"it must have the arrays {_these(roles)}, not {_these(sorted(own)) or 'none'}")
        return found


def top_of(node: Node) -> str:
    """The name of the layer or model of the top level that a layer is, or is in."""
    return node.within[0] if node.within else node.name


def _of_gates(node: Node, arrays: Arrays) -> Arrays:
    """Bring the arrays of single gates, as Keras 1 has them, side by side."""
    for gates in GATES_OF_KERAS_1:
        for name in KERAS_1.values():
            parts = [arrays.get(f"{name}_{gate}") for gate in gates]
            if all(part is not None for part in parts) and len({part.shape for part in parts if part is not None}) == 1:
                arrays = {key: value for key, value in arrays.items() if key.rpartition("_")[0] != name}
                arrays[name] = np.concatenate([part for part in parts if part is not None], axis=-1)
    return arrays


def _these(names: Sequence[str]) -> str:
    return ", ".join(names)


def shape_of(node: Node, name: str, array: NDArray[Any], wanted: tuple[int | str, ...]) -> tuple[int, ...]:
    """Check an array's shape against the options; a word stands for any size."""
    shape = array.shape
    if len(shape) != len(wanted) or any(
        not size or (size != want and not isinstance(want, str)) for size, want in zip(shape, wanted, strict=True)
    ):
        raise node.refuse(f"its {name} must be {in_words(wanted)} by its options, not {in_words(shape)}")
    return shape
