"""What the tests share: backends to run on, comparisons, problems to solve, and independent answers to them."""

from harness.compare import assert_all_close, assert_all_same, assert_close, assert_same, on_host
from harness.platforms import here, obtain, platforms, required, takes_long, why_absent
from harness.problems import (
    Case,
    Given,
    Problem,
    forward,
    give,
    gradients,
    host,
    layer_for,
    leaves,
    named,
    problem,
    results,
)

__all__ = [
    "Case",
    "Given",
    "Problem",
    "assert_all_close",
    "assert_all_same",
    "assert_close",
    "assert_same",
    "forward",
    "give",
    "gradients",
    "here",
    "host",
    "layer_for",
    "leaves",
    "named",
    "obtain",
    "on_host",
    "platforms",
    "problem",
    "required",
    "results",
    "takes_long",
    "why_absent",
]
