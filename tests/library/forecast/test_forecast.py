"""Forecasting: windows and splits by hand, baselines and scalers by scikit-learn's, quantiles, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import recurray as rr
from harness.needs import need
from recurray import saving, sealed
from recurray.forecast import Forecaster, Series, fitted, learning
from recurray.forecast.correction import Correction, regression
from recurray.forecast.ridge import ALPHAS, Ridge
from recurray.forecast.scaling import Scale
from recurray.forecast.windows import Batches, Scaled, Windows, naive, split

RNG = np.random.default_rng(0)
MONTHS = np.arange("2010-01", "2020-01", dtype="datetime64[M]")
SOLD = 50 + 20 * np.sin(np.arange(120) * np.pi / 6) + 0.3 * np.arange(120) + RNG.standard_normal(120)
PRICE = RNG.standard_normal(120)
PLAN = RNG.standard_normal(120)


def series(rows: int = 120) -> Series:
    data = {"month": MONTHS[:rows], "sold": SOLD[:rows], "price": PRICE[:rows], "plan": PLAN[:rows]}
    return Series.of(data, target="sold", past=["price"], known=["plan"])


def small(**options: Any) -> Forecaster:
    return Forecaster(4, **{"season": 12, "window": 14, "hidden_size": 6, "epochs": 2, "seed": 3, **options})


@pytest.mark.parametrize("relative_to", ["season", "last", "none"])
def test_windows_are_those_of_a_loop(relative_to: str) -> None:
    windows = Windows(window=5, horizon=4, season=3, relative_to=relative_to, spread=0.7, target_spread=1.3)
    target, past, known = RNG.standard_normal(20), RNG.standard_normal((20, 2)), RNG.standard_normal((20, 1))
    scaled = Scaled(target, past, known)
    origins = np.asarray([5, 9, 16])
    x, said = windows.inputs(scaled, origins), windows.targets(scaled, origins)
    assert x.shape == (3, 9, 5)
    for row, origin in enumerate(origins):
        level = 0.0 if relative_to == "none" else target[origin - 1]
        for k in range(9):
            t = origin - 5 + k
            ahead = t - origin
            lag = origin - 3 + ahead % 3  # the same place of the last season that is known
            base = {"season": target[lag], "last": target[origin - 1], "none": 0.0}[relative_to]
            value = target[t] if ahead < 0 else base
            columns = past[t] if ahead < 0 else [0, 0]
            np.testing.assert_allclose(x[row, k], [(value - level) / 0.7, *columns, known[t, 0], ahead >= 0])
            if ahead >= 0:
                np.testing.assert_allclose(said[row, ahead], (target[t] - base) / 1.3)
    back = windows.back(scaled, origins, said)
    np.testing.assert_allclose(back, [target[origin : origin + 4] for origin in origins])
    np.testing.assert_allclose(windows.back(scaled, origins, said[..., None])[..., 0], back)


def test_spreads_bring_windows_and_targets_to_a_mean_square_of_1() -> None:
    windows = Windows(5, 4, 3, "season")
    scaled = Scaled(RNG.standard_normal(40).cumsum(), np.zeros((40, 0)), np.zeros((40, 0)))
    origins = windows.origins(0, 40)
    fitted = Windows(5, 4, 3, "season", **windows.fitted(scaled.target, origins))
    np.testing.assert_allclose(np.mean(fitted.inputs(scaled, origins)[:, :5, 0] ** 2), 1)
    np.testing.assert_allclose(np.mean(fitted.targets(scaled, origins) ** 2), 1)


def test_a_split_keeps_the_order_of_time() -> None:
    windows = Windows(6, 4, None, "last")
    training, validation = split(windows, 0, 50, 0.2)
    assert windows.origins(0, 50).tolist() == list(range(6, 47))
    assert training[0] == 6
    assert validation[-1] + 4 == 50
    last_learned, first_watched = training[-1] + 3, validation[0]
    assert first_watched == last_learned + 1  # no step is forecast in both, and none between is left out
    assert split(windows, 0, 50, 0.0).training.tolist() == list(range(6, 47))
    assert not len(split(windows, 0, 50, 0.0).validation)


def test_batches_have_every_window_once() -> None:
    windows = Windows(5, 3, None, "last")
    scaled = Scaled(np.arange(30.0), np.zeros((30, 0)), np.zeros((30, 0)))
    batches = Batches(windows, scaled, windows.origins(0, 30), 4)
    shuffled = batches.shuffled(np.random.default_rng(0))
    assert len(list(shuffled)) == len(shuffled) == 6
    assert sorted(shuffled.origins) == list(batches.origins)
    assert list(shuffled.origins) != list(batches.origins)
    for batch in shuffled:
        np.testing.assert_array_equal(batch["target"][:, 5:], np.tile([1.0, 2.0, 3.0], (len(batch["x"]), 1)))
        np.testing.assert_array_equal(batch["target_mask"], np.arange(8)[None] >= np.full((len(batch["x"]), 1), 5))


def test_naive_forecasts() -> None:
    y = np.arange(20.0) ** 2
    np.testing.assert_array_equal(naive(y, np.asarray([7, 12]), 3), [[36] * 3, [121] * 3])
    # Of the last season before the origin, again and again.
    np.testing.assert_array_equal(naive(y, np.asarray([12]), 8, 3), [y[[9, 10, 11, 9, 10, 11, 9, 10]]])


@pytest.mark.parametrize("rows", [60, 9])
def test_ridge_is_scikit_learns(rows: int) -> None:
    linear_model = need("sklearn.linear_model")
    x, y, new = RNG.standard_normal((rows, 15)) + 2, RNG.standard_normal((rows, 3)), RNG.standard_normal((4, 15))
    ours, theirs = Ridge.fit(x, y, 0.7), linear_model.Ridge(alpha=0.7).fit(x, y)
    np.testing.assert_allclose(ours(new), theirs.predict(new), rtol=1e-8)


@pytest.mark.parametrize("size", [1e9, 1e15, 1e37])
def test_features_much_larger_than_alpha(size: float) -> None:
    """What is a line is found, though the features' gram matrix is singular to rounding."""
    steps = np.arange(60.0)
    lags = size * (steps[:, None] + np.arange(7))
    for rows in (60, 6):  # more than features, and fewer
        ridge = Ridge.fit(lags[:rows], steps[:rows, None], 1e-3)
        np.testing.assert_allclose(ridge(lags[10:20])[:, 0], steps[10:20], rtol=1e-4)


