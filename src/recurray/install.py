"""What installs that which is missing. recurray is on no package index: it is installed from a checkout."""

from __future__ import annotations

NATIVE = "in a checkout of recurray, pip install ./backends/recurray_native"


def with_extra(name: str) -> str:
    """Return what installs the packages of an extra.

    Examples
    --------
    >>> from recurray import install
    >>> install.with_extra("train")
    'in a checkout of recurray, pip install ".[train]"'
    """
    return f'in a checkout of recurray, pip install ".[{name}]"'
