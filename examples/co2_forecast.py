"""Carbon dioxide over Mauna Loa: the next two years from the last three, beside simpler forecasts.

Monthly means from 1958 to 1990 to learn from; then a forecast is made from every month on, and compared with what came.
A window is taken relative to its last value, as the curve rises beyond all that the network has seen.

C. D. Keeling & T. P. Whorf, "Atmospheric CO2 concentrations derived from flask air samples at sites in the SIO
network", 2004. The data stand in examples/data.

    python examples/co2_forecast.py [--seed 0] [--backend numpy] [--figure co2_forecast.png]
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import recurray as rr

DATA = Path(__file__).parent / "data" / "co2.csv"
PAST, HORIZON, SPLIT = 36, 24, "1990-12"
EPOCHS, SCALE = 40, 5.0  # ppm to a unit


def main() -> None:
    parser = argparse.ArgumentParser(description="Carbon dioxide, forecast.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    with DATA.open(newline="") as file:
        table = list(csv.DictReader(file))
    months = [row["month"] for row in table]
    ppm = np.array([float(row["ppm"]) for row in table], dtype="float32")
    windows = np.lib.stride_tricks.sliding_window_view(ppm, PAST + HORIZON)
    past, future = windows[:, :PAST], windows[:, PAST:]
    last = past[:, -1:]
    split = months.index(SPLIT) + 1  # the first month that isn't learned from
    trained = np.arange(len(windows)) + PAST + HORIZON <= split
    tested = np.arange(len(windows)) + PAST >= split

    model = rr.Sequential(
        rr.LSTM(1, 32, seed=args.seed), rr.Final(), rr.Linear(32, HORIZON, seed=args.seed + 1), backend=args.backend
    )
    x, target = (past - last)[..., None] / SCALE, (future - last) / SCALE
    updates = EPOCHS * -(-int(trained.sum()) // 16)
    rr.fit(
        model,
        "mse",
        rr.optim.Adam(model.params, lr=0.01),
        (x[trained], target[trained]),
        epochs=EPOCHS,
        batch_size=16,
        schedule=rr.schedules.Cosine(lr=0.01, steps=updates),
        clip_norm=1.0,
        seed=args.seed,
    )

    y, _ = model(model.backend.asarray(x[tested]))
    season = np.tile(past[:, -12:], 2)
    rise = np.repeat([1, 2], 12) * (past[:, -12:].mean(axis=1) - past[:, -24:-12].mean(axis=1))[:, None]
    features, answers = x[..., 0].astype("float64"), target.astype("float64")
    known = features[trained]
    weights = np.linalg.solve(known.T @ known + 0.1 * np.eye(PAST), known.T @ answers[trained])
    forecasts = {
        "naive": np.repeat(last, HORIZON, axis=1),
        "last year": season,
        "last year + rise": season + rise,
        "ridge regression": last + SCALE * (features @ weights),
    }
    forecasts = {name: values[tested] for name, values in forecasts.items()}
    forecasts["LSTM"] = last[tested] + SCALE * model.backend.to_numpy(y)
    print(f"{tested.sum()} forecasts of {HORIZON} months from\n{SPLIT} on; mean error in ppm")
    for name, values in forecasts.items():
        print(f"  {name:16} {np.abs(values - future[tested]).mean():.2f}")

    if args.figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=(7, 3.5), layout="constrained")
        axis = figure.subplots()
        years = np.array([int(month[:4]) + (int(month[5:]) - 0.5) / 12 for month in months])
        shown = years > 1986
        axis.plot(years[shown], ppm[shown], color="black", linewidth=1, label="measured")
        for number in range(0, int(tested.sum()), HORIZON):
            begin = np.flatnonzero(tested)[number] + PAST
            label = "LSTM" if number == 0 else None
            axis.plot(years[begin : begin + HORIZON], forecasts["LSTM"][number], "--", color="tab:orange", label=label)
        axis.axvline(years[split], color="black", linewidth=0.6, linestyle=":")
        axis.set(ylabel="CO2 in ppm")
        axis.legend()
        figure.savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