def test_ridge_chooses_its_alpha_on_held_out_rows() -> None:
    linear_model = need("sklearn.linear_model")
    x, y = RNG.standard_normal((20, 12)), RNG.standard_normal((20, 2))
    held, held_y = RNG.standard_normal((10, 12)), RNG.standard_normal((10, 2))
    errors = [np.abs(linear_model.Ridge(alpha=a).fit(x, y).predict(held) - held_y).mean() for a in ALPHAS]
    best = linear_model.Ridge(alpha=ALPHAS[int(np.argmin(errors))])
    early, whole = Ridge.chosen(x, y, held, held_y)
    np.testing.assert_allclose(early(held), best.fit(x, y).predict(held), rtol=1e-6)
    best.fit(np.concatenate([x, held]), np.concatenate([y, held_y]))
    np.testing.assert_allclose(whole(held), best.predict(held), rtol=1e-6)


@pytest.mark.parametrize("relative_to", ["season", "last", "none"])
def test_a_correction_is_of_what_ridge_leaves(relative_to: str) -> None:
    windows = Windows(5, 4, 3, relative_to, spread=0.7, target_spread=1.3)
    scaled = Scaled(RNG.standard_normal(60), RNG.standard_normal((60, 2)), RNG.standard_normal((60, 1)))
    parts = split(windows, 0, 60, 0.25)
    lines = regression(windows, scaled, parts)
    x, y = (function(scaled, np.concatenate(parts)) for function in (windows.inputs, windows.targets))
    learned, rows = len(parts.training), x.reshape(len(x), -1)
    for found, expected in zip(
        lines, Ridge.chosen(rows[:learned], y[:learned], rows[learned:], y[learned:]), strict=True
    ):
        np.testing.assert_array_equal(found.coef, expected.coef)
    correction = Correction.fitted(windows, lines[0], scaled, parts.training)
    left = y - lines[0](rows)
    np.testing.assert_allclose(correction.spread, np.sqrt((left[:learned] ** 2).mean()))
    origins = parts.validation
    said = correction.targets(scaled, origins)
    np.testing.assert_allclose(said, left[learned:] / correction.spread)
    came = scaled.target[origins[:, None] + np.arange(4)]
    np.testing.assert_allclose(correction.back(scaled, origins, said), came)
    np.testing.assert_allclose(correction.back(scaled, origins, said[..., None])[..., 0], came)
    shown = correction.inputs(scaled, origins)
    np.testing.assert_array_equal(shown[:, :5], x[learned:, :5])
    np.testing.assert_array_equal(shown[..., 1:], x[learned:, :, 1:])
    level = 0.0 if relative_to == "none" else scaled.target[origins - 1][:, None]
    line = windows.back(scaled, origins, lines[0](rows[learned:]))
    np.testing.assert_allclose(shown[:, 5:, 0], (line - level) / 0.7)


