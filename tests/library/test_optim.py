"""Optimizers against PyTorch, resumed bit for bit, on every array library at hand; and gradient clipping."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, ClassVar

import array_api_strict
import numpy as np
import pytest

from harness import here, obtain
from harness.needs import need
from harness.optimizers import RICHEST
from recurray import optim
from recurray.optim.flat import Flat

Arrays = dict[str, np.ndarray]

SHAPES = {"weight": (3, 4), "bias": (5,), "scalar": (), "empty": (2, 0), "long.name": (2, 1, 3)}


def combinations(**choices: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Return every combination of the options' values; the first value of each is its default and is left out."""
    combined = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
    return [{name: value for name, value in c.items() if value != choices[name][0]} for c in combined]


def sgd_options() -> list[dict[str, Any]]:
    options = combinations(momentum=(0.0, 0.9), dampening=(0.0, 0.3), weight_decay=(0.0, 0.1), nesterov=(False, True))
    return [o for o in options if "nesterov" not in o or ("momentum" in o and "dampening" not in o)]


ADAM = {"betas": ((0.9, 0.999), (0.7, 0.8)), "eps": (1e-8, 1e-2), "amsgrad": (False, True)}
OPTIONS: dict[str, list[dict[str, Any]]] = {
    "SGD": sgd_options(),
    "Adam": combinations(**ADAM, weight_decay=(0.0, 0.1)),
    "AdamW": combinations(**ADAM, weight_decay=(1e-2, 0.0, 0.3)),
    "NAdam": combinations(
        betas=((0.9, 0.999), (0.7, 0.8)), eps=(1e-8, 1e-2), weight_decay=(0.0, 0.1), momentum_decay=(4e-3, 0.5)
    ),
    "RMSprop": combinations(
        alpha=(0.99, 0.7), eps=(1e-8, 1e-2), weight_decay=(0.0, 0.1), momentum=(0.0, 0.6), centered=(False, True)
    ),
    "Adagrad": combinations(
        lr_decay=(0.0, 0.2), weight_decay=(0.0, 0.1), initial_accumulator_value=(0.0, 0.4), eps=(1e-10, 1e-2)
    ),
    "Adadelta": combinations(rho=(0.9, 0.6), eps=(1e-6, 1e-2), weight_decay=(0.0, 0.1)),
}
CONFIGURATIONS = [(name, options) for name, choices in OPTIONS.items() for options in choices]
every_configuration = pytest.mark.parametrize(
    ("name", "options"), CONFIGURATIONS, ids=[f"{name}-{options}" for name, options in CONFIGURATIONS]
)
every_optimizer = pytest.mark.parametrize(("name", "options"), RICHEST.items(), ids=RICHEST)


@pytest.fixture(autouse=True)
def _no_floating_point_errors() -> Iterator[None]:
    with np.errstate(all="raise"):
        yield


def draw(seed: int, dtype: str = "float64") -> Arrays:
    rng = np.random.default_rng(seed)
    return {name: np.asarray(rng.standard_normal(shape), dtype) for name, shape in SHAPES.items()}


def frozen(arrays: Arrays) -> Arrays:
    """Make arrays read-only, so that NumPy refuses any write to them."""
    for array in arrays.values():
        array.flags.writeable = False
    return arrays


def make(name: str, params: Any, options: dict[str, Any], **more: Any) -> optim.Optimizer:
    return getattr(optim, name)(params, **options, **more)


def train(optimizer: optim.Optimizer, seeds: range, dtype: str = "float64") -> None:
    for seed in seeds:
        for moments in optimizer._moments.values():
            frozen(moments)
        frozen(dict(optimizer.params))
        optimizer.step(frozen(draw(seed, dtype)))


def assert_same_bits(one: Any, other: Any) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        if isinstance(array, dict):
            assert array == other[name]
        else:
            assert array.dtype == other[name].dtype
            np.testing.assert_array_equal(array, other[name], strict=True)


