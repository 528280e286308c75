"""Losses with more than a number or a class to each element: quantiles, variances, whole series; and what is left out.

Values are compared with formulas written anew, gradients with finite differences or PyTorch's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray.backend import Backend
from recurray.losses import binary_cross_entropy, cross_entropy, nll

RNG = np.random.default_rng(7)
SHAPE = (3, 7, 2)  # batch, time, features
PREDICTION, TARGET = RNG.standard_normal(SHAPE), 2.0 + RNG.standard_normal(SHAPE)
MASK = RNG.random(SHAPE) < 0.7
MASK[:, :2] = True
STEPS = MASK[..., 0]
WHOLE = np.ones(SHAPE, bool)
LEVELS = (0.1, 0.5, 0.8)


def per_series(formula: Callable[[Any, Any], float], per_row: bool = True) -> Callable[..., np.ndarray]:
    """The formula of each row and feature, on what counts of it, or of all."""

    def losses(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not per_row:
            return np.array(formula(x[mask], y[mask]))
        pairs = [(row, feature) for row in range(len(x)) for feature in range(x.shape[2])]
        values = [formula(x[i, mask[i, :, j], j], y[i, mask[i, :, j], j]) for i, j in pairs]
        return np.array(values).reshape(len(x), x.shape[2])

    return losses


def nse(x: Any, y: Any) -> float:
    return float(np.sum((x - y) ** 2) / np.sum((y - y.mean()) ** 2))


def kge(x: Any, y: Any) -> float:
    return math.dist((np.corrcoef(x, y)[0, 1], x.std() / y.std(), x.mean() / y.mean()), (1, 1, 1))


def kge_2012(x: Any, y: Any) -> float:
    variation = (x.std() / x.mean()) / (y.std() / y.mean())
    return math.dist((np.corrcoef(x, y)[0, 1], variation, x.mean() / y.mean()), (1, 1, 1))


def esr(x: Any, y: Any, share: float = 0.85, dc: bool = False) -> float:
    e, s = (np.convolve(a, [1, -share])[: len(a)] for a in (x - y, y))
    ratio = np.sum(e**2) / (np.sum(s**2) + 1e-8)
    return float(ratio + (np.mean(x - y) ** 2 / (np.mean(y**2) + 1e-8) if dc else 0.0))


def nse_star(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
    of_rows = (mask * (x - y) ** 2).sum(axis=1) / mask.sum(axis=1)
    return of_rows / (np.array([[1.0, 2.0], [0.5, 3.0], [4.0, 1.5]]) + 0.1) ** 2


DEVIATION = {"deviation": np.array([[1.0, 2.0], [0.5, 3.0], [4.0, 1.5]])}
SERIES: dict[str, tuple[Any, dict[str, Any], Callable[..., np.ndarray]]] = {
    "nse": (rr.losses.nse, {}, per_series(nse)),
    "nse of all": (rr.losses.nse, {"per_row": False}, per_series(nse, False)),
    "nse of deviations": (rr.losses.nse, DEVIATION, nse_star),
    "kge": (rr.losses.kge, {}, per_series(kge)),
    "kge of all": (rr.losses.kge, {"per_row": False}, per_series(kge, False)),
    "kge of 2012": (rr.losses.kge, {"method": "2012"}, per_series(kge_2012)),
    "kge of 2012 of all": (rr.losses.kge, {"method": "2012", "per_row": False}, per_series(kge_2012, False)),
    "esr": (rr.losses.esr, {}, per_series(esr)),
    "esr of all": (
        rr.losses.esr,
        {"per_row": False, "pre_emphasis": 0.0},
        per_series(lambda x, y: esr(x, y, 0), False),
    ),
    "esr and dc": (rr.losses.esr, {"dc": True, "pre_emphasis": 0.95}, per_series(lambda x, y: esr(x, y, 0.95, True))),
}


def differences(value: Callable[[np.ndarray], Any], x: np.ndarray, step: float = 1e-6) -> np.ndarray:
    found = np.empty_like(x)
    for place in np.ndindex(x.shape):
        there, here = x.copy(), x.copy()
        there[place] += step
        here[place] -= step
        found[place] = np.sum(value(there) - value(here)) / (2 * step)
    return found


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("kind", ["whole", "elements", "steps", "lengths"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_a_series(name: str, kind: str, reduction: Any) -> None:
    loss, options, formula = SERIES[name]
    lengths = rr.lengths_to_mask([7, 3, 5])
    mask = {"whole": None, "elements": MASK, "steps": STEPS, "lengths": lengths}[kind]
    counts = WHOLE if mask is None else np.broadcast_to(mask if mask.ndim == 3 else mask[..., None], SHAPE)
    if "esr" in name and kind in ("elements", "steps"):
        counts = np.array(counts)
        formula = silent(loss, options)
    wanted = formula(PREDICTION, TARGET, counts)
    x, y = np.where(counts, PREDICTION, np.nan), np.where(counts, TARGET, np.nan)
    value, gradient = loss(x, y, reduction, mask=mask, **options)
    wanted = wanted if reduction == "none" else getattr(wanted, reduction)()
    np.testing.assert_allclose(value, wanted, rtol=1e-12)
    assert value.shape == wanted.shape
    slopes = differences(lambda x: loss(x, TARGET, reduction, mask=mask, **options)[0], PREDICTION)
    np.testing.assert_allclose(gradient, slopes, rtol=1e-6, atol=1e-8)
    assert np.all((gradient != 0) == counts)


def silent(loss: Any, options: dict[str, Any]) -> Callable[..., np.ndarray]:
    """ESR where what doesn't count is silence to the filter, and isn't in the sums."""
    share, dc = options.get("pre_emphasis", 0.85), options.get("dc", False)

    def one(x: Any, y: Any, mask: Any) -> float:
        e, s = np.where(mask, x - y, 0.0), np.where(mask, y, 0.0)
        heard, signal = (np.convolve(a, [1, -share])[: len(a)][mask] for a in (e, s))
        ratio = np.sum(heard**2) / (np.sum(signal**2) + 1e-8)
        return float(ratio + (np.mean(e[mask]) ** 2 / (np.mean(s[mask] ** 2) + 1e-8) if dc else 0.0))

    def losses(x: np.ndarray, y: np.ndarray, mask: np.ndarray) -> np.ndarray:
        if not options.get("per_row", True):
            return np.array(one(x.ravel(), y.ravel(), mask.ravel()))
        return np.array([[one(x[i, :, j], y[i, :, j], mask[i, :, j]) for j in range(2)] for i in range(3)])

    return losses


@pytest.mark.parametrize("name", SERIES)
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_series_on_every_backend(name: str, reduction: Any, dtype: str, backend: Backend) -> None:
    loss, options, _ = SERIES[name]
    wanted = loss(PREDICTION, TARGET, reduction, mask=STEPS, **options)
    given = {key: backend.asarray(v, dtype) if isinstance(v, np.ndarray) else v for key, v in options.items()}
    found = loss(
        *(backend.asarray(a, dtype) for a in (PREDICTION, TARGET)), reduction, mask=backend.asarray(STEPS), **given
    )
    for got, want in zip(found, wanted, strict=True):
        assert backend.owns(got)
        assert backend.on_device(got)
        assert str(got.dtype).endswith(dtype)
        np.testing.assert_allclose(backend.to_numpy(got), want, rtol=1e-4 if dtype == "float32" else 1e-11, atol=1e-6)


@pytest.mark.parametrize("loss", [rr.losses.nse, rr.losses.kge, rr.losses.esr])
@pytest.mark.parametrize("shape", [(2, 6), (6,)])
def test_series_without_features(loss: Any, shape: tuple[int, ...]) -> None:
    x, y = RNG.standard_normal(shape), 1 + RNG.standard_normal(shape)
    value, gradient = loss(x, y, "none")
    assert value.shape == shape[:-1]
    for row in np.ndindex(shape[:-1]):
        alone, slope = loss(x[row][None], y[row][None])
        np.testing.assert_allclose(value[row], alone, rtol=1e-13)
        np.testing.assert_allclose(gradient[row], slope[0], rtol=1e-12)


@pytest.mark.parametrize("loss", [rr.losses.nse, rr.losses.kge, rr.losses.esr])
def test_rows_that_do_not_count(loss: Any) -> None:
    mask = np.ones((3, 7), bool)
    mask[1] = False
    value, gradient = loss(PREDICTION, TARGET, mask=mask)
    np.testing.assert_allclose(value, loss(PREDICTION[::2], TARGET[::2])[0], rtol=1e-13)
    assert np.all(gradient[1] == 0)
    assert loss(PREDICTION, TARGET, mask=np.zeros((3, 7), bool))[0] == 0
    for shape in ((0, 7, 2), (3, 0, 2), (3, 7, 0), (0,)):
        value, gradient = loss(np.ones(shape), np.ones(shape))
        assert value == 0
        assert gradient.shape == shape


@pytest.mark.parametrize("loss", [rr.losses.nse, rr.losses.kge])
def test_constant_observations(loss: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    y = TARGET.copy()
    y[1, :, 1] = 0.1
    with pytest.raises(ValueError, match=r"target of row 1 must have two different values .*mask="):
        loss(PREDICTION, y)
    with pytest.raises(ValueError, match="target must have two different values"):
        loss(PREDICTION, np.full(SHAPE, 0.1), per_row=False)
    assert np.isfinite(rr.losses.nse(PREDICTION, y, **DEVIATION)[0])
    monkeypatch.setattr("recurray.losses.series.on_host", lambda array: False)
    value, gradient = loss(PREDICTION, y, "none")
    assert np.isnan(value).tolist() == [[False, False], [False, True], [False, False]]
    assert np.isnan(gradient).any(axis=1).tolist() == np.isnan(value).tolist()


@pytest.mark.parametrize("dc", [False, True])
def test_esr_is_auralosses(dc: bool) -> None:
    """Its FIRFilter, whose taps run backwards, isn't the papers' filter: ratios of what isn't filtered."""
    torch, auraloss = need("torch"), need("auraloss")
    x, y = (a.transpose(0, 2, 1).reshape(-1, 1, SHAPE[1]) for a in (PREDICTION, TARGET))
    theirs = torch.tensor(x, requires_grad=True)
    ratios = [auraloss.time.ESRLoss(), *([auraloss.time.DCLoss()] if dc else [])]
    expected = sum(ratio(theirs, torch.tensor(y)) for ratio in ratios)
    expected.backward()
    value, gradient = rr.losses.esr(x[:, 0], y[:, 0], pre_emphasis=0.0, dc=dc)
    np.testing.assert_allclose(value, expected.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient, theirs.grad.numpy()[:, 0], rtol=1e-10)


