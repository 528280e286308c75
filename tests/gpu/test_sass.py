"""What the compiler makes of the kernels is no worse than it was, and is read as it is."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from gpu import banks, sass
from harness.needs import needs
from recurray.cells import LSTMCell
from recurray_cupy.compiled import Way

needs_sass = [needs("NVRTC"), needs("nvdisasm")]
KEPT = json.loads(sass.TABLE.read_text())
QUICK = {(2, "sm_90"), (4, "sm_80"), (7, "sm_100"), (0, "sm_90")}  # plans by number, each on an architecture
EVERY = [(k, architecture) for k in range(len(sass.PLANS)) for architecture in sass.ARCHITECTURES]


def test_the_docs_show_the_table():
    """`python tests/gpu/sass.py --write` writes both."""
    assert "\n".join(sass.table(KEPT["kernels"])) in sass.DOCS.read_text()
    assert list(KEPT["kernels"]) == [str(plan) for plan in sass.PLANS]


@pytest.mark.parametrize("plan", sass.PLANS, ids=str)
def test_no_layout_asks_for_more(plan):
    """Bytes of a step, and wavefronts of shared memory."""
    assert not sass.worse(KEPT["kernels"][str(plan)]["layout"], sass.of_layout(plan))


@pytest.mark.parametrize(
    ("k", "architecture"),
    [
        pytest.param(
            *each, marks=[*needs_sass, *([] if each in QUICK else [pytest.mark.slow])], id=f"{each[0]}-{each[1]}"
        )
        for each in EVERY
        if each in QUICK or each[1] == "sm_90"
    ],
)
def test_no_machine_code_is_worse(k, architecture):
    plan = sass.PLANS[k]
    found = sass.figures_of(plan, architecture)
    allowed = 1 if KEPT["compiler"] == sass.version() else sass.OLDER
    assert not sass.worse(KEPT["kernels"][str(plan)][architecture], asdict(found), allowed)
    assert not found.spilled
    assert found.registers <= 255
    assert found.fences == found.invalidations == (plan.waits)
    assert not found.in_the_poll


@pytest.mark.parametrize("architecture", sass.ARCHITECTURES)
def test_what_is_kept_holds(architecture):
    for plan in sass.PLANS:
        kept = KEPT["kernels"][str(plan)][architecture]
        assert kept["spilled"] == kept["in_the_poll"] == 0
        assert kept["fences"] <= 1
        assert kept["registers"] <= 255
        if plan.waits and plan.rounded_to and plan.for_the_plan:
            limit = 1700 if plan.whole else 2000
            assert kept["instructions"] <= limit


CHANGED = (
    ("(int)(glance(arrivals)", "(int)(acquire(arrivals)", "in_the_poll"),
    ('asm volatile("red.release', '__threadfence(); asm volatile("red.release', "fences"),
    ("bool failed = false;", "bool failed = false; volatile int a[64]; a[start & 63] = 1;", "spilled"),
)


@pytest.mark.needs("NVRTC")
@pytest.mark.needs("nvdisasm")
def test_what_is_wrong_is_read(monkeypatch):
    """An acquire in the loop that waits, a second fence, an array for which there are no registers."""
    plan = sass.Plan(LSTMCell(), Way.INFERENCE, "bfloat16", 16, 768)
    before, source = sass.figures_of(plan, "sm_90"), plan.source()
    for old, new, _ in CHANGED:
        assert old in source
        source = source.replace(old, new)
    monkeypatch.setattr(sass.Plan, "source", lambda _: source)
    after = sass.figures_of(plan, "sm_90")
    assert sass.worse(asdict(before), asdict(after))
    for *_, figure in CHANGED:
        assert getattr(after, figure) > getattr(before, figure), figure


# Rows, units, and the wavefronts that a tile takes in the layout with the least estimate: more than 2 where a smaller
# tile waits less.
LARGE = {
    Way.TRAINING: ((256, 512, 1.75), (256, 1024, 1.8125), (64, 2048, 2.375)),
    Way.BACKWARD: ((256, 512, 2.25), (256, 1024, 1.8125), (64, 2048, 1.8125)),
}


@pytest.mark.parametrize("way", [Way.TRAINING, Way.BACKWARD], ids=["forward", "backward"])
def test_small_layers_need_no_other_block_and_large_ones_read_little_for_each_tile(way):
    def layout(batch, units):
        return sass.Plan(LSTMCell(), way, "bfloat16", batch, units).laid_out

    for batch in (1, 16, 64, 256):
        assert layout(batch, 128)[1].unit_groups == 1
    for batch, units, most in LARGE[way]:
        work, found = layout(batch, units)
        assert banks.of_tiles(found, work) <= most


def test_wavefronts():
    assert banks.wavefronts([8 * k for k in range(32)]) == 8
    assert banks.wavefronts([32 * k for k in range(32)]) == 32
    assert banks.wavefronts([2 * k for k in range(32)], words=2) == 2
    assert banks.wavefronts([64 * k for k in range(32)], words=2) == 32
