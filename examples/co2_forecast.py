"""Carbon dioxide over Mauna Loa: the next two years, with an interval, beside simpler forecasts.

Monthly means from 1958 to 2001. The back-test forecasts two years from each of five months and compares them with what
came; then the last two years are forecast from all before.

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
HORIZON = 24


def main() -> None:
    parser = argparse.ArgumentParser(description="Carbon dioxide, forecast.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default=None)
    parser.add_argument("--figure", help="a file for the picture")
    args = parser.parse_args()

    with DATA.open(newline="") as file:
        rows = list(csv.DictReader(file))
    months = np.array([row["month"] for row in rows], dtype="datetime64[M]")
    ppm = np.array([float(row["ppm"]) for row in rows])
    series = rr.forecast.Series.of({"month": months, "ppm": ppm}, target="ppm")
    forecaster = rr.forecast.Forecaster(horizon=HORIZON, seed=args.seed, backend=args.backend)
    print(forecaster.backtest(series, folds=5))

    before = rr.forecast.Series.of({"month": months[:-HORIZON], "ppm": ppm[:-HORIZON]}, target="ppm")
    forecast = forecaster.fit(before).predict(before)
    came = ppm[-HORIZON:]
    error = np.abs(forecast.median - came).mean()
    print(f"the last two years: error {error:.2f} ppm")
    if args.figure:
        rr.plot.forecast(forecast, actual=came).savefig(args.figure, dpi=100)


if __name__ == "__main__":
    main()