def test_a_network_that_has_learned_nothing_says_what_ridge_says() -> None:
    found = small(epochs=1, lr=1e-12, calibrate=False).backtest(series(), folds=3)
    np.testing.assert_allclose(found.forecasts["LSTM"], found.forecasts["Ridge"], rtol=1e-6)
    alone = small(epochs=1, lr=1e-12, ridge=False).backtest(series(), folds=3)
    np.testing.assert_allclose(alone.forecasts["LSTM"], alone.forecasts["seasonal naive"], rtol=1e-6)
    np.testing.assert_array_equal(alone.forecasts["Ridge"], found.forecasts["Ridge"])


@pytest.mark.parametrize("name", ["standard", "minmax", "maxabs", "robust"])
@pytest.mark.parametrize("log", [False, True])
def test_scales_are_scikit_learns(name: str, log: bool) -> None:
    preprocessing = need("sklearn.preprocessing")
    theirs = {
        "standard": preprocessing.StandardScaler(),
        "minmax": preprocessing.MinMaxScaler(),
        "maxabs": preprocessing.MaxAbsScaler(),
        "robust": preprocessing.RobustScaler(),
    }[name]
    values = RNG.uniform(1, 9, 40)
    expected = theirs.fit_transform((np.log(values) if log else values)[:, None])[:, 0]
    for scaler in (name, theirs):
        scale = Scale.of(scaler, values, log=log)
        np.testing.assert_allclose(scale.scaled(values), expected, atol=1e-12)
        np.testing.assert_allclose(scale.back(scale.scaled(values)), values)


def test_a_scaler_that_bends_is_refused() -> None:
    preprocessing = need("sklearn.preprocessing")
    with pytest.raises(ValueError, match="shift and scale"):
        Scale.of(preprocessing.PowerTransformer(), RNG.uniform(1, 9, 40))
    with pytest.raises(ValueError, match="scaler must be one of"):
        Forecaster(3, scaler="other")
    with pytest.raises(TypeError, match="scikit-learn"):
        Forecaster(3, scaler=preprocessing.MinMaxScaler)


def test_a_constant_column_is_scaled_too() -> None:
    assert Scale.of("standard", np.full(9, 3.0)) == Scale(3.0, 1.0)