@pytest.mark.parametrize(
    ("platform", "name", "options"),
    [
        *(("numpy", name, options) for name, options in CONFIGURATIONS),
        *((platform, name, options) for platform in here("native") for name, options in RICHEST.items()),
    ],
    ids=str,
)
def test_equals_pytorch(platform: str, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    torch = need("torch")
    if name == "NAdam":  # which keeps the product of its momenta in the default dtype, float32
        torch.set_default_dtype(torch.float64)
    try:
        params = frozen(draw(0))
        theirs = {key: torch.tensor(value, requires_grad=True) for key, value in params.items()}
        monkeypatch.setattr("recurray.optim.elementwise.backend_of", lambda param: obtain(platform))
        ours = make(name, params, options)
        oracle = getattr(torch.optim, name)(theirs.values(), **options)
        assert ours.lr == oracle.param_groups[0]["lr"]  # the default
        for step in range(1, 26):
            if step == 12:  # as a schedule would
                ours.lr = oracle.param_groups[0]["lr"] = 0.05
            grads = frozen(draw(step))
            if step == 20:
                grads = frozen({key: np.zeros(shape) for key, shape in SHAPES.items()})
            ours.step(grads)
            for key, tensor in theirs.items():
                tensor.grad = torch.tensor(grads[key])
            oracle.step()
            for key, tensor in theirs.items():
                np.testing.assert_allclose(params[key], tensor.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=key)
                assert params[key].shape == SHAPES[key]
        assert ours.step_count == 25
    finally:
        torch.set_default_dtype(torch.float32)


class TestArrays:
    @every_optimizer
    @pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
    def test_array_api_strict_gives_numpys_numbers_on_its_device(
        self, name: str, options: dict[str, Any], device: str
    ) -> None:
        place = array_api_strict.Device(device)

        def put(arrays: Arrays) -> dict[str, Any]:
            return {key: array_api_strict.asarray(value, device=place) for key, value in arrays.items()}

        params, same = put(draw(0)), draw(0)
        optimizer, reference = make(name, params, options), make(name, same, options)
        reference._backend_of = lambda param: obtain("numpy")  # type: ignore[attr-defined]
        for step in range(1, 4):
            optimizer.step(put(draw(step)))
            reference.step(draw(step))
        optimizer.load_state_dict(optimizer.state_dict())
        optimizer.step(put(draw(4)))
        reference.step(draw(4))
        for key, value in params.items():
            assert value.device == place
            np.testing.assert_allclose(np.from_dlpack(value), same[key], rtol=1e-14)
        assert all(moment.device == place for own in optimizer._moments.values() for moment in own.values())
        assert_same_bits(
            {key: value for key, value in optimizer.state_dict().items() if key != "settings"},
            {key: value for key, value in reference.state_dict().items() if key != "settings"},
        )

    @every_optimizer
    def test_torch_tensors(self, name: str, options: dict[str, Any]) -> None:
        torch = need("torch")
        params, same = {key: torch.tensor(value) for key, value in draw(0).items()}, draw(0)
        optimizer, reference = make(name, params, options), make(name, same, options)
        for step in range(1, 4):
            optimizer.step({key: torch.tensor(value) for key, value in draw(step).items()})
            reference.step(draw(step))
            optimizer.load_state_dict(optimizer.state_dict())
        for key, value in params.items():
            np.testing.assert_allclose(value.numpy(), same[key], rtol=1e-12)

    @every_optimizer
    def test_float32_stays_float32(self, name: str, options: dict[str, Any]) -> None:
        def as_numpy(value: Any) -> Any:  # a numpy.float64 would turn float32 arrays into float64
            if isinstance(value, tuple):
                return tuple(map(np.float64, value))
            return np.float64(value) if isinstance(value, float) else value

        params = draw(0, "float32")
        optimizer = make(name, params, {key: as_numpy(value) for key, value in options.items()}, lr=np.float64(0.1))
        train(optimizer, range(1, 3), "float32")
        optimizer.lr = np.float64(0.05)
        train(optimizer, range(3, 5), "float32")
        assert all(type(value) is np.ndarray and value.dtype == "float32" for value in params.values())
        assert all(value.dtype == "float32" for own in optimizer._moments.values() for value in own.values())

    @every_configuration
    def test_neither_keeps_nor_touches_the_gradients_it_was_given(self, name: str, options: dict[str, Any]) -> None:
        params, same = draw(0), draw(0)
        reused, fresh = make(name, params, options), make(name, same, options)
        buffers = {key: np.empty(shape) for key, shape in SHAPES.items()}
        for step in range(1, 4):
            for key, value in draw(step).items():
                buffers[key][...] = value
            reused.step(buffers)
            fresh.step(draw(step))
            for buffer in buffers.values():
                buffer[...] = np.nan
        assert_same_bits(params, same)

    def test_writes_through_a_view_of_several_mappings(self) -> None:
        class View(MutableMapping[str, Any]):
            """As a sequence of layers shows its layers' params: live, under joined names."""

            def __init__(self, *layers: dict[str, Any]) -> None:
                self.layers = layers

            def split(self, name: str) -> tuple[dict[str, Any], str]:
                layer, _, own = name.partition(".")
                return self.layers[int(layer)], own

            def __getitem__(self, name: str) -> Any:
                layer, own = self.split(name)
                return layer[own]

            def __setitem__(self, name: str, value: Any) -> None:
                layer, own = self.split(name)
                layer[own] = value

            def __delitem__(self, name: str) -> None:
                raise TypeError(name)

            def __iter__(self) -> Iterator[str]:
                return (f"{i}.{name}" for i, layer in enumerate(self.layers) for name in layer)

            def __len__(self) -> int:
                return sum(map(len, self.layers))

        layers = {"w": np.array([1.0, 2.0])}, {"w": np.array([[3.0]])}
        before = layers[0]["w"]
        optimizer = optim.SGD(View(*layers), lr=0.5)
        optimizer.step({"0.w": np.array([2.0, 0.0]), "1.w": np.array([[4.0]])})
        assert layers[0]["w"].tolist() == [0.0, 2.0]
        assert layers[1]["w"].tolist() == [[1.0]]
        assert before.tolist() == [1.0, 2.0]
        layers[0]["w"] = np.array([9.0, 9.0])  # as a model does that loads other params
        optimizer.step({"0.w": np.array([2.0, 0.0]), "1.w": np.array([[0.0]])})
        assert layers[0]["w"].tolist() == [8.0, 9.0]

    @every_optimizer
    def test_a_step_does_not_wait_for_a_device(
        self, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def strict(seed: int) -> dict[str, Any]:
            return {key: array_api_strict.asarray(value) for key, value in draw(seed).items()}

        params, grads = strict(0), strict(1)
        optimizer = make(name, params, options)
        forbid_looking_at_values(monkeypatch, params["weight"])
        clipped, norm = optim.clip_grad_norm(grads, 1.0)
        optimizer.step(clipped)
        with pytest.raises(AssertionError, match="looked at"):
            float(norm)


def forbid_looking_at_values(monkeypatch: pytest.MonkeyPatch, array: Any) -> None:
    def refuse(self: Any, *_: Any) -> Any:
        raise AssertionError("a value was looked at")

    for method in ("__bool__", "__float__", "__int__", "__index__"):
        monkeypatch.setattr(type(array), method, refuse)


def test_centered_rmsprop_survives_a_variance_rounded_below_0() -> None:
    params = {"w": np.linspace(0.0, 1.0, 200)}
    grad = np.linspace(0.1, 0.9, 200)
    optimizer = optim.RMSprop(params, lr=1e-12, alpha=0.1, centered=True)
    seen = False
    for _ in range(40):
        before = params["w"]
        optimizer.step({"w": grad})
        own = optimizer._moments["w"]
        negative = own["mean_square"] < own["mean_gradient"] ** 2
        np.testing.assert_allclose(params["w"][negative], (before - 1e-12 * (grad / 1e-8))[negative], rtol=1e-12)
        assert np.all(np.isfinite(params["w"]))
        seen |= bool(np.any(negative))
    assert seen  # or else the test would test nothing


class TestState:
    @every_configuration
    def test_resumes_bit_for_bit(self, name: str, options: dict[str, Any]) -> None:
        params = draw(0)
        optimizer = make(name, params, options, lr=0.02)
        train(optimizer, range(1, 8))
        optimizer.lr = 0.03
        state = optimizer.state_dict()
        state["settings"] = json.loads(json.dumps(state["settings"]))
        saved_params = dict(params)
        train(optimizer, range(8, 15))

        resumed = make(name, saved_params, {})  # its hyperparameters come from the state
        resumed.load_state_dict(state)
        assert_same_bits(resumed.state_dict(), state)
        train(resumed, range(8, 15))
        assert_same_bits(saved_params, params)
        assert_same_bits(resumed.state_dict(), optimizer.state_dict())

    @every_optimizer
    def test_everything_in_it_counts(self, name: str, options: dict[str, Any]) -> None:
        params = draw(0)
        optimizer = make(name, params, options, lr=0.02)
        train(optimizer, range(1, 8))
        state, saved_params = optimizer.state_dict(), dict(params)
        train(optimizer, range(8, 12))

        def differs(other: dict[str, Any]) -> bool:
            again = dict(saved_params)
            resumed = make(name, again, options)
            resumed.load_state_dict(other)
            train(resumed, range(8, 12))
            return any(np.any(again[key] != params[key]) for key in params)

        assert not differs(state)
        for key, array in state.items():
            if key != "settings" and array.size:
                assert differs(state | {key: 2 * array}), key
        counts = {
            "SGD": ["lr"],
            "Adadelta": ["lr"],
            "RMSprop": ["lr"],
            "NAdam": ["lr", "step_count", "momentum_product"],
        }
        for key in counts.get(name, ["lr", "step_count"]):
            value = state["settings"][key]
            assert differs(
                state | {"settings": state["settings"] | {key: value + 1 if key == "step_count" else value / 2}}
            )

    def test_the_first_step_of_damped_momentum_is_told_from_later_ones(self) -> None:
        for first in (0, 3):
            params = draw(0)
            optimizer = optim.SGD(params, lr=0.1, momentum=0.9, dampening=0.5)
            train(optimizer, range(1, 1 + first))
            again = dict(params)
            resumed = optim.SGD(again)
            resumed.load_state_dict(optimizer.state_dict())
            train(optimizer, range(9, 12))
            train(resumed, range(9, 12))
            assert_same_bits(again, params)

    def test_is_flat_and_goes_through_safetensors(self) -> None:
        safetensors = need("safetensors.numpy")
        optimizer = optim.Adam(draw(0), amsgrad=True)
        train(optimizer, range(1, 4))
        state = optimizer.state_dict()
        assert set(state) == {"settings"} | {
            f"{moment}.{name}"
            for moment in ("first_moment", "second_moment", "largest_second_moment")
            for name in SHAPES
        }
        assert state["settings"] == {
            "optimizer": "Adam", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0, "amsgrad": True,
            "step_count": 3,
        }  # fmt: skip
        settings = state.pop("settings")
        read = safetensors.load(safetensors.save(state))
        assert_same_bits(read, state)
        other = optim.Adam(draw(5))
        other.load_state_dict({"settings": settings, **read})
        assert_same_bits(other.state_dict(), optimizer.state_dict())

    def test_arrays_are_copies_in_c_order(self) -> None:
        params = {"w": np.asfortranarray(np.random.default_rng(0).standard_normal((3, 4)))}
        optimizer = optim.SGD(params, momentum=0.9)
        optimizer.step({"w": np.asfortranarray(np.random.default_rng(1).standard_normal((3, 4)))})
        state = optimizer.state_dict()
        assert state["velocity.w"].flags.c_contiguous
        np.testing.assert_array_equal(state["velocity.w"], optimizer._moments["w"]["velocity"])
        kept = state["velocity.w"].copy()
        optimizer.load_state_dict(state)
        state["velocity.w"][...] = np.nan  # the caller's own business
        np.testing.assert_array_equal(optimizer.state_dict()["velocity.w"], kept)

    def test_other_precision_and_other_library(self) -> None:
        optimizer = optim.SGD(draw(0), momentum=0.9)
        train(optimizer, range(1, 3))
        state = optimizer.state_dict()
        narrow = optim.SGD(draw(0, "float32"))
        narrow.load_state_dict(state)
        train(narrow, range(1, 3), "float32")
        assert all(value.dtype == "float32" for value in narrow.params.values())
        strict = {key: array_api_strict.asarray(value) for key, value in state.items() if key != "settings"}
        again = optim.SGD(draw(0))
        again.load_state_dict(strict | {"settings": state["settings"]})
        assert_same_bits(again.state_dict(), state)

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda s: s.pop("settings"), ValueError, "under the key 'settings'"),
            (lambda s: s["settings"].update(optimizer="AdamW"), ValueError, "'AdamW', not of Adam"),
            (lambda s: s["settings"].pop("eps"), ValueError, "settings.*missing 'eps'"),
            (lambda s: s["settings"].update(gain=1.0), ValueError, "settings.*unknown 'gain'"),
            (lambda s: s["settings"].update(lr=-1.0), ValueError, "lr must be at least 0"),
            (lambda s: s["settings"].update(betas=[0.9]), ValueError, "betas must be two numbers"),
            (lambda s: s["settings"].update(betas=[0.9, 1.0]), ValueError, r"betas\[1\] must be .*below 1"),
            (lambda s: s["settings"].update(amsgrad=True), ValueError, "missing 'largest_second_moment.bias'"),
            (lambda s: s["settings"].update(amsgrad="no"), TypeError, "amsgrad must be True or False"),
            (lambda s: s["settings"].update(step_count=-1), ValueError, "step_count must be at least 0"),
            (lambda s: s["settings"].update(step_count=1.5), TypeError, "step_count must be an integer"),
            (lambda s: s.pop("first_moment.bias"), ValueError, "arrays.*missing 'first_moment.bias'"),
            (lambda s: s.update({"velocity.bias": np.ones(5)}), ValueError, "unknown 'velocity.bias'"),
            (
                lambda s: s.update({"first_moment.bias": np.ones(6)}),
                ValueError,
                r"first_moment.bias.*\(5,\), not \(6,\)",
            ),
            (lambda s: s.update({"first_moment.bias": np.ones(5, int)}), TypeError, "first_moment.bias.*not int64"),
        ],
    )
    def test_refusals_change_nothing(self, change: Callable[[Any], Any], error: type[Exception], message: str) -> None:
        optimizer = optim.Adam(draw(0))
        train(optimizer, range(1, 3))
        before = optimizer.state_dict()
        other = optim.Adam(draw(1), lr=0.5, betas=(0.5, 0.6))
        train(other, range(3, 8))
        state = other.state_dict()
        change(state)
        with pytest.raises(error, match=message):
            optimizer.load_state_dict(state)
        assert_same_bits(optimizer.state_dict(), before)

    def test_no_mapping(self) -> None:
        with pytest.raises(TypeError, match="state must be a mapping, not list"):
            optim.SGD(draw(0)).load_state_dict([])


