"""What is taken in as an array: nothing whose values don't say all, and of subclasses the plain array, everywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness import Case, assert_all_same, give, here, host, layer_for, obtain, problem, results
from harness.cases import CASES
from harness.needs import need
from recurray.backend import Backend

pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")  # NumPy's, at each matrix


class Tagged(np.ndarray[Any, Any]):
    """A subclass whose arithmetic gives its own kind, and something wrong."""

    def __array_finalize__(self, other: Any) -> None:
        self.tag = getattr(other, "tag", None)

    def __mul__(self, other: Any) -> Any:
        raise AssertionError("the subclass's own arithmetic was used")

    __rmul__ = __add__ = __radd__ = __matmul__ = __rmatmul__ = __mul__  # type: ignore[assignment]


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "matrix": (np.matrix, r"{} must be a plain array, not a numpy.matrix: .* give numpy.asarray of it"),
    "masked": (
        lambda a: np.ma.array(a, mask=a > a.mean()),
        r"{} must be a plain array, not a numpy.MaskedArray: .* give its filled\(value\)",
    ),
}


def refused(name: str, kind: str) -> Any:
    """The error of an array of this kind, and of this name."""
    return pytest.raises(TypeError, match=REFUSED[kind][1].format(name.replace(".", r"\.")))


# Layers ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_refuse_a_mask(case: Case) -> None:
    """In each place; a mask that hides nothing too."""
    given = problem(case)
    layer = layer_for(case, given, obtain("numpy"))
    arrays = give(layer, given)
    hidden, _ = REFUSED["masked"]
    for call in (layer, layer.forward):
        with pytest.raises(TypeError, match=r"x must be a plain array, not a numpy\.MaskedArray"):
            call(hidden(arrays.x), arrays.state, **arrays.which)
        with pytest.raises(TypeError, match=r"x must be a plain array, not a numpy\.MaskedArray"):
            call(np.ma.array(arrays.x), arrays.state, **arrays.which)
    _, _, cache = layer.forward(arrays.x, arrays.state, **arrays.which)
    with pytest.raises(TypeError, match=r"dy must be a plain array, not a numpy\.MaskedArray"):
        layer.backward(cache, hidden(arrays.dy), arrays.dstate)


def recurrent() -> tuple[rr.LSTM, Any, rr.State]:
    layer = rr.LSTM(2, 3, seed=0)
    x = np.random.default_rng(0).standard_normal((2, 5, 2)).astype("float32")
    return layer, x, layer(x)[1]


def test_states_and_lengths_refuse_a_mask() -> None:
    layer, x, state = recurrent()
    hidden, _ = REFUSED["masked"]
    y, _, cache = layer.forward(x)
    with refused("state.c", "masked"):
        layer(x, state._replace(c=hidden(state.c)))
    with refused("dstate.h", "masked"):
        layer.backward(cache, y, state._replace(h=hidden(state.h)))
    with refused("lengths", "masked"):
        layer(x, lengths=hidden(np.array([5, 2])))
    with refused("lengths", "matrix"):
        layer(x, lengths=np.matrix([5, 2]))
    x = x[:1, :1]
    _, state = layer(x)
    layer(x, state), layer(x, state), layer(x, state)  # by the short way
    for wrong in (hidden(x), np.ma.array(x)):
        with refused("x", "masked"):
            layer(wrong, state)
    with refused("state.h", "masked"):
        layer(x, state._replace(h=np.ma.array(state.h)))


@pytest.mark.parametrize("kind", REFUSED)
def test_params_refuse_them(kind: str) -> None:
    wrong, _ = REFUSED[kind]
    for layer, name, x in (
        (rr.Linear(2, 3, seed=0), "weight", np.ones((4, 2), "float32")),
        (rr.Embedding(2, 3, seed=0), "weight", np.ones(4, int)),
        (rr.LSTM(2, 3, seed=0), "weight_hh_l0", np.ones((1, 1, 2), "float32")),
        (rr.DiagonalLSTM(2, 3, seed=0), "w", np.ones((1, 5, 2), "float32")),
    ):
        layer(x), layer(x), layer(x)
        given = wrong(layer.params[name])
        with refused(f"the param '{name}'", kind):
            layer.load_state_dict(layer.state_dict() | {name: given})
        layer.params[name] = given
        for call in (layer, layer.forward):
            with refused(f"the param '{name}'", kind):
                call(x)
        with refused(f"the param '{name}'", kind):
            layer.state_dict()


@pytest.mark.parametrize("kind", REFUSED)
def test_linear_and_layer_norm_refuse_them(kind: str) -> None:
    """They take two axes, as a matrix has."""
    wrong, _ = REFUSED[kind]
    x = np.random.default_rng(0).standard_normal((3, 2)).astype("float32")
    for layer in (rr.Linear(2, 2, seed=0), rr.LayerNorm(2), rr.Activation("sigmoid"), rr.Dropout()):
        with refused("x", kind):
            layer(wrong(x))
        y, _, cache = layer.forward(x)
        with refused("dy", kind):
            layer.backward(cache, wrong(y))


@pytest.mark.parametrize("engine", here("numpy", "native", "reference"))
@pytest.mark.parametrize("case", CASES, ids=str)
def test_layers_view_subclasses(case: Case, engine: str) -> None:
    """With the same results, all of them plain arrays."""
    given, backend = problem(case), obtain(engine)
    layer = layer_for(case, given, backend)
    expected = results(layer, given)
    for name, value in layer.params.items():
        layer.params[name] = value.view(Tagged)
    found = results(layer, give(layer, given, form=lambda a: a.view(Tagged)))
    assert_all_same(found, expected)
    assert all(type(value) is np.ndarray for value in found.values())
    assert all(type(value) is np.ndarray for value in layer.state_dict().values())
    assert all(type(value) is np.ndarray for value in layer.astype("float32").params.values())


def test_a_single_step_views_subclasses() -> None:
    layer, x, _ = recurrent()
    x = x[:1, :1]
    _, state = layer(x)
    _, state = layer(x, state)
    expected = layer(x, state)
    found = layer(x.view(Tagged), rr.State(*(a.view(Tagged) for a in state)))
    assert type(found[0]) is type(found[1].h) is np.ndarray
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


# Losses, optimizers ---------------------------------------------------------------------------------------------------

P = np.array([[0.25, 0.75], [0.5, 0.5]])
CLASSES = np.array([1, 0])
LOSSES: dict[str, Any] = {
    "mse": (rr.losses.mse, P[::-1].copy()),
    "mae": (rr.losses.mae, P[::-1].copy()),
    "huber": (rr.losses.huber, P[::-1].copy()),
    "binary_cross_entropy": (rr.losses.binary_cross_entropy, P[::-1].copy()),
    "cross_entropy": (rr.losses.cross_entropy, CLASSES),
    "cross_entropy of probabilities": (rr.losses.cross_entropy, P[::-1].copy()),
    "nll": (rr.losses.nll, CLASSES),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_refuse_them(loss: str, kind: str) -> None:
    function, target = LOSSES[loss]
    wrong, _ = REFUSED[kind]
    mask = np.ones(target.shape[: 1 if loss.startswith(("cross", "nll")) else 2], bool)
    with refused("prediction", kind):
        function(wrong(P), target)
    with refused("target", kind):
        function(P, wrong(target))
    with refused("mask", kind):
        function(P, target, mask=wrong(mask))


@pytest.mark.parametrize("reduction", rr.losses.REDUCTIONS)
@pytest.mark.parametrize("loss", LOSSES)
def test_losses_view_subclasses(loss: str, reduction: Any) -> None:
    function, target = LOSSES[loss]
    found = function(P.view(Tagged), target.view(Tagged), reduction)
    assert [type(part) for part in found] == [np.ndarray, np.ndarray]
    for part, expected in zip(found, function(P, target, reduction), strict=True):
        np.testing.assert_array_equal(part, expected)


def optimizers() -> Iterator[Callable[..., Any]]:
    for name in ("SGD", "Adam", "AdamW", "NAdam", "RMSprop", "Adagrad", "Adadelta"):
        yield getattr(rr.optim, name)
    yield lambda params, lr: rr.optim.SGD(params, lr, momentum=0.9, weight_decay=0.1)


@pytest.mark.parametrize("make", [*optimizers()])
def test_optimizers(make: Any) -> None:
    for kind, (wrong, _) in REFUSED.items():
        with refused("the param 'w'", kind):
            make({"w": wrong(P)}, lr=0.1)
        params = {"w": P.copy()}
        optimizer = make(params, lr=0.1)
        with refused("the gradient of 'w'", kind):
            optimizer.step({"w": wrong(P)})
        params["w"] = wrong(P)
        with refused("the param 'w'", kind):
            optimizer.step({"w": P})
        assert optimizer.step_count == 0
    stepped = []
    for form in (lambda a: a, lambda a: a.view(Tagged)):
        params = {"w": form(P.copy())}
        optimizer = make(params, lr=0.1)
        for _ in range(3):
            optimizer.step({"w": form(P)})
        assert type(params["w"]) is np.ndarray
        stepped.append(params | {key: value for key, value in optimizer.state_dict().items() if key != "settings"})
    assert_all_same(*stepped)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_else_takes_gradients(kind: str) -> None:
    wrong, _ = REFUSED[kind]
    with refused("the gradient of 'w'", kind):
        rr.optim.clip_grad_norm({"w": wrong(P)}, 1.0)
    with refused("the gradient of 'w'", kind):
        rr.optim.LossScaler().unscaled({"w": wrong(P)})
    with refused("dy", kind):
        rr.optim.LossScaler().scaled(wrong(P))
    assert type(rr.optim.clip_grad_norm({"w": P.view(Tagged)}, 0.1)[0]["w"]) is np.ndarray
    unscaled = rr.optim.LossScaler().unscaled({"w": P.view(Tagged)})
    assert unscaled is not None
    assert type(unscaled["w"]) is type(rr.optim.LossScaler().scaled(P.view(Tagged))) is np.ndarray
    optimizer = rr.optim.Adam({"w": P.copy()})
    with refused("'first_moment.w'", kind):
        optimizer.load_state_dict(optimizer.state_dict() | {"first_moment.w": wrong(P)})


# Backends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", REFUSED)
def test_asarray_refuses_them(kind: str, backend: Backend) -> None:
    with refused("x", kind):
        backend.asarray(REFUSED[kind][0](P))
    with refused("x", kind):
        backend.asarray(REFUSED[kind][0](P), "float32")


def test_asarray_views_subclasses(backend: Backend) -> None:
    found = backend.asarray(P.copy().view(Tagged))
    assert type(found) is type(backend.asarray([1.0]))
    np.testing.assert_array_equal(backend.to_numpy(found), P)


@pytest.mark.parametrize(
    "wrong",
    [
        "text",
        ["a", "b"],
        b"text",
        None,
        [None, 1.0],
        object(),
        {"a": 1},
        {1, 2},
        [[1.0], [1.0, 2.0]],
        10**30,
        [10**400],
        np.array([1], dtype=object),
        np.array(["2026-01-01"], dtype="datetime64[D]"),
        np.zeros(2, dtype=[("a", "f4")]),
        np.zeros(2, dtype="timedelta64[s]"),
        range,
    ],
    ids=lambda value: str(value)[:20],
)
@pytest.mark.parametrize("dtype", [None, "float32"])
def test_asarray_refuses_what_is_not_numbers(wrong: Any, dtype: Any, backend: Backend) -> None:
    with pytest.raises(TypeError, match=r"^x must be (numbers|an array, or numbers in nested sequences)"):
        backend.asarray(wrong, dtype)


@pytest.mark.parametrize("dtype", ["zeros", "pi", "float", "asarray", "__name__", "float128", "f4", ""])
def test_asarray_refuses_what_is_no_dtype(dtype: str, backend: Backend) -> None:
    with pytest.raises(ValueError, match="dtype must be a name of the array API's, such as 'float32'"):
        backend.asarray([1.0], dtype)


def test_tensors_of_other_kinds() -> None:
    torch = need("torch")
    backend = rr.get_backend(torch)
    layer = rr.Linear(2, 3, backend=backend, seed=0)
    x = torch.ones((4, 2))
    expected, _ = layer(x)
    layer.params = {name: torch.nn.Parameter(value) for name, value in layer.params.items()}
    for given in (x, torch.nn.Parameter(x)):
        y, _, cache = layer.forward(given)
        assert type(y) is torch.Tensor
        assert torch.equal(y, expected)
        dx, _, grads = layer.backward(cache, y)
        assert {type(a) for a in (dx, *grads.values())} == {torch.Tensor}
    assert type(rr.Dropout(backend=backend)(torch.nn.Parameter(x))[0]) is torch.Tensor
    assert type(backend.asarray(torch.nn.Parameter(x))) is torch.Tensor
    y, _ = layer(torch.nn.Parameter(x))
    assert y.requires_grad  # torch's own gradients still go through it
    with pytest.raises(TypeError, match=r"x must be a dense tensor, not one of the layout torch.sparse_coo"):
        layer(x.to_sparse())
    with pytest.raises(TypeError, match=r"x must be a dense tensor, not one of the layout torch.sparse_coo"):
        rr.get_backend("numpy").asarray(x.to_sparse())
    masked = need("torch.masked")
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        hidden = masked.masked_tensor(x, x > 0)
    for call in (layer, backend.asarray, rr.get_backend("numpy").asarray):
        with pytest.raises(TypeError, match=r"x must be a plain array, not a torch\.MaskedTensor"):
            call(hidden)


def test_arrays_of_numbers_are_taken_as_before(backend: Backend) -> None:
    for value in (3, 2.5, True, [1, 2], (1.0, 2.0), [[1.0], [2.0]], np.float32(2), np.arange(3), [np.ones(2)] * 2):
        np.testing.assert_array_equal(backend.to_numpy(backend.asarray(value)), np.asarray(value))
        assert host(backend, {"a": backend.asarray(value, "float32")})["a"].dtype == np.float32


# State dicts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", [name for name in here() if name != "jax"], indirect=True)  # it compiles each shape
@pytest.mark.parametrize("case", CASES, ids=str)
def test_state_dicts_are_in_c_order(case: Case, backend: Backend) -> None:
    """And copies, however the params lie: safetensors writes an array's memory as if it were in C order."""
    layer = layer_for(case, problem(case), backend)
    expected = layer.state_dict()
    for name, value in expected.items():
        lying = np.asfortranarray(value)
        layer.params[name] = lying if isinstance(layer.params[name], np.ndarray) else backend.asarray(lying, "float64")
        if backend.name == "torch" and value.ndim == 2:
            layer.params[name] = backend.asarray(value.T.copy(), "float64").T
    found = layer.state_dict()
    assert_all_same(found, expected)
    for name, value in found.items():
        assert type(value) is np.ndarray
        assert value.flags.c_contiguous, name
        assert value.flags.owndata, name
        assert value.flags.writeable, name
        assert not np.shares_memory(value, layer.params[name]) if isinstance(layer.params[name], np.ndarray) else True


def test_arrays_to_the_host_are_in_c_order(backend: Backend) -> None:
    a = np.arange(6.0).reshape(2, 3)
    for value in (a, a.T, np.asfortranarray(a), a[:, ::-1], a[::-1].T, a[:, :1], np.float64(2)):
        found = backend.to_numpy(
            backend.xp.permute_dims(backend.asarray(np.asarray(value).T), tuple(range(np.ndim(value))[::-1]))
        )
        np.testing.assert_array_equal(found, value)
        assert found.flags.c_contiguous
        assert found.flags.owndata