def test_quantiles_of_noise_are_its_own() -> None:
    noise = RNG.standard_normal(600)
    forecaster = Forecaster(1, season=0, window=2, relative_to="none", hidden_size=2, epochs=12, validation=0.0)
    forecast = forecaster.fit(noise).predict(noise)
    np.testing.assert_allclose(forecast.values[0], [-1.2816, 0, 1.2816], atol=0.35)


def test_the_same_seed_gives_the_same_forecast_and_quantiles_never_cross() -> None:
    data, future = series(), {"plan": PLAN[:4]}
    first = small(quantiles=(0.9, 0.05, 0.45)).fit(data).predict(data, future)
    again = small(quantiles=(0.9, 0.05, 0.45)).fit(data).predict(data, future)
    assert first.levels == (0.05, 0.45, 0.5, 0.9)
    np.testing.assert_array_equal(first.values, again.values)
    assert (np.diff(first.values, axis=1) >= 0).all()
    assert (small(seed=4).fit(data).predict(data, future).values != first.values[:, [0, 2, 3]]).any()
    assert first.times is not None
    assert [str(time)[:7] for time in first.times] == ["2020-01", "2020-02", "2020-03", "2020-04"]


def test_quantiles_that_would_cross_are_sorted() -> None:
    model = learning.made("LSTM", 3, 4, 1, 0.0, 3, rr.get_backend("numpy"), 0)
    (bias,) = (name for name, value in model.params.items() if value.shape == (3,))
    model.params[bias] = np.asarray([3, 1, 2], "float32")
    said = learning.say(model, RNG.standard_normal((2, 5, 3)), 2)
    np.testing.assert_array_equal(said, np.broadcast_to([1, 2, 3], (2, 3, 3)))


def test_what_is_read() -> None:
    """The window's values and columns, what is known in advance, and nothing else."""
    forecaster = small().fit(series())
    base = forecaster.predict(series(), {"plan": np.zeros(4)}).median
    assert (forecaster.predict(series(), {"plan": np.ones(4)}).median != base).all()
    for column in ("sold", "price", "plan"):
        for row, read in ((120 - 15, False), (120 - 14, True)):
            changed = series()
            changed.columns[column][row] += 5
            moved = forecaster.predict(changed, {"plan": np.zeros(4)}).median
            assert (moved != base).any() == read, (column, row)


@pytest.mark.parametrize("refit", [False, True])
def test_the_back_test_is_one_by_hand(refit: bool) -> None:
    model_selection = need("sklearn.model_selection")
    data = series()
    found = small().backtest(data, folds=3, refit=refit)
    folds = list(model_selection.TimeSeriesSplit(n_splits=3, test_size=4).split(SOLD))
    assert [test[0] for _, test in folds] == found.origins.tolist()
    forecaster = small()
    for k, (train, test) in enumerate(folds):
        if refit or k == 0:
            forecaster.fit(series(len(train)))
        expected = forecaster.predict(series(len(train)), {"plan": PLAN[test]})
        np.testing.assert_array_equal(found.forecasts["LSTM"][k], expected.median)
        np.testing.assert_array_equal(found.quantiles[k], expected.values)
        np.testing.assert_array_equal(found.actual[k], SOLD[test])
        np.testing.assert_array_equal(found.forecasts["naive"][k], np.full(4, SOLD[train[-1]]))
        np.testing.assert_array_equal(found.forecasts["seasonal naive"][k], SOLD[test - 12])
    errors = found.forecasts["LSTM"] - found.actual
    row = next(row for row in found.rows if row["forecast"] == "LSTM")
    scale = np.abs(SOLD[12:108] - SOLD[:96]).mean()
    np.testing.assert_allclose(row["MAE"], np.abs(errors).mean())
    np.testing.assert_allclose(row["RMSE"], np.sqrt((errors**2).mean()))
    np.testing.assert_allclose(row["MASE"], np.abs(errors).mean() / scale)
    inside = (found.quantiles[..., 0] <= found.actual) & (found.actual <= found.quantiles[..., 2])
    np.testing.assert_allclose(found.coverage[80], inside.mean())
    assert [row["MAE"] for row in found.rows] == sorted(row["MAE"] for row in found.rows)