class TestRefusals:
    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            (lambda g: g.pop("bias"), ValueError, "names of the grads don't fit: missing 'bias'"),
            (lambda g: g.update(gain=np.ones(1)), ValueError, "unknown 'gain'"),
            (lambda g: g.update(gain=g.pop("bias")), ValueError, "missing 'bias'; unknown 'gain'"),
            (lambda g: g.update(bias=np.ones(4)), ValueError, r"'bias' must have the shape \(5,\), not \(4,\)"),
            (lambda g: g.update(scalar=np.ones(1)), ValueError, r"'scalar' must have the shape \(\), not \(1,\)"),
            (lambda g: g.update(bias=np.ones(5, "float32")), TypeError, "'bias' must be float64 .*not float32"),
            (lambda g: g.update(bias=np.ones(5, int)), TypeError, "'bias' must be float32 or float64, not int64"),
            (lambda g: g.update(bias=None), TypeError, "'bias' must be an array .*not NoneType"),
            (lambda g: g.update(bias=array_api_strict.ones(5)), TypeError, "'bias' .*numpy, not of array_api_strict"),
        ],
    )
    def test_gradients_that_do_not_fit_change_nothing(
        self, change: Callable[[Any], Any], error: type[Exception], message: str
    ) -> None:
        params = draw(0)
        optimizer = optim.NAdam(params)
        train(optimizer, range(1, 3))
        before, before_params = optimizer.state_dict(), dict(params)
        grads = draw(3)
        change(grads)
        with pytest.raises(error, match=message):
            optimizer.step(grads)
        assert_same_bits(optimizer.state_dict(), before)
        assert all(params[name] is array for name, array in before_params.items())

    def test_gradient_on_another_device(self) -> None:
        there = array_api_strict.Device("device1")
        optimizer = optim.SGD({"w": array_api_strict.ones(2, device=there)})
        with pytest.raises(ValueError, match=r"'w' must be on the device .*device1"):
            optimizer.step({"w": array_api_strict.ones(2)})

    def test_params_that_have_changed_their_names(self) -> None:
        params = draw(0)
        optimizer = optim.SGD(params)
        params["new"] = np.ones(2)
        with pytest.raises(ValueError, match=r"since the optimizer was made.*unknown 'new'"):
            optimizer.step(draw(1) | {"new": np.ones(2)})

    @pytest.mark.parametrize(
        ("params", "message"),
        [
            ([np.ones(2)], "params must be a mutable mapping .*not list"),
            ({"w": np.ones(2, int)}, "param 'w' must be float32 or float64, not int64"),
            ({"w": [1.0]}, "param 'w' must be an array of an array library, not list"),
        ],
    )
    def test_params(self, params: Any, message: str) -> None:
        with pytest.raises(TypeError, match=message):
            optim.Adam(params)

    @pytest.mark.parametrize(
        ("name", "options", "message"),
        [
            *[(name, {"lr": -0.1}, "lr must be at least 0") for name in OPTIONS],
            *[(name, {"lr": float("nan")}, "lr must be at least 0 and finite") for name in OPTIONS],
            *[(name, {"weight_decay": -0.1}, "weight_decay must be at least 0") for name in OPTIONS],
            *[(name, {"eps": -1e-8}, "eps must be at least 0") for name in OPTIONS if name != "SGD"],
            *[(n, {"betas": (1.0, 0.9)}, r"betas\[0\] must be") for n in ("Adam", "AdamW", "NAdam")],
            *[(n, {"betas": (0.9, -0.1)}, r"betas\[1\] must be") for n in ("Adam", "AdamW", "NAdam")],
            *[(n, {"betas": 0.9}, "betas must be two numbers") for n in ("Adam", "AdamW", "NAdam")],
            ("SGD", {"momentum": -0.1}, "momentum must be at least 0"),
            ("SGD", {"dampening": float("inf")}, "dampening must be at least 0 and finite"),
            ("SGD", {"nesterov": True}, "nesterov needs momentum"),
            ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}, "nesterov needs momentum .*no dampening"),
            ("NAdam", {"momentum_decay": -0.1}, "momentum_decay must be at least 0"),
            ("RMSprop", {"alpha": 1.0}, "alpha must be at least 0 and below 1"),
            ("RMSprop", {"momentum": -0.1}, "momentum must be at least 0"),
            ("Adagrad", {"lr_decay": -0.1}, "lr_decay must be at least 0"),
            ("Adagrad", {"initial_accumulator_value": -0.1}, "initial_accumulator_value must be at least 0"),
            ("Adadelta", {"rho": 1.0}, "rho must be at least 0 and below 1"),
        ],
    )
    def test_hyperparameters(self, name: str, options: dict[str, Any], message: str) -> None:
        with pytest.raises(ValueError, match=message):
            make(name, draw(0), options)

    def test_learning_rate_that_is_none(self) -> None:
        optimizer = optim.SGD(draw(0), lr=0.5)
        with pytest.raises(ValueError, match="lr must be at least 0"):
            optimizer.lr = -1.0
        with pytest.raises(TypeError, match="lr must be a number"):
            optimizer.lr = "0.1"
        assert optimizer.lr == 0.5