def test_a_mean_of_0_has_no_kge(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = np.array([[1.0, 2.0, 4.0]] * 2), np.array([[1.0, 2.0, 3.0], [-1.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="target of row 1 must not have the mean 0"):
        rr.losses.kge(x, y)
    monkeypatch.setattr("recurray.losses.series.on_host", lambda array: False)
    assert np.isnan(rr.losses.kge(x, y, "none")[0]).tolist() == [False, True]


def test_kge_of_equal_predictions_and_of_right_ones() -> None:
    y = np.array([[1.0, 2.0, 3.0]])
    value, gradient = rr.losses.kge(np.full((1, 3), 0.1), y)
    np.testing.assert_allclose(value, math.sqrt(1 + 1 + 0.95**2))
    np.testing.assert_allclose(gradient, np.full((1, 3), -0.95 / 2 / 3 / value))
    for method in ("2009", "2012"):
        value, gradient = rr.losses.kge(y, y, method=method)
        assert value < 1e-15
        assert np.isfinite(gradient).all()


def test_kge_of_2012_of_equal_predictions_and_of_those_around_0() -> None:
    y = np.array([[1.0, 2.0, 3.0]])
    value, gradient = rr.losses.kge(np.full((1, 3), 0.1), y, method="2012")
    np.testing.assert_allclose(value, math.sqrt(1 + 1 + 0.95**2))
    np.testing.assert_allclose(gradient, np.full((1, 3), -0.95 / 2 / 3 / value))
    value, gradient = rr.losses.kge(np.array([[-1.0, 0.0, 1.0]]), y, method="2012")  # r is 1
    np.testing.assert_allclose(value, math.sqrt(1 + 1))
    assert np.isfinite(gradient).all()
    value, gradient = rr.losses.kge(np.zeros((1, 3)), y, method="2012")
    np.testing.assert_allclose(value, math.sqrt(3))
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("mask", [None, STEPS, MASK])
def test_several_quantiles(reduction: Any, mask: Any, backend: Backend) -> None:
    x = RNG.standard_normal((*SHAPE, 3))
    counts = (
        np.ones(x.shape)
        if mask is None
        else np.broadcast_to(mask.reshape(*mask.shape, *[1] * (4 - mask.ndim)), x.shape)
    )
    error = TARGET[..., None] - x
    wanted = np.maximum(np.array(LEVELS) * error, (np.array(LEVELS) - 1) * error) * counts
    slope = np.where(error > 0, -np.array(LEVELS), 1 - np.array(LEVELS)) * counts
    if reduction != "none":
        wanted = wanted.sum() / (counts.sum() if reduction == "mean" else 1)
    value, gradient = rr.losses.quantile(
        *(backend.asarray(a, "float64") for a in (x, TARGET)),
        reduction,
        quantiles=LEVELS,
        mask=None if mask is None else backend.asarray(mask),
    )
    np.testing.assert_allclose(backend.to_numpy(value), wanted, rtol=1e-12)
    slope = slope / counts.sum() if reduction == "mean" else slope
    np.testing.assert_allclose(backend.to_numpy(gradient), slope, rtol=1e-12)


def test_the_least_pinball_loss_is_at_the_quantile() -> None:
    y = RNG.standard_normal(1001)
    for level in (0.1, 0.5, 0.93):
        found = [rr.losses.quantile(np.full(1001, x), y, quantiles=level)[0] for x in np.sort(y)]
        assert np.argmin(found) == round(1000 * level)


class TestGaussian:
    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("full", [False, True])
    @pytest.mark.parametrize("log_variance", [False, True])
    def test_against_pytorch(self, log_variance: bool, full: bool, reduction: Any) -> None:
        torch = need("torch")
        mean, log = torch.tensor(PREDICTION, requires_grad=True), torch.tensor(2 * TARGET - 8, requires_grad=True)
        with torch.no_grad():
            log[0, 0, 0] = -20.0
        given, variance = (log, None) if log_variance else (torch.exp(log.detach()).requires_grad_(), None)
        at = given + (given.clamp(min=math.log(1e-6)) - given).detach() if log_variance else given
        variance = torch.exp(at) if log_variance else at
        goal = torch.tensor(TARGET)
        wanted = torch.nn.functional.gaussian_nll_loss(mean, goal, variance, full=full, reduction=reduction)
        wanted.sum().backward()
        prediction = np.concatenate([PREDICTION, given.detach().numpy()], axis=-1)
        value, gradient = rr.losses.gaussian_nll(prediction, TARGET, reduction, log_variance=log_variance, full=full)
        np.testing.assert_allclose(value, wanted.detach().numpy(), rtol=1e-9)
        slopes = np.concatenate([mean.grad.numpy(), given.grad.numpy()], axis=-1)
        np.testing.assert_allclose(gradient, slopes, rtol=1e-8, atol=1e-12)

    @pytest.mark.parametrize("log_variance", [False, True])
    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_masked_on_every_backend(self, log_variance: bool, reduction: Any, backend: Backend) -> None:
        spread = RNG.random(SHAPE) + 0.1
        prediction = np.concatenate([PREDICTION, spread], axis=-1)
        counts = STEPS[..., None] & np.ones(2, bool)
        logs = spread if log_variance else np.log(spread)
        wanted = 0.5 * (logs + (PREDICTION - TARGET) ** 2 * np.exp(-logs)) * counts
        wanted = wanted.sum() / counts.sum() if reduction == "mean" else wanted
        prediction[~STEPS] = -np.inf
        value, gradient = rr.losses.gaussian_nll(
            backend.asarray(prediction),
            backend.asarray(np.where(counts, TARGET, np.nan)),
            reduction,
            log_variance=log_variance,
            mask=backend.asarray(STEPS),
        )
        np.testing.assert_allclose(backend.to_numpy(value), wanted, rtol=1e-12)
        found = backend.to_numpy(gradient)
        assert np.all(found[~STEPS] == 0)

        def alone(x: np.ndarray) -> Any:
            return rr.losses.gaussian_nll(x, TARGET, reduction, log_variance=log_variance, mask=STEPS)[0]

        prediction[~STEPS] = 1.0
        np.testing.assert_allclose(found, differences(alone, prediction), rtol=1e-5, atol=1e-8)

    def test_extremes(self) -> None:
        with np.errstate(all="raise"):
            value, gradient = rr.losses.gaussian_nll(
                np.array([[0.0, 500.0], [0.0, -500.0]], "float32"), np.ones((2, 1), "float32"), "none"
            )
        assert np.isfinite(value).all()
        assert np.isfinite(gradient).all()
        assert gradient[1, 1] < 0  # such a variance grows


@pytest.mark.parametrize("loss", [rr.losses.cross_entropy, rr.losses.nll])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("ignored", [-100, 2, 255])
def test_ignore_index_is_pytorchs(loss: Any, weighted: bool, ignored: int, backend: Backend) -> None:
    torch = need("torch")
    logits = RNG.standard_normal((5, 6, 4))
    classes = RNG.integers(0, 4, (5, 6))
    classes[0, :3] = classes[2, 1] = ignored
    weights = [0.5, 2.0, 0.3, 1.0] if weighted else None
    function = torch.nn.functional.cross_entropy if loss is rr.losses.cross_entropy else torch.nn.functional.nll_loss
    weight = None if weights is None else torch.asarray(weights, dtype=torch.float64)
    for mask in (None, RNG.random((5, 6)) < 0.6):
        leaf = torch.tensor(logits, requires_grad=True)
        counted = classes if mask is None else np.where(mask, classes, ignored)
        wanted = function(leaf.reshape(-1, 4), torch.tensor(counted).reshape(-1), weight, ignore_index=ignored)
        wanted.backward()
        value, gradient = loss(
            backend.asarray(logits),
            backend.asarray(classes),
            class_weights=weights,
            ignore_index=ignored,
            mask=None if mask is None else backend.asarray(mask),
        )
        np.testing.assert_allclose(backend.to_numpy(value), wanted.item(), rtol=1e-12)
        np.testing.assert_allclose(backend.to_numpy(gradient), leaf.grad.numpy(), rtol=1e-12, atol=1e-15)


def test_ignore_index_that_the_classes_dtype_cannot_hold() -> None:
    logits, classes = np.zeros((2, 3)), np.array([0, 2], "uint8")
    np.testing.assert_allclose(cross_entropy(logits, classes, ignore_index=-100)[0], math.log(3))


def test_a_class_of_weight_0_may_be_ruled_out() -> None:
    logits = np.array([[0.0, -np.inf, 0.0], [0.0, 0.0, 0.0]])
    value, gradient = cross_entropy(logits, np.array([1, 0]), class_weights=[1.0, 0.0, 1.0])
    np.testing.assert_allclose(value, math.log(3))
    assert np.all(gradient[0] == 0)
    value, _ = nll(logits, np.array([1, 0]), class_weights=[0.0, 0.0, 1.0])
    assert value == 0


def test_positive_weights_of_features() -> None:
    torch = need("torch")
    logits, target = RNG.standard_normal((4, 3)), (RNG.random((4, 3)) < 0.4).astype(float)
    weights = np.array([3.0, 0.5, 0.0])
    leaf = torch.tensor(logits, requires_grad=True)
    wanted = torch.nn.functional.binary_cross_entropy_with_logits(
        leaf, torch.tensor(target), pos_weight=torch.tensor(weights)
    )
    wanted.backward()
    for given in (weights, weights.tolist()):
        value, gradient = binary_cross_entropy(logits, target, from_logits=True, positive_weight=given)
        np.testing.assert_allclose(value, wanted.item(), rtol=1e-12)
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-12)
    p = 1 / (1 + np.exp(-logits))
    value, gradient = binary_cross_entropy(p, target, positive_weight=weights)
    np.testing.assert_allclose(value, wanted.item(), rtol=1e-12)
    np.testing.assert_allclose(gradient * p * (1 - p), leaf.grad.numpy(), rtol=1e-9)


ONES = np.ones((2, 3))
CLASSES = np.ones(2, np.int64)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: rr.losses.quantile(ONES, ONES, quantiles=1.0), ValueError, "quantiles must be above 0 and below 1"),
        (lambda: rr.losses.quantile(ONES, ONES, quantiles="0.5"), TypeError, "quantiles must be a number or several"),
        (
            lambda: rr.losses.quantile(ONES, ONES, quantiles=np.array(0.5)),
            TypeError,
            "quantiles must be a number or several",
        ),
        (lambda: rr.losses.quantile(ONES, ONES[:, 0], quantiles=(0.1, 0, 0.9)), ValueError, r"quantiles\[1\] must be"),
        (lambda: rr.losses.quantile(ONES, ONES[:, 0], quantiles=(0.1, 0.9)), ValueError, r"the 2 quantiles on"),
        (lambda: rr.losses.quantile(ONES, ONES, quantiles=(0.1, 0.5, 0.9)), ValueError, r"target .*shape \(2,\), not"),
        (lambda: rr.losses.gaussian_nll(ONES, ONES), ValueError, r"twice the target's .*\(2, 6\).*not \(2, 3\)"),
        (lambda: rr.losses.gaussian_nll(-np.ones((2, 6)), ONES, log_variance=False), ValueError, "none negative"),
        (lambda: rr.losses.gaussian_nll(np.ones((2, 6)), ONES, eps=0.0), ValueError, "eps must be above 0"),
        (lambda: rr.losses.nse(np.ones(()), np.ones(())), ValueError, r"shape \(batch, time, ...\)"),
        (lambda: rr.losses.nse(ONES, ONES, per_row=1), TypeError, "per_row must be True or False"),
        (lambda: rr.losses.nse(ONES, ONES, per_row=False, deviation=[1.0]), ValueError, "deviation must be None"),
        (lambda: rr.losses.nse(ONES, ONES, deviation=[1.0]), ValueError, r"deviation .*shape \(2,\), not \(1,\)"),
        (lambda: rr.losses.nse(ONES, ONES, deviation=[1.0, 1.0], eps=-1), ValueError, "eps must be at least 0"),
        (lambda: rr.losses.kge(ONES, ONES, method=2012), ValueError, "method must be one of '2009', '2012', not 2012"),
        (lambda: rr.losses.esr(ONES, ONES, pre_emphasis=1.5), ValueError, "pre_emphasis must be from 0 to 1"),
        (lambda: rr.losses.esr(ONES, ONES, eps=0), ValueError, "eps must be above 0"),
        (lambda: rr.losses.esr(ONES, ONES, dc="yes"), TypeError, "dc must be True or False"),
        (lambda: cross_entropy(ONES, CLASSES, label_smoothing=1.5), ValueError, "label_smoothing must be from"),
        (lambda: cross_entropy(ONES, CLASSES, class_weights=[1.0]), ValueError, r"class_weights .*\(3,\), not"),
        (lambda: cross_entropy(ONES, CLASSES, class_weights=-ONES[0]), ValueError, "finite and none negative"),
        (lambda: nll(ONES, CLASSES, class_weights=["a"] * 3), TypeError, r"class_weights\[0\] must be a number"),
        (lambda: nll(ONES, CLASSES, class_weights=1.0), TypeError, "class_weights must be an array of"),
        (lambda: nll(ONES, CLASSES, ignore_index=1.0), TypeError, "ignore_index must be an integer"),
        (lambda: cross_entropy(ONES, ONES, ignore_index=1), ValueError, "ignore_index is for .*mask="),
        (lambda: binary_cross_entropy(ONES, ONES, positive_weight=-1), ValueError, "positive_weight must be at"),
        (lambda: binary_cross_entropy(ONES, ONES, positive_weight=[1.0]), ValueError, r"positive_weight .*\(3,\)"),
    ],
)
def test_refusals(call: Callable[[], Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