def test_the_back_tests_ridge_is_scikit_learns_on_lags() -> None:
    """A plain series relative to its last value: Ridge of the differences to that value."""
    linear_model = need("sklearn.linear_model")
    y = SOLD[:60]
    forecaster = Forecaster(2, window=5, season=0, hidden_size=2, epochs=1, validation=0.0, scaler="none")
    found = forecaster.backtest(y, folds=2, every=3)
    assert found.origins.tolist() == [55, 58]
    origins = range(5, 54)
    lags = np.stack([y[t - 5 : t] - y[t - 1] for t in origins])
    steps = np.stack([y[t : t + 2] - y[t - 1] for t in origins])
    lags_scale, steps_scale = np.sqrt((lags**2).mean()), np.sqrt((steps**2).mean())
    theirs = linear_model.Ridge(alpha=1.0).fit(lags / lags_scale, steps / steps_scale)
    for k, t in enumerate((55, 58)):
        expected = y[t - 1] + theirs.predict((y[t - 5 : t] - y[t - 1])[None] / lags_scale)[0] * steps_scale
        np.testing.assert_allclose(found.forecasts["Ridge"][k], expected, rtol=1e-8)


def test_nothing_after_an_origin_is_read() -> None:
    """Also not by what is filled in: a gap before an origin isn't a line to what comes after it."""
    values = SOLD.copy()
    values[109:115] = np.nan  # the origins are 108, 112, 116
    data = Series.of(values, missing="interpolate")
    found = small().backtest(data, folds=3)
    assert np.isnan(found.actual).tolist() == [[False] + [True] * 3, [True] * 3 + [False], [False] * 4]
    changed = values.copy()
    changed[115:] += 7
    again = small().backtest(Series.of(changed, missing="interpolate"), folds=3)
    for name, forecasts in found.forecasts.items():
        np.testing.assert_array_equal(forecasts[:2], again.forecasts[name][:2])
    assert found.forecasts["naive"][1, 0] == SOLD[108]


def test_nothing_to_compare_is_told() -> None:
    values = SOLD.copy()
    values[112:] = np.nan
    data = Series.of(values, missing="interpolate")
    with pytest.raises(ValueError, match="all values that would be compared were missing"):
        small(epochs=1).backtest(data, folds=2)
    assert "% within" in str(small(epochs=1).backtest(data, folds=3))


def test_an_lstm_that_loses_is_told() -> None:
    rows = "\n".join(str(small(epochs=1, lr=1e-6, ridge=False).backtest(series(), folds=2)).splitlines())
    assert "LSTM loses to" in rows
    line = 2 * np.arange(60.0)
    told = str(Forecaster(3, season=0, window=6, epochs=1, ridge=False).backtest(line, folds=2))
    assert "loses to Ridge" in told
    assert "use Ridge" in told


