"""Settings for some of the params: by patterns of their names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from recurray import checks
from recurray.messages import shown
from recurray.optim import hyperparameters


@dataclass(frozen=True)
class Group:
    """What holds for the params of a group in place of the optimizer's own settings."""

    lr_factor: float = 1.0
    frozen: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


ALL = Group()  # the params that no pattern fits


def checked_groups(given: Any, options: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Check groups, patterns with settings; return copies, whose numbers are Python's.

    Raises
    ------
    TypeError
        They are no mapping of patterns to mappings.
    ValueError
        A setting is unknown or out of its range. (The optimizer checks its own options.)
    """
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f'groups must be a mapping, {{"encoder.*": {{"lr_factor": 0.1}}}}, not {shown(given)}')
    known, found = ("lr_factor", "frozen", *options), {}
    for pattern, settings in given.items():
        if not isinstance(pattern, str) or not isinstance(settings, Mapping):
            raise TypeError(f"groups must hold a mapping of settings for each pattern, not {shown(settings)}")
        for name in settings:
            if name not in known:
                way_out = ": say lr_factor, which the learning rate is multiplied by" if name == "lr" else ""
                raise ValueError(
                    f"the group {pattern!r} can't set {shown(name)}{way_out}; what it can set is {', '.join(known)}"
                )
        own = dict(settings)
        if "lr_factor" in own:
            own["lr_factor"] = hyperparameters.not_negative("lr_factor", own["lr_factor"])
        if "frozen" in own:
            own["frozen"] = checks.flag("frozen", own["frozen"])
        found[pattern] = own
    return found


def group_of_each(names: Iterable[str], groups: Mapping[str, Mapping[str, Any]]) -> dict[str, Group]:
    """Return the group of each param.

    Raises
    ------
    ValueError
        No param fits a pattern, or two patterns fit a param.
    """
    found = dict.fromkeys(names, ALL)
    fitting: dict[str, str] = {}
    for pattern, settings in groups.items():
        options = {name: value for name, value in settings.items() if name not in ("lr_factor", "frozen")}
        group = Group(settings.get("lr_factor", 1.0), settings.get("frozen", False), options)
        own = [name for name in found if fnmatchcase(name, pattern)]
        if not own:
            raise ValueError(f"the group {pattern!r} fits none of the params: {shown(', '.join(found))}")
        for name in own:
            if name in fitting:
                raise ValueError(f"the param {name!r} fits two groups, {fitting[name]!r} and {pattern!r}")
            fitting[name], found[name] = pattern, group
    return found