SETTINGS: list[tuple[str, str, Any]] = [  # of each optimizer, by setting a value that it may have
    *[(name, "lr", 0.25) for name in OPTIONS],
    *[(name, "weight_decay", 0.25) for name in OPTIONS],
    *[(name, "eps", 0.25) for name in OPTIONS if name != "SGD"],
    *[(name, "betas", (0.25, 0.5)) for name in ("Adam", "AdamW", "NAdam")],
    ("SGD", "momentum", 0.25),
    ("SGD", "dampening", 0.25),
    ("NAdam", "momentum_decay", 0.25),
    ("RMSprop", "alpha", 0.25),
    ("RMSprop", "momentum", 0.25),
    ("Adagrad", "lr_decay", 0.25),
    ("Adagrad", "initial_accumulator_value", 0.25),
    ("Adadelta", "rho", 0.25),
]
every_setting = pytest.mark.parametrize(("name", "setting", "value"), SETTINGS)
FLAGS = [("SGD", "nesterov"), ("Adam", "amsgrad"), ("AdamW", "amsgrad"), ("RMSprop", "centered")]


class TestSettings:
    """Hyperparameters are checked, and made plain numbers, when they are given and when they are set later."""

    def test_none_is_forgotten(self) -> None:
        for name in OPTIONS:
            known = {setting for other, setting, _ in SETTINGS if other == name}
            known |= {setting for other, setting in FLAGS if other == name}
            assert known == {"lr", *getattr(optim, name)._options}

    @every_setting
    @pytest.mark.parametrize("kind", [np.float64, np.float32], ids=lambda kind: kind.__name__)
    def test_numpy_numbers_leave_float32_as_it_is(self, name: str, setting: str, value: Any, kind: Any) -> None:
        given = tuple(map(kind, value)) if isinstance(value, tuple) else kind(value)
        expected, later, at_once = draw(0, "float32"), draw(0, "float32"), draw(0, "float32")
        options = {"momentum": 0.5} if name == "SGD" and setting == "dampening" else {}
        train(make(name, expected, options, **{setting: value}), range(1, 4), "float32")
        optimizer = make(name, at_once, options, **{setting: given})
        assert getattr(optimizer, setting) == value
        train(optimizer, range(1, 4), "float32")
        assert_same_bits(at_once, expected)
        if setting != "initial_accumulator_value":  # which is where the sums start
            optimizer = make(name, later, options)
            setattr(optimizer, setting, given)
            json.dumps(optimizer.state_dict()["settings"])
            train(optimizer, range(1, 4), "float32")
            assert_same_bits(later, expected)
        assert all(array.dtype == "float32" for moments in optimizer._moments.values() for array in moments.values())

    @every_setting
    @pytest.mark.parametrize("wrong", [float("nan"), float("inf"), -0.5, True, "0.1", None, [0.1], 1j], ids=repr)
    def test_what_is_no_such_number(self, name: str, setting: str, value: Any, wrong: Any) -> None:
        given = (0.5, wrong) if isinstance(value, tuple) else wrong
        words = rf"{setting}(\[1\])? must be "
        with pytest.raises((ValueError, TypeError), match=words):
            make(name, draw(0), {}, **{setting: given})
        optimizer = make(name, draw(0), {})
        before = getattr(optimizer, setting)
        with pytest.raises((ValueError, TypeError), match=words):
            setattr(optimizer, setting, given)
        assert getattr(optimizer, setting) is before

    @pytest.mark.parametrize(("name", "flag"), FLAGS)
    def test_what_is_no_flag(self, name: str, flag: str) -> None:
        optimizer = make(name, draw(0), {})
        with pytest.raises(TypeError, match=f"{flag} must be True or False, not int 1"):
            setattr(optimizer, flag, 1)

    @pytest.mark.parametrize(
        ("name", "setting", "value", "moment"),
        [
            ("SGD", "momentum", 0.5, "velocity"),
            ("RMSprop", "momentum", 0.5, "velocity"),
            ("RMSprop", "centered", True, "mean_gradient"),
            ("Adam", "amsgrad", True, "largest_second_moment"),
            ("AdamW", "amsgrad", True, "largest_second_moment"),
        ],
    )
    def test_a_moment_may_be_switched_on_and_off_later(self, name: str, setting: str, value: Any, moment: str) -> None:
        params, plain = draw(0), draw(0)
        optimizer, other = make(name, params, {}), make(name, plain, {})
        train(optimizer, range(1, 3))
        train(other, range(1, 4))
        setattr(optimizer, setting, value)
        state = optimizer.state_dict()
        assert not state[f"{moment}.weight"].any()  # it starts now
        again = dict(params)
        resumed = make(name, again, {})
        resumed.load_state_dict(state)
        for each in (optimizer, resumed):
            train(each, range(3, 6))
        assert_same_bits(again, params)
        assert optimizer.step_count == 5
        setattr(optimizer, setting, type(value)(0))
        assert f"{moment}.weight" not in optimizer.state_dict()
        train(optimizer, range(6, 8))

    def test_momentum_that_starts_later_starts_with_the_gradient(self) -> None:
        params = {"w": np.array([1.0])}
        optimizer = optim.SGD(params, lr=0.5)
        optimizer.step({"w": np.array([1.0])})
        optimizer.momentum = 0.5
        optimizer.step({"w": np.array([1.0])})
        optimizer.step({"w": np.array([1.0])})
        assert params["w"] == 1.0 - 0.5 - 0.5 - 0.75

    def test_settings_that_do_not_go_together_stop_the_step(self) -> None:
        params = draw(0)
        optimizer = optim.SGD(params, lr=0.5, momentum=0.5, nesterov=True)
        train(optimizer, range(1, 2))
        before, state = dict(params), optimizer.state_dict()
        optimizer.momentum = 0.0
        with pytest.raises(ValueError, match=r"nesterov needs momentum above 0 .* not momentum=0\.0"):
            train(optimizer, range(2, 3))
        optimizer.momentum = 0.5
        assert_same_bits(params, before)
        assert_same_bits(optimizer.state_dict(), state)

    def test_a_step_count_of_numpys_is_a_count(self) -> None:
        for name, options in RICHEST.items():
            params = draw(0, "float32")
            optimizer = make(name, params, options)
            optimizer.step_count = np.int64(3)
            train(optimizer, range(1, 3), "float32")
            assert {str(value.dtype) for value in params.values()} == {"float32"}
            with pytest.raises(ValueError, match="step_count must be at least 0, not -1"):
                optimizer.step_count = -1

    @every_optimizer
    def test_a_step_is_taken_whole_or_not_at_all(
        self, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        params = draw(0)
        optimizer = make(name, params, options, groups={"w*": {"lr_factor": 0.1}})  # so it has two parts
        train(optimizer, range(1, 3))
        before, state, prepared, calls = dict(params), optimizer.state_dict(), Flat.prepared, iter(range(2))

        def stopped(*arguments: Any) -> Any:
            if next(calls) == 1:
                raise KeyboardInterrupt
            return prepared(*arguments)

        monkeypatch.setattr(Flat, "prepared", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(optimizer, range(3, 4))
        assert_same_bits(params, before)
        assert_same_bits(optimizer.state_dict(), state)

    @every_optimizer
    @pytest.mark.usefixtures("signals_arrive")
    def test_ctrl_c_waits_for_the_end_of_a_step(
        self, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        params, same = draw(0), draw(0)
        optimizer, reference = make(name, params, options), make(name, same, options)
        train(optimizer, range(1, 2))
        train(reference, range(1, 3))
        (part,) = next(iter(optimizer._made.values()))
        run = part._run

        def interrupted(*arguments: Any) -> None:
            signal.raise_signal(signal.SIGINT)
            run(*arguments)
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(part, "_run", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(optimizer, range(2, 3))
        assert_same_bits(params, same)
        assert_same_bits(optimizer.state_dict(), reference.state_dict())
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    def test_an_update_of_ones_own_that_fails_changes_nothing(self) -> None:
        class Failing(optim.SGD):
            def _update(self, param: Any, grad: Any, moments: Any) -> Any:
                if param.shape == ():
                    raise ZeroDivisionError
                return super()._update(param, grad, moments)

        params = draw(0)
        optimizer, before = Failing(params, momentum=0.5), dict(params)
        state = optimizer.state_dict()
        with pytest.raises(ZeroDivisionError):
            optimizer.step(draw(1))
        assert all(params[key] is value for key, value in before.items())
        assert_same_bits(optimizer.state_dict(), state)

    def test_an_update_of_another_precision_is_refused(self) -> None:
        class Careless(optim.SGD):
            def _update(self, param: Any, grad: Any, moments: Any) -> Any:
                return param - np.float64(0.5) * grad, {}

        params = draw(0, "float32")
        optimizer = Careless(params)
        with pytest.raises(TypeError, match=r"a step made the param of 'weight.*' float64, which was float32"):
            optimizer.step(draw(1, "float32"))
        assert optimizer.step_count == 0
        assert all(value.dtype == "float32" for value in params.values())


class TestGroups:
    GROUPS: ClassVar = {"w*": {"lr_factor": 0.1, "weight_decay": 0.3}, "bias": {"frozen": True}, "s?alar": {}}

    @every_optimizer
    def test_equal_pytorchs(self, name: str, options: dict[str, Any]) -> None:
        """Frozen params too: whose gradients are None, and which have seen fewer steps than others when they thaw."""
        torch = need("torch")
        if name == "NAdam":
            torch.set_default_dtype(torch.float64)
        try:
            params = frozen(draw(0))
            theirs = {key: torch.tensor(value, requires_grad=True) for key, value in params.items()}
            ours = make(name, params, options, lr=0.02, groups=self.GROUPS)
            own = {"weight": {"lr": 0.002, "weight_decay": 0.3}}
            oracle = getattr(torch.optim, name)(
                [{"params": [tensor], **own.get(key, {})} for key, tensor in theirs.items()], lr=0.02, **options
            )
            for step in range(1, 16):
                if step == 5:
                    ours.lr = 0.04  # as a schedule would
                    for group in oracle.param_groups:
                        group["lr"] *= 2
                if step == 8:  # thaw one, freeze others
                    ours.groups = {"w*": self.GROUPS["w*"], "s*": {"frozen": True}, "long.*": {"frozen": True}}
                if step == 12:
                    ours.groups = {"w*": self.GROUPS["w*"]}
                still = {"bias"} if step < 8 else {"scalar", "long.name"} if step < 12 else set()
                grads = frozen(draw(step))
                for key, tensor in theirs.items():
                    tensor.grad = None if key in still else torch.tensor(grads[key])
                before = {key: params[key] for key in still}
                ours.step(grads if step % 2 else {key: grad for key, grad in grads.items() if key not in still})
                oracle.step()
                assert all(params[key] is value for key, value in before.items())
                for key, tensor in theirs.items():
                    np.testing.assert_allclose(
                        params[key], tensor.detach().numpy(), rtol=1e-12, atol=1e-12, err_msg=key
                    )
            assert ours.lr == 0.04
        finally:
            torch.set_default_dtype(torch.float32)

    @every_optimizer
    def test_resume_bit_for_bit(self, name: str, options: dict[str, Any]) -> None:
        params = draw(0)
        optimizer = make(name, params, options, groups=self.GROUPS)
        train(optimizer, range(1, 5))
        optimizer.groups = {"w*": self.GROUPS["w*"], "long.name": {"frozen": True}}
        train(optimizer, range(5, 9))
        state = optimizer.state_dict()
        state["settings"] = json.loads(json.dumps(state["settings"]))
        again = dict(params)
        resumed = make(name, again, {})
        resumed.load_state_dict(state)
        assert resumed.groups == optimizer.groups
        for each in (optimizer, resumed):
            train(each, range(9, 12))
            each.groups = {}
            train(each, range(12, 15))
        assert_same_bits(again, params)
        assert_same_bits(resumed.state_dict(), optimizer.state_dict())

    def test_another_library(self) -> None:
        params, same = {k: array_api_strict.asarray(v) for k, v in draw(0).items()}, draw(0)
        for step in range(1, 4):
            if step == 1:
                optimizers = [optim.Adam(p, groups=self.GROUPS) for p in (params, same)]
            optimizers[0].step({k: array_api_strict.asarray(v) for k, v in draw(step).items()})
            optimizers[1].step(draw(step))
        for key, value in params.items():
            np.testing.assert_allclose(np.from_dlpack(value), same[key], rtol=1e-14)

    def test_moments_of_a_groups_own(self) -> None:
        optimizer = optim.Adam(draw(0), groups={"weight": {"amsgrad": True}})
        train(optimizer, range(1, 4))
        assert [key for key in optimizer.state_dict() if key.startswith("largest")] == ["largest_second_moment.weight"]

    @pytest.mark.parametrize(
        ("groups", "error", "message"),
        [
            (["weight"], TypeError, "groups must be a mapping"),
            ({"weight": 0.1}, TypeError, "groups must hold a mapping of settings for each pattern, not 0.1"),
            ({"weight": {"lr": 0.1}}, ValueError, "can't set 'lr': say lr_factor, which the learning rate is"),
            (
                {"weight": {"speed": 0.1}},
                ValueError,
                "the group 'weight' can't set 'speed'; what it can set is lr_factor",
            ),
            ({"encoder.*": {}}, ValueError, r"the group 'encoder\.\*' fits none of the params: 'weight, bias"),
            ({"w*": {}, "*t": {}}, ValueError, r"'weight' fits two groups, 'w\*' and '\*t'"),
            ({"w*": {"lr_factor": -1}}, ValueError, "lr_factor must be at least 0"),
            ({"w*": {"frozen": 1}}, TypeError, "frozen must be True or False"),
            ({"w*": {"betas": 1}}, ValueError, "betas must be two numbers"),
        ],
    )
    def test_refusals(self, groups: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            optim.Adam(draw(0), groups=groups)
        optimizer = optim.Adam(draw(0), groups={"bias": {"frozen": True}})
        with pytest.raises(error, match=message):
            optimizer.groups = groups
        assert optimizer.groups == {"bias": {"frozen": True}}

    def test_a_gradient_that_is_missing_is_named(self) -> None:
        optimizer = optim.Adam(draw(0), groups={"bias": {"frozen": True}})
        grads = {key: grad for key, grad in draw(1).items() if key not in ("bias", "weight")}
        with pytest.raises(ValueError, match=r"the names of the grads don't fit: missing 'weight'$"):
            optimizer.step(grads)


class TestFlat:
    """NumPy's arrays, stepped in place, small ones as one."""

    @every_configuration
    def test_the_bits_are_those_of_each_array_by_itself(
        self, name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = []
        for small in (8192, 8, 0):
            monkeypatch.setattr("recurray.optim.flat.SMALL", small)
            params = draw(0)
            train(make(name, params, options), range(1, 5))
            found.append(params)
        for other in found[1:]:
            assert_same_bits(found[0], other)

    def test_params_that_are_held_stay_as_they_are_and_memory_that_nobody_holds_is_used_again(self) -> None:
        params = draw(0)
        optimizer = optim.Adam(params, lr=0.1)
        held, copies = [], []
        for step in range(1, 9):
            optimizer.step(draw(step))
            held.append(params["weight"][1:])  # a view of a view
            copies.append(held[-1].copy())
        for one, other in zip(held, copies, strict=True):
            np.testing.assert_array_equal(one, other)
        del held, one
        seen = []
        for step in range(9, 17):
            optimizer.step(draw(step))
            seen.append(params["weight"].__array_interface__["data"][0])
        assert len(set(seen[2:])) == 2

    def test_memory_begins_with_a_line_of_the_cache(self) -> None:
        params = {"large": np.ones((99, 100), "float32"), "small": np.ones(3, "float32"), "double": np.ones(9)}
        optimizer = optim.SGD(params, lr=0.1)
        for _ in range(3):
            optimizer.step({name: np.ones_like(value) for name, value in params.items()})
            assert [value.__array_interface__["data"][0] % 64 for value in params.values()] == [0, 0, 0]

    def test_a_param_that_somebody_replaced_is_what_is_stepped(self) -> None:
        params = draw(0)
        optimizer = optim.SGD(params, lr=1.0)
        train(optimizer, range(1, 3))
        params["weight"] = np.ones((3, 4))
        params["bias"] = params["bias"].copy()
        params["bias"][0] = 3.0
        grads = draw(5)
        before = dict(params)
        optimizer.step(grads)
        for key, value in params.items():
            np.testing.assert_array_equal(value, before[key] - grads[key])


class TestClipGradValue:
    def test_equals_pytorch(self) -> None:
        torch = need("torch")
        grads = frozen(draw(1) | {"odd": np.array([np.nan, np.inf, -np.inf, 0.3])})
        tensors = [torch.tensor(value, requires_grad=True) for value in grads.values()]
        for tensor in tensors:
            tensor.grad = tensor.detach().clone()
        torch.nn.utils.clip_grad_value_(tensors, 0.3)
        clipped = optim.clip_grad_value(grads, 0.3)
        for tensor, (key, value) in zip(tensors, clipped.items(), strict=True):
            np.testing.assert_array_equal(value, tensor.grad.numpy(), strict=True)
            assert not np.shares_memory(value, grads[key])
        assert_same_bits(optim.clip_grad_value(grads, float("inf")), grads)

    def test_other_libraries_and_dtypes(self) -> None:
        grads = {"a": array_api_strict.asarray([3.0, -0.5]), "b": np.array([-4.0, 0.1], "float32")}
        clipped = optim.clip_grad_value(grads, 1e39)
        assert clipped["b"].dtype == "float32"
        clipped = optim.clip_grad_value(grads, 1.0)
        np.testing.assert_array_equal(np.from_dlpack(clipped["a"]), [1.0, -0.5])
        np.testing.assert_array_equal(clipped["b"], np.array([-1.0, 0.1], "float32"), strict=True)

    @pytest.mark.parametrize(
        ("grads", "limit", "error", "message"),
        [
            ({"w": np.ones(2)}, -1.0, ValueError, "limit must be at least 0"),
            ({"w": np.ones(2)}, float("nan"), ValueError, "limit must be at least 0"),
            ({"w": np.ones(2)}, None, TypeError, "limit must be a number"),
            ([np.ones(2)], 1.0, TypeError, "grads must be a mapping .*not list"),
            ({"w": np.ones(2, int)}, 1.0, TypeError, "'w' must be float32 or float64, not int64"),
        ],
    )
    def test_refusals(self, grads: Any, limit: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            optim.clip_grad_value(grads, limit)


def test_no_params_at_all() -> None:
    optimizer = optim.Adam({})
    optimizer.step({})
    assert optimizer.state_dict()["settings"]["step_count"] == 1


def test_repr_says_what_it_is() -> None:
    optimizer = optim.SGD(draw(0), lr=0.5)
    train(optimizer, range(1, 3))
    text = "SGD(lr=0.5, momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=False)  # 2 steps, 5 params"
    assert repr(optimizer) == text


def test_an_optimizer_of_ones_own() -> None:
    class SignDescent(optim.Optimizer):
        _options = ("beta", "weight_decay")

        def __init__(self, params: Any, lr: float = 0.1, beta: float = 0.5, weight_decay: float = 0.0) -> None:
            self.beta = beta
            super().__init__(params, lr, weight_decay)

        def _start(self, param: Any) -> dict[str, Any]:
            return {"mean": np.zeros_like(param)}

        def _update(self, param: Any, grad: Any, moments: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
            mean = self.beta * moments["mean"] + (1 - self.beta) * self._with_weight_decay(grad, param)
            return param - self.lr * np.sign(mean), {"mean": mean}

    params = draw(0)
    optimizer = SignDescent(params, beta=0.75)
    train(optimizer, range(1, 4))
    again = dict(params)
    resumed = SignDescent(again)
    resumed.load_state_dict(optimizer.state_dict())
    train(optimizer, range(4, 6))
    train(resumed, range(4, 6))
    assert resumed.beta == 0.75
    assert_same_bits(again, params)


class TestClipping:
    @pytest.mark.parametrize("max_norm", [0.0, 1e-3, 1.0, 5.0, 7.0, 1e3, float("inf")])
    @pytest.mark.parametrize("dtype", ["float32", "float64"])
    def test_equals_pytorch(self, max_norm: float, dtype: str) -> None:
        torch = need("torch")
        grads = frozen(draw(1, dtype))
        leaves = {name: torch.zeros(value.shape) for name, value in grads.items()}
        for name, leaf in leaves.items():
            leaf.grad = None
            leaves[name] = leaf.to(getattr(torch, dtype))
            leaves[name].grad = torch.tensor(grads[name])
        norm = torch.nn.utils.clip_grad_norm_(leaves.values(), max_norm)
        clipped, our_norm = optim.clip_grad_norm(grads, max_norm)
        rtol = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(our_norm, norm.numpy(), rtol=rtol)
        assert our_norm.shape == ()
        assert our_norm.dtype == dtype
        for name, leaf in leaves.items():
            np.testing.assert_allclose(clipped[name], leaf.grad.numpy(), rtol=rtol)
            assert clipped[name].dtype == dtype
            assert type(clipped[name]) is np.ndarray

    def test_the_1e_6(self) -> None:
        clipped, norm = optim.clip_grad_norm({"w": np.array([3e-6, 4e-6])}, 5e-6)
        np.testing.assert_allclose(norm, 5e-6, rtol=1e-14)
        np.testing.assert_allclose(clipped["w"], np.array([3e-6, 4e-6]) * 5 / 6, rtol=1e-12)

    def test_within_the_norm_every_bit_stays(self) -> None:
        grads = draw(1)
        clipped, norm = optim.clip_grad_norm(grads, 100.0)
        assert_same_bits(clipped, grads)
        assert not any(np.shares_memory(clipped[name], grads[name]) for name in grads)
        assert norm > 1

    @pytest.mark.parametrize("size", [1e-44, 1e-30, 1e-20, 1e19, 1e30, 9e37])
    def test_squares_neither_overflow_nor_vanish(self, size: float) -> None:
        grads = {"a": np.array([3 * size], "float32"), "b": np.array([0.0, 2 * size], "float32")}
        with np.errstate(under="ignore"):
            clipped, norm = optim.clip_grad_norm(grads, 1.0)
        exact = np.sqrt(float(grads["a"][0]) ** 2 + float(grads["b"][1]) ** 2)
        # (The smallest sizes are subnormal numbers, of few bits.)
        np.testing.assert_allclose(float(norm), exact, rtol=1e-6 if size > 1e-38 else 0.2)
        if size > 1:
            np.testing.assert_allclose(clipped["a"], 3 / 13**0.5, rtol=1e-6)
            np.testing.assert_allclose(clipped["b"], [0, 2 / 13**0.5], rtol=1e-6)
        else:
            assert_same_bits(clipped, grads)

    def test_all_zero(self) -> None:
        clipped, norm = optim.clip_grad_norm({"w": np.zeros(3, "float32")}, 1.0)
        assert norm == 0
        assert clipped["w"].tolist() == [0, 0, 0]

    def test_nothing_at_all(self) -> None:
        assert optim.clip_grad_norm({}, 1.0) == ({}, 0.0)
        clipped, norm = optim.clip_grad_norm({"w": np.zeros((0, 3))}, 1.0)
        assert clipped["w"].shape == (0, 3)
        assert norm == 0

    @pytest.mark.parametrize("max_norm", [1.0, float("inf")])
    def test_nan_makes_all_nan(self, max_norm: float) -> None:
        grads = {"a": np.array([1e30, np.nan], "float32"), "b": np.array([1e30], "float32")}
        clipped, norm = optim.clip_grad_norm(grads, max_norm)
        assert np.isnan(norm)
        assert all(np.all(np.isnan(value)) for value in clipped.values())

    @pytest.mark.parametrize("max_norm", [1.0, float("inf")])
    def test_infinity_makes_itself_nan_and_all_else_0(self, max_norm: float) -> None:
        grads = {"a": np.array([1e30, -np.inf], "float32"), "b": np.array([2.0], "float32")}
        with np.errstate(invalid="ignore", under="ignore"):  # 0 times infinity is what is meant
            clipped, norm = optim.clip_grad_norm(grads, max_norm)
        assert norm == np.inf
        np.testing.assert_array_equal(clipped["a"], [0, np.nan])
        np.testing.assert_array_equal(clipped["b"], [0])

    @pytest.mark.parametrize("device", ["CPU_DEVICE", "device1"])
    def test_array_api_strict(self, device: str) -> None:
        place = array_api_strict.Device(device)
        grads = draw(1)
        given = {name: array_api_strict.asarray(value, device=place) for name, value in grads.items()}
        clipped, norm = optim.clip_grad_norm(given, 1.0)
        wanted, wanted_norm = optim.clip_grad_norm(grads, 1.0)
        assert norm.device == place
        np.testing.assert_allclose(float(norm), wanted_norm, rtol=1e-15)
        for name, value in clipped.items():
            assert value.device == place
            np.testing.assert_allclose(np.from_dlpack(value), wanted[name], rtol=1e-15)

    def test_each_keeps_its_dtype(self) -> None:
        clipped, norm = optim.clip_grad_norm({"a": np.array([3.0]), "b": np.array([4.0], "float32")}, 1.0)
        np.testing.assert_allclose(norm, 5.0)
        assert (clipped["a"].dtype, clipped["b"].dtype) == ("float64", "float32")

    @pytest.mark.parametrize(
        ("grads", "max_norm", "error", "message"),
        [
            ({"w": np.ones(2)}, -1.0, ValueError, "max_norm must be at least 0"),
            ({"w": np.ones(2)}, float("nan"), ValueError, "max_norm must be at least 0"),
            ({"w": np.ones(2)}, None, TypeError, "max_norm must be a number"),
            ([np.ones(2)], 1.0, TypeError, "grads must be a mapping .*not list"),
            ({"w": None}, 1.0, TypeError, "'w' must be an array .*not NoneType"),
            ({"w": np.ones(2, int)}, 1.0, TypeError, "'w' must be float32 or float64, not int64"),
        ],
    )
    def test_refusals(self, grads: Any, max_norm: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            optim.clip_grad_norm(grads, max_norm)