@pytest.mark.parametrize("layer", learning.LAYERS)
def test_a_saved_forecaster_goes_on(layer: str, tmp_path: Path) -> None:
    options = {"ridge": layer != "GRU", "calibrate": layer != "RNN"}
    forecaster = small(layer=layer, log=True, **options).fit(series(110))
    forecaster.save(tmp_path / "model")
    again = Forecaster.load(tmp_path / "model")
    future = {"plan": PLAN[:4]}
    np.testing.assert_array_equal(again.predict(series(), future).values, forecaster.predict(series(), future).values)
    assert again.fitted_to.past == ("price",)
    assert {name: getattr(again, name) for name in options} == options
    metadata = rr.saving.describe(tmp_path / "model").metadata["forecaster"]
    np.testing.assert_allclose(metadata["scales"]["price"][:2], [PRICE[:110].mean(), PRICE[:110].std()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 1}, "a form that this version"),
        ({"horizon": 0}, "horizon must be at least 1"),
        ({"scales": {}}, "its scales"),
        ({"levels": "x"}, "quantiles"),
        ({"relative_to": None}, "relative_to"),
        ({"past": ["other"]}, "scales"),
        ({"spread": 0}, "spread"),
        ({"correction_spread": 0}, "spread"),
        ({"levels": [0.5]}, "shifts"),
        ({"calendar": []}, "shape"),
        ({"calendar": ["moon"]}, "calendar"),
        ({"window": 3}, "window"),
    ],
)
def test_a_file_that_isnt_a_forecaster(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    forecaster = small(epochs=1).fit(series())
    forecaster.save(tmp_path / "model")
    arrays, content = sealed.load(tmp_path / "model", saving.KIND)
    content["metadata"]["forecaster"] |= changes
    (tmp_path / "model").write_bytes(sealed.serialized(arrays, content, saving.KIND))
    with pytest.raises(rr.FormatError, match=message):
        Forecaster.load(tmp_path / "model")
    rr.save(forecaster.model, tmp_path / "model")
    with pytest.raises(rr.FormatError, match="another model"):
        Forecaster.load(tmp_path / "model")


@pytest.mark.parametrize("name", fitted.ARRAYS)
@pytest.mark.parametrize("change", ["missing", "shape", "NaN", "float32"])
def test_a_file_with_other_arrays(name: str, change: str, tmp_path: Path) -> None:
    forecaster = small(epochs=1).fit(series())
    forecaster.save(tmp_path / "model")
    arrays, content = sealed.load(tmp_path / "model", saving.KIND)
    given = arrays.pop(name)
    if change != "missing":
        arrays[name] = {"shape": given[1:], "NaN": given * np.nan, "float32": given.astype("float32")}[change]
    (tmp_path / "model").write_bytes(sealed.serialized(arrays, content, saving.KIND))
    if name == fitted.SHIFTS and change == "missing":
        assert not Forecaster.load(tmp_path / "model").calibrate
        return
    with pytest.raises(rr.FormatError, match=name):
        Forecaster.load(tmp_path / "model")


def test_it_runs_on_every_backend(backend: rr.Backend) -> None:
    data, future = series(50), {"plan": PLAN[:4]}
    options: dict[str, Any] = {"epochs": 1, "season": 0, "window": 6, "batch_size": 8}
    expected = small(**options).fit(data).predict(data, future).values
    found = small(**options, backend=backend).fit(data).predict(data, future).values
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_defaults_follow_the_times() -> None:
    forecaster = Forecaster(12, epochs=1, hidden_size=2).fit(series())
    assert forecaster.fitted_to.windows.season == 12
    assert forecaster.fitted_to.windows.window == 24
    assert forecaster.fitted_to.calendar == ("year",)
    assert Forecaster(5, epochs=1, hidden_size=2).fit(SOLD).fitted_to.windows.relative_to == "last"


@pytest.mark.parametrize(
    ("options", "rows", "message"),
    [
        ({"window": 30}, 37, "37 rows, too few .* at least 38"),
        ({"window": 5, "season": 12}, 120, "window must hold a season"),
        ({"season": 0, "relative_to": "season"}, 120, "needs a season"),
        ({"calendar": ["year"]}, 120, "calendar needs times"),
        ({"log": True}, 120, "row 3 has -1"),
        ({"validation": 0.99}, 120, "validation=0.99 leaves nothing to learn from"),
    ],
)
def test_what_doesnt_fit_a_series(options: dict[str, Any], rows: int, message: str) -> None:
    values = SOLD[:rows].copy()
    values[3] = -1 if "log" in options else values[3]
    with pytest.raises(ValueError, match=message):
        Forecaster(4, **options).fit(values)


def test_bad_arguments() -> None:
    data = series()
    forecaster = small(epochs=1)
    with pytest.raises(RuntimeError, match="learned nothing"):
        forecaster.predict(data)
    with pytest.raises(TypeError, match=r"Series\.of"):
        forecaster.fit({"sold": SOLD})
    forecaster.fit(data)
    with pytest.raises(ValueError, match="known in advance, plan, for 4 steps"):
        forecaster.predict(data)
    with pytest.raises(ValueError, match="4 values of 'plan'"):
        forecaster.predict(data, {"plan": [1.0]})
    with pytest.raises(TypeError, match="future must be a mapping of the columns plan to their values"):
        forecaster.predict(data, 4)
    with pytest.raises(TypeError, match="future must have numbers as 'plan', not"):
        forecaster.predict(data, {"plan": ["a"] * 4})
    with pytest.raises(ValueError, match="step 2"):
        forecaster.predict(data, {"plan": [1.0, np.nan, 1.0, 1.0]})
    with pytest.raises(ValueError, match="trained with target 'sold'"):
        forecaster.predict(SOLD)
    with pytest.raises(ValueError, match="reads 14 rows, and there are 13"):
        forecaster.predict(series(13), {"plan": PLAN[:4]})
    days = np.arange("2010-01-01", "2010-05-01", dtype="datetime64[D]")
    other = Series.of(
        {"day": days, "sold": SOLD, "price": PRICE, "plan": PLAN}, target="sold", past=["price"], known=["plan"]
    )
    with pytest.raises(ValueError, match="step month, and the series has the step day"):
        forecaster.predict(other, {"plan": PLAN[:4]})
    with pytest.raises(ValueError, match="too few for 30 folds"):
        forecaster.backtest(data, folds=30)
    with pytest.raises(ValueError, match="before the first origin"):
        forecaster.backtest(data, folds=28)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"quantiles": (0.5, 1.0)}, "0 and 1"),
        ({"lr": 0}, "lr"),
        ({"layer": "X"}, "layer"),
    ]
    for options, message in wrong:
        with pytest.raises(ValueError, match=message):
            small(**options)
    with pytest.raises(TypeError, match="quantiles"):
        small(quantiles=0.5)
    for calendar in ("year", 3, np.array("year")):
        with pytest.raises(TypeError, match="calendar"):
            small(calendar=calendar)
    for large in (1e39, 1e300):
        with pytest.raises(
            ValueError, match=rf"'y' has numbers up to {large:g}, which are too large".replace("+", r"\+")
        ):
            small(scaler="none" if large < 1e100 else "standard").fit(
                Series.of({"y": large * SOLD / SOLD.max()}, target="y")
            )


