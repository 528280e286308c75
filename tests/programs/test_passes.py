"""The passes over a program, each tried on random programs, which are run before and after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from harness.programs import computed, evaluate, run
from harness.random_cell import RandomCell
from recurray.program import (
    MEAN,
    Constant,
    Operand,
    Program,
    Registers,
    Value,
    earliest_segments,
    gates_of,
    latest_segments,
    merged_gates,
    parallel_copy,
    record,
    with_sums,
)

OPERATIONS = ("negative", "tanh", "logistic", "add", "subtract", "multiply", "maximum", MEAN)
SEEDS = range(20)


def random_program(seed: int) -> Program:
    """Return a program of four inputs with several outputs."""
    rng = np.random.default_rng(seed)
    values = [Value("input", name=name) for name in "abcd"]
    for _ in range(20):
        operation = str(rng.choice(OPERATIONS))
        count = 2 if operation in ("add", "subtract", "multiply", "maximum") else 1
        operands: list[Operand] = [int(k) for k in rng.integers(len(values), size=count)]
        if count == 2 and rng.random() < 0.2:
            operands[rng.integers(2)] = Constant(0.5)
        values.append(Value(operation, tuple(operands)))
    return Program(
        tuple(values), {f"out{k}": int(rng.integers(len(values))) for k in range(3)} | {"half": Constant(0.5)}
    )


def inputs_of(seed: int) -> dict[str, Any]:
    rng = np.random.default_rng([seed, 1])
    return {name: rng.standard_normal((2, 3)) for name in "abcd"}


def results(program: Program) -> list[int]:
    return [value for value in program.outputs.values() if isinstance(value, int)]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_needed_is_enough_and_nothing_of_it_can_be_left_out(seed: int) -> None:
    program, inputs = random_program(seed), inputs_of(seed)
    needed = program.needed(program.outputs.values())
    everything, found = run(program, inputs), run(program, inputs, sorted(needed))
    for value in results(program):
        np.testing.assert_array_equal(found[value], everything[value])
    for left_out in needed - set(results(program)):
        with pytest.raises(KeyError):
            run(program, inputs, sorted(needed - {left_out}))


@pytest.mark.parametrize("seed", SEEDS)
def test_what_changes_with_an_input_depends_on_it(seed: int) -> None:
    program, inputs = random_program(seed), inputs_of(seed)
    before = run(program, inputs)
    for name in "abcd":
        after = run(program, inputs | {name: inputs[name] + 1.0})
        changed = {k for k in before if not np.array_equal(before[k], after[k])}
        dependents = program.dependents([program.find(name)])
        assert changed <= dependents
        assert all(not dependents.isdisjoint(program.values[k].reads) for k in dependents - {program.find(name)})


@pytest.mark.parametrize("seed", SEEDS)
def test_inputs_that_are_not_read_may_be_missing(seed: int) -> None:
    program, inputs = random_program(seed), inputs_of(seed)
    read = program.inputs_read()
    known = {program.find(name): inputs[name] for name in read}
    for k in program.computed():
        known[k] = computed(program.values[k], known)
    assert set(results(program)) <= set(known)
    for name in read:
        assert program.uses()[program.find(name)] or program.find(name) in program.outputs.values()


@pytest.mark.parametrize("seed", [seed for seed in range(60) if not RandomCell(seed).inner_gates])
def test_a_program_with_sums_gives_the_same(seed: int) -> None:
    cell = RandomCell(seed)
    step, merged = record(cell).step, merged_gates(cell, record(cell))
    rng = np.random.default_rng(seed)
    names = [value.name for value in step.values if value.operation == "input"]
    inputs = {name: rng.standard_normal((2, 3)) for name in names}
    sums = {f"z.{gate}": inputs[f"x.{gate}"] + inputs[f"h.{gate}"] for gate in merged}
    unmerged = {name: value for name, value in inputs.items() if name[2:] not in merged or name[0] not in "xh"}
    found = with_sums(step, merged)
    assert not {f"{word}.{gate}" for gate in merged for word in "xh"} & set(found.inputs_read())
    result = evaluate(found, dict.fromkeys(inputs, np.nan) | unmerged | sums)
    for name, expected in evaluate(step, inputs).items():
        np.testing.assert_array_equal(result[name], expected, err_msg=name)
    gates = gates_of(cell, merged)
    assert sorted(gates.of_input) == sorted(cell.input_gates)
    assert sorted(gates.of_output + gates.inner) == sorted(cell.recurrent_gates)


def run_by_segments(program: Program, inputs: Mapping[str, Any], segment: Mapping[int, int]) -> dict[int, Any]:
    """Run one segment after another, each value in its own, with the means taken between them."""
    known: dict[int, Any] = {}
    for s in range(1 + max(segment.values(), default=0)):
        means = {k for k in segment if segment[k] == s and program.values[k].operation == MEAN}
        known |= {k: computed(program.values[k], known) for k in means}
        for k in sorted(segment):
            if segment[k] == s and k not in means:
                value = program.values[k]
                known[k] = inputs[value.name] if value.operation == "input" else computed(value, known)
    return known


@pytest.mark.parametrize("seed", SEEDS)
def test_segments_run_one_after_another_give_the_same(seed: int) -> None:
    program, inputs = random_program(seed), inputs_of(seed)
    expected, wanted = run(program, inputs), program.needed(results(program))
    earliest = {k: s for k, s in enumerate(earliest_segments(program)) if k in wanted}
    last = max(earliest.values())
    latest = latest_segments(program, wanted, last, {})
    for segment in (earliest, latest):
        found = run_by_segments(program, inputs, segment)
        for value in results(program):
            np.testing.assert_array_equal(found[value], expected[value])
    assert all(earliest[k] <= latest[k] <= last for k in wanted)


def test_each_value_has_its_earliest_and_its_latest_segment() -> None:
    values = (
        Value("input", name="a"),
        Value("tanh", (0,)),
        Value(MEAN, (1,)),
        Value("negative", (0,)),  # read in the last segment alone
        Value("subtract", (1, 2)),
        Value("add", (3, 4)),
    )
    program = Program(values, {"out": 5})
    assert earliest_segments(program) == [0, 0, 1, 0, 1, 1]
    assert latest_segments(program, range(6), 1, {}) == {0: 0, 1: 0, 2: 1, 3: 1, 4: 1, 5: 1}
    assert latest_segments(program, range(6), 1, {3: 0})[3] == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_registers_that_are_used_again_hold_what_is_still_read(seed: int) -> None:
    program, inputs = random_program(seed), inputs_of(seed)
    expected = run(program, inputs)
    order = sorted(program.needed(results(program)))
    registers = Registers[int]()
    registers.expect([*(operand for k in order for operand in program.values[k].operands), *results(program)])
    memory: dict[int, Any] = {}
    most_live = 0

    def made() -> int:
        memory[len(memory)] = None
        return len(memory) - 1

    for place, k in enumerate(order):
        value = program.values[k]
        known = {operand: memory[registers.places[operand]] for operand in value.reads}
        result = inputs[value.name] if value.operation == "input" else computed(value, known)
        registers.spend(value.operands)
        registers.put(k, registers.take(made))
        memory[registers.places[k]] = result
        later = {operand for other in order[place + 1 :] for operand in program.values[other].reads}
        most_live = max(most_live, len({k} | (set(order[: place + 1]) & (later | set(results(program))))))
    for k in results(program):
        np.testing.assert_array_equal(memory[registers.places[k]], expected[k])
    assert len(memory) == most_live


def test_a_register_that_does_not_fit_is_left_free() -> None:
    registers = Registers[str]({0: "wide"})
    registers.expect([0])
    assert registers.is_live("wide")
    registers.spend([0])
    assert not registers.is_live("wide")
    assert registers.take(lambda: "narrow", fits=lambda place: place == "narrow") == "narrow"
    assert registers.take(lambda: "new") == "wide"
    assert registers.take(lambda: "new") == "new"


@pytest.mark.parametrize("seed", SEEDS)
def test_copies_at_the_same_time_clobber_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    copies = [(int(rng.integers(6)), target) for target in rng.permutation(6)[: rng.integers(1, 7)].tolist()]
    memory = {place: f"value {place}" for place in range(6)}
    expected = memory | {target: memory[source] for source, target in copies}

    def aside(source: int) -> int:
        return 100 + source

    for source, target in parallel_copy(copies, aside):
        memory[target] = memory[source]
    assert {place: memory[place] for place in range(6)} == expected