def test_a_forecast_as_csv(tmp_path: Path) -> None:
    data = series()
    forecast = small(epochs=1).fit(data).predict(data, {"plan": PLAN[:4]})
    text = forecast.to_csv(tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text() == text
    header, first, *_ = text.splitlines()
    assert header == "time,forecast,q0.1,q0.5,q0.9"
    assert first.startswith("2020-01,")
    assert float(first.split(",")[1]) == forecast.median[0]


def test_the_picture() -> None:
    need("matplotlib")
    data = series()
    forecast = small(epochs=1, quantiles=(0.05, 0.25, 0.75, 0.95)).fit(data).predict(data, {"plan": PLAN[:4]})
    figure = rr.plot.forecast(forecast, actual=[1.0, 2.0, np.nan, 4.0])
    (axis,) = figure.axes
    past, said, came = axis.get_lines()
    np.testing.assert_array_equal(past.get_ydata(), forecast.past)
    np.testing.assert_array_equal(said.get_ydata()[1:], forecast.median)
    np.testing.assert_array_equal(came.get_ydata(), [1.0, 2.0, np.nan, 4.0])
    labels = [text.get_text() for text in axis.get_legend().get_texts()]
    assert labels == ["past", "90 % interval", "50 % interval", "forecast", "actual"]
    assert axis.get_ylabel() == "sold"
    with pytest.raises(ValueError, match="actual must be"):
        rr.plot.forecast(forecast, actual=[1.0])
    with pytest.raises(TypeError, match="a Forecast"):
        rr.plot.forecast(SOLD)
